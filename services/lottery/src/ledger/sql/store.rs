//! Writing rows that have changed: one statement a table, in key order.

use ownership::sql as owners;
use std::collections::BTreeMap;
use storage::batch::{BatchRow, signed};
use storage::sqlx::{self, SqliteConnection};
use storage::{Batch, SqlError};

use super::schema::{LEASE_COLUMNS, PRIZE_COLUMNS, VENDOR_COLUMNS};
use super::text;
use crate::ledger::rows::{LeaseRow, PrizeRow, Rows, VendorRow};

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
    upsert(conn, "ledger_vendor", VENDOR_COLUMNS, "campaign, vendor", vendors, vendor).await?;
    let prizes = changed(&before.prizes, &after.prizes);
    upsert(conn, "ledger_prize", PRIZE_COLUMNS, "campaign, round, prize", prizes, prize).await?;
    let leases = changed(&before.leases, &after.leases);
    upsert(conn, "ledger_lease", LEASE_COLUMNS, "node, epoch, lease", leases, lease).await
}

fn changed<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a V> {
    after.iter().filter(|(key, row)| before.get(key) != Some(row)).map(|(_, row)| row)
}

/// Inserts or replaces rows through one JSON array.
async fn upsert<'a, T: 'a>(
    conn: &mut SqliteConnection,
    table: &str,
    columns: &str,
    key: &str,
    rows: impl Iterator<Item = &'a T>,
    fill: fn(&T, &mut BatchRow<'_>),
) -> Result<(), SqlError> {
    let mut batch = Batch::new(usize::MAX, usize::MAX);
    for row in rows {
        // A call names a bounded number of rows, so this batch has no bound of its own.
        let added = batch.row(|b| fill(row, b));
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

fn vendor(row: &VendorRow, b: &mut BatchRow<'_>) {
    b.int(row.key.0.0.into()).int(row.key.1.0.into()).int(signed(row.seq_no.0));
    b.int(signed(row.release_per_second)).text(&text::window_text(&row.window));
}

fn prize(row: &PrizeRow, b: &mut BatchRow<'_>) {
    b.int(row.key.campaign.0.into()).int(row.key.round.0.into()).int(row.key.prize.0.into());
    b.int(row.vendor.0.into()).int(signed(row.seq_no.0)).int(signed(row.change_seq_no.0));
    b.int(signed(row.open_ms)).int(signed(row.close_ms)).text(&text::curve_text(&row.curve));
    b.int(signed(row.speed_max)).int(row.catch_up_percent.into()).int(signed(row.made));
    b.text(&row.fresh.to_string()).text(&row.returned.to_string()).text(&row.cancelled.to_string());
    b.int(signed(row.leased)).int(signed(row.used)).int(signed(row.base_units)).int(signed(row.base_ms));
    b.int(row.paused.into()).int(signed(row.recall_ms)).text(&text::window_text(&row.window));
}

fn lease(row: &LeaseRow, b: &mut BatchRow<'_>) {
    b.int(row.key.node.0.into()).int(row.key.epoch.0.into()).int(signed(row.key.lease.0));
    b.int(row.prize.campaign.0.into()).int(row.prize.round.0.into()).int(row.prize.prize.0.into());
    b.int(signed(row.seq_no.0)).int(signed(row.granted_ms)).int(signed(row.round_close_ms));
    b.text(&text::lease_ranges_text(&row.ranges));
    match &row.closed {
        None => b.null().null().null().null(),
        Some(closed) => b
            .int(signed(closed.at_ms))
            .int((closed.by as u8).into())
            .int(signed(closed.used))
            .text(&closed.returned.to_string()),
    };
}
