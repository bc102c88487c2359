//! Devices at the owner of their users' timelines: coming, going, confirming; what time brings them.

use super::line::Line;
use super::timelines::Timelines;
use crate::core::{Again, LINGER_MS, Pushing, Registration, Stop, check_profile};
use hashring::bucket_of;
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::{Head, PresenceOf};

/// Confirmed cursors that become due in one go.
const CONFIRMS_MAX: usize = 4_096;

impl Timelines {
    /// A device has logged in. False when its user's bucket is not this node's.
    pub fn arrive(&mut self, device: DeviceAt, now_ms: u64) -> bool {
        let Some(pushed) = self.committed(device.user) else { return false };
        let silent_ms = now_ms + self.options.presence_ms();
        let Some(line) = self.line(device.user, now_ms) else { return false };
        let was_away = line.user.arrive(device, pushed, now_ms);
        let is_loaded = line.user.loaded.is_some();
        self.silence.push_back((silent_ms, device.user, device.at, device.device));
        if was_away {
            self.presence.insert(device.user);
        }
        if is_loaded {
            self.register(device.user, now_ms);
            self.rewatch(device.user);
        } else {
            self.wanted.insert(device.user);
        }
        true
    }

    /// New devices on connections are registered.
    pub(super) fn register(&mut self, user: u64, now_ms: u64) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        let Some(loaded) = &mut line.user.loaded else { return };
        let steps = loaded.person.registrations(&line.user.conns, self.options.devices_max, now_ms);
        line.user.person_dirty |= !steps.is_empty();
        for step in steps {
            match step {
                Registration::Forget(device) => loaded.person.forget(device),
                Registration::Know(device) => loaded.person.know(device, now_ms),
            }
        }
        self.make_ready(user);
    }

    /// A connection is gone.
    pub fn leave(&mut self, device: DeviceAt, now_ms: u64) {
        let Some(line) = self.lines.get_mut(&device.user) else { return };
        let (_, is_away) = line.user.depart(device.at, device.device, now_ms);
        if is_away {
            line.bodies.clear();
            self.presence.insert(device.user);
            self.unwatch(device.user);
        }
    }

    /// A device has been heard of.
    pub fn beat(&mut self, device: DeviceAt, now_ms: u64) {
        let line = self.lines.get_mut(&device.user);
        if let Some(conn) = line.and_then(|line| line.user.conn_mut(device.at, device.device)) {
            conn.beat_ms = now_ms;
        }
    }

    /// A device has everything up to a cursor. What was not durable it can't have.
    pub fn confirm(&mut self, device: DeviceAt, cursor: u64, now_ms: u64) {
        self.beat(device, now_ms);
        let Some(committed) = self.committed(device.user) else { return };
        let Some(line) = self.lines.get_mut(&device.user) else { return };
        let Some(loaded) = &mut line.user.loaded else { return };
        if loaded.confirm(device.device, cursor.min(committed), now_ms) {
            self.unlogged.push_back(device.user);
        }
    }

    /// Another name or language.
    ///
    /// # Errors
    /// What is wrong with it. Nothing: `Ok(false)`, his own part must be loaded first, which is asked for.
    pub fn set_profile(&mut self, user: u64, name: &str, language: &str, now_ms: u64) -> Result<bool, Stop> {
        check_profile(name, language)?;
        if self.user(user, now_ms).is_none() {
            return Ok(false);
        }
        let Some(line) = self.lines.get_mut(&user) else { return Ok(false) };
        if let Some(loaded) = &mut line.user.loaded {
            name.clone_into(&mut loaded.person.name);
            language.clone_into(&mut loaded.person.language);
            line.user.person_dirty = true;
        }
        self.make_ready(user);
        Ok(true)
    }

    /// A device is forgotten.
    ///
    /// # Errors
    /// There is no such device. `Ok(false)` as in [`set_profile`](Timelines::set_profile).
    pub fn forget_device(&mut self, user: u64, device: u64, now_ms: u64) -> Result<bool, Stop> {
        let Some(known) = self.user(user, now_ms).and_then(|user| user.loaded.as_ref()) else {
            return Ok(false);
        };
        if known.person.device(device).is_none() {
            return Err(CallError::NotFound(format!("you have no device {device}")).into());
        }
        let Some(line) = self.lines.get_mut(&user) else { return Ok(false) };
        if let Some(loaded) = &mut line.user.loaded {
            loaded.person.forget(device);
            line.user.person_dirty = true;
        }
        self.make_ready(user);
        Ok(true)
    }

    /// Whether a step of a user is waiting or under way: what was changed of his own part is durable when not.
    pub fn is_storing(&self, user: u64) -> bool {
        self.lines.get(&user).is_some_and(|line| line.flight.is_some() || line.user.person_dirty)
    }

    /// Whether a user is online, and when he was last heard of.
    pub fn presence_of(&self, user: u64) -> PresenceOf {
        let nothing = PresenceOf { user, online: false, seen_ms: 0 };
        self.lines.get(&user).map_or(nothing, |line| line.user.presence())
    }

    /// Large conversations that somebody here watches; their owners are to be told every now and then
    /// ([`Conversations::watch`](super::Conversations::watch)).
    pub fn watched(&self) -> impl Iterator<Item = u64> + '_ {
        self.watched.keys().copied()
    }

    /// A head for those who watch.
    pub fn head(&self, head: &Head, out: &mut Pushing) {
        let Some(users) = self.watched.get(&head.conversation) else { return };
        out.head(head);
        for (user, line) in users.iter().filter_map(|user| Some((user, self.lines.get(user)?))) {
            line.user.conns.iter().for_each(|conn| out.target(*user, conn, conn.pushed, conn.pushed));
        }
    }

    pub(super) fn rewatch(&mut self, user: u64) {
        self.unwatch(user);
        let Some(line) = self.lines.get_mut(&user) else { return };
        if !line.user.conns.is_empty() && line.user.loaded.is_some() {
            line.watching = line.large();
            for conversation in &line.watching {
                self.watched.entry(*conversation).or_default().insert(user);
            }
        }
    }

    pub(super) fn unwatch(&mut self, user: u64) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        for conversation in std::mem::take(&mut line.watching) {
            if let Some(users) = self.watched.get_mut(&conversation) {
                users.remove(&user);
                if users.is_empty() {
                    self.watched.remove(&conversation);
                }
            }
        }
    }

    /// Everything that is due at a time.
    pub fn tick(&mut self, now_ms: u64, out: &mut Pushing) {
        self.note_own(now_ms);
        self.note_time(now_ms);
        while self.silence.front().is_some_and(|(due, ..)| *due <= now_ms) {
            let Some((_, user, at, device)) = self.silence.pop_front() else { break };
            let line = self.lines.get_mut(&user);
            let Some(conn) = line.and_then(|line| line.user.conn_mut(at, device)) else { continue };
            let due = conn.beat_ms + self.options.presence_ms();
            if due > now_ms {
                self.silence.push_back((due, user, at, device));
            } else {
                self.leave(DeviceAt { user, device, at }, now_ms);
            }
        }
        self.push_again(now_ms, out);
        self.tick_presence(now_ms, out);
        if now_ms >= self.confirm_due_ms {
            self.confirm_due_ms = now_ms + self.options.confirm_log_ms;
            let count = self.unlogged.len().min(CONFIRMS_MAX);
            let users: Vec<u64> = self.unlogged.drain(..count).collect();
            for user in users {
                if let Some(line) = self.lines.get_mut(&user)
                    && let Some(loaded) = &mut line.user.loaded
                {
                    loaded.unlogged = false;
                    line.user.person_dirty = true;
                }
                self.make_ready(user);
            }
        }
        self.evict(now_ms);
    }

    /// Entries that nobody has confirmed for a while go out once more, see [`User::again`](crate::core::User::again).
    fn push_again(&mut self, now_ms: u64, out: &mut Pushing) {
        let next_ms = now_ms + self.options.again_ms;
        while self.again.front().is_some_and(|(due, ..)| *due <= now_ms) {
            let Some((_, user, at, device, mark)) = self.again.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&user) else { continue };
            let Some(Again { mut after, entries, next }) = line.user.again(at, device, mark) else {
                continue;
            };
            self.again.extend(next.map(|mark| (next_ms, user, at, device, mark)));
            for entry in entries {
                let body = line.bodies.iter().find(|(cursor, _)| *cursor == entry.cursor);
                let Some((_, message)) = body else { break };
                if (message.sender, message.device) != (user, device) {
                    out.message(message);
                    out.target_at(user, device, at, after, entry.cursor);
                    after = entry.cursor;
                }
            }
        }
    }

    /// Users of whom nothing has been heard for a while leave when there are more than memory should hold.
    fn evict(&mut self, now_ms: u64) {
        let excess = self.lines.len().saturating_sub(self.options.users_max);
        if excess == 0 {
            return;
        }
        let before = now_ms.saturating_sub(LINGER_MS);
        let is_idle = |(_, line): &(&u64, &Line)| {
            let is_unlogged = line.user.loaded.as_ref().is_some_and(|loaded| loaded.unlogged);
            line.is_idle() && !is_unlogged && line.user.touched_ms < before
        };
        let gone: Vec<u64> = self.lines.iter().filter(is_idle).take(excess).map(|(user, _)| *user).collect();
        for user in gone {
            self.lines.remove(&user);
            if let Some(bucket) = self.in_bucket.get_mut(&bucket_of(user).get()) {
                bucket.remove(&user);
            }
        }
    }
}
