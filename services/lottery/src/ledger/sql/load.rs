//! Reading rows, in key order.

use campaign::{CampaignId, NodeId};
use ownership::{NodeRow, sql as owners};
use std::collections::BTreeSet;
use storage::SqlError;
use storage::batch::signed;
use storage::sqlx::{self, SqliteConnection};

use super::schema::{LEASE_COLUMNS, PRIZE_COLUMNS, VENDOR_COLUMNS};
use crate::ledger::rows::{CampaignRow, LeaseKey, LeaseRow, Need, PrizeKey, PrizeRow, Rows, VendorRow};
use crate::ledger::rules::epoch;
use crate::ledger::stored::{campaign, lease, prize, vendor};

/// The rows that a call works on.
pub async fn load(conn: &mut SqliteConnection, need: &Need, now_ms: u64) -> Result<Rows, SqlError> {
    let mut rows = Rows::default();
    load_owners(conn, need, now_ms, &mut rows).await?;
    for row in campaigns(conn).await? {
        rows.campaigns.insert(row.campaign, row);
    }
    if let Some(node) = need.open_leases_of {
        rows.leases.extend(open_leases(conn, node).await?.into_iter().map(|l| (l.key, l)));
    }
    let missing: Vec<LeaseKey> =
        need.leases.iter().filter(|k| !rows.leases.contains_key(k)).copied().collect();
    rows.leases.extend(named_leases(conn, &missing).await?.into_iter().map(|l| (l.key, l)));
    let keys: BTreeSet<PrizeKey> =
        rows.leases.values().map(|l| l.prize).chain(need.prizes.iter().copied()).collect();
    rows.prizes.extend(named_prizes(conn, &keys).await?.into_iter().map(|p| (p.key, p)));
    if let Some(campaign) = need.campaign {
        rows.prizes.extend(prizes(conn, campaign).await?.into_iter().map(|p| (p.key, p)));
    }
    let of: BTreeSet<CampaignId> = keys.iter().map(|k| k.campaign).chain(need.campaign).collect();
    rows.vendors.extend(vendors(conn, &of).await?.into_iter().map(|v| (v.key, v)));
    Ok(rows)
}

async fn load_owners(
    conn: &mut SqliteConnection,
    need: &Need,
    now_ms: u64,
    rows: &mut Rows,
) -> Result<(), SqlError> {
    if let Some((node, from)) = need.epochs_from {
        let epochs = owners::load_epochs(conn, node.0, from.0).await?;
        rows.nodes.extend(epochs.into_iter().map(|n| ((n.node, n.epoch), n)));
    }
    if let Some(node) = need.latest_epoch {
        let latest = owners::load_latest(conn, node.0).await?;
        rows.nodes.extend(latest.map(|n| ((n.node, n.epoch), n)));
    }
    let mut buckets = owners::load_buckets(conn, &need.buckets).await?;
    if let Some(node) = need.buckets_of {
        buckets.extend(owners::load_all_buckets(conn, Some(node.0)).await?);
    }
    rows.buckets.extend(buckets.into_iter().map(|b| (b.bucket, b)));
    if need.alive {
        rows.alive = owners::count_alive(conn, now_ms).await?;
    }
    Ok(())
}

async fn campaigns(conn: &mut SqliteConnection) -> Result<Vec<CampaignRow>, SqlError> {
    let rows =
        sqlx::query("SELECT campaign, seq_no FROM ledger_campaign ORDER BY campaign").fetch_all(conn).await?;
    rows.iter().map(campaign).collect()
}

/// Ended epochs whose end position is not known, or that have open leases.
pub async fn unsettled(conn: &mut SqliteConnection) -> Result<Vec<NodeRow>, SqlError> {
    let query = "SELECT DISTINCT node FROM (\
         SELECT node FROM node_epoch e WHERE ended_ms IS NOT NULL AND end_position IS NULL AND NOT EXISTS (\
             SELECT 1 FROM node_epoch l WHERE l.node = e.node AND l.epoch > e.epoch AND l.end_position IS NOT NULL) \
         UNION ALL \
         SELECT l.node FROM ledger_lease l JOIN node_epoch e ON e.node = l.node AND e.epoch = l.epoch \
             WHERE l.closed_ms IS NULL AND e.ended_ms IS NOT NULL) ORDER BY node";
    let nodes: Vec<i64> = sqlx::query_scalar(query).fetch_all(&mut *conn).await?;
    let mut rows = Vec::new();
    for node in nodes.into_iter().map(|n| NodeId(n as u16)) {
        let epochs = owners::load_epochs(conn, node.0, 0).await?;
        rows.extend(epoch::unsettled(&epochs, &open_leases(conn, node).await?));
    }
    Ok(rows)
}

/// Open leases of a node, in all its epochs.
pub async fn open_leases(conn: &mut SqliteConnection, node: NodeId) -> Result<Vec<LeaseRow>, SqlError> {
    let query = format!(
        "SELECT {LEASE_COLUMNS} FROM ledger_lease WHERE node = $1 AND closed_ms IS NULL ORDER BY epoch, lease"
    );
    let rows = sqlx::query(&query).bind(i64::from(node.0)).fetch_all(conn).await?;
    rows.iter().map(lease).collect()
}

async fn named_leases(conn: &mut SqliteConnection, keys: &[LeaseKey]) -> Result<Vec<LeaseRow>, SqlError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT {LEASE_COLUMNS} FROM ledger_lease WHERE (node, epoch, lease) IN \
         (SELECT value->>0, value->>1, value->>2 FROM json_each($1)) ORDER BY node, epoch, lease"
    );
    let list: Vec<_> =
        keys.iter().map(|k| format!("[{},{},{}]", k.node, k.epoch, signed(k.lease.0))).collect();
    let rows = sqlx::query(&query).bind(format!("[{}]", list.join(","))).fetch_all(conn).await?;
    rows.iter().map(lease).collect()
}

/// Leases of a campaign behind `after`.
pub async fn leases_behind(
    conn: &mut SqliteConnection,
    campaign: CampaignId,
    after: Option<LeaseKey>,
    limit: usize,
) -> Result<Vec<LeaseRow>, SqlError> {
    let query = format!(
        "SELECT {LEASE_COLUMNS} FROM ledger_lease WHERE campaign = $1 AND (node, epoch, lease) > ($2, $3, $4) \
         ORDER BY node, epoch, lease LIMIT $5"
    );
    let (node, epoch, lease_id) =
        after.map_or((-1, 0, 0), |k| (i64::from(k.node.0), i64::from(k.epoch.0), signed(k.lease.0)));
    let rows = sqlx::query(&query)
        .bind(i64::from(campaign.0))
        .bind(node)
        .bind(epoch)
        .bind(lease_id)
        .bind(limit as i64)
        .fetch_all(conn)
        .await?;
    rows.iter().map(lease).collect()
}

async fn named_prizes(
    conn: &mut SqliteConnection,
    keys: &BTreeSet<PrizeKey>,
) -> Result<Vec<PrizeRow>, SqlError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT {PRIZE_COLUMNS} FROM ledger_prize WHERE (campaign, round, prize) IN \
         (SELECT value->>0, value->>1, value->>2 FROM json_each($1)) ORDER BY campaign, round, prize"
    );
    let list: Vec<_> = keys.iter().map(|k| format!("[{},{},{}]", k.campaign, k.round, k.prize)).collect();
    let rows = sqlx::query(&query).bind(format!("[{}]", list.join(","))).fetch_all(conn).await?;
    rows.iter().map(prize).collect()
}

/// Every prize of a campaign.
pub async fn prizes(conn: &mut SqliteConnection, campaign: CampaignId) -> Result<Vec<PrizeRow>, SqlError> {
    let query = format!("SELECT {PRIZE_COLUMNS} FROM ledger_prize WHERE campaign = $1 ORDER BY round, prize");
    let rows = sqlx::query(&query).bind(i64::from(campaign.0)).fetch_all(conn).await?;
    rows.iter().map(prize).collect()
}

async fn vendors(
    conn: &mut SqliteConnection,
    campaigns: &BTreeSet<CampaignId>,
) -> Result<Vec<VendorRow>, SqlError> {
    if campaigns.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT {VENDOR_COLUMNS} FROM ledger_vendor WHERE campaign IN (SELECT value FROM json_each($1)) \
         ORDER BY campaign, vendor"
    );
    let list = campaigns.iter().map(CampaignId::to_string).collect::<Vec<_>>().join(",");
    let rows = sqlx::query(&query).bind(format!("[{list}]")).fetch_all(conn).await?;
    rows.iter().map(vendor).collect()
}
