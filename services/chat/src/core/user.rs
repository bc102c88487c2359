//! A user in memory: his timeline's end, his connections, and, once they are loaded, his devices, friends and
//! conversations.
//!
//! A user to whom messages go is in memory with his timeline only. The rest is loaded when he comes.

use super::pushes::Pushing;
use super::thin::Thin;
use crate::limits;
use protocol::calls::{ConnectionAt, DeviceAt};
use protocol::v1::PresenceOf;
use records::ChatMessage;

/// An entry of a timeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Rises within the timeline.
    pub cursor: u64,
    /// The message's conversation.
    pub conversation: u64,
    /// Its seq.
    pub seq: u64,
}

/// A device on a connection.
#[derive(Clone, Debug)]
pub struct Conn {
    /// Where.
    pub at: ConnectionAt,
    /// Which device.
    pub device: u64,
    /// Everything up to here has been pushed, or was there before it came.
    pub pushed: u64,
    /// Last heard of, ms on the node's clock.
    pub beat_ms: u64,
    /// Entries up to here are to be looked at again, when their time has come; 0: none.
    pub again: u64,
    /// Entries up to here went out a second time if they had to, or were there before it came: they are left for sync.
    pub repeated: u64,
    /// Users whose presence it watches.
    pub watching: Thin<u64>,
}

/// A device, as it is stored.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Device {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub device: u64,
    /// When it was registered, ms UTC; names the registration.
    #[prost(uint64, tag = "2")]
    pub since_ms: u64,
    /// It has everything up to here.
    #[prost(uint64, tag = "3")]
    pub cursor: u64,
    /// Last heard of, ms UTC.
    #[prost(uint64, tag = "4")]
    pub seen_ms: u64,
}

/// What stands between a user and another, as it is stored.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Friend {
    /// The other.
    #[prost(uint64, tag = "1")]
    pub user: u64,
    /// Their conversation.
    #[prost(uint64, tag = "2")]
    pub conversation: u64,
    /// He has asked for it.
    #[prost(bool, tag = "3")]
    pub asks: bool,
    /// The other has.
    #[prost(bool, tag = "4")]
    pub asked: bool,
    /// He has blocked the other.
    #[prost(bool, tag = "5")]
    pub blocks: bool,
    /// In a cluster: all this as of that version of their conversation. What ended stays as a row that says so.
    #[prost(uint64, tag = "6")]
    pub version: u64,
}

impl Friend {
    /// There is nothing between them (any more).
    pub fn is_nothing(&self) -> bool {
        !self.asks && !self.asked && !self.blocks
    }

    /// Both have asked.
    pub fn is_friend(&self) -> bool {
        self.asks && self.asked
    }
}

/// A group that a device has asked for, as it is stored.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Made {
    /// The device.
    #[prost(uint64, tag = "1")]
    pub device: u64,
    /// Its number of the request.
    #[prost(uint64, tag = "2")]
    pub request: u64,
    /// The group.
    #[prost(uint64, tag = "3")]
    pub conversation: u64,
}

/// What is stored of a user, beside his timeline and his conversations.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Person {
    /// Name to show.
    #[prost(string, tag = "1")]
    pub name: String,
    /// BCP 47; empty: the platform's default.
    #[prost(string, tag = "2")]
    pub language: String,
    /// His devices.
    #[prost(message, repeated, tag = "3")]
    pub devices: Vec<Device>,
    /// Friends and others with whom there is something, by user.
    #[prost(message, repeated, tag = "4")]
    pub friends: Vec<Friend>,
    /// Groups he made lately.
    #[prost(message, repeated, tag = "5")]
    pub made: Vec<Made>,
}

impl Person {
    /// What stands between him and another.
    pub fn friend(&self, user: u64) -> Option<&Friend> {
        self.friends.binary_search_by_key(&user, |f| f.user).ok().map(|at| &self.friends[at])
    }

    /// The same, to be changed.
    pub fn friend_mut(&mut self, user: u64, conversation: u64) -> &mut Friend {
        let at = match self.friends.binary_search_by_key(&user, |f| f.user) {
            Ok(at) => at,
            Err(at) => {
                self.friends.insert(at, Friend { user, conversation, ..Friend::default() });
                at
            }
        };
        &mut self.friends[at]
    }

    /// Of friendships that have ended, which stay as rows that say so, at most `most` are kept; the one with `but` is.
    pub fn forget_ended(&mut self, most: usize, but: u64) {
        let mut excess = self.friends.iter().filter(|f| f.is_nothing()).count().saturating_sub(most);
        self.friends.retain(|friend| {
            let goes = excess > 0 && friend.is_nothing() && friend.user != but;
            excess -= usize::from(goes);
            !goes
        });
    }

    /// A device.
    pub fn device(&self, device: u64) -> Option<&Device> {
        self.devices.iter().find(|d| d.device == device)
    }

    /// The same, to be changed.
    pub fn device_mut(&mut self, device: u64) -> Option<&mut Device> {
        self.devices.iter_mut().find(|d| d.device == device)
    }

    /// A device is registered.
    pub fn know(&mut self, device: u64, at_ms: u64) {
        if self.device(device).is_none() {
            // Most have one, and an empty list grows to four.
            self.devices.reserve_exact(1);
            self.devices.push(Device { device, since_ms: at_ms, cursor: 0, seen_ms: at_ms });
        }
    }

    /// A device is forgotten.
    pub fn forget(&mut self, device: u64) {
        self.devices.retain(|d| d.device != device);
    }

    /// What registers the devices of these connections, so that there are at most `devices_max`: the one silent longest
    /// makes room.
    pub fn registrations(&self, conns: &[Conn], devices_max: usize, now_ms: u64) -> Vec<Registration> {
        let mut steps = Vec::new();
        let mut known: Vec<Device> = self.devices.clone();
        for conn in conns {
            if known.iter().any(|d| d.device == conn.device) {
                continue;
            }
            if known.len() >= devices_max
                && let Some(at) = (0..known.len()).min_by_key(|at| known[*at].seen_ms)
            {
                steps.push(Registration::Forget(known.remove(at).device));
            }
            known.push(Device { device: conn.device, since_ms: now_ms, cursor: 0, seen_ms: now_ms });
            steps.push(Registration::Know(conn.device));
        }
        steps
    }

    /// Gives back the room that reading him has left over.
    pub fn shrink(&mut self) {
        self.devices.shrink_to_fit();
        self.friends.shrink_to_fit();
        self.made.shrink_to_fit();
    }

    /// The furthest that any device has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.devices.iter().map(|d| d.cursor).max().unwrap_or(0)
    }
}

/// A step of registering devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registration {
    /// This one makes room.
    Forget(u64),
    /// This one is new.
    Know(u64),
}

/// A user's stored part, with what follows from it.
#[derive(Default)]
pub struct Loaded {
    /// What is stored.
    pub person: Person,
    /// His conversations, rising.
    pub links: Vec<u64>,
    /// Those of them that are not in his timeline, rising.
    pub large: Vec<u64>,
    /// Devices with a confirmed cursor that is not in the log yet.
    pub unlogged: bool,
    /// Connections that want to hear whether he is online: user, device, where.
    pub watchers: Thin<(u64, u64, ConnectionAt)>,
}

/// What a connection's timer brings.
pub struct Again<'a> {
    /// The cursor before the entries.
    pub after: u64,
    /// What goes out once more.
    pub entries: &'a [Entry],
    /// The next timer's mark, if there is to be one.
    pub next: Option<u64>,
}

/// A user in memory.
#[derive(Default)]
pub struct User {
    /// Who; 0: the place is free.
    pub id: u64,
    /// The newest entries of his timeline.
    pub entries: Vec<Entry>,
    /// Memory has every entry behind this cursor.
    pub hot_after: u64,
    /// How many of `entries` are in the store.
    pub stored: usize,
    /// Unread messages in all his small conversations; means something once he is loaded.
    pub unread: u64,
    /// His connections.
    pub conns: Vec<Conn>,
    /// The number of the checkpoint that takes what has changed; 0: nothing has.
    pub changed_in: u32,
    /// His stored part has changed too.
    pub person_dirty: bool,
    /// Small conversations in memory that he is in.
    pub refs: u32,
    /// Records decided about him and not applied.
    pub pins: u32,
    /// His connections are looked at for silence when their time has come.
    pub timed: bool,
    /// Last use, ms on the node's clock.
    pub touched_ms: u64,
    /// Conversations that he came into (true) or left, in order; those before `links_stored` are in the store.
    pub links: Vec<(u64, bool)>,
    /// See `links`.
    pub links_stored: usize,
    /// The rest.
    pub loaded: Option<Box<Loaded>>,
}

/// What somebody online costs beside his devices and conversations. The next sizes that the allocator has are 80 and 224.
const _: () = assert!(size_of::<Conn>() <= 64 && size_of::<Loaded>() <= 192);

impl Loaded {
    /// A device has everything up to a cursor. True when this is to be stored from now on.
    pub fn confirm(&mut self, device: u64, cursor: u64, now_ms: u64) -> bool {
        let Some(known) = self.person.device_mut(device).filter(|known| cursor > known.cursor) else {
            return false;
        };
        (known.cursor, known.seen_ms) = (cursor, now_ms);
        !std::mem::replace(&mut self.unlogged, true)
    }
}

impl User {
    /// The cursor of his newest entry, as far as memory knows.
    pub fn last_cursor(&self) -> u64 {
        self.entries.last().map_or(self.hot_after, |e| e.cursor)
    }

    /// A message comes into his timeline, and goes to his connections but the one that sent it. `again` is told of each
    /// connection that is to be looked at again from now on. `out` has the message as its current part.
    pub fn give(
        &mut self,
        message: &ChatMessage,
        entry: Entry,
        out: &mut Pushing,
        mut again: impl FnMut(ConnectionAt, u64, u64),
    ) {
        self.entries.push(entry);
        for conn in &mut self.conns {
            if self.id == message.sender && conn.device == message.device {
                continue;
            }
            let after = std::mem::replace(&mut conn.pushed, entry.cursor);
            if conn.again == 0 {
                conn.again = entry.cursor;
                again(conn.at, conn.device, entry.cursor);
            }
            out.target(self.id, conn, after, entry.cursor);
        }
    }

    /// A device has logged in; everything up to `pushed` is its own to ask for. True when he was away before.
    pub fn arrive(&mut self, device: DeviceAt, pushed: u64, now_ms: u64) -> bool {
        self.touched_ms = now_ms;
        // Told of once more it is the same connection, and watches whom it watched.
        let before = self.conns.iter().position(|c| (c.at, c.device) == (device.at, device.device));
        let watching = before.map(|at| self.conns.remove(at).watching).unwrap_or_default();
        if self.conns.len() >= limits::CONNECTIONS_MAX {
            self.conns.remove(0);
        }
        let was_away = self.conns.is_empty();
        let (at, device) = (device.at, device.device);
        let repeated = pushed;
        // Most have one, and an empty list grows to four.
        self.conns.reserve_exact(1);
        self.conns.push(Conn { at, device, pushed, beat_ms: now_ms, again: 0, repeated, watching });
        was_away
    }

    /// A connection is gone. Whom it watched, and true when he is away now.
    pub fn depart(&mut self, at: ConnectionAt, device: u64, now_ms: u64) -> (Vec<u64>, bool) {
        let before = self.conns.len();
        let mut watching = Vec::new();
        self.conns.retain_mut(|c| {
            let gone = (c.at, c.device) == (at, device);
            if gone {
                watching = std::mem::take(&mut c.watching).into_vec();
            }
            !gone
        });
        self.touched_ms = now_ms;
        if let Some(known) = self.loaded.as_mut().and_then(|l| l.person.device_mut(device)) {
            known.seen_ms = known.seen_ms.max(now_ms);
        }
        (watching, before > 0 && self.conns.is_empty())
    }

    /// A device on a connection.
    pub fn conn_mut(&mut self, at: ConnectionAt, device: u64) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|c| c.at == at && c.device == device)
    }

    /// The timer of a connection has run out that was set when `mark` had been pushed: what goes out once more, and only
    /// once. `None`: the connection has ended since, even if the device has come again on one with the same number.
    ///
    /// A connection has one timer at a time. It speaks for what had been pushed when it was set: later entries are younger
    /// than the time, and get the next one. So an entry goes out again between one and two times `again_ms` after its
    /// push, at no more cost on the way of a push than a comparison. What one device has confirmed is left for the others'
    /// sync, and so is what has gone out twice.
    pub fn again(&mut self, at: ConnectionAt, device: u64, mark: u64) -> Option<Again<'_>> {
        let timed = |c: &&mut Conn| (c.at, c.device, c.again) == (at, device, mark);
        let conn = self.conns.iter_mut().find(timed)?;
        let Some(loaded) = &self.loaded else {
            // Until it is known what his devices have confirmed.
            conn.again = conn.pushed;
            return Some(Again { after: conn.pushed, entries: &[], next: Some(conn.pushed) });
        };
        let confirmed = loaded.person.confirmed();
        let repeated = std::mem::replace(&mut conn.repeated, mark);
        conn.again = if conn.pushed > mark.max(confirmed) { conn.pushed } else { 0 };
        let next = Some(conn.again).filter(|mark| *mark > 0);
        let after = repeated.max(confirmed).max(self.hot_after);
        let entries = entries_after(&self.entries, after);
        let entries = &entries[..entries.partition_point(|e| e.cursor <= mark)];
        Some(Again { after, entries: &entries[..entries.len().min(limits::AGAIN_ENTRIES_MAX)], next })
    }

    /// The store has his entries up to a cursor: all but the newest leave memory.
    pub fn trim(&mut self, in_store: u64, keep: usize) {
        let count = self.entries.partition_point(|e| e.cursor <= in_store);
        let drop = count.min(self.entries.len().saturating_sub(keep));
        if drop > 0 {
            self.hot_after = self.entries[drop - 1].cursor;
            self.entries.drain(..drop);
            self.stored = self.stored.saturating_sub(drop);
            let room = self.entries.len() * 2 + keep;
            if self.entries.capacity() > 4 * room {
                self.entries.shrink_to(room);
            }
        }
    }

    /// Whether he is online, and when he was last heard of.
    pub fn presence(&self) -> PresenceOf {
        let beat = self.conns.iter().map(|c| c.beat_ms).max();
        let seen = self.loaded.iter().flat_map(|l| &l.person.devices).map(|d| d.seen_ms).max();
        PresenceOf { user: self.id, online: beat.is_some(), seen_ms: beat.max(seen).unwrap_or(0) }
    }
}

/// A timeline's entries behind a cursor, of those in memory.
pub fn entries_after(entries: &[Entry], cursor: u64) -> &[Entry] {
    &entries[entries.partition_point(|e| e.cursor <= cursor)..]
}
