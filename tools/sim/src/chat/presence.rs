//! Who is online: devices ask and watch, nodes ask each other and tell.

use super::world::{Event, Who, World};
use chat::cluster::PresenceWord;
use hashring::bucket_of;
use protocol::calls::DeviceAt;
use protocol::v1::PresenceOf;
use std::collections::BTreeMap;

/// A device that has no answer asks again after this time, ms.
const WATCH_MS: u64 = 1_000;

impl World {
    /// A device asks about some users, and watches them: on each connection until it is answered, and then no more.
    pub fn device_watches(&mut self, who: Who) {
        let now_ms = self.now_ms;
        let device = &self.users[who.0].devices[who.1];
        if now_ms < device.watched_ms + WATCH_MS || device.watches() {
            return;
        }
        if self.users[who.0].devices[who.1].sees.is_empty() {
            let count = self.users.len() as u64;
            let some: Vec<u64> = (0..2).map(|_| self.users[self.rng.below(count) as usize].id).collect();
            let device = &mut self.users[who.0].devices[who.1];
            device.sees = some.into_iter().map(|user| (user, false)).collect();
        }
        let (node, at) = (self.door(self.users[who.0].id), self.at(who));
        let device = &mut self.users[who.0].devices[who.1];
        device.watched_ms = now_ms;
        let users: Vec<u64> = device.sees.keys().copied().collect();
        self.post(|| Event::Watches(node, at, users.clone()));
    }

    /// The request comes to a node. It does not wait for what it does not know: the device asks again.
    pub fn watch_comes(&mut self, n: usize, at: DeviceAt, users: &[u64]) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        if up.timelines.owns(at.user) {
            let said = up.timelines.presence(at, users, true, now_ms).said;
            self.post(|| Event::Sees(at, said.clone()));
        }
    }

    /// Whenever a front door tells of a device, it says whom it watches.
    pub fn tell_watches(&mut self, who: Who, node: u16) {
        let (at, device) = (self.at(who), &self.users[who.0].devices[who.1]);
        if device.watches() {
            let users: Vec<u64> = device.sees.keys().copied().collect();
            self.post(|| Event::WatchesAgain(node, at, users.clone()));
        }
    }

    pub fn watches_again(&mut self, n: usize, at: DeviceAt, users: &[u64]) {
        let now_ms = self.now_ms;
        if let Some(up) = self.nodes[n].up.as_mut() {
            up.timelines.watch_again(at, users, now_ms, &mut up.out);
        }
    }

    /// Nodes ask and tell each other.
    pub fn pump_presence(&mut self, n: usize) {
        let (now_ms, from) = (self.now_ms, n as u16 + 1);
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let mut asks: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for user in up.timelines.presence_asks() {
            if let Some(owner) = up.seen.get(&bucket_of(user).get()) {
                asks.entry(*owner).or_default().push(user);
            }
        }
        let words = up.timelines.presence_words(now_ms);
        for (node, users) in asks {
            self.post(|| Event::PresenceAsked(node, from, users.clone()));
        }
        for (node, words) in words {
            self.post(|| Event::PresenceSaid(node, words.clone()));
        }
    }

    pub fn presence_asked(&mut self, n: usize, from: u16, users: &[u64]) {
        let now_ms = self.now_ms;
        if let Some(up) = self.nodes[n].up.as_mut() {
            up.timelines.presence_asked(from, users, now_ms);
        }
    }

    pub fn presence_said(&mut self, n: usize, words: &[PresenceWord]) {
        let now_ms = self.now_ms;
        if let Some(up) = self.nodes[n].up.as_mut() {
            up.timelines.presence_said(words, now_ms, &mut up.out);
        }
    }

    /// A device hears who is online, as an answer or by push.
    pub fn device_sees(&mut self, at: DeviceAt, said: &[PresenceOf]) {
        let Some(user) = self.users.iter_mut().find(|user| user.id == at.user) else { return };
        let Some(device) = user.devices.iter_mut().find(|d| d.number == at.device) else { return };
        if device.is_on(at.at.connection) {
            device.watched_on = at.at.connection;
            for presence in said {
                if let Some(sees) = device.sees.get_mut(&presence.user) {
                    *sees = presence.online;
                }
            }
        }
    }
}
