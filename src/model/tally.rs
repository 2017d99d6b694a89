//! What became of each kind of record of an import, as it is reported.

use super::remarks::{Note, Reason};
use crate::told::Told;
use serde::Serialize;

/// Examples that are named of each reason.
const EXAMPLES_MAX: usize = 5;
/// Longest example, in characters.
const EXAMPLE_CHARACTERS_MAX: usize = 120;
/// Notes that are kept.
const NOTES_MAX: usize = 50;

/// The kinds of records that are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// API keys.
    ApiKeys,
    /// Accounts.
    Accounts,
    /// Sums of what was used.
    Usage,
    /// Admins.
    Admins,
    /// Everything else that the source holds.
    Other,
}

/// What became of the records of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Found in the source.
    pub read: i64,
    /// Written here.
    pub written: i64,
    /// Left out; the reasons are listed.
    pub skipped: i64,
    /// Read back and compared with the source.
    pub verified: i64,
}

/// Records that were left out for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    kind: Kind,
    code: &'static str,
    /// The English of it.
    reason: String,
    count: i64,
    examples: Vec<String>,
}

/// The report of an import.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    api_keys: Counts,
    accounts: Counts,
    usage: Counts,
    admins: Counts,
    other: Counts,
    skipped: Vec<Skipped>,
    /// The English of the notes.
    notes: Vec<String>,
    note_details: Vec<Told>,
    /// Whether a secret of the source showed that the encryption key is the right one.
    pub encryption_key_proven: bool,
}

impl Tally {
    /// The counts of a kind.
    pub fn of(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::ApiKeys => &mut self.api_keys,
            Kind::Accounts => &mut self.accounts,
            Kind::Usage => &mut self.usage,
            Kind::Admins => &mut self.admins,
            Kind::Other => &mut self.other,
        }
    }

    /// Counts a record that is left out. `example` names it and is no secret.
    pub fn skip(&mut self, kind: Kind, reason: Reason, example: &str) {
        self.of(kind).skipped += 1;
        let known = self.skipped.iter().position(|skipped| skipped.kind == kind && skipped.code == reason.code());
        let at = known.unwrap_or_else(|| {
            let (code, reason) = (reason.code(), reason.to_string());
            self.skipped.push(Skipped { kind, code, reason, count: 0, examples: Vec::new() });
            self.skipped.len() - 1
        });
        let skipped = &mut self.skipped[at];
        skipped.count += 1;
        if skipped.examples.len() < EXAMPLES_MAX {
            skipped.examples.push(example.chars().take(EXAMPLE_CHARACTERS_MAX).collect());
        }
    }

    /// Adds what the admin should read.
    pub fn note(&mut self, note: &Note) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note.to_string());
            self.note_details.push(note.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_and_notes_are_bounded_and_every_record_is_counted() {
        let mut tally = Tally::default();
        for number in 0..200 {
            let reason = if number % 2 == 0 { Reason::Index } else { Reason::Session };
            tally.skip(Kind::Other, reason, &"x".repeat(500));
            tally.note(&Note::Unproven);
        }
        assert_eq!(tally.of(Kind::Other).skipped, 200);
        assert_eq!(tally.skipped.iter().map(|skipped| skipped.count).collect::<Vec<_>>(), [100, 100]);
        assert!(tally.skipped.iter().all(|skipped| skipped.examples.len() == EXAMPLES_MAX));
        assert_eq!((tally.notes.len(), tally.note_details.len()), (NOTES_MAX, NOTES_MAX));
        assert_eq!(tally.skipped[0].examples[0].len(), EXAMPLE_CHARACTERS_MAX);
    }
}
