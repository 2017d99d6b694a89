//! The nouns: accounts, API keys, usage, ledger lines. No I/O here, and no opinion about HTTP or SQL.

pub mod account;
pub mod api_key;
pub mod ledger;
pub mod proxy;
pub mod secret;
pub mod time;

pub use account::{Account, AccountKind, AccountType};
pub use api_key::ApiKey;
pub use ledger::{Line, Tokens, Usage};
pub use proxy::Proxy;
pub use secret::Sensitive;
