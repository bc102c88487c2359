//! Writing rows that have changed: one statement a table, in key order.

use ownership::sql as owners;
use std::collections::BTreeMap;
use storage::batch::signed;
use storage::sqlx::{self, SqliteConnection};
use storage::{Batch, SqlError};

use super::schema::{LEASE_COLUMNS, PRIZE_COLUMNS, VENDOR_COLUMNS};
use crate::ledger::rows::Rows;
use crate::ledger::stored::Stored;

/// Writes what differs.
pub async fn store(conn: &mut SqliteConnection, before: &Rows, after: &Rows) -> Result<(), SqlError> {
    owners::store_epochs(conn, &changed(&before.nodes, &after.nodes).cloned().collect::<Vec<_>>()).await?;
    owners::store_buckets(conn, &changed(&before.buckets, &after.buckets).cloned().collect::<Vec<_>>())
        .await?;
    for row in changed(&before.campaigns, &after.campaigns) {
        sqlx::query(
            "INSERT INTO ledger_campaign (campaign, seq_no) VALUES ($1, $2) \
             ON CONFLICT (campaign) DO UPDATE SET seq_no = excluded.seq_no",
        )
        .bind(i64::from(row.campaign.0))
        .bind(signed(row.seq_no.0))
        .execute(&mut *conn)
        .await?;
    }
    let vendors = changed(&before.vendors, &after.vendors);
    upsert(conn, "ledger_vendor", VENDOR_COLUMNS, "campaign, vendor", vendors).await?;
    let prizes = changed(&before.prizes, &after.prizes);
    upsert(conn, "ledger_prize", PRIZE_COLUMNS, "campaign, round, prize", prizes).await?;
    let leases = changed(&before.leases, &after.leases);
    upsert(conn, "ledger_lease", LEASE_COLUMNS, "node, epoch, lease", leases).await
}

/// Rows that are new or different.
pub fn changed<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a V> {
    after.iter().filter(|(key, row)| before.get(key) != Some(row)).map(|(_, row)| row)
}

/// Inserts or replaces rows through one JSON array.
async fn upsert<'a, T: Stored + 'a>(
    conn: &mut SqliteConnection,
    table: &str,
    columns: &str,
    key: &str,
    rows: impl Iterator<Item = &'a T>,
) -> Result<(), SqlError> {
    let mut batch = Batch::new(usize::MAX, usize::MAX);
    for row in rows {
        // A call names a bounded number of rows, so this batch has no bound of its own.
        let added = batch.row(|b| row.put(b));
        debug_assert!(added.is_ok());
    }
    if batch.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = columns.split(',').map(str::trim).collect();
    let values: Vec<String> = (0..names.len()).map(|i| format!("value->>{i}")).collect();
    let sets: Vec<String> = names.iter().map(|n| format!("{n} = excluded.{n}")).collect();
    let (values, sets) = (values.join(", "), sets.join(", "));
    let query = format!(
        "INSERT INTO {table} ({columns}) SELECT {values} FROM json_each($1) WHERE 1 \
         ON CONFLICT ({key}) DO UPDATE SET {sets}"
    );
    sqlx::query(&query).bind(batch.to_json()).execute(conn).await?;
    Ok(())
}
