//! The rows of [`crate::node`] and [`crate::bucket`] in SQL, over a connection inside somebody's transaction.
//!
//! Batches go through `json_each`, so that a node that takes all 4,096 buckets costs one statement. Rows are read
//! and written in key order.

use sqlx::SqliteConnection;
use storage::{Batch, Migration, SqlError, StoredRow, impossible};

use crate::bucket::{BucketRow, LaneEnd};
use crate::node::{EndReason, NodeRow, SESSION_DEAD_MS};

/// The tables.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "node epochs and bucket owners",
    sql: "
CREATE TABLE node_epoch (
    node         BIGINT NOT NULL,
    epoch        BIGINT NOT NULL,
    began_ms     BIGINT NOT NULL,
    seen_at_ms   BIGINT NOT NULL,
    low_water    BIGINT NOT NULL,
    ended_ms     BIGINT,
    end_reason   BIGINT,
    end_position BIGINT,
    PRIMARY KEY (node, epoch)
);
CREATE UNIQUE INDEX node_epoch_open ON node_epoch (node) WHERE ended_ms IS NULL;
CREATE TABLE user_bucket (
    bucket            BIGINT NOT NULL PRIMARY KEY,
    node              BIGINT,
    epoch             BIGINT,
    term              BIGINT NOT NULL,
    released_lane     BIGINT,
    released_position BIGINT,
    wait_for          TEXT   NOT NULL
);
",
}];

/// Name under which [`MIGRATIONS`] are recorded.
pub const SERVICE: &str = "ownership";

pub(crate) const NODE_COLUMNS: &str =
    "node, epoch, began_ms, seen_at_ms, low_water, ended_ms, end_reason, end_position";
pub(crate) const BUCKET_COLUMNS: &str =
    "bucket, node, epoch, term, released_lane, released_position, wait_for";

/// Epochs of a node from `from_epoch` on, rising.
///
/// # Errors
/// What the database says; a stored value that no program wrote.
pub async fn load_epochs(
    conn: &mut SqliteConnection,
    node: u16,
    from_epoch: u32,
) -> Result<Vec<NodeRow>, SqlError> {
    let text =
        format!("SELECT {NODE_COLUMNS} FROM node_epoch WHERE node = $1 AND epoch >= $2 ORDER BY epoch");
    let rows = sqlx::query(&text).bind(i64::from(node)).bind(i64::from(from_epoch)).fetch_all(conn).await?;
    rows.iter().map(node_row).collect()
}

/// The row of a node's highest epoch.
///
/// # Errors
/// What the database says.
pub async fn load_latest(conn: &mut SqliteConnection, node: u16) -> Result<Option<NodeRow>, SqlError> {
    let text = format!("SELECT {NODE_COLUMNS} FROM node_epoch WHERE node = $1 ORDER BY epoch DESC LIMIT 1");
    let row = sqlx::query(&text).bind(i64::from(node)).fetch_optional(conn).await?;
    row.as_ref().map(node_row).transpose()
}

/// Nodes whose session is alive at `now_ms`.
///
/// # Errors
/// What the database says.
pub async fn count_alive(conn: &mut SqliteConnection, now_ms: u64) -> Result<u32, SqlError> {
    let text = "SELECT COUNT(*) FROM node_epoch WHERE ended_ms IS NULL AND seen_at_ms > $1";
    let since = now_ms.cast_signed() - SESSION_DEAD_MS.cast_signed();
    let count: i64 = sqlx::query_scalar(text).bind(since).fetch_one(conn).await?;
    u32::try_from(count).map_err(|_| impossible("count of nodes", &count.to_string()))
}

/// Open epochs whose session is dead at `now_ms`, rising by node.
///
/// # Errors
/// What the database says.
pub async fn load_dead(conn: &mut SqliteConnection, now_ms: u64) -> Result<Vec<NodeRow>, SqlError> {
    let text = format!(
        "SELECT {NODE_COLUMNS} FROM node_epoch WHERE ended_ms IS NULL AND seen_at_ms <= $1 ORDER BY node"
    );
    let since = now_ms.cast_signed() - SESSION_DEAD_MS.cast_signed();
    let rows = sqlx::query(&text).bind(since).fetch_all(conn).await?;
    rows.iter().map(node_row).collect()
}

/// Writes epochs, new or changed.
///
/// # Errors
/// What the database says.
pub async fn store_epochs(conn: &mut SqliteConnection, rows: &[NodeRow]) -> Result<(), SqlError> {
    for row in rows {
        sqlx::query(
            "INSERT INTO node_epoch (node, epoch, began_ms, seen_at_ms, low_water, ended_ms, end_reason, end_position) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (node, epoch) DO UPDATE SET \
             seen_at_ms = excluded.seen_at_ms, low_water = excluded.low_water, ended_ms = excluded.ended_ms, \
             end_reason = excluded.end_reason, end_position = excluded.end_position",
        )
        .bind(i64::from(row.node))
        .bind(i64::from(row.epoch))
        .bind(row.began_ms.cast_signed())
        .bind(row.seen_at_ms.cast_signed())
        .bind(row.low_water.cast_signed())
        .bind(row.ended.map(|(at_ms, _)| at_ms.cast_signed()))
        .bind(row.ended.map(|(_, reason)| i64::from(reason as u8)))
        .bind(row.end_position.map(u64::cast_signed))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The rows of these buckets, rising; a bucket without a row is missing.
///
/// # Errors
/// What the database says.
pub async fn load_buckets(conn: &mut SqliteConnection, buckets: &[u16]) -> Result<Vec<BucketRow>, SqlError> {
    if buckets.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "SELECT {BUCKET_COLUMNS} FROM user_bucket WHERE bucket IN (SELECT value FROM json_each($1)) ORDER BY bucket"
    );
    let list = buckets.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let rows = sqlx::query(&text).bind(format!("[{list}]")).fetch_all(conn).await?;
    rows.iter().map(bucket_row).collect()
}

/// The rows of every bucket that ever had an owner, rising; with `node`, of those that it owns or owned last.
///
/// # Errors
/// What the database says.
pub async fn load_all_buckets(
    conn: &mut SqliteConnection,
    node: Option<u16>,
) -> Result<Vec<BucketRow>, SqlError> {
    let text =
        format!("SELECT {BUCKET_COLUMNS} FROM user_bucket WHERE $1 IS NULL OR node = $1 ORDER BY bucket");
    let rows = sqlx::query(&text).bind(node.map(i64::from)).fetch_all(conn).await?;
    rows.iter().map(bucket_row).collect()
}

/// Writes buckets, new or changed, in one statement.
///
/// # Errors
/// What the database says.
pub async fn store_buckets(conn: &mut SqliteConnection, rows: &[BucketRow]) -> Result<(), SqlError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(hashring::BUCKET_COUNT, usize::MAX);
    for row in rows {
        let added = batch.row(|b| {
            b.int(row.bucket.into())
                .int_or_null(row.owner.map(|o| o.0.into()))
                .int_or_null(row.owner.map(|o| o.1.into()))
                .int(row.term.into())
                .int_or_null(row.released.map(|r| r.lane.into()))
                .int_or_null(row.released.map(|r| r.position.cast_signed()))
                .text(&lane_ends_text(&row.wait_for));
        });
        added.map_err(|full| impossible("bucket rows", &full.to_string()))?;
    }
    sqlx::query(
        "INSERT INTO user_bucket (bucket, node, epoch, term, released_lane, released_position, wait_for) \
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each($1) \
         WHERE 1 ON CONFLICT (bucket) DO UPDATE SET node = excluded.node, epoch = excluded.epoch, \
         term = excluded.term, released_lane = excluded.released_lane, \
         released_position = excluded.released_position, wait_for = excluded.wait_for",
    )
    .bind(batch.to_json())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) fn node_row(row: &impl StoredRow) -> Result<NodeRow, SqlError> {
    let reason: Option<u8> = row.int_or_null("end_reason")?;
    let ended = match (row.int_or_null("ended_ms")?, reason) {
        (None, None) => None,
        (Some(at_ms), Some(reason)) => {
            let known = EndReason::from_u8(reason);
            Some((at_ms, known.ok_or_else(|| impossible("end_reason", &reason.to_string()))?))
        }
        _ => return Err(impossible("ended_ms", "set without end_reason, or the other way round")),
    };
    Ok(NodeRow {
        node: row.int("node")?,
        epoch: row.int("epoch")?,
        began_ms: row.int("began_ms")?,
        seen_at_ms: row.int("seen_at_ms")?,
        low_water: row.int("low_water")?,
        ended,
        end_position: row.int_or_null("end_position")?,
    })
}

pub(crate) fn bucket_row(row: &impl StoredRow) -> Result<BucketRow, SqlError> {
    let owner = row.int_or_null("node")?.zip(row.int_or_null("epoch")?);
    let released = row
        .int_or_null("released_lane")?
        .zip(row.int_or_null("released_position")?)
        .map(|(lane, position)| LaneEnd { lane, position });
    Ok(BucketRow {
        bucket: row.int("bucket")?,
        owner,
        term: row.int("term")?,
        released,
        wait_for: row.parsed("wait_for", lane_ends)?,
    })
}

/// `lane:position` pairs with commas between them.
pub(crate) fn lane_ends_text(ends: &[LaneEnd]) -> String {
    ends.iter().map(|e| format!("{}:{}", e.lane, e.position)).collect::<Vec<_>>().join(",")
}

fn lane_ends(text: &str) -> Option<Vec<LaneEnd>> {
    text.split(',').filter(|part| !part.is_empty()).map(lane_end).collect()
}

fn lane_end(part: &str) -> Option<LaneEnd> {
    let (lane, position) = part.split_once(':')?;
    Some(LaneEnd { lane: lane.parse().ok()?, position: position.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::{Sql, SqlOptions, migrate};

    #[tokio::test(flavor = "current_thread")]
    async fn rows_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let sql = Sql::open(&folder.path().join("owners.db"), SqlOptions::patient()).await.unwrap();
        migrate(&sql, SERVICE, MIGRATIONS, 0).await.unwrap();
        let mut first = NodeRow::begin(None, 7, 0, 1_000).unwrap();
        first.end(EndReason::BySelf, 1_500).unwrap();
        first.record_end_position(44).unwrap();
        let second = NodeRow::begin(Some(&first), 7, 0, 2_000).unwrap();
        let ends = |n: u16| (0..n).map(|lane| LaneEnd { lane, position: 1 << 40 }).collect();
        let buckets: Vec<BucketRow> = (0..4096)
            .map(|bucket| BucketRow {
                bucket,
                owner: Some((7, 2)),
                term: 3,
                released: (bucket % 2 == 0).then_some(LaneEnd { lane: 7, position: 9 }),
                wait_for: ends(bucket % 4),
            })
            .collect();
        let mut write = sql.write().await.unwrap();
        store_epochs(&mut write, &[first.clone(), second.clone()]).await.unwrap();
        store_buckets(&mut write, &buckets).await.unwrap();
        store_buckets(&mut write, &buckets).await.unwrap();
        write.commit().await.unwrap();
        let mut read = sql.readers().acquire().await.unwrap();
        assert_eq!(load_epochs(&mut read, 7, 0).await.unwrap(), [first, second.clone()]);
        assert_eq!(load_latest(&mut read, 7).await.unwrap(), Some(second.clone()));
        assert_eq!(load_all_buckets(&mut read, None).await.unwrap(), buckets);
        assert_eq!(load_all_buckets(&mut read, Some(8)).await.unwrap(), []);
        assert_eq!(load_buckets(&mut read, &[4, 9]).await.unwrap(), [buckets[4].clone(), buckets[9].clone()]);
        // The same edge as the rule's: dead from the third second on.
        for (now_ms, alive) in [(4_999, true), (5_000, false)] {
            assert_eq!(second.is_alive(now_ms), alive);
            assert_eq!(count_alive(&mut read, now_ms).await.unwrap(), u32::from(alive));
            assert_eq!(load_dead(&mut read, now_ms).await.unwrap().is_empty(), alive);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn two_open_epochs_of_a_node_and_impossible_values_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sql = Sql::open(&folder.path().join("owners.db"), SqlOptions::patient()).await.unwrap();
        migrate(&sql, SERVICE, MIGRATIONS, 0).await.unwrap();
        let first = NodeRow::begin(None, 7, 0, 1_000).unwrap();
        let second = NodeRow { epoch: 2, ..first.clone() };
        let mut write = sql.write().await.unwrap();
        let refused = store_epochs(&mut write, &[first, second]).await;
        assert!(matches!(refused, Err(SqlError::Constraint(_))), "{refused:?}");
        let bad = "INSERT INTO user_bucket VALUES (1, 1, 1, 1, NULL, NULL, '5')";
        sqlx::query(bad).execute(&mut *write).await.unwrap();
        let error = load_all_buckets(&mut write, None).await.unwrap_err().to_string();
        assert!(error.contains("wait_for"), "{error}");
    }
}
