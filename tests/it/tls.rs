//! Upstreams behind TLS: trusted by file only, streamed at once, and watched as well as plain ones.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, chunk, json, last_chunk, stream_head};
use crate::harness::{Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Ends TLS in front of an upstream. Gives back where it listens and its certificate.
pub fn tls_front(upstream: SocketAddr) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, config) = (client.unwrap(), Arc::clone(&config));
            std::thread::spawn(move || drop(pass(client, config, upstream)));
        }
    });
    (address, made.cert.pem())
}

/// Passes bytes both ways on one thread until one side ends.
fn pass(client: TcpStream, config: Arc<rustls::ServerConfig>, upstream: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    let step = Some(Duration::from_millis(2));
    client.set_nodelay(true)?;
    client.set_read_timeout(step)?;
    server.set_read_timeout(step)?;
    let session = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = rustls::StreamOwned::new(session, client);
    let mut piece = [0; 16 * 1024];
    let is_pause = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    loop {
        match client.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => server.write_all(&piece[..length])?,
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
        match server.read(&mut piece) {
            Ok(0) => {
                client.conn.send_close_notify();
                return client.flush();
            }
            Ok(length) => client.write_all(&piece[..length])?,
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A relay that trusts the certificate, or does not.
pub fn start(address: SocketAddr, certificate: Option<&str>) -> Start {
    let start = Start::new().with("CLAUDE_API_URL", &format!("https://localhost:{}/v1/messages", address.port()));
    match certificate {
        None => start,
        Some(pem) => {
            std::fs::write(start.folder.0.join("roots.pem"), pem).unwrap();
            start.with("UPSTREAM_CA_FILE", "roots.pem")
        }
    }
}

#[test]
fn an_upstream_behind_tls_is_served_whole_and_streamed_if_its_root_is_trusted() {
    let pieces = events("m", 1, 2);
    let expected = pieces.concat();
    let upstream = Upstream::start(move |request| {
        if request.json()["stream"] != true {
            return json(200, &message("m", 1, 2));
        }
        let mut steps = vec![stream_head()];
        steps.extend(pieces.iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let (address, certificate) = tls_front(upstream.address);
    let relay = start(address, Some(&certificate)).run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    for _ in 0..3 {
        assert_eq!(relay.message(&key, REQUEST).text(), message("m", 1, 2));
        assert_eq!(relay.message(&key, STREAM_REQUEST).text(), expected);
    }
    let stranger = start(address, None).run();
    stranger.add_api_key_account("first", "sk-1");
    let key = stranger.add_key("k");
    let seen = upstream.received().len();
    assert_eq!(stranger.message(&key, REQUEST).status, 502);
    assert_eq!(upstream.received().len(), seen, "nothing is sent to an upstream that is not trusted");
}

#[test]
fn a_client_that_leaves_is_noticed_behind_tls_before_and_after_the_head() {
    for sent in [0, 1] {
        let ended = Arc::new(Mutex::new(None));
        let (noted, pieces) = (Arc::clone(&ended), events("m", 1, 2));
        let upstream = Upstream::start(move |_| {
            let mut steps = Vec::new();
            if sent > 0 {
                steps.extend([stream_head(), chunk(&pieces[0])]);
            }
            steps.push(Step::AwaitEnd(Arc::clone(&noted)));
            steps
        });
        let (address, certificate) = tls_front(upstream.address);
        let relay = start(address, Some(&certificate)).run();
        relay.add_api_key_account("first", "sk-1");
        let key = relay.add_key("k");
        let mut client = Connection::open(relay.address);
        client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
        eventually("the upstream has the request", || !upstream.received().is_empty());
        if sent > 0 {
            client.head().unwrap();
            client.chunk().unwrap();
        }
        let left = Instant::now();
        drop(client);
        eventually("the upstream's connection ends", || ended.lock().unwrap().is_some());
        assert!(ended.lock().unwrap().unwrap() - left < Duration::from_secs(1));
    }
}
