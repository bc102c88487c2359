//! The ledger in PostgreSQL, for nodes on many machines.
//!
//! A call is one transaction and **two round trips**, however much it carries (a test counts them): the first message begins the transaction,
//! locks the rows that the call may change and reads what it needs; the rule acts; the second message writes what has
//! changed and commits. READ COMMITTED is enough, since whatever a rule's decision rests on is locked in an order that
//! all calls share (see [`load`]), and a row that a call makes is inserted plainly: of two that make the same row one fails
//! and is done again on what the other has left. A refused call is undone with one more message.
//!
//! The ledger's clock is the database's, read behind the locks; no machine's clock but the server's counts.
//!
//! It refuses what the rules refuse. A commit whose answer did not come is [`StoreError::Unknown`], and its caller
//! repeats it under the same ids; everything else that goes wrong has changed nothing. While the server is away every call
//! fails within the time limits of [`PgOptions`](storage::pg::PgOptions); a node lives 2 s without a tick, so these limits are best well below.

mod load;
mod store;

use async_trait::async_trait;
use campaign::{CampaignId, NodeEpoch, NodeId, Plan, Ranges, SeqNo};
use ownership::pg::{self as owners, Lock};
use ownership::{BucketRow, EndReason, NodeRow};
use runtime::SharedClock;
use std::collections::BTreeSet;
use storage::pg::{Answers, CommitError, Pg, migrate};
use storage::{MigrationError, SqlError, StoredRow as _, sqlx};

use super::memory::KEEP_CLOSED_MS;
use super::port::{
    ChangeError, Changed, EXPORT_MAX, EpochError, PrizeReport, QuotaLedger, Registered, SettleError, Settled,
    StoreError, Tick, TickAnswer, TickError,
};
use super::rows::{LeaseKey, LeaseRow, Need, PrizeKey, Rows};
use super::rules::{change, epoch, lease, tick};
use super::sql::schema::{LEASE_COLUMNS, MIGRATIONS, PRIZE_COLUMNS, SERVICE};
use super::stored;
use load::Load;

/// How often a call is done again because another one made the same row at the same moment. Each time that row is there,
/// so once is enough but for rows that are made and dropped again.
const AGAIN_MAX: u32 = 5;

/// The ledger in PostgreSQL.
pub struct PgLedger {
    pg: Pg,
    clock: Option<SharedClock>,
}

/// Why one try did not end.
enum Trouble {
    /// Somebody else made a row that this call wanted to make.
    SameRow(SqlError),
    Store(StoreError),
}

impl PgLedger {
    /// Brings the tables up to date. `now_ms` goes into their record; the ledger's time is the database's.
    ///
    /// # Errors
    /// When the tables are of a newer program or can't be made.
    pub async fn open(pg: Pg, now_ms: u64) -> Result<PgLedger, MigrationError> {
        migrate(&pg, owners::SERVICE, owners::MIGRATIONS, now_ms).await?;
        migrate(&pg, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(PgLedger { pg, clock: None })
    }

    /// As [`PgLedger::open`], with a clock that is handed in: where time is simulated.
    ///
    /// # Errors
    /// As [`PgLedger::open`].
    pub async fn open_with_clock(pg: Pg, clock: SharedClock) -> Result<PgLedger, MigrationError> {
        let ledger = PgLedger::open(pg, clock.now_ms()).await?;
        Ok(PgLedger { clock: Some(clock), ..ledger })
    }

    /// The connections, for health checks.
    pub fn pg(&self) -> &Pg {
        &self.pg
    }

    /// The ledger's time as an expression.
    fn now(&self) -> String {
        owners::now_by(self.clock.as_ref())
    }

    /// A call that changes something. `campaign`: its newest SeqNo may move.
    async fn call<T, E: From<StoreError>>(
        &self,
        need: &Need,
        campaign: Option<CampaignId>,
        act: impl Fn(&mut Rows, u64) -> Result<T, E> + Send + Sync,
    ) -> Result<T, E> {
        let mut left = AGAIN_MAX;
        loop {
            match self.one_try(need, campaign, &act).await {
                Ok(done) => return done,
                Err(Trouble::SameRow(_)) if left > 0 => left -= 1,
                Err(Trouble::SameRow(error)) => return Err(not_done(error).into()),
                Err(Trouble::Store(error)) => return Err(error.into()),
            }
        }
    }

    async fn one_try<T, E>(
        &self,
        need: &Need,
        campaign: Option<CampaignId>,
        act: impl Fn(&mut Rows, u64) -> Result<T, E>,
    ) -> Result<Result<T, E>, Trouble> {
        // Whatever fails before the commit is undone with the transaction.
        let undone = |error| Trouble::Store(not_done(error));
        let load = Load::new(need, campaign, &self.now()).map_err(undone)?;
        let reading = async {
            let mut transaction = self.pg.begin_with_first().await?;
            let answers = transaction.run(load.text()).await?;
            Ok::<_, SqlError>((transaction, answers))
        };
        let (transaction, answers) = self.pg.within("ledger call", reading).await.map_err(undone)?;
        let (before, now_ms) = load.read(&answers).map_err(undone)?;
        let mut after = before.clone();
        let done = act(&mut after, now_ms);
        let text = match &done {
            Ok(_) => store::text(&before, &after).map_err(undone)?,
            Err(_) => String::new(),
        };
        if text.is_empty() {
            // Refused, or nothing has changed. If this does not get through, the server undoes it when the connection ends.
            let _ = self.pg.within("ledger call", transaction.rollback()).await;
            return Ok(done);
        }
        match self.pg.run_and_commit(transaction, &text).await {
            Ok(_) => Ok(done),
            Err(CommitError::NotDone(error @ SqlError::Constraint(_))) => Err(Trouble::SameRow(error)),
            Err(CommitError::NotDone(error)) => Err(undone(error)),
            Err(CommitError::Unknown(error)) => Err(Trouble::Store(StoreError::Unknown(error.to_string()))),
        }
    }

    /// Statements that only read, in one message.
    async fn read(&self, text: &str) -> Result<Answers, StoreError> {
        self.pg.within("reading the ledger", self.pg.ask(text)).await.map_err(not_done)
    }

    async fn read_epochs(&self, text: &str) -> Result<Vec<NodeRow>, StoreError> {
        let answers = self.read(text).await?;
        owners::read_epochs(first(&answers)).map_err(not_done)
    }

    async fn read_leases(&self, text: &str) -> Result<Vec<LeaseRow>, StoreError> {
        let answers = self.read(text).await?;
        first(&answers).iter().map(stored::lease).collect::<Result<_, _>>().map_err(not_done)
    }
}

fn not_done(error: SqlError) -> StoreError {
    StoreError::NotDone(error.to_string())
}

fn first(answers: &Answers) -> &[sqlx::postgres::PgRow] {
    answers.first().map_or(&[], Vec::as_slice)
}

/// Nodes with an ended epoch whose end position is not known, or that has open leases.
const UNSETTLED_NODES: &str = "SELECT e.node FROM node_epoch e WHERE e.ended_ms IS NOT NULL AND e.end_position IS NULL \
     AND NOT EXISTS (SELECT 1 FROM node_epoch l WHERE l.node = e.node AND l.epoch > e.epoch \
         AND l.end_position IS NOT NULL) \
     UNION SELECT l.node FROM ledger_lease l JOIN node_epoch e ON e.node = l.node AND e.epoch = l.epoch \
         WHERE l.closed_ms IS NULL AND e.ended_ms IS NOT NULL";

#[async_trait]
impl QuotaLedger for PgLedger {
    async fn register(&self, plan: &Plan) -> Result<Registered, ChangeError> {
        let need = Need { campaign: Some(plan.campaign), ..Need::default() };
        self.call(&need, Some(plan.campaign), |rows, now| change::register(rows, plan, now)).await
    }

    async fn lower(&self, prize: PrizeKey, seq_no: SeqNo, units: u64) -> Result<Changed, ChangeError> {
        let need = change::need(prize);
        self.call(&need, Some(prize.campaign), |rows, now| change::lower(rows, prize, seq_no, units, now))
            .await
    }

    async fn pause(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        let need = change::need(prize);
        self.call(&need, Some(prize.campaign), |rows, now| change::pause(rows, prize, seq_no, now)).await
    }

    async fn resume(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError> {
        let need = change::need(prize);
        self.call(&need, Some(prize.campaign), |rows, now| change::resume(rows, prize, seq_no, now)).await
    }

    async fn tick(&self, ask: &Tick) -> Result<TickAnswer, TickError> {
        tick::check(ask)?;
        self.call(&tick::need(ask), None, |rows, now| tick::tick(rows, ask, now)).await
    }

    async fn begin_epoch(&self, node: NodeId, above: NodeEpoch) -> Result<NodeEpoch, EpochError> {
        self.call(&epoch::need_begin(node), None, |rows, now| epoch::begin(rows, node, above, now)).await
    }

    async fn end_epoch(&self, node: NodeId, epoch: NodeEpoch, reason: EndReason) -> Result<bool, EpochError> {
        let need = epoch::need_end(node, epoch);
        self.call(&need, None, |rows, now| epoch::end(rows, node, epoch, reason, now)).await
    }

    async fn record_end_position(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        position: u64,
    ) -> Result<u64, EpochError> {
        let need = epoch::need_record(node, epoch);
        self.call(&need, None, |rows, _| epoch::record_end(rows, node, epoch, position)).await
    }

    async fn settle(&self, key: LeaseKey, used: &Ranges) -> Result<Settled, SettleError> {
        self.call(&lease::need_settle(key), None, |rows, now| lease::settle(rows, key, used, now)).await
    }

    async fn epochs(&self, node: NodeId) -> Result<Vec<NodeRow>, StoreError> {
        self.read_epochs(&owners::select_epochs(node.0, 0, Lock::None)).await
    }

    async fn dead_epochs(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.read_epochs(&owners::select_dead(&self.now())).await
    }

    async fn unsettled(&self) -> Result<Vec<NodeRow>, StoreError> {
        let answers = self.read(UNSETTLED_NODES).await?;
        let nodes: Result<BTreeSet<u16>, _> = first(&answers).iter().map(|row| row.int("node")).collect();
        let mut rows = Vec::new();
        for node in nodes.map_err(not_done)?.into_iter().map(NodeId) {
            rows.extend(epoch::unsettled(&self.epochs(node).await?, &self.open_leases(node).await?));
        }
        Ok(rows)
    }

    async fn open_leases(&self, node: NodeId) -> Result<Vec<LeaseRow>, StoreError> {
        let text = format!(
            "SELECT {LEASE_COLUMNS} FROM ledger_lease WHERE node = {node} AND closed_ms IS NULL ORDER BY epoch, lease"
        );
        self.read_leases(&text).await
    }

    async fn buckets(&self, node: Option<NodeId>) -> Result<Vec<BucketRow>, StoreError> {
        let answers = self.read(&owners::select_all_buckets(node.map(|node| node.0), Lock::None)).await?;
        owners::read_buckets(first(&answers)).map_err(not_done)
    }

    async fn prizes(&self, campaign: CampaignId) -> Result<Vec<PrizeReport>, StoreError> {
        let now = self.now();
        let text = format!(
            "SELECT {now} AS now_ms; \
             SELECT {PRIZE_COLUMNS} FROM ledger_prize WHERE campaign = {campaign} ORDER BY round, prize"
        );
        let answers = self.read(&text).await?;
        let now_ms = first(&answers).first().map(|row| row.bits("now_ms")).transpose().map_err(not_done)?;
        let rows = answers.get(1).map_or(&[][..], Vec::as_slice);
        let report = |row| Ok(stored::prize(row)?.report(now_ms.unwrap_or(0)));
        rows.iter().map(report).collect::<Result<_, SqlError>>().map_err(not_done)
    }

    async fn leases(
        &self,
        campaign: CampaignId,
        after: Option<LeaseKey>,
        limit: usize,
    ) -> Result<Vec<LeaseRow>, StoreError> {
        let limit = limit.min(EXPORT_MAX);
        let (node, epoch, lease) = after.map_or((-1, 0, 0), |key| {
            (i64::from(key.node.0), i64::from(key.epoch.0), key.lease.0.cast_signed())
        });
        let text = format!(
            "SELECT {LEASE_COLUMNS} FROM ledger_lease WHERE campaign = {campaign} \
             AND (node, epoch, lease) > ({node}, {epoch}, {lease}) ORDER BY node, epoch, lease LIMIT {limit}"
        );
        self.read_leases(&text).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let now = self.now();
        let text = format!(
            "WITH gone AS (DELETE FROM ledger_lease WHERE closed_ms IS NOT NULL \
             AND round_close_ms <= {now} - {KEEP_CLOSED_MS} RETURNING 1) SELECT COUNT(*) AS gone FROM gone"
        );
        let transaction = self.pg.begin_with_first().await.map_err(not_done)?;
        let answers = self.pg.run_and_commit(transaction, &text).await.map_err(|error| match error {
            CommitError::NotDone(error) => not_done(error),
            CommitError::Unknown(error) => StoreError::Unknown(error.to_string()),
        })?;
        first(&answers).first().map_or(Ok(0), |row| row.bits("gone")).map_err(not_done)
    }
}
