//! The rows of [`crate::node`] and [`crate::bucket`] in PostgreSQL: the texts of statements, for whoever sends several of them
//! in one message (the quota ledger has a whole tick in two), and the readers of what comes back.
//!
//! The tables are those of [`crate::sql`]. Whoever changes rows locks them first, in this order: epochs, then buckets, each
//! in the order of their keys. New rows are inserted plainly: two that make the same row at once do not overwrite each
//! other, one of them fails with a violated constraint and looks again.

use runtime::SharedClock;
use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, postgres::PgRow};
use storage::pg::ValueRows;
use storage::{SqlError, StoredRow as _};

use crate::bucket::BucketRow;
use crate::node::{NodeRow, SESSION_DEAD_MS};
use crate::sql::{BUCKET_COLUMNS, NODE_COLUMNS, bucket_row, lane_ends_text, node_row};

pub use crate::sql::{MIGRATIONS, SERVICE};

/// The database's clock in ms UTC, as an expression: read when the statement runs, not when the transaction began.
pub const NOW_MS: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The time of a clock that was handed in as such an expression, or the database's.
pub fn now_by(clock: Option<&SharedClock>) -> String {
    clock.map_or_else(|| NOW_MS.to_owned(), |clock| format!("{}::bigint", clock.now_ms()))
}

/// Whether a statement locks the rows that it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    /// For a change.
    Update,
    /// Only looking.
    None,
}

impl Lock {
    /// What stands at the end of the statement.
    pub fn text(self) -> &'static str {
        match self {
            Lock::Update => " FOR UPDATE",
            Lock::None => "",
        }
    }
}

/// Epochs of a node from `from_epoch` on, rising.
pub fn select_epochs(node: u16, from_epoch: u32, lock: Lock) -> String {
    let lock = lock.text();
    format!(
        "SELECT {NODE_COLUMNS} FROM node_epoch WHERE node = {node} AND epoch >= {from_epoch} ORDER BY epoch{lock}"
    )
}

/// The row of a node's highest epoch.
pub fn select_latest(node: u16, lock: Lock) -> String {
    let lock = lock.text();
    format!("SELECT {NODE_COLUMNS} FROM node_epoch WHERE node = {node} ORDER BY epoch DESC LIMIT 1{lock}")
}

/// How many nodes have a session that is alive, as `alive`. `now` is an expression of ms UTC.
pub fn count_alive(now: &str) -> String {
    format!(
        "SELECT COUNT(*) AS alive FROM node_epoch WHERE ended_ms IS NULL AND seen_at_ms > {now} - {SESSION_DEAD_MS}"
    )
}

/// Open epochs whose session is dead, rising by node. `now` is an expression of ms UTC.
pub fn select_dead(now: &str) -> String {
    format!(
        "SELECT {NODE_COLUMNS} FROM node_epoch WHERE ended_ms IS NULL AND seen_at_ms <= {now} - {SESSION_DEAD_MS} \
         ORDER BY node"
    )
}

/// The rows of these buckets, rising; a bucket without a row is missing.
pub fn select_buckets(buckets: &[u16], lock: Lock) -> String {
    let list = buckets.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    // An empty list is not written as one.
    let list = if list.is_empty() { "NULL" } else { &list };
    let lock = lock.text();
    format!("SELECT {BUCKET_COLUMNS} FROM user_bucket WHERE bucket IN ({list}) ORDER BY bucket{lock}")
}

/// The rows of every bucket that ever had an owner, rising; with `node`, of those that it owns or owned last.
pub fn select_all_buckets(node: Option<u16>, lock: Lock) -> String {
    let of = node.map(|node| format!(" WHERE node = {node}")).unwrap_or_default();
    let lock = lock.text();
    format!("SELECT {BUCKET_COLUMNS} FROM user_bucket{of} ORDER BY bucket{lock}")
}

/// Statements that write epochs: `new` ones, and `changed` ones, whose rows are there and locked.
///
/// # Errors
/// Never for rows of ours.
pub fn put_epochs<'a>(
    new: impl Iterator<Item = &'a NodeRow>,
    changed: impl Iterator<Item = &'a NodeRow>,
) -> Result<Vec<String>, SqlError> {
    put("node_epoch", NODE_COLUMNS, "node, epoch", [values(new, epoch), values(changed, epoch)])
}

/// Statements that write buckets: `new` ones, and `changed` ones, whose rows are there and locked.
///
/// # Errors
/// Never for rows of ours.
pub fn put_buckets<'a>(
    new: impl Iterator<Item = &'a BucketRow>,
    changed: impl Iterator<Item = &'a BucketRow>,
) -> Result<Vec<String>, SqlError> {
    put("user_bucket", BUCKET_COLUMNS, "bucket", [values(new, bucket), values(changed, bucket)])
}

/// The statements for new and for changed rows of a table; none for none.
///
/// # Errors
/// When a text has a character that may not stand in a statement.
pub fn put(
    table: &str,
    columns: &str,
    key: &str,
    [new, changed]: [ValueRows; 2],
) -> Result<Vec<String>, SqlError> {
    let mut statements = Vec::new();
    if !new.is_empty() {
        statements.push(new.insert(table, columns)?);
    }
    if !changed.is_empty() {
        statements.push(changed.replace(table, columns, key)?);
    }
    Ok(statements)
}

fn values<'a, T: 'a>(rows: impl Iterator<Item = &'a T>, fill: fn(&T, &mut ValueRows)) -> ValueRows {
    let mut values = ValueRows::new();
    rows.for_each(|row| fill(row, &mut values));
    values
}

fn epoch(row: &NodeRow, values: &mut ValueRows) {
    values.row(|v| {
        v.int(row.node.into()).int(row.epoch.into());
        v.int(row.began_ms.cast_signed()).int(row.seen_at_ms.cast_signed()).int(row.low_water.cast_signed());
        v.int_or_null(row.ended.map(|(at_ms, _)| at_ms.cast_signed()));
        v.int_or_null(row.ended.map(|(_, reason)| i64::from(reason as u8)));
        v.int_or_null(row.end_position.map(u64::cast_signed));
    });
}

fn bucket(row: &BucketRow, values: &mut ValueRows) {
    values.row(|v| {
        v.int(row.bucket.into());
        v.int_or_null(row.owner.map(|owner| owner.0.into()))
            .int_or_null(row.owner.map(|owner| owner.1.into()));
        v.int(row.term.into());
        v.int_or_null(row.released.map(|end| end.lane.into()));
        v.int_or_null(row.released.map(|end| end.position.cast_signed()));
        v.text(&lane_ends_text(&row.wait_for));
    });
}

/// Reads what the statements about epochs select.
///
/// # Errors
/// A stored value that no program wrote.
pub fn read_epochs(rows: &[PgRow]) -> Result<Vec<NodeRow>, SqlError> {
    rows.iter().map(node_row).collect()
}

/// Reads what the statements about buckets select.
///
/// # Errors
/// A stored value that no program wrote.
pub fn read_buckets(rows: &[PgRow]) -> Result<Vec<BucketRow>, SqlError> {
    rows.iter().map(bucket_row).collect()
}

/// Reads what [`count_alive`] selects.
///
/// # Errors
/// When nothing came.
pub fn read_alive(rows: &[PgRow]) -> Result<u32, SqlError> {
    rows.first().ok_or_else(|| SqlError::Other(sqlx::Error::RowNotFound))?.int("alive")
}

/// Runs one of the selecting statements about epochs.
///
/// # Errors
/// What the database says.
pub async fn load_epochs(on: &mut PgConnection, text: &str) -> Result<Vec<NodeRow>, SqlError> {
    read_epochs(&on.fetch_all(text).await?)
}

/// Runs one of the selecting statements about buckets.
///
/// # Errors
/// What the database says.
pub async fn load_buckets(on: &mut PgConnection, text: &str) -> Result<Vec<BucketRow>, SqlError> {
    read_buckets(&on.fetch_all(text).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::LaneEnd;
    use crate::node::EndReason;
    use storage::pg::{Pg, PgOptions, migrate};
    use testkit::servers::FreshDatabase;

    #[tokio::test(flavor = "current_thread")]
    async fn rows_come_back_as_they_were_written() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
        migrate(&pg, SERVICE, MIGRATIONS, 0).await.unwrap();
        let mut first = NodeRow::begin(None, 7, 0, 1_000).unwrap();
        let ends = |n: u16| (0..n).map(|lane| LaneEnd { lane, position: 1 << 40 }).collect();
        let mut buckets: Vec<BucketRow> = (0..4096)
            .map(|bucket| BucketRow {
                bucket,
                owner: (bucket != 5).then_some((7, 2)),
                term: 3,
                released: (bucket % 2 == 0).then_some(LaneEnd { lane: 7, position: 9 }),
                wait_for: ends(bucket % 4),
            })
            .collect();
        let none = || std::iter::empty();
        let mut write = pg.begin().await.unwrap();
        for text in put_epochs([&first].into_iter(), none()).unwrap() {
            write.run(&text).await.unwrap();
        }
        for text in put_buckets(buckets.iter(), std::iter::empty()).unwrap() {
            write.run(&text).await.unwrap();
        }
        first.end(EndReason::BySelf, 1_500).unwrap();
        first.record_end_position(44).unwrap();
        let second = NodeRow::begin(Some(&first), 7, 0, 2_000).unwrap();
        let both = put_epochs([&second].into_iter(), [&first].into_iter()).unwrap();
        // The node has one open epoch at any moment, so the old one is ended before the new one is there.
        for text in both.iter().rev() {
            write.run(text).await.unwrap();
        }
        buckets[9].term = 4;
        for text in put_buckets(std::iter::empty(), [&buckets[9]].into_iter()).unwrap() {
            write.run(&text).await.unwrap();
        }
        pg.commit(write).await.unwrap();
        let mut read = pg.connection().await.unwrap();
        for lock in [Lock::None, Lock::Update] {
            let epochs = load_epochs(&mut read, &select_epochs(7, 0, lock)).await.unwrap();
            assert_eq!(epochs, [first.clone(), second.clone()]);
            let latest = load_epochs(&mut read, &select_latest(7, lock)).await.unwrap();
            assert_eq!(latest, std::slice::from_ref(&second));
            let all = load_buckets(&mut read, &select_all_buckets(None, lock)).await.unwrap();
            assert_eq!(all, buckets);
            let two = load_buckets(&mut read, &select_buckets(&[9, 4], lock)).await.unwrap();
            assert_eq!(two, [buckets[4].clone(), buckets[9].clone()]);
            assert_eq!(load_buckets(&mut read, &select_buckets(&[], lock)).await.unwrap(), []);
        }
        assert_eq!(load_buckets(&mut read, &select_all_buckets(Some(8), Lock::None)).await.unwrap(), []);
        // The same edge as the rule's: dead from the third second on.
        for (now_ms, alive) in [(4_999u64, true), (5_000, false)] {
            let now = now_ms.to_string();
            assert_eq!(second.is_alive(now_ms), alive);
            let count = read.fetch_all(count_alive(&now).as_str()).await.unwrap();
            assert_eq!(read_alive(&count).unwrap(), u32::from(alive));
            let dead = load_epochs(&mut read, &select_dead(&now)).await.unwrap();
            assert_eq!(dead.is_empty(), alive);
        }
        assert_eq!(read_alive(&read.fetch_all(count_alive(NOW_MS).as_str()).await.unwrap()).unwrap(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_row_that_somebody_else_made_is_not_overwritten() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
        migrate(&pg, SERVICE, MIGRATIONS, 0).await.unwrap();
        let row = NodeRow::begin(None, 7, 0, 1_000).unwrap();
        let text = put_epochs([&row].into_iter(), std::iter::empty()).unwrap().remove(0);
        let write = pg.begin_with_first().await.unwrap();
        pg.run_and_commit(write, &text).await.unwrap();
        let write = pg.begin_with_first().await.unwrap();
        let error = pg.run_and_commit(write, &text).await.unwrap_err();
        assert!(matches!(error.sql(), SqlError::Constraint(_)), "{error}");
        let second = NodeRow { epoch: 2, ..row };
        let text = put_epochs([&second].into_iter(), std::iter::empty()).unwrap().remove(0);
        let write = pg.begin_with_first().await.unwrap();
        let error = pg.run_and_commit(write, &text).await.unwrap_err();
        assert!(matches!(error.sql(), SqlError::Constraint(_)), "two open epochs of a node: {error}");
    }
}
