//! The log, to the console. Never a body, a key, a token or a password.

use crate::config::Config;
use crate::error::{Error, Result};
use simplelog::{ConfigBuilder, LevelFilter, WriteLogger};

/// Starts the log at the configured level.
pub(super) fn start(config: &Config) -> Result<()> {
    let level = config.log_level;
    let format = ConfigBuilder::new()
        // Local offsets cannot be read safely in a threaded program; a log in UTC is also the one to compare.
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        // The libraries' own lines may quote what they carry.
        .add_filter_allow_str("claude_relay")
        .build();
    WriteLogger::init(level, format, std::io::stderr())
        .map_err(|error| Error::internal("the log was started twice", error))
}
