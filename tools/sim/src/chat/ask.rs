//! Requests other than messages: groups, reading, recalling, friends.

use super::node::Then;
use super::world::{Event, Who, World};
use chat::cluster::Conversations;
use chat::core::{Key, Logged, Stop, Wish, counts};
use hashring::bucket_of;
use records::{ChatFact, FriendStep};

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum AskKind {
    /// A group with these members; the number of the request.
    MakeGroup(Vec<u64>, u64),
    /// Somebody comes in, or goes.
    Change(u64, Wish),
    /// Read up to a seq.
    Read(u64, u64),
    /// Everything so far is not to be shown any more.
    Clear(u64),
    /// A message is recalled.
    Recall(u64, u64),
    /// A step towards another.
    Friend(u64, FriendStep),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub number: u64,
    pub who: Who,
    pub user: u64,
    pub kind: AskKind,
}

impl World {
    /// A request comes to a node.
    pub fn ask_comes(&mut self, n: usize, ask: Ask) {
        self.try_ask(n, ask);
    }

    /// Decides about a request; it waits for what is needed.
    pub fn try_ask(&mut self, n: usize, ask: Ask) {
        let now_ms = self.now_ms;
        let decided = match self.nodes[n].up.as_mut() {
            Some(up) => decide(&mut up.conversations, &ask, &self.store, now_ms),
            None => return,
        };
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        match decided {
            Ok((records, made)) if records.is_empty() => {
                let then = Then::Ask(ask.who, ask.number, made);
                let id = match &ask.kind {
                    AskKind::Change(id, _) | AskKind::Recall(id, _) => *id,
                    _ => made,
                };
                if let Some(Then::Ask(who, number, made)) = up.conversations.after(id, then) {
                    self.post(|| Event::Asked(who, number, true, made));
                }
            }
            Ok((records, made)) => {
                let then = Then::Ask(ask.who, ask.number, made);
                up.conversations.take(records, Some(then), now_ms);
            }
            Err(Stop::Need(Key::Elsewhere(id))) => {
                let owner = self.store.owner(bucket_of(id).get());
                if let Some((node, _)) = owner.filter(|(node, _)| usize::from(*node) != n + 1) {
                    self.post(|| Event::Asks(node, ask.clone()));
                }
            }
            Err(Stop::Need(key)) => {
                up.conversations.want(key);
                up.asks.insert(ask.number, ask);
            }
            Err(Stop::No(_)) => {
                let (who, number) = (ask.who, ask.number);
                self.post(|| Event::Asked(who, number, false, 0));
            }
        }
    }

    /// Requests that wait are decided again.
    pub fn retry_asks(&mut self, n: usize) {
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        for (_, ask) in std::mem::take(&mut up.asks) {
            self.try_ask(n, ask);
        }
    }
}

type Decided = Result<(Vec<Logged>, u64), Stop>;

fn decide(on: &mut Conversations<Then>, ask: &Ask, store: &super::store::Store, now_ms: u64) -> Decided {
    let user = ask.user;
    match &ask.kind {
        AskKind::MakeGroup(members, request) => {
            let name =
                chat::store::owned::Name::Made { user, device: ask.who.1 as u64 + 1, request: *request };
            if let Some(made) = store.names.get(&name) {
                return Ok((Vec::new(), *made));
            }
            let request = (ask.who.1 as u64 + 1, *request);
            let (id, records) = on.state.decide_group(user, request, "g", members, now_ms)?;
            Ok((records, id))
        }
        AskKind::Change(id, wish) => Ok((on.decide_change(*id, user, wish, now_ms)?, *id)),
        AskKind::Recall(id, seq) => {
            // Read before: a message does not change.
            let Some(message) = store.messages(*id, *seq, *seq).pop() else { return Ok((Vec::new(), *id)) };
            Ok((on.state.decide_recall(user, &message, now_ms)?, *id))
        }
        AskKind::Read(id, seq) => {
            let Some(conversation) = on.state.settled(*id)? else { return Ok((Vec::new(), *id)) };
            if conversation.member(user).is_none_or(|m| m.read_seq >= *seq) {
                return Ok((Vec::new(), *id));
            }
            let (own, last) = (conversation.own(user), conversation.head.last_seq);
            let behind = (*seq + 1..=last).map(|seq| conversation.recent(seq).cloned());
            let Some(behind) = behind.collect::<Option<Vec<_>>>() else { return Ok((Vec::new(), *id)) };
            let own_behind = behind.iter().filter(|m| m.sender == user && counts(m.kind)).count() as u64;
            let (seq, own) = ((*seq).min(last), own - own_behind);
            Ok((vec![Logged::Fact(ChatFact::Read { user, conversation: *id, seq, own })], *id))
        }
        AskKind::Clear(id) => {
            let Some(conversation) = on.state.settled(*id)? else { return Ok((Vec::new(), *id)) };
            if conversation.member(user).is_none() {
                return Ok((Vec::new(), *id));
            }
            let (seq, own) = (conversation.head.last_seq, conversation.own(user));
            Ok((vec![Logged::Fact(ChatFact::Cleared { user, conversation: *id, seq, own })], *id))
        }
        AskKind::Friend(other, step) => {
            let records = on.state.decide_friend(user, *other, *step, now_ms)?;
            let pair = on.state.pair(user, *other)?;
            Ok((records, pair.unwrap_or(0)))
        }
    }
}
