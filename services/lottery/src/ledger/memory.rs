//! The ledger in memory: for the simulation and for tests. It forgets everything with the process.
//!
//! A call works on copies of the rows it needs and puts them back when it has succeeded, exactly as a transaction
//! would, so that a refused call has changed nothing.

use async_trait::async_trait;
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, Plan, Ranges, SeqNo};
use ownership::{BucketRow, EndReason, NodeRow};
use parking_lot::Mutex;
use runtime::SharedClock;
use std::collections::BTreeSet;

use super::port::{
    ChangeError, Changed, EXPORT_MAX, EpochError, PrizeReport, QuotaLedger, Registered, SettleError, Settled,
    StoreError, Tick, TickAnswer, TickError,
};
use super::rows::{LeaseKey, LeaseRow, Need, PrizeKey, Rows};
use super::rules::{change, epoch, lease, tick};

/// Closed leases stay so long behind the close of their round.
pub(super) const KEEP_CLOSED_MS: u64 = 3_600_000;

/// The ledger in memory.
pub struct MemoryLedger {
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: Rows,
    /// Keys of the open leases.
    open: BTreeSet<LeaseKey>,
}

impl MemoryLedger {
    /// An empty ledger that takes its time from this clock.
    pub fn new(clock: SharedClock) -> MemoryLedger {
        MemoryLedger { clock, state: Mutex::default() }
    }

    /// A copy of everything, for auditors.
    pub fn rows(&self) -> Rows {
        self.state.lock().rows.clone()
    }

    /// Plants a fault that the simulation must find: a lease that was settled is settled once more, not conditional
    /// on 'open', by somebody who has read none of its wins: its used units go back.
    #[cfg(feature = "planted")]
    pub fn plant_second_settlement(&self, key: LeaseKey) {
        let mut state = self.state.lock();
        let rows = &mut state.rows;
        let Some(lease) = rows.leases.get(&key) else { return };
        let Some(closed) = &lease.closed else { return };
        let used = super::rows::without(&lease.numbers(), &closed.returned);
        if let Some(prize) = rows.prizes.get_mut(&lease.prize)
            && prize.returned.add_all(&used).is_ok()
        {
            prize.used -= used.len();
        }
    }

    fn call<T, E>(&self, need: &Need, act: impl FnOnce(&mut Rows, u64) -> Result<T, E>) -> Result<T, E> {
        let mut state = self.state.lock();
        let now_ms = self.clock.now_ms();
        let mut part = state.pick(need, now_ms);
        let done = act(&mut part, now_ms)?;
        state.put(part);
        Ok(done)
    }
}

fn leases_of(node: NodeId) -> std::ops::RangeInclusive<LeaseKey> {
    let key = |epoch, lease| LeaseKey { node, epoch: NodeEpoch(epoch), lease: LeaseId(lease) };
    key(0, 0)..=key(u32::MAX, u64::MAX)
}

impl State {
    fn pick(&self, need: &Need, now_ms: u64) -> Rows {
        let all = &self.rows;
        let mut part = Rows { campaigns: all.campaigns.clone(), ..Rows::default() };
        if let Some((node, from)) = need.epochs_from {
            part.nodes
                .extend(all.nodes.range((node.0, from.0)..=(node.0, u32::MAX)).map(|(k, v)| (*k, v.clone())));
        }
        if let Some(node) = need.latest_epoch {
            let last = all.nodes.range((node.0, 0)..=(node.0, u32::MAX)).next_back();
            part.nodes.extend(last.map(|(k, v)| (*k, v.clone())));
        }
        let named = need.buckets.iter().filter_map(|b| all.buckets.get_key_value(b));
        part.buckets.extend(named.map(|(k, v)| (*k, v.clone())));
        if let Some(node) = need.buckets_of {
            let owned = all.buckets.iter().filter(|(_, row)| row.owner.is_some_and(|o| o.0 == node.0));
            part.buckets.extend(owned.map(|(k, v)| (*k, v.clone())));
        }
        let open = need.open_leases_of.into_iter().flat_map(|node| self.open.range(leases_of(node)));
        for key in open.chain(&need.leases) {
            part.leases.extend(all.leases.get_key_value(key).map(|(k, v)| (*k, v.clone())));
        }
        self.pick_prizes(need, &mut part);
        if need.alive {
            part.alive = all.nodes.values().filter(|row| row.is_alive(now_ms)).count() as u32;
        }
        part
    }

    fn pick_prizes(&self, need: &Need, part: &mut Rows) {
        let all = &self.rows;
        let mut keys: BTreeSet<PrizeKey> = part.leases.values().map(|l| l.prize).collect();
        keys.extend(&need.prizes);
        if let Some(campaign) = need.campaign {
            keys.extend(all.prizes.keys().filter(|k| k.campaign == campaign));
        }
        part.prizes.extend(keys.iter().filter_map(|k| Some((*k, all.prizes.get(k)?.clone()))));
        let campaigns: BTreeSet<CampaignId> = keys.iter().map(|k| k.campaign).chain(need.campaign).collect();
        let vendors = all.vendors.iter().filter(|(key, _)| campaigns.contains(&key.0));
        part.vendors.extend(vendors.map(|(k, v)| (*k, v.clone())));
    }

    fn put(&mut self, part: Rows) {
        for (key, lease) in &part.leases {
            if lease.closed.is_none() {
                self.open.insert(*key)
            } else {
                self.open.remove(key)
            };
        }
        let all = &mut self.rows;
        all.nodes.extend(part.nodes);
        all.buckets.extend(part.buckets);
        all.campaigns.extend(part.campaigns);
        all.vendors.extend(part.vendors);
        all.prizes.extend(part.prizes);
        all.leases.extend(part.leases);
    }
}

#[async_trait]
impl QuotaLedger for MemoryLedger {
    async fn register(&self, plan: &Plan) -> Result<Registered, ChangeError> {
        let need = Need { campaign: Some(plan.campaign), ..Need::default() };
        self.call(&need, |rows, now| change::register(rows, plan, now))
    }

    async fn lower(&self, prize: PrizeKey, seq_no: SeqNo, units: u64) -> Result<Changed, ChangeError> {
        self.call(&change::need(prize), |rows, now| change::lower(rows, prize, seq_no, units, now))
    }

    async fn pause(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        self.call(&change::need(prize), |rows, now| change::pause(rows, prize, seq_no, now))
    }

    async fn resume(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        self.call(&change::need(prize), |rows, now| change::resume(rows, prize, seq_no, now))
    }

    async fn tick(&self, ask: &Tick) -> Result<TickAnswer, TickError> {
        tick::check(ask)?;
        self.call(&tick::need(ask), |rows, now| tick::tick(rows, ask, now))
    }

    async fn begin_epoch(&self, node: NodeId, above: NodeEpoch) -> Result<NodeEpoch, EpochError> {
        self.call(&epoch::need_begin(node), |rows, now| epoch::begin(rows, node, above, now))
    }

    async fn end_epoch(&self, node: NodeId, epoch: NodeEpoch, reason: EndReason) -> Result<bool, EpochError> {
        self.call(&epoch::need_end(node, epoch), |rows, now| epoch::end(rows, node, epoch, reason, now))
    }

    async fn record_end_position(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        position: u64,
    ) -> Result<u64, EpochError> {
        let need = epoch::need_record(node, epoch);
        self.call(&need, |rows, _| epoch::record_end(rows, node, epoch, position))
    }

    async fn settle(&self, key: LeaseKey, used: &Ranges) -> Result<Settled, SettleError> {
        self.call(&lease::need_settle(key), |rows, now| lease::settle(rows, key, used, now))
    }

    async fn epochs(&self, node: NodeId) -> Result<Vec<NodeRow>, StoreError> {
        let state = self.state.lock();
        Ok(state.rows.nodes.values().filter(|row| row.node == node.0).cloned().collect())
    }

    async fn dead_epochs(&self) -> Result<Vec<NodeRow>, StoreError> {
        let state = self.state.lock();
        let now_ms = self.clock.now_ms();
        Ok(state.rows.nodes.values().filter(|row| row.is_open() && !row.is_alive(now_ms)).cloned().collect())
    }

    async fn unsettled(&self) -> Result<Vec<NodeRow>, StoreError> {
        let state = self.state.lock();
        let nodes: BTreeSet<u16> = state.rows.nodes.keys().map(|(node, _)| *node).collect();
        let mut rows = Vec::new();
        for node in nodes {
            let epochs: Vec<NodeRow> =
                state.rows.nodes.range((node, 0)..=(node, u32::MAX)).map(|(_, row)| row.clone()).collect();
            let open = state.open.range(leases_of(NodeId(node)));
            let open: Vec<LeaseRow> = open.filter_map(|key| state.rows.leases.get(key).cloned()).collect();
            rows.extend(epoch::unsettled(&epochs, &open));
        }
        Ok(rows)
    }

    async fn open_leases(&self, node: NodeId) -> Result<Vec<LeaseRow>, StoreError> {
        let state = self.state.lock();
        let open = state.open.range(leases_of(node));
        Ok(open.filter_map(|key| state.rows.leases.get(key).cloned()).collect())
    }

    async fn buckets(&self, node: Option<NodeId>) -> Result<Vec<BucketRow>, StoreError> {
        let state = self.state.lock();
        let of_node = |row: &&BucketRow| node.is_none_or(|n| row.owner.is_some_and(|o| o.0 == n.0));
        Ok(state.rows.buckets.values().filter(of_node).cloned().collect())
    }

    async fn prizes(&self, campaign: CampaignId) -> Result<Vec<PrizeReport>, StoreError> {
        let state = self.state.lock();
        let now_ms = self.clock.now_ms();
        let prizes = state.rows.prizes.values().filter(|p| p.key.campaign == campaign);
        Ok(prizes.map(|p| p.report(now_ms)).collect())
    }

    async fn leases(
        &self,
        campaign: CampaignId,
        after: Option<LeaseKey>,
        limit: usize,
    ) -> Result<Vec<LeaseRow>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.state.lock();
        let behind = state.rows.leases.range((after.map_or(Unbounded, Excluded), Unbounded));
        let wanted = behind.map(|(_, row)| row).filter(|row| row.prize.campaign == campaign);
        Ok(wanted.take(limit.min(EXPORT_MAX)).cloned().collect())
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let mut state = self.state.lock();
        let now_ms = self.clock.now_ms();
        let before = state.rows.leases.len();
        state.rows.leases.retain(|_, l| l.closed.is_none() || l.round_close_ms + KEEP_CLOSED_MS > now_ms);
        Ok((before - state.rows.leases.len()) as u64)
    }
}
