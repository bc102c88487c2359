//! Brings into memory what decisions and readers need: many at a time, one round after the other.

use super::ChatNode;
use super::desk::{Desk, Then};
use crate::core::{Key, LINGER_MS, SentKey, StoredConversation, StoredUser, stored};
use crate::store::StoreError;
use flowlog::{Class, Disk};
use protocol::v1::{SendAnswer, SendOutcome};
use runtime::Shutdown;
use std::collections::HashSet;
use std::sync::Arc;

/// Users or conversations of one round.
const ROUND: usize = 256;
/// How long to wait after the store has failed, in ms.
const AFTER_FAILURE_MS: u64 = 200;

/// What a round has read.
#[derive(Default)]
struct Round {
    users: Vec<StoredUser>,
    conversations: Vec<StoredConversation>,
    missing: Vec<u64>,
    pairs: Vec<(u64, u64, Option<u64>)>,
    found: Vec<(SentKey, Option<SendAnswer>)>,
}

impl<D: Disk> ChatNode<D> {
    /// Loads until the shutdown.
    pub(super) async fn load_all(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            let keys = self.take_wanted();
            if keys.is_empty() {
                tokio::select! {
                    () = self.wanted.notified() => continue,
                    () = shutdown.wait() => return Ok(()),
                }
            }
            if let Err(error) = self.load(&keys).await {
                tracing::warn!(%error, "what requests need can't be read");
                self.refuse_parked("the store can't be read just now");
                self.tell_waiters(true);
                tokio::time::sleep(std::time::Duration::from_millis(AFTER_FAILURE_MS)).await;
            }
            if shutdown.is_requested() {
                return Ok(());
            }
        }
    }

    fn take_wanted(&self) -> HashSet<Key> {
        let mut desk = self.desk.lock();
        let keys: HashSet<Key> = desk.wanted.iter().copied().take(ROUND).collect();
        desk.wanted.retain(|key| !keys.contains(key));
        keys
    }

    /// Reads keys and puts what was found into memory.
    pub(super) async fn load(&self, keys: &HashSet<Key>) -> Result<(), StoreError> {
        let began_ns = self.clock.mono_ns();
        let round = self.read_round(keys).await?;
        let now_ms = self.clock.now_ms();
        let mut replies = Vec::new();
        {
            let mut desk = self.desk.lock();
            // Memory may have let go of something since that the store did not have then.
            if (self.clock.mono_ns() - began_ns) / 1_000_000 > LINGER_MS / 2 {
                desk.wanted.extend(keys);
            } else {
                self.install(&mut desk, round, now_ms);
            }
            self.retry_parked(&mut desk, now_ms, &mut replies);
        }
        Self::answer(replies);
        self.tell_waiters(false);
        Ok(())
    }

    async fn read_round(&self, keys: &HashSet<Key>) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let (mut users, mut conversations, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            match key {
                Key::User(user) => users.push(*user),
                Key::Conversation(id) => conversations.push(*id),
                Key::Pair(low, high) => pairs.push((*low, *high)),
                Key::Sent(key) => {
                    let first = match self.shelf.sent(*key, self.clock.now_ms()).await? {
                        Ok(message) => Some(stored(&message)),
                        Err(true) => None,
                        Err(false) => Some(SendAnswer {
                            outcome: SendOutcome::StoredBefore as i32,
                            conversation: key.conversation,
                            counter: key.counter,
                            user: key.sender,
                            ..SendAnswer::default()
                        }),
                    };
                    round.found.push((*key, first));
                }
                Key::Settled(_) | Key::Elsewhere(_) => {}
            }
        }
        if !users.is_empty() {
            round.users = self.shelf.users(&users).await?;
        }
        if !conversations.is_empty() {
            round.conversations = self.shelf.conversations(&conversations).await?;
            let there = |id: &u64| round.conversations.iter().any(|c| c.id == *id);
            round.missing = conversations.into_iter().filter(|id| !there(id)).collect();
        }
        if !pairs.is_empty() {
            let found = self.shelf.pairs(&pairs).await?;
            let of = |(low, high): (u64, u64)| found.iter().find(|f| (f.0, f.1) == (low, high)).map(|f| f.2);
            round.pairs = pairs.into_iter().map(|pair| (pair.0, pair.1, of(pair))).collect();
        }
        Ok(round)
    }

    fn install(&self, desk: &mut Desk, round: Round, now_ms: u64) {
        let state = &mut desk.state;
        round.conversations.into_iter().for_each(|c| state.install_conversation(c, now_ms));
        round.missing.into_iter().for_each(|id| state.install_missing(id));
        round.pairs.into_iter().for_each(|(low, high, id)| state.install_pair(low, high, id));
        round.found.into_iter().for_each(|(key, answer)| state.install_found(key, answer));
        for user in round.users {
            let id = user.id;
            if !desk.state.install_user(user, now_ms) {
                desk.want(Key::User(id));
                continue;
            }
            self.settle(desk, id, now_ms);
        }
    }

    /// A user's stored part is in memory: his new devices are registered, his large conversations are brought in.
    pub(super) fn settle(&self, desk: &mut Desk, user: u64, now_ms: u64) {
        let (keys, records) = desk.state.settle_user(user, now_ms);
        keys.into_iter().for_each(|key| desk.want(key));
        if !records.is_empty()
            && !desk.stopped
            && let Err(error) = self.write(desk, records, Then::Nobody, Class::Normal, now_ms)
        {
            tracing::warn!(user, %error, "a device can't be registered; its cursor is not kept until it comes again");
        }
    }
}
