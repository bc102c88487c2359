//! Timelines, the devices connected to them, and pushes on their way out.

use super::OwnerNode;
use super::loads::Doubts;
use super::reign::Reign;
use crate::cluster::{Moved, Timelines};
use crate::core::Pushing;
use crate::limits::WATCHED_MAX;
use parking_lot::MutexGuard;
use protocol::calls::{DeviceAt, Part, PartKind, PushBatch, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Devices that arrive in one go after their bucket has come: each of them may have to be loaded, and asks for what it
/// missed.
const ARRIVALS_MAX: usize = 2_000;

/// How often the owners of large conversations are told that somebody here watches: three times as often as they forget it.
const WATCH_AGAIN_MS: u64 = 5_000;

/// The core of the timelines, and what it has to say to front doors.
pub(super) struct Lines {
    pub core: Timelines,
    pub out: Pushing,
    /// Large conversations whose owners have been told that they are watched here.
    watched: BTreeSet<u64>,
    watches_due_ms: u64,
    /// Users whose own part is to be read, each with the term of his bucket.
    pub users: Vec<(u64, u32)>,
    /// Users with places that only the store knows.
    pub doubts: Vec<(u64, Doubts, u32)>,
}

impl Lines {
    pub fn new(core: Timelines) -> Lines {
        Lines {
            core,
            out: Pushing::default(),
            watched: BTreeSet::new(),
            watches_due_ms: 0,
            users: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// Whose owners are to be told now that they are watched: those that are new, and from time to time all.
    pub fn watches(&mut self, now_ms: u64) -> Vec<u64> {
        let all: BTreeSet<u64> = self.core.watched().collect();
        let is_due = now_ms >= self.watches_due_ms;
        if is_due {
            self.watches_due_ms = now_ms + WATCH_AGAIN_MS;
        }
        let told = all.iter().filter(|id| is_due || !self.watched.contains(id)).copied().collect();
        self.watched = all;
        told
    }
}

impl OwnerNode {
    /// Lets pushes out that the timelines have made. The next ones wait until these are out, so each connection gets them in
    /// the order of its cursors.
    pub(super) fn flush(&self, reign: &Reign, mut lines: MutexGuard<'_, Lines>) {
        let targets = lines.out.targets();
        if targets == 0 {
            return;
        }
        let batches = lines.out.take();
        let _in_order = self.pushing.lock();
        drop(lines);
        if !self.is_fresh(reign) {
            // Devices find the gap, and are told to sync by whoever serves them next.
            self.counters.silenced.fetch_add(targets as u64, Ordering::Relaxed);
            return;
        }
        self.counters.targets.fetch_add(targets as u64, Ordering::Relaxed);
        for (access, batch) in batches {
            self.push(access, batch);
        }
    }

    fn push(&self, access: u16, batch: PushBatch) {
        let door = self.doors.read().get(&access).cloned();
        if let Some(door) = door {
            door.push(batch);
        }
    }

    /// A device has logged in. `again`: it may have missed something, and is told to sync.
    pub(super) fn arrives(&self, device: DeviceAt, again: bool) {
        if device.user == 0 || device.device == 0 {
            return;
        }
        let now_ms = self.clock.now_ms();
        let until_ms = now_ms + self.options.presence_ms();
        // Whoever waits is told to sync anyway. A session that is not fresh could not tell him.
        let Some(reign) = self.reign_now().filter(|reign| self.is_fresh(reign)) else {
            return self.arrivals.lock().wait(device, until_ms);
        };
        let mut lines = reign.lines.lock();
        let mut arrivals = self.arrivals.lock();
        if !lines.core.arrive(device, now_ms) {
            arrivals.wait(device, until_ms);
            return;
        }
        let watching = arrivals.leave(device);
        drop(arrivals);
        if !watching.is_empty() {
            let lines = &mut *lines;
            lines.core.watch_again(device, &watching, now_ms, &mut lines.out);
        }
        if again {
            self.tell_to_sync(&reign, lines, &[device], now_ms);
        } else {
            self.flush(&reign, lines);
        }
        self.wakes.lines.notify_one();
    }

    /// A device goes on watching whom it watched. It has just arrived, here or among those who wait.
    pub(super) fn watches_again(&self, device: DeviceAt, users: &[u64]) {
        let users = &users[..users.len().min(WATCHED_MAX)];
        let Some(reign) = self.reign_now().filter(|reign| self.is_fresh(reign)) else {
            return self.arrivals.lock().watch(device, users.to_vec());
        };
        let now_ms = self.clock.now_ms();
        let mut guard = reign.lines.lock();
        let lines = &mut *guard;
        if !lines.core.watch_again(device, users, now_ms, &mut lines.out) {
            return self.arrivals.lock().watch(device, users.to_vec());
        }
        self.flush(&reign, guard);
        self.wakes.lines.notify_one();
    }

    /// Devices are told to sync: what was pushed until now may have gone nowhere, what comes is pushed.
    fn tell_to_sync(
        &self,
        reign: &Reign,
        mut lines: MutexGuard<'_, Lines>,
        devices: &[DeviceAt],
        now_ms: u64,
    ) {
        let mut batches: BTreeMap<u16, PushBatch> = BTreeMap::new();
        for DeviceAt { user, device, at } in devices.iter().copied() {
            let Some(plan) = lines.core.sync(user, u64::MAX, now_ms) else { continue };
            let cursor = plan.committed;
            let batch = batches.entry(at.access).or_insert_with(|| PushBatch {
                parts: vec![Part { kind: PartKind::Bare, bytes: 0..0 }],
                ..PushBatch::default()
            });
            let connection = at.connection;
            batch.targets.push(Target { connection, user, device, after: cursor, cursor, message: 0 });
        }
        // What was to go out before goes before.
        let before = lines.out.take();
        let _in_order = self.pushing.lock();
        drop(lines);
        if !self.is_fresh(reign) {
            return;
        }
        for (access, mut batch) in before.into_iter().chain(batches) {
            if batch.bytes.is_empty() {
                batch.targets.sort_unstable_by_key(|t| (t.connection, t.user, t.device, t.message));
            }
            self.push(access, batch);
        }
    }

    /// Devices have been heard of. Who is not known here, and should be, arrives once more.
    pub(super) fn beats(&self, devices: &[DeviceAt], now_ms: u64) {
        let until_ms = now_ms + self.options.presence_ms();
        let Some(reign) = self.reign_now() else {
            let mut arrivals = self.arrivals.lock();
            return devices.iter().for_each(|device| arrivals.wait(*device, until_ms));
        };
        let mut unknown = Vec::new();
        {
            let mut lines = reign.lines.lock();
            let mut arrivals = self.arrivals.lock();
            for device in devices.iter().filter(|d| d.user != 0 && d.device != 0) {
                if !lines.core.owns(device.user) {
                    arrivals.wait(*device, until_ms);
                    continue;
                }
                lines.core.beat(*device, now_ms);
                let is_at = |c: &crate::core::Conn| c.device == device.device && c.at == device.at;
                let user = lines.core.user(device.user, now_ms);
                if user.is_some_and(|user| !user.conns.iter().any(is_at)) {
                    unknown.push(*device);
                }
            }
        }
        unknown.into_iter().for_each(|device| self.arrives(device, true));
    }

    /// Those whose buckets are ours by now arrive, and are told to sync.
    pub(super) fn bring_arrivals(&self, reign: &Reign, now_ms: u64) {
        if self.arrivals.lock().len() == 0 || !self.is_fresh(reign) {
            return;
        }
        let mut lines = reign.lines.lock();
        let mut arrivals = self.arrivals.lock();
        arrivals.expire(now_ms);
        let devices = arrivals.take(|bucket| lines.core.term(bucket).is_some(), ARRIVALS_MAX);
        drop(arrivals);
        if !devices.is_empty() {
            let all = &mut *lines;
            for Moved { device, watching } in &devices {
                all.core.arrive(*device, now_ms);
                if !watching.is_empty() {
                    all.core.watch_again(*device, watching, now_ms, &mut all.out);
                }
            }
            let devices: Vec<DeviceAt> = devices.iter().map(|moved| moved.device).collect();
            self.tell_to_sync(reign, lines, &devices, now_ms);
            self.wakes.lines.notify_one();
        }
    }

    /// Timelines of a bucket are not ours any more; its devices wait, until their front doors have told the next owner.
    pub(super) fn disown_lines(&self, reign: &Reign, bucket: u16) {
        let until_ms = self.clock.now_ms() + self.options.presence_ms();
        let mut lines = reign.lines.lock();
        let moved = lines.core.disown(bucket);
        let mut arrivals = self.arrivals.lock();
        moved.into_iter().for_each(|moved| arrivals.wait_moved(moved, until_ms));
    }
}
