//! Between rows and what they mean.

use campaign::{AwardId, PrizeKind, VendorId};
use hashring::bucket_of;
use records::{DeliveryState, OrderKind, Record, Won};
use storage::SqlError;
use storage::batch::unsigned;
use storage::pg::CommitError;
use storage::sqlx::postgres::PgRow;
use storage::sqlx::{self, Row};

use crate::core::{AwardRecord, AwardRow, Doubt, Progress};
use crate::store::StoreError;

/// The columns that [`record`] reads, `won` not null.
pub(super) const COLUMNS: &str =
    "won, vendor, prize_kind, order_kind, lapse_ms, doubt, step, state, at_ms, due_ms, since_ms";

/// Where an award lies: a bucket made of its id, so that awards of one moment are spread over the whole table.
pub(super) fn slot_of(award: AwardId) -> i64 {
    let (upper, lower) = ((award.0 >> 64) as u64, award.0 as u64);
    i64::from(bucket_of(upper ^ lower).get())
}

/// What the database said.
pub(super) fn told(error: impl Into<SqlError>) -> StoreError {
    match error.into() {
        // In a transaction: it was not committed, and the server has undone it.
        error @ (SqlError::Lost(_) | SqlError::TimedOut { .. }) => StoreError::Away(error.to_string()),
        error => StoreError::Sql(error),
    }
}

/// What became of a commit. Not known is as good as not done: all that is written here may be written again.
pub(super) fn committed(error: CommitError) -> StoreError {
    match error {
        CommitError::NotDone(error) => told(error),
        error @ CommitError::Unknown(_) => StoreError::Away(error.to_string()),
    }
}

pub(super) fn damaged(what: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("column {what} holds {value}"))
}

/// The id in a column.
pub(super) fn id(row: &PgRow, column: &str) -> Result<AwardId, StoreError> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map(AwardId::from_bytes).map_err(|_| damaged(column, format!("{} bytes", bytes.len())))
}

/// A number in a column.
pub(super) fn int<T: TryFrom<i64>>(row: &PgRow, column: &str) -> Result<T, StoreError> {
    let value: i64 = get(row, column)?;
    T::try_from(value).map_err(|_| damaged(column, value))
}

/// A number of 64 bits without a sign in a column.
pub(super) fn bits(row: &PgRow, column: &str) -> Result<u64, StoreError> {
    Ok(unsigned(get(row, column)?))
}

pub(super) fn get<'r, T>(row: &'r PgRow, column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(told)
}

/// The record in column `won`; none in a row that only holds steps that came before their award.
pub(super) fn won(row: &PgRow) -> Result<Option<Won>, StoreError> {
    let bytes: Option<&[u8]> = get(row, "won")?;
    bytes.map(|bytes| Won::decode(bytes).map_err(|e| damaged("won", e))).transpose()
}

/// The award of a row that has one.
pub(super) fn award(row: &PgRow, won: Won) -> Result<AwardRow, StoreError> {
    let prize_kind: u8 = int(row, "prize_kind")?;
    Ok(AwardRow {
        won,
        vendor: VendorId(int(row, "vendor")?),
        prize_kind: PrizeKind::from_u8(prize_kind).ok_or_else(|| damaged("prize_kind", prize_kind))?,
        order: match int::<u8>(row, "order_kind")? {
            1 => OrderKind::AtOnce,
            2 => OrderKind::OnClaim,
            other => return Err(damaged("order_kind", other)),
        },
        lapse_ms: bits(row, "lapse_ms")?,
        doubt: Doubt::from_u8(int(row, "doubt")?),
    })
}

/// A row of [`COLUMNS`].
pub(super) fn record(row: &PgRow) -> Result<AwardRecord, StoreError> {
    let won = won(row)?.ok_or_else(|| damaged("won", "nothing"))?;
    Ok(AwardRecord { row: award(row, won)?, progress: progress(row)? })
}

/// The columns step, state, at_ms, due_ms, since_ms; none before the first step.
pub(super) fn progress(row: &PgRow) -> Result<Option<Progress>, StoreError> {
    let step: u32 = int(row, "step")?;
    if step == 0 {
        return Ok(None);
    }
    let state: u8 = int(row, "state")?;
    Ok(Some(Progress {
        step,
        state: DeliveryState::from_u8(state).ok_or_else(|| damaged("state", state))?,
        at_ms: bits(row, "at_ms")?,
        due_ms: bits(row, "due_ms")?,
        since_ms: bits(row, "since_ms")?,
    }))
}

/// Columns for `UNNEST`: one array for each.
pub(super) fn column<T, U>(rows: &[T], of: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(of).collect()
}
