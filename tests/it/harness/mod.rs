//! What the tests stand on: the real binary on a free port, a scripted upstream on a real socket, a plain HTTP client.

pub mod client;
pub mod events;
pub mod redis;
pub mod relay;
pub mod upstream;

pub use relay::{Key, Relay};
pub use upstream::Upstream;

use std::time::{Duration, Instant};

/// Waits until something holds, or fails after ten seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of its own for one test, removed afterwards.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new() -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("claude-relay-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
