//! Users' own things: devices, profile, friends; their connections; who is online.

use super::changes::{Stop, check_name, invalid, refuse};
use super::conversation::relation;
use super::pushes::Pushing;
use super::send::{Logged, pair_made};
use super::state::{Key, State};
use super::user::Registration;
use crate::limits;
use protocol::calls::{CallError, ConnectionAt, DeviceAt};
use protocol::v1::{ConversationKind, PresenceOf, ReadAt};
use records::{ChatFact, FriendStep};

impl State {
    /// A device has logged in. What must be written: it is registered then. Needs the user's stored part for that.
    pub fn arrive(&mut self, device: DeviceAt, now_ms: u64) -> Option<Key> {
        let slot = self.place(device.user, self.cursor, now_ms);
        let pushed = self.cursor;
        let user = &mut self.users[slot as usize];
        let was_away = user.arrive(device, pushed, now_ms);
        let loaded = user.loaded.is_some();
        if !std::mem::replace(&mut user.timed, true) {
            self.silence.push_back((now_ms + self.options.presence_ms(), slot));
        }
        if was_away {
            self.presence.push(slot);
            self.came_online(slot);
        }
        (!loaded).then_some(Key::User(device.user))
    }

    /// Large conversations hear of a user who is online now. Called again when his stored part has come.
    fn came_online(&mut self, slot: u32) {
        let Some(loaded) = &self.users[slot as usize].loaded else { return };
        for id in &loaded.large {
            if let Some(conversation) = self.conversations.get_mut(id)
                && !conversation.online.contains(&slot)
            {
                conversation.online.push(slot);
            }
        }
    }

    /// A user's stored part has come: the large conversations that he needs, and the records that register his devices.
    pub fn settle_user(&mut self, user: u64, now_ms: u64) -> (Vec<Key>, Vec<Logged>) {
        let Some(slot) = self.slot(user) else { return (Vec::new(), Vec::new()) };
        let entry = &self.users[slot as usize];
        let Some(loaded) = &entry.loaded else { return (Vec::new(), Vec::new()) };
        let missing = loaded.large.iter().filter(|id| !self.conversations.contains_key(*id));
        let keys: Vec<Key> = missing.map(|id| Key::Conversation(*id)).collect();
        let steps = loaded.person.registrations(&entry.conns, self.options.devices_max, now_ms);
        let online = !entry.conns.is_empty();
        let record = |step| match step {
            Registration::Forget(device) => Logged::Fact(ChatFact::DeviceForgotten { user, device }),
            Registration::Know(device) => Logged::Fact(ChatFact::DeviceKnown { user, device, at_ms: now_ms }),
        };
        let records = steps.into_iter().map(record).collect();
        if online {
            self.came_online(slot);
        }
        (keys, records)
    }

    /// A connection is gone.
    pub fn leave(&mut self, device: DeviceAt, now_ms: u64) {
        let Some(slot) = self.slot(device.user) else { return };
        self.end_conn(slot, device.at, device.device, now_ms);
    }

    pub(super) fn end_conn(&mut self, slot: u32, at: ConnectionAt, device: u64, now_ms: u64) {
        let user = &mut self.users[slot as usize];
        let id = user.id;
        let (watching, is_away) = user.depart(at, device, now_ms);
        if is_away {
            self.presence.push(slot);
            let large = user.loaded.as_ref().map(|l| l.large.clone()).unwrap_or_default();
            for conversation in large {
                if let Some(conversation) = self.conversations.get_mut(&conversation) {
                    conversation.online.retain(|s| *s != slot);
                }
            }
        }
        for other in watching {
            let slot = self.slot(other);
            if let Some(loaded) = slot.and_then(|s| self.users[s as usize].loaded.as_mut()) {
                loaded.watchers.retain(|w| *w != (id, device, at));
            }
        }
    }

    /// A device has been heard of.
    pub fn beat(&mut self, device: DeviceAt, now_ms: u64) {
        if let Some(slot) = self.slot(device.user)
            && let Some(conn) = self.conn_mut(slot, device.at, device.device)
        {
            conn.beat_ms = now_ms;
        }
    }

    /// A device has everything up to a cursor.
    pub fn confirm(&mut self, device: DeviceAt, cursor: u64, now_ms: u64) {
        let cursor = cursor.min(self.cursor);
        let Some(slot) = self.slot(device.user) else { return };
        if let Some(conn) = self.conn_mut(slot, device.at, device.device) {
            conn.beat_ms = now_ms;
        }
        let Some(loaded) = &mut self.users[slot as usize].loaded else { return };
        if loaded.confirm(device.device, cursor, now_ms) {
            self.unlogged.push_back((now_ms + self.options.confirm_log_ms, slot));
        }
    }

    pub(super) fn apply_person(&mut self, fact: &ChatFact) -> Result<(), String> {
        let (ChatFact::Profile { user, .. }
        | ChatFact::DeviceKnown { user, .. }
        | ChatFact::DeviceForgotten { user, .. }
        | ChatFact::Confirmed { user, .. }) = fact
        else {
            return Ok(());
        };
        let slot = self.slot(*user).ok_or_else(|| format!("user {user} is not there"))?;
        let found = &mut self.users[slot as usize];
        if found.loaded.is_some() {
            self.changes.user(slot, found);
            found.person_dirty = true;
        }
        let Some(loaded) = &mut found.loaded else {
            return Err(format!("user {user} is not loaded"));
        };
        let person = &mut loaded.person;
        match fact {
            ChatFact::Profile { name, language, .. } => {
                person.name.clone_from(name);
                person.language.clone_from(language);
            }
            ChatFact::DeviceKnown { device, at_ms, .. } => person.know(*device, *at_ms),
            ChatFact::DeviceForgotten { device, .. } => person.forget(*device),
            ChatFact::Confirmed { device, cursor, seen_ms, .. } => {
                if let Some(device) = person.device_mut(*device) {
                    device.cursor = device.cursor.max(*cursor);
                    device.seen_ms = device.seen_ms.max(*seen_ms);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How a user has read a conversation, and what is left unread.
    pub fn read_at(&self, user: u64, conversation: u64) -> Option<ReadAt> {
        let entry = self.user(user)?;
        let found = self.conversations.get(&conversation)?;
        let member = found.member(user)?;
        Some(ReadAt {
            conversation,
            seq: member.read_seq,
            unread: found.unread(member),
            unread_total: self.unread_total(entry),
        })
    }

    /// A user's connections hear how he has read.
    pub(super) fn tell_read(&self, user: u64, conversation: u64, out: &mut Pushing) {
        let Some(entry) = self.user(user).filter(|u| !u.conns.is_empty()) else { return };
        let Some(read) = self.read_at(user, conversation) else { return };
        out.read(&read);
        for conn in &entry.conns {
            out.target(user, conn, conn.pushed, conn.pushed);
        }
    }

    /// Whether a user is online, and when he was last heard of.
    pub fn presence_of(&self, user: u64) -> PresenceOf {
        let nothing = PresenceOf { user, online: false, seen_ms: 0 };
        self.user(user).map_or(nothing, super::user::User::presence)
    }

    /// Whether a user may see another's presence.
    ///
    /// # Errors
    /// What must be loaded.
    pub fn may_see(&self, user: u64, other: u64) -> Result<bool, Key> {
        let (mine, theirs) = (self.loaded(user)?, self.loaded(other)?);
        if user == other || mine.person.friend(other).is_some_and(super::user::Friend::is_friend) {
            return Ok(true);
        }
        for id in mine.links.iter().filter(|id| theirs.links.binary_search(id).is_ok()) {
            if mine.large.binary_search(id).is_ok() {
                continue;
            }
            let Some(common) = self.settled(*id)? else { continue };
            if common.kind() == ConversationKind::Group && common.member(other).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A connection watches a user from now on, if there is room.
    pub fn watch(&mut self, other: u64, user: u64, device: u64, at: ConnectionAt) {
        let Some(mine) = self.slot(user) else { return };
        let Some(slot) = self.slot(other) else { return };
        let Some(loaded) = &self.users[slot as usize].loaded else { return };
        let (watcher, room) = ((user, device, at), loaded.watchers.len() < limits::WATCHERS_MAX);
        let Some(conn) = self.conn_mut(mine, at, device) else { return };
        if !room || conn.watching.len() >= limits::WATCHED_MAX || conn.watching.contains(&other) {
            return;
        }
        conn.watching.push(other);
        if let Some(loaded) = &mut self.users[slot as usize].loaded {
            loaded.watchers.push(watcher);
        }
    }

    /// Decides about a step between two users; nothing to write when it is so already.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_friend(
        &mut self,
        user: u64,
        other: u64,
        step: FriendStep,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        if other == 0 || other == user {
            return invalid("name another user".to_owned());
        }
        let (mine, theirs) = (self.loaded(user)?, self.loaded(other)?);
        let full = |l: &super::user::Loaded, who| {
            l.person.friends.len() >= limits::FRIENDS_MAX
                && l.person.friend(who).is_none()
                && l.person.friends.iter().filter(|f| !f.is_nothing()).count() >= limits::FRIENDS_MAX
        };
        let full = full(mine, other) || full(theirs, user);
        let mut records = Vec::new();
        let pair = self.pair(user, other)?;
        // It is changed here and must not leave.
        let found = pair.map(|id| self.settled(id)).transpose()?.flatten();
        let between = found.map_or(0, |c| c.head.relation);
        let (mine, theirs) = (relation::of(between, user < other), relation::of(between, other < user));
        let is_so = match step {
            FriendStep::Ask => mine & relation::ASKS != 0,
            FriendStep::End => (mine | theirs) & relation::ASKS == 0,
            FriendStep::Block => mine & relation::BLOCKS != 0,
        };
        if is_so {
            return Ok(Vec::new());
        }
        if step == FriendStep::Ask && theirs & relation::BLOCKS != 0 {
            return refuse("this user has blocked you");
        }
        if full {
            return refuse("one of you has as many friends as one can have");
        }
        let conversation = match pair {
            Some(id) => id,
            None => {
                let id = self.new_id(now_ms)?;
                records.push(Logged::Fact(pair_made(id, user, other, ConversationKind::Pair)));
                id
            }
        };
        records.push(Logged::Fact(ChatFact::Friend { conversation, user, other, step }));
        Ok(records)
    }

    /// Decides about a profile.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_profile(&mut self, user: u64, name: &str, language: &str) -> Result<Vec<Logged>, Stop> {
        check_profile(name, language)?;
        let person = &self.loaded(user)?.person;
        if person.name == name && person.language == language {
            return Ok(Vec::new());
        }
        let fact = ChatFact::Profile { user, name: name.to_owned(), language: language.to_owned() };
        Ok(vec![Logged::Fact(fact)])
    }

    /// Decides about forgetting a device.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_forget(&mut self, user: u64, device: u64) -> Result<Vec<Logged>, Stop> {
        if self.loaded(user)?.person.device(device).is_none() {
            return Err(CallError::NotFound(format!("you have no device {device}")).into());
        }
        Ok(vec![Logged::Fact(ChatFact::DeviceForgotten { user, device })])
    }
}

/// Checks a profile.
///
/// # Errors
/// What is wrong with it.
pub fn check_profile(name: &str, language: &str) -> Result<(), Stop> {
    if !name.is_empty() {
        check_name(name)?;
    }
    let right = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if language.len() > limits::LANGUAGE_MAX || !language.chars().all(right) {
        return invalid(format!("`{language}` is no language tag (BCP 47), like zh-CN"));
    }
    Ok(())
}
