//! Requests that only look.

use super::ChatNode;
use super::messages::Span;
use crate::core::{
    Conversation, Friend, Key, RangePlan, Stop, conversation_view, devices_answer, few, friend_view,
    friends_page, goes_along, limit, members_answer, profile_view, wire,
};
use crate::limits;
use flowlog::Disk;
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::{
    ConversationView, ConversationsAnswer, ConversationsRequest, DevicesAnswer, Entry, FriendsAnswer,
    FriendsRequest, Head, MembersAnswer, MembersRequest, PresenceAnswer, PresenceRequest, ProfilesAnswer,
    ProfilesRequest, RangeAnswer, RangeRequest, SyncAnswer, SyncRequest,
};
use std::collections::HashMap;

/// Spans of stored messages that one sync reads; what is left out is asked for.
const SYNC_SPANS_MAX: usize = 16;

impl<D: Disk> ChatNode<D> {
    pub(super) async fn sync(&self, who: DeviceAt, ask: SyncRequest) -> Result<SyncAnswer, CallError> {
        few(ask.pulled.len(), 500, "conversations pulled")?;
        let user = who.user;
        let pulled: HashMap<u64, u64> = ask.pulled.iter().map(|p| (p.conversation, p.seq)).collect();
        let (heads, unread_total, applied) = self
            .decide(|desk, _| {
                let state = &desk.state;
                let mut heads = Vec::new();
                for id in &state.loaded(user)?.large {
                    let Some(c) = state.settled(*id)? else { continue };
                    let last = c.head.last_seq;
                    if last > pulled.get(id).copied().unwrap_or(0) && heads.len() < 500 {
                        heads.push(Head { conversation: *id, seq: last, messages: Vec::new() });
                    }
                }
                let total = state.user(user).map_or(0, |u| state.unread_total(u));
                Ok((heads, total, state.cursor))
            })
            .await?;
        if ask.cursor == 0 {
            let cursor = applied;
            return Ok(SyncAnswer { cursor, heads, unread_total, start: true, ..SyncAnswer::default() });
        }
        let after = ask.cursor.min(applied);
        let limit = limit(ask.limit, 100, 500);
        let (entries, cursor, more) = self.timeline(user, after, limit).await?;
        let entries = self.with_messages(user, entries).await?;
        Ok(SyncAnswer { entries, cursor, more, heads, unread_total, start: false })
    }

    /// Entries with their messages, as far as they are at hand or can be read in a few places.
    async fn with_messages(
        &self,
        user: u64,
        entries: Vec<crate::core::Entry>,
    ) -> Result<Vec<Entry>, CallError> {
        let mut found: HashMap<(u64, u64), std::sync::Arc<records::ChatMessage>> = HashMap::new();
        let mut spans: HashMap<u64, Span> = HashMap::new();
        {
            let desk = self.desk.lock();
            for entry in &entries {
                let conversation = desk.state.conversations.get(&entry.conversation);
                match conversation.and_then(|c| c.recent(entry.seq)) {
                    Some(message) => drop(found.insert((entry.conversation, entry.seq), message.clone())),
                    None if conversation.is_some() => {
                        let (conversation, seq) = (entry.conversation, entry.seq);
                        let span =
                            spans.entry(conversation).or_insert(Span { conversation, from: seq, to: seq });
                        span.to = span.to.max(seq);
                    }
                    None => {}
                }
            }
        }
        for span in spans.into_values().take(SYNC_SPANS_MAX) {
            let span = Span { to: span.to.min(span.from + 499), ..span };
            let messages = self.span(span).await?;
            found.extend(messages.into_iter().map(|m| ((m.conversation, m.seq), m)));
        }
        let desk = self.desk.lock();
        let mut bytes = 0;
        let filled = entries.into_iter().map(|e| {
            let mut entry =
                Entry { cursor: e.cursor, conversation: e.conversation, seq: e.seq, message: None };
            if let (Some(message), Some(c)) =
                (found.get(&(e.conversation, e.seq)), desk.state.conversations.get(&e.conversation))
            {
                let deleted = c.member(user).is_some_and(|m| m.has_deleted(e.seq) || e.seq <= m.cleared_seq);
                bytes += message.body.len();
                if goes_along(message) && !deleted && bytes <= limits::ANSWER_BYTES_MAX {
                    entry.message = Some(wire(message, c.head.is_recalled(e.seq)));
                }
            }
            entry
        });
        Ok(filled.collect())
    }

    pub(super) async fn range(&self, user: u64, ask: RangeRequest) -> Result<RangeAnswer, CallError> {
        let plan = self
            .decide(|desk, _| {
                let (conversation, member) = desk.state.of_member(ask.conversation, user)?;
                Ok(RangePlan::new(conversation, member, &ask, conversation.head.last_seq))
            })
            .await?;
        let mut stored = Vec::new();
        // Memory was looked at first: what was not there any more is in the store by now.
        if let Some((from, to)) = plan.reads() {
            stored = self.shelf.messages(ask.conversation, from, to).await.map_err(|error| {
                tracing::warn!(%error, "messages can't be read");
                super::ask::unavailable()
            })?;
        }
        Ok(plan.answer(stored))
    }

    pub(super) async fn conversations(
        &self,
        user: u64,
        ask: ConversationsRequest,
    ) -> Result<ConversationsAnswer, CallError> {
        let limit = limit(ask.limit, 50, 200);
        let (mut all, cold) = self
            .decide(|desk, _| {
                let (mut warm, mut cold) = (Vec::new(), Vec::new());
                for id in &desk.state.loaded(user)?.links {
                    match desk.state.conversations.get(id) {
                        Some(c) => warm.push((c.head.active_ms, *id)),
                        None => cold.push(*id),
                    }
                }
                Ok((warm, cold))
            })
            .await?;
        if !cold.is_empty() {
            let stored = self.shelf.users(&[user]).await.map_err(|error| {
                tracing::warn!(%error, "a user's conversations can't be read");
                super::ask::unavailable()
            })?;
            let links = stored.into_iter().flat_map(|u| u.links);
            all.extend(
                links.filter(|l| cold.contains(&l.conversation)).map(|l| (l.head.active_ms, l.conversation)),
            );
        }
        all.sort_unstable_by(|a, b| b.cmp(a));
        if ask.before_ms != 0 || ask.before_conversation != 0 {
            all.retain(|key| *key < (ask.before_ms, ask.before_conversation));
        }
        let more = all.len() > limit;
        all.truncate(limit);
        self.expect(all.iter().map(|(_, id)| Key::Conversation(*id)));
        let (conversations, unread_total) = self
            .decide(|desk, _| {
                let state = &desk.state;
                for large in &state.loaded(user)?.large {
                    state.settled(*large)?;
                }
                let mut views = Vec::new();
                for (_, id) in &all {
                    let Some(conversation) = state.settled(*id)? else { continue };
                    views.extend(view(conversation, user));
                }
                Ok((views, state.user(user).map_or(0, |u| state.unread_total(u))))
            })
            .await?;
        Ok(ConversationsAnswer { conversations, unread_total, more })
    }

    pub(super) async fn members(&self, user: u64, ask: MembersRequest) -> Result<MembersAnswer, CallError> {
        self.decide(|desk, _| Ok(members_answer(desk.state.of_member(ask.conversation, user)?.0, &ask))).await
    }

    pub(super) async fn friends(&self, user: u64, ask: FriendsRequest) -> Result<FriendsAnswer, CallError> {
        let (friends, more) = self
            .decide(|desk, _| Ok(friends_page(&desk.state.loaded(user)?.person, ask.after_user, ask.limit)))
            .await?;
        self.expect(friends.iter().map(|f| Key::User(f.user)));
        let friends = self
            .decide(|desk, _| {
                let view =
                    |friend: &Friend| Ok(friend_view(friend, &desk.state.loaded(friend.user)?.person.name));
                friends.iter().map(view).collect::<Result<Vec<_>, Stop>>()
            })
            .await?;
        Ok(FriendsAnswer { friends, more })
    }

    pub(super) async fn presence(
        &self,
        who: DeviceAt,
        ask: PresenceRequest,
    ) -> Result<PresenceAnswer, CallError> {
        few(ask.users.len(), 100, "users")?;
        self.expect(ask.users.iter().chain([&who.user]).map(|u| Key::User(*u)));
        self.decide(|desk, _| {
            let mut presence = Vec::new();
            for other in &ask.users {
                if desk.state.may_see(who.user, *other)? {
                    presence.push(desk.state.presence_of(*other));
                }
            }
            if ask.watch {
                let seen: Vec<u64> = presence.iter().map(|p| p.user).collect();
                seen.into_iter().for_each(|other| desk.state.watch(other, who.user, who.device, who.at));
            }
            Ok(PresenceAnswer { presence })
        })
        .await
    }

    pub(super) async fn profiles(
        &self,
        user: u64,
        ask: ProfilesRequest,
    ) -> Result<ProfilesAnswer, CallError> {
        few(ask.users.len(), 100, "users")?;
        self.expect(ask.users.iter().chain([&user]).map(|u| Key::User(*u)));
        self.decide(|desk, _| {
            let my_language = desk.state.loaded(user)?.person.language.clone();
            let mut profiles = Vec::new();
            for other in &ask.users {
                let person = &desk.state.loaded(*other)?.person;
                profiles.push(profile_view(&self.options, (user, &my_language), *other, person));
            }
            Ok(ProfilesAnswer { profiles })
        })
        .await
    }

    pub(super) async fn devices(&self, user: u64) -> Result<DevicesAnswer, CallError> {
        self.decide(|desk, _| {
            let loaded = desk.state.loaded(user)?;
            let conns = desk.state.user(user).map(|u| &u.conns[..]).unwrap_or_default();
            Ok(devices_answer(&loaded.person, conns))
        })
        .await
    }
}

/// A conversation as one of its members sees it in his list.
fn view(conversation: &Conversation, user: u64) -> Option<ConversationView> {
    let member = conversation.member(user)?;
    let place = (&conversation.head, member, conversation.own(user));
    let last = conversation.recent.back().map(|m| &**m);
    Some(conversation_view(conversation.id, place, conversation.peer_of(user), last))
}
