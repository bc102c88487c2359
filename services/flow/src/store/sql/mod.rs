//! The store in SQLite.
//!
//! An apply first writes as if nothing of the batch were there, which is the rule. Only when the tables contradict (a batch
//! that came again, a unit given twice) it undoes that, reads what is there, and writes what is left. One task writes at a time;
//! what the tables say in sum (next number, statistics, tail of users) is kept in memory beside them, and read anew
//! after any failure, as a commit whose answer was lost may have happened.

mod recent;
mod rows;
mod schema;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use campaign::{AwardId, CampaignId, NodeEpoch, NodeId, PrizeId, RoundId, UserId, VendorId};
use hashring::bucket_of;
use parking_lot::RwLock;
use records::{DeliveryEvent, OrderKind, Record, Won};
use storage::batch::signed;
use storage::sqlx::{self, Row};
use storage::{MigrationError, Sql, SqlError, WriteTransaction, migrate};
use tokio::sync::Mutex;

use super::decide::{Known, decide};
use super::tail::Tail;
use super::{AlarmRow, Applied, AwardStore, EventsApplied, StoreError};
use crate::core::{
    Alarm, AlarmKind, AwardRecord, AwardRow, LaneBatch, LaneState, Mark, Progress, StatBook, StatKey,
    StatValue,
};
use crate::limits::{INDEX_ROWS_MAX, TAIL_ROWS_MAX};
use recent::Recent;
use rows::{COLUMNS, batch, full, id, int, record, sql as told};

/// Awards in SQLite. Cloning gives another handle.
#[derive(Clone)]
pub struct SqlAwardStore {
    sql: Sql,
    /// Held while writing.
    state: Arc<Mutex<Option<State>>>,
    tail: Arc<RwLock<Tail>>,
}

/// Opening the store failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The tables can't be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The tables can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the tables say in sum; none while that is not known.
struct State {
    next_seq: i64,
    book: StatBook,
    early: i64,
    recent: Recent,
}

/// What an apply did, the awards that it stored from the next number on, and steps that came before some of them.
type Stored = (Applied, Vec<AwardRow>, HashMap<AwardId, Progress>);

impl SqlAwardStore {
    /// Brings the tables up to date and opens the store. `now_ms` goes into the record of migrations.
    ///
    /// # Errors
    /// When the tables are a newer program's, or the database fails.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlAwardStore, OpenStoreError> {
        migrate(&sql, schema::SERVICE, schema::MIGRATIONS, now_ms).await?;
        let store = SqlAwardStore { sql, state: Arc::default(), tail: Arc::default() };
        store.load(&mut *store.state.lock().await).await?;
        Ok(store)
    }

    /// The state, read from the tables if need be. Also fills the tail.
    async fn load(&self, state: &mut Option<State>) -> Result<(), StoreError> {
        if state.is_some() {
            return Ok(());
        }
        let readers = self.sql.readers();
        let one = |text: &'static str| async move {
            sqlx::query(text).fetch_one(readers).await.and_then(|row| row.try_get::<i64, _>(0)).map_err(told)
        };
        let next_seq = one("SELECT COALESCE(MAX(seq), 0) + 1 FROM award").await?;
        let early = one("SELECT COUNT(*) FROM early_step").await?;
        let users_to = one("SELECT value FROM mark WHERE name = 'users_to'").await?;
        let book = StatBook::new(self.statistics().await?);
        let mut tail = Tail::default();
        for (seq, won) in self.wons(users_to, TAIL_ROWS_MAX).await? {
            tail.push(seq, won.user, won.award);
        }
        *self.tail.write() = tail;
        *state = Some(State { next_seq, book, early, recent: Recent::default() });
        Ok(())
    }

    /// Awards behind a number, in the order in which they were stored.
    async fn wons(&self, after: i64, limit: usize) -> Result<Vec<(i64, Won)>, StoreError> {
        let rows = sqlx::query("SELECT seq, won FROM award WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(after)
            .bind(signed(limit as u64))
            .fetch_all(self.sql.readers())
            .await
            .map_err(told)?;
        rows.iter()
            .map(|row| {
                let won: &[u8] = row.try_get("won").map_err(told)?;
                let won = Won::decode(won).map_err(|e| StoreError::Damaged(format!("column won: {e}")))?;
                Ok((row.try_get("seq").map_err(told)?, won))
            })
            .collect()
    }

    async fn records(&self, text: &str, bind: impl FnOnce(Query<'_>) -> Query<'_>) -> Found {
        let text = format!("SELECT {COLUMNS} FROM {text}");
        let rows = bind(sqlx::query(&text)).fetch_all(self.sql.readers()).await.map_err(told)?;
        rows.iter().map(|row| record(row).map(|(_, r)| r)).collect()
    }

    async fn write(&self) -> Result<WriteTransaction, StoreError> {
        Ok(self.sql.write().await?)
    }

    /// Writes a batch. With `blind`, as if nothing of it were there: none when the tables contradict.
    async fn try_apply(
        &self,
        lane: &LaneBatch,
        state: &mut State,
        blind: bool,
    ) -> Result<Option<Stored>, StoreError> {
        let mut tx = self.write().await?;
        let stored = write::lane_next(&mut tx, lane.node.0).await?;
        if lane.from > stored {
            return Err(StoreError::Gap { node: lane.node, stored, from: lane.from });
        }
        if blind && (stored != lane.from || state.early > 0) {
            return Ok(None);
        }
        let mut known = if blind { Known::default() } else { write::known(&mut tx, lane).await? };
        let d = decide(lane, &mut known, &state.book);
        if !write::units_and_awards(&mut tx, &d, state.next_seq).await? {
            return match blind {
                true => Ok(None),
                false => Err(StoreError::Damaged("a key is there that was not there".to_owned())),
            };
        }
        let early = write::take_early(&mut tx, &d, &known).await?;
        let new_alarms = write::alarms(&mut tx, &d.alarms).await?;
        write::lane(&mut tx, lane).await?;
        write::statistics(&mut tx, &d.delta).await?;
        tx.commit().await.map_err(told)?;
        state.early -= signed(early);
        state.book.apply(&d.delta);
        let applied =
            Applied { new_awards: d.rows.len() as u64, new_alarms, refused: d.refused, delta: d.delta };
        Ok(Some((applied, d.rows, known.early)))
    }

    async fn apply_with(&self, lane: &LaneBatch, state: &mut State) -> Result<Applied, StoreError> {
        let done = match self.try_apply(lane, state, true).await? {
            Some(done) => Some(done),
            None => self.try_apply(lane, state, false).await?,
        };
        let (applied, rows, early) = done.unwrap_or_default();
        let mut tail = self.tail.write();
        for (seq, row) in (state.next_seq..).zip(&rows) {
            tail.push(seq, row.won.user, row.won.award);
            let progress = if early.is_empty() { None } else { early.get(&row.won.award).copied() };
            state.recent.push(seq, AwardRecord { row: *row, progress });
        }
        state.next_seq += rows.len() as i64;
        Ok(applied)
    }

    async fn events_with(
        &self,
        events: &[DeliveryEvent],
        state: &mut State,
    ) -> Result<EventsApplied, StoreError> {
        let ids: BTreeSet<AwardId> = events.iter().map(|e| e.award).collect();
        let mut others = batch();
        for award in ids.iter().filter(|award| state.recent.get(**award).is_none()) {
            others
                .row(|r| {
                    r.bytes(&award.to_bytes());
                })
                .map_err(full)?;
        }
        let mut tx = self.write().await?;
        let (mut read, mut early) = (HashMap::new(), HashMap::new());
        if !others.is_empty() {
            let json = others.to_json();
            read = write::awards(&mut tx, &json).await?;
            // Only an award that is not stored can have them.
            if read.len() < others.len() {
                early = write::early(&mut tx, &json).await?;
            }
        }
        let find = |award: AwardId| state.recent.get(award).or_else(|| read.get(&award));
        let mut after: BTreeMap<AwardId, Progress> = BTreeMap::new();
        let mut applied = EventsApplied::default();
        for event in events {
            let stored = find(event.award);
            let before = after.get(&event.award).copied();
            let before = before.or_else(|| stored.and_then(|(_, r)| r.progress));
            let before = before.or_else(|| early.get(&event.award).copied());
            let Some(next) = Progress::after(before.as_ref(), event) else { continue };
            after.insert(event.award, next);
            if let Some((_, r)) = stored {
                state.book.count_step(&r.row, before.map(|p| p.state), next.state, &mut applied.delta);
            }
        }
        applied.delta.retain(|_, value| *value != StatValue::default());
        applied.changed = after.len() as u64;
        let (mut steps, mut early_steps) = (Vec::new(), Vec::new());
        let went_on: Vec<_> = after.iter().map(|(award, progress)| (*award, *progress)).collect();
        for (award, progress) in after {
            match find(award) {
                Some((seq, _)) => steps.push((*seq, progress)),
                None => early_steps.push((award, progress)),
            }
        }
        steps.sort_unstable_by_key(|(seq, _)| *seq);
        write::steps(&mut tx, &steps).await?;
        write::early_steps(&mut tx, &early_steps).await?;
        write::statistics(&mut tx, &applied.delta).await?;
        tx.commit().await.map_err(told)?;
        state.early += early_steps.iter().filter(|(award, _)| !early.contains_key(award)).count() as i64;
        state.book.apply(&applied.delta);
        for (award, progress) in went_on {
            state.recent.went_on(award, progress);
        }
        Ok(applied)
    }

    async fn index_with(&self, rows_max: usize) -> Result<usize, StoreError> {
        let (mut users, to) = {
            let tail = self.tail.read();
            let users: Vec<_> =
                tail.front(rows_max).map(|(_, user, id)| (bucket_of(user.0).get(), user.0, *id)).collect();
            let Some((to, ..)) = tail.front(rows_max).last() else { return Ok(0) };
            (users, *to)
        };
        users.sort_unstable();
        let mut tx = self.write().await?;
        write::users(&mut tx, &users, to).await?;
        tx.commit().await.map_err(told)?;
        let mut tail = self.tail.write();
        tail.forget(to);
        Ok(tail.len())
    }

    async fn timed<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.sql.within(what, async { Ok::<_, SqlError>(work.await) }).await?
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments<'q>>;
type Found = Result<Vec<AwardRecord>, StoreError>;

#[async_trait]
impl AwardStore for SqlAwardStore {
    async fn apply(&self, lane: &LaneBatch) -> Result<Applied, StoreError> {
        let mut guard = self.state.lock().await;
        self.load(&mut guard).await?;
        while self.tail.read().len() + lane.awards.len() > TAIL_ROWS_MAX {
            self.timed("moving users", self.index_with(INDEX_ROWS_MAX)).await?;
        }
        // Taken out, and put back only when all went well.
        let Some(mut state) = guard.take() else { return Ok(Applied::default()) };
        match self.timed("applying a lane", self.apply_with(lane, &mut state)).await {
            Ok(applied) => {
                *guard = Some(state);
                Ok(applied)
            }
            Err(error) => Err(error),
        }
    }

    async fn apply_events(&self, events: &[DeliveryEvent]) -> Result<EventsApplied, StoreError> {
        let mut guard = self.state.lock().await;
        self.load(&mut guard).await?;
        let Some(mut state) = guard.take() else { return Ok(EventsApplied::default()) };
        let applied = self.timed("applying events", self.events_with(events, &mut state)).await?;
        *guard = Some(state);
        Ok(applied)
    }

    async fn lanes(&self) -> Result<Vec<LaneState>, StoreError> {
        let readers = self.sql.readers();
        let rows = sqlx::query("SELECT node, next, epoch FROM lane ORDER BY node")
            .fetch_all(readers)
            .await
            .map_err(told)?;
        let mut lanes = BTreeMap::new();
        for row in rows {
            let node = NodeId(int(&row, "node")?);
            lanes.insert(
                node,
                LaneState {
                    next: int(&row, "next")?,
                    epoch: NodeEpoch(int(&row, "epoch")?),
                    ..LaneState::new(node)
                },
            );
        }
        let marks = "SELECT node, position, idx, epoch FROM lane_mark ORDER BY node, position, idx";
        for row in sqlx::query(marks).fetch_all(readers).await.map_err(told)? {
            let (position, index) = (int(&row, "position")?, int(&row, "idx")?);
            let mark = Mark { position, index, epoch: NodeEpoch(int(&row, "epoch")?) };
            if let Some(lane) = lanes.get_mut(&NodeId(int(&row, "node")?)) {
                lane.end(mark);
            }
        }
        Ok(lanes.into_values().collect())
    }

    async fn award(&self, id: AwardId) -> Result<Option<AwardRecord>, StoreError> {
        let found = self.records("award a WHERE a.id = $1", |q| q.bind(id.to_bytes().to_vec())).await?;
        Ok(found.first().copied())
    }

    async fn awards_of(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRecord>, StoreError> {
        // The tail first: what is moved from it meanwhile is then in the table.
        let mut ids: BTreeSet<AwardId> = self.tail.read().of(user).iter().copied().collect();
        ids.retain(|id| after.is_none_or(|a| *id > a));
        let rows = sqlx::query(
            "SELECT award FROM user_award WHERE bucket = $1 AND user_id = $2 AND award > $3 ORDER BY award LIMIT $4",
        )
        .bind(i64::from(bucket_of(user.0).get()))
        .bind(signed(user.0))
        // An empty string of bytes is before every id.
        .bind(after.map(|a| a.to_bytes().to_vec()).unwrap_or_default())
        .bind(signed(limit as u64))
        .fetch_all(self.sql.readers())
        .await
        .map_err(told)?;
        for row in rows {
            ids.insert(id(&row, "award")?);
        }
        let mut json = batch();
        for award in ids.iter().take(limit) {
            json.row(|r| {
                r.bytes(&award.to_bytes());
            })
            .map_err(full)?;
        }
        let json = json.to_json();
        let text = "json_each($1) j JOIN award a ON a.id = unhex(j.value->>0) ORDER BY a.id";
        self.records(text, |q| q.bind(json)).await
    }

    async fn unit_count(
        &self,
        campaign: CampaignId,
        round: RoundId,
        prize: PrizeId,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM unit WHERE campaign = $1 AND round = $2 AND prize = $3")
            .bind(i64::from(campaign.0))
            .bind(i64::from(round.0))
            .bind(i64::from(prize.0))
            .fetch_one(self.sql.readers());
        let count: i64 = row.await.and_then(|row| row.try_get(0)).map_err(told)?;
        Ok(count.unsigned_abs())
    }

    async fn alarms(&self, after: u64, limit: usize) -> Result<Vec<AlarmRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, kind, award, node, position, other FROM alarm WHERE number > $1 ORDER BY number LIMIT $2",
        )
        .bind(signed(after))
        .bind(signed(limit as u64))
        .fetch_all(self.sql.readers())
        .await
        .map_err(told)?;
        rows.iter()
            .map(|row| {
                let kind: u8 = int(row, "kind")?;
                let alarm = Alarm {
                    kind: AlarmKind::from_u8(kind)
                        .ok_or_else(|| StoreError::Damaged(format!("column kind holds {kind}")))?,
                    award: id(row, "award")?,
                    node: NodeId(int(row, "node")?),
                    position: int(row, "position")?,
                    other: id(row, "other")?,
                };
                Ok(AlarmRow { number: int(row, "number")?, alarm })
            })
            .collect()
    }

    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<AwardRecord>, StoreError> {
        let after = after.map(|a| a.to_bytes().to_vec()).unwrap_or_default();
        let text = "award a WHERE a.id > $1 ORDER BY a.id LIMIT $2";
        self.records(text, |q| q.bind(after).bind(signed(limit as u64))).await
    }

    async fn orders_due(&self, won_before_ms: u64, limit: usize) -> Result<Vec<AwardRecord>, StoreError> {
        let text = "award a INDEXED BY award_due WHERE a.step = 0 AND a.doubt = 0 AND a.won_ms < $1 LIMIT $2";
        self.records(text, |q| q.bind(signed(won_before_ms)).bind(signed(limit as u64))).await
    }

    async fn backlog(&self) -> Result<Vec<(VendorId, u64)>, StoreError> {
        let vendors: BTreeSet<VendorId> = self.statistics().await?.iter().map(|(k, _)| k.vendor).collect();
        let mut backlog = Vec::new();
        for vendor in vendors {
            // Two looks at the front of an index.
            let row = sqlx::query(
                "SELECT MIN(since) FROM (
                    SELECT * FROM (SELECT since_ms AS since FROM award INDEXED BY award_way
                        WHERE since_ms > 0 AND vendor = $1 AND doubt = 0 ORDER BY since_ms LIMIT 1)
                    UNION ALL
                    SELECT * FROM (SELECT won_ms AS since FROM award INDEXED BY award_due
                        WHERE step = 0 AND doubt = 0 AND vendor = $1 AND order_kind = $2 ORDER BY won_ms LIMIT 1))",
            )
            .bind(i64::from(vendor.0))
            .bind(OrderKind::AtOnce as i64)
            .fetch_one(self.sql.readers());
            let since: Option<i64> = row.await.and_then(|row| row.try_get(0)).map_err(told)?;
            backlog.extend(since.map(|since| (vendor, since.cast_unsigned())));
        }
        Ok(backlog)
    }

    async fn statistics(&self) -> Result<Vec<(StatKey, StatValue)>, StoreError> {
        let rows = sqlx::query("SELECT * FROM statistic ORDER BY campaign, round, prize, vendor, district")
            .fetch_all(self.sql.readers())
            .await
            .map_err(told)?;
        rows.iter()
            .map(|row| {
                let key = StatKey {
                    campaign: CampaignId(int(row, "campaign")?),
                    round: RoundId(int(row, "round")?),
                    prize: PrizeId(int(row, "prize")?),
                    vendor: VendorId(int(row, "vendor")?),
                    district: int(row, "district")?,
                };
                let value = StatValue {
                    awarded_units: int(row, "awarded_units")?,
                    awarded_fen: campaign::Fen(int(row, "awarded_fen")?),
                    delivered_units: int(row, "delivered_units")?,
                    delivered_fen: campaign::Fen(int(row, "delivered_fen")?),
                    lapsed_units: int(row, "lapsed_units")?,
                    lapsed_fen: campaign::Fen(int(row, "lapsed_fen")?),
                };
                Ok((key, value))
            })
            .collect()
    }

    async fn index_users(&self, rows_max: usize) -> Result<usize, StoreError> {
        let mut guard = self.state.lock().await;
        self.load(&mut guard).await?;
        self.timed("moving users", self.index_with(rows_max)).await
    }
}
