//! The book in memory, for the simulation and for tests: everything else is as the port says.

use super::{Alarm, BookError, Count, DeliveryBook, JournalRow, Transition, count_changes, shard_of};
use crate::core::{Lane, OrderRow, Step};
use async_trait::async_trait;
use campaign::{AwardId, Fen, UserId, VendorId};
use parking_lot::Mutex;
use records::DeliveryState;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What survives: cloning gives another handle, so a worker can be dropped and started again on the same book.
#[derive(Clone)]
pub struct MemoryBook {
    inner: Arc<Mutex<Inner>>,
    shards: u16,
}

impl Default for MemoryBook {
    fn default() -> Self {
        Self::with_shards(1)
    }
}

impl MemoryBook {
    /// An empty book with so many shards, at least one.
    pub fn with_shards(shards: u16) -> MemoryBook {
        let inner = Inner { shards: vec![Shard::default(); usize::from(shards.max(1))], ..Inner::default() };
        MemoryBook { inner: Arc::new(Mutex::new(inner)), shards: shards.max(1) }
    }
}

#[derive(Clone, Default)]
struct Shard {
    journal: Vec<JournalRow>,
    published: u64,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<AwardId, OrderRow>,
    due: BTreeSet<(VendorId, Lane, u64, AwardId)>,
    shards: Vec<Shard>,
    counts: BTreeMap<(VendorId, u8), (i64, i64)>,
    alarms: BTreeMap<(String, AwardId), Alarm>,
}

impl Inner {
    fn write(&mut self, step: &Step) {
        let row = step.row.clone();
        let from = self.rows.get(&row.award).map(|old| {
            if let Some(lane) = old.lane() {
                self.due.remove(&(old.vendor, lane, old.due_ms, old.award));
            }
            old.state
        });
        for (key, change) in count_changes([(row.vendor, from, row.state, row.fen)]) {
            let at = self.counts.entry(key).or_default();
            *at = (at.0 + change.0, at.1 + change.1);
        }
        if let Some(lane) = row.lane() {
            self.due.insert((row.vendor, lane, row.due_ms, row.award));
        }
        let at = self.shard_of(&row);
        let journal = &mut self.shards[at].journal;
        journal.push(JournalRow {
            position: journal.len() as u64 + 1,
            event: step.event,
            reason: row.reason,
            note: row.note.clone(),
        });
        self.rows.insert(row.award, row);
    }

    fn shard_of(&self, row: &OrderRow) -> usize {
        usize::from(shard_of(row.user, self.shards.len() as u16))
    }

    fn is_in(&self, shards: &[u16], row: &OrderRow) -> bool {
        shards.contains(&(self.shard_of(row) as u16))
    }

    fn shard(&mut self, shard: u16) -> Result<&mut Shard, BookError> {
        let count = self.shards.len();
        let none = || BookError::Broken(format!("there is no shard {shard}, the book has {count}"));
        self.shards.get_mut(usize::from(shard)).ok_or_else(none)
    }

    fn behind(&self, after: Option<AwardId>) -> impl Iterator<Item = &OrderRow> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range((from, Bound::Unbounded)).map(|(_, row)| row)
    }
}

#[async_trait]
impl DeliveryBook for MemoryBook {
    fn shards(&self) -> u16 {
        self.shards
    }

    async fn take_orders(&self, first: &[Step]) -> Result<Vec<bool>, BookError> {
        let mut inner = self.inner.lock();
        Ok(first
            .iter()
            .map(|step| {
                let is_new = !inner.rows.contains_key(&step.row.award);
                if is_new {
                    inner.write(step);
                }
                is_new
            })
            .collect())
    }

    async fn transition(&self, batch: &[Transition]) -> Result<Vec<bool>, BookError> {
        let mut inner = self.inner.lock();
        Ok(batch
            .iter()
            .map(|t| {
                let won = inner.rows.get(&t.step.row.award).is_some_and(|row| row.step == t.from_step);
                if won {
                    inner.write(&t.step);
                }
                won
            })
            .collect())
    }

    async fn rows(&self, awards: &[AwardId]) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        Ok(awards.iter().filter_map(|award| inner.rows.get(award).cloned()).collect())
    }

    async fn due(
        &self,
        shards: &[u16],
        vendor: VendorId,
        lane: Lane,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        let (first, last) = ((vendor, lane, 0, AwardId(0)), (vendor, lane, now_ms, AwardId(u128::MAX)));
        let rows = inner.due.range(first..=last).map(|key| &inner.rows[&key.3]);
        Ok(rows.filter(|row| inner.is_in(shards, row)).take(limit).cloned().collect())
    }

    async fn lapse_due(&self, shards: &[u16], now_ms: u64, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        let due = inner.due.iter().filter(|(_, lane, due_ms, _)| *lane == Lane::Claim && *due_ms <= now_ms);
        let due = due.map(|key| &inner.rows[&key.3]).filter(|row| inner.is_in(shards, row));
        let mut rows: Vec<OrderRow> = due.cloned().collect();
        rows.sort_by_key(|row| (row.due_ms, row.award));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn oldest_due(&self, vendor: VendorId, lane: Lane) -> Result<Option<u64>, BookError> {
        let inner = self.inner.lock();
        let (first, last) = ((vendor, lane, 0, AwardId(0)), (vendor, lane, u64::MAX, AwardId(u128::MAX)));
        Ok(inner.due.range(first..=last).next().map(|key| key.2))
    }

    async fn held(&self, user: UserId, vendor: VendorId, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        let held =
            |row: &&OrderRow| row.state == DeliveryState::Held && (row.user, row.vendor) == (user, vendor);
        Ok(inner.rows.values().filter(held).take(limit).cloned().collect())
    }

    async fn with_person(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        let with_person = inner.behind(after).filter(|row| row.state == DeliveryState::Rejected);
        Ok(with_person.take(limit).cloned().collect())
    }

    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        Ok(self.inner.lock().behind(after).take(limit).cloned().collect())
    }

    async fn journal(&self, shard: u16, after: u64, limit: usize) -> Result<Vec<JournalRow>, BookError> {
        let mut inner = self.inner.lock();
        Ok(inner.shard(shard)?.journal.iter().skip(after as usize).take(limit).cloned().collect())
    }

    async fn history(&self, award: AwardId) -> Result<Vec<JournalRow>, BookError> {
        let inner = self.inner.lock();
        let lines = inner.shards.iter().flat_map(|shard| &shard.journal);
        Ok(lines.filter(|line| line.event.award == award).cloned().collect())
    }

    async fn published(&self, shard: u16) -> Result<u64, BookError> {
        Ok(self.inner.lock().shard(shard)?.published)
    }

    async fn set_published(&self, shard: u16, position: u64) -> Result<(), BookError> {
        let mut inner = self.inner.lock();
        let shard = inner.shard(shard)?;
        shard.published = shard.published.max(position);
        Ok(())
    }

    async fn counts(&self) -> Result<Vec<Count>, BookError> {
        let inner = self.inner.lock();
        let counts = inner.counts.iter().filter(|(_, n)| n.0 != 0);
        Ok(counts
            .map(|((vendor, state), (orders, fen))| Count {
                vendor: *vendor,
                state: *state,
                orders: orders.unsigned_abs(),
                fen: Fen(*fen),
            })
            .collect())
    }

    async fn alarm(&self, alarms: &[Alarm]) -> Result<(), BookError> {
        let mut inner = self.inner.lock();
        for alarm in alarms {
            let room = (inner.alarms.len() as u64) < super::ALARMS_MAX;
            match inner.alarms.get_mut(&(alarm.kind.clone(), alarm.award)) {
                Some(known) => known.times += alarm.times,
                None if room => drop(inner.alarms.insert((alarm.kind.clone(), alarm.award), alarm.clone())),
                None => {}
            }
        }
        Ok(())
    }

    async fn alarms(&self, limit: usize) -> Result<Vec<Alarm>, BookError> {
        let mut alarms: Vec<_> = self.inner.lock().alarms.values().cloned().collect();
        alarms.sort_by(|a, b| (b.at_ms, &b.kind, b.award).cmp(&(a.at_ms, &a.kind, a.award)));
        alarms.truncate(limit);
        Ok(alarms)
    }
}
