//! From groups of a lane to awards.
//!
//! Acts on each group in order. Positions follow each other without a gap, but where a higher epoch begins: groups of an
//! ended epoch may never have left their node's disk, and their positions then stay empty. Refuses (and so stops the lane) what it can't understand: a record of a newer version,
//! a gap, a plan that has not come yet; nothing is skipped. What is understood and wrong becomes an alarm. Given the
//! same groups again it says the same again, so that a crash between any two steps behind it does no harm.

use campaign::{CampaignId, Delivery, MacKeys, NodeEpoch, NodeId, PrizeKind, SeqNo, VendorId};
use records::{DecodeError, Ended, EpochBegan, OrderKind, Record, RecordKind, Won, kind_of};

use super::award::{Alarm, AlarmKind, AwardRow, Doubt};
use super::lane::{LaneState, Mark};
use super::plan_view::{PlanAnswer, PlanView};

/// A group of a lane.
#[derive(Clone, Debug)]
pub struct LaneGroup<'a> {
    /// The epoch that wrote it.
    pub epoch: NodeEpoch,
    /// Its position.
    pub position: u64,
    /// Its records.
    pub records: Vec<&'a [u8]>,
}

/// What groups of one lane come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneBatch {
    /// The lane.
    pub node: NodeId,
    /// Position from which the batch goes on: of its first group, or the lane's next one when an epoch begins behind it.
    pub from: u64,
    /// Position behind the last group.
    pub next: u64,
    /// The highest epoch of its groups.
    pub epoch: NodeEpoch,
    /// Awards, in the lane's order.
    pub awards: Vec<AwardRow>,
    /// Marks that stand in these groups and count.
    pub marks: Vec<Mark>,
    /// What is wrong.
    pub alarms: Vec<Alarm>,
    /// Records of awards that were ignored because their epoch had ended.
    pub ignored: u64,
}

/// Why a lane can't go on. The groups must be given again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CollectError {
    /// Groups are missing.
    #[error("lane {node}: group {found} came where {expected} must; groups of the lane are missing")]
    Gap {
        /// The lane.
        node: NodeId,
        /// Position that must come.
        expected: u64,
        /// Position that came.
        found: u64,
    },
    /// A record that can't be read.
    #[error("lane {node}, group {position}, record {index}: {error}")]
    Record {
        /// The lane.
        node: NodeId,
        /// Position of the group.
        position: u64,
        /// Index of the record.
        index: u32,
        /// What is wrong.
        error: DecodeError,
    },
    /// A record that speaks of another node.
    #[error(
        "lane {node}, group {position}: a record there is about node {other}; this is not the lane of node {node}"
    )]
    OtherNode {
        /// The lane.
        node: NodeId,
        /// Position of the group.
        position: u64,
        /// The node that the record names.
        other: NodeId,
    },
    /// The plan is not known yet.
    #[error("campaign {campaign} has no plan with SeqNo {seq_no} or higher here yet; waiting for it")]
    NoPlan {
        /// The campaign.
        campaign: CampaignId,
        /// The plan under which an award was decided.
        seq_no: SeqNo,
    },
}

/// Reads lanes.
pub struct Collector {
    keys: MacKeys,
    /// What stands behind the end of its epoch is taken for an award: only ever true in the simulation.
    accepts_ended: bool,
}

impl Collector {
    /// A collector that checks MACs with these keys.
    pub fn new(keys: MacKeys) -> Collector {
        Collector { keys, accepts_ended: false }
    }

    /// Plants a fault that the simulation must find: records behind the end of their epoch are taken in.
    #[cfg(feature = "planted")]
    pub fn plant_accept_ended(&mut self) {
        self.accepts_ended = true;
    }

    /// What the groups come to. `lane` is the state as stored, at or behind the first group: groups below its position
    /// have been here before and come to the same again.
    ///
    /// # Errors
    /// See [`CollectError`]; then none of the groups counts.
    pub fn collect(
        &self,
        lane: &LaneState,
        groups: &[LaneGroup<'_>],
        plans: &dyn PlanView,
    ) -> Result<LaneBatch, CollectError> {
        let gap = |expected, found| CollectError::Gap { node: lane.node, expected, found };
        let from = match groups.first() {
            Some(first) if first.position > lane.next && !may_leave_out(lane, lane.epoch, first) => {
                return Err(gap(lane.next, first.position));
            }
            Some(first) => first.position.min(lane.next),
            None => lane.next,
        };
        let mut batch = LaneBatch {
            node: lane.node,
            from,
            next: from,
            epoch: NodeEpoch(0),
            awards: Vec::new(),
            marks: Vec::new(),
            alarms: Vec::new(),
            ignored: 0,
        };
        let mut state = lane.clone();
        for group in groups {
            let before = if batch.next == from { lane.epoch } else { batch.epoch };
            let begins = group.position > batch.next && may_leave_out(&state, before, group);
            if group.position != batch.next && !begins {
                return Err(gap(batch.next, group.position));
            }
            batch.epoch = batch.epoch.max(group.epoch);
            for (index, record) in (0u32..).zip(&group.records) {
                self.record(&mut state, &mut batch, group, index, record, plans)?;
            }
            batch.next = group.position + 1;
        }
        Ok(batch)
    }

    fn record(
        &self,
        state: &mut LaneState,
        batch: &mut LaneBatch,
        group: &LaneGroup<'_>,
        index: u32,
        record: &[u8],
        plans: &dyn PlanView,
    ) -> Result<(), CollectError> {
        let (node, position) = (state.node, group.position);
        let unreadable = |error| CollectError::Record { node, position, index, error };
        let about = |other: NodeId| match other == node {
            true => Ok(()),
            false => Err(CollectError::OtherNode { node, position, other }),
        };
        match kind_of(record).map_err(unreadable)? {
            RecordKind::Won => {
                let won = Won::decode(record).map_err(unreadable)?;
                if !self.accepts_ended && state.is_ended(group.epoch, position, index) {
                    batch.ignored += 1;
                    return Ok(());
                }
                self.won(batch, group, won, plans)
            }
            RecordKind::Ended => {
                let ended = Ended::decode(record).map_err(unreadable)?;
                about(ended.node)?;
                let mark = Mark { position, index, epoch: ended.epoch };
                if state.end(mark) || state.marks.contains(&mark) {
                    batch.marks.push(mark);
                }
                Ok(())
            }
            RecordKind::EpochBegan => about(EpochBegan::decode(record).map_err(unreadable)?.node),
            // Leases are the ledger's and the settlement's business.
            RecordKind::LeaseGot | RecordKind::LeaseClosed => Ok(()),
            RecordKind::Order
            | RecordKind::DeliveryEvent
            | RecordKind::SnapshotHeader
            | RecordKind::ChatMessage
            | RecordKind::ChatFact => Err(unreadable(DecodeError::UnknownTag(record[0]))),
        }
    }

    fn won(
        &self,
        batch: &mut LaneBatch,
        group: &LaneGroup<'_>,
        won: Won,
        plans: &dyn PlanView,
    ) -> Result<(), CollectError> {
        let mut alarm = |kind| {
            let other = campaign::AwardId::default();
            batch.alarms.push(Alarm {
                kind,
                award: won.award,
                node: batch.node,
                position: group.position,
                other,
            });
        };
        if (won.award.node(), won.award.epoch()) != (batch.node, group.epoch) {
            alarm(AlarmKind::ForeignId);
            return Ok(());
        }
        if !self.keys.verify(won.mac_key, &won.facts(), &won.mac) {
            alarm(AlarmKind::BadMac);
            return Ok(());
        }
        let row = match plans.prize(won.campaign, won.round, won.prize, won.seq_no) {
            PlanAnswer::NoSuchPlan => {
                return Err(CollectError::NoPlan { campaign: won.campaign, seq_no: won.seq_no });
            }
            PlanAnswer::NoSuchPrize => {
                alarm(AlarmKind::NoSuchPrize);
                AwardRow {
                    won,
                    vendor: VendorId(0),
                    prize_kind: PrizeKind::Goods,
                    order: OrderKind::OnClaim,
                    lapse_ms: 0,
                    doubt: Doubt::NoSuchPrize,
                }
            }
            PlanAnswer::Prize(facts) => {
                let (order, lapse_ms) = match facts.delivery {
                    Delivery::AtOnce => (OrderKind::AtOnce, 0),
                    Delivery::OnClaim { term_ms } => {
                        (OrderKind::OnClaim, won.time_ms.saturating_add(term_ms))
                    }
                };
                let (vendor, prize_kind) = (facts.vendor, facts.kind);
                AwardRow { won, vendor, prize_kind, order, lapse_ms, doubt: Doubt::None }
            }
        };
        batch.awards.push(row);
        Ok(())
    }
}

/// Whether a lane may leave positions out before this group: where an epoch begins behind the end of the one before, or
/// nothing was read yet. Those were groups of the ended epoch that never left their node.
fn may_leave_out(lane: &LaneState, before: NodeEpoch, group: &LaneGroup<'_>) -> bool {
    group.epoch > before && (before.0 == 0 || lane.is_ended(before, group.position, 0))
}
