//! A user in memory: his timeline's end, his connections, and, once they are loaded, his devices, friends and
//! conversations.
//!
//! A user to whom messages go is in memory with his timeline only. The rest is loaded when he comes.

use protocol::calls::ConnectionAt;

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
    pub watching: Vec<u64>,
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
}

impl Friend {
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

    /// A device.
    pub fn device(&self, device: u64) -> Option<&Device> {
        self.devices.iter().find(|d| d.device == device)
    }

    /// The same, to be changed.
    pub fn device_mut(&mut self, device: u64) -> Option<&mut Device> {
        self.devices.iter_mut().find(|d| d.device == device)
    }

    /// The furthest that any device has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.devices.iter().map(|d| d.cursor).max().unwrap_or(0)
    }
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
    pub watchers: Vec<(u64, u64, ConnectionAt)>,
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
    /// In the list of what the next checkpoint takes.
    pub dirty: bool,
    /// His stored part has changed too.
    pub person_dirty: bool,
    /// Small conversations in memory that he is in.
    pub refs: u32,
    /// Records decided about him and not applied.
    pub pins: u32,
    /// Last use, ms on the node's clock.
    pub touched_ms: u64,
    /// Conversations that he came into (true) or left, in order; those before `links_stored` are in the store.
    pub links: Vec<(u64, bool)>,
    /// See `links`.
    pub links_stored: usize,
    /// The rest.
    pub loaded: Option<Box<Loaded>>,
}

impl User {
    /// The cursor of his newest entry, as far as memory knows.
    pub fn last_cursor(&self) -> u64 {
        self.entries.last().map_or(self.hot_after, |e| e.cursor)
    }
}
