//! The two databases: delivery's journal and the ledger, read table by table in pages, with queries of reconcile's own.
//!
//! Nothing is written. A table is read in the order of its key, each page behind the last row of the one before, so
//! memory is one page.

use crate::rows::{PrizeKey, State, StepRow};
use campaign::{
    AwardId, CampaignId, Fen, LeaseId, NodeEpoch, NodeId, PrizeId, Ranges, RoundId, UnitRange, UserId,
    VendorId,
};
use std::path::{Path, PathBuf};
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row as _};
use storage::{OpenError, Sql, SqlError, SqlOptions};

/// Rows of a page.
const PAGE: i64 = 5_000;

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No such file.
    #[error("{}: there is no such database; name the one that the platform writes", .0.display())]
    Missing(PathBuf),
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A query failed.
    #[error("{}: {error}", path.display())]
    Query {
        /// The file.
        path: PathBuf,
        /// What the database says.
        error: SqlError,
    },
    /// A row that no program of ours wrote.
    #[error("{}: {row} of {table}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// Which row.
        row: String,
        /// What is wrong.
        what: String,
    },
    /// What was read can't be kept.
    #[error("what was read can't be kept: {0}")]
    Keep(#[from] std::io::Error),
}

/// Opens a database that must be there.
///
/// # Errors
/// When it is missing or is no database.
pub async fn open(path: &Path) -> Result<Sql, TableError> {
    if !path.is_file() {
        return Err(TableError::Missing(path.to_owned()));
    }
    Ok(Sql::open(path, SqlOptions { readers_max: 1, ..SqlOptions::default() }).await?)
}

fn number<T: TryFrom<u64>>(row: &SqliteRow, column: &str) -> Result<T, String> {
    let stored: i64 = row.try_get(column).map_err(|e| e.to_string())?;
    T::try_from(stored.cast_unsigned()).map_err(|_| format!("`{column}` is {stored}, out of range"))
}

fn bytes<const N: usize>(row: &SqliteRow, column: &str) -> Result<[u8; N], String> {
    let stored: &[u8] = row.try_get(column).map_err(|e| e.to_string())?;
    stored.try_into().map_err(|_| format!("`{column}` has {} bytes; it must have {N}", stored.len()))
}

/// Reads the journal's lines in the order of commits.
///
/// # Errors
/// When the table can't be read, or a line is none.
pub async fn read_journal(
    sql: &Sql,
    sink: &mut dyn FnMut(StepRow) -> std::io::Result<()>,
) -> Result<u64, TableError> {
    let mut after = 0;
    let mut count = 0;
    loop {
        let query = sqlx::query(
            "SELECT position, award, step, state, generation, at_ms, due_ms, vendor, user_id, campaign, round, \
             prize, fen FROM delivery_journal WHERE position > $1 ORDER BY position LIMIT $2",
        )
        .bind(after)
        .bind(PAGE);
        let rows = sql.within("reading the journal", query.fetch_all(sql.readers())).await;
        let rows = rows.map_err(|error| TableError::Query { path: sql.path().to_owned(), error })?;
        for row in &rows {
            let position: i64 = row.try_get("position").unwrap_or(i64::MAX);
            let wrong = |what| TableError::Row {
                path: sql.path().to_owned(),
                table: "delivery_journal",
                row: format!("position {position}"),
                what,
            };
            if position != after + 1 {
                return Err(wrong(format!(
                    "position {} is missing: a line was taken out of the journal",
                    after + 1
                )));
            }
            after = position;
            let step = journal_line(row).map_err(wrong)?;
            sink(step)?;
            count += 1;
        }
        if (rows.len() as i64) < PAGE {
            return Ok(count);
        }
    }
}

fn journal_line(row: &SqliteRow) -> Result<StepRow, String> {
    let state: u8 = number(row, "state")?;
    Ok(StepRow {
        award: AwardId::from_bytes(bytes(row, "award")?),
        step: number(row, "step")?,
        state: State::from_u8(state).ok_or_else(|| format!("`state` is {state}, which no state has"))?,
        generation: number(row, "generation")?,
        at_ms: number(row, "at_ms")?,
        due_ms: number(row, "due_ms")?,
        vendor: VendorId(number(row, "vendor")?),
        user: UserId(number(row, "user_id")?),
        campaign: CampaignId(number(row, "campaign")?),
        round: RoundId(number(row, "round")?),
        prize: PrizeId(number(row, "prize")?),
        fen: Fen(row.try_get("fen").map_err(|e| e.to_string())?),
    })
}

/// A prize as the ledger has it (配额).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerPrize {
    /// The prize.
    pub key: PrizeKey,
    /// First ms behind the round.
    pub close_ms: u64,
    /// Stopped by its operator.
    pub paused: bool,
    /// Numbers ever made.
    pub made: u64,
    /// Numbers never granted.
    pub fresh: Ranges,
    /// Numbers that came back.
    pub came_back: Ranges,
    /// Numbers that were cancelled.
    pub cancelled: Ranges,
    /// Units in open leases.
    pub leased: u64,
    /// Units that became awards.
    pub used: u64,
}

/// An open lease of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerLease {
    /// Node, epoch, lease.
    pub id: (NodeId, NodeEpoch, LeaseId),
    /// Its prize.
    pub key: PrizeKey,
    /// Its units.
    pub units: Vec<UnitRange>,
}

/// What the ledger says: a row for each prize, and the leases that are open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Prizes, by campaign, round, prize.
    pub prizes: Vec<LedgerPrize>,
    /// Open leases.
    pub open: Vec<LedgerLease>,
}

/// Reads the ledger. Its size is that of the campaign's prizes and of the leases that are open now.
///
/// # Errors
/// When a table can't be read, or a row is none.
pub async fn read_ledger(sql: &Sql) -> Result<Ledger, TableError> {
    let failed = |error| TableError::Query { path: sql.path().to_owned(), error };
    // One statement, so that prizes and leases are of one instant.
    let query = sqlx::query(
        "SELECT 0 AS lease_row, campaign, round, prize, close_ms, paused, made, fresh, came_back, cancelled, leased, used, \
         0 AS node, 0 AS epoch, 0 AS lease FROM ledger_prize \
         UNION ALL SELECT 1, campaign, round, prize, 0, 0, 0, ranges, '', '', 0, 0, node, epoch, lease \
         FROM ledger_lease WHERE closed_ms IS NULL ORDER BY 1, 2, 3, 4, 13, 14, 15",
    );
    let rows = sql.within("reading the ledger", query.fetch_all(sql.readers())).await.map_err(failed)?;
    let mut ledger = Ledger::default();
    for row in &rows {
        let mut add = || -> Result<(), String> {
            let key = PrizeKey {
                campaign: CampaignId(number(row, "campaign")?),
                round: RoundId(number(row, "round")?),
                prize: PrizeId(number(row, "prize")?),
            };
            if number::<u8>(row, "lease_row")? == 0 {
                ledger.prizes.push(ledger_prize(row, key)?);
            } else {
                ledger.open.push(ledger_lease(row, key)?);
            }
            Ok(())
        };
        add().map_err(|what| TableError::Row {
            path: sql.path().to_owned(),
            table: "ledger_prize or ledger_lease",
            row: format!("prize {:?}", row.try_get::<i64, _>("prize").ok()),
            what,
        })?;
    }
    Ok(ledger)
}

fn ledger_prize(row: &SqliteRow, key: PrizeKey) -> Result<LedgerPrize, String> {
    let set = |column: &str| -> Result<Ranges, String> {
        let text: &str = row.try_get(column).map_err(|e| e.to_string())?;
        let mut set = Ranges::new();
        for range in ranges(text)? {
            set.add(range).map_err(|e| format!("`{column}` has unit {} twice", e.number))?;
        }
        Ok(set)
    };
    Ok(LedgerPrize {
        key,
        close_ms: number(row, "close_ms")?,
        paused: number::<u64>(row, "paused")? != 0,
        made: number(row, "made")?,
        fresh: set("fresh")?,
        came_back: set("came_back")?,
        cancelled: set("cancelled")?,
        leased: number(row, "leased")?,
        used: number(row, "used")?,
    })
}

fn ledger_lease(row: &SqliteRow, key: PrizeKey) -> Result<LedgerLease, String> {
    let text: &str = row.try_get("fresh").map_err(|e| e.to_string())?;
    let id = (NodeId(number(row, "node")?), NodeEpoch(number(row, "epoch")?), LeaseId(number(row, "lease")?));
    Ok(LedgerLease { id, key, units: ranges(text)? })
}

/// Ranges as text: `0-9,12`, both ends included; what stands behind an `@` is the pace of a lease's range.
fn ranges(text: &str) -> Result<Vec<UnitRange>, String> {
    let one = |part: &str| {
        let units = part.split_once('@').map_or(part, |(units, _)| units);
        let (first, last) = units.split_once('-').unwrap_or((units, units));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(UnitRange { first, count: last.checked_sub(first)?.checked_add(1)? })
    };
    let parts = text.split(',').filter(|p| !p.is_empty());
    parts.map(|part| one(part).ok_or_else(|| format!("`{part}` is no range of units"))).collect()
}

#[cfg(test)]
mod tests {
    use super::ranges;
    use campaign::UnitRange;

    #[test]
    fn ranges_are_read_with_and_without_pace() {
        let want = vec![UnitRange { first: 0, count: 10 }, UnitRange { first: 12, count: 1 }];
        assert_eq!(ranges("0-9,12"), Ok(want.clone()));
        assert_eq!(ranges("0-9@170/5*1,12-12@3/1*1"), Ok(want));
        assert_eq!(ranges(""), Ok(vec![]));
        assert!(ranges("9-0").is_err() && ranges("x").is_err());
    }
}
