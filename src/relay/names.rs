//! The addresses of upstreams and proxies.

use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long a name's addresses are believed.
const RESOLVED_FOR: Duration = Duration::from_secs(60);
/// Names whose addresses are remembered.
const RESOLVED_MAX: usize = 64;

/// Addresses that were looked up lately: ureq asks before every request, also when a pooled connection serves it.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: Mutex<HashMap<String, (Instant, Vec<std::net::SocketAddr>)>>,
}

/// The resolver that an agent has: all share what is known.
#[derive(Debug)]
pub(super) struct CachedNames(pub(super) Arc<Names>);

impl Resolver for CachedNames {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            Some("socks5" | "socks5h") => 1080,
            _ => 80,
        });
        let key = format!("{host}:{port}");
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.get(&key).filter(|(at, _)| at.elapsed() < RESOLVED_FOR).map(|(_, found)| found.clone());
        drop(known);
        let found = match fresh {
            Some(found) => found,
            None => {
                let found: Vec<_> = (host, port).to_socket_addrs().map_err(|_| ureq::Error::HostNotFound)?.collect();
                known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= RESOLVED_MAX {
                    known.clear();
                }
                known.insert(key, (Instant::now(), found.clone()));
                found
            }
        };
        let mut addresses = self.empty();
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}
