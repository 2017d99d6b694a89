//! The log: to the console, and to files of a day each in `DATA_DIR/logs`, with a file of its own for what concerns the
//! admin's door; and to the memory that the admin's pages read. Never a body, a key, a token or a password. One bounded line a record, whatever the record quotes.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::time::{iso, now_ms};
use crate::server::{LOG_TAIL, SECURITY_LOG};
use log::{LevelFilter, Log, Metadata, Record};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Longest message of a record, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Where a message that is too long was cut.
const CUT: &str = " [cut]";

/// Starts the log at the configured level.
pub(super) fn start(config: &Config) -> Result<()> {
    let folder = config.data_dir.join("logs");
    let journal = |name| Journal {
        folder: folder.clone(),
        name,
        bytes_max: config.log_max_size,
        files_max: config.log_max_files as usize,
        open: None,
    };
    let files =
        Mutex::new(Files { general: journal("claude-relay"), security: journal("security"), is_failing: false });
    // It lives as long as the process.
    let logger = Box::leak(Box::new(Logger { level: config.log_level, files }));
    log::set_logger(logger).map_err(|error| Error::internal("the log was started twice", error.to_string()))?;
    log::set_max_level(config.log_level.max(LevelFilter::Info));
    Ok(())
}

struct Logger {
    level: LevelFilter,
    files: Mutex<Files>,
}

struct Files {
    general: Journal,
    security: Journal,
    /// Said once, so that a full disk does not double every line on the console.
    is_failing: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The pages show what runs, also where the files keep only what went wrong.
        // The libraries' own lines may quote what they carry.
        let level = self.level.max(LevelFilter::Info);
        metadata.level() <= level && metadata.target().starts_with("claude_relay")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = iso(now_ms());
        let message = one_line(&record.args().to_string());
        LOG_TAIL.push(record.level(), record.target(), &message);
        if record.level() > self.level {
            return;
        }
        let line = format!("{now} [{}] {message}\n", record.level());
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // A console that is closed has no reader to tell.
        let _ = io::stderr().write_all(line.as_bytes());
        let date = now.get(..10).unwrap_or(&now);
        let mut kept = files.general.write(date, line.as_bytes());
        if record.target() == SECURITY_LOG {
            kept = kept.and(files.security.write(date, line.as_bytes()));
        }
        match kept {
            Ok(()) => files.is_failing = false,
            Err(error) if !files.is_failing => {
                files.is_failing = true;
                let folder = files.general.folder.display();
                let _ = writeln!(io::stderr(), "{now} [ERROR] the log cannot be written to {folder}: {error}");
            }
            Err(_) => {}
        }
    }

    fn flush(&self) {}
}

/// A message as one line of bounded length. What a client sent must not look like lines of ours, nor move a cursor.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        if line.len() >= MESSAGE_BYTES_MAX {
            line.push_str(CUT);
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Files of one kind, each for a day or, when that is full, for a part of it.
struct Journal {
    folder: PathBuf,
    name: &'static str,
    bytes_max: u64,
    files_max: usize,
    open: Option<Open>,
}

struct Open {
    date: String,
    file: File,
    bytes: u64,
}

impl Journal {
    fn write(&mut self, date: &str, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if !self.open.as_ref().is_some_and(|open| open.date == date && open.bytes + length <= self.bytes_max) {
            self.open = None;
            self.open = Some(self.next(date, length)?);
        }
        if let Some(open) = &mut self.open {
            open.file.write_all(line)?;
            open.bytes += length;
        }
        Ok(())
    }

    /// Opens the day's last file if there is room in it, else a new one; and removes the oldest beyond the number kept.
    fn next(&self, date: &str, length: u64) -> io::Result<Open> {
        fs::create_dir_all(&self.folder)?;
        let mut parts = self.parts()?;
        let last = parts.iter().filter(|(day, _)| day == date).map(|(_, part)| *part).max();
        let part = match last {
            None => 0,
            Some(part) => {
                let bytes = fs::metadata(self.path(date, part))?.len();
                if bytes + length <= self.bytes_max { part } else { part + 1 }
            }
        };
        let path = self.path(date, part);
        let file = open_private(&path)?;
        let bytes = file.metadata()?.len();
        if last != Some(part) {
            parts.push((date.to_owned(), part));
        }
        parts.sort();
        let surplus = parts.len().saturating_sub(self.files_max);
        for (day, part) in &parts[..surplus] {
            fs::remove_file(self.path(day, *part))?;
        }
        Ok(Open { date: date.to_owned(), file, bytes })
    }

    /// Days and parts of the files that are there.
    fn parts(&self) -> io::Result<Vec<(String, u32)>> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let file_name = entry?.file_name();
            let stem = file_name
                .to_str()
                .and_then(|name| name.strip_prefix(self.name)?.strip_prefix('-')?.strip_suffix(".log"));
            let Some(stem) = stem else { continue };
            let (day, part) = stem.split_once('.').unwrap_or((stem, "0"));
            if let Ok(part) = part.parse() {
                parts.push((day.to_owned(), part));
            }
        }
        Ok(parts)
    }

    fn path(&self, date: &str, part: u32) -> PathBuf {
        let name = self.name;
        self.folder.join(if part == 0 { format!("{name}-{date}.log") } else { format!("{name}-{date}.{part}.log") })
    }
}

/// Only the owner reads it: names of keys and accounts are nobody else's business.
fn open_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_bounded_line() {
        assert_eq!(one_line("a\nb\x1b[1m\tc 你"), "a\\nb\\u{1b}[1m\\tc 你");
        let long = one_line(&"é".repeat(MESSAGE_BYTES_MAX));
        assert!(long.len() <= MESSAGE_BYTES_MAX + 2 + CUT.len() && long.ends_with(CUT));
    }

    #[test]
    fn files_turn_with_the_day_and_with_their_size_and_the_oldest_go() {
        let folder = std::env::temp_dir().join(format!("claude-relay-journal-{}", std::process::id()));
        let mut journal = Journal { folder: folder.clone(), name: "log", bytes_max: 10, files_max: 3, open: None };
        let names = || -> Vec<String> {
            let entries = fs::read_dir(&folder).expect("a folder");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        for line in [b"12345\n", b"abc\n\n\n"] {
            journal.write("2026-01-01", line).expect("written");
        }
        assert_eq!(names(), ["log-2026-01-01.1.log", "log-2026-01-01.log"]);
        journal.write("2026-01-02", b"x\n").expect("written");
        journal.open = None;
        journal.write("2026-01-02", b"y\n").expect("appended after a restart");
        assert_eq!(fs::read(folder.join("log-2026-01-02.log")).expect("a file"), b"x\ny\n");
        journal.write("2026-01-03", b"x\n").expect("written");
        assert_eq!(names(), ["log-2026-01-01.1.log", "log-2026-01-02.log", "log-2026-01-03.log"]);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
