//! What an award's lease must be: in the log before the award, with the unit in it, and ended behind its last award.
//!
//! Kept in memory are the open leases of a node's newest epoch alone; a node has a few for each prize.

use super::bytes::{Lease, Record, Won};
use super::lane::Place;
use crate::breaks::{Break, Kind};
use crate::rows::PrizeKey;
use campaign::{LeaseId, NodeEpoch, NodeId, UnitRange};
use std::collections::HashMap;

/// Open leases of one node, at most: more means that the log is not what it says.
const OPEN_MAX: usize = 1 << 18;

struct Open {
    key: PrizeKey,
    units: Vec<UnitRange>,
    taken: u64,
}

/// Follows the leases of one node.
pub struct LeaseBook {
    node: NodeId,
    epoch: NodeEpoch,
    open: HashMap<LeaseId, Open>,
    highest: Option<LeaseId>,
}

impl LeaseBook {
    /// The book of a node before its first record.
    pub fn new(node: NodeId) -> LeaseBook {
        LeaseBook { node, epoch: NodeEpoch(0), open: HashMap::new(), highest: None }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Takes the next record of the node's log; answers a break if there is one.
    ///
    /// # Errors
    /// When the log has more open leases than can be.
    pub fn take(&mut self, place: Place, record: &Record) -> Result<Option<Break>, String> {
        if place.epoch > self.epoch {
            // What an earlier epoch had open is for the settlement: the node takes nothing from it any more.
            (self.epoch, self.highest) = (place.epoch, None);
            self.open.clear();
        }
        Ok(match record {
            Record::Won(won) => self.won(place, won),
            Record::LeaseGot(lease) => {
                if self.open.len() >= OPEN_MAX {
                    return Err(format!("more than {OPEN_MAX} leases are open at once"));
                }
                self.highest = self.highest.max(Some(lease.lease));
                let open = Open { key: lease.key, units: lease.units.clone(), taken: 0 };
                self.open.insert(lease.lease, open).map(|_| self.break_of(lease, "the log has it twice"))
            }
            Record::LeaseClosed { lease, used } => self.closed(lease, *used),
            Record::EpochBegan { .. } | Record::Ended { .. } => None,
        })
    }

    fn won(&mut self, place: Place, won: &Won) -> Option<Break> {
        let facts = &won.facts;
        let key = PrizeKey { campaign: facts.campaign, round: facts.round, prize: facts.prize };
        let found = |kind, detail: String| {
            Some(Break::of_award(kind, facts.id, key, detail).by(facts.user, won.time_ms))
        };
        match self.open.get_mut(&won.lease) {
            Some(open)
                if open.key == key
                    && open.units.iter().any(|r| r.first <= facts.unit && facts.unit < r.end()) =>
            {
                open.taken += 1;
                None
            }
            Some(_) => found(
                Kind::LeaseUnknown,
                format!(
                    "unit {} is not in lease {} of node {} epoch {}",
                    facts.unit, won.lease, place.node, place.epoch
                ),
            ),
            None if self.highest >= Some(won.lease) => found(
                Kind::WonAfterClose,
                format!(
                    "unit {} was taken from lease {} of node {} epoch {} behind its end",
                    facts.unit, won.lease, place.node, place.epoch
                ),
            ),
            None => found(
                Kind::LeaseUnknown,
                format!("node {} epoch {} never got lease {}", place.node, place.epoch, won.lease),
            ),
        }
    }

    fn closed(&mut self, lease: &Lease, used: u64) -> Option<Break> {
        let Some(open) = self.open.remove(&lease.lease) else {
            return Some(self.break_of(lease, "it ends and was not open"));
        };
        let total: u64 = open.units.iter().map(|r| r.count).sum();
        let back: u64 = lease.units.iter().map(|r| r.count).sum();
        if open.key == lease.key && open.taken == used && used + back == total {
            return None;
        }
        let detail = format!(
            "{total} units came, {} awards are in the log, its end says {used} used and {back} back",
            open.taken
        );
        Some(self.break_of(lease, &detail))
    }

    fn break_of(&self, lease: &Lease, detail: &str) -> Break {
        let subject = format!("lease {}/{}/{}", self.node, self.epoch, lease.lease);
        Break::of(Kind::LeaseSums, subject, detail).on(lease.key)
    }
}
