//! The nouns: accounts, API keys, usage, ledger lines. No I/O here, and no opinion about HTTP or SQL.

pub mod account;
pub mod api_key;
pub mod budget;
pub mod cost;
pub mod ledger;
pub mod moved;
pub mod notice;
pub mod price;
pub mod proxy;
pub mod remarks;
pub mod rest;
pub mod secret;
pub mod tally;
pub mod time;
pub mod url;
pub mod vault;

pub use account::{Account, AccountKind, AccountType};
pub use api_key::{ApiKey, ExpirationMode};
pub use budget::{Budget, Spent};
pub use cost::Cost;
pub use ledger::{Bill, Line, Outcome, Tokens, Usage};
pub use price::PriceTable;
pub use proxy::Proxy;
pub use rest::{AccountEvent, Rest, RestReason, RestSource, Scope, Window};
pub use secret::Sensitive;
