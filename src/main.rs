//! The program: reads its arguments and its configuration, then runs.

use claude_relay::config::{Config, Sources};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
claude-relay shares Claude accounts among a few people, each with a key of their own.

Usage: claude-relay [--config FILE] [--check-config]

  --config FILE    read settings from a JSON file (see config.example.json)
  --check-config   check the settings and say what is wrong with them, then end
  --version        print the version
  --help           print this text

Settings come from the environment, else from .env, else from the file, else
they have their defaults. Everything else is managed in the pages at /web.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("claude-relay: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut file: Option<PathBuf> = None;
    let mut only_check = false;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h") => {
                print!("{HELP}");
                return Ok(());
            }
            Some("--version" | "-V") => {
                println!("claude-relay {}", env!("CARGO_PKG_VERSION"));
                return Ok(());
            }
            Some("--check-config") => only_check = true,
            Some("--config") => {
                file = Some(arguments.next().ok_or("--config needs a file name")?.into());
            }
            _ => return Err(format!("unknown argument {}: see --help", argument.display())),
        }
    }
    let config = Sources::from_process(file.as_deref())
        .and_then(Config::load)
        .map_err(|faults| format!("the settings cannot be used:\n{faults}"))?;
    if only_check {
        println!("the settings are valid");
        return Ok(());
    }
    claude_relay::app::run(config).map_err(|error| error.to_string())
}
