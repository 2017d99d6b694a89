//! Takes records of the original in, whatever they were read from: keys and sums go to the spool, the few accounts and
//! admins are kept, everything is counted.

use super::accounts::{self, Secrets, Source};
use super::fields::Fields;
use super::records::{self, Name, REDACTED, Unit};
use crate::error::{Error, Kind as Fault, Result};
use crate::model::Sensitive;
use crate::model::moved::{MovedAccount, MovedAdmin, MovedKey, MovedUsage};
use crate::model::remarks::{Change, Failure, Keys, Note, Reason};
use crate::model::secret::hash_api_key;
use crate::model::tally::{Kind, Tally};
use crate::model::time::{TimeZone, now_ms};
use crate::store::Spool;
use std::collections::BTreeMap;

/// Accounts that one import takes; a relay has a few, and all are in memory.
const ACCOUNTS_MAX: usize = 10_000;
const ADMINS_MAX: usize = 100;
/// The original's default where `TIMEZONE_OFFSET` is missing, 0 or no number.
const ORIGINAL_OFFSET: i64 = 8;

/// What is read from a source, on its way.
pub(super) struct Intake {
    pub(super) spool: Spool,
    pub(super) tally: Tally,
    pub(super) accounts: BTreeMap<String, MovedAccount>,
    pub(super) admins: Vec<MovedAdmin>,
    secrets: Secrets,
    pepper: Sensitive,
    /// The offset from UTC that its hours were counted with, where an admin or the source names one.
    offset_hours: Option<i64>,
    zone: TimeZone,
    now_ms: i64,
    /// Whether a key's hash was cut off.
    is_sanitised: bool,
    /// How many keys are not quite the same here, by what has changed.
    changed: BTreeMap<Change, u64>,
}

impl Intake {
    pub(super) fn new(spool: Spool, pepper: &Sensitive, offset_hours: Option<i64>, zone: &TimeZone) -> Result<Intake> {
        Ok(Intake {
            spool,
            tally: Tally::default(),
            accounts: BTreeMap::new(),
            admins: Vec::new(),
            secrets: Secrets::new(pepper)?,
            pepper: pepper.clone(),
            offset_hours,
            zone: zone.clone(),
            now_ms: now_ms(),
            is_sanitised: false,
            changed: BTreeMap::new(),
        })
    }

    pub(super) fn fingerprint(&self) -> String {
        self.secrets.fingerprint()
    }

    /// The source says that its secrets were decrypted.
    pub(super) fn secrets_are_clear(&mut self) {
        self.secrets.are_clear();
    }

    /// The source names the offset that its hours were counted with; an admin knows better.
    pub(super) fn counted_at(&mut self, offset_hours: i64) {
        self.offset_hours.get_or_insert(offset_hours);
    }

    /// Takes a Redis record whose name was read before.
    pub(super) fn record(&mut self, text: &str, name: &Name<'_>, fields: &Fields) -> Result<()> {
        match *name {
            Name::Key(id) => self.key(id, fields),
            Name::Account(id) => self.account(id, fields, Source::Subscription),
            Name::ConsoleAccount(id) => self.account(id, fields, Source::Console),
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
    pub(super) fn other(&mut self, text: &str, reason: Reason) {
        self.tally.of(Kind::Other).read += 1;
        // A session's name is its token, and names of that kind are nobody's business in a report.
        let shown = text.split_once(':').map_or(text, |(kind, _)| kind);
        self.tally.skip(Kind::Other, reason, &format!("{shown}:…"));
    }

    /// Takes an entry of the index in which the original looks keys up.
    pub(super) fn index(&mut self, hash: &str, id: &str) -> Result<()> {
        // It looks up lower-case hex, so that it never finds anything else.
        if records::is_hash(hash) && !hash.bytes().any(|byte| byte.is_ascii_uppercase()) && !id.is_empty() {
            self.spool.add_hash(hash, id)?;
        }
        Ok(())
    }

    /// Takes a key. One without a hash, in the end, is kept as a deleted one, for its bill.
    pub(super) fn key(&mut self, id: &str, fields: &Fields) -> Result<()> {
        if id.is_empty() || fields.is_empty() {
            self.tally.of(Kind::ApiKeys).read += 1;
            self.tally.skip(Kind::ApiKeys, Reason::NoKey, id);
            return Ok(());
        }
        let hash = records::hash(fields, self.pepper.expose());
        self.is_sanitised |= fields.text("apiKey").contains(REDACTED);
        let (key, changes) = records::key(id, fields, hash, self.now_ms);
        for change in changes {
            *self.changed.entry(change).or_default() += 1;
        }
        self.spool.add_key(&key)
    }

    pub(super) fn usage_of(
        &mut self,
        of: (&str, &str),
        unit: Unit,
        date: &str,
        fields: &Fields,
        shown: &str,
    ) -> Result<()> {
        let bucket = unit.bucket(date, self.offset_hours.unwrap_or(ORIGINAL_OFFSET), &self.zone);
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
                self.tally.skip(Kind::Usage, Reason::NoDate, shown);
                return Ok(());
            }
            (_, None) => {
                self.tally.skip(Kind::Usage, Reason::NoCounts, shown);
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
            self.tally.skip(Kind::Admins, Reason::NoAdmin, username);
        } else if self.admins.len() >= ADMINS_MAX {
            return Err(Error::saying(Fault::Invalid, Failure::ManyAdmins { max: ADMINS_MAX }));
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
    pub(super) fn account(&mut self, id: &str, fields: &Fields, source: Source) -> Result<()> {
        if let Some(reason) = accounts::unfit(id, fields, source) {
            self.tally.of(Kind::Accounts).read += i64::from(!self.accounts.contains_key(id));
            self.tally.skip(Kind::Accounts, reason, fields.text("name"));
            return Ok(());
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(Error::saying(Fault::Invalid, Failure::ManyAccounts { max: ACCOUNTS_MAX }));
        }
        let (account, notes) = accounts::account(id, fields, source, &mut self.secrets, self.now_ms)?;
        // SCAN may show a record twice.
        if self.accounts.insert(id.to_owned(), account).is_none() {
            self.tally.of(Kind::Accounts).read += 1;
            notes.iter().for_each(|note| self.tally.note(note));
        }
        Ok(())
    }

    /// Ends the reading: proves the encryption key, and makes keys of those that are known by their bill alone.
    pub(super) fn finish(&mut self, sample: Option<&Sensitive>) -> Result<()> {
        let mut is_proven = self.secrets.proven()?;
        self.find_keys()?;
        if let Some(sample) = sample {
            let hash = hash_api_key(sample.expose(), self.pepper.expose());
            if !self.spool.has_hash(&hash)? {
                return Err(Error::saying(Fault::Invalid, Failure::WrongSample));
            }
            is_proven = true;
        }
        self.tally.encryption_key_proven = is_proven;
        let (keys, sums) = self.spool.counts()?;
        self.tally.of(Kind::ApiKeys).read += keys;
        self.tally.of(Kind::Usage).read = sums + self.tally.of(Kind::Usage).skipped;
        if !is_proven && keys > 0 {
            self.tally.note(&Note::Unproven);
        }
        for (change, count) in std::mem::take(&mut self.changed) {
            self.note_keys(count, change);
        }
        let orphans = self.spool.orphans()?;
        for id in &orphans {
            let shown: String = id.chars().take(8).collect();
            self.spool.add_key(&self.gone(id, format!("deleted key {shown}")))?;
        }
        self.note_keys(orphans.len() as u64, Change::Deleted);
        Ok(())
    }

    /// Notes what is not quite the same for some keys, if there are any.
    fn note_keys(&mut self, count: u64, change: Change) {
        if count > 0 {
            self.tally.note(&Note::Keys { count: Keys(count), change });
        }
    }

    /// Gives keys the hashes under which the original found them.
    fn find_keys(&mut self) -> Result<()> {
        let indexed = self.spool.apply_index(self.pepper.expose())?;
        self.note_keys(indexed.refused as u64, Change::Refused);
        self.note_keys(indexed.found as u64, Change::Found);
        self.note_keys(indexed.several as u64, Change::Several);
        let reason = if self.is_sanitised { Reason::HashCutOff } else { Reason::Hashless };
        let tally = &mut self.tally;
        self.spool.hashless(&mut |name| tally.skip(Kind::ApiKeys, reason, name))
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
