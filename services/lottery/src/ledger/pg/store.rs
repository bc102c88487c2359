//! The message that ends a call: what has changed, together with the commit.

use std::collections::BTreeMap;

use ownership::pg as owners;
use storage::SqlError;
use storage::pg::ValueRows;

use crate::ledger::rows::Rows;
use crate::ledger::sql::schema::{LEASE_COLUMNS, PRIZE_COLUMNS, VENDOR_COLUMNS};
use crate::ledger::stored::Stored;

/// The statements that write what differs; empty if nothing does.
pub fn text(before: &Rows, after: &Rows) -> Result<String, SqlError> {
    let mut statements = Vec::new();
    let (new, changed) = split(&before.nodes, &after.nodes);
    // An epoch that ends makes room for the next one of its node.
    statements.extend(owners::put_epochs(std::iter::empty(), changed.into_iter())?);
    statements.extend(owners::put_epochs(new.into_iter(), std::iter::empty())?);
    let (new, changed) = split(&before.buckets, &after.buckets);
    statements.extend(owners::put_buckets(new.into_iter(), changed.into_iter())?);
    let (columns, key) = ("campaign, seq_no", "campaign");
    statements.extend(put("ledger_campaign", columns, key, &before.campaigns, &after.campaigns)?);
    let key = "campaign, vendor";
    let vendors = put("ledger_vendor", VENDOR_COLUMNS, key, &before.vendors, &after.vendors)?;
    statements.extend(vendors);
    let key = "campaign, round, prize";
    let prizes = put("ledger_prize", PRIZE_COLUMNS, key, &before.prizes, &after.prizes)?;
    statements.extend(prizes);
    let key = "node, epoch, lease";
    let leases = put("ledger_lease", LEASE_COLUMNS, key, &before.leases, &after.leases)?;
    statements.extend(leases);
    Ok(statements.join(";"))
}

/// Rows that were not there before, and rows that were and are different now.
fn split<'a, K: Ord, V: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> (Vec<&'a V>, Vec<&'a V>) {
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    for (key, row) in after {
        match before.get(key) {
            None => new.push(row),
            Some(old) if old != row => changed.push(row),
            Some(_) => {}
        }
    }
    (new, changed)
}

fn put<K: Ord, V: Stored + PartialEq>(
    table: &str,
    columns: &str,
    key: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> Result<Vec<String>, SqlError> {
    let (new, changed) = split(before, after);
    let values = |rows: Vec<&V>| {
        let mut values = ValueRows::new();
        rows.into_iter().for_each(|row| values.row(|into| row.put(into)));
        values
    };
    owners::put(table, columns, key, [values(new), values(changed)])
}
