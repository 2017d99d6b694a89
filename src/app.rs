//! Joins the rooms: opens the store, starts the door, the background thread and the signals, and ends them in order.

mod background;
mod first_run;
mod logging;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{Door, Limits, Stopper, Workers};
use crate::relay::{Bounds, Failover, Relay, Settings};
use crate::server::Server;
use crate::store::{Opening, Store, apply_staged, kept_setting};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// The setting of glibc's allocator that lets large blocks go back to the kernel when they are freed. Without it the size from
/// which it does so rises with every such block, and the heaps of all workers keep what a burst of large bodies has taken:
/// 94 MB instead of 21 after bodies of 1 MB on 64 connections.
const LARGE_BLOCKS: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// How long answers that were told to end may take to do so.
const GIVE_UP_WAIT: Duration = Duration::from_secs(3);

/// Runs the relay until it is told to stop.
///
/// # Errors
/// What kept it from starting, in one sentence for the operator.
pub fn run(config: Config) -> Result<()> {
    let kept_blocks = give_large_blocks_back();
    logging::start(&config)?;
    if let Some(error) = kept_blocks {
        log::warn!(
            "memory of large bodies will be kept: the program could not start anew with {}: {error}",
            LARGE_BLOCKS.0
        );
    }
    if let Some(kept) = apply_staged(&config.data_dir)? {
        log::warn!("a backup was restored; the database of before is in {}", kept.display());
    }
    let key = first_run::encryption_key(&config)?;
    // The one stored setting that the store itself is opened with.
    let stored_zone = kept_setting(&config.data_dir, "system_timezone")?;
    let zone = config.with_stored(stored_zone.iter().map(|zone| ("system_timezone", zone.as_str()))).time_zone();
    let store = Arc::new(Store::open(&Opening { data_dir: &config.data_dir, encryption_key: key.expose(), zone })?);
    let first_admin = first_run::first_admin(&config, &store)?;
    let relay = Relay::new(Arc::clone(&store), settings(&config))?;
    let door = Door::bind(&config.host, config.port, Limits::default())
        .map_err(|error| Error::internal(format!("cannot listen on {}:{}", config.host, config.port), error))?;
    let address = door.local_addr().map_err(|error| Error::internal("the listener has no address", error))?;
    let workers = Workers { relay: config.relay_workers, control: config.control_workers };
    let grace = Duration::from_millis(config.shutdown_grace_ms);
    let server = Arc::new(Server::new(config, Arc::clone(&store), relay, door.figures())?);
    stop_on_signals(door.stopper())?;
    let stopper = door.stopper();
    server.when_restarting(move || stopper.stop());
    let background = background::start(Arc::clone(&server))?;
    announce(address, first_admin.as_ref());
    let drain = door
        .run(Arc::clone(&server) as Arc<_>, workers, grace)
        .map_err(|error| Error::internal("the door stopped", error))?;
    if !drain.is_complete() {
        log::warn!("requests still run after the grace: ending them");
        server.give_up();
        drain.wait(GIVE_UP_WAIT);
    }
    background.stop();
    store.close();
    log::info!("stopped");
    if server.is_restarting() {
        return Err(restart(address.port()));
    }
    Ok(())
}

/// Starts the program anew before it has done anything, if its allocator has no setting yet: it reads it at the start of a
/// process and never again. Comes back where there is nothing to do, or with what kept it from that.
fn give_large_blocks_back() -> Option<std::io::Error> {
    let (name, value) = LARGE_BLOCKS;
    let is_set = ["GLIBC_TUNABLES", name].iter().any(|name| std::env::var_os(name).is_some());
    (cfg!(target_env = "gnu") && !is_set).then(|| begin_anew(name, value))
}

/// Starts the program anew after a restore. Comes back only if that fails.
fn restart(port: u16) -> Error {
    log::info!("starting anew");
    // A port that was free to choose stays the one that clients know.
    let error = begin_anew("PORT", &port.to_string());
    Error::internal("the program could not start itself anew after a restore: please start it", error)
}

/// Becomes the program anew, in the same process, so that whoever watches it sees it go on. What is open closes by itself.
/// Comes back only if that fails.
fn begin_anew(name: &str, value: &str) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let mut arguments = std::env::args_os();
    let own_name = arguments.next().unwrap_or_default();
    // A program that was replaced meanwhile has its old name's place.
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let mut command = std::process::Command::new(program.unwrap_or_else(|| own_name.clone().into()));
    command.arg0(own_name).args(arguments).env(name, value).exec()
}

fn settings(config: &Config) -> Settings {
    Settings {
        api_key_prefix: config.api_key_prefix.clone(),
        claude_api_url: config.claude_api_url.clone(),
        claude_api_version: config.claude_api_version.clone(),
        oauth_token_url: config.oauth_token_url.clone(),
        upstream_ca_file: config.upstream_ca_file.clone(),
        bounds: Bounds {
            connect: Duration::from_millis(config.connect_timeout_ms),
            first_byte: Duration::from_millis(config.first_byte_timeout_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
            total: Duration::from_millis(config.total_timeout_ms),
        },
        failover: Failover {
            accounts_max: config.failover_accounts_max,
            time_max: Duration::from_millis(config.failover_time_max_ms),
            affinity_wait: Duration::from_millis(config.affinity_wait_ms),
        },
        concurrency_wait: Duration::from_millis(config.concurrency_wait_ms),
    }
}

/// The first signal stops the door, the second ends the process at once.
fn stop_on_signals(stopper: Stopper) -> Result<()> {
    let failed = |error| Error::internal("cannot listen for signals", error);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let listen = move || {
        for signal in signals.forever() {
            if stopper.is_stopping() {
                log::warn!("second signal {signal}: ending at once");
                std::process::exit(1);
            }
            log::info!("signal {signal}: draining");
            stopper.stop();
        }
    };
    std::thread::Builder::new().name("signals".into()).stack_size(128 * 1024).spawn(listen).map_err(failed)?;
    Ok(())
}

/// Says where to go. The first password is shown here and nowhere else; it is no log line.
fn announce(address: std::net::SocketAddr, first_admin: Option<&first_run::FirstAdmin>) {
    let mut out = std::io::stdout().lock();
    let shown = match address.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    };
    let mut text = format!(
        "claude-relay {} listening on {address}\n  pages    http://{shown}/web\n  clients  ANTHROPIC_BASE_URL=http://{shown}/api\n",
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(admin) = first_admin {
        text.push_str(&format!("  admin    {}\n", admin.username));
        if let Some(password) = &admin.made_up_password {
            text.push_str(&format!("  password {} (shown once; change it after signing in)\n", password.expose()));
        }
    }
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        log::warn!("the console is closed: {error}");
    }
}
