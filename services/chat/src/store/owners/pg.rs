//! The book in PostgreSQL.
//!
//! A tick that moves nothing is one round trip, one that moves buckets two: the first renews the session and locks the
//! buckets that the call names, the rule acts, the second writes what has changed and commits. Epochs are locked before
//! buckets, each in the order of their keys. A row that two calls make at once fails in one of them, which is done again.
//!
//! Steps hold the row of their epoch FOR KEY SHARE. Renewing does not change a key, so it waits for no step and no
//! step waits for it; beginning and ending lock the row FOR UPDATE and wait for every step that is under way. That can't
//! take for ever: a node whose epoch may be ended has stopped stepping. (Seals don't wait for steps, since those of
//! other buckets would follow each other without a gap; instead a seal is only for buckets whose steps have their outcome.)

use super::rules::{self, Rows};
use super::{BeginError, Begun, EndEpochError, OwnerAnswer, OwnerBook, OwnerTick, TickError};
use crate::store::StoreError;
use async_trait::async_trait;
use ownership::pg::{self as owners, Lock};
use ownership::{BucketRow, EndReason, NodeRow, SessionError};
use runtime::SharedClock;
use std::collections::BTreeSet;
use storage::pg::{Answers, CommitError, Pg};
use storage::sqlx::postgres::PgRow;
use storage::{SqlError, StoredRow as _};

/// How often a call is done again because another one made the same row at the same moment; each time that row is
/// there then, so once is enough.
const AGAIN_MAX: u32 = 5;

/// The book.
#[derive(Clone)]
pub struct PgOwners {
    pg: Pg,
    clock: Option<SharedClock>,
}

/// Why one try did not end.
enum Trouble {
    /// Somebody else made a row that this call wanted to make.
    SameRow(SqlError),
    Store(StoreError),
}

fn told(error: impl Into<SqlError>) -> StoreError {
    StoreError::Unavailable(error.into().to_string())
}

impl PgOwners {
    /// The book in this database; [`PgShelf::open`](crate::store::PgShelf::open) makes its tables.
    pub fn new(pg: Pg) -> PgOwners {
        PgOwners { pg, clock: None }
    }

    /// With a clock that is handed in instead of the database's: where time is simulated.
    pub fn with_clock(pg: Pg, clock: SharedClock) -> PgOwners {
        PgOwners { pg, clock: Some(clock) }
    }

    /// The book's time as an expression.
    fn now(&self) -> String {
        owners::now_by(self.clock.as_ref())
    }

    /// A call that begins with `load` and then does what the rule says. The load's last statement is the time.
    async fn call<T: Send, E: From<StoreError> + Send>(
        &self,
        load: &str,
        read: impl Fn(&Answers) -> Result<Rows, SqlError> + Send + Sync,
        act: impl Fn(&mut Rows, u64) -> Result<T, E> + Send + Sync,
    ) -> Result<T, E> {
        let mut left = AGAIN_MAX;
        loop {
            match self.one_try(load, &read, &act).await {
                Ok(done) => return done,
                Err(Trouble::SameRow(_)) if left > 0 => left -= 1,
                Err(Trouble::SameRow(error)) => return Err(told(error).into()),
                Err(Trouble::Store(error)) => return Err(error.into()),
            }
        }
    }

    async fn one_try<T, E>(
        &self,
        load: &str,
        read: impl Fn(&Answers) -> Result<Rows, SqlError>,
        act: impl Fn(&mut Rows, u64) -> Result<T, E>,
    ) -> Result<Result<T, E>, Trouble> {
        let undone = |error: SqlError| Trouble::Store(told(error));
        let reading = async {
            let mut transaction = self.pg.begin_with_first().await?;
            let answers = transaction.run(load).await?;
            Ok::<_, SqlError>((transaction, answers))
        };
        let (transaction, answers) = self.pg.within("chat's owners", reading).await.map_err(undone)?;
        let before = read(&answers).map_err(undone)?;
        let now_ms = time(&answers).map_err(undone)?;
        let mut after = before.clone();
        let done = act(&mut after, now_ms);
        if done.is_err() {
            // If this does not get through, the server undoes it when the connection ends.
            let _ = self.pg.within("chat's owners", transaction.rollback()).await;
            return Ok(done);
        }
        let text = changes(&before, &after).map_err(undone)?;
        match self.pg.run_and_commit(transaction, &text).await {
            Ok(_) => Ok(done),
            Err(CommitError::NotDone(error @ SqlError::Constraint(_))) => Err(Trouble::SameRow(error)),
            Err(CommitError::NotDone(error) | CommitError::Unknown(error)) => Err(undone(error)),
        }
    }

    /// The statement that renews a session and answers its row; none if it is over.
    fn renewal(&self, tick: &OwnerTick) -> String {
        let OwnerTick { node, epoch, .. } = tick;
        let now = self.now();
        format!(
            "UPDATE node_epoch SET seen_at_ms = GREATEST(seen_at_ms, {now}) \
             WHERE node = {node} AND epoch = {epoch} AND ended_ms IS NULL \
             RETURNING node, epoch, began_ms, seen_at_ms, low_water, ended_ms, end_reason, end_position"
        )
    }

    /// A tick without moves.
    async fn renew(&self, tick: &OwnerTick) -> Result<Answers, StoreError> {
        let now = self.now();
        let text = format!("{};{};SELECT {now} AS now_ms", self.renewal(tick), owners::select_dead(&now));
        let transaction = self.pg.begin_with_first().await.map_err(told)?;
        self.pg.run_and_commit(transaction, &text).await.map_err(|error| match error {
            CommitError::NotDone(error) | CommitError::Unknown(error) => told(error),
        })
    }

    /// Why a renewal found no row.
    async fn over(&self, tick: &OwnerTick) -> TickError {
        let (node, epoch) = (tick.node, tick.epoch);
        match self.epochs(node).await {
            Ok(rows) if rows.iter().any(|row| row.epoch == epoch) => {
                SessionError::EpochEnded { node, epoch }.into()
            }
            Ok(_) => SessionError::EpochUnknown { node, epoch }.into(),
            Err(error) => error.into(),
        }
    }

    async fn ask(&self, text: &str) -> Result<Answers, StoreError> {
        self.pg.within("chat's owners", self.pg.ask(text)).await.map_err(told)
    }
}

fn part(answers: &Answers, number: usize) -> &[PgRow] {
    answers.get(number).map_or(&[], Vec::as_slice)
}

/// The time, which every message asks for last.
fn time(answers: &Answers) -> Result<u64, SqlError> {
    let row = answers.last().and_then(|rows| rows.first());
    row.ok_or(SqlError::Other(storage::sqlx::Error::RowNotFound))?.bits("now_ms")
}

/// Rows of a message that selects epochs, then buckets.
fn rows(answers: &Answers) -> Result<Rows, SqlError> {
    let epochs = owners::read_epochs(part(answers, 0))?;
    let buckets = owners::read_buckets(part(answers, 1))?;
    Ok(Rows {
        epochs: epochs.into_iter().map(|row| ((row.node, row.epoch), row)).collect(),
        buckets: buckets.into_iter().map(|row| (row.bucket, row)).collect(),
    })
}

/// The statements that write what differs.
fn changes(before: &Rows, after: &Rows) -> Result<String, SqlError> {
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    for (key, row) in &after.epochs {
        match before.epochs.get(key) {
            None => new.push(row),
            Some(old) if old != row => changed.push(row),
            Some(_) => {}
        }
    }
    // An epoch that ends makes room for the next one of its node.
    let mut texts = owners::put_epochs(std::iter::empty(), changed.into_iter())?;
    texts.extend(owners::put_epochs(new.into_iter(), std::iter::empty())?);
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    for (key, row) in &after.buckets {
        match before.buckets.get(key) {
            None => new.push(row),
            Some(old) if old != row => changed.push(row),
            Some(_) => {}
        }
    }
    texts.extend(owners::put_buckets(new.into_iter(), changed.into_iter())?);
    Ok(texts.join(";"))
}

#[async_trait]
impl OwnerBook for PgOwners {
    async fn begin(&self, node: u16, above: u32) -> Result<Begun, BeginError> {
        let load = format!(
            "{};{};SELECT {} AS now_ms",
            owners::select_latest(node, Lock::Update),
            owners::select_all_buckets(Some(node), Lock::Update),
            self.now()
        );
        self.call(&load, rows, |rows, now_ms| rules::begin(rows, node, above, now_ms)).await
    }

    async fn tick(&self, tick: &OwnerTick) -> Result<OwnerAnswer, TickError> {
        rules::check(tick)?;
        let named: BTreeSet<u16> = rules::named(tick).collect();
        let of_dead = |rows: &[PgRow]| -> Result<Vec<(u16, u32)>, SqlError> {
            Ok(owners::read_epochs(rows)?.iter().map(|row| (row.node, row.epoch)).collect())
        };
        if named.is_empty() {
            let answers = self.renew(tick).await?;
            let read = || -> Result<Option<OwnerAnswer>, SqlError> {
                let mine = owners::read_epochs(part(&answers, 0))?.pop();
                let (now_ms, dead) = (time(&answers)?, of_dead(part(&answers, 1))?);
                let answer = OwnerAnswer { now_ms, dead, ..OwnerAnswer::default() };
                Ok(mine.map(|_| answer))
            };
            return match read().map_err(told)? {
                Some(answer) => Ok(answer),
                None => Err(self.over(tick).await),
            };
        }
        let named: Vec<u16> = named.into_iter().collect();
        let now = self.now();
        let load = format!(
            "{};{};{};SELECT {now} AS now_ms",
            self.renewal(tick),
            owners::select_buckets(&named, Lock::Update),
            owners::select_dead(&now)
        );
        let dead = parking_lot::Mutex::new(Vec::new());
        let read = |answers: &Answers| {
            *dead.lock() = of_dead(part(answers, 2))?;
            rows(answers)
        };
        let done = self
            .call(&load, read, |rows, now_ms| {
                // The statement has renewed it, if it was there.
                if rows.epochs.is_empty() {
                    return Ok(None);
                }
                let mut answer = OwnerAnswer { now_ms, ..OwnerAnswer::default() };
                rules::moves(rows, tick, &mut answer);
                answer.dead.clone_from(&dead.lock());
                Ok::<_, TickError>(Some(answer))
            })
            .await?;
        match done {
            Some(answer) => Ok(answer),
            None => Err(self.over(tick).await),
        }
    }

    async fn end(&self, node: u16, epoch: u32, reason: EndReason) -> Result<bool, EndEpochError> {
        let load = format!(
            "{};{};SELECT {} AS now_ms",
            owners::select_epochs(node, epoch, Lock::Update),
            owners::select_all_buckets(Some(node), Lock::Update),
            self.now()
        );
        self.call(&load, rows, |rows, now_ms| rules::end(rows, node, epoch, reason, now_ms)).await
    }

    async fn buckets(&self) -> Result<Vec<BucketRow>, StoreError> {
        let answers = self.ask(&owners::select_all_buckets(None, Lock::None)).await?;
        owners::read_buckets(part(&answers, 0)).map_err(told)
    }

    async fn epochs(&self, node: u16) -> Result<Vec<NodeRow>, StoreError> {
        let answers = self.ask(&owners::select_epochs(node, 0, Lock::None)).await?;
        owners::read_epochs(part(&answers, 0)).map_err(told)
    }
}
