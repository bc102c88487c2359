//! One user's timeline in memory: what was heard of his conversations, what waits, what is in the store's hands.

use super::hand::{Hand, Place};
use super::rest::Rest;
use crate::core::{Entry, Loaded, StoredLink, StoredUser, User, entries_after};
use crate::store::owned::{LinkRow, TimelineStep};
use protocol::v1::ReadAt;
use records::ChatMessage;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Entries of a step, about.
const STEP_ENTRIES: usize = 256;
/// Rows of friendships that have ended, which keep a late word from bringing them back: by the time that so many more have
/// ended, no word of them is on its way.
const ENDED_MAX: usize = 500;
/// Hands that wait for a timeline; more are not taken, and come again.
const WAITING_MAX: usize = 1_024;

/// What was heard of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Heard {
    /// As of this version.
    pub version: u64,
    pub member: bool,
    pub large: bool,
    pub unread: u64,
    pub read_seq: u64,
    /// Its messages up to this one are in the timeline, or are none of his.
    pub seq: u64,
}

impl Heard {
    /// What it adds to the total that is kept.
    fn counts(&self) -> u64 {
        if self.member && !self.large { self.unread } else { 0 }
    }
}

/// A step under way.
pub(super) struct Flight {
    /// The first of its cursors: everything below it that the user will ever have is durable.
    pub stamp: u64,
    pub messages: Vec<Arc<ChatMessage>>,
    /// What is acknowledged then.
    pub items: Vec<Item>,
    /// The store has refused it.
    pub rest: Option<Box<Rest<TimelineStep>>>,
}

/// A place in a hand.
#[derive(Clone)]
pub(super) struct Item {
    pub hand: Arc<Hand>,
    pub at: usize,
}

impl Item {
    pub fn place(&self) -> &Place {
        &self.hand.places[self.at]
    }

    /// The messages that are for this user.
    fn messages(&self) -> impl Iterator<Item = &Arc<ChatMessage>> {
        let (first, last) = (self.place().first_seq, self.place().until_seq);
        self.hand.messages.iter().filter(move |m| first <= m.seq && m.seq <= last)
    }
}

/// What a step is made of.
#[derive(Default)]
pub(super) struct Draft {
    pub messages: Vec<Arc<ChatMessage>>,
    pub links: Vec<LinkRow>,
    pub items: Vec<Item>,
}

/// A user's timeline.
#[derive(Default)]
pub(super) struct Line {
    pub user: User,
    pub heard: BTreeMap<u64, Heard>,
    pub waiting: VecDeque<Item>,
    pub queued: bool,
    pub flight: Option<Flight>,
    /// Messages of the newest entries, for pushing them again.
    pub bodies: VecDeque<(u64, Arc<ChatMessage>)>,
    /// Conversations that a hand alone says he is in, as of which version: it may be a former owner's late word of one
    /// that he has left, and only the store knows.
    pub doubts: BTreeMap<u64, u64>,
    /// Places that were asked for, and have not come.
    pub asked: usize,
    /// Large conversations for which he is in the list of those who watch.
    pub watching: Vec<u64>,
    /// Conversations of which his devices are to hear how he has read.
    pub telling: BTreeSet<u64>,
}

impl Line {
    /// Takes what was handed. False when too much waits already.
    pub fn receive(&mut self, item: Item) -> bool {
        let has_room = self.waiting.len() < WAITING_MAX;
        if has_room {
            self.waiting.push_back(item);
        }
        has_room
    }

    /// What waits and can't be stored before his own part is known.
    pub fn needs_loading(&self) -> bool {
        self.user.loaded.is_none() && self.waiting.iter().any(|item| item.place().between.is_some())
    }

    /// Takes what waits into a step, each message once, in the order in which they get their cursors.
    pub fn draft(&mut self) -> Draft {
        let mut fresh: BTreeMap<(u64, u64), Arc<ChatMessage>> = BTreeMap::new();
        let mut links: BTreeMap<u64, LinkRow> = BTreeMap::new();
        let mut items = Vec::new();
        while fresh.len() < STEP_ENTRIES
            && let Some(item) = self.waiting.pop_front()
        {
            let (conversation, version) = (item.hand.key.conversation, item.hand.key.version);
            let known = self.heard.get(&conversation).map_or(0, |heard| heard.seq);
            let new = item.messages().filter(|m| m.seq > known);
            fresh.extend(new.map(|m| ((conversation, m.seq), Arc::clone(m))));
            let place = *item.place();
            if place.link {
                let (member, large) = (place.member, item.hand.large);
                let row = LinkRow { conversation, version, member, large };
                if links.get(&conversation).is_none_or(|before| before.version < version) {
                    links.insert(conversation, row);
                }
            }
            self.befriend(&item);
            items.push(item);
        }
        Draft { messages: fresh.into_values().collect(), links: links.into_values().collect(), items }
    }

    /// What stands between him and another, unless a later word is known.
    fn befriend(&mut self, item: &Item) {
        let (Some(between), Some(loaded)) = (item.place().between, &mut self.user.loaded) else { return };
        let friend = loaded.person.friend_mut(between.peer, item.hand.key.conversation);
        if item.hand.key.version > friend.version {
            friend.version = item.hand.key.version;
            (friend.asks, friend.asked, friend.blocks) = (between.asks, between.asked, between.blocks);
            if friend.is_nothing() {
                loaded.person.forget_ended(ENDED_MAX, between.peer);
            }
            self.user.person_dirty = true;
        }
    }

    /// What a hand says is durable: counts follow, unless a later word is known. True when devices are to hear how he
    /// has read: of a word that came before, too, since whoever heard it may have told nobody.
    pub fn hear(&mut self, item: &Item) -> bool {
        let (key, place) = (&item.hand.key, item.place());
        if place.member && self.user.loaded.is_some() && !self.heard.contains_key(&key.conversation) {
            self.doubts.insert(key.conversation, key.version);
        }
        let heard = self.heard.entry(key.conversation).or_default();
        heard.seq = heard.seq.max(item.messages().last().map_or(0, |m| m.seq));
        if key.version <= heard.version {
            return place.tell && heard.member;
        }
        let before = heard.counts();
        let (version, seq) = (key.version, heard.seq);
        let Place { member, unread, read_seq, .. } = *place;
        *heard = Heard { version, member, large: item.hand.large, unread, read_seq, seq };
        self.user.unread = (self.user.unread + heard.counts()).saturating_sub(before);
        place.tell && member
    }

    /// Brings his stored part in, unless it is there.
    pub fn install(&mut self, stored: StoredUser) {
        if self.user.loaded.is_some() {
            return;
        }
        let is_there = |id: &u64| stored.links.iter().any(|link| link.conversation == *id);
        let doubtful = self.heard.iter().filter(|(id, heard)| heard.member && !is_there(id));
        self.doubts = doubtful.map(|(id, heard)| (*id, heard.version)).collect();
        stored.links.iter().for_each(|link| self.learn(link));
        self.user.unread = self.heard.values().map(Heard::counts).sum();
        self.user.loaded = Some(Box::new(Loaded { person: stored.person, ..Loaded::default() }));
    }

    /// What the store says of a conversation that he is in.
    fn learn(&mut self, link: &StoredLink) {
        let heard = self.heard.entry(link.conversation).or_default();
        if heard.version < link.version {
            *heard = Heard {
                version: link.version,
                member: true,
                large: link.head.is_large(),
                unread: link.head.counted().unread(&link.member, link.own),
                read_seq: link.member.read_seq,
                seq: heard.seq,
            };
        }
    }

    /// What the store says of conversations in doubt, each with the version as of which it was: if he is not in it, and
    /// nothing was heard since, he has left it.
    pub fn resolve(&mut self, asked: &[(u64, u64)], found: &[StoredLink]) {
        found.iter().for_each(|link| self.learn(link));
        for (id, version) in asked {
            let is_there = found.iter().any(|link| link.conversation == *id);
            if !is_there && self.heard.get(id).is_some_and(|heard| heard.version == *version) {
                self.heard.remove(id);
            }
        }
        self.user.unread = self.heard.values().map(Heard::counts).sum();
    }

    /// What he has not read in large conversations is to be looked up anew, if a total is to be told: nobody says how they
    /// go on.
    pub fn count_large(&mut self) {
        if !self.telling.is_empty() && self.user.loaded.is_some() {
            let large = self.heard.iter().filter(|(_, heard)| heard.member && heard.large);
            self.doubts.extend(large.map(|(id, heard)| (*id, heard.version)));
        }
    }

    /// How he has read, for his devices; nothing yet as long as something is in doubt.
    pub fn reads_to_tell(&mut self) -> Vec<ReadAt> {
        if self.user.loaded.is_none() || !self.doubts.is_empty() || self.asked > 0 {
            return Vec::new();
        }
        let unread_total = self.unread_total();
        let read = |id: u64| {
            let heard = self.heard.get(&id).filter(|heard| heard.member)?;
            Some(ReadAt { conversation: id, seq: heard.read_seq, unread: heard.unread, unread_total })
        };
        std::mem::take(&mut self.telling).into_iter().filter_map(read).collect()
    }

    /// Large conversations that he is in.
    pub fn large(&self) -> Vec<u64> {
        let large = self.heard.iter().filter(|(_, heard)| heard.member && heard.large);
        large.map(|(conversation, _)| *conversation).collect()
    }

    /// Unread messages in all; of large conversations as far as was heard.
    pub fn unread_total(&self) -> u64 {
        let large = self.heard.values().filter(|heard| heard.member && heard.large);
        self.user.unread + large.map(|heard| heard.unread).sum::<u64>()
    }

    /// Nothing of it is in the store's hands.
    pub fn is_stored(&self) -> bool {
        self.flight.as_ref().is_none_or(|flight| flight.rest.as_ref().is_some_and(|rest| rest.is_idle()))
    }

    /// Nothing of it is under way, and nobody is there.
    pub fn is_idle(&self) -> bool {
        self.flight.is_none()
            && self.waiting.is_empty()
            && !self.user.person_dirty
            && self.user.conns.is_empty()
    }

    /// What a sync is to be answered with. `committed`: see [`SyncPlan::committed`].
    pub fn sync(&self, after: u64, committed: u64) -> SyncPlan {
        let hot = entries_after(&self.user.entries, after.max(self.user.hot_after)).to_vec();
        SyncPlan { after, hot_after: self.user.hot_after, hot, committed }
    }
}

/// How a sync is answered: from the store up to `hot_after`, from memory behind it, never past what is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncPlan {
    /// The device has everything up to here.
    pub after: u64,
    /// Memory has every entry behind this cursor, the store every one up to it.
    pub hot_after: u64,
    /// Entries from memory.
    pub hot: Vec<Entry>,
    /// Whatever the user will ever have with a cursor up to here is durable.
    pub committed: u64,
}

impl SyncPlan {
    /// Whether the store is to be read: entries behind `after`, one more than the limit.
    pub fn reads(&self) -> bool {
        self.after < self.hot_after
    }

    /// The entries of the answer, the cursor up to which nothing is missing then, and whether there are more.
    /// `stored`: what the store said, if it was to be read.
    pub fn answer(&self, mut stored: Vec<Entry>, limit: usize) -> (Vec<Entry>, u64, bool) {
        // It may have more by now than there was when the plan was made.
        stored.retain(|e| e.cursor <= self.hot_after && e.cursor > self.after);
        let mut entries = stored;
        entries.extend(self.hot.iter().filter(|e| e.cursor <= self.committed));
        let more = entries.len() > limit;
        entries.truncate(limit);
        let upto = if more { entries.last().map_or(self.after, |e| e.cursor) } else { self.committed };
        (entries, upto.max(self.after), more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::HandKey;

    fn hand(version: u64, seqs: std::ops::RangeInclusive<u64>, place: Place) -> Item {
        let key = HandKey { node: 1, epoch: 1, term: 1, conversation: 7, version, to_seq: *seqs.end() };
        let message = |seq| Arc::new(ChatMessage { conversation: 7, seq, ..ChatMessage::default() });
        let messages = seqs.map(message).collect();
        Item { hand: Arc::new(Hand { key, large: false, messages, places: vec![place] }), at: 0 }
    }

    fn place(unread: u64, until_seq: u64) -> Place {
        Place { user: 3, first_seq: 1, until_seq, member: true, unread, ..Place::default() }
    }

    #[test]
    fn what_is_heard_twice_or_late_changes_nothing() {
        let mut line = Line::default();
        for item in [hand(2, 1..=2, place(2, 2)), hand(3, 3..=3, place(3, 3))] {
            line.receive(item);
        }
        let draft = line.draft();
        assert_eq!(draft.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2, 3]);
        for item in &draft.items {
            line.hear(item);
        }
        assert_eq!((line.user.unread, line.unread_total()), (3, 3));
        // An old owner's word comes late, and once more.
        for _ in 0..2 {
            line.receive(hand(2, 1..=2, place(2, 2)));
            let draft = line.draft();
            assert!(draft.messages.is_empty() && draft.links.is_empty());
            assert_eq!(draft.items.len(), 1, "it is acknowledged again");
            line.hear(&draft.items[0]);
            assert_eq!(line.user.unread, 3);
        }
        // He leaves: his last message, and nothing more is counted.
        let gone = Place { first_seq: 4, until_seq: 4, user: 3, link: true, ..Place::default() };
        line.receive(hand(4, 4..=5, gone));
        let draft = line.draft();
        assert_eq!(draft.messages.len(), 1);
        assert!(!draft.links[0].member && draft.links[0].version == 4);
        line.hear(&draft.items[0]);
        assert_eq!((line.user.unread, line.heard[&7].seq), (0, 4));
    }

    #[test]
    fn friendships_that_have_ended_do_not_pile_up() {
        let mut line = Line::default();
        line.install(StoredUser { id: 3, ..StoredUser::default() });
        let mut word = |peer, version, asks| {
            let between = crate::cluster::Between { peer, asks, asked: true, blocks: false };
            let mut item =
                hand(version, 1..=1, Place { user: 3, between: Some(between), ..Place::default() });
            let hand =
                Hand { key: HandKey { conversation: 1_000 + peer, ..item.hand.key }, ..(*item.hand).clone() };
            item.hand = Arc::new(hand);
            line.befriend(&item);
            let ended = crate::cluster::Between { asks: false, asked: false, ..between };
            let mut over = (*item.hand).clone();
            over.key.version += 1;
            over.places[0].between = Some(ended);
            if !asks {
                line.befriend(&Item { hand: Arc::new(over), at: 0 });
            }
            line.user.loaded.as_ref().map_or(0, |loaded| loaded.person.friends.len())
        };
        assert_eq!(word(5, 1, true), 1);
        let most = (10..2_000).map(|peer| word(peer, 1, false)).max();
        assert_eq!(most, Some(ENDED_MAX + 1), "and the one that lasts");
        assert_eq!(word(2_500, 7, false), ENDED_MAX + 1);
        assert!(line.user.loaded.unwrap().person.friend(5).is_some_and(|friend| friend.is_friend()));
    }

    #[test]
    fn a_sync_ends_below_what_is_not_committed() {
        let entry = |cursor| Entry { cursor, conversation: 7, seq: cursor };
        let mut line = Line::default();
        line.user.hot_after = 12;
        line.user.entries = vec![entry(13), entry(15)];
        let plan = line.sync(10, 17);
        assert!(plan.reads());
        // The store has 18 by now, from a step that was not known to be done when the plan was made.
        let stored = vec![entry(11), entry(12), entry(18)];
        let cursors = |entries: &[Entry]| entries.iter().map(|e| e.cursor).collect::<Vec<_>>();
        let (entries, upto, more) = plan.answer(stored.clone(), 10);
        assert_eq!((cursors(&entries), upto, more), (vec![11, 12, 13, 15], 17, false));
        let (entries, upto, more) = plan.answer(stored, 3);
        assert_eq!((cursors(&entries), upto, more), (vec![11, 12, 13], 13, true));
        assert_eq!(line.sync(15, 17).answer(Vec::new(), 5), (Vec::new(), 17, false));
    }
}
