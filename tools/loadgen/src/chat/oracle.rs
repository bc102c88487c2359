//! What must be true at the end, worked out from what senders were told and receivers were handed, and from nothing else.
//!
//! Every message that its sender was told is stored stands at the seq he was told, with his body, and nowhere else;
//! every device of every member was handed each message of its conversations once, in order of seq, without holes; and
//! the unread counts that the platform tells equal a recount of the messages.

use std::collections::HashMap;

use protocol::v1::{self, MessageKind};
use serde::Serialize;

/// Which device of which user.
pub(crate) type DeviceNo = u32;

/// A message as everybody must see it: its number (0: not the generator's), sender and whether it counts as unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    number: u64,
    sender: u64,
    counts: bool,
}

#[derive(Default)]
struct Talk {
    /// By seq; index 0 is seq 1.
    messages: Vec<Option<Known>>,
    /// How far it had come before anything was sent.
    setup: u64,
}

impl Talk {
    fn last(&self) -> u64 {
        self.messages.len() as u64
    }
}

/// What a device was handed of a conversation.
#[derive(Clone, Copy, Default)]
struct Handed {
    begun: bool,
    first: u64,
    last: u64,
}

/// The findings. Everything but the first three must be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Messages that their senders were told are stored.
    pub acknowledged: u64,
    /// Messages of the generator in the conversations: the acknowledged ones, and perhaps some whose answer never came.
    pub stored: u64,
    /// Messages handed out, over all devices.
    pub deliveries: u64,
    /// Acknowledged messages that nobody was handed.
    pub lost: u64,
    /// Messages that stand at two places.
    pub stored_twice: u64,
    /// Messages that two devices, or a sender and a device, saw differently.
    pub contradictions: u64,
    /// Messages handed to a device a second time, or behind a later one.
    pub duplicates: u64,
    /// Messages missing between two that a device was handed, or before the first.
    pub holes: u64,
    /// Messages at the end of a conversation that a device of a member was not handed.
    pub missing: u64,
    /// Messages that their sender was told are refused, and that stand somewhere.
    pub refused_but_stored: u64,
    /// Unread counts, in one conversation or in total, that differ from a recount.
    pub unread_wrong: u64,
    /// Unread counts that were compared.
    pub unread_compared: u64,
}

impl Verdict {
    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        let Self { lost, stored_twice, contradictions, duplicates, holes, missing, .. } = self;
        [lost, stored_twice, contradictions, duplicates, holes, missing].iter().all(|n| **n == 0)
            && (self.refused_but_stored, self.unread_wrong) == (0, 0)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Oracle {
    talks: HashMap<u64, Talk>,
    handed: HashMap<(DeviceNo, u64), Handed>,
    /// Where each message was first seen.
    places: HashMap<u64, (u64, u64)>,
    acked: Vec<(u64, u64, u64)>,
    refused: Vec<u64>,
    /// Read positions as told, by user and conversation.
    reads: HashMap<(u64, u64), u64>,
    found: Verdict,
}

impl Oracle {
    /// A device was handed a message. `number`: which of the generator's it is; 0: none.
    pub fn handed(&mut self, device: DeviceNo, message: &v1::ChatMessage, number: u64) {
        let (conversation, seq) = (message.conversation, message.seq);
        let known = Known {
            number,
            sender: message.sender,
            counts: message.kind < MessageKind::Change as i32 && message.sender != 0,
        };
        self.place(conversation, seq, known);
        self.found.deliveries += u64::from(number != 0);
        let handed = self.handed.entry((device, conversation)).or_default();
        if !handed.begun {
            *handed = Handed { begun: true, first: seq, last: seq };
        } else if seq <= handed.last {
            self.found.duplicates += 1;
        } else {
            self.found.holes += seq - handed.last - 1;
            handed.last = seq;
        }
    }

    fn place(&mut self, conversation: u64, seq: u64, known: Known) {
        let talk = self.talks.entry(conversation).or_default();
        if talk.last() < seq {
            talk.messages.resize(seq as usize, None);
        }
        match &mut talk.messages[seq as usize - 1] {
            Some(there) => self.found.contradictions += u64::from(*there != known),
            place => *place = Some(known),
        }
        if known.number != 0 {
            let first = *self.places.entry(known.number).or_insert((conversation, seq));
            self.found.stored_twice += u64::from(first != (conversation, seq));
        }
    }

    /// For a new device a conversation begins behind this seq.
    pub fn begins(&mut self, device: DeviceNo, conversation: u64, seq: u64) {
        let handed = self.handed.entry((device, conversation)).or_default();
        *handed = Handed { begun: true, first: seq + 1, last: seq };
        let talk = self.talks.entry(conversation).or_default();
        if talk.last() < seq {
            talk.messages.resize(seq as usize, None);
        }
        talk.setup = talk.setup.max(seq);
    }

    /// Messages were left out, which is as bad as a hole here.
    pub fn skipped(&mut self, from: u64, to: u64) {
        self.found.holes += to.saturating_sub(from) + 1;
    }

    /// A sender was told where his message stands.
    pub fn acked(&mut self, number: u64, conversation: u64, seq: u64) {
        self.acked.push((number, conversation, seq));
    }

    /// A sender was told that his message is refused.
    pub fn refused(&mut self, number: u64) {
        self.refused.push(number);
    }

    /// A read position, as told.
    pub fn read(&mut self, user: u64, conversation: u64, seq: u64) {
        let read = self.reads.entry((user, conversation)).or_default();
        *read = (*read).max(seq);
    }

    /// From now on messages are sent: what conversations have come to by now is no part of the test.
    pub fn begin(&mut self) {
        self.talks.values_mut().for_each(|talk| talk.setup = talk.last());
    }

    /// How far a conversation has come.
    pub fn last(&self, conversation: u64) -> u64 {
        self.talks.get(&conversation).map_or(0, Talk::last)
    }

    /// Whether a device has been handed everything.
    pub fn is_level(&self, device: DeviceNo, conversation: u64) -> bool {
        let handed = self.handed.get(&(device, conversation)).copied().unwrap_or_default();
        handed.last >= self.last(conversation)
    }

    /// The platform tells the unread messages of a user in a conversation.
    pub fn unread(&mut self, user: u64, conversation: u64, told: u64) -> u64 {
        let read = self.reads.get(&(user, conversation)).copied().unwrap_or(0);
        let talk = self.talks.get(&conversation);
        let behind = talk.and_then(|talk| talk.messages.get(read as usize..)).unwrap_or_default();
        let counted =
            behind.iter().flatten().filter(|message| message.counts && message.sender != user).count() as u64;
        self.compared(user, conversation, told, counted);
        counted
    }

    /// The platform tells the unread messages of a user in all conversations.
    pub fn unread_total(&mut self, user: u64, told: u64, counted: u64) {
        self.compared(user, 0, told, counted);
    }

    fn compared(&mut self, user: u64, conversation: u64, told: u64, counted: u64) {
        self.found.unread_compared += 1;
        if told != counted {
            self.found.unread_wrong += 1;
            if self.found.unread_wrong <= 5 {
                eprintln!("user {user}, conversation {conversation}: told {told} unread, counted {counted}");
            }
        }
    }

    /// Judges. `members`: the conversations of each device.
    pub fn judge(&mut self, members: impl Iterator<Item = (DeviceNo, u64)>) -> Verdict {
        let mut found = self.found.clone();
        found.acknowledged = self.acked.len() as u64;
        for (number, conversation, seq) in &self.acked {
            match self.places.get(number) {
                // Seq 0: stored before, and the platform no longer knew where.
                Some(place) if *seq == 0 || *place == (*conversation, *seq) => {}
                Some(_) => found.contradictions += 1,
                None => found.lost += 1,
            }
        }
        found.stored = self.places.len() as u64;
        let stored = self.refused.iter().filter(|number| self.places.contains_key(number));
        found.refused_but_stored = stored.count() as u64;
        for (device, conversation) in members {
            let Some(talk) = self.talks.get(&conversation) else { continue };
            match self.handed.get(&(device, conversation)).filter(|handed| handed.begun) {
                Some(handed) => {
                    found.holes += handed.first.saturating_sub(talk.setup + 1);
                    found.missing += talk.last().saturating_sub(handed.last);
                }
                None => found.missing += talk.last() - talk.setup,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(conversation: u64, seq: u64, sender: u64) -> v1::ChatMessage {
        let kind = MessageKind::Text.into();
        v1::ChatMessage { conversation, seq, sender, kind, ..v1::ChatMessage::default() }
    }

    fn good() -> Oracle {
        let mut o = Oracle::default();
        for device in [1, 2] {
            for seq in 1..=3 {
                o.handed(device, &message(7, seq, 5), 100 + seq);
            }
        }
        (1..=3).for_each(|seq| o.acked(100 + seq, 7, seq));
        o
    }

    fn judge(o: &mut Oracle) -> Verdict {
        o.judge([(1, 7), (2, 7)].into_iter())
    }

    #[test]
    fn finds_nothing_where_nothing_is_wrong() {
        let mut o = good();
        o.read(9, 7, 1);
        assert_eq!((o.unread(9, 7, 2), o.unread(5, 7, 0)), (2, 0));
        o.unread_total(9, 2, 2);
        let v = judge(&mut o);
        assert!(v.is_good(), "{v:?}");
        assert_eq!((v.acknowledged, v.stored, v.deliveries, v.unread_compared), (3, 3, 6, 3));
    }

    #[test]
    fn finds_each_thing_that_can_be_wrong() {
        let found = |change: &dyn Fn(&mut Oracle)| {
            let mut o = good();
            change(&mut o);
            let v = judge(&mut o);
            assert!(!v.is_good(), "{v:?}");
            v
        };
        assert_eq!(found(&|o| o.acked(900, 7, 4)).lost, 1);
        assert_eq!(found(&|o| o.acked(101, 7, 2)).contradictions, 1);
        assert_eq!(found(&|o| o.handed(1, &message(7, 4, 5), 101)).stored_twice, 1);
        assert_eq!(found(&|o| o.handed(1, &message(7, 3, 6), 103)).contradictions, 1);
        assert_eq!(found(&|o| o.handed(1, &message(7, 2, 5), 102)).duplicates, 1);
        let ahead = found(&|o| o.handed(1, &message(7, 6, 5), 106));
        assert_eq!((ahead.holes, ahead.missing), (2, 3));
        assert_eq!(found(&|o| o.skipped(4, 6)).holes, 3);
        assert_eq!(found(&|o| o.refused(102)).refused_but_stored, 1);
        assert_eq!(found(&|o| o.unread_total(9, 4, 3)).unread_wrong, 1);
        let late = found(&|o| {
            o.begin();
            o.handed(1, &message(7, 4, 5), 104);
            o.handed(2, &message(7, 4, 5), 104);
            o.handed(3, &message(7, 4, 5), 104);
            o.handed(3, &message(8, 2, 5), 105);
            o.acked(104, 7, 4);
            o.handed.insert((1, 8), Handed { begun: true, first: 2, last: 2 });
            let v = o.judge([(1, 8)].into_iter());
            assert_eq!(v.holes, 1, "the first of conversation 8 was never handed out");
            o.skipped(1, 1);
        });
        assert_eq!(late.missing, 0);
    }
}
