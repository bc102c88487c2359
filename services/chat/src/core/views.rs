//! What users are shown of conversations, members, friends, profiles and devices: the same from memory and from the store.

use super::conversation::{Conversation, Head, Member};
use super::pushes::wire;
use super::user::{Conn, Device, Friend, Person};
use crate::options::ChatOptions;
use protocol::calls::CallError;
use protocol::v1::{
    ConversationKind, ConversationView, DeviceView, DevicesAnswer, FanOut, FriendState, FriendView,
    MemberView, MembersAnswer, MembersRequest, Profile, Role,
};
use records::ChatMessage;

/// A limit as asked for: its default for 0, and never more than its maximum.
pub fn limit(asked: u32, default: usize, max: usize) -> usize {
    if asked == 0 { default } else { (asked as usize).min(max) }
}

/// Whether something asked for few enough at a time.
///
/// # Errors
/// When not.
pub fn few(count: usize, max: usize, what: &str) -> Result<(), CallError> {
    if count <= max {
        return Ok(());
    }
    Err(CallError::Invalid(format!("{count} {what}; at most {max} at a time")))
}

/// A conversation as one of its members sees it in his list: itself, his place in it, counted messages that he sent.
/// `peer`: the other one of two. `last`: its last message.
pub fn conversation_view(
    id: u64,
    (head, member, own): (&Head, &Member, u64),
    peer: u64,
    last: Option<&ChatMessage>,
) -> ConversationView {
    let kind = ConversationKind::try_from(head.kind.cast_signed()).unwrap_or_default();
    let pair = matches!(kind, ConversationKind::Pair | ConversationKind::Official);
    ConversationView {
        conversation: id,
        kind: kind as i32,
        peer: if pair { peer } else { 0 },
        name: head.name.clone(),
        last_seq: head.last_seq,
        read_seq: member.read_seq,
        unread: head.counted().unread(member, own),
        last: last.filter(|m| member.sees(m.seq)).map(|m| wire(m, head.is_recalled(m.seq))),
        members: head.members,
        role: Role::try_from(member.role.cast_signed()).unwrap_or_default() as i32,
        fan_out: FanOut::try_from(head.fan_out.cast_signed()).unwrap_or_default() as i32,
        muted: member.quiet,
        active_ms: head.active_ms,
    }
}

/// A page of a conversation's members.
pub fn members_answer(conversation: &Conversation, ask: &MembersRequest) -> MembersAnswer {
    let limit = limit(ask.limit, 100, 500);
    let from = conversation.members.partition_point(|m| m.user <= ask.after_user);
    let rest = &conversation.members[from..];
    let view = |m: &Member| MemberView {
        user: m.user,
        role: m.role.cast_signed(),
        muted: m.muted,
        joined_seq: m.joined_seq,
    };
    MembersAnswer {
        members: rest.iter().take(limit).map(view).collect(),
        more: rest.len() > limit,
        total: conversation.members.len() as u32,
    }
}

/// A page of a user's friends, and others with whom there is something; whether there are more.
pub fn friends_page(person: &Person, after_user: u64, asked: u32) -> (Vec<Friend>, bool) {
    let limit = limit(asked, 100, 500);
    let rest = &person.friends[person.friends.partition_point(|f| f.user <= after_user)..];
    let mut rest = rest.iter().filter(|f| !f.is_nothing()).copied();
    let page: Vec<Friend> = rest.by_ref().take(limit).collect();
    (page, rest.next().is_some())
}

/// A friend, under the name that he has.
pub fn friend_view(friend: &Friend, name: &str) -> FriendView {
    let state = match friend {
        Friend { blocks: true, .. } => FriendState::Blocked,
        Friend { asks: true, asked: true, .. } => FriendState::Friends,
        Friend { asks: true, .. } => FriendState::Asked,
        _ => FriendState::Asks,
    };
    FriendView { user: friend.user, state: state as i32, name: name.to_owned() }
}

/// A profile as `viewer`, whose language is this, sees it.
pub fn profile_view(
    options: &ChatOptions,
    (viewer, language): (u64, &str),
    user: u64,
    person: &Person,
) -> Profile {
    let app = options.accounts.applications.iter().find(|a| a.account == user);
    let name = match app {
        Some(app) => {
            crate::accounts::in_language(&app.names, language, &options.language).cloned().unwrap_or_default()
        }
        None => person.name.clone(),
    };
    let own_language = if user == viewer { person.language.clone() } else { String::new() };
    Profile { user, name, official: app.is_some(), language: own_language }
}

/// A user's devices.
pub fn devices_answer(person: &Person, conns: &[Conn]) -> DevicesAnswer {
    let view = |d: &Device| {
        let beat = conns.iter().filter(|c| c.device == d.device).map(|c| c.beat_ms).max();
        let seen_ms = d.seen_ms.max(beat.unwrap_or(0));
        DeviceView { device: d.device, cursor: d.cursor, seen_ms, online: beat.is_some() }
    };
    DevicesAnswer { devices: person.devices.iter().map(view).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_no_friend() {
        let friend = |user: u64| Friend { user, asks: !user.is_multiple_of(3), ..Friend::default() };
        let person = Person { friends: (1..=9).map(friend).collect(), ..Person::default() };
        let users =
            |(page, more): (Vec<Friend>, bool)| (page.iter().map(|f| f.user).collect::<Vec<_>>(), more);
        assert_eq!(users(friends_page(&person, 0, 4)), (vec![1, 2, 4, 5], true));
        assert_eq!(users(friends_page(&person, 5, 2)), (vec![7, 8], false));
        assert_eq!(users(friends_page(&person, 8, 2)), (vec![], false));
    }

    #[test]
    fn a_list_shows_the_last_message_to_whom_may_see_it() {
        let kind = ConversationKind::Pair as u32;
        let mut head = Head { kind, last_seq: 3, members: 2, ..Head::default() };
        let mut member = Member::default();
        let last = ChatMessage { seq: 3, body: b"x".to_vec(), ..ChatMessage::default() };
        let view = conversation_view(7, (&head, &member, 0), 9, Some(&last));
        assert_eq!((view.peer, view.unread, view.last.map(|m| m.body)), (9, 3, Some(b"x".to_vec())));
        head.uncount(3, 4);
        let view = conversation_view(7, (&head, &member, 0), 9, Some(&last));
        assert_eq!((view.unread, view.last.map(|m| m.recalled)), (2, Some(true)));
        (member.cleared_seq, head.kind) = (3, ConversationKind::Group as u32);
        let view = conversation_view(7, (&head, &member, 0), 9, Some(&last));
        assert_eq!((view.peer, view.last), (0, None));
    }
}
