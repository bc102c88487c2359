//! The ledger in SQL: SQLite embedded. Each call that changes something is one transaction that holds the write
//! lock from its begin; it loads the rows that the call names, applies the rule, and writes what changed.

mod load;
pub(super) mod schema;
pub(super) mod store;
pub(super) mod text;

use async_trait::async_trait;
use campaign::{CampaignId, NodeEpoch, NodeId, Plan, Ranges, SeqNo};
use ownership::sql as owners;
use ownership::{BucketRow, EndReason, NodeRow};
use runtime::SharedClock;
use std::future::Future;
use storage::sqlx::{self, Sqlite, pool::PoolConnection};
use storage::{MigrationError, Sql, SqlError, WriteTransaction, migrate};

use super::memory::KEEP_CLOSED_MS;
use super::port::{
    ChangeError, Changed, EXPORT_MAX, EpochError, PrizeReport, QuotaLedger, Registered, SettleError, Settled,
    StoreError, Tick, TickAnswer, TickError,
};
use super::rows::{LeaseKey, LeaseRow, Need, PrizeKey, Rows};
use super::rules::{change, epoch, lease, tick};

pub use schema::{MIGRATIONS, SERVICE};

/// The ledger in a database.
pub struct SqlLedger {
    sql: Sql,
    clock: SharedClock,
}

impl SqlLedger {
    /// Brings the tables up to date. The clock is the ledger's: every node's time is measured against it.
    ///
    /// # Errors
    /// When the tables are of a newer program or can't be made.
    pub async fn open(sql: Sql, clock: SharedClock) -> Result<SqlLedger, MigrationError> {
        let now_ms = clock.now_ms();
        migrate(&sql, owners::SERVICE, owners::MIGRATIONS, now_ms).await?;
        migrate(&sql, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(SqlLedger { sql, clock })
    }

    async fn call<T, E: From<StoreError>>(
        &self,
        need: &Need,
        act: impl FnOnce(&mut Rows, u64) -> Result<T, E>,
    ) -> Result<T, E> {
        let work = async {
            let mut transaction = self.sql.write().await?;
            // Read behind the lock, so that time rises from one transaction to the next.
            let now_ms = self.clock.now_ms();
            let before = load::load(&mut transaction, need, now_ms).await?;
            let mut after = before.clone();
            let done = match act(&mut after, now_ms) {
                Ok(done) => done,
                Err(refused) => return Ok(Err(refused)),
            };
            store::store(&mut transaction, &before, &after).await?;
            Ok::<_, SqlError>(Ok((done, transaction)))
        };
        // Whatever fails before the commit is undone with the transaction.
        let (done, transaction) = self.sql.within("ledger call", work).await.map_err(not_done)??;
        self.commit(transaction).await?;
        Ok(done)
    }

    async fn commit(&self, transaction: WriteTransaction) -> Result<(), StoreError> {
        self.sql.within("ledger commit", transaction.commit()).await.map_err(|error| match error {
            SqlError::DiskFull(_) | SqlError::Constraint(_) => not_done(error),
            other => StoreError::Unknown(other.to_string()),
        })
    }

    async fn read<T, F: Future<Output = Result<T, SqlError>>>(
        &self,
        read: impl FnOnce(PoolConnection<Sqlite>) -> F,
    ) -> Result<T, StoreError> {
        let work = async { read(self.sql.readers().acquire().await?).await };
        self.sql.within("reading the ledger", work).await.map_err(not_done)
    }
}

fn not_done(error: SqlError) -> StoreError {
    StoreError::NotDone(error.to_string())
}

#[async_trait]
impl QuotaLedger for SqlLedger {
    async fn register(&self, plan: &Plan) -> Result<Registered, ChangeError> {
        let need = Need { campaign: Some(plan.campaign), ..Need::default() };
        self.call(&need, |rows, now| change::register(rows, plan, now)).await
    }

    async fn lower(&self, prize: PrizeKey, seq_no: SeqNo, units: u64) -> Result<Changed, ChangeError> {
        self.call(&change::need(prize), |rows, now| change::lower(rows, prize, seq_no, units, now)).await
    }

    async fn pause(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        self.call(&change::need(prize), |rows, now| change::pause(rows, prize, seq_no, now)).await
    }

    async fn resume(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        self.call(&change::need(prize), |rows, now| change::resume(rows, prize, seq_no, now)).await
    }

    async fn tick(&self, ask: &Tick) -> Result<TickAnswer, TickError> {
        tick::check(ask)?;
        self.call(&tick::need(ask), |rows, now| tick::tick(rows, ask, now)).await
    }

    async fn begin_epoch(&self, node: NodeId, above: NodeEpoch) -> Result<NodeEpoch, EpochError> {
        self.call(&epoch::need_begin(node), |rows, now| epoch::begin(rows, node, above, now)).await
    }

    async fn end_epoch(&self, node: NodeId, epoch: NodeEpoch, reason: EndReason) -> Result<bool, EpochError> {
        let need = epoch::need_end(node, epoch);
        self.call(&need, |rows, now| epoch::end(rows, node, epoch, reason, now)).await
    }

    async fn record_end_position(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        position: u64,
    ) -> Result<u64, EpochError> {
        let need = epoch::need_record(node, epoch);
        self.call(&need, |rows, _| epoch::record_end(rows, node, epoch, position)).await
    }

    async fn settle(&self, key: LeaseKey, used: &Ranges) -> Result<Settled, SettleError> {
        self.call(&lease::need_settle(key), |rows, now| lease::settle(rows, key, used, now)).await
    }

    async fn epochs(&self, node: NodeId) -> Result<Vec<NodeRow>, StoreError> {
        self.read(async |mut conn| owners::load_epochs(&mut conn, node.0, 0).await).await
    }

    async fn dead_epochs(&self) -> Result<Vec<NodeRow>, StoreError> {
        let now_ms = self.clock.now_ms();
        self.read(async |mut conn| owners::load_dead(&mut conn, now_ms).await).await
    }

    async fn unsettled(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.read(async |mut conn| load::unsettled(&mut conn).await).await
    }

    async fn open_leases(&self, node: NodeId) -> Result<Vec<LeaseRow>, StoreError> {
        self.read(async |mut conn| load::open_leases(&mut conn, node).await).await
    }

    async fn buckets(&self, node: Option<NodeId>) -> Result<Vec<BucketRow>, StoreError> {
        self.read(async |mut conn| owners::load_all_buckets(&mut conn, node.map(|n| n.0)).await).await
    }

    async fn prizes(&self, campaign: CampaignId) -> Result<Vec<PrizeReport>, StoreError> {
        let now_ms = self.clock.now_ms();
        let rows = self.read(async |mut conn| load::prizes(&mut conn, campaign).await).await?;
        Ok(rows.iter().map(|row| row.report(now_ms)).collect())
    }

    async fn leases(
        &self,
        campaign: CampaignId,
        after: Option<LeaseKey>,
        limit: usize,
    ) -> Result<Vec<LeaseRow>, StoreError> {
        let limit = limit.min(EXPORT_MAX);
        self.read(async |mut conn| load::leases_behind(&mut conn, campaign, after, limit).await).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let over = self.clock.now_ms().saturating_sub(KEEP_CLOSED_MS);
        let work = async {
            let mut transaction = self.sql.write().await?;
            let query = "DELETE FROM ledger_lease WHERE closed_ms IS NOT NULL AND round_close_ms <= $1";
            let gone = sqlx::query(query).bind(over.cast_signed()).execute(&mut *transaction).await?;
            Ok::<_, SqlError>((gone.rows_affected(), transaction))
        };
        let (gone, transaction) = self.sql.within("pruning the ledger", work).await.map_err(not_done)?;
        self.commit(transaction).await?;
        Ok(gone)
    }
}
