//! Requests other than messages: groups, reading, deleting, recalling, friends, looking.

use super::ChatViolation;
use super::node::Then;
use super::store::Store;
use super::world::{Event, Who, World};
use chat::cluster::Conversations;
use chat::core::{Key, Logged, OwnBehind, Reading, Stop, Wish, own_among};
use chat::store::owned::Name;
use hashring::bucket_of;
use protocol::v1::{Delete, MarkRead, RangeAnswer, RangeRequest, SetNotice};
use records::{ChatFact, FriendStep};

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum AskKind {
    /// A group with these members; the number of the request.
    MakeGroup(Vec<u64>, u64),
    /// Somebody comes in, or goes, or is muted, or gets another role; another name.
    Change(u64, Wish),
    /// Read up to a seq.
    Read(u64, u64),
    /// These are not to be shown any more.
    Delete(u64, Vec<u64>),
    /// Everything so far is not to be shown any more.
    Clear(u64),
    /// Notices are wanted, or not.
    Notice(u64, bool),
    /// A message is recalled.
    Recall(u64, u64),
    /// A step towards another.
    Friend(u64, FriendStep),
    /// Some messages are looked at.
    Range(u64, RangeRequest),
}

impl AskKind {
    /// The conversation that it names.
    pub fn conversation(&self) -> Option<u64> {
        match self {
            AskKind::Change(id, _)
            | AskKind::Read(id, _)
            | AskKind::Delete(id, _)
            | AskKind::Clear(id)
            | AskKind::Notice(id, _)
            | AskKind::Recall(id, _)
            | AskKind::Range(id, _) => Some(*id),
            AskKind::MakeGroup(..) | AskKind::Friend(..) => None,
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub number: u64,
    pub who: Who,
    pub user: u64,
    pub kind: AskKind,
}

/// What comes of a request: records, and a number for whoever asked.
///
/// Of a group it is its id, of reading the position that is durable then, of deleting 1 if something was deleted.
type Decided = Result<(Vec<Logged>, u64), Stop>;

impl World {
    /// A request comes to a node.
    pub fn ask_comes(&mut self, n: usize, ask: Ask) {
        self.try_ask(n, ask);
    }

    /// Decides about a request; it waits for what is needed.
    pub fn try_ask(&mut self, n: usize, ask: Ask) {
        let now_ms = self.now_ms;
        let decided = match self.nodes[n].up.as_mut() {
            Some(up) => decide(&mut up.conversations, &ask, &self.store, &mut self.problems, now_ms),
            None => return,
        };
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        match decided {
            Ok((records, made)) if records.is_empty() => {
                let then = Then::Ask(ask.who, ask.number, made);
                let id = ask.kind.conversation().unwrap_or(made);
                let only_looks = matches!(ask.kind, AskKind::Range(..));
                let on = &mut up.conversations;
                let now = if only_looks { on.seen(id, then) } else { on.after(id, then) };
                if let Some(Then::Ask(who, number, made)) = now {
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

fn decide(
    on: &mut Conversations<Then>,
    ask: &Ask,
    store: &Store,
    problems: &mut Vec<ChatViolation>,
    now_ms: u64,
) -> Decided {
    let user = ask.user;
    match &ask.kind {
        AskKind::MakeGroup(members, request) => {
            let request = (ask.who.1 as u64 + 1, *request);
            let name = Name::Made { user, device: request.0, request: request.1 };
            if let Some(made) = store.tables.names.get(&name) {
                return Ok((Vec::new(), *made));
            }
            let (id, records) = on.state.decide_group(user, request, "g", members, now_ms)?;
            Ok((records, id))
        }
        AskKind::Change(id, wish) => Ok((on.decide_change(*id, user, wish, now_ms)?, *id)),
        AskKind::Recall(id, seq) => {
            let seq = on.recall_reads(user, *id, *seq)?;
            // Read before: a message does not change.
            let Some(message) = store.tables.messages(*id, seq, seq).pop() else {
                return Ok((Vec::new(), *id));
            };
            Ok((on.decide_recall(user, &message, now_ms)?, *id))
        }
        AskKind::Read(id, seq) => read(on, store, user, &MarkRead { conversation: *id, seq: *seq }, now_ms),
        AskKind::Clear(id) => {
            let ask = Delete { conversation: *id, seqs: Vec::new(), all: true };
            Ok((on.decide_delete(user, &ask, [], now_ms)?, *id))
        }
        AskKind::Delete(id, seqs) => {
            let ask = Delete { conversation: *id, seqs: seqs.clone(), all: false };
            let seqs = on.delete_reads(user, &ask)?;
            let messages: Vec<_> =
                seqs.iter().flat_map(|seq| store.tables.messages(*id, *seq, *seq)).collect();
            let records = on.decide_delete(user, &ask, &messages, now_ms)?;
            let made = u64::from(!records.is_empty());
            Ok((records, made))
        }
        AskKind::Notice(id, muted) => {
            let ask = SetNotice { conversation: *id, muted: *muted };
            Ok((on.decide_notice(user, &ask, now_ms)?, *id))
        }
        AskKind::Friend(other, step) => on.decide_friend(user, *other, *step, now_ms),
        AskKind::Range(id, asked) => {
            let plan = on.range(user, asked)?;
            let stored = plan.reads().map_or(Vec::new(), |(from, to)| store.tables.messages(*id, from, to));
            if let Some(what) = wrong_in(&plan.answer(stored), *id, store) {
                problems.push(ChatViolation { law: 1, what });
            }
            Ok((Vec::new(), *id))
        }
    }
}

fn read(on: &Conversations<Then>, store: &Store, user: u64, ask: &MarkRead, now_ms: u64) -> Decided {
    let id = ask.conversation;
    let mut counted = None;
    loop {
        match on.decide_read(user, ask, counted, now_ms)? {
            Reading::Stands => return Ok((Vec::new(), on.read_place(user, id)?.0)),
            Reading::Take(records) => {
                let seq = match records[..] {
                    [Logged::Fact(ChatFact::Read { seq, .. })] => seq,
                    _ => 0,
                };
                return Ok((records, seq));
            }
            Reading::Count { after, upto } => {
                let own = own_among(user, &store.tables.messages(id, after + 1, upto));
                counted = Some(OwnBehind { after, upto, own });
            }
        }
    }
}

/// Whether an answer shows what is not durable, or passes over something.
fn wrong_in(answer: &RangeAnswer, id: u64, store: &Store) -> Option<String> {
    let kept = store.tables.conversations.get(&id)?;
    let shown: Vec<u64> = answer.messages.iter().map(|m| m.seq).collect();
    let is_there = |m: &protocol::v1::ChatMessage| {
        kept.messages.get(&m.seq).is_some_and(|there| there.message_id == m.message_id)
    };
    let is_right = answer.last_seq <= kept.head.last_seq && answer.messages.iter().all(is_there);
    let rises = shown.is_sorted_by(|a, b| a < b) || shown.is_sorted_by(|a, b| a > b);
    (!is_right || !rises).then(|| {
        let last = kept.head.last_seq;
        format!("a range of {id} shows {shown:?} up to {}; {last} are durable", answer.last_seq)
    })
}
