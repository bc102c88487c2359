//! Which submits of one connection are unanswered, without the connection: time is handed in, replies come out.
//!
//! The promise of [`Draws`](crate::calls::Draws), each call answered exactly once, is kept here. A call leaves the
//! table by the other side's reply, by its time running out, or by the end of the connection; whatever comes for it
//! afterwards finds nothing. The last two are told 'pending, ask again': the other side may have decided, and the
//! same counter again finds out.

use super::mail::Mail;
use crate::calls::Inbox;
use crate::calls::draws::{SubmitCall, SubmitReply};
use crate::calls::wire::ReplyRow;
use crate::v1::Outcome;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Spare lists kept for the next batches.
const SPARE_MAX: usize = 256;

/// A larger spare list is given back.
const SPARE_CALLS_MAX: usize = 4096;

/// Batch numbers rise by one, so a multiplication spreads them well enough.
#[derive(Default)]
pub struct Rising(u64);

impl Hasher for Rising {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 << 8) | u64::from(byte);
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

struct Kept {
    tag: u64,
    user: u64,
    counter: u32,
    answered: bool,
}

struct Batch {
    inbox: Arc<Inbox>,
    calls: Vec<Kept>,
    left: u32,
}

/// The table.
#[derive(Default)]
pub struct Pending {
    batches: HashMap<u32, Batch, BuildHasherDefault<Rising>>,
    /// Batches in the order of their deadlines; those that are answered stay until they come to the front.
    order: VecDeque<(u64, u32)>,
    unanswered: usize,
    spare: Vec<Vec<Kept>>,
}

impl Pending {
    /// Calls that are unanswered.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Takes a batch under a number that no unanswered one has. Deadlines (monotonic ms) must not fall from call
    /// to call.
    pub fn add(&mut self, id: u32, calls: &[SubmitCall], inbox: &Arc<Inbox>, deadline_ms: u64) {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.extend(calls.iter().map(|call| Kept {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            answered: false,
        }));
        self.unanswered += kept.len();
        let batch = Batch { inbox: Arc::clone(inbox), left: kept.len() as u32, calls: kept };
        let before = self.batches.insert(id, batch);
        debug_assert!(before.is_none(), "batch number {id} is still in use");
        while let Some(&(_, front)) = self.order.front()
            && !self.batches.contains_key(&front)
        {
            self.order.pop_front();
        }
        self.order.push_back((deadline_ms, id));
    }

    /// Takes a reply; one that nobody waits for (any more) is dropped, and false returned.
    pub fn answer(&mut self, row: ReplyRow, mail: &mut Mail) -> bool {
        let (id, place) = ((row.mark >> 32) as u32, row.mark as u32 as usize);
        let Some(batch) = self.batches.get_mut(&id) else { return false };
        let Some(call) = batch.calls.get_mut(place).filter(|call| !call.answered) else { return false };
        call.answered = true;
        batch.left -= 1;
        let reply = SubmitReply {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            next_counter: row.next_counter,
            outcome: row.outcome,
            next_submit_ms: row.next_submit_ms,
            until_ms: row.until_ms,
            award: row.award,
        };
        mail.put(&batch.inbox, reply);
        self.unanswered -= 1;
        if batch.left == 0
            && let Some(batch) = self.batches.remove(&id)
        {
            self.reuse(batch.calls);
        }
        true
    }

    /// Answers those whose time is over with 'pending, ask again in `wait_ms`'; gives how many.
    pub fn expire(&mut self, mono_ms: u64, wait_ms: u32, mail: &mut Mail) -> usize {
        let before = self.unanswered;
        while let Some(&(deadline_ms, id)) = self.order.front()
            && (deadline_ms <= mono_ms || !self.batches.contains_key(&id))
        {
            self.order.pop_front();
            self.give_up(id, wait_ms, mail);
        }
        before - self.unanswered
    }

    /// The connection has ended: answers everybody; gives how many.
    pub fn give_up_all(&mut self, wait_ms: u32, mail: &mut Mail) -> usize {
        let before = self.unanswered;
        while let Some((_, id)) = self.order.pop_front() {
            self.give_up(id, wait_ms, mail);
        }
        debug_assert!(self.batches.is_empty() && self.unanswered == 0);
        before
    }

    fn give_up(&mut self, id: u32, wait_ms: u32, mail: &mut Mail) {
        let Some(batch) = self.batches.remove(&id) else { return };
        self.unanswered -= batch.left as usize;
        for call in batch.calls.iter().filter(|call| !call.answered) {
            mail.put(&batch.inbox, ask_again(call.tag, call.user, call.counter, Outcome::Pending, wait_ms));
        }
        self.reuse(batch.calls);
    }

    fn reuse(&mut self, mut calls: Vec<Kept>) {
        if self.spare.len() < SPARE_MAX && calls.capacity() <= SPARE_CALLS_MAX {
            calls.clear();
            self.spare.push(calls);
        }
    }
}

/// A reply that leaves the counter as it is. Waits are spread over half as much again by the user, so that those who
/// heard it together don't come back together.
pub fn ask_again(tag: u64, user: u64, counter: u32, outcome: Outcome, wait_ms: u32) -> SubmitReply {
    let mixed = user.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let spread = (mixed * (u64::from(wait_ms / 2) + 1)) >> 32;
    SubmitReply {
        tag,
        user,
        counter,
        next_counter: counter,
        outcome,
        next_submit_ms: wait_ms + spread as u32,
        until_ms: 0,
        award: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    fn calls(tags: std::ops::Range<u64>) -> Vec<SubmitCall> {
        tags.map(|tag| SubmitCall { tag, user: tag + 1000, counter: 5, ..SubmitCall::default() }).collect()
    }

    fn lost(id: u32, place: u32) -> ReplyRow {
        ReplyRow {
            mark: u64::from(id) << 32 | u64::from(place),
            next_counter: 6,
            next_submit_ms: 7,
            until_ms: 0,
            outcome: Outcome::Lost,
            award: None,
        }
    }

    fn taken(inbox: &Inbox) -> Vec<SubmitReply> {
        let mut out = Vec::new();
        while inbox.take(&mut out, Waker::noop()) {}
        out
    }

    #[test]
    fn a_reply_finds_its_call_and_a_second_one_finds_nothing() {
        let (mut table, mut mail, inbox) = (Pending::default(), Mail::default(), Arc::new(Inbox::new()));
        table.add(3, &calls(10..12), &inbox, 100);
        assert!(table.answer(lost(3, 1), &mut mail));
        assert!(!table.answer(lost(3, 1), &mut mail) && !table.answer(lost(3, 2), &mut mail));
        assert!(!table.answer(lost(4, 0), &mut mail));
        assert_eq!(table.expire(99, 300, &mut mail), 0);
        assert_eq!(table.expire(100, 300, &mut mail), 1);
        assert!(!table.answer(lost(3, 0), &mut mail), "it is late");
        mail.deliver();
        let said: Vec<_> = taken(&inbox)
            .into_iter()
            .map(|r| (r.tag, r.user, r.outcome, r.next_counter, r.next_submit_ms))
            .collect();
        assert_eq!(said[0], (11, 1011, Outcome::Lost, 6, 7));
        assert_eq!((said[1].0, said[1].1, said[1].2, said[1].3), (10, 1010, Outcome::Pending, 5));
        assert!((300..=450).contains(&said[1].4));
        assert_eq!((table.unanswered(), table.batches.len()), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask {
            inbox: usize,
            calls: u64,
        },
        /// A reply for a batch, made up or not.
        Reply {
            id: u32,
            place: u32,
        },
        Pass(u64),
        Break,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0usize..3, 1u64..6).prop_map(|(inbox, calls)| Step::Ask { inbox, calls }),
            6 => (0u32..40, 0u32..7).prop_map(|(id, place)| Step::Reply { id, place }),
            1 => (1u64..80).prop_map(Step::Pass),
            1 => Just(Step::Break),
        ]
    }

    proptest! {
        /// Whatever is answered, repeated, late or cut: each call hears exactly once, in the inbox it came from.
        #[test]
        fn each_call_is_answered_exactly_once(steps in prop::collection::vec(step(), 1..120)) {
            let (mut table, mut mail) = (Pending::default(), Mail::default());
            let inboxes: Vec<_> = (0..3).map(|_| Arc::new(Inbox::new())).collect();
            let mut asked: Vec<Vec<u64>> = vec![vec![]; 3];
            let (mut next_id, mut next_tag, mut now) = (0u32, 0u64, 0u64);
            for step in steps {
                match step {
                    Step::Ask { inbox, calls: n } => {
                        table.add(next_id, &calls(next_tag..next_tag + n), &inboxes[inbox], now + 50);
                        asked[inbox].extend(next_tag..next_tag + n);
                        (next_id, next_tag) = (next_id + 1, next_tag + n);
                    }
                    Step::Reply { id, place } => {
                        table.answer(lost(id, place), &mut mail);
                    }
                    Step::Pass(ms) => {
                        now += ms;
                        table.expire(now, 300, &mut mail);
                    }
                    Step::Break => {
                        table.give_up_all(300, &mut mail);
                        prop_assert_eq!(table.unanswered(), 0);
                    }
                }
            }
            table.give_up_all(300, &mut mail);
            mail.deliver();
            for (inbox, asked) in inboxes.iter().zip(&asked) {
                let mut heard: Vec<_> = taken(inbox).iter().map(|reply| reply.tag).collect();
                heard.sort_unstable();
                prop_assert_eq!(&heard, asked);
            }
        }
    }
}
