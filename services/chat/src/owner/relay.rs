//! Passing on what the owner of a conversation has to decide and what came here, because it names users alone.
//!
//! The first message between two users, a step between them, and a message of an official account go to a user's node. Their
//! conversation may belong to another: then they are passed on to its owner, once; they are said again until it answers, or
//! for some seconds. All of them may be done twice without harm: a message has its number, a step is so already, a notice
//! has its mark.

use super::OwnerNode;
use super::calls::{elsewhere, pending_of};
use super::reign::{Reign, Then};
use super::reply::unavailable;
use super::say::Sayings;
use super::wire;
use crate::cluster::Sent;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use protocol::calls::{CallError, ConnectionAt, DeviceAt};
use protocol::peers as v1;
use protocol::peers::relay::What;
use protocol::v1::{ChatAnswer, Send, SendAnswer};
use runtime::Shutdown;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Requests that are passed on at a time, and that others have passed on to this node.
const RELAYS_MAX: usize = 16_384;
/// Requests of others that are served at a time.
const SERVED_AT_A_TIME: usize = 256;
/// Said again when it was not answered for so long, in ms.
const AGAIN_MS: u64 = 500;
/// Given up when it was not answered for so long, in ms.
const GIVE_UP_MS: u64 = 8_000;

/// What is passed on, and what others have passed on.
pub(super) struct Relays {
    next_mark: u64,
    under_way: BTreeMap<u64, Relay>,
    /// Being served here, by node and its mark.
    serving: BTreeSet<(u16, u64)>,
    /// Requests that wait to be served.
    waiting: VecDeque<(u16, u64, What)>,
}

struct Relay {
    conversation: u64,
    what: What,
    back: Back,
    said_ms: u64,
    until_ms: u64,
}

/// Where the answer goes.
enum Back {
    Send(Then),
    Ask(oneshot::Sender<Result<v1::relayed::What, CallError>>),
}

impl Relays {
    /// Nothing is passed on. Marks count from a time, so that an answer to a former process names nothing of this one.
    pub fn new(now_ms: u64) -> Relays {
        Relays {
            next_mark: now_ms << 20,
            under_way: BTreeMap::new(),
            serving: BTreeSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Another node's request has its answer.
    pub fn served(&mut self, node: u16, mark: u64) {
        self.serving.remove(&(node, mark));
    }

    fn add(&mut self, conversation: u64, what: What, back: Back, now_ms: u64) -> u64 {
        self.next_mark += 1;
        let until_ms = now_ms + GIVE_UP_MS;
        self.under_way.insert(self.next_mark, Relay { conversation, what, back, said_ms: now_ms, until_ms });
        self.next_mark
    }
}

impl OwnerNode {
    /// A message whose conversation is another node's: it is passed on when it did not name the conversation itself; otherwise
    /// its front door looks again.
    pub(super) fn pass_on(&self, conversation: u64, sent: Sent<Then>) -> Option<(Then, SendAnswer)> {
        let Sent { send, then, .. } = sent;
        let is_first = send.conversation == 0 && matches!(then, Then::Sender { .. });
        let mut relays = self.relays.lock();
        if !is_first || relays.under_way.len() >= RELAYS_MAX {
            return Some((then, elsewhere(&send)));
        }
        let what = What::Send(Send { conversation, ..send });
        let mark = relays.add(conversation, what.clone(), Back::Send(then), self.clock.now_ms());
        drop(relays);
        self.say_relays(vec![(conversation, v1::Relay { mark, what: Some(what) })]);
        None
    }

    /// Passes a request on and waits for its answer.
    pub(super) async fn ask_owner(
        &self,
        conversation: u64,
        what: What,
    ) -> Result<v1::relayed::What, CallError> {
        let (told, wait) = oneshot::channel();
        let mark = {
            let mut relays = self.relays.lock();
            if relays.under_way.len() >= RELAYS_MAX {
                return Err(CallError::Busy(100));
            }
            relays.add(conversation, what.clone(), Back::Ask(told), self.clock.now_ms())
        };
        self.say_relays(vec![(conversation, v1::Relay { mark, what: Some(what) })]);
        wait.await.unwrap_or_else(|_| Err(unavailable()))
    }

    fn say_relays(&self, relays: Vec<(u64, v1::Relay)>) {
        let routes = Arc::clone(&self.routes.read());
        let mut sayings = Sayings::default();
        for (conversation, relay) in relays {
            // One that has come here meanwhile is given up, and its front door asks again.
            if let Some(node) = routes.of(conversation).filter(|node| *node != routes.me) {
                sayings.to(node).relay(relay);
            }
        }
        self.say(sayings);
    }

    /// What was not answered is said again, or given up.
    pub(super) fn relay_again(&self) {
        let now_ms = self.clock.now_ms();
        let (mut again, mut over) = (Vec::new(), Vec::new());
        {
            let routes = Arc::clone(&self.routes.read());
            let mut relays = self.relays.lock();
            if relays.under_way.is_empty() {
                return;
            }
            let is_over =
                |relay: &Relay| now_ms >= relay.until_ms || routes.of(relay.conversation) == Some(routes.me);
            let gone: Vec<u64> =
                relays.under_way.iter().filter(|(_, relay)| is_over(relay)).map(|(mark, _)| *mark).collect();
            over.extend(gone.iter().filter_map(|mark| relays.under_way.remove(mark)));
            for (mark, relay) in &mut relays.under_way {
                if now_ms >= relay.said_ms + AGAIN_MS {
                    relay.said_ms = now_ms;
                    let what = Some(relay.what.clone());
                    again.push((relay.conversation, v1::Relay { mark: *mark, what }));
                }
            }
        }
        self.say_relays(again);
        let mut answers = Vec::new();
        for relay in over {
            if let Back::Send(then) = relay.back
                && let Some(answer) = pending_of(&then, "the owner of its conversation did not answer")
            {
                answers.push((then, answer));
            }
        }
        self.answer_all(answers);
    }

    /// Answers to what was passed on. A second one is nobody's.
    pub(super) fn hear_relayed(&self, relayed: Vec<v1::Relayed>) {
        let mut answers = Vec::new();
        for v1::Relayed { mark, what } in relayed {
            let relay = self.relays.lock().under_way.remove(&mark);
            match (relay.map(|relay| relay.back), what) {
                (Some(Back::Send(then)), Some(v1::relayed::What::Sent(answer))) => {
                    answers.push((then, answer));
                }
                (Some(Back::Send(then)), _) => {
                    let answer = pending_of(&then, "the owner of its conversation can't say");
                    answers.extend(answer.map(|answer| (then, answer)));
                }
                (Some(Back::Ask(told)), what) => {
                    let answer = match what {
                        Some(v1::relayed::What::Failure(failure)) => Err(wire::failure_of(failure)),
                        Some(what) => Ok(what),
                        None => Err(unavailable()),
                    };
                    // Who asked may have gone.
                    let _ = told.send(answer);
                }
                (None, _) => {}
            }
        }
        self.answer_all(answers);
    }

    /// What another node has passed on: messages are decided at once, requests wait for their turn.
    pub(super) fn hear_relays(&self, reign: &Reign, from: u16, relays: Vec<v1::Relay>) {
        if relays.is_empty() || !self.is_fresh(reign) {
            return;
        }
        let mut sends = Vec::new();
        {
            let mut known = self.relays.lock();
            for v1::Relay { mark, what } in relays {
                if known.serving.len() >= RELAYS_MAX || !known.serving.insert((from, mark)) {
                    continue;
                }
                match what {
                    Some(What::Send(send)) => sends.push((mark, send)),
                    Some(what) => known.waiting.push_back((from, mark, what)),
                    None => drop(known.serving.remove(&(from, mark))),
                }
            }
        }
        let sents =
            sends.into_iter().map(|(mark, send)| self.sent(send, |of| Then::Peer { of, node: from, mark }));
        let replies = self.decide_sends(reign, sents.collect());
        self.answer_parked_of(reign, replies);
        self.wakes.relays.notify_one();
    }

    /// Serves requests of other nodes until the node is to stop.
    pub(super) async fn run_relays(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        let mut under_way = FuturesUnordered::new();
        while !stop.is_requested() {
            while under_way.len() < SERVED_AT_A_TIME {
                let Some((node, mark, what)) = self.relays.lock().waiting.pop_front() else { break };
                under_way.push(self.serve(node, mark, what));
            }
            tokio::select! {
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                () = self.wakes.relays.notified(), if under_way.len() < SERVED_AT_A_TIME => {}
                () = stop.wait() => {}
            }
        }
        Ok(())
    }

    async fn serve(&self, node: u16, mark: u64, what: What) {
        let answer = match what {
            What::Ask(request) => self.serve_ask(request).await,
            What::Notice(v1::Notice { account, mark, user, body }) => {
                let put = self.put_notice((account, mark), user, &body).await;
                put.map(|()| v1::relayed::What::Done(v1::Done {})).map_err(CallError::from)
            }
            What::Send(_) => return,
        };
        self.answer_peer(node, mark, answer);
    }

    async fn serve_ask(&self, request: protocol::v1::ChatRequest) -> Result<v1::relayed::What, CallError> {
        let (user, device) = (request.user, request.device);
        let Some(ask) = request.ask else {
            return Err(CallError::Invalid("a request that asks for nothing this program knows".to_owned()));
        };
        let who = DeviceAt { user, device, at: ConnectionAt::default() };
        let answer = self.answer_to(who, ask, false).await?;
        Ok(v1::relayed::What::Answer(ChatAnswer { user, answer: Some(answer) }))
    }
}
