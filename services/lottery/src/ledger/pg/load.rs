//! The message that begins a call: locks, and reads what is behind them, in one round trip.
//!
//! Order of locks, the same for every call: epochs, buckets, the campaign of a change, leases, prizes, vendors; within a
//! table in key order. What a rule only looks at is not locked: the prizes of leases that a tick leaves alone, the
//! newest SeqNos, the count of live nodes. A row that a call may find missing and make is inserted plainly later.

use campaign::CampaignId;
use ownership::pg::{self as owners, Lock};
use std::collections::{BTreeMap, BTreeSet};
use storage::pg::{Answers, ValueRows};
use storage::sqlx::postgres::PgRow;
use storage::{SqlError, StoredRow as _, sqlx};

use crate::ledger::rows::{LeaseKey, Need, PrizeKey, Rows};
use crate::ledger::sql::schema::{LEASE_COLUMNS, PRIZE_COLUMNS, VENDOR_COLUMNS};
use crate::ledger::stored::{campaign, lease, prize, vendor};

/// What a statement of the message answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Epochs,
    Buckets,
    /// A lock alone.
    Locked,
    Leases,
    Prizes,
    Vendors,
    Campaigns,
    Alive,
    Now,
}

/// The message of a call, and how its answers are read.
pub struct Load {
    text: String,
    parts: Vec<Part>,
}

impl Load {
    /// The statements that load what `need` names. `now` is an expression of ms UTC; `change` is the campaign whose newest
    /// SeqNo the call may move.
    pub fn new(need: &Need, change: Option<CampaignId>, now: &str) -> Result<Load, SqlError> {
        let mut load = Load { text: String::new(), parts: Vec::new() };
        load.owners(need);
        if let Some(CampaignId(campaign)) = change {
            let text = format!("SELECT campaign FROM ledger_campaign WHERE campaign = {campaign} FOR UPDATE");
            load.add(Part::Locked, text);
        }
        load.leases(need);
        load.prizes(need)?;
        load.add(
            Part::Campaigns,
            "SELECT campaign, seq_no FROM ledger_campaign ORDER BY campaign".to_owned(),
        );
        if need.alive {
            load.add(Part::Alive, owners::count_alive(now));
        }
        // Read behind every lock, so that time rises from one change of a row to the next.
        load.add(Part::Now, format!("SELECT {now} AS now_ms"));
        Ok(load)
    }

    /// What is sent.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The rows, and the ledger's clock.
    pub fn read(&self, answers: &Answers) -> Result<(Rows, u64), SqlError> {
        let (mut rows, mut now_ms) = (Rows::default(), None);
        for (part, answer) in self.parts.iter().zip(answers) {
            match part {
                Part::Epochs => rows
                    .nodes
                    .extend(owners::read_epochs(answer)?.into_iter().map(|row| ((row.node, row.epoch), row))),
                Part::Buckets => {
                    rows.buckets
                        .extend(owners::read_buckets(answer)?.into_iter().map(|row| (row.bucket, row)));
                }
                Part::Locked => {}
                Part::Leases => fill(&mut rows.leases, answer, lease, |row| row.key)?,
                Part::Prizes => fill(&mut rows.prizes, answer, prize, |row| row.key)?,
                Part::Vendors => fill(&mut rows.vendors, answer, vendor, |row| row.key)?,
                Part::Campaigns => fill(&mut rows.campaigns, answer, campaign, |row| row.campaign)?,
                Part::Alive => rows.alive = owners::read_alive(answer)?,
                Part::Now => now_ms = answer.first().map(|row| row.bits("now_ms")).transpose()?,
            }
        }
        // The clock is the last statement, so it is missing when any answer is.
        let now_ms = now_ms.ok_or(SqlError::Other(sqlx::Error::RowNotFound))?;
        Ok((rows, now_ms))
    }

    fn add(&mut self, part: Part, text: String) {
        if !self.text.is_empty() {
            self.text.push(';');
        }
        self.text.push_str(&text);
        self.parts.push(part);
    }

    fn owners(&mut self, need: &Need) {
        if let Some((node, from)) = need.epochs_from {
            self.add(Part::Epochs, owners::select_epochs(node.0, from.0, Lock::Update));
        }
        if let Some(node) = need.latest_epoch {
            self.add(Part::Epochs, owners::select_latest(node.0, Lock::Update));
        }
        if !need.buckets.is_empty() {
            self.add(Part::Buckets, owners::select_buckets(&need.buckets, Lock::Update));
        }
        if let Some(node) = need.buckets_of {
            self.add(Part::Buckets, owners::select_all_buckets(Some(node.0), Lock::Update));
        }
    }

    fn leases(&mut self, need: &Need) {
        let select = format!("SELECT {LEASE_COLUMNS} FROM ledger_lease WHERE");
        let order = "ORDER BY node, epoch, lease FOR UPDATE";
        if let Some(node) = need.open_leases_of {
            self.add(Part::Leases, format!("{select} node = {node} AND closed_ms IS NULL {order}"));
        }
        for filter in named(&need.leases) {
            self.add(Part::Leases, format!("{select} {filter} {order}"));
        }
    }

    fn prizes(&mut self, need: &Need) -> Result<(), SqlError> {
        let order = "ORDER BY campaign, round, prize";
        if let Some(CampaignId(campaign)) = need.campaign {
            self.add(
                Part::Prizes,
                format!(
                    "SELECT {PRIZE_COLUMNS} FROM ledger_prize WHERE campaign = {campaign} {order} FOR UPDATE"
                ),
            );
            let text = format!(
                "SELECT {VENDOR_COLUMNS} FROM ledger_vendor WHERE campaign = {campaign} \
                 ORDER BY campaign, vendor FOR UPDATE"
            );
            self.add(Part::Vendors, text);
            return Ok(());
        }
        let asked = listed(&need.prizes)?;
        // Those that the call may change: asked for, or of a lease that is named.
        let of_leases = |filter: String| {
            format!(
                "(campaign, round, prize) IN (SELECT campaign, round, prize FROM ledger_lease WHERE {filter})"
            )
        };
        let mut touched: Vec<String> = named(&need.leases).map(of_leases).collect();
        touched.extend(asked.as_ref().map(|list| format!("(campaign, round, prize) IN ({list})")));
        if let Some(node) = need.open_leases_of {
            let open = of_leases(format!("node = {node} AND closed_ms IS NULL"));
            self.add(Part::Prizes, format!("SELECT {PRIZE_COLUMNS} FROM ledger_prize WHERE {open} {order}"));
        }
        if !touched.is_empty() {
            let touched = touched.join(" OR ");
            let text = format!("SELECT {PRIZE_COLUMNS} FROM ledger_prize WHERE {touched} {order} FOR UPDATE");
            self.add(Part::Prizes, text);
        }
        // Only a grant uses up a vendor's room.
        if let Some(list) = asked {
            let text = format!(
                "SELECT {VENDOR_COLUMNS} FROM ledger_vendor WHERE (campaign, vendor) IN (SELECT campaign, vendor \
                 FROM ledger_prize WHERE (campaign, round, prize) IN ({list})) ORDER BY campaign, vendor FOR UPDATE"
            );
            self.add(Part::Vendors, text);
        }
        Ok(())
    }
}

/// Conditions that name these leases, one for each epoch of a node.
fn named(leases: &[LeaseKey]) -> impl Iterator<Item = String> {
    let mut by_epoch: BTreeMap<(u16, u32), BTreeSet<i64>> = BTreeMap::new();
    for key in leases {
        by_epoch.entry((key.node.0, key.epoch.0)).or_default().insert(key.lease.0.cast_signed());
    }
    by_epoch.into_iter().map(|((node, epoch), leases)| {
        let list: Vec<String> = leases.iter().map(i64::to_string).collect();
        format!("node = {node} AND epoch = {epoch} AND lease IN ({})", list.join(","))
    })
}

/// These prizes as a list of keys; `None` for none.
fn listed(prizes: &[PrizeKey]) -> Result<Option<String>, SqlError> {
    let mut keys = ValueRows::new();
    for key in prizes.iter().collect::<BTreeSet<_>>() {
        keys.row(|row| {
            row.int(key.campaign.0.into()).int(key.round.0.into()).int(key.prize.0.into());
        });
    }
    Ok(if keys.is_empty() { None } else { Some(keys.list()?) })
}

fn fill<K: Ord, V>(
    into: &mut BTreeMap<K, V>,
    answer: &[PgRow],
    read: impl Fn(&PgRow) -> Result<V, SqlError>,
    key: impl Fn(&V) -> K,
) -> Result<(), SqlError> {
    for row in answer {
        let row = read(row)?;
        into.insert(key(&row), row);
    }
    Ok(())
}
