//! Between rows and what they mean.

use campaign::{AwardId, PrizeKind, VendorId};
use records::{DeliveryState, OrderKind, Record, Won};
use storage::batch::unsigned;
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row};
use storage::{Batch, BatchFull};

use crate::core::{AwardRecord, AwardRow, Doubt, Progress};
use crate::store::StoreError;

/// The columns that [`record`] reads.
pub(super) const COLUMNS: &str = "a.seq, a.won, a.vendor, a.prize_kind, a.order_kind, a.lapse_ms, a.doubt, a.step, a.state, a.at_ms, a.due_ms, a.since_ms";

/// Most bytes of one statement's rows.
const JSON_BYTES_MAX: usize = 64 << 20;

/// A batch without a practical bound: its rows come from batches that have one.
pub(super) fn batch() -> Batch {
    Batch::new(usize::MAX, JSON_BYTES_MAX)
}

pub(super) fn full(error: BatchFull) -> StoreError {
    StoreError::Damaged(format!("a statement is too large: {error}"))
}

pub(super) fn sql(error: sqlx::Error) -> StoreError {
    StoreError::Sql(error.into())
}

fn damaged(what: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("column {what} holds {value}"))
}

/// The id in a column.
pub(super) fn id(row: &SqliteRow, column: &str) -> Result<AwardId, StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(sql)?;
    bytes.try_into().map(AwardId::from_bytes).map_err(|_| damaged(column, format!("{} bytes", bytes.len())))
}

/// A number in a column.
pub(super) fn int<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    let value: i64 = row.try_get(column).map_err(sql)?;
    T::try_from(value).map_err(|_| damaged(column, value))
}

/// A row of [`COLUMNS`]: its number in the table, and the award.
pub(super) fn record(row: &SqliteRow) -> Result<(i64, AwardRecord), StoreError> {
    let won: &[u8] = row.try_get("won").map_err(sql)?;
    let won = Won::decode(won).map_err(|e| damaged("won", e))?;
    let prize_kind: u8 = int(row, "prize_kind")?;
    let award = AwardRow {
        won,
        vendor: VendorId(int(row, "vendor")?),
        prize_kind: PrizeKind::from_u8(prize_kind).ok_or_else(|| damaged("prize_kind", prize_kind))?,
        order: match int::<u8>(row, "order_kind")? {
            1 => OrderKind::AtOnce,
            2 => OrderKind::OnClaim,
            other => return Err(damaged("order_kind", other)),
        },
        lapse_ms: unsigned(row.try_get("lapse_ms").map_err(sql)?),
        doubt: Doubt::from_u8(int(row, "doubt")?),
    };
    let step: u32 = int(row, "step")?;
    let progress = if step == 0 { None } else { Some(progress(row)?) };
    Ok((row.try_get("seq").map_err(sql)?, AwardRecord { row: award, progress }))
}

/// The columns step, state, at_ms, due_ms, since_ms.
pub(super) fn progress(row: &SqliteRow) -> Result<Progress, StoreError> {
    let state: u8 = int(row, "state")?;
    Ok(Progress {
        step: int(row, "step")?,
        state: DeliveryState::from_u8(state).ok_or_else(|| damaged("state", state))?,
        at_ms: unsigned(row.try_get("at_ms").map_err(sql)?),
        due_ms: unsigned(row.try_get("due_ms").map_err(sql)?),
        since_ms: unsigned(row.try_get("since_ms").map_err(sql)?),
    })
}
