//! Requests that only look: at a timeline's owner, at a conversation's, or in the store alone.

use super::OwnerNode;
use super::lines::Lines;
use super::reign::Then;
use super::reply::{Denied, unavailable};
use crate::cluster::{
    Conversations, ListPlan, PULLED_MAX, RESTING, Span, SyncFound, SyncNeeds, USERS_MAX, friends_answer,
    profiles_answer, sync_answer,
};
use crate::core::{Stop, StoredUser, few, limit};
use crate::store::StoreError;
use futures_util::future::try_join_all;
use protocol::calls::CallError;
use protocol::v1::{
    ConversationsAnswer, ConversationsRequest, DevicesAnswer, FriendsAnswer, FriendsRequest, MembersAnswer,
    MembersRequest, ProfilesAnswer, ProfilesRequest, RangeAnswer, RangeRequest, SyncAnswer, SyncRequest,
};
use records::ChatMessage;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a request waits for a user's own part.
const WAIT: Duration = Duration::from_secs(10);

/// To whoever asked for something that the store did not say.
pub(super) fn told(error: StoreError) -> CallError {
    tracing::warn!(%error, "what a request needs can't be read");
    unavailable()
}

impl OwnerNode {
    /// Looks at a user's timeline, as often as it takes until his own part is in memory.
    pub(super) async fn look<T>(
        &self,
        user: u64,
        mut look: impl FnMut(&mut Lines, u64, u32) -> Result<Option<T>, CallError>,
    ) -> Result<T, CallError> {
        let until = tokio::time::Instant::now() + WAIT;
        loop {
            let mut news = self.line_news.subscribe();
            let reign = self.fresh_reign()?;
            {
                let now_ms = self.clock.now_ms();
                let mut lines = reign.lines.lock();
                if !lines.core.owns(user) {
                    return Err(Denied::Elsewhere(user).into());
                }
                let seen = look(&mut lines, now_ms, reign.epoch)?;
                self.flush(&reign, lines);
                // What was changed is to be stored, what is wanted to be read.
                self.wakes.lines.notify_one();
                if let Some(seen) = seen {
                    return Ok(seen);
                }
            }
            let changed = tokio::time::timeout_at(until, news.changed()).await;
            let failed = news.borrow().1;
            if !matches!(changed, Ok(Ok(()))) || failed {
                return Err(unavailable());
            }
        }
    }

    /// Looks at a conversation; what is seen is durable when this returns.
    pub(super) async fn view<T>(
        &self,
        id: u64,
        mut look: impl FnMut(&mut Conversations<Then>) -> Result<T, Stop>,
    ) -> Result<T, Denied> {
        self.write(|on, now_ms| {
            let seen = look(on)?;
            if on.rests(id, now_ms).is_some() {
                return Err(CallError::Unavailable(RESTING.to_owned()).into());
            }
            let (told, wait) = oneshot::channel();
            Ok((seen, on.seen(id, Then::Waiter(told)).is_none().then_some(wait)))
        })
        .await
    }

    pub(super) async fn sync(&self, user: u64, ask: SyncRequest) -> Result<SyncAnswer, CallError> {
        few(ask.pulled.len(), PULLED_MAX, "conversations pulled")?;
        let (standing, plan) = self
            .look(user, |lines, now_ms, _| {
                let standing = lines.core.standing(user, now_ms);
                Ok(standing.zip(lines.core.sync(user, ask.cursor, now_ms)))
            })
            .await?;
        let shelf = &self.stores.shelf;
        let page = if ask.cursor == 0 {
            Err(plan.committed)
        } else {
            let limit = limit(ask.limit, 100, 500);
            let stored = match plan.reads() {
                true => shelf.entries(user, ask.cursor, limit + 1).await.map_err(told)?,
                false => Vec::new(),
            };
            Ok(plan.answer(stored, limit))
        };
        let needs = SyncNeeds::of(&standing, page.as_ref().map_or(&[][..], |(entries, ..)| &entries[..]));
        let mut found = SyncFound::default();
        if !needs.places.is_empty() {
            found.links = shelf.links(user, &needs.places).await.map_err(told)?;
            let left = needs.left(&found.links);
            if !left.is_empty() {
                found.heads = shelf.heads(&left).await.map_err(told)?;
            }
        }
        let spans = try_join_all(needs.spans.iter().map(|span| self.span(*span))).await?;
        found.messages = spans.into_iter().flatten().collect();
        Ok(sync_answer(&ask, &standing, page, &found))
    }

    /// Durable messages: from memory if they are this node's, from common memory, from the store.
    async fn span(&self, span: Span) -> Result<Vec<ChatMessage>, CallError> {
        let Span { conversation, from, to } = span;
        let is_whole = |count: usize| count as u64 == to.saturating_sub(from) + 1;
        if let Some(reign) = self.reign_now()
            && let Some((_, hot)) = reign.conversations.lock().recent(conversation, from, to)
            && is_whole(hot.len())
        {
            return Ok(hot.iter().map(|m| (**m).clone()).collect());
        }
        if let Some(books) = &self.stores.books
            && let Ok(found) = books.recent(conversation, from, to).await
            && is_whole(found.len())
        {
            return Ok(found);
        }
        match self.stores.shelf.messages(conversation, from, to).await {
            // The entries go without their messages, and who asks for those hears what is wrong.
            Err(error) if error.is_lasting() => {
                tracing::error!(conversation, %error, "messages can't be read, and are left out of a sync");
                Ok(Vec::new())
            }
            read => read.map_err(told),
        }
    }

    pub(super) async fn range(&self, user: u64, ask: RangeRequest) -> Result<RangeAnswer, CallError> {
        let id = ask.conversation;
        let plan = self.view(id, |on| on.range(user, &ask)).await?;
        let stored = match plan.reads() {
            Some((from, to)) => self.stores.shelf.messages(id, from, to).await.map_err(told)?,
            None => Vec::new(),
        };
        Ok(plan.answer(stored))
    }

    pub(super) async fn members(&self, user: u64, ask: MembersRequest) -> Result<MembersAnswer, CallError> {
        Ok(self.view(ask.conversation, |on| on.members(user, &ask)).await?)
    }

    pub(super) async fn conversations(
        &self,
        user: u64,
        ask: ConversationsRequest,
    ) -> Result<ConversationsAnswer, CallError> {
        let found = self.stores.shelf.users(&[user]).await.map_err(told)?.pop();
        let stored = found.unwrap_or_else(|| StoredUser { id: user, ..StoredUser::default() });
        let plan = ListPlan::new(&stored, &ask);
        let listed = match plan.reads() {
            [] => Vec::new(),
            page => self.stores.shelf.listed(user, page).await.map_err(told)?,
        };
        Ok(plan.answer(&listed))
    }

    pub(super) async fn friends(&self, user: u64, ask: FriendsRequest) -> Result<FriendsAnswer, CallError> {
        let page = self.look(user, |lines, now_ms, _| Ok(lines.core.friends(user, &ask, now_ms))).await?;
        let users: Vec<u64> = page.0.iter().map(|friend| friend.user).collect();
        let persons = match &users[..] {
            [] => Vec::new(),
            users => self.stores.shelf.persons(users).await.map_err(told)?,
        };
        Ok(friends_answer(&page, &persons))
    }

    pub(super) async fn profiles(
        &self,
        user: u64,
        ask: ProfilesRequest,
    ) -> Result<ProfilesAnswer, CallError> {
        few(ask.users.len(), USERS_MAX, "users")?;
        let mut users: Vec<u64> = ask.users.iter().chain([&user]).copied().collect();
        users.sort_unstable();
        users.dedup();
        let persons = self.stores.shelf.persons(&users).await.map_err(told)?;
        Ok(profiles_answer(&self.options, user, &ask, &persons))
    }

    pub(super) async fn devices(&self, user: u64) -> Result<DevicesAnswer, CallError> {
        self.look(user, |lines, now_ms, _| Ok(lines.core.devices(user, now_ms))).await
    }
}
