//! Between the tables' columns and the rows of the core.

use super::{BookError, JournalRow};
use crate::core::{OrderRow, Reason, Step};
use campaign::{AwardId, CampaignId, Fen, PrizeId, PrizeKind, RoundId, UserId, VendorId};
use records::{DeliveryEvent, DeliveryState};
use storage::BatchFull;
use storage::batch::{Batch, signed, unsigned};
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

/// A new order, for `INSERT_ORDERS`.
pub fn put_order(batch: &mut Batch, r: &OrderRow) -> Result<(), BatchFull> {
    batch.row(|row| {
        row.bytes(&r.award.to_bytes())
            .int(r.prize_kind as i64)
            .int(r.campaign.0.into())
            .int(r.round.0.into());
        row.int(signed(r.user.0))
            .int(r.prize.0.into())
            .int(signed(r.unit))
            .int(r.fen.0)
            .int(r.vendor.0.into());
        row.int(signed(r.won_ms)).int(signed(r.lapse_ms)).int(r.state as i64).int(r.step.into());
        row.int_or_null(r.lane().map(|lane| lane as i64)).int(signed(r.due_ms)).int(r.reason as i64);
        row.text(&r.note);
    })
}

/// What a transition changes, for `UPDATE_ORDERS`.
pub fn put_change(batch: &mut Batch, from_step: u32, r: &OrderRow) -> Result<(), BatchFull> {
    batch.row(|row| {
        row.bytes(&r.award.to_bytes()).int(from_step.into()).int(r.state as i64).int(r.step.into());
        row.int(r.generation.into()).int(r.attempt.into()).int_or_null(r.lane().map(|lane| lane as i64));
        row.int(signed(r.due_ms)).int(signed(r.called_ms)).int(signed(r.first_called_ms));
        row.int(r.failures.into()).text(&r.payee).text(&r.merchant).bytes(&r.body_sha256);
        row.text(&r.vendor_ref).int(r.reason as i64).text(&r.note);
    })
}

/// A line of the journal, for `INSERT_JOURNAL`.
pub fn put_line(batch: &mut Batch, step: &Step) -> Result<(), BatchFull> {
    let (e, r) = (&step.event, &step.row);
    batch.row(|row| {
        row.bytes(&e.award.to_bytes()).int(e.step.into()).int(e.state as i64).int(e.generation.into());
        row.int(e.attempt.into()).int(signed(e.at_ms)).int(signed(e.due_ms)).int(e.vendor.0.into());
        row.int(signed(e.user.0)).int(e.campaign.0.into()).int(e.round.0.into()).int(e.prize.0.into());
        row.int(e.fen.0).int(r.reason as i64).text(&r.note);
    })
}
