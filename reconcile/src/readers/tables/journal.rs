//! The delivery journal (发货).
//!
//! Its positions are 1, 2, 3 ... in the order of commits, in PostgreSQL for each shard by itself, with the last one in
//! `delivery_shard`. A number that is missing means that a line was taken out, and is refused.

use super::{Cells, PAGE, TableError, Tables};
use crate::rows::{State, StepRow};
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};

const TABLE: &str = "delivery_journal";
const WHOLE: &str = "SELECT position, award, step, state, generation, at_ms, due_ms, vendor, user_id, campaign, round, \
     prize, fen FROM delivery_journal WHERE position > $1 ORDER BY position LIMIT $2";
const OF_SHARD: &str = "SELECT position, award, step, state, generation, at_ms, due_ms, vendor, user_id, campaign, \
     round, prize, fen FROM delivery_journal WHERE shard = $3 AND position > $1 ORDER BY position LIMIT $2";
const SHARDS: &str = "SELECT shard, position FROM delivery_shard ORDER BY shard";

/// Reads the journal's lines, shard by shard, each in the order of commits; how many there were.
///
/// # Errors
/// When the table can't be read, a line is missing, or one is none.
pub async fn read_journal(
    tables: &mut Tables,
    sink: &mut dyn FnMut(StepRow) -> std::io::Result<()>,
) -> Result<u64, TableError> {
    if !tables.has_shards() {
        return read_shard(tables, None, sink).await;
    }
    let shards = tables.rows("reading the journal's shards", SHARDS, &[]).await?;
    let mut count = 0;
    for row in &shards {
        let wrong = |what| tables.wrong("delivery_shard", "a shard".into(), what);
        let shard = row.signed("shard").map_err(wrong)?;
        let last: u64 = row.number("position").map_err(wrong)?;
        let lines = read_shard(tables, Some(shard), sink).await?;
        if lines != last {
            let what = format!("it says that its journal has {last} lines; there are {lines}");
            return Err(tables.wrong("delivery_shard", format!("shard {shard}"), what));
        }
        count += lines;
    }
    Ok(count)
}

async fn read_shard(
    tables: &mut Tables,
    shard: Option<i64>,
    sink: &mut dyn FnMut(StepRow) -> std::io::Result<()>,
) -> Result<u64, TableError> {
    let (mut after, mut count) = (0, 0);
    loop {
        let rows = match shard {
            Some(shard) => tables.rows("reading the journal", OF_SHARD, &[after, PAGE, shard]).await?,
            None => tables.rows("reading the journal", WHOLE, &[after, PAGE]).await?,
        };
        for row in &rows {
            let position = row.signed("position").unwrap_or(i64::MAX);
            let name = || match shard {
                Some(shard) => format!("position {position} of shard {shard}"),
                None => format!("position {position}"),
            };
            if position != after + 1 {
                let what = format!("position {} is missing: a line was taken out of the journal", after + 1);
                return Err(tables.wrong(TABLE, name(), what));
            }
            after = position;
            sink(line(row).map_err(|what| tables.wrong(TABLE, name(), what))?)?;
            count += 1;
        }
        if (rows.len() as i64) < PAGE {
            return Ok(count);
        }
    }
}

fn line(row: &Cells) -> Result<StepRow, String> {
    let state: u8 = row.number("state")?;
    Ok(StepRow {
        award: AwardId::from_bytes(row.bytes("award")?),
        step: row.number("step")?,
        state: State::from_u8(state).ok_or_else(|| format!("`state` is {state}, which no state has"))?,
        generation: row.number("generation")?,
        at_ms: row.number("at_ms")?,
        due_ms: row.number("due_ms")?,
        vendor: VendorId(row.number("vendor")?),
        user: UserId(row.number("user_id")?),
        campaign: CampaignId(row.number("campaign")?),
        round: RoundId(row.number("round")?),
        prize: PrizeId(row.number("prize")?),
        fen: Fen(row.signed("fen")?),
    })
}
