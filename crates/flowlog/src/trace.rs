//! Where the time of the slowest groups went.
//!
//! A tail has causes that means and histograms don't show. The log therefore keeps the few slowest groups since it was
//! last asked, each with its time cut into parts that add up.

use parking_lot::Mutex;

use crate::position::Position;

/// Groups that are kept.
const KEPT: usize = 16;

/// The way of one group from its first record to its durable end, in ns. The parts add up to the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupTrace {
    /// The group.
    pub position: Position,
    /// Its bytes, header included.
    pub bytes: u64,
    /// From its first record on until the group before it was durable and told.
    pub behind_ns: u64,
    /// Taking room, rolling over, writing ahead and removing behind the group before it.
    pub room_ns: u64,
    /// Until the thread woke and took it.
    pub wake_ns: u64,
    /// Checksum, hash and write.
    pub write_ns: u64,
    /// The sync.
    pub sync_ns: u64,
    /// The log had gone over to a new segment before it.
    pub rolled: bool,
}

impl GroupTrace {
    /// All of it: what the group's first record waited.
    pub fn total_ns(&self) -> u64 {
        self.behind_ns + self.room_ns + self.wake_ns + self.write_ns + self.sync_ns
    }

    /// The largest part, by name.
    pub fn cause(&self) -> &'static str {
        let parts = [
            (self.behind_ns, "the group before"),
            (self.room_ns, if self.rolled { "roll-over" } else { "room" }),
            (self.wake_ns, "wake-up"),
            (self.write_ns, "write"),
            (self.sync_ns, "sync"),
        ];
        parts.iter().max_by_key(|p| p.0).map_or("nothing", |p| p.1)
    }
}

/// Times of a group's stations on one clock.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stations {
    /// Its first record came.
    pub first: u64,
    /// The group before it had been told.
    pub told_before: u64,
    /// The thread was ready for it.
    pub ready: u64,
    /// The thread took it.
    pub taken: u64,
    /// It was written.
    pub written: u64,
    /// Its sync returned.
    pub synced: u64,
}

impl Stations {
    pub fn trace(&self, position: Position, bytes: u64, rolled: bool) -> GroupTrace {
        let told = self.told_before.max(self.first);
        let ready = self.ready.max(told);
        GroupTrace {
            position,
            bytes,
            behind_ns: told - self.first,
            room_ns: ready - told,
            wake_ns: self.taken.saturating_sub(ready),
            write_ns: self.written.saturating_sub(self.taken),
            sync_ns: self.synced.saturating_sub(self.written),
            rolled,
        }
    }
}

/// The slowest groups.
#[derive(Default)]
pub(crate) struct Slowest(Mutex<Vec<GroupTrace>>);

impl Slowest {
    pub fn add(&self, trace: GroupTrace) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(trace);
        } else if let Some(fastest) = kept.iter_mut().min_by_key(|t| t.total_ns())
            && fastest.total_ns() < trace.total_ns()
        {
            *fastest = trace;
        }
    }

    /// Slowest first; from now on they are collected anew.
    pub fn take(&self) -> Vec<GroupTrace> {
        let mut kept = std::mem::take(&mut *self.0.lock());
        kept.sort_by_key(|t| std::cmp::Reverse(t.total_ns()));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_whatever_came_first() {
        let behind = Stations { first: 10, told_before: 30, ready: 70, taken: 71, written: 75, synced: 90 };
        let trace = behind.trace(Position(3), 100, true);
        assert_eq!((trace.total_ns(), trace.behind_ns, trace.room_ns), (80, 20, 40));
        assert_eq!(trace.cause(), "roll-over");
        // It came when the thread slept.
        let idle = Stations { first: 80, ..behind };
        let trace = Stations { taken: 90, written: 91, synced: 95, ..idle }.trace(Position(3), 100, false);
        assert_eq!((trace.total_ns(), trace.wake_ns, trace.cause()), (15, 10, "wake-up"));
    }

    #[test]
    fn only_the_slowest_are_kept_and_each_is_told_once() {
        let slowest = Slowest::default();
        for n in 0..100u64 {
            slowest.add(GroupTrace { position: Position(n), sync_ns: n * 7 % 100, ..GroupTrace::default() });
        }
        let kept = slowest.take();
        assert_eq!(kept.len(), KEPT);
        assert_eq!((kept[0].sync_ns, kept[KEPT - 1].sync_ns), (99, 84));
        assert!(slowest.take().is_empty());
    }
}
