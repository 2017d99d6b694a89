//! The tests of the whole: the real binary, real sockets, a real database file.

// Everything here is one binary; `pub` within it reaches nobody else.
#![allow(unreachable_pub)]
// A test is one story, and a failed unwrap is its failure.
#![allow(clippy::too_many_lines, clippy::unwrap_used)]

mod admin;
mod backups;
mod client_gone;
mod door;
mod failover;
mod front;
mod harness;
mod interface;
mod key_admin;
mod key_budgets;
mod key_pages;
mod kills;
mod ledger;
mod limits;
mod litestream;
mod models;
mod moving_exact;
mod moving_in;
mod moving_later;
mod moving_out;
mod oauth;
mod overload;
mod pages;
mod pooled;
mod prices;
mod proxies;
mod relaying;
mod requests;
mod running;
mod samples;
mod sdks;
mod secrets;
mod settings;
mod start;
mod statistics;
mod statistics_year;
mod tidy;
mod tls;
mod tokens;
mod tokens_lasting;
mod transcripts;
mod usage;
mod verdicts;
mod watching;
mod webhook;
