//! Request heads: whatever a stranger sends is a head, a fault, or not yet either; and a head reads the same in any cut.
#![no_main]

use claude_relay::http::Head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(head) = Head::parse(bytes) else { return };
    assert!(head.target().starts_with(head.path()) || head.target() == "*" || head.target().contains("://"));
    assert!(head.headers().all(|(name, _)| !name.is_empty()));
    // Two ways to frame a body are one too many (RFC 9112 section 6.3).
    assert!(!(head.is_chunked() && head.content_length().is_some()));
});
