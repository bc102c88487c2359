//! The node's snapshots: users' wins copied bucket by bucket while draws go on, valid once the log is durable up to the
//! newest win in them. A kill in between leaves the one before.
//!
//! Files are not simulated here (their damage is the node's own tests' business); what a snapshot says and from where
//! the log is read behind it is.

use crate::single::{NodeState, NodeStep};
use crate::world::World;
use lottery::core::{BUCKETS, WinLog as _};
use records::SnapshotWin;

/// Buckets copied in one step.
const COPY_BUCKETS: usize = 1_024;

/// A snapshot that a start may use.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// The log behind this position holds every win that is not here.
    pub from: u64,
    /// The log must reach up to here.
    pub to: u64,
    /// Wins by bucket.
    pub wins: Vec<Vec<SnapshotWin>>,
}

/// A snapshot under way.
pub(crate) struct Copying {
    snapshot: Snapshot,
    next: usize,
}

impl World {
    /// Copies the next buckets, or waits for the log; `None` begins a new one.
    pub fn node_copies(&mut self, copying: Option<Box<Copying>>) {
        let NodeState::Up(up) = &self.node.state else { return };
        let acknowledged = up.log.acknowledged();
        let begin = || {
            let snapshot =
                Snapshot { from: acknowledged, to: acknowledged, wins: Vec::with_capacity(BUCKETS) };
            Box::new(Copying { snapshot, next: 0 })
        };
        let mut copying = copying.unwrap_or_else(begin);
        for bucket in copying.next..(copying.next + COPY_BUCKETS).min(BUCKETS) {
            let Some((wins, newest)) = up.core.wins(bucket) else {
                // Not every bucket is loaded yet: no snapshot now.
                return self.next_snapshot();
            };
            if !wins.is_empty() {
                copying.snapshot.to = copying.snapshot.to.max(newest + 1);
            }
            copying.snapshot.wins.push(wins);
        }
        copying.next = (copying.next + COPY_BUCKETS).min(BUCKETS);
        if copying.next < BUCKETS || acknowledged < copying.snapshot.to {
            let wait = self.between(1, 15);
            return self.node_push(wait, NodeStep::Copy(Some(copying)));
        }
        let Snapshot { from, to, wins } = &copying.snapshot;
        let count: usize = wins.iter().map(Vec::len).sum();
        self.note(format_args!("node: snapshot of {count} wins, from {from} to {to}"));
        self.counters.snapshots += 1;
        self.node.snapshot = Some(copying.snapshot);
        self.next_snapshot();
    }

    fn next_snapshot(&mut self) {
        let wait = self.between(300, 4_000);
        self.node_push(wait, NodeStep::Copy(None));
    }
}
