//! Everything that the auditor may read.

use crate::records::Told;
use crate::vendor::Payment;
use crate::world::{World, now};
use campaign::{AwardId, NodeId, Plan, RoundId, UserId};
use delivery::book::{DeliveryBook as _, JournalRow};
use delivery::core::OrderRow;
use flow::core::AwardRecord;
use flow::store::{AlarmRow, AwardStore as _};
use lottery::ledger::rows::Rows;
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::SimDisk;

/// Where records of draws stand.
pub(crate) enum Source<'a> {
    /// One node: its disk.
    Log(&'a SimDisk),
    /// Several: what the queue has of each node's lane, message by message.
    Lanes(Vec<(NodeId, Vec<Vec<u8>>)>),
}

/// Records, each from its own source.
pub(crate) struct Evidence<'a> {
    /// When the books were closed, ms UTC.
    pub now_ms: u64,
    /// Records of draws.
    pub source: Source<'a>,
    /// All plans that were in force, rising.
    pub plans: &'a [Arc<Plan>],
    /// Plans that were tried on some of the players beside them.
    pub greys: &'a [Arc<Plan>],
    /// The ledger's rows.
    pub ledger: Rows,
    /// What flow has stored.
    pub stored: BTreeMap<AwardId, AwardRecord>,
    /// What flow found wrong.
    pub alarms: Vec<AlarmRow>,
    /// Delivery's book and journal.
    pub orders: BTreeMap<AwardId, OrderRow>,
    pub journal: Vec<JournalRow>,
    /// The vendors' books.
    pub payments: &'a BTreeMap<String, Payment>,
    pub mismatches: u64,
    /// Where each player is.
    pub districts: BTreeMap<UserId, u32>,
    /// What players heard, in order.
    pub told: &'a [Told],
    /// Claims that were taken: award, and when.
    pub claimed: BTreeMap<AwardId, (UserId, u64)>,
    /// Rounds in whose last seconds nothing was broken on purpose.
    pub calm_rounds: Vec<RoundId>,
}

impl<'a> Evidence<'a> {
    /// Collects what stands written in a world that has come to rest.
    pub fn of(world: &'a World) -> Evidence<'a> {
        let book = &world.delivery.book;
        let stored = now(world.flow.store.scan(None, usize::MAX)).unwrap_or_default();
        let orders = now(book.scan(None, usize::MAX)).unwrap_or_default();
        let claims = world.players.iter().flat_map(|p| p.claimed.iter().map(|(a, at)| (*a, (p.user, *at))));
        let rounds = world.plans[0].rounds.iter().map(|r| r.id);
        Evidence {
            now_ms: world.now_ms(),
            source: if world.cluster.is_on() {
                Source::Lanes(world.cluster.messages())
            } else {
                Source::Log(&world.disk)
            },
            plans: &world.plans,
            greys: &world.greys,
            ledger: world.ledger.rows(),
            stored: stored.into_iter().map(|r| (r.row.won.award, r)).collect(),
            alarms: now(world.flow.store.alarms(0, 1_000)).unwrap_or_default(),
            orders: orders.into_iter().map(|r| (r.award, r)).collect(),
            journal: now(book.journal(0, 0, usize::MAX)).unwrap_or_default(),
            payments: &world.vendor.numbers,
            mismatches: world.vendor.mismatches,
            districts: world.players.iter().map(|p| (p.user, p.district)).collect(),
            told: &world.told,
            claimed: claims.collect(),
            calm_rounds: if world.calm { rounds.collect() } else { Vec::new() },
        }
    }

    /// The plan that has everything that was ever planned.
    pub fn plan(&self) -> &Plan {
        // A world has at least its first plan.
        &self.plans[self.plans.len() - 1]
    }

    /// Every plan that somebody drew under.
    pub fn versions(&self) -> impl Iterator<Item = &Plan> {
        self.plans.iter().chain(self.greys).map(|p| &**p)
    }
}
