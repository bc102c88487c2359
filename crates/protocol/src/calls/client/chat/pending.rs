//! Which messages of one connection to chat are unanswered, without the connection: time is handed in, answers come out.
//!
//! The promise of [`Chat`](crate::calls::Chat), each call answered exactly once, is kept here, as
//! [`super::super::pending`] keeps that of draws. Marks rise by one, so the table is a queue: the place of a message follows from
//! its mark, and the front has the earliest deadline.

use crate::calls::client::mail::Mail;
use crate::calls::{Inbox, SendCall, SendReply};
use crate::v1::{Send, SendAnswer, SendOutcome};
use std::collections::VecDeque;
use std::sync::Arc;

struct Kept {
    tag: u64,
    conversation: u64,
    counter: u64,
    user: u64,
    deadline_ms: u64,
    inbox: Arc<Inbox<SendReply>>,
}

/// The table.
#[derive(Default)]
pub(super) struct Sends {
    /// Those from mark `first` on; none for one that is answered.
    kept: VecDeque<Option<Kept>>,
    first: u64,
    unanswered: usize,
}

impl Sends {
    /// Messages that are unanswered.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// How many places are taken: answered ones behind an unanswered one count.
    pub fn places(&self) -> usize {
        self.kept.len()
    }

    /// Takes messages; gives the mark of the first, the others have the following ones. Deadlines (monotonic ms) must not
    /// fall from call to call.
    pub fn add(&mut self, calls: &[SendCall], inbox: &Arc<Inbox<SendReply>>, deadline_ms: u64) -> u64 {
        let mark = self.first + self.kept.len() as u64;
        self.unanswered += calls.len();
        self.kept.extend(calls.iter().map(|call| {
            Some(Kept {
                tag: call.tag,
                conversation: call.send.conversation,
                counter: call.send.counter,
                user: call.send.user,
                deadline_ms,
                inbox: Arc::clone(inbox),
            })
        }));
        mark
    }

    /// Takes an answer; one that nobody waits for (any more) is dropped, and false returned.
    pub fn answer(&mut self, mark: u64, answer: SendAnswer, mail: &mut Mail<SendReply>) -> bool {
        let Some(place) = mark.checked_sub(self.first).and_then(|place| usize::try_from(place).ok()) else {
            return false;
        };
        let Some(kept) = self.kept.get_mut(place).and_then(Option::take) else { return false };
        self.unanswered -= 1;
        mail.put(&kept.inbox, SendReply { tag: kept.tag, answer });
        self.drop_answered();
        true
    }

    fn drop_answered(&mut self) {
        while let Some(None) = self.kept.front() {
            self.kept.pop_front();
            self.first += 1;
        }
    }

    /// Answers those whose time is over with 'pending, send the same again'; gives how many.
    pub fn expire(&mut self, mono_ms: u64, wait_ms: u32, mail: &mut Mail<SendReply>) -> usize {
        let before = self.unanswered;
        while let Some(Some(kept)) = self.kept.front()
            && kept.deadline_ms <= mono_ms
        {
            self.give_up_first(wait_ms, mail);
            self.drop_answered();
        }
        before - self.unanswered
    }

    /// The connection has ended: answers everybody. Marks of the next connection are others.
    pub fn give_up_all(&mut self, wait_ms: u32, mail: &mut Mail<SendReply>) {
        while !self.kept.is_empty() {
            self.give_up_first(wait_ms, mail);
        }
    }

    fn give_up_first(&mut self, wait_ms: u32, mail: &mut Mail<SendReply>) {
        let Some(first) = self.kept.pop_front() else { return };
        self.first += 1;
        let Some(kept) = first else { return };
        self.unanswered -= 1;
        let Kept { tag, conversation, counter, user, .. } = kept;
        let send = Send { conversation, counter, user, ..Send::default() };
        let answer = ask_again(&send, SendOutcome::Pending, wait_ms, "no answer came; send the same again");
        mail.put(&kept.inbox, SendReply { tag, answer });
    }
}

/// An answer that says nothing about the message. Waits are spread over half as much again by the user, so that those who
/// heard it together don't come back together.
pub(super) fn ask_again(send: &Send, outcome: SendOutcome, wait_ms: u32, reason: &str) -> SendAnswer {
    let mixed = send.user.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let spread = (mixed * (u64::from(wait_ms / 2) + 1)) >> 32;
    SendAnswer {
        outcome: outcome.into(),
        conversation: send.conversation,
        counter: send.counter,
        user: send.user,
        retry_after_ms: wait_ms + spread as u32,
        reason: reason.to_owned(),
        ..SendAnswer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    fn calls(tags: std::ops::Range<u64>) -> Vec<SendCall> {
        let send = |tag| Send { user: tag + 1_000, conversation: 7, counter: tag, ..Send::default() };
        let call = |tag| SendCall { tag, send: send(tag), from: Default::default() };
        tags.map(call).collect()
    }

    fn taken(inbox: &Inbox<SendReply>) -> Vec<SendReply> {
        let mut out = Vec::new();
        while inbox.take(&mut out, Waker::noop()) {}
        out
    }

    fn stored() -> SendAnswer {
        SendAnswer { outcome: SendOutcome::Stored.into(), ..SendAnswer::default() }
    }

    #[test]
    fn an_answer_finds_its_message_and_a_second_one_finds_nothing() {
        let (mut table, mut mail, inbox) = (Sends::default(), Mail::default(), Arc::new(Inbox::new()));
        let mark = table.add(&calls(10..13), &inbox, 100);
        assert!(table.answer(mark + 1, stored(), &mut mail));
        assert!(!table.answer(mark + 1, stored(), &mut mail) && !table.answer(mark + 3, stored(), &mut mail));
        assert_eq!((table.expire(99, 300, &mut mail), table.places()), (0, 3));
        assert!(table.answer(mark, stored(), &mut mail));
        assert_eq!(table.places(), 1, "the answered ones at the front are gone");
        assert_eq!(table.expire(100, 300, &mut mail), 1);
        assert!(!table.answer(mark + 2, stored(), &mut mail), "it is late");
        mail.deliver();
        let said = taken(&inbox);
        assert_eq!(said.iter().map(|reply| reply.tag).collect::<Vec<_>>(), [11, 10, 12]);
        let last = &said[2].answer;
        assert_eq!((last.outcome(), last.counter, last.conversation), (SendOutcome::Pending, 12, 7));
        assert!((300..=450).contains(&last.retry_after_ms));
        assert_eq!(table.add(&calls(1..2), &inbox, 200), mark + 3, "marks go on");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send { inbox: usize, calls: u64 },
        Answer(u64),
        Pass(u64),
        Break,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0usize..3, 1u64..6).prop_map(|(inbox, calls)| Step::Send { inbox, calls }),
            6 => (0u64..100).prop_map(Step::Answer),
            1 => (1u64..80).prop_map(Step::Pass),
            1 => Just(Step::Break),
        ]
    }

    proptest! {
        /// Whatever is answered, repeated, late or cut: each message is answered exactly once, in the inbox it came from.
        #[test]
        fn each_message_is_answered_exactly_once(steps in prop::collection::vec(step(), 1..120)) {
            let (mut table, mut mail) = (Sends::default(), Mail::default());
            let inboxes: Vec<_> = (0..3).map(|_| Arc::new(Inbox::new())).collect();
            let mut sent: Vec<Vec<u64>> = vec![vec![]; 3];
            let (mut next_tag, mut now) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Send { inbox, calls: n } => {
                        let mark = table.add(&calls(next_tag..next_tag + n), &inboxes[inbox], now + 50);
                        prop_assert_eq!(mark, next_tag);
                        sent[inbox].extend(next_tag..next_tag + n);
                        next_tag += n;
                    }
                    Step::Answer(mark) => {
                        table.answer(mark, stored(), &mut mail);
                    }
                    Step::Pass(ms) => {
                        now += ms;
                        table.expire(now, 300, &mut mail);
                    }
                    Step::Break => {
                        table.give_up_all(300, &mut mail);
                        prop_assert_eq!((table.unanswered(), table.places()), (0, 0));
                    }
                }
                prop_assert_eq!(table.unanswered(), table.kept.iter().flatten().count());
            }
            table.give_up_all(300, &mut mail);
            mail.deliver();
            for (inbox, sent) in inboxes.iter().zip(&sent) {
                let mut heard: Vec<_> = taken(inbox).iter().map(|reply| reply.tag).collect();
                heard.sort_unstable();
                prop_assert_eq!(&heard, sent);
            }
        }
    }
}
