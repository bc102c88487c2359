//! Messages by seq for a member: which he gets, which of them memory has, which the store.

use super::conversation::{Conversation, Member};
use super::pushes::wire;
use super::views::limit;
use crate::limits::ANSWER_BYTES_MAX;
use protocol::v1::{RangeAnswer, RangeRequest};
use records::ChatMessage;
use std::sync::Arc;

/// Messages of an answer, when none are asked for, and at most.
const RANGE: (usize, usize) = (50, 200);

/// How a range is answered. It holds as of the moment when it was made.
#[derive(Clone, PartialEq, Debug)]
pub struct RangePlan {
    from: u64,
    to: u64,
    first: u64,
    last: u64,
    newest_first: bool,
    more: bool,
    /// For each seq from `from`: whether he sees it, and whether it is recalled.
    seen: Vec<(bool, bool)>,
    /// The end of it that is at hand, rising.
    hot: Vec<Arc<ChatMessage>>,
}

impl RangePlan {
    /// For a member. `last`: the last message that is durable.
    pub fn new(conversation: &Conversation, member: &Member, ask: &RangeRequest, last: u64) -> RangePlan {
        let count = limit(ask.limit, RANGE.0, RANGE.1) as u64;
        let first = member.first_seq().max(1);
        let low = ask.from_seq.max(first);
        let high = if ask.to_seq == 0 { last } else { ask.to_seq.min(last) };
        let (from, to) = match ask.newest_first {
            true => (low.max((high + 1).saturating_sub(count)), high),
            false => (low, high.min(low.saturating_add(count - 1))),
        };
        let more = low <= high && (from > low || to < high);
        let seen = |seq| (member.sees(seq), conversation.head.is_recalled(seq));
        let hot = (from.max(conversation.recent_from())..=to)
            .map_while(|seq| conversation.recent(seq).map(Arc::clone));
        let (seen, hot) = ((from..=to).map(seen).collect(), hot.collect());
        RangePlan { from, to, first, last, newest_first: ask.newest_first, more, seen, hot }
    }

    /// What is to be read from the store, both ends inclusive.
    pub fn reads(&self) -> Option<(u64, u64)> {
        let to = self.hot.first().map_or(self.to, |m| m.seq - 1);
        (self.from <= to).then_some((self.from, to))
    }

    /// The answer. `stored`: what was to be read.
    pub fn answer(self, stored: Vec<ChatMessage>) -> RangeAnswer {
        let mut found: Vec<Arc<ChatMessage>> = stored.into_iter().map(Arc::new).collect();
        found.extend(self.hot);
        if self.newest_first {
            found.reverse();
        }
        let (mut bytes, mut more) = (0, self.more);
        let mut messages = Vec::new();
        for message in found {
            let at = message.seq.checked_sub(self.from).and_then(|at| usize::try_from(at).ok());
            let Some((true, recalled)) = at.and_then(|at| self.seen.get(at)).copied() else { continue };
            bytes += message.body.len();
            if bytes > ANSWER_BYTES_MAX && !messages.is_empty() {
                more = true;
                break;
            }
            messages.push(wire(&message, recalled));
        }
        RangeAnswer { messages, first_seq: self.first, last_seq: self.last, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(seq: u64) -> ChatMessage {
        ChatMessage { conversation: 7, seq, body: vec![seq as u8], kind: 1, ..ChatMessage::default() }
    }

    proptest! {
        #[test]
        fn whatever_memory_has_the_answer_is_the_same(
            hot in 0u64..20, joined in 1u64..6, cleared in 0u64..8, deleted in prop::collection::btree_set(1u64..20, 0..6),
            from in 0u64..25, to in 0u64..25, count in 0u32..9, newest_first: bool, recalled in 1u64..20, last in 1u64..20,
        ) {
            let mut conversation = Conversation::default();
            conversation.head.last_seq = 19;
            conversation.head.uncount(recalled, 5);
            conversation.recent = (20 - hot..20).map(|seq| Arc::new(message(seq))).collect();
            let mut member = Member { joined_seq: joined, cleared_seq: cleared, ..Member::default() };
            deleted.iter().for_each(|seq| member.delete(*seq, true));
            let ask = RangeRequest { conversation: 7, from_seq: from, to_seq: to, limit: count, newest_first };
            let plan = RangePlan::new(&conversation, &member, &ask, last);
            let stored = plan.reads().map_or(Vec::new(), |(from, to)| (from..=to).map(message).collect());
            let answer = plan.answer(stored);
            // In plain words: of those that were asked for and are there the first ones, or the last ones.
            let high = if to == 0 { last } else { to.min(last) };
            let low = from.max(joined.max(cleared + 1));
            let mut all: Vec<u64> = (low..=high).collect();
            if newest_first {
                all.reverse();
            }
            let limit = if count == 0 { 50 } else { count as usize };
            let more = all.len() > limit;
            all.truncate(limit);
            all.retain(|seq| !deleted.contains(seq));
            let got: Vec<u64> = answer.messages.iter().map(|m| m.seq).collect();
            prop_assert_eq!((got, answer.more, answer.last_seq), (all, more, last));
            prop_assert!(answer.messages.iter().all(|m| m.recalled == (m.seq == recalled) && m.recalled == m.body.is_empty()));
        }
    }
}
