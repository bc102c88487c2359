//! The award store: what players are shown of their prizes. It is derived from the flow archive, so the settlement does not
//! rest on it; who wants to know whether it says the same as players were told reads it here.

use super::{PAGE, TableError, Tables};
use crate::readers::archive::bytes::{Record, Won};

const TABLE: &str = "award";
const BY_SEQ: &str = "SELECT seq, won FROM award WHERE seq > $1 ORDER BY seq LIMIT $2";
/// In PostgreSQL the key is another one; a cursor reads in whatever order is cheap. A step of an award that has not come yet
/// is a row there too.
const CURSOR: &str =
    "DECLARE reconcile_awards NO SCROLL CURSOR FOR SELECT won FROM flow_award WHERE won IS NOT NULL";

/// Reads every award of the store, in no order that means anything; how many there were.
///
/// # Errors
/// When the table can't be read, a row holds no award, or the sink refuses.
pub async fn read_awards(
    tables: &mut Tables,
    sink: &mut dyn FnMut(Won) -> std::io::Result<()>,
) -> Result<u64, TableError> {
    let has_cursor = tables.has_shards();
    if has_cursor {
        tables.rows("opening the award store", CURSOR, &[]).await?;
    }
    let fetch = format!("FETCH {PAGE} FROM reconcile_awards");
    let (mut after, mut count) = (0, 0);
    loop {
        let rows = if has_cursor {
            tables.rows("reading the award store", &fetch, &[]).await?
        } else {
            tables.rows("reading the award store", BY_SEQ, &[after, PAGE]).await?
        };
        for row in &rows {
            count += 1;
            let wrong = |what| tables.wrong(TABLE, format!("row {count}"), what);
            if !has_cursor {
                after = row.signed("seq").map_err(wrong)?;
            }
            let bytes = row.blob("won").map_err(wrong)?;
            match Record::parse(bytes) {
                Ok(Record::Won(won)) => sink(won)?,
                Ok(_) => return Err(wrong("`won` holds another record".into())),
                Err(what) => return Err(wrong(format!("`won`: {what}"))),
            }
        }
        if (rows.len() as i64) < PAGE {
            return Ok(count);
        }
    }
}
