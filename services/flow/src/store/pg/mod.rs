//! The store in PostgreSQL, for several flow nodes.
//!
//! A batch is one transaction of a few statements, each over all of its rows. Keys begin with a slot made of the award's id
//! or with the user's bucket, so that writes of one moment are spread over the table. Nothing is remembered between
//! calls but which lines the statistics have, to bound their number. Statistics are kept in parts, one for each lane and one
//! for each node's journal, and added up by the reader.
//!
//! A commit whose answer was lost is an error that may be tried again: applying the same once more changes nothing.

mod apply;
mod events;
mod rows;
mod schema;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use campaign::{AwardId, CampaignId, Fen, NodeEpoch, NodeId, PrizeId, RoundId, UserId, VendorId};
use hashring::bucket_of;
use parking_lot::Mutex;
use records::{DeliveryEvent, OrderKind, Won};
use storage::SqlError;
use storage::batch::signed;
use storage::pg::{Pg, PgTransaction, migrate};
use storage::sqlx::postgres::{PgArguments, PgRow};
use storage::sqlx::{self, Postgres};

use super::{AlarmRow, Applied, AwardStore, EventsApplied, OpenStoreError, StoreError};
use crate::core::{Alarm, AlarmKind, AwardRecord, LaneBatch, LaneState, Mark, StatBook, StatKey, StatValue};
use crate::limits::WINS_USERS_MAX;
use rows::{COLUMNS, bits, column, committed, damaged, get, id, int, record, slot_of, told};

/// Parts that the statistics of events are spread over, behind the node numbers of the lanes.
const EVENT_PARTS: u64 = 64;
const EVENT_PARTS_FROM: i64 = 1 << 16;
/// How often a batch of events is tried again because an award of it came at that moment.
const TRIES: usize = 8;

/// Awards in PostgreSQL. Cloning gives another handle.
#[derive(Clone)]
pub struct PgAwardStore {
    pg: Pg,
    /// The lines of the statistics that this process knows of, to bound their number.
    book: Arc<Mutex<Arc<StatBook>>>,
    /// Where this process counts events.
    part: i64,
}

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

impl PgAwardStore {
    /// Brings the tables up to date and opens the store. `now_ms` goes into the record of migrations.
    ///
    /// # Errors
    /// When the tables are a newer program's, or the database fails.
    pub async fn open(pg: Pg, now_ms: u64) -> Result<PgAwardStore, OpenStoreError> {
        migrate(&pg, schema::SERVICE, schema::MIGRATIONS, now_ms).await?;
        // Any part is right; different ones for different processes only keep them from waiting for each other.
        let part = EVENT_PARTS_FROM + (RandomState::new().hash_one(now_ms) % EVENT_PARTS) as i64;
        let store = PgAwardStore { pg, book: Arc::default(), part };
        store.statistics().await?;
        Ok(store)
    }

    async fn rows(&self, query: Query<'_>) -> Result<Vec<PgRow>, StoreError> {
        let reading = async {
            let mut connection = self.pg.connection().await?;
            query.fetch_all(&mut *connection).await.map_err(SqlError::from)
        };
        self.pg.within("reading awards", reading).await.map_err(told)
    }

    async fn records(&self, query: Query<'_>) -> Result<Vec<AwardRecord>, StoreError> {
        self.rows(query).await?.iter().map(record).collect()
    }

    async fn begin(&self) -> Result<PgTransaction, StoreError> {
        self.pg.begin().await.map_err(told)
    }

    async fn timed<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.pg.within(what, async { Ok::<_, SqlError>(work.await) }).await.map_err(told)?
    }

    async fn try_apply(
        &self,
        lane: &LaneBatch,
        book: &StatBook,
        blind: bool,
    ) -> Result<Option<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        match self.timed("applying a lane", apply::apply(&mut tx, lane, book, blind)).await {
            Ok(Some(applied)) => {
                self.pg.commit(tx).await.map_err(committed)?;
                Ok(Some(applied))
            }
            other => {
                // What the failure was is what counts; dropped, it is undone too.
                let _ = tx.rollback().await;
                other
            }
        }
    }

    async fn try_events(&self, events: &[DeliveryEvent]) -> Result<Option<EventsApplied>, StoreError> {
        let mut tx = self.begin().await?;
        match self.timed("applying events", events::apply(&mut tx, events, self.part)).await {
            Ok(Some(applied)) => {
                self.pg.commit(tx).await.map_err(committed)?;
                Ok(Some(applied))
            }
            other => {
                let _ = tx.rollback().await;
                other
            }
        }
    }

    async fn lanes_where(&self, node: Option<NodeId>) -> Result<Vec<LaneState>, StoreError> {
        let of = |text: &'static str| sqlx::query(text).bind(node.map(|node| i64::from(node.0)));
        // Marks last: one that comes between the two belongs to groups behind the position, and does no harm.
        let lanes =
            of("SELECT node, next, epoch FROM flow_lane WHERE $1::bigint IS NULL OR node = $1 ORDER BY node");
        let lanes = self.rows(lanes).await?;
        let marks = of(
            "SELECT node, position, idx, epoch FROM flow_lane_mark WHERE $1::bigint IS NULL OR node = $1 \
                        ORDER BY node, position, idx",
        );
        let mut states = BTreeMap::new();
        for row in &lanes {
            let node = NodeId(int(row, "node")?);
            let (next, epoch) = (bits(row, "next")?, NodeEpoch(int(row, "epoch")?));
            states.insert(node, LaneState { next, epoch, ..LaneState::new(node) });
        }
        for row in &self.rows(marks).await? {
            let epoch = NodeEpoch(int(row, "epoch")?);
            let mark = Mark { position: bits(row, "position")?, index: int(row, "idx")?, epoch };
            if let Some(lane) = states.get_mut(&NodeId(int(row, "node")?)) {
                lane.end(mark);
            }
        }
        Ok(states.into_values().collect())
    }
}

#[async_trait]
impl AwardStore for PgAwardStore {
    async fn apply(&self, lane: &LaneBatch) -> Result<Applied, StoreError> {
        let book = Arc::clone(&self.book.lock());
        let applied = match self.try_apply(lane, &book, true).await? {
            Some(applied) => applied,
            None => self.try_apply(lane, &book, false).await?.unwrap_or_default(),
        };
        if !book.has_all(&applied.delta) {
            Arc::make_mut(&mut *self.book.lock()).apply(&applied.delta);
        }
        Ok(applied)
    }

    async fn apply_events(&self, events: &[DeliveryEvent]) -> Result<EventsApplied, StoreError> {
        for _ in 0..TRIES {
            if let Some(applied) = self.try_events(events).await? {
                return Ok(applied);
            }
        }
        Err(StoreError::Away("awards of these events keep coming in just now; nothing was done".to_owned()))
    }

    async fn lanes(&self) -> Result<Vec<LaneState>, StoreError> {
        self.lanes_where(None).await
    }

    async fn lane(&self, node: NodeId) -> Result<LaneState, StoreError> {
        Ok(self.lanes_where(Some(node)).await?.pop().unwrap_or_else(|| LaneState::new(node)))
    }

    async fn passed(&self, lanes: &[NodeId]) -> Result<Vec<(NodeId, u64)>, StoreError> {
        let query = sqlx::query("SELECT node, next FROM flow_lane WHERE node = ANY($1::bigint[])")
            .bind(column(lanes, |node| i64::from(node.0)));
        let mut all = BTreeMap::new();
        for row in &self.rows(query).await? {
            all.insert(NodeId(int(row, "node")?), bits(row, "next")?);
        }
        Ok(lanes.iter().map(|node| (*node, all.get(node).copied().unwrap_or(0))).collect())
    }

    async fn award(&self, award: AwardId) -> Result<Option<AwardRecord>, StoreError> {
        let text =
            format!("SELECT {COLUMNS} FROM flow_award WHERE slot = $1 AND id = $2 AND won IS NOT NULL");
        let query = sqlx::query(&text).bind(slot_of(award)).bind(award.to_bytes().to_vec());
        Ok(self.records(query).await?.pop())
    }

    async fn awards_of(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRecord>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM flow_award WHERE bucket = $1 AND user_id = $2 AND id > $3 AND won IS NOT NULL \
             ORDER BY id LIMIT $4"
        );
        let query = sqlx::query(&text).bind(i64::from(bucket_of(user.0).get())).bind(signed(user.0));
        self.records(query.bind(behind(after)).bind(rows_max(limit))).await
    }

    async fn wins_of(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<Won>>, StoreError> {
        if asked.len() > WINS_USERS_MAX {
            return Err(StoreError::Damaged(format!(
                "{} users; at most {WINS_USERS_MAX} a call",
                asked.len()
            )));
        }
        let keys: Vec<(UserId, CampaignId)> =
            asked.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let query = sqlx::query(
            "SELECT a.won FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS q(bucket, user_id, campaign) \
             JOIN flow_award a ON a.bucket = q.bucket AND a.user_id = q.user_id AND a.campaign = q.campaign \
             WHERE a.won IS NOT NULL ORDER BY a.id",
        )
        .bind(column(&keys, |(user, _)| i64::from(bucket_of(user.0).get())))
        .bind(column(&keys, |(user, _)| signed(user.0)))
        .bind(column(&keys, |(_, campaign)| i64::from(campaign.0)));
        let mut wins: HashMap<(UserId, CampaignId), Vec<Won>> = HashMap::new();
        for row in &self.rows(query).await? {
            let won = rows::won(row)?.ok_or_else(|| damaged("won", "nothing"))?;
            wins.entry((won.user, won.campaign)).or_default().push(won);
        }
        Ok(asked.iter().map(|key| wins.get(key).cloned().unwrap_or_default()).collect())
    }

    async fn unit_count(
        &self,
        campaign: CampaignId,
        round: RoundId,
        prize: PrizeId,
    ) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "SELECT COUNT(*) AS units FROM flow_unit WHERE campaign = $1 AND round = $2 AND prize = $3",
        )
        .bind(i64::from(campaign.0))
        .bind(i64::from(round.0))
        .bind(i64::from(prize.0));
        self.rows(query).await?.first().map_or(Ok(0), |row| bits(row, "units"))
    }

    async fn alarms(&self, after: u64, limit: usize) -> Result<Vec<AlarmRow>, StoreError> {
        let query = sqlx::query(
            "SELECT number, kind, award, node, position, other FROM flow_alarm WHERE number > $1 ORDER BY number LIMIT $2",
        );
        let rows = self.rows(query.bind(signed(after)).bind(rows_max(limit))).await?;
        rows.iter()
            .map(|row| {
                let kind: u8 = int(row, "kind")?;
                let alarm = Alarm {
                    kind: AlarmKind::from_u8(kind).ok_or_else(|| damaged("kind", kind))?,
                    award: id(row, "award")?,
                    node: NodeId(int(row, "node")?),
                    position: bits(row, "position")?,
                    other: id(row, "other")?,
                };
                Ok(AlarmRow { number: bits(row, "number")?, alarm })
            })
            .collect()
    }

    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<AwardRecord>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM flow_award WHERE (slot, id) > ($1, $2) AND won IS NOT NULL ORDER BY slot, id LIMIT $3"
        );
        let query = sqlx::query(&text).bind(after.map_or(-1, slot_of)).bind(behind(after));
        self.records(query.bind(rows_max(limit))).await
    }

    async fn orders_due(&self, won_before_ms: u64, limit: usize) -> Result<Vec<AwardRecord>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM flow_award WHERE step = 0 AND doubt = 0 AND won_ms < $1 AND won IS NOT NULL LIMIT $2"
        );
        self.records(sqlx::query(&text).bind(signed(won_before_ms)).bind(rows_max(limit))).await
    }

    async fn backlog(&self) -> Result<Vec<(VendorId, u64)>, StoreError> {
        let vendors =
            self.rows(sqlx::query("SELECT DISTINCT vendor FROM flow_statistic ORDER BY vendor")).await?;
        let mut backlog = Vec::new();
        for row in &vendors {
            let vendor: u32 = int(row, "vendor")?;
            // Two looks at the front of an index.
            let query = sqlx::query(
                "SELECT MIN(since) AS since FROM ( \
                    (SELECT since_ms AS since FROM flow_award WHERE since_ms > 0 AND vendor = $1 AND doubt = 0 \
                        AND won IS NOT NULL ORDER BY since_ms LIMIT 1) \
                    UNION ALL \
                    (SELECT won_ms AS since FROM flow_award WHERE step = 0 AND doubt = 0 AND vendor = $1 \
                        AND order_kind = $2 AND won IS NOT NULL ORDER BY won_ms LIMIT 1)) AS both_ways",
            )
            .bind(i64::from(vendor))
            .bind(OrderKind::AtOnce as i64);
            for row in &self.rows(query).await? {
                let since: Option<i64> = get(row, "since")?;
                backlog.extend(since.map(|since| (VendorId(vendor), since.cast_unsigned())));
            }
        }
        Ok(backlog)
    }

    async fn statistics(&self) -> Result<Vec<(StatKey, StatValue)>, StoreError> {
        let query = sqlx::query(
            "SELECT campaign, round, prize, vendor, district, CAST(SUM(awarded_units) AS BIGINT) AS awarded_units, \
                 CAST(SUM(awarded_fen) AS BIGINT) AS awarded_fen, \
                 CAST(SUM(delivered_units) AS BIGINT) AS delivered_units, \
                 CAST(SUM(delivered_fen) AS BIGINT) AS delivered_fen, \
                 CAST(SUM(lapsed_units) AS BIGINT) AS lapsed_units, CAST(SUM(lapsed_fen) AS BIGINT) AS lapsed_fen \
             FROM flow_statistic GROUP BY campaign, round, prize, vendor, district \
             ORDER BY campaign, round, prize, vendor, district",
        );
        let rows = self.rows(query).await?;
        let lines: Vec<(StatKey, StatValue)> = rows.iter().map(line).collect::<Result<_, _>>()?;
        *self.book.lock() = Arc::new(StatBook::new(lines.iter().copied()));
        Ok(lines)
    }

    async fn index_users(&self, _rows_max: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn has_other_writers(&self) -> bool {
        true
    }
}

fn line(row: &PgRow) -> Result<(StatKey, StatValue), StoreError> {
    let key = StatKey {
        campaign: CampaignId(int(row, "campaign")?),
        round: RoundId(int(row, "round")?),
        prize: PrizeId(int(row, "prize")?),
        vendor: VendorId(int(row, "vendor")?),
        district: int(row, "district")?,
    };
    let value = StatValue {
        awarded_units: int(row, "awarded_units")?,
        awarded_fen: Fen(int(row, "awarded_fen")?),
        delivered_units: int(row, "delivered_units")?,
        delivered_fen: Fen(int(row, "delivered_fen")?),
        lapsed_units: int(row, "lapsed_units")?,
        lapsed_fen: Fen(int(row, "lapsed_fen")?),
    };
    Ok((key, value))
}

fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn behind(after: Option<AwardId>) -> Vec<u8> {
    // No bytes sort before the empty ones, and no award id is empty.
    after.map_or_else(Vec::new, |award| award.to_bytes().to_vec())
}
