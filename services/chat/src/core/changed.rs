//! What a change of a conversation does to it and to its members.

use super::conversation::{Member, NO_SLOT};
use super::pushes::Pushing;
use super::state::State;
use super::user::Entry;
use crate::limits;
use prost::Message as _;
use protocol::v1::change::What;
use protocol::v1::{Change, ConversationKind, FanOut, GroupMade, MutedSet, Role, RoleSet};
use records::ChatMessage;
use std::sync::Arc;

/// Applies a change, before or behind giving it to the members.
pub(super) fn apply(
    state: &mut State,
    message: &Arc<ChatMessage>,
    entry: Entry,
    now_ms: u64,
    out: &mut Pushing,
) -> Result<(), String> {
    let change = Change::decode(&*message.body).map_err(|e| e.to_string())?;
    let id = message.conversation;
    let what = change.what.ok_or("a change that changes nothing")?;
    match &what {
        What::Made(made) => {
            make(state, message, change.by, made, now_ms);
            state.deliver(message, entry, now_ms, out);
        }
        What::Joined(more) => {
            join(state, id, entry, &more.users, now_ms);
            state.deliver(message, entry, now_ms, out);
        }
        What::Left(gone) => {
            state.deliver(message, entry, now_ms, out);
            leave(state, id, &gone.users);
        }
        What::FanOut(_) => {
            state.deliver(message, entry, now_ms, out);
            grow(state, id);
        }
        other => {
            state.deliver(message, entry, now_ms, out);
            set(state, id, other);
        }
    }
    if let Some(conversation) = state.conversations.get_mut(&id) {
        conversation.head.members = conversation.members.len() as u32;
        // Only the last of several changes that were decided together lets others be decided; where timelines are
        // elsewhere, not before they have heard of it.
        conversation.changing = conversation.taken_seq > message.seq || state.apart.is_some();
    }
    Ok(())
}

fn make(state: &mut State, message: &ChatMessage, by: u64, made: &GroupMade, now_ms: u64) {
    let id = message.conversation;
    if let Some(conversation) = state.conversations.get_mut(&id) {
        let head = &mut conversation.head;
        head.kind = ConversationKind::Group as u32;
        head.fan_out = u32::from(message.fan_out);
        head.name.clone_from(&made.name);
    }
    join(state, id, Entry { cursor: state.cursor, conversation: id, seq: 1 }, &made.members, now_ms);
    if let Some(conversation) = state.conversations.get_mut(&id)
        && let Some(at) = conversation.index_of(by)
    {
        conversation.members[at].role = Role::Owner as u32;
    }
    let Some(slot) = state.slot(by).filter(|_| state.apart.is_none()) else { return };
    state.user_changes(slot, true);
    if let Some(loaded) = &mut state.users[slot as usize].loaded {
        let list = &mut loaded.person.made;
        if list.len() >= limits::MADE_REMEMBERED {
            list.remove(0);
        }
        let (device, request) = (message.device, message.counter);
        list.push(super::user::Made { device, request, conversation: id });
    }
}

/// Users come in by message `entry.seq`, which they see.
fn join(state: &mut State, id: u64, entry: Entry, users: &[u64], now_ms: u64) {
    let Some(large) = state.conversations.get(&id).map(|c| c.head.is_large()) else { return };
    let mut slots = Vec::with_capacity(users.len());
    let apart = state.apart.is_some();
    for user in users {
        if apart {
            slots.push(NO_SLOT);
            continue;
        }
        let slot = state.place(*user, entry.cursor - 1, now_ms);
        state.users[slot as usize].refs += u32::from(!large);
        state.link(*user, id, true, large, entry.cursor - 1);
        slots.push(slot);
    }
    let is_online = |slot: &u32| state.users.get(*slot as usize).is_some_and(|user| !user.conns.is_empty());
    let online: Vec<bool> = slots.iter().map(is_online).collect();
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let old = std::mem::take(&mut conversation.members);
    let old_slots = std::mem::take(&mut conversation.slots);
    let mut came: Vec<(u64, u32, bool)> =
        users.iter().zip(slots).zip(online).map(|((u, s), o)| (*u, s, o)).collect();
    came.sort_unstable();
    let mut came = came.into_iter().peekable();
    let mut old = old.into_iter().zip(old_slots.into_iter().chain(std::iter::repeat(NO_SLOT))).peekable();
    loop {
        let next_old = old.peek().map_or(u64::MAX, |(m, _)| m.user);
        let next_new = came.peek().map_or(u64::MAX, |(u, ..)| *u);
        if next_old == u64::MAX && next_new == u64::MAX {
            break;
        }
        if next_old <= next_new {
            let Some((member, slot)) = old.next() else { break };
            if next_old == next_new {
                came.next();
            }
            conversation.members.push(member);
            conversation.slots.push(slot);
            continue;
        }
        let Some((user, slot, online)) = came.next() else { break };
        let own_at_read = conversation.own(user);
        conversation.members.push(Member {
            user,
            role: Role::Member as u32,
            joined_seq: entry.seq,
            read_seq: entry.seq,
            own_at_read,
            ..Member::default()
        });
        conversation.slots.push(slot);
        conversation.gone_members.retain(|g| *g != user);
        if conversation.dirty_members.last() != Some(&user) {
            conversation.dirty_members.push(user);
        }
        if large && online {
            conversation.online.push(slot);
        }
    }
    if large || apart {
        conversation.slots = Vec::new();
    }
}

fn leave(state: &mut State, id: u64, users: &[u64]) {
    let apart = state.apart.is_some();
    for user in users {
        let Some(conversation) = state.conversations.get_mut(&id) else { return };
        let Some(at) = conversation.index_of(*user) else { continue };
        let unread = conversation.unread(&conversation.members[at]);
        conversation.members.remove(at);
        conversation.dirty_members.retain(|d| d != user);
        conversation.gone_members.push(*user);
        let large = conversation.head.is_large();
        let slot = if large || apart { None } else { Some(conversation.slots.remove(at)) };
        if let Some(slot) = slot {
            let left = &mut state.users[slot as usize];
            left.unread = left.unread.saturating_sub(unread);
            left.refs = left.refs.saturating_sub(1);
        } else if let Some(slot) = state.by_id.get(user) {
            conversation.online.retain(|s| s != slot);
        }
        state.link(*user, id, false, large, state.cursor);
    }
}

/// From timelines to heads.
fn grow(state: &mut State, id: u64) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    if conversation.head.is_large() {
        return;
    }
    conversation.head.fan_out = FanOut::Read as u32;
    conversation.told_seq = conversation.head.last_seq;
    let slots = std::mem::take(&mut conversation.slots);
    for (member, slot) in conversation.members.iter().zip(slots) {
        let unread = conversation.unread(member);
        let user = &mut state.users[slot as usize];
        user.unread = user.unread.saturating_sub(unread);
        user.refs = user.refs.saturating_sub(1);
        if let Some(loaded) = &mut user.loaded
            && let Err(at) = loaded.large.binary_search(&id)
        {
            loaded.large.insert(at, id);
        }
        if !user.conns.is_empty() {
            conversation.online.push(slot);
        }
    }
}

fn set(state: &mut State, id: u64, what: &What) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    match what {
        What::Role(RoleSet { user, role }) => {
            let owner = Role::Owner as u32;
            if role.cast_unsigned() == owner
                && let Some(at) = conversation.members.iter().position(|m| m.role == owner)
            {
                conversation.members[at].role = Role::Admin as u32;
                conversation.member_changed(conversation.members[at].user);
            }
            if let Some(at) = conversation.index_of(*user) {
                conversation.members[at].role = role.cast_unsigned();
                conversation.member_changed(*user);
            }
        }
        What::Muted(MutedSet { user: 0, muted }) => conversation.head.muted_all = *muted,
        What::Muted(MutedSet { user, muted }) => {
            if let Some(at) = conversation.index_of(*user) {
                conversation.members[at].muted = *muted;
                conversation.member_changed(*user);
            }
        }
        What::Name(name) => conversation.head.name.clone_from(name),
        What::Dissolved(over) => conversation.head.dissolved = *over,
        What::Made(_) | What::Joined(_) | What::Left(_) | What::FanOut(_) => {}
    }
}
