//! Requests that only look.

use super::ChatNode;
use super::messages::Span;
use super::write::of_member;
use crate::core::{Conversation, Friend, Key, Stop, goes_along, wire};
use crate::limits;
use flowlog::Disk;
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::{
    ChatMessage, ConversationKind, ConversationView, ConversationsAnswer, ConversationsRequest, DeviceView,
    DevicesAnswer, Entry, FanOut, FriendState, FriendView, FriendsAnswer, FriendsRequest, Head, MemberView,
    MembersAnswer, MembersRequest, PresenceAnswer, PresenceRequest, Profile, ProfilesAnswer, ProfilesRequest,
    RangeAnswer, RangeRequest, Role, SyncAnswer, SyncRequest,
};
use std::collections::HashMap;

/// Spans of stored messages that one sync reads; what is left out is asked for.
const SYNC_SPANS_MAX: usize = 16;

/// A limit as asked for: its default for 0, and never more than its maximum.
fn limit(asked: u32, default: usize, max: usize) -> usize {
    if asked == 0 { default } else { (asked as usize).min(max) }
}

/// Whether something asked for many at a time.
fn few(count: usize, max: usize, what: &str) -> Result<(), CallError> {
    if count <= max {
        return Ok(());
    }
    Err(CallError::Invalid(format!("{count} {what}; at most {max} at a time")))
}

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
        let id = ask.conversation;
        let limit = limit(ask.limit, 50, 200) as u64;
        let (first, last) = self
            .decide(|desk, _| {
                let conversation = of_member(&desk.state, id, user)?;
                let first = conversation.member(user).map_or(1, |m| m.first_seq().max(1));
                Ok((first, conversation.head.last_seq))
            })
            .await?;
        let low = ask.from_seq.max(first);
        let high = if ask.to_seq == 0 { last } else { ask.to_seq.min(last) };
        let (from, to) = match ask.newest_first {
            true => (low.max((high + 1).saturating_sub(limit)), high),
            false => (low, high.min(low.saturating_add(limit - 1))),
        };
        let mut more = low <= high && (from > low || to < high);
        let mut found = self.span(Span { conversation: id, from, to }).await?;
        if ask.newest_first {
            found.reverse();
        }
        let messages = self
            .decide(|desk, _| {
                let conversation = of_member(&desk.state, id, user)?;
                let Some(member) = conversation.member(user) else { return Ok(Vec::new()) };
                let mut bytes = 0;
                let mut messages: Vec<ChatMessage> = Vec::new();
                for message in found.iter().filter(|m| member.sees(m.seq)) {
                    bytes += message.body.len();
                    if bytes > limits::ANSWER_BYTES_MAX && !messages.is_empty() {
                        more = true;
                        break;
                    }
                    messages.push(wire(message, conversation.head.is_recalled(message.seq)));
                }
                Ok(messages)
            })
            .await?;
        Ok(RangeAnswer { messages, first_seq: first, last_seq: last, more })
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
        let limit = limit(ask.limit, 100, 500);
        self.decide(|desk, _| {
            let conversation = of_member(&desk.state, ask.conversation, user)?;
            let from = conversation.members.partition_point(|m| m.user <= ask.after_user);
            let rest = &conversation.members[from..];
            let view = |m: &crate::core::Member| MemberView {
                user: m.user,
                role: m.role.cast_signed(),
                muted: m.muted,
                joined_seq: m.joined_seq,
            };
            Ok(MembersAnswer {
                members: rest.iter().take(limit).map(view).collect(),
                more: rest.len() > limit,
                total: conversation.members.len() as u32,
            })
        })
        .await
    }

    pub(super) async fn friends(&self, user: u64, ask: FriendsRequest) -> Result<FriendsAnswer, CallError> {
        let limit = limit(ask.limit, 100, 500);
        let (friends, more) = self
            .decide(|desk, _| {
                let all = &desk.state.loaded(user)?.person.friends;
                let rest = &all[all.partition_point(|f| f.user <= ask.after_user)..];
                Ok((rest.iter().take(limit).copied().collect::<Vec<Friend>>(), rest.len() > limit))
            })
            .await?;
        self.expect(friends.iter().map(|f| Key::User(f.user)));
        let friends = self
            .decide(|desk, _| {
                let view = |friend: &Friend| -> Result<FriendView, Stop> {
                    let state = match friend {
                        Friend { blocks: true, .. } => FriendState::Blocked,
                        Friend { asks: true, asked: true, .. } => FriendState::Friends,
                        Friend { asks: true, .. } => FriendState::Asked,
                        _ => FriendState::Asks,
                    };
                    let name = desk.state.loaded(friend.user)?.person.name.clone();
                    Ok(FriendView { user: friend.user, state: state as i32, name })
                };
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
                let app = self.options.accounts.applications.iter().find(|a| a.account == *other);
                let person = &desk.state.loaded(*other)?.person;
                let name = match app {
                    Some(app) => {
                        crate::accounts::in_language(&app.names, &my_language, &self.options.language)
                            .cloned()
                            .unwrap_or_default()
                    }
                    None => person.name.clone(),
                };
                let language = if *other == user { person.language.clone() } else { String::new() };
                profiles.push(Profile { user: *other, name, official: app.is_some(), language });
            }
            Ok(ProfilesAnswer { profiles })
        })
        .await
    }

    pub(super) async fn devices(&self, user: u64) -> Result<DevicesAnswer, CallError> {
        self.decide(|desk, _| {
            let loaded = desk.state.loaded(user)?;
            let conns = desk.state.user(user).map(|u| &u.conns[..]).unwrap_or_default();
            let view = |d: &crate::core::Device| {
                let beat = conns.iter().filter(|c| c.device == d.device).map(|c| c.beat_ms).max();
                let seen_ms = d.seen_ms.max(beat.unwrap_or(0));
                DeviceView { device: d.device, cursor: d.cursor, seen_ms, online: beat.is_some() }
            };
            Ok(DevicesAnswer { devices: loaded.person.devices.iter().map(view).collect() })
        })
        .await
    }
}

/// A conversation as one of its members sees it in his list.
fn view(conversation: &Conversation, user: u64) -> Option<ConversationView> {
    let member = conversation.member(user)?;
    let (head, kind) = (&conversation.head, conversation.kind());
    let pair = matches!(kind, ConversationKind::Pair | ConversationKind::Official);
    let last = conversation.recent.back().filter(|m| member.sees(m.seq));
    Some(ConversationView {
        conversation: conversation.id,
        kind: kind as i32,
        peer: if pair { conversation.peer_of(user) } else { 0 },
        name: head.name.clone(),
        last_seq: head.last_seq,
        read_seq: member.read_seq,
        unread: conversation.unread(member),
        last: last.map(|m| wire(m, head.is_recalled(m.seq))),
        members: conversation.members.len() as u32,
        role: Role::try_from(member.role.cast_signed()).unwrap_or_default() as i32,
        fan_out: FanOut::try_from(head.fan_out.cast_signed()).unwrap_or_default() as i32,
        muted: member.quiet,
        active_ms: head.active_ms,
    })
}
