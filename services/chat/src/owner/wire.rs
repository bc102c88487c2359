//! What nodes say to each other, between the cores' types and the bytes of the link.
//!
//! A message is filled up to some size and then said; what is too large for one is cut by users, so that each part is
//! acknowledged by itself.

use crate::cluster::{Ack, Between, Hand, HandKey, Place};
use prost::Message as _;
use protocol::calls::CallError;
use protocol::calls::limits::PEER_MESSAGE_MAX;
use protocol::peers as v1;
use protocol::v1::Head;
use records::{ChatMessage, DecodeError, Record as _};
use std::sync::Arc;

/// A message is closed when it has so many bytes, about.
const SAY_BYTES: usize = 256 << 10;
/// Places of one part of a hand.
const PLACES_MAX: usize = 2_000;
/// Bytes of a place, at most.
const PLACE_BYTES: usize = 96;
/// Users of one part of an acknowledgement.
const ACK_USERS: usize = 8_192;
/// Watches in one message.
const WATCHES_MAX: usize = 8_192;

const _: () = assert!(PLACES_MAX * PLACE_BYTES + SAY_BYTES < PEER_MESSAGE_MAX);
const _: () = assert!(ACK_USERS * 8 + SAY_BYTES < PEER_MESSAGE_MAX);

/// Something that another node said and that can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeardError {
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    #[error("a message in a hand: {0}")]
    Message(#[from] DecodeError),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{what} {number} is not possible")]
    Number { what: &'static str, number: u32 },
}

/// Puts messages for one node together.
#[derive(Default)]
pub(super) struct Saying {
    say: v1::Say,
    bytes: usize,
    full: Vec<Vec<u8>>,
}

impl Saying {
    fn add(&mut self, bytes: usize, put: impl FnOnce(&mut v1::Say)) {
        put(&mut self.say);
        self.bytes += bytes;
        if self.bytes >= SAY_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.bytes > 0 {
            self.full.push(std::mem::take(&mut self.say).encode_to_vec());
            self.bytes = 0;
        }
    }

    /// A hand.
    pub fn hand(&mut self, hand: &Hand) {
        let messages: Vec<Vec<u8>> = hand.messages.iter().map(|m| m.encode()).collect();
        let size: usize = messages.iter().map(|m| m.len() + 8).sum::<usize>() + 64;
        for places in hand.places.chunks(PLACES_MAX) {
            let row = v1::Hand {
                key: Some(key_row(hand.key)),
                large: hand.large,
                messages: messages.clone(),
                places: places.iter().map(place_row).collect(),
            };
            self.make_room(size + places.len() * PLACE_BYTES);
            self.add(size + places.len() * PLACE_BYTES, |say| say.hands.push(row));
        }
    }

    /// What comes would make a message too large that has something in it already.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes + bytes > PEER_MESSAGE_MAX {
            self.close();
        }
    }

    /// An acknowledgement.
    pub fn ack(&mut self, ack: &Ack) {
        for users in ack.users.chunks(ACK_USERS) {
            let row = v1::Ack { key: Some(key_row(ack.key)), users: users.to_vec() };
            self.add(64 + users.len() * 8, |say| say.acks.push(row));
        }
    }

    /// A head.
    pub fn head(&mut self, head: Head) {
        self.add(head.encoded_len() + 8, |say| say.heads.push(head));
    }

    /// Large conversations that are watched.
    pub fn watches(&mut self, watches: &[u64]) {
        for some in watches.chunks(WATCHES_MAX) {
            self.add(some.len() * 8 + 8, |say| say.watches.extend_from_slice(some));
        }
    }

    /// Something to be decided there.
    pub fn relay(&mut self, relay: v1::Relay) {
        self.add(relay.encoded_len() + 8, |say| say.relays.push(relay));
    }

    /// The answer to that.
    pub fn relayed(&mut self, relayed: v1::Relayed) {
        self.add(relayed.encoded_len() + 8, |say| say.relayed.push(relayed));
    }

    /// Users whose presence is watched.
    pub fn presence_watch(&mut self, user: u64) {
        self.add(16, |say| say.presence_watches.push(v1::PresenceWatch { user }));
    }

    /// A user came or went.
    pub fn presence(&mut self, told: v1::PresenceTold) {
        self.add(48, |say| say.presence.push(told));
    }

    /// The messages.
    pub fn take(mut self) -> Vec<Vec<u8>> {
        self.close();
        self.full
    }
}

fn key_row(key: HandKey) -> v1::HandKey {
    v1::HandKey {
        node: u32::from(key.node),
        epoch: key.epoch,
        term: key.term,
        conversation: key.conversation,
        version: key.version,
        to_seq: key.to_seq,
    }
}

fn key_of(row: Option<v1::HandKey>) -> Result<HandKey, HeardError> {
    let row = row.ok_or(HeardError::Missing("a hand's name"))?;
    let node = u16::try_from(row.node).map_err(|_| HeardError::Number { what: "node", number: row.node })?;
    let v1::HandKey { epoch, term, conversation, version, to_seq, .. } = row;
    Ok(HandKey { node, epoch, term, conversation, version, to_seq })
}

fn place_row(place: &Place) -> v1::Place {
    let between =
        place.between.map(|b| v1::Between { peer: b.peer, asks: b.asks, asked: b.asked, blocks: b.blocks });
    v1::Place {
        user: place.user,
        first_seq: place.first_seq,
        until_seq: place.until_seq,
        member: place.member,
        link: place.link,
        tell: place.tell,
        unread: place.unread,
        read_seq: place.read_seq,
        between,
    }
}

fn place_of(row: v1::Place) -> Place {
    let between =
        row.between.map(|b| Between { peer: b.peer, asks: b.asks, asked: b.asked, blocks: b.blocks });
    Place {
        user: row.user,
        first_seq: row.first_seq,
        until_seq: row.until_seq,
        member: row.member,
        link: row.link,
        tell: row.tell,
        unread: row.unread,
        read_seq: row.read_seq,
        between,
    }
}

/// Reads a hand.
pub(super) fn hand_of(row: v1::Hand) -> Result<Hand, HeardError> {
    let key = key_of(row.key)?;
    let mut messages = Vec::with_capacity(row.messages.len());
    for bytes in &row.messages {
        messages.push(Arc::new(ChatMessage::decode(bytes)?));
    }
    let places = row.places.into_iter().map(place_of).collect();
    Ok(Hand { key, large: row.large, messages, places })
}

/// Reads an acknowledgement.
pub(super) fn ack_of(row: v1::Ack) -> Result<Ack, HeardError> {
    Ok(Ack { key: key_of(row.key)?, users: row.users })
}

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Result<v1::Say, HeardError> {
    Ok(v1::Say::decode(bytes)?)
}

/// A failed call.
pub(super) fn failure_row(error: &CallError) -> v1::Failure {
    use v1::FailureKind as Kind;
    let (kind, text, retry_ms) = match error {
        CallError::NotFound(text) => (Kind::NotFound, text.clone(), 0),
        CallError::Invalid(text) => (Kind::Invalid, text.clone(), 0),
        CallError::Refused(text) => (Kind::Refused, text.clone(), 0),
        CallError::Busy(ms) => (Kind::Busy, String::new(), *ms),
        CallError::Unavailable(text) => (Kind::Unavailable, text.clone(), 0),
    };
    v1::Failure { kind: kind.into(), text, retry_ms }
}

/// Reads it.
pub(super) fn failure_of(row: v1::Failure) -> CallError {
    use v1::FailureKind as Kind;
    match row.kind() {
        Kind::NotFound => CallError::NotFound(row.text),
        Kind::Invalid => CallError::Invalid(row.text),
        Kind::Refused => CallError::Refused(row.text),
        Kind::Busy => CallError::Busy(row.retry_ms),
        Kind::Unavailable | Kind::Unspecified => CallError::Unavailable(row.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_place() -> impl Strategy<Value = Place> {
        (any::<[u64; 6]>(), any::<[bool; 7]>()).prop_map(|(n, b)| Place {
            user: n[0],
            first_seq: n[1],
            until_seq: n[2],
            member: b[0],
            link: b[1],
            tell: b[2],
            unread: n[3],
            read_seq: n[4],
            between: b[3].then_some(Between { peer: n[5], asks: b[4], asked: b[5], blocks: b[6] }),
        })
    }

    fn hand(bodies: &[usize], places: Vec<Place>) -> Hand {
        let key =
            HandKey { node: 3, epoch: 4, term: 5, conversation: u64::MAX, version: 7, to_seq: u64::MAX };
        let message = |(at, len): (usize, &usize)| {
            let (seq, body) = (at as u64, vec![at as u8; *len]);
            Arc::new(ChatMessage { seq, body, ..ChatMessage::default() })
        };
        let messages = bodies.iter().enumerate().map(message).collect();
        Hand { key, large: places.len() % 2 == 1, messages, places }
    }

    fn heard(saying: Saying) -> (Vec<Hand>, Vec<Ack>) {
        let (mut hands, mut acks) = (Vec::new(), Vec::new());
        for bytes in saying.take() {
            assert!(bytes.len() <= PEER_MESSAGE_MAX, "{} bytes", bytes.len());
            let say = read(&bytes).unwrap();
            hands.extend(say.hands.into_iter().map(|row| hand_of(row).unwrap()));
            acks.extend(say.acks.into_iter().map(|row| ack_of(row).unwrap()));
        }
        (hands, acks)
    }

    #[test]
    fn what_is_large_is_cut_by_users_and_nothing_is_lost() {
        let place = |user| Place { user, first_seq: u64::MAX, unread: u64::MAX, ..Place::default() };
        let hand = hand(&[3_072; 128], (0..5_001).map(place).collect());
        let mut saying = Saying::default();
        (0..3).for_each(|_| saying.hand(&hand));
        saying.ack(&Ack { key: hand.key, users: (0..20_000).collect() });
        let (hands, acks) = heard(saying);
        assert_eq!((hands.len(), acks.len()), (9, 3));
        let places: usize = hands.iter().map(|h| h.places.len()).sum();
        assert_eq!((places, acks.iter().map(|a| a.users.len()).sum::<usize>()), (15_003, 20_000));
        assert!(hands.iter().all(|h| h.key == hand.key && h.messages == hand.messages));
    }

    #[test]
    fn failures_are_what_they_were() {
        let text = || "why".to_owned();
        for error in [
            CallError::NotFound(text()),
            CallError::Invalid(text()),
            CallError::Refused(text()),
            CallError::Busy(7),
            CallError::Unavailable(text()),
        ] {
            assert_eq!(failure_of(failure_row(&error)), error);
        }
    }

    proptest! {
        #[test]
        fn hands_and_acknowledgements_come_as_they_went(
            places in prop::collection::vec(any_place(), 1..20), bodies in prop::collection::vec(0usize..300, 0..10),
            users in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let hand = hand(&bodies, places);
            prop_assert!(hand.places.iter().all(|p| place_row(p).encoded_len() + 4 <= PLACE_BYTES));
            let ack = Ack { key: hand.key, users };
            let mut saying = Saying::default();
            saying.hand(&hand);
            saying.ack(&ack);
            prop_assert_eq!(heard(saying), (vec![hand], vec![ack]));
        }

        #[test]
        fn whatever_is_heard_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(say) = read(&bytes) {
                say.hands.into_iter().for_each(|row| drop(hand_of(row)));
                say.acks.into_iter().for_each(|row| drop(ack_of(row)));
            }
        }
    }
}
