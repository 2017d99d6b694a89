//! Takes records of the original in, whatever they were read from: keys and sums go to the spool, the few accounts and
//! admins are kept, everything is counted.

use super::records::{self, Fields, Name, REDACTED, Unit};
use crate::error::{Error, Result};
use crate::model::moved::{MovedAccount, MovedAdmin, MovedKey, MovedUsage};
use crate::model::secret::{Cipher, hash_api_key};
use crate::model::tally::{Kind, Tally};
use crate::model::time::{TimeZone, now_ms};
use crate::model::{AccountKind, AccountType, Proxy, Sensitive};
use crate::store::Spool;
use serde_json::Value;
use std::collections::BTreeMap;

/// Accounts that one import takes; a relay has a few, and all are in memory.
const ACCOUNTS_MAX: usize = 10_000;
const ADMINS_MAX: usize = 100;

/// What is read from a source, on its way.
pub(super) struct Intake {
    pub(super) spool: Spool,
    pub(super) tally: Tally,
    pub(super) accounts: BTreeMap<String, MovedAccount>,
    pub(super) admins: Vec<MovedAdmin>,
    cipher: Cipher,
    pepper: Sensitive,
    offset_hours: i64,
    zone: TimeZone,
    now_ms: i64,
    /// Secrets that the encryption key opened, and that it did not.
    opened: u64,
    closed: u64,
}

impl Intake {
    pub(super) fn new(spool: Spool, pepper: &Sensitive, offset_hours: i64, zone: &TimeZone) -> Result<Intake> {
        let cipher = Cipher::new(pepper.expose())
            .map_err(|error| Error::internal("deriving the encryption key failed", error.to_string()))?;
        Ok(Intake {
            spool,
            tally: Tally::default(),
            accounts: BTreeMap::new(),
            admins: Vec::new(),
            cipher,
            pepper: pepper.clone(),
            offset_hours,
            zone: zone.clone(),
            now_ms: now_ms(),
            opened: 0,
            closed: 0,
        })
    }

    pub(super) fn fingerprint(&self) -> String {
        self.cipher.fingerprint()
    }

    /// Takes a Redis record whose name was read before.
    pub(super) fn record(&mut self, text: &str, name: &Name<'_>, fields: &Fields) -> Result<()> {
        match *name {
            Name::Key(id) => self.key(id, fields),
            Name::Account(id) => self.account(id, fields),
            Name::Admin => self.admin(fields),
            Name::Total(id) => self.usage((id, ""), Some((0, 0)), fields, text),
            Name::Usage(id, model, unit, date) => self.usage_of((id, model), unit, date, fields, text),
            Name::Other(reason) => {
                self.other(text, reason);
                Ok(())
            }
        }
    }

    /// Counts a record that is left where it is.
    pub(super) fn other(&mut self, text: &str, reason: &str) {
        self.tally.of(Kind::Other).read += 1;
        // A session's name is its token, and names of that kind are nobody's business in a report.
        let shown = text.split_once(':').map_or(text, |(kind, _)| kind);
        self.tally.skip(Kind::Other, reason, &format!("{shown}:…"));
    }

    /// Takes a key. One without a hash that works is kept as a deleted one, for its bill.
    pub(super) fn key(&mut self, id: &str, fields: &Fields) -> Result<()> {
        if id.is_empty() || fields.is_empty() {
            self.tally.skip(Kind::ApiKeys, "it is empty or has no identifier", id);
            return Ok(());
        }
        let hash = match records::hash(fields, self.pepper.expose()) {
            Ok(hash) => Some(hash),
            Err(reason) => {
                self.tally.skip(Kind::ApiKeys, reason, fields.text("name"));
                None
            }
        };
        self.spool.add_key(&records::key(id, fields, hash, self.now_ms))
    }

    pub(super) fn usage_of(
        &mut self,
        of: (&str, &str),
        unit: Unit,
        date: &str,
        fields: &Fields,
        shown: &str,
    ) -> Result<()> {
        let bucket = unit.bucket(date, self.offset_hours, &self.zone);
        self.usage(of, bucket, fields, shown)
    }

    /// Takes what a key has used since the beginning.
    pub(super) fn total(&mut self, id: &str, fields: &Fields) -> Result<()> {
        self.usage((id, ""), Some((0, 0)), fields, id)
    }

    fn usage(
        &mut self,
        (id, model): (&str, &str),
        bucket: Option<(i64, i64)>,
        fields: &Fields,
        shown: &str,
    ) -> Result<()> {
        let counted = records::usage(fields, bucket == Some((0, 0)));
        let ((span, bucket), usage) = match (bucket, counted) {
            (Some(bucket), Some(usage)) => (bucket, usage),
            (None, _) => {
                self.tally.skip(Kind::Usage, "its date cannot be read", shown);
                return Ok(());
            }
            (_, None) => {
                self.tally.skip(Kind::Usage, "its counts cannot be true", shown);
                return Ok(());
            }
        };
        self.spool.add_usage(&MovedUsage { key_id: id.to_owned(), span, bucket, model: model.to_owned(), usage })
    }

    pub(super) fn admin(&mut self, fields: &Fields) -> Result<()> {
        self.tally.of(Kind::Admins).read += 1;
        let (username, hash) = (fields.text("username"), fields.text("passwordHash"));
        let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|start| hash.starts_with(start)) && hash.len() == 60;
        if username.is_empty() || !is_bcrypt {
            self.tally.skip(Kind::Admins, "it has no name or no password hash", username);
        } else if self.admins.len() >= ADMINS_MAX {
            return Err(Error::invalid("The source has more admins than can be taken over"));
        } else {
            self.admins.push(MovedAdmin {
                username: username.to_owned(),
                password_hash: Sensitive::new(hash.to_owned()),
                created_at_ms: fields.instant("createdAt").unwrap_or(self.now_ms),
            });
        }
        Ok(())
    }

    /// Takes an account and opens its secrets.
    pub(super) fn account(&mut self, id: &str, fields: &Fields) -> Result<()> {
        let skipped =
            if ["accessToken", "refreshToken", "claudeAiOauth"].iter().any(|name| fields.text(name) == REDACTED) {
                Some("the export is sanitised: its tokens are not in it; use a full export, or read Redis")
            } else if id.is_empty() || (fields.text("name").is_empty() && fields.text("createdAt").is_empty()) {
                Some("it is a leftover without a name or a beginning")
            } else {
                None
            };
        if let Some(reason) = skipped {
            self.tally.of(Kind::Accounts).read += i64::from(!self.accounts.contains_key(id));
            self.tally.skip(Kind::Accounts, reason, fields.text("name"));
            return Ok(());
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(Error::invalid(format!("The source has more than {ACCOUNTS_MAX} accounts")));
        }
        let account = self.open_account(id, fields);
        // SCAN may show a record twice.
        if self.accounts.insert(id.to_owned(), account).is_none() {
            self.tally.of(Kind::Accounts).read += 1;
        }
        Ok(())
    }

    fn open_account(&mut self, id: &str, fields: &Fields) -> MovedAccount {
        let name = fields.text("name").to_owned();
        let mut open = |field: &str| self.open(fields, field, &name);
        let (email, password) = (open("email"), open("password"));
        let (mut access_token, mut refresh_token) = (open("accessToken"), open("refreshToken"));
        if access_token.expose().is_empty() && refresh_token.expose().is_empty() {
            // Written by hand or by a later version: the tokens may be in their common record alone.
            let both: Value = serde_json::from_str(open("claudeAiOauth").expose()).unwrap_or_default();
            let of = |name: &str| Sensitive::new(both[name].as_str().unwrap_or_default().to_owned());
            (access_token, refresh_token) = (of("accessToken"), of("refreshToken"));
        }
        let (proxy, fault) = match fields.text("proxy") {
            "" | "null" => (None, None),
            json => match Proxy::from_json(json, None) {
                Ok(proxy) => (Some(proxy), None),
                Err(fault) => (None, Some(fault)),
            },
        };
        let mut account = MovedAccount {
            id: id.to_owned(),
            description: fields.text("description").to_owned(),
            kind: kind(&access_token, &refresh_token),
            account_type: AccountType::parse(fields.text("accountType")).unwrap_or(AccountType::Shared),
            is_active: fields.is_true("isActive"),
            schedulable: fields.text("schedulable") != "false",
            priority: Some(fields.limit("priority")).filter(|priority| (1..=100).contains(priority)).unwrap_or(50),
            status: status(fields).to_owned(),
            error_message: fields.text("errorMessage").to_owned(),
            email,
            password,
            access_token,
            refresh_token,
            proxy,
            expires_at_ms: fields.text("expiresAt").parse().ok().or_else(|| fields.instant("expiresAt")),
            scopes: fields.text("scopes").to_owned(),
            created_at_ms: fields.instant("createdAt").unwrap_or(self.now_ms),
            updated_at_ms: fields.instant("updatedAt"),
            last_used_at_ms: fields.instant("lastUsedAt"),
            last_refresh_at_ms: fields.instant("lastRefreshAt"),
            name,
        };
        if let Some(fault) = fault {
            // Never a direct connection in its place.
            account.is_active = false;
            account.status = "error".to_owned();
            account.error_message = format!("Its proxy cannot be used: {fault}");
            self.tally.note(format!("Account {:?} is switched off: its proxy cannot be used: {fault}", account.name));
        }
        account
    }

    /// Opens a secret in either of the original's forms. What is in neither was stored in the clear.
    fn open(&mut self, fields: &Fields, field: &str, account: &str) -> Sensitive {
        let stored = fields.text(field);
        let is_hex = |text: &str| {
            text.len() >= 32 && text.len().is_multiple_of(32) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let is_sealed = match stored.split_once(':') {
            Some((iv, ciphertext)) => iv.len() == 32 && is_hex(iv) && is_hex(ciphertext),
            None => is_hex(stored),
        };
        if !is_sealed {
            return Sensitive::new(stored.to_owned());
        }
        match self.cipher.open(stored) {
            Ok(clear) => {
                self.opened += 1;
                Sensitive::new(clear)
            }
            Err(_) => {
                self.closed += 1;
                self.tally.note(format!("{field} of account {account:?} cannot be decrypted and is left empty"));
                Sensitive::new(String::new())
            }
        }
    }

    /// Ends the reading: proves the encryption key, and makes keys of those that are known by their bill alone.
    pub(super) fn finish(&mut self, sample: Option<&Sensitive>) -> Result<()> {
        if self.closed > self.opened {
            let all = self.closed + self.opened;
            return Err(Error::invalid(format!(
                "The encryption key is not the one of this source: {} of {all} secrets cannot be decrypted",
                self.closed
            )));
        }
        let mut is_proven = self.opened > 0;
        if let Some(sample) = sample {
            let hash = hash_api_key(sample.expose(), self.pepper.expose());
            if !self.spool.has_hash(&hash)? {
                return Err(Error::invalid(
                    "The sample API key is none of this source, or the encryption key is not the one of this source",
                ));
            }
            is_proven = true;
        }
        self.tally.encryption_key_proven = is_proven;
        let (keys, sums) = self.spool.counts()?;
        self.tally.of(Kind::ApiKeys).read = keys;
        self.tally.of(Kind::Usage).read = sums + self.tally.of(Kind::Usage).skipped;
        if !is_proven && keys > 0 {
            self.tally.note(
                "Nothing in this source proves the encryption key: the API keys work only if it is the right one. A \
                 sampleApiKey would prove it",
            );
        }
        let orphans = self.spool.orphans()?;
        for id in &orphans {
            let shown: String = id.chars().take(8).collect();
            self.spool.add_key(&self.gone(id, format!("deleted key {shown}")))?;
        }
        if !orphans.is_empty() {
            self.tally.note(format!(
                "{} deleted keys were found by what they used; they are listed as deleted",
                orphans.len()
            ));
        }
        Ok(())
    }

    /// The key that stands for all that were deleted without a trace but in the sums of all keys.
    pub(super) fn lost(&self) -> MovedKey {
        self.gone(&format!("deleted-{}", self.fingerprint()), "keys deleted before the move".to_owned())
    }

    fn gone(&self, id: &str, name: String) -> MovedKey {
        MovedKey {
            id: id.to_owned(),
            name,
            created_at_ms: self.now_ms,
            deleted_at_ms: Some(self.now_ms),
            ..MovedKey::default()
        }
    }
}

/// A token without a refresh token is one of long life, entered by hand.
fn kind(access_token: &Sensitive, refresh_token: &Sensitive) -> AccountKind {
    if refresh_token.expose().is_empty() && !access_token.expose().is_empty() {
        AccountKind::SetupToken
    } else {
        AccountKind::OAuth
    }
}

/// Later versions have further words for accounts that an admin must look after.
fn status(fields: &Fields) -> &'static str {
    match fields.text("status") {
        "active" => "active",
        "created" | "" => "created",
        _ => "error",
    }
}
