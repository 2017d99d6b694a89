//! The vendor's dialect, pure: a shallow view of a request, the event scanner, usage reading, the table that judges an answer, the
//! headers to send, error bodies, OAuth messages as values. No sockets, no SQL, no clocks.

pub mod events;
pub mod headers;
pub mod limits;
pub mod models;
pub mod oauth;
pub mod request;
pub mod session;
pub mod usage;
pub mod verdict;
