//! Answers to whoever waits for a decision, and how requests wait.
//!
//! Nobody hears STORED unless the step with his message was committed under the fence, and the session is fresh when he is
//! told. Who can't be told hears PENDING: the same message again tells, from whoever owns its conversation by then.

use super::OwnerNode;
use super::calls::pending_of;
use super::reign::{Reign, Then, ToInbox};
use super::say::Sayings;
use super::wire;
use crate::cluster::{Conversations, Done, RESTING, Reply, UNREADABLE};
use crate::core::{Key, Logged, Stop, stored};
use protocol::calls::{CallError, SendReply};
use protocol::peers as v1;
use protocol::v1::SendAnswer;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a request waits for the store or for a change under way.
const WAIT: Duration = Duration::from_secs(10);
/// How often a request is decided again whose decision came to nothing.
const TRIES_MAX: usize = 4;
/// When a request may come again that came while too much waited, in ms.
const BUSY_MS: u32 = 100;

/// To a request that can't be answered now.
pub(super) fn unavailable() -> CallError {
    CallError::Unavailable("chat's store does not answer just now; ask the same again".to_owned())
}

/// Why a request is not decided.
#[derive(Debug)]
pub(super) enum Denied {
    /// This conversation's owner has to decide, and that is another node.
    Elsewhere(u64),
    /// It can't be done, or not now.
    No(CallError),
}

impl From<Denied> for CallError {
    fn from(denied: Denied) -> CallError {
        match denied {
            Denied::No(error) => error,
            Denied::Elsewhere(_) => CallError::Unavailable(
                "its owner is another chat node, or it is changing hands; ask the same again".to_owned(),
            ),
        }
    }
}

impl From<CallError> for Denied {
    fn from(error: CallError) -> Denied {
        Denied::No(error)
    }
}

/// Says when something is durable.
pub(super) type Durable = Option<oneshot::Receiver<()>>;

/// Takes what was decided about a conversation into a step; with nothing to write, what stands there may be on its way.
///
/// # Errors
/// When more waits than the store takes, or the store refuses what was written last.
pub(super) fn commit(
    on: &mut Conversations<Then>,
    id: u64,
    records: Vec<Logged>,
    now_ms: u64,
) -> Result<Durable, Stop> {
    if on.rests(id, now_ms).is_some() {
        return Err(CallError::Unavailable(RESTING.to_owned()).into());
    }
    let (told, wait) = oneshot::channel();
    let then = Then::Waiter(told);
    if records.is_empty() {
        return Ok(on.after(id, then).is_none().then_some(wait));
    }
    if on.pending() >= on.state.options.pending_max {
        return Err(CallError::Busy(BUSY_MS).into());
    }
    on.take(records, Some(then), now_ms);
    Ok(Some(wait))
}

impl OwnerNode {
    /// The present epoch, if anything may be answered from it.
    ///
    /// # Errors
    /// When there is none, or the owners' book was not reached for too long.
    pub(super) fn fresh_reign(&self) -> Result<Arc<Reign>, CallError> {
        self.reign_now().filter(|reign| self.is_fresh(reign)).ok_or_else(|| {
            CallError::Unavailable("this chat node has lost touch with the others; ask the same again".into())
        })
    }

    /// Decides under the lock, as often as it takes until everything needed is in memory.
    pub(super) async fn decide<T>(
        &self,
        mut decide: impl FnMut(&mut Conversations<Then>, u64) -> Result<T, Stop>,
    ) -> Result<T, Denied> {
        let until = tokio::time::Instant::now() + WAIT;
        loop {
            let mut loads = self.loads.subscribe();
            let reign = self.fresh_reign()?;
            {
                let now_ms = self.clock.now_ms();
                let mut on = reign.conversations.lock();
                match decide(&mut on, now_ms) {
                    Ok(decided) => return Ok(decided),
                    Err(Stop::No(error)) => return Err(error.into()),
                    Err(Stop::Need(Key::Elsewhere(id))) => return Err(Denied::Elsewhere(id)),
                    Err(Stop::Need(key)) if on.is_unreadable(key) => {
                        return Err(CallError::Unavailable(UNREADABLE.to_owned()).into());
                    }
                    Err(Stop::Need(key)) => on.want(key),
                }
            }
            self.wakes.conversations.notify_one();
            let changed = tokio::time::timeout_at(until, loads.changed()).await;
            let failed = loads.borrow().1;
            if !matches!(changed, Ok(Ok(()))) || failed {
                return Err(unavailable().into());
            }
        }
    }

    /// Decides and waits until it is durable. What came to nothing, because somebody else was faster, is decided again.
    pub(super) async fn write<T>(
        &self,
        mut decide: impl FnMut(&mut Conversations<Then>, u64) -> Result<(T, Durable), Stop>,
    ) -> Result<T, Denied> {
        for _ in 0..TRIES_MAX {
            if let Some(decided) = self.write_once(&mut decide).await? {
                return Ok(decided);
            }
        }
        Err(unavailable().into())
    }

    /// The same once; nothing when it came to nothing.
    pub(super) async fn write_once<T>(
        &self,
        decide: impl FnMut(&mut Conversations<Then>, u64) -> Result<(T, Durable), Stop>,
    ) -> Result<Option<T>, Denied> {
        let (decided, durable) = self.decide(decide).await?;
        let Some(wait) = durable else { return Ok(Some(decided)) };
        match tokio::time::timeout(WAIT, wait).await {
            Ok(Ok(())) => Ok(Some(decided)),
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(unavailable().into()),
        }
    }

    /// Asks for many keys at once, so that a decision need not ask for one after the other.
    pub(super) fn expect(&self, keys: impl Iterator<Item = Key>) {
        let Some(reign) = self.reign_now() else { return };
        let mut on = reign.conversations.lock();
        for key in keys {
            let is_there = match key {
                Key::User(user) => on.state.loaded(user).is_ok(),
                Key::Pair(low, high) => on.state.pair(low, high).is_ok(),
                _ => true,
            };
            if !is_there {
                on.want(key);
            }
        }
        drop(on);
        self.wakes.conversations.notify_one();
    }

    /// Decisions are durable.
    pub(super) fn answer_done(&self, reign: &Reign, done: Vec<Done<Then>>) {
        let is_fresh = self.is_fresh(reign);
        let mut answers = Vec::with_capacity(done.len());
        for Done { then, message, .. } in done {
            let answer = match message.as_deref() {
                Some(message) if is_fresh => Some(stored(message)),
                _ => pending_of(&then, "stored, and not safe to say; send the same again"),
            };
            match (then, answer) {
                (Then::Waiter(waiter), _) => {
                    // Who asked may have gone.
                    let _ = waiter.send(());
                }
                (then, Some(answer)) => answers.push((then, answer)),
                _ => {}
            }
        }
        if !is_fresh {
            self.counters.silenced.fetch_add(answers.len() as u64, Ordering::Relaxed);
        }
        self.answer_all(answers);
    }

    /// It is not known what became of these; whoever asked finds out by asking again.
    pub(super) fn unknown(&self, waiting: Vec<Then>, reason: &str) {
        if !waiting.is_empty() {
            let answer = |then: Then| pending_of(&then, reason).map(|answer| (then, answer));
            // Requests hear it by the end of their channel.
            self.answer_all(waiting.into_iter().filter_map(answer).collect());
        }
    }

    /// What was said to messages that waited.
    pub(super) fn answer_parked_of(&self, reign: &Reign, replies: Vec<Reply<Then>>) {
        if !replies.is_empty() {
            let answers = replies.into_iter().filter_map(|reply| self.settle_reply(reign, reply));
            self.answer_all(answers.collect());
        }
    }

    /// The same when there is no epoch to be fresh any more: they are told to come again.
    pub(super) fn answer_parked(&self, replies: Vec<Reply<Then>>) {
        let answer = |reply| match reply {
            Reply::Answer { then, answer } => Some((then, answer)),
            Reply::Elsewhere { .. } => None,
        };
        self.answer_all(replies.into_iter().filter_map(answer).collect());
    }

    pub(super) fn answer_one(&self, then: Then, answer: SendAnswer) {
        self.answer_all(vec![(then, answer)]);
    }

    /// Gives answers to those who wait for them: one wake-up for each run of a front door's.
    pub(super) fn answer_all(&self, answers: Vec<(Then, SendAnswer)>) {
        let mut sayings = Sayings::default();
        let mut run: Option<(ToInbox, Vec<SendReply>)> = None;
        for (then, answer) in answers {
            match then {
                Then::Sender { tag, inbox, .. } => {
                    let reply = SendReply { tag, answer };
                    match &mut run {
                        Some((to, replies)) if Arc::ptr_eq(&to.0, &inbox.0) => replies.push(reply),
                        _ => put_run(run.replace((inbox, vec![reply]))),
                    }
                }
                Then::Peer { node, mark, .. } => {
                    let what = v1::relayed::What::Sent(answer);
                    sayings.to(node).relayed(v1::Relayed { mark, what: Some(what) });
                    self.relays.lock().served(node, mark);
                }
                Then::Waiter(_) => {}
            }
        }
        put_run(run);
        self.say(sayings);
    }

    /// The answer to a request that another node has passed on.
    pub(super) fn answer_peer(&self, node: u16, mark: u64, what: Result<v1::relayed::What, CallError>) {
        let what = what.unwrap_or_else(|error| v1::relayed::What::Failure(wire::failure_row(&error)));
        let mut sayings = Sayings::default();
        sayings.to(node).relayed(v1::Relayed { mark, what: Some(what) });
        self.relays.lock().served(node, mark);
        self.say(sayings);
    }
}

fn put_run(run: Option<(ToInbox, Vec<SendReply>)>) {
    if let Some((inbox, replies)) = run {
        inbox.0.put_all(replies);
    }
}
