//! The quota ledger (配额): prizes and open leases.

use super::{Cells, TableError, Tables};
use crate::rows::PrizeKey;
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, PrizeId, Ranges, RoundId, UnitRange};

/// One statement, so that prizes and leases are of one instant.
const QUERY: &str = "SELECT 0 AS lease_row, campaign, round, prize, close_ms, paused, made, fresh, came_back, cancelled, \
     leased, used, 0 AS node, 0 AS epoch, 0 AS lease FROM ledger_prize \
     UNION ALL SELECT 1, campaign, round, prize, 0, 0, 0, ranges, '', '', 0, 0, node, epoch, lease \
     FROM ledger_lease WHERE closed_ms IS NULL ORDER BY 1, 2, 3, 4, 13, 14, 15";

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
pub async fn read_ledger(tables: &mut Tables) -> Result<Ledger, TableError> {
    let rows = tables.rows("reading the ledger", QUERY, &[]).await?;
    let mut ledger = Ledger::default();
    for row in &rows {
        add(row, &mut ledger).map_err(|what| {
            let name = row.signed("prize").map_or("a row".to_owned(), |prize| format!("prize {prize}"));
            tables.wrong("ledger_prize or ledger_lease", name, what)
        })?;
    }
    Ok(ledger)
}

fn add(row: &Cells, ledger: &mut Ledger) -> Result<(), String> {
    let key = PrizeKey {
        campaign: CampaignId(row.number("campaign")?),
        round: RoundId(row.number("round")?),
        prize: PrizeId(row.number("prize")?),
    };
    if row.number::<u8>("lease_row")? == 0 {
        ledger.prizes.push(prize(row, key)?);
    } else {
        ledger.open.push(lease(row, key)?);
    }
    Ok(())
}

fn prize(row: &Cells, key: PrizeKey) -> Result<LedgerPrize, String> {
    let set = |column: &str| -> Result<Ranges, String> {
        let mut set = Ranges::new();
        for range in ranges(row.text(column)?)? {
            set.add(range).map_err(|e| format!("`{column}` has unit {} twice", e.number))?;
        }
        Ok(set)
    };
    Ok(LedgerPrize {
        key,
        close_ms: row.number("close_ms")?,
        paused: row.signed("paused")? != 0,
        made: row.number("made")?,
        fresh: set("fresh")?,
        came_back: set("came_back")?,
        cancelled: set("cancelled")?,
        leased: row.number("leased")?,
        used: row.number("used")?,
    })
}

fn lease(row: &Cells, key: PrizeKey) -> Result<LedgerLease, String> {
    let id = (NodeId(row.number("node")?), NodeEpoch(row.number("epoch")?), LeaseId(row.number("lease")?));
    Ok(LedgerLease { id, key, units: ranges(row.text("fresh")?)? })
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
