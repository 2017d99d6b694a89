//! Reads an export of the original, versions 1.0 and 2.0, one record at a time: the text is in memory, its tree is not.

use super::Progress;
use super::accounts::Source;
use super::fields::Fields;
use super::intake::Intake;
use super::records::Unit;
use crate::error::{Error, Kind, Result};
use crate::model::remarks::{Failure, Reason};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::ops::RangeInclusive;

/// Versions of the format that are read. Later ones of the first two have the same outline.
const VERSIONS: [&str; 2] = ["1", "2"];

/// Offsets from UTC that there are, in hours.
const OFFSETS: RangeInclusive<i64> = -14..=14;

/// Reads all records.
pub(super) fn read(text: &str, intake: &mut Intake, progress: &Progress) -> Result<()> {
    // Some editors put a mark before everything.
    let text = text.trim_start_matches('\u{feff}');
    let head = head(text)?;
    let length = |list: &Option<Vec<IgnoredAny>>| list.as_ref().map_or(0, Vec::len) as u64;
    progress.set_total(length(&head.data.keys) + length(&head.data.accounts));
    if head.metadata.decrypted == Value::Bool(true) && !is_truthy(&head.metadata.sanitized) {
        intake.secrets_are_clear();
    }
    if let Some(hours) = head.metadata.offset_hours.as_i64().filter(|hours| OFFSETS.contains(hours)) {
        intake.counted_at(hours);
    }
    let mut failure = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut taking = Taking { intake, progress, failure: &mut failure };
    let parsed = Outline(&mut taking).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Some(error) = failure {
        return Err(error);
    }
    parsed.map_err(no_export)
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: Metadata,
    data: Lists,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    version: Value,
    #[serde(default)]
    decrypted: Value,
    #[serde(default)]
    sanitized: Value,
    /// In exports of this relay.
    #[serde(default, rename = "timezoneOffset")]
    offset_hours: Value,
}

#[derive(Deserialize)]
struct Lists {
    #[serde(default, rename = "apiKeys")]
    keys: Option<Vec<IgnoredAny>>,
    #[serde(default, rename = "claudeAccounts")]
    accounts: Option<Vec<IgnoredAny>>,
}

/// Reads what the file is and how much is in it.
fn head(text: &str) -> Result<Head> {
    let head: Head = serde_json::from_str(text).map_err(no_export)?;
    let version = match &head.metadata.version {
        Value::String(version) => version.clone(),
        version => version.to_string(),
    };
    let is_of = |known: &&str| version.split('.').next() == Some(*known);
    if !VERSIONS.iter().any(is_of) {
        return Err(Error::saying(Kind::Invalid, Failure::OtherVersion));
    }
    Ok(head)
}

fn no_export(error: serde_json::Error) -> Error {
    Error::saying(Kind::Invalid, Failure::NoExport { problem: error.to_string() })
}

/// What JavaScript takes for true, of what may stand there.
fn is_truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value != ""
}

/// What takes the records in, and what stopped it.
struct Taking<'a> {
    intake: &'a mut Intake,
    progress: &'a Progress,
    failure: &'a mut Option<Error>,
}

impl Taking<'_> {
    fn done<E: serde::de::Error>(&mut self, result: Result<()>) -> std::result::Result<(), E> {
        self.progress.add(1);
        result.and_then(|()| self.progress.goes_on()).map_err(|error| {
            let stopped = E::custom(error.message());
            *self.failure = Some(error);
            stopped
        })
    }
}

/// The file's outermost object.
struct Outline<'a, 'b>(&'a mut Taking<'b>);
/// Its member `data`.
struct Data<'a, 'b>(&'a mut Taking<'b>);
/// One list of records, each taken in as it comes.
struct Each<'a, 'b>(&'a mut Taking<'b>, fn(&mut Intake, Map<String, Value>) -> Result<()>);

macro_rules! seed {
    ($name:ident, $visit:ident, $deserialize:ident) => {
        impl<'de> DeserializeSeed<'de> for $name<'_, '_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
                deserializer.$deserialize(self)
            }
        }
    };
}
seed!(Outline, visit_map, deserialize_map);
seed!(Data, visit_map, deserialize_map);
seed!(Each, visit_seq, deserialize_any);

impl<'de> Visitor<'de> for Outline<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metadata and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "data" {
                map.next_value_seed(Data(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Data<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "apiKeys" => map.next_value_seed(Each(self.0, key))?,
                "claudeAccounts" => map.next_value_seed(Each(self.0, account))?,
                "admins" => map.next_value_seed(Each(self.0, admin))?,
                "globalModelStats" => {
                    let members: Option<Map<String, Value>> = map.next_value()?;
                    let taken = global(self.0.intake, members.unwrap_or_default());
                    self.0.done(taken)?;
                }
                "claudeConsoleAccounts" => map.next_value_seed(Each(self.0, console_account))?,
                list if list.ends_with("Accounts") => map.next_value_seed(Each(self.0, unknown))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Each<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(record) = list.next_element()? {
            let taken = (self.1)(self.0.intake, object(record));
            self.0.done(taken)?;
        }
        Ok(())
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

fn id(record: &Map<String, Value>) -> String {
    record.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn key(intake: &mut Intake, mut record: Map<String, Value>) -> Result<()> {
    let (id, mut stats) = (id(&record), object(record.remove("usageStats")));
    intake.key(&id, &Fields::from(record))?;
    if id.is_empty() {
        return Ok(());
    }
    let total = object(stats.remove("total"));
    if !total.is_empty() {
        intake.total(&id, &Fields::from(total))?;
    }
    buckets(intake, (&id, ""), &mut stats)?;
    for (model, stats) in object(stats.remove("models")) {
        buckets(intake, (&id, &model), &mut object(Some(stats)))?;
    }
    Ok(())
}

/// The members `monthly`, `daily` and `hourly`: a record each bucket.
fn buckets(intake: &mut Intake, of: (&str, &str), stats: &mut Map<String, Value>) -> Result<()> {
    for word in ["monthly", "daily", "hourly"] {
        let Some(unit) = Unit::parse(word) else { continue };
        for (date, fields) in object(stats.remove(word)) {
            intake.usage_of(of, unit, &date, &Fields::from(object(Some(fields))), &date)?;
        }
    }
    Ok(())
}

fn account(intake: &mut Intake, record: Map<String, Value>) -> Result<()> {
    intake.account(&id(&record), &Fields::from(record), Source::Subscription)
}

fn console_account(intake: &mut Intake, record: Map<String, Value>) -> Result<()> {
    intake.account(&id(&record), &Fields::from(record), Source::Console)
}

fn admin(intake: &mut Intake, record: Map<String, Value>) -> Result<()> {
    intake.admin(&Fields::from(record))
}

fn unknown(intake: &mut Intake, _: Map<String, Value>) -> Result<()> {
    intake.other("account:", Reason::OtherVendor);
    Ok(())
}

fn global(intake: &mut Intake, mut members: Map<String, Value>) -> Result<()> {
    for word in ["monthly", "daily", "hourly"] {
        let Some(unit) = Unit::parse(word) else { continue };
        for (date, models) in object(members.remove(word)) {
            for (model, fields) in object(Some(models)) {
                intake.usage_of(("", &model), unit, &date, &Fields::from(object(Some(fields))), &date)?;
            }
        }
    }
    Ok(())
}
