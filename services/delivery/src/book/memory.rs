//! The book in memory, for the simulation and for tests: everything else is as the port says.

use super::{Alarm, BookError, Count, DeliveryBook, JournalRow, Transition, count_changes};
use crate::core::{Lane, OrderRow, Step};
use async_trait::async_trait;
use campaign::{AwardId, Fen, UserId, VendorId};
use parking_lot::Mutex;
use records::DeliveryState;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What survives: cloning gives another handle, so a worker can be dropped and started again on the same book.
#[derive(Clone, Default)]
pub struct MemoryBook {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<AwardId, OrderRow>,
    due: BTreeSet<(VendorId, Lane, u64, AwardId)>,
    journal: Vec<JournalRow>,
    published: u64,
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
        self.journal.push(JournalRow {
            position: self.journal.len() as u64 + 1,
            event: step.event,
            reason: row.reason,
            note: row.note.clone(),
        });
        self.rows.insert(row.award, row);
    }

    fn behind(&self, after: Option<AwardId>) -> impl Iterator<Item = &OrderRow> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range((from, Bound::Unbounded)).map(|(_, row)| row)
    }
}

#[async_trait]
impl DeliveryBook for MemoryBook {
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
        vendor: VendorId,
        lane: Lane,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        let (first, last) = ((vendor, lane, 0, AwardId(0)), (vendor, lane, now_ms, AwardId(u128::MAX)));
        Ok(inner.due.range(first..=last).take(limit).map(|key| inner.rows[&key.3].clone()).collect())
    }

    async fn lapse_due(&self, now_ms: u64, limit: usize) -> Result<Vec<OrderRow>, BookError> {
        let inner = self.inner.lock();
        let due = inner.due.iter().filter(|(_, lane, due_ms, _)| *lane == Lane::Claim && *due_ms <= now_ms);
        let mut rows: Vec<_> = due.map(|key| inner.rows[&key.3].clone()).collect();
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

    async fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, BookError> {
        Ok(self.inner.lock().journal.iter().skip(after as usize).take(limit).cloned().collect())
    }

    async fn history(&self, award: AwardId) -> Result<Vec<JournalRow>, BookError> {
        Ok(self.inner.lock().journal.iter().filter(|line| line.event.award == award).cloned().collect())
    }

    async fn published(&self) -> Result<u64, BookError> {
        Ok(self.inner.lock().published)
    }

    async fn set_published(&self, position: u64) -> Result<(), BookError> {
        let mut inner = self.inner.lock();
        inner.published = inner.published.max(position);
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
