//! Builds the pages before the program that embeds them: `npm ci` and `npm run build` in `web/`, when `web/dist` is absent or
//! older than what it is made of. A built `web/dist` is taken as it is, so a machine without Node can use one.

// A build that cannot go on ends with one clear line.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

/// What the pages are made of, under `web/`.
const SOURCES: [&str; 6] =
    ["src", "index.html", "package.json", "package-lock.json", "vite.config.ts", "tsconfig.json"];

fn main() -> ExitCode {
    let web = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("web");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=web/{source}");
    }
    let built = web.join("dist/index.html");
    println!("cargo::rerun-if-changed=web/dist/index.html");
    println!("cargo::rerun-if-changed=build.rs");
    if is_current(&web, &built) {
        return ExitCode::SUCCESS;
    }
    match build(&web) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("cargo::error=the pages in web/ could not be built: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn is_current(web: &Path, built: &Path) -> bool {
    let Some(built) = changed(built) else { return false };
    SOURCES.iter().filter_map(|source| newest(&web.join(source))).all(|source| source <= built)
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// When a file, or anything in a folder, was last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let below = fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| newest(&entry.path()));
    below.chain(changed(path)).max()
}

fn build(web: &Path) -> Result<(), String> {
    let lock = web.join("package-lock.json");
    let installed = web.join("node_modules/.package-lock.json");
    if changed(&installed).is_none_or(|installed| changed(&lock).is_some_and(|lock| lock > installed)) {
        run(web, &["ci", "--no-audit", "--no-fund", "--loglevel=error"])?;
    }
    run(web, &["run", "build"])
}

fn run(web: &Path, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("npm").args(arguments).current_dir(web).output();
    let done = done.map_err(|error| format!("npm cannot be started ({error}); install Node.js 20.19 or newer"))?;
    if done.status.success() {
        return Ok(());
    }
    // The last lines say what failed; all of them would bury it.
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(15).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("npm {} failed: {}", arguments.join(" "), last.join(" | ")))
}
