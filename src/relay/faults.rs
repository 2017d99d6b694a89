//! What goes wrong on the way to another server, in words: those of the original where it had some.

use super::watch::ClientLeft;
use crate::error::{Error, Kind};
use std::io;
use ureq::Timeout;

/// What clients' requests are made to, as the original calls it.
pub(super) const CLAUDE_API: &str = "Claude API";
pub(super) const CLIENT_GONE: &str = "The client has left";

/// Translates an error of the HTTP client. `whom` is what was called.
pub(super) fn translate(error: ureq::Error, whom: &'static str) -> Error {
    let of_request = |text: &str| if whom == CLAUDE_API { text.to_owned() } else { format!("{text} ({whom})") };
    let refused = || format!("Connection refused by {whom} server");
    let reset = || format!("Connection reset by {whom} server");
    let unresolved = || format!("Unable to resolve {whom} hostname");
    let (kind, message) = match &error {
        ureq::Error::Io(io) if io.get_ref().is_some_and(|inner| inner.is::<ClientLeft>()) => {
            (Kind::ClientGone, CLIENT_GONE.to_owned())
        }
        ureq::Error::Timeout(Timeout::Connect) => {
            (Kind::UpstreamTimeout, format!("Connection timed out to {whom} server"))
        }
        ureq::Error::Timeout(Timeout::Resolve) => (Kind::UpstreamTimeout, unresolved()),
        ureq::Error::Timeout(_) => (Kind::UpstreamTimeout, of_request("Request timeout")),
        ureq::Error::HostNotFound => (Kind::Upstream, unresolved()),
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => {
            (Kind::Upstream, "The account's proxy refused the connection".to_owned())
        }
        ureq::Error::Io(io) => match io.kind() {
            io::ErrorKind::ConnectionRefused => (Kind::Upstream, refused()),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                (Kind::UpstreamTimeout, of_request("Request timeout"))
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => (Kind::Upstream, reset()),
            _ => (Kind::Upstream, of_request("Upstream request failed")),
        },
        _ => (Kind::Upstream, of_request("Upstream request failed")),
    };
    Error::from_source(kind, message, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_was_called_and_of_the_api_say_what_the_original_said() {
        let io = |kind: io::ErrorKind| ureq::Error::Io(kind.into());
        type Make = fn() -> ureq::Error;
        let errors: [(Make, &str, &str); 5] = [
            (|| ureq::Error::HostNotFound, "Unable to resolve Claude API hostname", "Unable to resolve list hostname"),
            (
                || ureq::Error::Timeout(Timeout::Connect),
                "Connection timed out to Claude API server",
                "Connection timed out to list server",
            ),
            (|| ureq::Error::Timeout(Timeout::RecvResponse), "Request timeout", "Request timeout (list)"),
            (|| ureq::Error::TooManyRedirects, "Upstream request failed", "Upstream request failed (list)"),
            (|| ureq::Error::ConnectionFailed, "Upstream request failed", "Upstream request failed (list)"),
        ];
        for (error, of_api, of_list) in errors {
            assert_eq!(translate(error(), CLAUDE_API).message(), of_api);
            assert_eq!(translate(error(), "list").message(), of_list);
        }
        for (kind, message) in [
            (io::ErrorKind::ConnectionRefused, "Connection refused by list server"),
            (io::ErrorKind::BrokenPipe, "Connection reset by list server"),
        ] {
            assert_eq!(translate(io(kind), "list").message(), message);
        }
    }
}
