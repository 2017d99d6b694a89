//! Which models there are, asked of an account: bounded, remembered for some minutes, and no part of the main path. It
//! takes no seat of an account, refreshes no token and marks nothing.

use super::Relay;
use super::upstream::Call;
use crate::claude::headers;
use crate::claude::models::{self, Model};
use crate::model::time::now_ms;
use crate::model::{Account, AccountType, ApiKey};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The largest list that is read, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;
/// How long one account may take. Claude Code waits three seconds in all.
const TRY_TIME_MAX: Duration = Duration::from_millis(1200);
/// Accounts that are asked for one request.
const ACCOUNTS_MAX: usize = 2;
/// How long a list is believed.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How long an account that gave none is left alone.
const FAILED_FOR: Duration = Duration::from_secs(30);
/// Lists that are remembered: one an account and a client's version and flags. Past that the oldest goes.
const LISTS_MAX: usize = 64;
/// Of a client's fields, those that a list may depend on; together no longer than so many bytes.
const PASSED: [&str; 2] = ["anthropic-version", "anthropic-beta"];
const PASSED_BYTES_MAX: usize = 4096;

type List = Arc<Vec<Model>>;
/// When an account was asked last, and its list if it gave one.
type LastAnswer = Option<(Instant, Option<List>)>;

/// What accounts have answered lately.
#[derive(Default)]
pub(super) struct Lists(Mutex<Vec<Place>>);

/// Whose list it is: the account, the address that it is asked at, and the fields that are sent.
type Name = (i64, String, Vec<u8>);

struct Place {
    name: Name,
    /// Whoever holds it asks; the others wait for what comes of that.
    answer: Arc<Mutex<LastAnswer>>,
}

impl Lists {
    fn place(&self, name: Name) -> Arc<Mutex<LastAnswer>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.iter().find(|place| place.name == name) {
            return Arc::clone(&place.answer);
        }
        if places.len() >= LISTS_MAX {
            places.remove(0);
        }
        let answer = Arc::<Mutex<LastAnswer>>::default();
        places.push(Place { name, answer: Arc::clone(&answer) });
        answer
    }
}

impl Relay {
    /// The models that a key may use: what an account that can serve it lists, else those that have a price. Takes at most
    /// about three seconds. `fields` are the client's.
    pub fn models(&self, key: &ApiKey, fields: &[(&str, &[u8])]) -> Vec<Model> {
        let passed: Vec<(&str, &[u8])> = fields
            .iter()
            .copied()
            .filter(|(name, _)| PASSED.iter().any(|passed| name.eq_ignore_ascii_case(passed)))
            .collect();
        let is_small = passed.iter().map(|(_, value)| value.len()).sum::<usize>() <= PASSED_BYTES_MAX;
        let passed = if is_small { &passed[..] } else { &[] };
        let listed = self.listing_accounts(key).into_iter().find_map(|account| {
            let list = self.list_of(&account, passed)?;
            Some(with_mapped(&list, &account))
        });
        let prices = self.store.prices();
        let all = listed.unwrap_or_else(|| prices.models().into_iter().map(Model::named).collect());
        let mut allowed: Vec<Model> = all.iter().filter(|model| key.allows_model(Some(model.id()))).cloned().collect();
        // An allow list may call a model by a name that the list has not.
        let missing = key.allowed_models.iter().filter(|name| key.allows_model(Some(name)));
        for name in missing.filter(|name| all.iter().all(|model| model.id() != name.as_str())) {
            if let Some(model) = all.iter().find(|model| prices.are_one(model.id(), name)) {
                allowed.push(model.renamed(name));
            }
        }
        allowed
    }

    /// One model by its name, or by another name of the same; `None` if there is none that the key may use.
    pub fn model(&self, key: &ApiKey, fields: &[(&str, &[u8])], id: &str) -> Option<Model> {
        let models = self.models(key, fields);
        let prices = self.store.prices();
        let found = models.iter().find(|model| model.id() == id);
        let found = found.or_else(|| models.iter().find(|model| prices.are_one(model.id(), id)));
        found.filter(|_| key.allows_model(Some(id))).cloned()
    }

    /// The accounts that could be asked now, the first one first.
    fn listing_accounts(&self, key: &ApiKey) -> Vec<Arc<Account>> {
        let now = now_ms();
        let is_bound = !key.claude_account_id.is_empty();
        let serves = |account: &&Arc<Account>| match is_bound {
            true => account.id == key.claude_account_id,
            false => account.account_type == AccountType::Shared && account.schedulable,
        };
        let is_ready = |account: &&Arc<Account>| {
            account.is_usable()
                && !account.is_expired(now)
                && self.standings.of(account.seq).resting(None, now).is_none()
        };
        let accounts = self.store.accounts();
        let mut found: Vec<Arc<Account>> = accounts.iter().filter(serves).filter(is_ready).cloned().collect();
        found.sort_by_key(|account| (account.priority, account.seq));
        found.truncate(ACCOUNTS_MAX);
        found
    }

    fn list_of(&self, account: &Account, passed: &[(&str, &[u8])]) -> Option<List> {
        let mut sent = Vec::new();
        for (name, value) in passed {
            sent.extend_from_slice(name.to_ascii_lowercase().as_bytes());
            sent.push(b':');
            sent.extend_from_slice(value);
            sent.push(b'\n');
        }
        let url = self.models_url(account)?;
        let place = self.lists.place((account.seq, url.clone(), sent));
        let mut answer = place.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh =
            |at: &Instant, list: &Option<List>| at.elapsed() < if list.is_some() { KEPT_FOR } else { FAILED_FOR };
        if let Some((_, list)) = answer.as_ref().filter(|(at, list)| is_fresh(at, list)) {
            return list.clone();
        }
        let asked = self.ask_for_models(account, &url, passed);
        if let Err(error) = &asked {
            log::warn!("account {:?} did not list its models: {error}", account.name);
        }
        let list = asked.ok().map(Arc::new);
        *answer = Some((Instant::now(), list.clone()));
        list
    }

    fn ask_for_models(
        &self,
        account: &Account,
        url: &str,
        passed: &[(&str, &[u8])],
    ) -> std::result::Result<Vec<Model>, String> {
        let secret = self.credentials.at_hand(account).ok_or("it has no living credential")?;
        let version = &self.settings.claude_api_version;
        let fields = headers::upward(passed.iter().copied(), account.kind, secret.expose(), version);
        let call = Call::get_with(url.to_owned(), fields, account.proxy.as_ref());
        let fetched = self.upstream.fetch_within(&call, BYTES_MAX, TRY_TIME_MAX).map_err(|error| error.to_string())?;
        if fetched.status != 200 {
            return Err(format!("status {}", fetched.status));
        }
        models::read(&fetched.body).ok_or_else(|| "the answer is no list of models".to_owned())
    }

    /// Beside the messages; `None` for a messages URL that is called otherwise.
    fn models_url(&self, account: &Account) -> Option<String> {
        let messages = match &account.base_url {
            Some(base) => format!("{base}/v1/messages"),
            None => self.settings.claude_api_url.clone(),
        };
        let (path, query) = messages.split_once('?').unwrap_or((&messages, ""));
        let beside = path.trim_end_matches('/').strip_suffix("/messages")?;
        let query = if query.is_empty() { String::new() } else { format!("{query}&") };
        Some(format!("{beside}/models?{query}limit=1000"))
    }
}

/// A list with the names that an account knows models by and its upstream does not.
fn with_mapped(list: &[Model], account: &Account) -> Vec<Model> {
    let mapped = account.model_mapping.keys().filter(|name| list.iter().all(|model| model.id() != name.as_str()));
    list.iter().cloned().chain(mapped.map(|name| Model::named(name))).collect()
}
