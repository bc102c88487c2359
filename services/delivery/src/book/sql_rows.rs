//! Between the tables' columns and the rows of the core.

use super::{BookError, JournalRow};
use crate::core::{OrderRow, Reason, Step};
use campaign::{AwardId, CampaignId, Fen, PrizeId, PrizeKind, RoundId, UserId, VendorId};
use records::{DeliveryEvent, DeliveryState};
use storage::RowQuery;
use storage::batch::{signed, unsigned};
use storage::sqlx::Row;
use storage::sqlx::sqlite::SqliteRow;

/// Columns of `delivery_order` in the order of [`order_of`].
pub const ORDER_COLUMNS: &str = "award, prize_kind, campaign, round, user_id, prize, unit, fen, vendor, won_ms, \
     lapse_ms, state, step, generation, attempt, due_ms, called_ms, first_called_ms, failures, payee, merchant, \
     body_sha256, vendor_ref, reason, note";

/// Columns of `delivery_journal` in the order of [`line_of`].
pub const JOURNAL_COLUMNS: &str = "position, award, step, state, generation, attempt, at_ms, due_ms, vendor, \
     user_id, campaign, round, prize, fen, reason, note";

fn broken(what: &str, error: impl std::fmt::Display) -> BookError {
    BookError::Broken(format!("{what}: {error}"))
}

/// Reads a column as an unsigned number that must fit.
fn number<T: TryFrom<u64>>(row: &SqliteRow, at: usize) -> Result<T, BookError> {
    let stored: i64 = row.try_get(at).map_err(|e| broken("reading a row", e))?;
    T::try_from(unsigned(stored)).map_err(|_| broken("column out of range", at))
}

fn bytes<const N: usize>(row: &SqliteRow, at: usize) -> Result<[u8; N], BookError> {
    let stored: &[u8] = row.try_get(at).map_err(|e| broken("reading a row", e))?;
    stored.try_into().map_err(|_| broken("bytes of another length in column", at))
}

fn text(row: &SqliteRow, at: usize) -> Result<String, BookError> {
    row.try_get(at).map_err(|e| broken("reading a row", e))
}

fn fen(row: &SqliteRow, at: usize) -> Result<Fen, BookError> {
    row.try_get(at).map(Fen).map_err(|e| broken("reading a row", e))
}

fn state(row: &SqliteRow, at: usize) -> Result<DeliveryState, BookError> {
    let stored: u8 = number(row, at)?;
    DeliveryState::from_u8(stored).ok_or_else(|| broken("unknown state", stored))
}

fn reason(row: &SqliteRow, at: usize) -> Result<Reason, BookError> {
    let stored: u8 = number(row, at)?;
    Reason::from_u8(stored).ok_or_else(|| broken("unknown reason", stored))
}

/// A row of `delivery_order`.
pub fn order_of(row: &SqliteRow) -> Result<OrderRow, BookError> {
    let kind: u8 = number(row, 1)?;
    Ok(OrderRow {
        award: AwardId::from_bytes(bytes(row, 0)?),
        prize_kind: PrizeKind::from_u8(kind).ok_or_else(|| broken("unknown prize kind", kind))?,
        campaign: CampaignId(number(row, 2)?),
        round: RoundId(number(row, 3)?),
        user: UserId(number(row, 4)?),
        prize: PrizeId(number(row, 5)?),
        unit: number(row, 6)?,
        fen: fen(row, 7)?,
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
        payee: text(row, 19)?,
        merchant: text(row, 20)?,
        body_sha256: bytes(row, 21)?,
        vendor_ref: text(row, 22)?,
        reason: reason(row, 23)?,
        note: text(row, 24)?,
    })
}

/// A row of `delivery_journal`.
pub fn line_of(row: &SqliteRow) -> Result<JournalRow, BookError> {
    Ok(JournalRow {
        position: number(row, 0)?,
        event: DeliveryEvent {
            award: AwardId::from_bytes(bytes(row, 1)?),
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
            fen: fen(row, 13)?,
        },
        reason: reason(row, 14)?,
        note: text(row, 15)?,
    })
}

/// A new order and the position of its first line, for `INSERT_ORDERS`.
pub fn bind_order(query: RowQuery, r: &OrderRow, journal_from: i64) -> RowQuery {
    let query = query.bind(r.award.to_bytes().to_vec()).bind(r.prize_kind as i64);
    let query = query.bind(i64::from(r.campaign.0)).bind(i64::from(r.round.0)).bind(signed(r.user.0));
    let query = query.bind(i64::from(r.prize.0)).bind(signed(r.unit)).bind(r.fen.0);
    let query = query.bind(i64::from(r.vendor.0)).bind(signed(r.won_ms)).bind(signed(r.lapse_ms));
    let query = query.bind(r.state as i64).bind(i64::from(r.step)).bind(r.lane().map(|lane| lane as i64));
    query.bind(signed(r.due_ms)).bind(r.reason as i64).bind(r.note.clone()).bind(journal_from)
}

/// What a transition changes, for `UPDATE_ORDERS`.
pub fn bind_change(query: RowQuery, from_step: u32, r: &OrderRow) -> RowQuery {
    let query = query.bind(r.award.to_bytes().to_vec()).bind(i64::from(from_step));
    let query = query.bind(r.state as i64).bind(i64::from(r.step)).bind(i64::from(r.generation));
    let query = query.bind(i64::from(r.attempt)).bind(r.lane().map(|lane| lane as i64));
    let query = query.bind(signed(r.due_ms)).bind(signed(r.called_ms)).bind(signed(r.first_called_ms));
    let query = query.bind(i64::from(r.failures)).bind(r.payee.clone()).bind(r.merchant.clone());
    let query = query.bind(r.body_sha256.to_vec()).bind(r.vendor_ref.clone());
    query.bind(r.reason as i64).bind(r.note.clone())
}

/// A line of the journal, for `INSERT_JOURNAL`.
pub fn bind_line(query: RowQuery, position: i64, step: &Step) -> RowQuery {
    let (e, r) = (&step.event, &step.row);
    let query = query.bind(position).bind(e.award.to_bytes().to_vec()).bind(i64::from(e.step));
    let query = query.bind(e.state as i64).bind(i64::from(e.generation)).bind(i64::from(e.attempt));
    let query = query.bind(signed(e.at_ms)).bind(signed(e.due_ms)).bind(i64::from(e.vendor.0));
    let query = query.bind(signed(e.user.0)).bind(i64::from(e.campaign.0)).bind(i64::from(e.round.0));
    query.bind(i64::from(e.prize.0)).bind(e.fen.0).bind(r.reason as i64).bind(r.note.clone())
}
