//! Which account a conversation stays with: its caches are there, and its thinking is valid only there.

use crate::store::{Affinity, Conversation};
use std::collections::HashMap;

/// Conversations that are known at a time. Past that, the quarter that was used longest ago is forgotten.
pub(super) const AFFINITIES_MAX: usize = 10_000;
/// A conversation that was not used for so long is over, milliseconds.
pub(super) const LIFE_MS: i64 = 24 * 3_600_000;
/// How often the last use of a conversation is written down, milliseconds.
const KEPT_EVERY_MS: i64 = 10 * 60_000;

#[derive(Clone, Copy, Debug)]
struct Pin {
    account_seq: i64,
    used_at_ms: i64,
    kept_at_ms: i64,
}

/// The conversations of all keys.
#[derive(Debug, Default)]
pub(super) struct Affinities {
    pins: HashMap<Conversation, Pin>,
}

impl Affinities {
    /// Those that were kept.
    pub(super) fn of(kept: Vec<Affinity>) -> Affinities {
        let pin = |(conversation, account_seq, at_ms)| {
            (conversation, Pin { account_seq, used_at_ms: at_ms, kept_at_ms: at_ms })
        };
        Affinities { pins: kept.into_iter().map(pin).collect() }
    }

    /// The account that a conversation stays with.
    pub(super) fn account(&self, conversation: &Conversation, now_ms: i64) -> Option<i64> {
        self.pins.get(conversation).filter(|pin| now_ms - pin.used_at_ms < LIFE_MS).map(|pin| pin.account_seq)
    }

    /// Notes that an account has served a conversation. Gives back what is to be kept, if that is due.
    pub(super) fn used(&mut self, conversation: Conversation, account_seq: i64, now_ms: i64) -> Option<Affinity> {
        if self.pins.len() >= AFFINITIES_MAX && !self.pins.contains_key(&conversation) {
            self.forget_oldest();
        }
        let before = self.pins.get(&conversation).filter(|pin| pin.account_seq == account_seq);
        let is_kept = before.is_some_and(|pin| now_ms - pin.kept_at_ms < KEPT_EVERY_MS);
        let kept_at_ms = before.filter(|_| is_kept).map_or(now_ms, |pin| pin.kept_at_ms);
        self.pins.insert(conversation, Pin { account_seq, used_at_ms: now_ms, kept_at_ms });
        (!is_kept).then_some((conversation, account_seq, now_ms))
    }

    /// Conversations that stay with an account.
    pub(super) fn of_account(&self, account_seq: i64, now_ms: i64) -> usize {
        let is_alive = |pin: &&Pin| pin.account_seq == account_seq && now_ms - pin.used_at_ms < LIFE_MS;
        self.pins.values().filter(is_alive).count()
    }

    fn forget_oldest(&mut self) {
        let mut uses: Vec<i64> = self.pins.values().map(|pin| pin.used_at_ms).collect();
        uses.sort_unstable();
        let bound = uses[uses.len() / 4];
        self.pins.retain(|_, pin| pin.used_at_ms > bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_kept_at_first_when_it_moves_and_now_and_then() {
        let mut affinities = Affinities::default();
        let conversation = [7; 16];
        assert_eq!(affinities.used(conversation, 1, 0), Some((conversation, 1, 0)));
        assert_eq!(affinities.used(conversation, 1, KEPT_EVERY_MS - 1), None);
        assert_eq!(affinities.used(conversation, 1, KEPT_EVERY_MS), Some((conversation, 1, KEPT_EVERY_MS)));
        assert_eq!(affinities.used(conversation, 2, KEPT_EVERY_MS + 1), Some((conversation, 2, KEPT_EVERY_MS + 1)));
        assert_eq!(affinities.account(&conversation, KEPT_EVERY_MS + 2), Some(2));
        assert_eq!(affinities.account(&conversation, KEPT_EVERY_MS + 1 + LIFE_MS), None);
        assert_eq!((affinities.of_account(2, 0), affinities.of_account(1, 0)), (1, 0));
    }

    #[test]
    fn their_number_is_bounded_and_the_oldest_go() {
        let mut affinities = Affinities::default();
        let name = |number: usize| {
            let mut conversation = Conversation::default();
            conversation[..8].copy_from_slice(&number.to_be_bytes());
            conversation
        };
        for number in 0..3 * AFFINITIES_MAX {
            affinities.used(name(number), 1, number as i64);
            assert!(affinities.pins.len() <= AFFINITIES_MAX);
        }
        assert_eq!(affinities.account(&name(0), 0), None);
        assert_eq!(affinities.account(&name(3 * AFFINITIES_MAX - 1), 0), Some(1));
    }
}
