//! The tests of the whole: the real binary, real sockets, a real database file.

mod admin;
mod front;
mod harness;
mod ledger;
mod overload;
mod proxies;
mod relaying;
mod samples;
mod sdks;
mod secrets;
mod start;
mod tidy;
mod tokens;
