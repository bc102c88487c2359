//! The ledger's rows, as plain values. Every unit number of a prize stands in exactly one place: never granted,
//! come back, cancelled, in an open lease, or used.

use campaign::{
    CampaignId, Curve, LeaseId, NodeEpoch, NodeId, PrizeId, Ranges, RoundId, SeqNo, UnitRange, VendorId,
};
use ownership::{BucketRow, NodeRow};
use records::LeaseRange;
use std::collections::BTreeMap;

use super::port::PrizeReport;
use super::rules::window::SlotWindow;

/// A prize of a round of a campaign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PrizeKey {
    /// The campaign.
    pub campaign: CampaignId,
    /// The round.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
}

impl std::fmt::Display for PrizeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "prize {} of round {} of campaign {}", self.prize, self.round, self.campaign)
    }
}

/// A vendor within a campaign; what its prizes release together is limited.
pub type VendorKey = (CampaignId, VendorId);

/// A lease, as its node names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseKey {
    /// The node.
    pub node: NodeId,
    /// The node's epoch when it asked.
    pub epoch: NodeEpoch,
    /// Number within the epoch.
    pub lease: LeaseId,
}

/// What the ledger knows of a campaign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CampaignRow {
    /// The campaign.
    pub campaign: CampaignId,
    /// The newest SeqNo that was named to the ledger.
    pub seq_no: SeqNo,
}

/// A vendor's limit, and the slots in which it has been used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VendorRow {
    /// The vendor.
    pub key: VendorKey,
    /// Plan that the limit comes from.
    pub seq_no: SeqNo,
    /// Units of all its prizes that may be released in a second; 0: no limit.
    pub release_per_second: u64,
    /// Units placed in the slots around now.
    pub window: SlotWindow,
}

/// A prize: its numbers, its curve, and how far it has been released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrizeRow {
    /// The prize.
    pub key: PrizeKey,
    /// Who delivers it.
    pub vendor: VendorId,
    /// Plan that the row was last taken from.
    pub seq_no: SeqNo,
    /// SeqNo of the last lowering, pause or resumption; 0: none.
    pub change_seq_no: SeqNo,
    /// First ms of the round.
    pub open_ms: u64,
    /// First ms behind the round.
    pub close_ms: u64,
    /// Release curve, relative to `open_ms`.
    pub curve: Curve,
    /// Highest release speed, units a second; 0: none.
    pub speed_max: u64,
    /// Speed of catching up, percent of the curve's mean speed.
    pub catch_up_percent: u32,
    /// Numbers ever made: 0 .. made.
    pub made: u64,
    /// Never granted.
    pub fresh: Ranges,
    /// Granted once and come back.
    pub returned: Ranges,
    /// Taken out of the budget for ever.
    pub cancelled: Ranges,
    /// Units in open leases.
    pub leased: u64,
    /// Units that became awards.
    pub used: u64,
    /// So many units had been released ...
    pub base_units: u64,
    /// ... at this instant, ms UTC. Both stay as they are between changes, so that rounding loses nothing.
    pub base_ms: u64,
    /// The curve stands still and nothing is granted.
    pub paused: bool,
    /// Leases granted at or before this instant are wanted back; 0: none.
    pub recall_ms: u64,
    /// Units placed in the slots around now.
    pub window: SlotWindow,
}

impl PrizeRow {
    /// The effective budget: every number made and not cancelled.
    pub fn budget(&self) -> u64 {
        self.made - self.cancelled.len()
    }

    /// Units that can be granted.
    pub fn available(&self) -> u64 {
        self.fresh.len() + self.returned.len()
    }

    /// Units granted and not come back.
    pub fn out(&self) -> u64 {
        self.leased + self.used
    }

    /// The row for reports, with what the curve has released by now.
    pub fn report(&self, now_ms: u64) -> PrizeReport {
        PrizeReport {
            prize: self.key,
            vendor: self.vendor,
            seq_no: self.seq_no,
            open_ms: self.open_ms,
            close_ms: self.close_ms,
            paused: self.paused,
            made: self.made,
            budget: self.budget(),
            released: self.released_at(now_ms),
            granted: self.out() + self.returned.len(),
            leased: self.leased,
            used: self.used,
            fresh: self.fresh.clone(),
            returned: self.returned.clone(),
            cancelled: self.cancelled.clone(),
        }
    }

    /// Does every number stand in exactly one place? Names the sum that is wrong.
    ///
    /// # Errors
    /// When it does not: a bug, never bad input.
    pub fn check(&self) -> Result<(), String> {
        let sum = self.available() + self.cancelled.len() + self.out();
        let mut all = self.fresh.clone();
        let twice = all.add_all(&self.returned).and_then(|()| all.add_all(&self.cancelled)).err();
        if let Some(twice) = twice {
            return Err(format!("{}: unit {} stands in two places", self.key, twice.number));
        }
        if sum != self.made {
            return Err(format!("{}: {sum} units found of {} made", self.key, self.made));
        }
        match all.iter().next_back().filter(|r| r.end() > self.made) {
            Some(r) => Err(format!("{}: unit {} was never made", self.key, r.end() - 1)),
            None => Ok(()),
        }
    }
}

/// Who ended a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ClosedBy {
    /// Its node.
    Node = 1,
    /// The settlement, after the node's epoch had ended.
    Settlement = 2,
}

impl ClosedBy {
    /// The closer of a stored number.
    pub fn from_u8(value: u8) -> Option<ClosedBy> {
        [ClosedBy::Node, ClosedBy::Settlement].into_iter().find(|c| *c as u8 == value)
    }
}

/// How a lease ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedLease {
    /// When, ms UTC by the ledger's clock.
    pub at_ms: u64,
    /// By whom.
    pub by: ClosedBy,
    /// Units that became awards.
    pub used: u64,
    /// Units that went back.
    pub returned: Ranges,
}

/// A lease. Its row stays after it was closed, so that a late copy of the call that asked for it grants nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseRow {
    /// The lease.
    pub key: LeaseKey,
    /// What it is of.
    pub prize: PrizeKey,
    /// Plan under which it was granted.
    pub seq_no: SeqNo,
    /// When it was granted, ms UTC by the ledger's clock.
    pub granted_ms: u64,
    /// Close of the round, as it was then.
    pub round_close_ms: u64,
    /// The units with their slots.
    pub ranges: Vec<LeaseRange>,
    /// How it ended; `None` while it is open.
    pub closed: Option<ClosedLease>,
}

impl LeaseRow {
    /// Count of units.
    pub fn units(&self) -> u64 {
        self.ranges.iter().map(|r| r.units.count).sum()
    }

    /// The unit numbers. A number that stands in two ranges (impossible by the rules) is in the set once.
    pub fn numbers(&self) -> Ranges {
        let mut set = Ranges::new();
        for range in &self.ranges {
            let _ = set.add(range.units);
        }
        set
    }
}

/// Is all of `part` in `set`? Answers the first number that is not.
pub fn first_outside(set: &Ranges, part: &Ranges) -> Option<u64> {
    let mut whole = set.iter();
    let mut at: Option<UnitRange> = whole.next();
    for range in part.iter() {
        while at.is_some_and(|w| w.end() <= range.first) {
            at = whole.next();
        }
        match at {
            Some(w) if w.first <= range.first && range.end() <= w.end() => {}
            Some(w) if w.first <= range.first => return Some(w.end()),
            _ => return Some(range.first),
        }
    }
    None
}

/// `set` without the numbers of `part`, which must all be in it.
pub fn without(set: &Ranges, part: &Ranges) -> Ranges {
    let mut rest = Ranges::new();
    let mut holes = part.iter().peekable();
    for range in set.iter() {
        let mut first = range.first;
        while let Some(hole) = holes.next_if(|h| h.first < range.end()) {
            let _ = rest.add(UnitRange { first, count: hole.first.saturating_sub(first) });
            first = hole.end();
        }
        let _ = rest.add(UnitRange { first, count: range.end().saturating_sub(first) });
    }
    rest
}

/// A set of rows: everything (memory), or the part that a call works on. Every part has all campaigns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    /// Epochs by (node, epoch).
    pub nodes: BTreeMap<(u16, u32), NodeRow>,
    /// Buckets that ever had an owner.
    pub buckets: BTreeMap<u16, BucketRow>,
    /// Campaigns.
    pub campaigns: BTreeMap<CampaignId, CampaignRow>,
    /// Vendors.
    pub vendors: BTreeMap<VendorKey, VendorRow>,
    /// Prizes.
    pub prizes: BTreeMap<PrizeKey, PrizeRow>,
    /// Leases.
    pub leases: BTreeMap<LeaseKey, LeaseRow>,
    /// Nodes whose session is alive, where a rule asks for it.
    pub alive: u32,
}

/// Which rows a call works on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// Epochs of a node, from this one on.
    pub epochs_from: Option<(NodeId, NodeEpoch)>,
    /// The highest epoch of a node.
    pub latest_epoch: Option<NodeId>,
    /// These buckets.
    pub buckets: Vec<u16>,
    /// Every bucket that a node owns or owned last.
    pub buckets_of: Option<NodeId>,
    /// Open leases of a node, in all its epochs, with their prizes.
    pub open_leases_of: Option<NodeId>,
    /// These leases, with their prizes.
    pub leases: Vec<LeaseKey>,
    /// These prizes, with the vendors of their campaigns.
    pub prizes: Vec<PrizeKey>,
    /// Every prize and vendor of a campaign.
    pub campaign: Option<CampaignId>,
    /// Count the nodes that are alive.
    pub alive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn difference_and_inclusion(set in prop::collection::btree_set(0u64..60, 0..40), part in prop::collection::btree_set(0u64..60, 0..20)) {
            let (a, b): (Ranges, Ranges) = (set.iter().copied().collect(), part.iter().copied().collect());
            prop_assert_eq!(first_outside(&a, &b), part.difference(&set).next().copied());
            let inside: Ranges = part.intersection(&set).copied().collect();
            let want: Ranges = set.difference(&part).copied().collect();
            prop_assert_eq!(without(&a, &inside), want);
        }
    }
}
