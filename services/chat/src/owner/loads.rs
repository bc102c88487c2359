//! Reading what the cores want from the store, many at a time, some rounds beside each other.
//!
//! Each reading remembers under which term of its bucket it began; what belongs to an earlier term is dropped by the cores.
//! A reading that fails because something in it can't be understood is divided until that stands alone ([`Parts`]): it is left
//! alone for a while, and everything else is there.

use super::OwnerNode;
use super::lines::Lines;
use super::reign::Reign;
use super::steps::next_reign;
use crate::cluster::Want;
use crate::core::{Key, SentKey, StoredConversation, StoredUser, stored};
use crate::store::StoreError;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use hashring::bucket_of;
use protocol::v1::{SendAnswer, SendOutcome};
use records::ChatMessage;
use runtime::{Backoff, BackoffPolicy, Shutdown};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Rounds under way.
const ROUNDS_MAX: usize = 6;
/// Keys of a round.
const ROUND: usize = 256;
/// Users of a round whose places are in doubt.
const DOUBTS: usize = 64;
/// Messages or answers that are asked for one by one, at a time.
const ONE_BY_ONE: usize = 8;
/// How long to wait after the store has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// Buckets of one reading of what is not handed on.
const UNFANNED_BUCKETS: usize = 512;
/// Conversations of one page of it.
const UNFANNED_PAGE: usize = 128;
/// The next page waits while so many conversations are being handed on.
const FANNING_MAX: usize = 8_192;

const AGAIN: BackoffPolicy = BackoffPolicy { first_ms: 50, max_ms: 1_000, repeats: 2, spread_permille: 300 };

/// Places of a user that are in doubt: conversations, and the version as of which each is.
pub(super) type Doubts = Vec<(u64, u64)>;

/// A round of wants.
#[derive(Default)]
struct Reading {
    found: Found,
    /// These were read.
    read: Vec<Want>,
    /// These can't be understood.
    unreadable: Vec<(Want, StoreError)>,
    /// These have to be read again, the store does not answer.
    failed: Vec<Want>,
    error: Option<StoreError>,
}

/// What was read.
#[derive(Default)]
struct Found {
    users: Vec<StoredUser>,
    conversations: Vec<(StoredConversation, u32)>,
    missing: Vec<(u64, u32)>,
    pairs: Vec<(u64, u64, Option<u64>)>,
    sent: Vec<(SentKey, Option<SendAnswer>, u32)>,
    messages: Vec<(u64, Vec<ChatMessage>, u32)>,
}

impl Found {
    fn add(&mut self, more: Found) {
        self.users.extend(more.users);
        self.conversations.extend(more.conversations);
        self.missing.extend(more.missing);
        self.pairs.extend(more.pairs);
        self.sent.extend(more.sent);
        self.messages.extend(more.messages);
    }
}

/// The parts of what is to be read.
struct Parts<T>(Vec<Vec<T>>);

impl<T> Parts<T> {
    /// All of it at once.
    fn of(all: Vec<T>) -> Parts<T> {
        Parts(vec![all])
    }

    fn next(&mut self) -> Option<Vec<T>> {
        self.0.pop()
    }

    /// If something in this part can't be understood, and it is not yet known what, both halves come again.
    fn divide(&mut self, part: &mut Vec<T>, error: &StoreError) -> bool {
        let divides = error.is_lasting() && part.len() > 1;
        if divides {
            let other = part.split_off(part.len() / 2);
            self.0.extend([std::mem::take(part), other]);
        }
        divides
    }
}

impl Lines {
    /// Takes over what the timelines want from the store, each with the term of its bucket now. Whether there is anything.
    pub fn take_wants(&mut self) -> bool {
        let users = self.core.wants();
        let doubts = self.core.doubts();
        let term = |user: u64| self.core.term(bucket_of(user).get()).unwrap_or(0);
        let users: Vec<(u64, u32)> = users.into_iter().map(|user| (user, term(user))).collect();
        let doubts: Vec<(u64, Doubts, u32)> =
            doubts.into_iter().map(|(user, asked)| (user, asked, term(user))).collect();
        self.users.extend(users);
        self.doubts.extend(doubts);
        !self.users.is_empty() || !self.doubts.is_empty()
    }
}

impl OwnerNode {
    pub(super) async fn run_loads(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        let mut reigns = self.reign.subscribe();
        while let Some(reign) = next_reign(&mut reigns, &stop).await {
            self.load_all(&reign, &stop).await;
        }
        Ok(())
    }

    async fn load_all(&self, reign: &Reign, stop: &Shutdown) {
        let mut rounds: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        // One reading of what is not handed on, beside the others.
        let mut unfanned: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        while !reign.over.is_requested() && !stop.is_requested() {
            while rounds.len() < ROUNDS_MAX
                && let Some(round) = self.next_round(reign)
            {
                rounds.push(round);
            }
            if unfanned.is_empty() {
                let mut waiting = reign.unfanned.lock();
                let some: BTreeMap<u16, u32> =
                    waiting.iter().take(UNFANNED_BUCKETS).map(|(bucket, term)| (*bucket, *term)).collect();
                waiting.retain(|bucket, _| !some.contains_key(bucket));
                drop(waiting);
                if !some.is_empty() {
                    unfanned.push(Box::pin(self.load_unfanned(reign, some)));
                }
            }
            tokio::select! {
                Some(()) = rounds.next(), if !rounds.is_empty() => {}
                Some(()) = unfanned.next(), if !unfanned.is_empty() => {}
                () = self.wakes.loads.notified(), if rounds.len() < ROUNDS_MAX => {}
                () = stop.wait() => {}
                () = reign.over.wait() => {}
            }
        }
    }

    fn next_round<'a>(&'a self, reign: &'a Reign) -> Option<BoxFuture<'a, ()>> {
        let wants = take(&mut reign.wanted.lock(), ROUND);
        if !wants.is_empty() {
            return Some(Box::pin(self.load_wants(reign, wants)));
        }
        let mut lines = reign.lines.lock();
        let users = take(&mut lines.users, ROUND);
        if !users.is_empty() {
            drop(lines);
            return Some(Box::pin(self.load_users(reign, users)));
        }
        let doubts = take(&mut lines.doubts, DOUBTS);
        drop(lines);
        if !doubts.is_empty() {
            return Some(Box::pin(self.load_doubts(reign, doubts)));
        }
        None
    }

    async fn load_wants(&self, reign: &Reign, wants: Vec<(Want, u32)>) {
        let Reading { found, read, unreadable, failed, error } = self.read_wants(wants).await;
        let now_ms = self.clock.now_ms();
        let replies = {
            let mut on = reign.conversations.lock();
            read.iter().chain(&failed).for_each(|want| on.answered(want));
            for (want, error) in &unreadable {
                if on.answered_unreadable(want, now_ms).is_power_of_two() {
                    tracing::error!(?want, %error, "something in chat's store can't be understood; it is left alone for a while");
                }
            }
            let Found { users, conversations, missing, pairs, sent, messages } = found;
            conversations.into_iter().for_each(|(c, term)| on.install(c, term, now_ms));
            missing.into_iter().for_each(|(id, term)| on.install_missing(id, term));
            pairs.into_iter().for_each(|(low, high, id)| on.install_pair(low, high, id, now_ms));
            users.into_iter().for_each(|user| on.install_user(user, now_ms));
            sent.into_iter().for_each(|(key, answer, term)| on.install_found(key, answer, term));
            messages.into_iter().for_each(|(id, found, term)| on.give_messages(id, found, term));
            match &error {
                None => on.retry(now_ms),
                Some(error) => {
                    tracing::warn!(%error, "what chat's decisions need can't be read");
                    on.refuse_parked("the store can't be read just now")
                }
            }
        };
        self.answer_parked_of(reign, replies);
        self.tell_waiters(error.is_some());
        self.wakes.conversations.notify_one();
        if error.is_some() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }

    /// Reads a round, in smaller parts if something in it can't be understood.
    async fn read_wants(&self, wants: Vec<(Want, u32)>) -> Reading {
        let (mut reading, mut parts) = (Reading::default(), Parts::of(wants));
        while let Some(mut part) = parts.next() {
            match self.read_part(&part).await {
                Ok(found) => {
                    reading.found.add(found);
                    reading.read.extend(part.iter().map(|(want, _)| *want));
                }
                Err(error) if parts.divide(&mut part, &error) => {}
                Err(error) if error.is_lasting() => {
                    reading.unreadable.extend(part.pop().map(|(want, _)| (want, error)));
                }
                Err(error) => {
                    reading.failed.extend(part.iter().map(|(want, _)| *want));
                    reading.error = Some(error);
                }
            }
        }
        reading
    }

    async fn read_part(&self, wants: &[(Want, u32)]) -> Result<Found, StoreError> {
        let shelf = &self.stores.shelf;
        let mut found = Found::default();
        let (mut users, mut conversations, mut pairs) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (mut sent, mut messages) = (Vec::new(), Vec::new());
        for (want, term) in wants {
            match want {
                Want::Key(Key::User(user)) => users.push(*user),
                Want::Key(Key::Conversation(id)) => drop(conversations.insert(*id, *term)),
                Want::Key(Key::Pair(low, high)) => pairs.push((*low, *high)),
                Want::Key(Key::Sent(key)) => sent.push((*key, *term)),
                Want::Messages { conversation, from, to } => {
                    messages.push((*conversation, *from, *to, *term));
                }
                Want::Key(Key::Settled(_) | Key::Elsewhere(_)) => {}
            }
        }
        if !users.is_empty() {
            found.users = shelf.users(&users).await?;
        }
        if !conversations.is_empty() {
            let ids: Vec<u64> = conversations.keys().copied().collect();
            for stored in shelf.conversations(&ids).await? {
                if let Some(term) = conversations.remove(&stored.id) {
                    found.conversations.push((stored, term));
                }
            }
            found.missing = conversations.into_iter().collect();
        }
        if !pairs.is_empty() {
            let there: BTreeMap<(u64, u64), u64> =
                shelf.pairs(&pairs).await?.into_iter().map(|(low, high, id)| ((low, high), id)).collect();
            let of = |pair: (u64, u64)| (pair.0, pair.1, there.get(&pair).copied());
            found.pairs = pairs.into_iter().map(of).collect();
        }
        for some in sent.chunks(ONE_BY_ONE) {
            found
                .sent
                .extend(try_join_all(some.iter().map(|(key, term)| self.read_sent(*key, *term))).await?);
        }
        for some in messages.chunks(ONE_BY_ONE) {
            let read = some.iter().map(|(id, from, to, term)| async move {
                Ok::<_, StoreError>((*id, shelf.messages(*id, *from, *to).await?, *term))
            });
            found.messages.extend(try_join_all(read).await?);
        }
        Ok(found)
    }

    async fn read_sent(
        &self,
        key: SentKey,
        term: u32,
    ) -> Result<(SentKey, Option<SendAnswer>, u32), StoreError> {
        let answer = match self.stores.shelf.sent(key, self.clock.now_ms()).await? {
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
        Ok((key, answer, term))
    }

    async fn load_users(&self, reign: &Reign, users: Vec<(u64, u32)>) {
        let terms: BTreeMap<u64, u32> = users.iter().copied().collect();
        let mut parts = Parts::of(users.iter().map(|(user, _)| *user).collect());
        let mut failed = false;
        while let Some(mut part) = parts.next() {
            let found = self.stores.shelf.users(&part).await;
            let now_ms = self.clock.now_ms();
            let mut lines = reign.lines.lock();
            match found {
                Ok(found) => {
                    for stored in found {
                        let term = terms.get(&stored.id).copied().unwrap_or(0);
                        lines.core.install(stored, term, now_ms);
                    }
                }
                Err(error) if parts.divide(&mut part, &error) => {}
                Err(error) => {
                    failed |= !error.is_lasting();
                    for user in part {
                        let times =
                            if error.is_lasting() { lines.core.found_unreadable(user, now_ms) } else { 0 };
                        if times.is_power_of_two() {
                            tracing::error!(user, %error, "a user of chat can't be read; he is left alone for a while");
                        }
                        lines.core.want(user);
                    }
                    if !error.is_lasting() {
                        tracing::warn!(%error, "users of chat can't be read");
                    }
                }
            }
        }
        self.tell_lines(failed);
        if failed {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
        self.wakes.lines.notify_one();
    }

    async fn load_doubts(&self, reign: &Reign, doubts: Vec<(u64, Doubts, u32)>) {
        let mut failed = false;
        for some in doubts.chunks(ONE_BY_ONE) {
            let read = some.iter().map(|(user, asked, _)| async move {
                let conversations: Vec<u64> = asked.iter().map(|(id, _)| *id).collect();
                self.stores.shelf.links(*user, &conversations).await
            });
            let found = futures_util::future::join_all(read).await;
            let now_ms = self.clock.now_ms();
            let mut lines = reign.lines.lock();
            for ((user, asked, term), found) in some.iter().zip(found) {
                match &found {
                    Ok(_) => {}
                    Err(error) if error.is_lasting() => drop(lines.core.found_unreadable(*user, now_ms)),
                    Err(_) => failed = true,
                }
                lines.core.resolve(*user, asked, found.as_deref().ok(), *term);
            }
        }
        if failed {
            tracing::warn!("places of users can't be read; they are read again");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
        self.wakes.lines.notify_one();
    }

    /// What former owners of buckets have not handed on is brought in, page by page, until the store has said all.
    async fn load_unfanned(&self, reign: &Reign, buckets: BTreeMap<u16, u32>) {
        let numbers: Vec<u16> = buckets.keys().copied().collect();
        let (mut after, mut backoff) = (0, Backoff::new(AGAIN));
        while !reign.over.is_requested() {
            let wait_ms = match self.load_unfanned_page(reign, (&numbers, &buckets), after).await {
                Ok((None, _)) => return,
                Ok((Some(last), fanning)) => {
                    backoff.succeeded();
                    after = last;
                    if fanning < FANNING_MAX { 0 } else { 50 }
                }
                Err(error) => {
                    tracing::warn!(%error, "what is to be handed on can't be read; it is read again");
                    backoff.failed(self.clock.mono_ns())
                }
            };
            // A store in memory must not keep the others from running.
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// A page of it: its last conversation, if there may be more, and how many are being handed on. Those that can't be
    /// understood are looked at again every now and then.
    async fn load_unfanned_page(
        &self,
        reign: &Reign,
        (numbers, terms): (&[u16], &BTreeMap<u16, u32>),
        after: u64,
    ) -> Result<(Option<u64>, usize), StoreError> {
        let ids = self.stores.shelf.unfanned(numbers, after, UNFANNED_PAGE).await?;
        let next = ids.last().copied().filter(|_| ids.len() >= UNFANNED_PAGE);
        let term = |id: u64| terms.get(&bucket_of(id).get()).copied().unwrap_or(0);
        let wants = ids.iter().map(|id| (Want::Key(Key::Conversation(*id)), term(*id))).collect();
        let Reading { found, unreadable, error, .. } = self.read_wants(wants).await;
        if let Some(error) = error {
            return Err(error);
        }
        let now_ms = self.clock.now_ms();
        let mut on = reign.conversations.lock();
        found.conversations.into_iter().for_each(|(stored, term)| on.install(stored, term, now_ms));
        for (want, error) in &unreadable {
            tracing::error!(?want, %error, "what is to be handed on can't be understood; it is looked at again");
            on.answered_unreadable(want, now_ms);
            if let Want::Key(Key::Conversation(id)) = want {
                on.look_again(*id);
            }
        }
        let fanning = on.fanning();
        drop(on);
        self.wakes.conversations.notify_one();
        Ok((next, fanning))
    }
}

/// Takes some out, the oldest first.
fn take<T>(from: &mut Vec<T>, count: usize) -> Vec<T> {
    let count = count.min(from.len());
    from.drain(..count).collect()
}
