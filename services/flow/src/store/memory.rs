//! The store in memory: for the simulation, and the model that the others are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use campaign::{AwardId, CampaignId, NodeId, PrizeId, RoundId, UserId, VendorId};
use parking_lot::Mutex;
use records::{DeliveryEvent, OrderKind};

use super::{AlarmRow, Applied, AwardStore, EventsApplied, StoreError};
use crate::core::{
    Alarm, AlarmKind, AwardRecord, AwardRow, Doubt, LaneBatch, LaneState, Progress, StatBook, StatKey,
    StatValue, on_the_way,
};

/// Awards in memory. Cloning gives another handle: it is what survives when a process is 'killed'.
#[derive(Clone, Default)]
pub struct MemoryAwardStore {
    inner: Arc<Mutex<Inner>>,
}

type UnitKey = (CampaignId, RoundId, PrizeId, u64);

#[derive(Default)]
struct Inner {
    awards: BTreeMap<AwardId, AwardRow>,
    users: BTreeSet<(UserId, AwardId)>,
    units: BTreeMap<UnitKey, AwardId>,
    progress: BTreeMap<AwardId, Progress>,
    lanes: BTreeMap<NodeId, LaneState>,
    alarms: Vec<Alarm>,
    book: StatBook,
}

impl MemoryAwardStore {
    /// An empty store.
    pub fn new() -> MemoryAwardStore {
        MemoryAwardStore::default()
    }
}

impl Inner {
    fn record(&self, row: &AwardRow) -> AwardRecord {
        AwardRecord { row: *row, progress: self.progress.get(&row.won.award).copied() }
    }

    fn alarm(&mut self, alarm: Alarm, applied: &mut Applied) {
        if !self.alarms.iter().any(|a| (a.kind, a.award) == (alarm.kind, alarm.award)) {
            self.alarms.push(alarm);
            applied.new_alarms += 1;
        }
    }

    fn award(&mut self, mut row: AwardRow, batch: &LaneBatch, applied: &mut Applied) {
        let won = row.won;
        let alarm =
            |kind, other| Alarm { kind, award: won.award, node: batch.node, position: batch.from, other };
        if let Some(stored) = self.awards.get(&won.award) {
            let (same, refused) = (stored.won == won, stored.doubt != Doubt::None);
            if !same {
                self.alarm(alarm(AlarmKind::IdTwice, won.award), applied);
            }
            if !same || refused {
                applied.refused.insert(won.award);
            }
            return;
        }
        if row.doubt == Doubt::None {
            let unit = (won.campaign, won.round, won.prize, won.unit);
            let owner = *self.units.entry(unit).or_insert(won.award);
            if owner != won.award {
                row.doubt = Doubt::UnitTwice;
                self.alarm(alarm(AlarmKind::UnitTwice, owner), applied);
            }
        }
        if row.doubt != Doubt::None {
            applied.refused.insert(won.award);
        }
        self.book.count_award(&row, &mut applied.delta);
        if let Some(progress) = self.progress.get(&won.award) {
            self.book.count_step(&row, None, progress.state, &mut applied.delta);
        }
        self.awards.insert(won.award, row);
        self.users.insert((won.user, won.award));
        applied.new_awards += 1;
    }
}

#[async_trait]
impl AwardStore for MemoryAwardStore {
    async fn apply(&self, batch: &LaneBatch) -> Result<Applied, StoreError> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let lane = inner.lanes.entry(batch.node).or_insert_with(|| LaneState::new(batch.node));
        if batch.from > lane.next {
            return Err(StoreError::Gap { node: batch.node, stored: lane.next, from: batch.from });
        }
        lane.pass(batch.next, batch.epoch);
        for mark in &batch.marks {
            lane.end(*mark);
        }
        let mut applied = Applied::default();
        for alarm in &batch.alarms {
            inner.alarm(*alarm, &mut applied);
        }
        for row in &batch.awards {
            inner.award(*row, batch, &mut applied);
        }
        inner.book.apply(&applied.delta);
        Ok(applied)
    }

    async fn apply_events(&self, events: &[DeliveryEvent]) -> Result<EventsApplied, StoreError> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let mut applied = EventsApplied::default();
        let mut changed = BTreeSet::new();
        for event in events {
            let before = inner.progress.get(&event.award).copied();
            let Some(after) = Progress::after(before.as_ref(), event) else { continue };
            inner.progress.insert(event.award, after);
            changed.insert(event.award);
            if let Some(row) = inner.awards.get(&event.award) {
                inner.book.count_step(row, before.map(|p| p.state), after.state, &mut applied.delta);
            }
        }
        applied.delta.retain(|_, value| *value != StatValue::default());
        applied.changed = changed.len() as u64;
        inner.book.apply(&applied.delta);
        Ok(applied)
    }

    async fn lanes(&self) -> Result<Vec<LaneState>, StoreError> {
        Ok(self.inner.lock().lanes.values().cloned().collect())
    }

    async fn award(&self, id: AwardId) -> Result<Option<AwardRecord>, StoreError> {
        let inner = self.inner.lock();
        Ok(inner.awards.get(&id).map(|row| inner.record(row)))
    }

    async fn awards_of(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRecord>, StoreError> {
        let inner = self.inner.lock();
        let from = (user, after.unwrap_or_default());
        let ids = inner.users.range(from..=(user, AwardId(u128::MAX)));
        let ids = ids.filter(|(_, id)| after.is_none_or(|a| *id > a)).take(limit);
        Ok(ids.filter_map(|(_, id)| inner.awards.get(id)).map(|row| inner.record(row)).collect())
    }

    async fn unit_count(
        &self,
        campaign: CampaignId,
        round: RoundId,
        prize: PrizeId,
    ) -> Result<u64, StoreError> {
        let (from, to) = ((campaign, round, prize, 0), (campaign, round, prize, u64::MAX));
        Ok(self.inner.lock().units.range(from..=to).count() as u64)
    }

    async fn alarms(&self, after: u64, limit: usize) -> Result<Vec<AlarmRow>, StoreError> {
        let inner = self.inner.lock();
        let rows = (1..).zip(&inner.alarms).map(|(number, alarm)| AlarmRow { number, alarm: *alarm });
        Ok(rows.filter(|row| row.number > after).take(limit).collect())
    }

    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<AwardRecord>, StoreError> {
        let inner = self.inner.lock();
        let rows =
            inner.awards.range(after.unwrap_or_default()..).filter(|(id, _)| after.is_none_or(|a| **id > a));
        Ok(rows.take(limit).map(|(_, row)| inner.record(row)).collect())
    }

    async fn orders_due(&self, won_before_ms: u64, limit: usize) -> Result<Vec<AwardRecord>, StoreError> {
        let inner = self.inner.lock();
        let due = |row: &&AwardRow| {
            row.doubt == Doubt::None
                && row.won.time_ms < won_before_ms
                && !inner.progress.contains_key(&row.won.award)
        };
        Ok(inner.awards.values().filter(due).take(limit).map(|row| inner.record(row)).collect())
    }

    async fn backlog(&self) -> Result<Vec<(VendorId, u64)>, StoreError> {
        let inner = self.inner.lock();
        let mut oldest: BTreeMap<VendorId, u64> = BTreeMap::new();
        for row in inner.awards.values().filter(|r| r.doubt == Doubt::None) {
            let since = match inner.progress.get(&row.won.award) {
                Some(p) if on_the_way(p.state) => p.since_ms,
                None if row.order == OrderKind::AtOnce => row.won.time_ms,
                _ => continue,
            };
            let entry = oldest.entry(row.vendor).or_insert(since);
            *entry = since.min(*entry);
        }
        Ok(oldest.into_iter().collect())
    }

    async fn statistics(&self) -> Result<Vec<(StatKey, StatValue)>, StoreError> {
        Ok(self.inner.lock().book.lines().map(|(k, v)| (*k, *v)).collect())
    }

    async fn index_users(&self, _rows_max: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}
