//! Answers that are made of what the store says: sync, the list of conversations, totals, friends, profiles.
//!
//! Each is a plan: what is known at once, what is to be read, and the answer once that is there. What is read is durable
//! and whole steps, so an answer may be newer than the plan and never shows what might still be undone. Any node can
//! read; a plan that begins with a timeline comes from its owner ([`Timelines`](super::Timelines)).

use crate::core::{
    Entry, Friend, Head, Person, StoredLink, StoredUser, conversation_view, friend_view, goes_along, limit,
    profile_view, wire,
};
use crate::limits::ANSWER_BYTES_MAX;
use crate::options::ChatOptions;
use crate::store::owned::Listed;
use protocol::v1::{
    ConversationsAnswer, ConversationsRequest, FriendsAnswer, PresenceAnswer, PresenceOf, ProfilesAnswer,
    ProfilesRequest, ReadAt, SyncAnswer, SyncRequest,
};
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Spans of stored messages that one sync reads; what is left out is asked for.
const SPANS_MAX: usize = 16;
/// Messages of a span.
const SPAN_MESSAGES_MAX: u64 = 500;
/// Heads of an answer.
const HEADS_MAX: usize = 500;
/// Large conversations that a device says it has pulled, in one call of Sync.
pub const PULLED_MAX: usize = 500;
/// Users whom one call of Presence or Profiles names.
pub const USERS_MAX: usize = 100;

/// What a timeline's owner knows of a user's conversations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Unread messages in all small ones.
    pub unread: u64,
    /// Large ones: theirs are counted from what the store says ([`SyncNeeds::places`]).
    pub large: Vec<u64>,
}

/// A part of a conversation, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The conversation.
    pub conversation: u64,
    /// From here.
    pub from: u64,
    /// To here.
    pub to: u64,
}

/// What a sync is to be answered from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncNeeds {
    /// The user's places in these ([`links`](crate::store::OwnedShelf::links)); of those that are not among the answer the
    /// [`heads`](crate::store::OwnedShelf::heads).
    pub places: Vec<u64>,
    /// These messages.
    pub spans: Vec<Span>,
}

/// What was read for it.
#[derive(Clone, Debug, Default)]
pub struct SyncFound {
    /// Places of the user.
    pub links: Vec<StoredLink>,
    /// Heads of conversations that he has left.
    pub heads: Vec<(u64, u64, Head)>,
    /// Messages.
    pub messages: Vec<ChatMessage>,
}

impl SyncNeeds {
    /// For these entries.
    pub fn of(standing: &Standing, entries: &[Entry]) -> SyncNeeds {
        let mut spans: BTreeMap<u64, Span> = BTreeMap::new();
        for Entry { conversation, seq, .. } in entries.iter().copied() {
            let span = spans.entry(conversation).or_insert(Span { conversation, from: seq, to: seq });
            (span.from, span.to) = (span.from.min(seq), span.to.max(seq));
        }
        let places: BTreeSet<u64> = standing.large.iter().chain(spans.keys()).copied().collect();
        let bounded = |span: Span| Span { to: span.to.min(span.from + SPAN_MESSAGES_MAX - 1), ..span };
        let spans = spans.into_values().take(SPANS_MAX).map(bounded).collect();
        SyncNeeds { places: places.into_iter().collect(), spans }
    }

    /// Conversations of which only the head is to be read, because the user has left them.
    pub fn left(&self, links: &[StoredLink]) -> Vec<u64> {
        let there: BTreeSet<u64> = links.iter().map(|link| link.conversation).collect();
        self.places.iter().copied().filter(|id| !there.contains(id)).collect()
    }
}

/// The answer to a sync. `page`: entries, the cursor up to which nothing is missing, whether there are more
/// ([`SyncPlan::answer`](super::SyncPlan::answer)); nothing: the device begins at this cursor.
pub fn sync_answer(
    ask: &SyncRequest,
    standing: &Standing,
    page: Result<(Vec<Entry>, u64, bool), u64>,
    found: &SyncFound,
) -> SyncAnswer {
    let pulled: HashMap<u64, u64> = ask.pulled.iter().map(|p| (p.conversation, p.seq)).collect();
    let links: HashMap<u64, &StoredLink> = found.links.iter().map(|l| (l.conversation, l)).collect();
    let large = || standing.large.iter().filter_map(|id| links.get(id).copied());
    let is_news = |l: &&StoredLink| {
        l.head.is_large() && l.head.last_seq > pulled.get(&l.conversation).copied().unwrap_or(0)
    };
    let head = |l: &StoredLink| protocol::v1::Head {
        conversation: l.conversation,
        seq: l.head.last_seq,
        messages: Vec::new(),
    };
    let heads = large().filter(is_news).take(HEADS_MAX).map(head).collect();
    let unread_total = standing.unread + large().map(unread_of).sum::<u64>();
    match page {
        Ok((entries, cursor, more)) => {
            let entries = with_messages(entries, &links, found);
            SyncAnswer { entries, cursor, more, heads, unread_total, start: false }
        }
        Err(cursor) => SyncAnswer { cursor, heads, unread_total, start: true, ..SyncAnswer::default() },
    }
}

/// Entries with their messages, as far as they were read and the user may see them.
fn with_messages(
    entries: Vec<Entry>,
    links: &HashMap<u64, &StoredLink>,
    found: &SyncFound,
) -> Vec<protocol::v1::Entry> {
    let messages: HashMap<(u64, u64), &ChatMessage> =
        found.messages.iter().map(|m| ((m.conversation, m.seq), m)).collect();
    let left: HashMap<u64, &Head> = found.heads.iter().map(|(id, _, head)| (*id, head)).collect();
    let mut bytes = 0;
    let with_message = |Entry { cursor, conversation, seq }| {
        let mut entry = protocol::v1::Entry { cursor, conversation, seq, message: None };
        let link = links.get(&conversation);
        let head = link.map(|l| &l.head).or_else(|| left.get(&conversation).copied());
        let (Some(message), Some(head)) = (messages.get(&(conversation, seq)), head) else { return entry };
        let deleted = link.is_some_and(|l| l.member.has_deleted(seq) || seq <= l.member.cleared_seq);
        bytes += message.body.len();
        if goes_along(message) && !deleted && bytes <= ANSWER_BYTES_MAX {
            entry.message = Some(wire(message, head.is_recalled(seq)));
        }
        entry
    };
    entries.into_iter().map(with_message).collect()
}

/// Unread messages at a place.
pub fn unread_of(link: &StoredLink) -> u64 {
    link.head.counted().unread(&link.member, link.own)
}

/// Unread messages of a user in all, as the store says.
pub fn unread_total(user: &StoredUser) -> u64 {
    user.links.iter().map(unread_of).sum()
}

/// The answer to a read position that is durable: `place` is what the conversation's owner says
/// ([`read_place`](super::Conversations::read_place)), `user` what the store says since.
pub fn read_answer(conversation: u64, (seq, unread): (u64, u64), user: &StoredUser) -> ReadAt {
    match user.links.iter().find(|l| l.conversation == conversation) {
        // One moment for both.
        Some(link) => ReadAt {
            conversation,
            seq: link.member.read_seq,
            unread: unread_of(link),
            unread_total: unread_total(user),
        },
        // His timeline has not heard of it yet.
        None => ReadAt { conversation, seq, unread, unread_total: unread_total(user) + unread },
    }
}

/// A page of a user's list of conversations, those with the newest messages first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListPlan {
    unread_total: u64,
    page: Vec<u64>,
    more: bool,
}

impl ListPlan {
    /// From what the store says of the user.
    pub fn new(user: &StoredUser, ask: &ConversationsRequest) -> ListPlan {
        let limit = limit(ask.limit, 50, 200);
        let mut all: Vec<(u64, u64)> =
            user.links.iter().map(|l| (l.head.active_ms, l.conversation)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        if ask.before_ms != 0 || ask.before_conversation != 0 {
            all.retain(|key| *key < (ask.before_ms, ask.before_conversation));
        }
        let more = all.len() > limit;
        let page = all.into_iter().take(limit).map(|(_, id)| id).collect();
        ListPlan { unread_total: unread_total(user), page, more }
    }

    /// What is to be read ([`listed`](crate::store::OwnedShelf::listed)).
    pub fn reads(&self) -> &[u64] {
        &self.page
    }

    /// The answer. Conversations that he has left meanwhile are not in it.
    pub fn answer(self, listed: &[Listed]) -> ConversationsAnswer {
        let by_id: HashMap<u64, &Listed> = listed.iter().map(|l| (l.link.conversation, l)).collect();
        let view = |id: &u64| {
            let Listed { link, peer, last } = by_id.get(id)?;
            let place = (&link.head, &link.member, link.own);
            Some(conversation_view(*id, place, *peer, last.as_ref()))
        };
        let conversations = self.page.iter().filter_map(view).collect();
        ConversationsAnswer { conversations, unread_total: self.unread_total, more: self.more }
    }
}

/// Friends with their names. `persons`: those of the page's users, as far as they are stored.
pub fn friends_answer((page, more): &(Vec<Friend>, bool), persons: &[(u64, Person)]) -> FriendsAnswer {
    let names: HashMap<u64, &str> = persons.iter().map(|(user, p)| (*user, p.name.as_str())).collect();
    let view = |f: &Friend| friend_view(f, names.get(&f.user).copied().unwrap_or_default());
    FriendsAnswer { friends: page.iter().map(view).collect(), more: *more }
}

/// Profiles as a user sees them. `persons`: those of all named and his own, as far as they are stored.
pub fn profiles_answer(
    options: &ChatOptions,
    viewer: u64,
    ask: &ProfilesRequest,
    persons: &[(u64, Person)],
) -> ProfilesAnswer {
    let nobody = Person::default();
    let by_user: HashMap<u64, &Person> = persons.iter().map(|(user, p)| (*user, p)).collect();
    let of = |user: &u64| by_user.get(user).copied().unwrap_or(&nobody);
    let language = of(&viewer).language.as_str();
    let view = |user: &u64| profile_view(options, (viewer, language), *user, of(user));
    ProfilesAnswer { profiles: ask.users.iter().map(view).collect() }
}

/// The presence of users whom the asker may see, in this order. `said`: what their timelines' owners say. Of others, and
/// of when somebody was seen last, the store knows what his devices have confirmed.
pub fn presence_answer(allowed: &[u64], said: &[PresenceOf], persons: &[(u64, Person)]) -> PresenceAnswer {
    let by_user: HashMap<u64, &Person> = persons.iter().map(|(user, p)| (*user, p)).collect();
    let of = |user: &u64| {
        let said = said.iter().find(|p| p.user == *user);
        let stored = by_user.get(user).and_then(|p| p.devices.iter().map(|d| d.seen_ms).max()).unwrap_or(0);
        PresenceOf {
            user: *user,
            online: said.is_some_and(|p| p.online),
            seen_ms: said.map_or(0, |p| p.seen_ms).max(stored),
        }
    };
    PresenceAnswer { presence: allowed.iter().map(of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Device, Member};
    use protocol::v1::FanOut;

    fn link(conversation: u64, last_seq: u64, read_seq: u64, active_ms: u64) -> StoredLink {
        let head = Head { last_seq, active_ms, ..Head::default() };
        let member = Member { user: 1, read_seq, ..Member::default() };
        StoredLink { conversation, head, member, ..StoredLink::default() }
    }

    fn message(conversation: u64, seq: u64) -> ChatMessage {
        ChatMessage { conversation, seq, body: vec![1], kind: 1, ..ChatMessage::default() }
    }

    #[test]
    fn a_list_goes_on_where_it_ended() {
        let links = vec![link(5, 9, 4, 100), link(6, 3, 3, 300), link(7, 2, 0, 100)];
        let user = StoredUser { id: 1, links, ..StoredUser::default() };
        let ask = |before_ms, before_conversation, limit| ConversationsRequest {
            before_ms,
            before_conversation,
            limit,
        };
        let plan = ListPlan::new(&user, &ask(0, 0, 2));
        assert_eq!((plan.reads(), plan.more, plan.unread_total), (&[6, 7][..], true, 7));
        let listed = |at: usize| Listed {
            link: user.links[at].clone(),
            peer: 8,
            last: Some(message(user.links[at].conversation, 2)),
        };
        // Conversation 6 was left meanwhile.
        let answer = plan.answer(&[listed(2)]);
        assert_eq!((answer.conversations.len(), answer.unread_total), (1, 7));
        let view = &answer.conversations[0];
        assert_eq!((view.conversation, view.unread, view.last.as_ref().map(|m| m.seq)), (7, 2, Some(2)));
        let plan = ListPlan::new(&user, &ask(100, 7, 2));
        assert_eq!((plan.reads(), plan.more), (&[5][..], false));
    }

    #[test]
    fn a_sync_shows_what_he_may_see_and_counts_what_is_large() {
        let mut large = link(20, 50, 45, 0);
        large.head.fan_out = FanOut::Read as u32;
        let mut small = link(5, 9, 0, 0);
        small.member.delete(8, true);
        small.head.uncount(9, 2);
        let standing = Standing { unread: 4, large: vec![20] };
        let entry = |cursor, conversation, seq| Entry { cursor, conversation, seq };
        let entries = vec![entry(101, 5, 7), entry(102, 6, 3), entry(103, 5, 8), entry(104, 5, 9)];
        let needs = SyncNeeds::of(&standing, &entries);
        assert_eq!(needs.places, [5, 6, 20]);
        let span = |conversation, from, to| Span { conversation, from, to };
        assert_eq!(needs.spans, [span(5, 7, 9), span(6, 3, 3)]);
        let links = vec![small, large];
        assert_eq!(needs.left(&links), [6]);
        let messages = vec![message(5, 7), message(5, 8), message(5, 9), message(6, 3)];
        let found = SyncFound { links, heads: vec![(6, 1, Head::default())], messages };
        let ask = SyncRequest::default();
        let answer = sync_answer(&ask, &standing, Ok((entries, 104, true)), &found);
        let shown: Vec<Option<bool>> =
            answer.entries.iter().map(|e| e.message.as_ref().map(|m| m.recalled)).collect();
        assert_eq!(shown, [Some(false), Some(false), None, Some(true)]);
        assert_eq!((answer.cursor, answer.more, answer.start, answer.unread_total), (104, true, false, 9));
        assert_eq!(answer.heads.iter().map(|h| (h.conversation, h.seq)).collect::<Vec<_>>(), [(20, 50)]);
        // A device that has pulled it hears nothing of it; one that is new begins at a cursor.
        let pulled = vec![ReadAt { conversation: 20, seq: 50, ..ReadAt::default() }];
        let answer = sync_answer(&SyncRequest { pulled, ..ask }, &standing, Err(77), &found);
        assert_eq!((answer.heads.len(), answer.cursor, answer.start), (0, 77, true));
    }

    #[test]
    fn who_is_away_was_seen_when_the_store_says() {
        let device = Device { device: 1, seen_ms: 50, ..Device::default() };
        let person = Person { devices: vec![device], ..Person::default() };
        let said = [PresenceOf { user: 3, online: true, seen_ms: 90 }];
        let answer = presence_answer(&[3, 2, 4], &said, &[(2, person.clone()), (3, person)]);
        let all: Vec<_> = answer.presence.iter().map(|p| (p.user, p.online, p.seen_ms)).collect();
        assert_eq!(all, [(3, true, 90), (2, false, 50), (4, false, 0)]);
    }

    #[test]
    fn a_reading_and_its_total_are_of_one_moment() {
        let user = StoredUser { links: vec![link(5, 9, 4, 0), link(6, 3, 1, 0)], ..StoredUser::default() };
        let read = read_answer(5, (3, 6), &user);
        assert_eq!((read.seq, read.unread, read.unread_total), (4, 5, 7));
        let read = read_answer(9, (3, 6), &user);
        assert_eq!((read.seq, read.unread, read.unread_total), (3, 6, 13));
    }
}
