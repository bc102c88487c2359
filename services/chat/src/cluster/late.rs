//! Timelines that do not acknowledge, while the others of their conversation go on.
//!
//! Ordinarily a conversation's round waits for everybody whom it concerns. A timeline that the store refuses, or that has no
//! owner for long, would hold up everybody else then. So a round that has waited for some seconds, while there is more to
//! hand on, is set aside with those who are missing: for the others it is over. Later rounds are divided: whoever is
//! missing in one set aside gets his part behind that, and each timeline is sent its oldest round alone, so that it gets
//! everything in order.
//!
//! What the store knows of how far timelines are stays where it was before the first round set aside. So the next owner of the
//! conversation begins there, and tells everybody everything since, which does no harm twice. For that, who is in the
//! conversation must not change meanwhile: such changes are refused until nobody is late. A change that was under way when
//! somebody became late is the first thing behind that place, and its round says whom it concerns.

use super::HAND_AGAIN_MS;
use super::conversations::Conversations;
use super::hand::{Ack, Hand, Place};
use super::work::{Round, Work};
use std::collections::BTreeSet;

/// Who has not acknowledged for so long is late, in ms: longer than a killed node's buckets take to have another owner.
const LATE_MS: u64 = 5_000;
/// Rounds of a conversation that are kept for timelines that are late; with so many, the others wait too.
pub(super) const LATE_ROUNDS_MAX: usize = 32;

impl Round {
    /// It is to be sent (again).
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.sent_ms == 0 || now_ms >= self.sent_ms + HAND_AGAIN_MS
    }

    /// It is sent for these.
    pub fn hand(&mut self, places: Vec<Place>, now_ms: u64) -> Hand {
        self.sent_ms = now_ms;
        if self.since_ms == 0 {
            self.since_ms = now_ms;
        }
        Hand { key: self.key, large: self.large, messages: self.messages.clone(), places }
    }
}

impl<T> Work<T> {
    /// A new round, without those who have older ones before them: theirs comes behind these.
    pub fn put_behind_late(&mut self, mut round: Round) -> Round {
        if self.late.is_empty() {
            return round;
        }
        let late: BTreeSet<u64> = self.late.iter().flat_map(|r| &r.places).map(|place| place.user).collect();
        let all = std::mem::take(&mut round.places);
        let (behind, places): (Vec<Place>, Vec<Place>) =
            all.into_iter().partition(|place| late.contains(&place.user));
        round.places = places;
        if !behind.is_empty() {
            let messages = round.messages.clone();
            self.late.push_back(Round { messages, places: behind, ..round });
        }
        round
    }

    /// What is to be sent to timelines that are late: to each its oldest round.
    pub fn late_hands(&mut self, now_ms: u64, hands: &mut Vec<Hand>) {
        let mut before: BTreeSet<u64> = BTreeSet::new();
        for round in &mut self.late {
            let users: Vec<u64> = round.places.iter().map(|place| place.user).collect();
            if round.is_due(now_ms) {
                let now = round.places.iter().filter(|place| !before.contains(&place.user));
                let places: Vec<Place> = now.copied().collect();
                if !places.is_empty() {
                    hands.push(round.hand(places, now_ms));
                }
            }
            before.extend(users);
        }
    }

    /// Some have acknowledged a round. True when somebody who was late can have his next one.
    pub fn late_acked(&mut self, ack: &Ack, users: &BTreeSet<u64>) -> bool {
        let Some(at) = self.late.iter().position(|round| round.key == ack.key) else { return false };
        let before = self.late[at].places.len();
        self.late[at].places.retain(|place| !users.contains(&place.user));
        if self.late[at].places.len() == before {
            return false;
        }
        self.late.iter_mut().skip(at + 1).for_each(|round| round.sent_ms = 0);
        self.late.retain(|round| !round.places.is_empty());
        true
    }
}

impl<T> Conversations<T> {
    /// If a conversation's round has waited for too long, and others wait for what is behind it, they go on without those
    /// who are missing.
    pub(super) fn set_aside(&mut self, id: u64, now_ms: u64) {
        let Some(work) = self.works.get_mut(&id).filter(|work| work.late.len() < LATE_ROUNDS_MAX) else {
            return;
        };
        let Some(round) = work.round.as_ref() else { return };
        let is_changing = self.state.conversations.get(&id).is_some_and(|c| c.changing);
        let has_more = !round.is_whole || work.version > round.key.version || is_changing;
        if round.since_ms == 0 || now_ms < round.since_ms + LATE_MS || !has_more {
            return;
        }
        tracing::warn!(
            conversation = id,
            missing = round.places.len(),
            user = round.places.first().map_or(0, |place| place.user),
            "timelines do not take what they are handed; the others go on without them"
        );
        let kept = Round { messages: round.messages.clone(), places: round.places.clone(), ..*round };
        let floor = work.fanned;
        work.floor.get_or_insert(floor);
        work.late.push_back(kept);
        self.finish(id);
        self.form(id);
    }

    /// If nobody is late any more, the store may know how far all are.
    pub(super) fn caught_up(&mut self, id: u64) {
        let Some(work) = self.works.get_mut(&id).filter(|work| work.late.is_empty()) else { return };
        work.floor = None;
        if work.round.is_none() {
            self.rounds.remove(&id);
        }
        self.marks.insert(id);
        self.trim(id);
    }

    /// Conversations in which some timelines are late.
    pub fn late(&self) -> usize {
        self.rounds.iter().filter_map(|id| self.works.get(id)).filter(|work| !work.late.is_empty()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::HandKey;

    fn round(version: u64, users: &[u64]) -> Round {
        let key = HandKey { node: 1, epoch: 1, term: 1, conversation: 7, version, to_seq: version };
        let place = |user: &u64| Place { user: *user, ..Place::default() };
        let places = users.iter().map(place).collect();
        Round { key, is_whole: true, large: false, messages: Vec::new(), places, sent_ms: 0, since_ms: 0 }
    }

    fn sent(work: &mut Work<()>, now_ms: u64) -> Vec<(u64, Vec<u64>)> {
        let mut hands = Vec::new();
        work.late_hands(now_ms, &mut hands);
        let users = |hand: &Hand| hand.places.iter().map(|place| place.user).collect();
        hands.iter().map(|hand| (hand.key.version, users(hand))).collect()
    }

    #[test]
    fn each_late_timeline_gets_its_rounds_one_after_the_other() {
        let mut work: Work<()> = Work::new(1, 9, 9, Default::default());
        work.late.push_back(round(1, &[2, 3]));
        let rest = work.put_behind_late(round(2, &[1, 2, 3]));
        assert_eq!(rest.places.iter().map(|p| p.user).collect::<Vec<_>>(), [1]);
        work.late.push_back(round(3, &[1]));
        assert_eq!(sent(&mut work, 1_000), [(1, vec![2, 3]), (3, vec![1])]);
        assert_eq!(sent(&mut work, 1_999), []);
        let ack = |version| Ack { key: round(version, &[]).key, users: Vec::new() };
        // Of a round that he has not been sent, and of one that is over.
        assert!(!work.late_acked(&ack(3), &[2].into()) && !work.late_acked(&ack(4), &[2].into()));
        assert!(work.late_acked(&ack(1), &[2].into()));
        assert_eq!(sent(&mut work, 1_500), [(2, vec![2]), (3, vec![1])]);
        assert!(work.late_acked(&ack(1), &[3].into()) && work.late_acked(&ack(3), &[1].into()));
        assert_eq!(sent(&mut work, 1_600), [(2, vec![2, 3])]);
        assert!(work.late_acked(&ack(2), &[2, 3].into()) && work.late.is_empty());
    }
}
