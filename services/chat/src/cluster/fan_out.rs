//! From a durable step to every member's timeline.
//!
//! A conversation has one round under way: everything that is durable and was not handed on when it was made, for all
//! whom it concerns. It is sent until each of them has acknowledged; then the next is made. A round is made only while
//! no step is under way, because memory is ahead of the store then. How far the rounds have come is stored with the next
//! step, or by itself after a while, and the conversation's next owner begins there: with a round that tells every
//! member everything again, since nothing in it does harm twice.
//!
//! A timeline that does not acknowledge for some seconds, because the store refuses it or it is nobody's, does not hold up
//! the others when there is more for them: they go on, and it gets what it has missed round by round ([`super::late`]).

use super::conversations::{Conversations, is_change};
use super::hand::{Ack, Between, Hand, HandKey, Place};
use super::late::LATE_ROUNDS_MAX;
use super::work::{Round, Work};
use crate::core::{Conversation, Fanned, Member, relation};
use prost::Message as _;
use protocol::v1::change::What;
use protocol::v1::{Change, ConversationKind, FanOut};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often it is looked which rounds are to be sent again, in ms: there may be very many.
const AGAIN_LOOK_MS: u64 = 100;
/// Messages of a round.
const ROUND_MESSAGES: u64 = 128;
/// Bytes of a round's messages, about: with one of the largest it fits a message between nodes.
const ROUND_BYTES: usize = 256 << 10;

/// What the messages of a round say about who is in the conversation.
#[derive(Default)]
struct Moves {
    /// Those who came or left: by which message each came, and by which he left, as far as these messages say.
    users: BTreeMap<u64, (Option<u64>, Option<u64>)>,
    /// It became a large one.
    grown: bool,
}

impl Moves {
    fn of(messages: &[Arc<ChatMessage>]) -> Moves {
        let mut moves = Moves::default();
        for message in messages.iter().filter(|m| is_change(m)) {
            // What can't be read has been refused when it was applied.
            let Ok(change) = Change::decode(&*message.body) else { continue };
            match change.what {
                Some(What::Made(made)) => moves.came(&made.members, message.seq),
                Some(What::Joined(more)) => moves.came(&more.users, message.seq),
                Some(What::Left(gone)) => {
                    for user in gone.users {
                        moves.users.entry(user).or_default().1 = Some(message.seq);
                    }
                }
                Some(What::FanOut(_)) => moves.grown = true,
                _ => {}
            }
        }
        moves
    }

    fn came(&mut self, users: &[u64], seq: u64) {
        self.users.extend(users.iter().map(|user| (*user, (Some(seq), None))));
    }
}

impl<T> Conversations<T> {
    /// Makes the next round of a conversation, if there is something for one.
    pub(super) fn form(&mut self, id: u64) {
        while let Some(round) = self.next_round(id) {
            let is_for_nobody = round.places.is_empty();
            if let Some(work) = self.works.get_mut(&id) {
                work.round = Some(round);
            }
            if !is_for_nobody {
                self.rounds.insert(id);
                self.unsent.push(id);
                return;
            }
            self.finish(id);
        }
        self.settle(id);
    }

    fn next_round(&mut self, id: u64) -> Option<Round> {
        let (work, conversation) = (self.works.get_mut(&id)?, self.state.conversations.get(&id)?);
        if work.flight.is_some() || work.round.is_some() || work.fanned.version >= work.version {
            return None;
        }
        if work.late.len() >= LATE_ROUNDS_MAX {
            return None;
        }
        let (from, mut to) = (work.fanned.seq + 1, work.seq.min(work.fanned.seq + ROUND_MESSAGES));
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for seq in from..=to {
            let given = || work.given.iter().find(|m| m.seq == seq);
            let Some(message) = conversation.recent(seq).or_else(given) else {
                self.lacking.insert(id);
                self.want_messages(id, from, to);
                return None;
            };
            messages.push(Arc::clone(message));
            bytes += message.body.len() + 96;
            if bytes >= ROUND_BYTES {
                to = seq;
                break;
            }
        }
        let is_whole = to == work.seq;
        let key = HandKey {
            node: self.node,
            epoch: self.epoch,
            term: work.term,
            conversation: id,
            version: work.version,
            to_seq: to,
        };
        let places = places(work, conversation, &messages, is_whole);
        if is_whole {
            work.touched.clear();
            work.telling.clear();
            work.between = false;
        }
        messages.retain(|m| u32::from(m.fan_out) == FanOut::Write as u32);
        let large = conversation.head.is_large();
        let round = Round { key, is_whole, large, messages, places, sent_ms: 0, since_ms: 0 };
        Some(work.put_behind_late(round))
    }

    /// Everybody has acknowledged a round.
    pub(super) fn finish(&mut self, id: u64) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Some(round) = work.round.take() else { return };
        work.fanned.seq = round.key.to_seq;
        if round.is_whole {
            work.fanned.version = round.key.version;
            work.everyone = false;
        }
        work.given.clear();
        if work.late.is_empty() {
            self.rounds.remove(&id);
        }
        if work.marked != work.told() {
            self.marks.insert(id);
        }
        self.trim(id);
    }

    /// If nothing of a conversation is under way, others may decide in it again.
    fn settle(&mut self, id: u64) {
        let Some(work) = self.works.get(&id).filter(|work| work.is_settled()) else { return };
        let is_held = work.held_until_ms > 0;
        let Some(conversation) = self.state.conversations.get_mut(&id) else { return };
        if std::mem::replace(&mut conversation.changing, false) || is_held {
            self.settled.push(id);
        }
    }

    /// Messages that were asked for ([`Want::Messages`](super::Want::Messages)). `term`: of the bucket, when the reading
    /// began.
    pub fn give_messages(&mut self, id: u64, messages: Vec<ChatMessage>, term: u32) {
        if let Some(work) = self.works.get_mut(&id).filter(|work| work.term == term && work.round.is_none()) {
            work.given = messages.into_iter().map(Arc::new).collect();
            self.form(id);
        }
    }

    /// What is to be handed to timelines' owners now: what was not yet, and what was not acknowledged for a while.
    /// Whoever takes it sends each place to the owner of its user's bucket ([`Hand::part`]).
    pub fn hands(&mut self, now_ms: u64) -> Vec<Hand> {
        let mut due = std::mem::take(&mut self.unsent);
        if now_ms >= self.again_due_ms {
            self.again_due_ms = now_ms + AGAIN_LOOK_MS;
            due = self.rounds.iter().copied().collect();
        }
        let mut hands = Vec::new();
        for id in due {
            self.set_aside(id, now_ms);
            let Some(work) = self.works.get_mut(&id) else { continue };
            if let Some(round) = &mut work.round
                && round.is_due(now_ms)
            {
                hands.push(round.hand(round.places.clone(), now_ms));
            }
            work.late_hands(now_ms, &mut hands);
        }
        hands
    }

    /// Buckets have moved: everything that is not acknowledged is handed again at once.
    pub fn hand_again(&mut self) {
        for id in &self.rounds {
            let Some(work) = self.works.get_mut(id) else { continue };
            work.round.iter_mut().chain(&mut work.late).for_each(|round| round.sent_ms = 0);
        }
        self.again_due_ms = 0;
    }

    /// Timelines have what they were handed.
    pub fn acked(&mut self, ack: &Ack) {
        let id = ack.key.conversation;
        let Some(work) = self.works.get_mut(&id) else { return };
        let users: BTreeSet<u64> = ack.users.iter().copied().collect();
        let caught_up = work.late_acked(ack, &users);
        let round = work.round.as_mut().filter(|round| round.key == ack.key);
        let is_over = round.is_some_and(|round| {
            round.places.retain(|place| !users.contains(&place.user));
            round.places.is_empty()
        });
        if is_over {
            self.finish(id);
        }
        if caught_up {
            self.unsent.push(id);
            self.caught_up(id);
        }
        if is_over || caught_up {
            self.form(id);
        }
    }

    /// How far timelines are behind: conversations with a round under way.
    pub fn fanning(&self) -> usize {
        self.rounds.len()
    }

    /// How far all of a conversation's timelines have acknowledged.
    pub fn fanned(&self, id: u64) -> Option<Fanned> {
        self.works.get(&id).map(Work::told)
    }
}

/// Whom a round is for, and what each is told.
fn places<T>(
    work: &Work<T>,
    conversation: &Conversation,
    messages: &[Arc<ChatMessage>],
    is_whole: bool,
) -> Vec<Place> {
    let moves = Moves::of(messages);
    let is_large = conversation.head.is_large();
    let is_for_all = moves.grown || (!is_large && (!messages.is_empty() || work.everyone));
    let (from, to) = (work.fanned.seq + 1, messages.last().map_or(work.fanned.seq, |m| m.seq));
    let between = work.between && is_whole && conversation.kind() == ConversationKind::Pair;
    let of_member = |member: &Member| Place {
        user: member.user,
        first_seq: member.joined_seq.max(from),
        until_seq: to,
        member: true,
        link: work.everyone
            || work.fanned.version == 0
            || moves.grown
            || moves.users.contains_key(&member.user),
        // Whom a former owner was about to tell is not known.
        tell: work.everyone || work.telling.contains(&member.user),
        unread: conversation.unread(member),
        read_seq: member.read_seq,
        between: between.then(|| between_of(conversation, member.user)),
    };
    let mut places: Vec<Place> = if is_for_all {
        conversation.members.iter().map(of_member).collect()
    } else {
        let touched = work.touched.iter().filter(|_| is_whole);
        let users: BTreeSet<u64> = touched.chain(moves.users.keys()).copied().collect();
        users.into_iter().filter_map(|user| conversation.member(user)).map(of_member).collect()
    };
    // Those who are gone have a right to what came before that.
    for (user, (came, left)) in &moves.users {
        if conversation.member(*user).is_none() {
            let (user, first_seq, until_seq) = (*user, came.unwrap_or(from), left.unwrap_or(to));
            places.push(Place { user, first_seq, until_seq, link: true, ..Place::default() });
        }
    }
    places.sort_unstable_by_key(|place| place.user);
    places
}

fn between_of(conversation: &Conversation, user: u64) -> Between {
    let peer = conversation.peer_of(user);
    let both = conversation.head.relation;
    let (mine, theirs) = (relation::of(both, user < peer), relation::of(both, peer < user));
    Between {
        peer,
        asks: mine & relation::ASKS != 0,
        asked: theirs & relation::ASKS != 0,
        blocks: mine & relation::BLOCKS != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::v1::{Members, MessageKind};

    fn change(seq: u64, what: What) -> Arc<ChatMessage> {
        let body = Change { by: 1, what: Some(what) }.encode_to_vec();
        let (kind, fan_out) = (MessageKind::Change as u8, FanOut::Write as u8);
        Arc::new(ChatMessage { seq, kind, fan_out, body, ..ChatMessage::default() })
    }

    fn conversation(members: &[(u64, u64)]) -> Conversation {
        let member = |(user, joined_seq): &(u64, u64)| Member {
            user: *user,
            joined_seq: *joined_seq,
            read_seq: *joined_seq,
            ..Member::default()
        };
        let mut conversation =
            Conversation { members: members.iter().map(member).collect(), ..Default::default() };
        conversation.head.last_seq = 9;
        conversation
    }

    fn spans(places: &[Place]) -> Vec<(u64, u64, u64, bool, bool)> {
        places.iter().map(|p| (p.user, p.first_seq, p.until_seq, p.member, p.link)).collect()
    }

    #[test]
    fn who_gets_a_message_is_who_was_there() {
        // 4 is known; 5: user 3 comes, 6: user 2 goes, 7: user 3 goes too.
        let of = |users: &[u64]| Members { users: users.to_vec() };
        let messages = [
            change(5, What::Joined(of(&[3]))),
            change(6, What::Left(of(&[2]))),
            change(7, What::Left(of(&[3]))),
        ];
        let mut work: Work<()> = Work::new(1, 8, 7, Fanned { version: 4, seq: 4 });
        work.everyone = false;
        let all = places(&work, &conversation(&[(1, 1)]), &messages, true);
        assert_eq!(spans(&all), [(1, 5, 7, true, false), (2, 5, 6, false, true), (3, 5, 7, false, true)]);
        // He came back later, and has what came before from his first time.
        let all = places(&work, &conversation(&[(1, 1), (3, 9)]), &messages, true);
        assert_eq!(spans(&all)[2], (3, 9, 7, true, true));
    }

    #[test]
    fn a_reading_is_told_to_the_reader_alone() {
        let mut work: Work<()> = Work::new(1, 8, 7, Fanned { version: 7, seq: 7 });
        work.everyone = false;
        (work.touched, work.telling) = ([2].into(), [2].into());
        let told = places(&work, &conversation(&[(1, 1), (2, 1)]), &[], true);
        assert_eq!(spans(&told), [(2, 8, 7, true, false)]);
        assert!(told[0].tell);
    }
}
