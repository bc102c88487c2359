//! Between the tables' columns on PostgreSQL and the rows of the core.

use crate::book::{BookError, JournalRow};
use crate::core::{OrderRow, Reason};
use campaign::{AwardId, CampaignId, Fen, PrizeId, PrizeKind, RoundId, UserId, VendorId};
use hashring::bucket_of;
use records::{DeliveryEvent, DeliveryState};
use storage::SqlError;
use storage::batch::unsigned;
use storage::sqlx::postgres::PgRow;
use storage::sqlx::{self, Row};

/// Columns of `delivery_order` in the order of [`order_of`].
pub const ORDER_COLUMNS: &str = "award, prize_kind, campaign, round, user_id, prize, unit, fen, vendor, won_ms, \
     lapse_ms, state, step, generation, attempt, due_ms, called_ms, first_called_ms, failures, payee, merchant, \
     body_sha256, vendor_ref, reason, note";

/// Columns of `delivery_journal` in the order of [`line_of`].
pub const JOURNAL_COLUMNS: &str = "position, award, step, state, generation, attempt, at_ms, due_ms, vendor, \
     user_id, campaign, round, prize, fen, reason, note";

/// Where an order lies: a bucket made of the award's id.
pub fn slot_of(award: AwardId) -> i64 {
    let (upper, lower) = ((award.0 >> 64) as u64, award.0 as u64);
    i64::from(bucket_of(upper ^ lower).get())
}

fn broken(what: &str, error: impl std::fmt::Display) -> BookError {
    BookError::Broken(format!("{what}: {error}"))
}

/// A column.
pub fn get<'r, T>(row: &'r PgRow, at: usize) -> Result<T, BookError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(at).map_err(|error| BookError::from(SqlError::from(error)))
}

/// A column as an unsigned number that must fit.
pub fn number<T: TryFrom<u64>>(row: &PgRow, at: usize) -> Result<T, BookError> {
    T::try_from(unsigned(get(row, at)?)).map_err(|_| broken("column out of range", at))
}

fn bytes<const N: usize>(row: &PgRow, at: usize) -> Result<[u8; N], BookError> {
    let stored: &[u8] = get(row, at)?;
    stored.try_into().map_err(|_| broken("bytes of another length in column", at))
}

/// A column that names an award.
pub fn award(row: &PgRow, at: usize) -> Result<AwardId, BookError> {
    bytes(row, at).map(AwardId::from_bytes)
}

fn state(row: &PgRow, at: usize) -> Result<DeliveryState, BookError> {
    let stored: u8 = number(row, at)?;
    DeliveryState::from_u8(stored).ok_or_else(|| broken("unknown state", stored))
}

fn reason(row: &PgRow, at: usize) -> Result<Reason, BookError> {
    let stored: u8 = number(row, at)?;
    Reason::from_u8(stored).ok_or_else(|| broken("unknown reason", stored))
}

/// A row of `delivery_order`.
pub fn order_of(row: &PgRow) -> Result<OrderRow, BookError> {
    let kind: u8 = number(row, 1)?;
    Ok(OrderRow {
        award: award(row, 0)?,
        prize_kind: PrizeKind::from_u8(kind).ok_or_else(|| broken("unknown prize kind", kind))?,
        campaign: CampaignId(number(row, 2)?),
        round: RoundId(number(row, 3)?),
        user: UserId(number(row, 4)?),
        prize: PrizeId(number(row, 5)?),
        unit: number(row, 6)?,
        fen: Fen(get(row, 7)?),
        vendor: VendorId(number(row, 8)?),
        won_ms: number(row, 9)?,
        lapse_ms: number(row, 10)?,
        state: state(row, 11)?,
        step: number(row, 12)?,
        generation: number(row, 13)?,
        attempt: number(row, 14)?,
        due_ms: number(row, 15)?,
        called_ms: number(row, 16)?,
        first_called_ms: number(row, 17)?,
        failures: number(row, 18)?,
        payee: get(row, 19)?,
        merchant: get(row, 20)?,
        body_sha256: bytes(row, 21)?,
        vendor_ref: get(row, 22)?,
        reason: reason(row, 23)?,
        note: get(row, 24)?,
    })
}

/// A row of `delivery_journal`.
pub fn line_of(row: &PgRow) -> Result<JournalRow, BookError> {
    Ok(JournalRow {
        position: number(row, 0)?,
        event: DeliveryEvent {
            award: award(row, 1)?,
            step: number(row, 2)?,
            state: state(row, 3)?,
            generation: number(row, 4)?,
            attempt: number(row, 5)?,
            at_ms: number(row, 6)?,
            due_ms: number(row, 7)?,
            vendor: VendorId(number(row, 8)?),
            user: UserId(number(row, 9)?),
            campaign: CampaignId(number(row, 10)?),
            round: RoundId(number(row, 11)?),
            prize: PrizeId(number(row, 12)?),
            fen: Fen(get(row, 13)?),
        },
        reason: reason(row, 14)?,
        note: get(row, 15)?,
    })
}

/// Text as PostgreSQL takes it: a vendor may say anything, a zero too.
pub fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Columns for `UNNEST`: one array for each.
pub fn column<T, U>(rows: &[T], of: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(of).collect()
}
