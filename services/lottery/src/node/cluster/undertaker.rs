//! Ending other nodes' epochs and settling their leases: which step comes next, given what is known. Pure.
//!
//! An epoch whose node is dead is ended in the ledger; its end mark goes into the node's lane; the position behind the
//! first mark is written into the ledger, which frees the node's buckets; its open leases are settled from what stands in
//! the lane between low-water position and first mark. Each step may be done by somebody else meanwhile, or twice:
//! whoever finds an epoch at any point of the way ([`crate::ledger::QuotaLedger::dead_epochs`],
//! [`crate::ledger::QuotaLedger::unsettled`]) goes on from there.

use crate::ledger::{LeaseKey, LeaseRow};
use crate::node::replay::{BadRecord, Replay};
use campaign::{NodeEpoch, NodeId, Ranges};
use ownership::NodeRow;
use queue::Group;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Each node waits so much longer than the one before it in the order of the dead node's undertakers.
pub const STAGGER_MS: u64 = 150;

/// What is to be done next about an epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// End it in the ledger; then [`Case::ended`].
    End,
    /// Write its mark into the lane; then [`Case::marked`].
    Mark,
    /// Read the lane from this position on; then [`Case::read`].
    Read(u64),
    /// Record that the lane up to this position, exclusive, holds all of it that counts; then [`Case::recorded`].
    Record(u64),
    /// Look for open leases; then [`Case::leases`].
    Leases,
    /// Close a lease of which these units became awards; then [`Case::settled`].
    Settle(LeaseKey, Ranges),
    /// Nothing is left to do.
    Done,
}

/// An epoch on its way to its end.
pub struct Case {
    node: NodeId,
    epoch: NodeEpoch,
    is_open: bool,
    is_marked: bool,
    is_recorded: bool,
    /// Next position of the lane to be read.
    from: u64,
    replay: Replay,
    /// Open leases of this epoch and earlier ones, once they are known.
    open: Option<Vec<LeaseRow>>,
}

impl Case {
    /// An epoch as the ledger has it: its session is dead, or it has ended and is not settled.
    pub fn new(row: &NodeRow) -> Case {
        let is_recorded = row.end_position.is_some();
        Case {
            node: NodeId(row.node),
            epoch: NodeEpoch(row.epoch),
            is_open: row.is_open(),
            // A position was recorded, so the mark is there.
            is_marked: is_recorded,
            is_recorded,
            from: row.low_water,
            replay: Replay::default(),
            open: None,
        }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its epoch.
    pub fn epoch(&self) -> NodeEpoch {
        self.epoch
    }

    /// What comes next.
    pub fn step(&self) -> Step {
        if self.is_open {
            return Step::End;
        }
        if !self.is_marked {
            return Step::Mark;
        }
        let mark = self.replay.over(self.epoch.0);
        if !self.is_recorded {
            return mark.map_or(Step::Read(self.from), |at| Step::Record(at + 1));
        }
        let Some(open) = &self.open else { return Step::Leases };
        match (open.last(), mark) {
            (None, _) => Step::Done,
            (Some(_), None) => Step::Read(self.from),
            (Some(lease), Some(_)) => {
                let key = lease.key;
                Step::Settle(key, self.replay.used(key.epoch.0, key.lease))
            }
        }
    }

    /// It has ended, whoever did it.
    pub fn ended(&mut self) {
        self.is_open = false;
    }

    /// Its mark is in the lane.
    pub fn marked(&mut self) {
        self.is_marked = true;
    }

    /// What was read of the lane, and whether that is all there was. Without a mark in it, it is written (again).
    ///
    /// # Errors
    /// When a record can't be read; the lane holds what a newer version has written.
    pub fn read(&mut self, groups: &[Group], at_end: bool) -> Result<(), BadRecord> {
        for group in groups {
            let (node, position) = (self.node.0, group.position.0);
            self.replay.group(node, group.epoch, position, group.records(), false)?;
            self.from = position + 1;
        }
        if at_end && self.replay.over(self.epoch.0).is_none() {
            self.is_marked = false;
        }
        Ok(())
    }

    /// The end position is in the ledger.
    pub fn recorded(&mut self) {
        self.is_recorded = true;
    }

    /// The node's open leases.
    pub fn leases(&mut self, mut open: Vec<LeaseRow>) {
        open.retain(|lease| lease.key.epoch <= self.epoch);
        self.open = Some(open);
    }

    /// A lease has been closed, or can't be.
    pub fn settled(&mut self, key: LeaseKey) {
        if let Some(open) = &mut self.open {
            open.retain(|lease| lease.key != key);
        }
    }
}

/// Epochs that somebody must see to, and since when this node knows of them.
#[derive(Default)]
pub struct Watch {
    since_ms: BTreeMap<(u16, u32), u64>,
}

impl Watch {
    /// Of what was found, what `me` is to see to now: the newest epoch of each other node (its end covers the earlier
    /// ones), at once if it is first in the dead node's order of the living, and later for each place behind.
    pub fn due(&mut self, me: u16, found: &[NodeRow], living: &[u16], now_ms: u64) -> Vec<NodeRow> {
        let mut newest: BTreeMap<u16, &NodeRow> = BTreeMap::new();
        for row in found.iter().filter(|row| row.node != me) {
            let kept = newest.entry(row.node).or_insert(row);
            if row.epoch > kept.epoch {
                *kept = row;
            }
        }
        self.since_ms.retain(|key, _| newest.values().any(|row| (row.node, row.epoch) == *key));
        let mut due = Vec::new();
        for row in newest.into_values() {
            let since = *self.since_ms.entry((row.node, row.epoch)).or_insert(now_ms);
            if now_ms.saturating_sub(since) >= place(me, row.node, living) * STAGGER_MS {
                due.push(row.clone());
            }
        }
        due
    }
}

/// The place of `me` among the living, in an order of the dead node's own.
fn place(me: u16, dead: u16, living: &[u16]) -> u64 {
    let rank = |node: u16| xxh3_64(&[dead.to_le_bytes(), node.to_le_bytes()].concat());
    let before = living.iter().filter(|n| **n != dead && **n != me && (rank(**n), **n) < (rank(me), me));
    before.count() as u64
}

#[cfg(test)]
mod tests {
    use super::{Case, STAGGER_MS, Step, Watch, place};
    use crate::ledger::{LeaseKey, LeaseRow, PrizeKey};
    use crate::node::replay::tests::won;
    use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo};
    use ownership::{EndReason, NodeRow};
    use queue::{Group, Position};
    use records::{Ended, Record};

    fn row(node: u16, epoch: u32) -> NodeRow {
        NodeRow { low_water: 4, ..NodeRow::begin(None, node, epoch - 1, 1_000).unwrap() }
    }

    fn lease(epoch: u32, lease: u64) -> LeaseRow {
        let key = LeaseKey { node: NodeId(1), epoch: NodeEpoch(epoch), lease: LeaseId(lease) };
        let prize = PrizeKey { campaign: CampaignId(1), round: RoundId(1), prize: PrizeId(1) };
        let (seq_no, ranges) = (SeqNo(1), Vec::new());
        LeaseRow { key, prize, seq_no, granted_ms: 0, round_close_ms: 0, ranges, closed: None }
    }

    fn group(position: u64, epoch: u32, records: &[Vec<u8>]) -> Group {
        Group::new(Position(position), epoch, records)
    }

    fn mark(epoch: u32) -> Vec<u8> {
        Ended { node: NodeId(1), epoch: NodeEpoch(epoch) }.encode()
    }

    #[test]
    fn ends_marks_reads_records_and_settles() {
        let mut case = Case::new(&row(1, 3));
        assert_eq!(case.step(), Step::End);
        case.ended();
        assert_eq!(case.step(), Step::Mark);
        case.marked();
        assert_eq!(case.step(), Step::Read(4));
        case.read(&[group(4, 2, &[won(7, 9, 50)]), group(5, 3, &[won(7, 1, 10), won(8, 1, 12)])], false)
            .unwrap();
        assert_eq!(case.step(), Step::Read(6));
        case.read(&[], true).unwrap();
        assert_eq!(case.step(), Step::Mark, "it is not there");
        case.marked();
        assert_eq!(case.step(), Step::Read(6));
        let behind = group(8, 3, &[won(9, 1, 13)]);
        case.read(&[group(6, 3, &[won(9, 2, 30)]), group(7, 3, &[mark(3)]), behind], true).unwrap();
        assert_eq!(case.step(), Step::Record(8));
        case.recorded();
        assert_eq!(case.step(), Step::Leases);
        case.leases(vec![lease(2, 9), lease(3, 1), lease(3, 2), lease(4, 1)]);
        let mut settled = Vec::new();
        while let Step::Settle(key, used) = case.step() {
            settled.push((key.epoch.0, key.lease.0, used.to_string()));
            case.settled(key);
        }
        settled.sort();
        let text = |s: &str| s.to_owned();
        assert_eq!(
            settled,
            [(2, 9, text("50")), (3, 1, text("10,12")), (3, 2, text("30"))],
            "in front of the mark"
        );
        assert_eq!(case.step(), Step::Done);
    }

    #[test]
    fn goes_on_where_somebody_left_off() {
        let mut ended = row(1, 3);
        ended.end(EndReason::Expired, 9_000).unwrap();
        assert_eq!(Case::new(&ended).step(), Step::Mark);
        ended.record_end_position(8).unwrap();
        let mut case = Case::new(&ended);
        assert_eq!(case.step(), Step::Leases);
        case.leases(vec![]);
        assert_eq!(case.step(), Step::Done, "the lane need not be read");
        let mut case = Case::new(&ended);
        case.leases(vec![lease(3, 1)]);
        assert_eq!(case.step(), Step::Read(4));
        case.read(&[group(4, 3, &[won(7, 1, 10)]), group(5, 4, &[mark(4)])], false).unwrap();
        assert!(
            matches!(case.step(), Step::Settle(_, used) if used.to_string() == "10"),
            "a later mark covers it"
        );
    }

    #[test]
    fn one_after_the_other_sees_to_a_dead_node() {
        let living = [2u16, 3, 4, 9];
        let mut places: Vec<u64> = living.iter().map(|n| place(*n, 1, &living)).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3]);
        assert_eq!(place(7, 1, &[]), 0, "alone");
        let found = [row(1, 2), row(1, 3), row(2, 1)];
        let last = *living.iter().max_by_key(|n| place(**n, 1, &living)).unwrap();
        let mut watch = Watch::default();
        let mut of_node_1 = |now_ms: u64, found: &[NodeRow]| {
            let due = watch.due(last, found, &living, now_ms);
            due.iter().filter(|r| r.node == 1).map(|r| r.epoch).collect::<Vec<_>>()
        };
        assert_eq!(of_node_1(5_000, &found), [0u32; 0]);
        assert_eq!(of_node_1(5_000 + 3 * STAGGER_MS - 1, &found), [0u32; 0]);
        assert_eq!(of_node_1(5_000 + 3 * STAGGER_MS, &found), [3], "the newest covers the others");
        assert_eq!(of_node_1(9_000, &[]), [0u32; 0]);
        assert_eq!(of_node_1(9_100, &found), [0u32; 0], "it counts anew");
        assert_eq!(Watch::default().due(1, &found[..2], &living, 0), [], "nobody buries himself");
    }
}
