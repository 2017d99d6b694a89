//! claude-relay: a small threaded relay for the Claude API.
//!
//! Clients call it with a key of its own; it finds out who calls, chooses an account, passes the request on byte for byte
//! and the answer back as it comes, and writes an exact bill. Everything is synchronous: one door thread owns all
//! connections that wait, a fixed pool of workers serves one request each, a thread commits the ledger, and one does what
//! nobody waits for. Others live only while they have something to do: the webhook's, a migration's, and one for each name
//! that is looked up.
//!
//! # Rooms
//!
//! ```text
//! main ──► app ──► server ──► relay ──┬──► claude ──┐
//!                   │  │  │     │     │             ├──► model
//!                   │  │  │     └─────┴──► store ───┤
//!                   │  │  ├──► store   (plain admin reads and writes)
//!                   │  │  └──► migrate ──► store ───┘
//!                   │  └─────► http    (connections, heads, framing; knows nothing of relaying)
//! leaves anyone may use: error, told, config
//! ```
//!
//! | room | what lives there | what never does |
//! |---|---|---|
//! | [`model`] | the nouns: accounts, keys, secrets, usage, instants | I/O |
//! | [`claude`] | the vendor's dialect, pure: headers, events, usage, OAuth messages | sockets, SQL, clocks |
//! | [`store`] | all SQL, one file a noun; the ledger's thread | HTTP |
//! | [`migrate`] | the original's data, in and out again | the main path |
//! | [`relay`] | the main path, one file a step | clients' sockets, SQL text |
//! | [`http`] | HTTP/1.1 towards clients | paths, keys, accounts |
//! | [`server`] | the table of routes, guards, handlers, the words of refusals | the upstream's client |
//! | [`app`] | joins the rooms, signals, the background thread | logic |
//!
//! # A request walks through them
//!
//! ```text
//! 1 http::Door            bytes → head            bounded, with a deadline; then a worker of the right pool
//! 2 server::router        POST /api/v1/messages → relayed
//! 3 relay::admit          key → caller            who, may they, hold a permit; given back on drop
//! 4 relay::select         caller → account        the bound one, the conversation's own, else the pool's best
//! 5 relay::forward        account → answer        proved, sent, judged by one table; the next account on a verdict
//! 6 relay::meter          answer → pieces         bytes pass untouched; usage is read off a side copy
//!   http::Reply           frames, writes and flushes each piece as it comes
//! ```
//!
//! # Invariants
//!
//! * A response that a client saw finish is in the ledger: the piece that completes an answer is sent after its ledger line
//!   is committed. A client that leaves is billed for what the upstream had reported, marked partial.
//! * A body passes byte for byte in both directions; it is copied once, into the memory that the next hop reads from.
//! * No lock is held while a stream runs, and no SQL is run per piece.
//! * A handler that needs an admin takes one as an argument, and only a live session makes one.
//! * A proxy that cannot be used is an error, never a direct connection.
//! * A secret is sealed in the database, never logged, and never read back over HTTP.

pub mod app;
pub mod claude;
pub mod config;
pub mod error;
pub mod http;
pub mod migrate;
pub mod model;
pub mod relay;
pub mod server;
pub mod store;
pub mod told;
