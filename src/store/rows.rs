//! Reading rows into nouns, columns by name.

use super::Store;
use crate::error::{Error, Result};
use crate::model::{
    Account, AccountKind, AccountType, ApiKey, Bill, Cost, ExpirationMode, Proxy, Sensitive, Tokens, Usage,
};
use rusqlite::Row;
use rusqlite::types::FromSql;
use std::cell::Cell;

/// A row whose columns are read by name, mostly in the order they come in: the next one is looked at first, because a search
/// through all names for each column of thousands of rows takes longer than the query.
struct InOrder<'r, 's> {
    row: &'r Row<'s>,
    next: Cell<usize>,
}

impl<'r, 's> InOrder<'r, 's> {
    fn new(row: &'r Row<'s>) -> InOrder<'r, 's> {
        InOrder { row, next: Cell::new(0) }
    }

    fn get<T: FromSql>(&self, name: &str) -> rusqlite::Result<T> {
        let (statement, next) = (self.row.as_ref(), self.next.get());
        let is_next = statement.column_name(next).is_ok_and(|found| found == name);
        let column = if is_next { next } else { statement.column_index(name)? };
        self.next.set(column + 1);
        self.row.get(column)
    }
}

/// Reads a row of `api_keys`.
pub(super) fn api_key(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let row = InOrder::new(row);
    let list = |column: &str| -> rusqlite::Result<Vec<String>> {
        let json: String = row.get(column)?;
        if json == "[]" {
            return Ok(Vec::new());
        }
        let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
        serde_json::from_str(&json).map_err(wrong)
    };
    Ok(ApiKey {
        seq: row.get("seq")?,
        id: row.get("id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        token_limit: row.get("token_limit")?,
        concurrency_limit: row.get("concurrency_limit")?,
        rate_limit_window: row.get("rate_limit_window")?,
        rate_limit_requests: row.get("rate_limit_requests")?,
        is_active: row.get("is_active")?,
        claude_account_id: row.get("claude_account_id")?,
        enable_model_restriction: row.get("enable_model_restriction")?,
        restricted_models: list("restricted_models")?,
        created_at_ms: row.get("created_at_ms")?,
        updated_at_ms: row.get("updated_at_ms")?,
        last_used_at_ms: row.get("last_used_at_ms")?,
        expires_at: row.get("expires_at")?,
        expires_at_ms: row.get("expires_at_ms")?,
        deleted_at_ms: row.get("deleted_at_ms")?,
        tags: list("tags")?,
        allowed_models: list("allowed_models")?,
        daily_cost_limit: row.get("daily_cost_limit")?,
        weekly_cost_limit: row.get("weekly_cost_limit")?,
        monthly_cost_limit: row.get("monthly_cost_limit")?,
        total_cost_limit: row.get("total_cost_limit")?,
        rate_limit_cost: row.get("rate_limit_cost")?,
        expiration_mode: ExpirationMode::parse(&row.get::<String>("expiration_mode")?).unwrap_or_default(),
        activation_days: row.get("activation_days")?,
        activated_at_ms: row.get("activated_at_ms")?,
        account_fallback: row.get("account_fallback")?,
    })
}

/// Reads the sums of a row of `rollups`.
pub(super) fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    let row = InOrder::new(row);
    Ok(Usage {
        requests: row.get("requests")?,
        tokens: Tokens {
            input: row.get("input_tokens")?,
            output: row.get("output_tokens")?,
            cache_creation_5m: row.get("cache_creation_5m_tokens")?,
            cache_creation_1h: row.get("cache_creation_1h_tokens")?,
            cache_read: row.get("cache_read_tokens")?,
        },
    })
}

/// The columns that [`bill_at`] reads.
pub(super) const BILL: &str =
    "requests, input_tokens, output_tokens, cache_creation_5m_tokens, cache_creation_1h_tokens,
    cache_read_tokens, cost_input, cost_output, cost_cache_write, cost_cache_read, cost_web_search, unpriced_requests";

/// Reads a row in which [`BILL`] begins at a column: by position, where a list reads tens of thousands of them.
pub(super) fn bill_at(row: &Row<'_>, first: usize) -> rusqlite::Result<Bill> {
    let at = |column: usize| row.get::<_, i64>(first + column);
    let tokens = Tokens {
        input: at(1)?,
        output: at(2)?,
        cache_creation_5m: at(3)?,
        cache_creation_1h: at(4)?,
        cache_read: at(5)?,
    };
    let cost = Cost { input: at(6)?, output: at(7)?, cache_write: at(8)?, cache_read: at(9)?, web_search: at(10)? };
    Ok(Bill { usage: Usage { requests: at(0)?, tokens }, cost, unpriced_requests: at(11)? })
}

/// Reads the sums of a row of `rollups`, with what they cost.
pub(super) fn bill(row: &Row<'_>) -> rusqlite::Result<Bill> {
    let usage = usage(row)?;
    let row = InOrder::new(row);
    let cost = Cost {
        input: row.get("cost_input")?,
        output: row.get("cost_output")?,
        cache_write: row.get("cost_cache_write")?,
        cache_read: row.get("cost_cache_read")?,
        web_search: row.get("cost_web_search")?,
    };
    Ok(Bill { usage, cost, unpriced_requests: row.get("unpriced_requests")? })
}

impl Store {
    /// Reads a row of `accounts` and opens its secrets. A secret that cannot be opened is an error, never sent as it is.
    pub(super) fn account(&self, row: &Row<'_>) -> Result<Account> {
        let id: String = row.get("id")?;
        let open = |column: &str| -> Result<Option<Sensitive>> {
            let sealed: String = row.get(column)?;
            let clear = self.cipher.open(&sealed).map_err(|error| {
                Error::internal(format!("{column} of account {id} cannot be decrypted"), error.to_string())
            })?;
            Ok(Some(clear).filter(|clear| !clear.is_empty()).map(Sensitive::new))
        };
        let proxy = open("proxy")?
            .map(|json| Proxy::from_json(json.expose(), None))
            .transpose()
            .map_err(|error| Error::internal(format!("the proxy of account {id} cannot be read"), error.to_string()))?;
        let (kind, account_type): (String, String) = (row.get("kind")?, row.get("account_type")?);
        let (scopes, mapping): (String, String) = (row.get("scopes")?, row.get("model_mapping")?);
        Ok(Account {
            seq: row.get("seq")?,
            name: row.get("name")?,
            description: row.get("description")?,
            kind: AccountKind::parse(&kind).unwrap_or(AccountKind::OAuth),
            account_type: AccountType::parse(&account_type).unwrap_or(AccountType::Dedicated),
            is_active: row.get("is_active")?,
            schedulable: row.get("schedulable")?,
            priority: row.get("priority")?,
            status: row.get("status")?,
            error_message: row.get("error_message")?,
            email: open("email")?.map(|email| email.expose().to_owned()).unwrap_or_default(),
            access_token: open("access_token")?,
            refresh_token: open("refresh_token")?,
            refresh_in_doubt: row.get("refresh_in_doubt")?,
            api_key: open("api_key")?,
            expires_at_ms: row.get("expires_at_ms")?,
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
            base_url: row.get("base_url")?,
            model_mapping: serde_json::from_str(&mapping)
                .map_err(|error| Error::internal(format!("the model mapping of account {id} cannot be read"), error))?,
            max_concurrency: row.get("max_concurrency")?,
            expires_on_ms: row.get("expires_on_ms")?,
            daily_cost_limit: row.get("daily_cost_limit")?,
            proxy,
            created_at_ms: row.get("created_at_ms")?,
            last_used_at_ms: row.get("last_used_at_ms")?,
            last_refresh_at_ms: row.get("last_refresh_at_ms")?,
            id,
        })
    }
}
