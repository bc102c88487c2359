//! Lists for authorities: winners above an amount, tax by user, and how long records must be kept.
//!
//! Rows are pushed one by one and come out as CSV (RFC 4180, UTF-8, lines ended by CR LF), so that a campaign of
//! any size streams through; the memory needed is that of one row. Amounts are in fen and exact.

use crate::calendar::{self, Zone};
use crate::diff::yuan;
use crate::jurisdiction::Jurisdiction;
use campaign::{AwardId, Delivery, Fen, Plan, PrizeId, PrizeKind, RoundId, UserId};
use serde::Serialize;
use std::io::{self, Write};

/// Winners of more than this are published in China: 500 yuan.
pub const CN_WINNERS_ABOVE: Fen = Fen(50_000);
/// Years for which records of a draw are kept in China.
pub const CN_RETENTION_YEARS: i16 = 2;

/// How far an award has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AwardState {
    /// Won; waits for its claim or its delivery.
    Won,
    /// With the player: paid, or handed over.
    Delivered,
    /// Not claimed in time.
    Lapsed,
    /// Could not be delivered, and is not tried again.
    Failed,
}

impl AwardState {
    /// Word for lists.
    pub fn name(self) -> &'static str {
        match self {
            AwardState::Won => "won",
            AwardState::Delivered => "delivered",
            AwardState::Lapsed => "lapsed",
            AwardState::Failed => "failed",
        }
    }
}

/// An award as lists need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwardRow {
    /// The award.
    pub award: AwardId,
    /// Who won.
    pub user: UserId,
    /// The round.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
    /// What it is.
    pub kind: PrizeKind,
    /// Amount of cash; 0 for others.
    pub fen: Fen,
    /// What it is worth, where it is not cash and the file says so (`Stated::values`).
    pub value: Option<Fen>,
    /// When it was won, ms UTC.
    pub at_ms: u64,
    /// How far it has come.
    pub state: AwardState,
}

impl AwardRow {
    /// What it is worth to the winner.
    pub fn worth(&self) -> Fen {
        if self.kind == PrizeKind::Cash { self.fen } else { self.value.unwrap_or(Fen::ZERO) }
    }
}

/// Winners of more than an amount, as CSV. Rows in any order; they come out in the same.
pub struct WinnersCsv {
    above: Fen,
    zone: Zone,
}

impl WinnersCsv {
    /// Header of the list.
    pub const HEADER: &'static str = "award,user,round,prize,kind,yuan,won_at,state\r\n";

    /// A list of awards worth more than `above`, times in the plan's zone.
    pub fn new(above: Fen, plan: &Plan) -> WinnersCsv {
        WinnersCsv { above, zone: zone_of(plan) }
    }

    /// Writes the row if it belongs to the list, and says whether it does. Lapsed and failed awards do not: nobody
    /// has won them in the end.
    ///
    /// # Errors
    /// The writer's.
    pub fn row(&self, row: &AwardRow, out: &mut impl Write) -> io::Result<bool> {
        let gone = matches!(row.state, AwardState::Lapsed | AwardState::Failed);
        if gone || row.worth() <= self.above {
            return Ok(false);
        }
        write!(
            out,
            "{},{},{},{},{},{},{},{}\r\n",
            row.award,
            row.user,
            row.round,
            row.prize,
            row.kind.name(),
            row.worth(),
            self.zone.show(row.at_ms),
            row.state.name()
        )?;
        Ok(true)
    }
}

/// Tax on one payment: 20 % of it (incidental income in China), rounded to the nearest fen. A fifth of whole fen never lies half-way, so that
/// the nearest is always one.
pub fn tax(paid: Fen) -> Fen {
    debug_assert!(paid >= Fen::ZERO);
    // (20 x + 50) / 100 is (x + 2.5) / 5; fifths make that (x + 2) / 5 for whole x.
    Fen(paid.0 / 5 + (paid.0 % 5 + 2) / 5)
}

/// A row that came behind one of a later user.
#[derive(Debug, thiserror::Error)]
pub enum TaxError {
    /// Rows must be ordered by user, or a user would be listed twice.
    #[error("award {award} of user {user} comes behind user {last}: order the rows by user")]
    Order {
        /// The award.
        award: AwardId,
        /// Its user.
        user: UserId,
        /// The user before.
        last: UserId,
    },
    /// More money than an `i64` of fen counts.
    #[error("user {0} was paid more than can be counted")]
    Sum(UserId),
    /// The writer.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// What a user was paid and what tax is due on it, as CSV, by user.
///
/// Counted is cash that was paid. Each payment is an occasion of its own in the sense of the income tax law: it is
/// taxed by itself, rounded by itself ([`tax`]), and the user's tax is the sum. Rows must come ordered by user;
/// the memory needed is that of one user's sums.
#[derive(Default)]
pub struct TaxCsv {
    current: Option<TaxRow>,
    total: TaxTotal,
}

/// A user's sums.
struct TaxRow {
    user: UserId,
    payments: u64,
    paid: Fen,
    tax: Fen,
}

/// Sums of a whole list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TaxTotal {
    /// Users listed.
    pub users: u64,
    /// Payments.
    pub payments: u64,
    /// Fen paid.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub paid_fen: i128,
    /// Fen of tax.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub tax_fen: i128,
}

impl TaxCsv {
    /// Header of the list.
    pub const HEADER: &'static str = "user,payments,paid_yuan,tax_yuan\r\n";

    /// Counts a row; writes the user before when a new one begins.
    ///
    /// # Errors
    /// When rows are not ordered by user, sums leave their range, or the writer fails. The list is then void.
    pub fn row(&mut self, row: &AwardRow, out: &mut impl Write) -> Result<(), TaxError> {
        if let Some(last) = self.current.as_ref().map(|c| c.user).filter(|last| *last > row.user) {
            return Err(TaxError::Order { award: row.award, user: row.user, last });
        }
        if self.current.as_ref().is_none_or(|c| c.user != row.user) {
            self.flush(out)?;
            self.current = Some(TaxRow { user: row.user, payments: 0, paid: Fen::ZERO, tax: Fen::ZERO });
        }
        let paid = row.kind == PrizeKind::Cash && row.state == AwardState::Delivered && row.fen > Fen::ZERO;
        if let Some(current) = self.current.as_mut().filter(|_| paid) {
            current.payments += 1;
            current.paid = current.paid.checked_add(row.fen).ok_or(TaxError::Sum(row.user))?;
            // Each tax is below its payment, so the sum is too.
            current.tax += tax(row.fen);
        }
        Ok(())
    }

    /// Writes the last user and gives the sums of all.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self, out: &mut impl Write) -> Result<TaxTotal, TaxError> {
        self.flush(out)?;
        Ok(self.total)
    }

    fn flush(&mut self, out: &mut impl Write) -> Result<(), TaxError> {
        let Some(row) = self.current.take().filter(|r| r.payments > 0) else { return Ok(()) };
        write!(out, "{},{},{},{}\r\n", row.user, row.payments, row.paid, row.tax)?;
        self.total.users += 1;
        self.total.payments += row.payments;
        self.total.paid_fen += i128::from(row.paid.0);
        self.total.tax_fen += i128::from(row.tax.0);
        Ok(())
    }
}

/// Winners above an amount, from rows to CSV with its header; says how many there are.
///
/// # Errors
/// The writer's.
pub fn winners_csv(
    rows: impl IntoIterator<Item = AwardRow>,
    above: Fen,
    plan: &Plan,
    out: &mut impl Write,
) -> io::Result<u64> {
    out.write_all(WinnersCsv::HEADER.as_bytes())?;
    let list = WinnersCsv::new(above, plan);
    let mut written = 0;
    for row in rows {
        written += u64::from(list.row(&row, out)?);
    }
    Ok(written)
}

/// Tax by user, from rows ordered by user to CSV with its header.
///
/// # Errors
/// As [`TaxCsv::row`].
pub fn tax_csv(rows: impl IntoIterator<Item = AwardRow>, out: &mut impl Write) -> Result<TaxTotal, TaxError> {
    out.write_all(TaxCsv::HEADER.as_bytes())?;
    let mut list = TaxCsv::default();
    for row in rows {
        list.row(&row, out)?;
    }
    list.finish(out)
}

/// Until when something must be kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Retained {
    /// What.
    pub records: &'static str,
    /// Until when at least, ms UTC.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub until_ms: u64,
    /// The same in the campaign's zone.
    pub until: String,
    /// Why so long.
    pub why: String,
}

/// Which records of a campaign must be kept until when. Counted in calendar years of the campaign's zone from the
/// end of the campaign: the close of its last round, or the last instant at which a prize of it can be claimed.
pub fn retention(plan: &Plan, jurisdiction: Jurisdiction) -> Vec<Retained> {
    let years = match jurisdiction {
        Jurisdiction::Cn => CN_RETENTION_YEARS,
    };
    let zone = zone_of(plan);
    let close_ms = plan.rounds.iter().map(|r| r.close_ms).max().unwrap_or(0);
    let claims = plan.rounds.iter().flat_map(|r| {
        r.prizes.iter().filter_map(|p| match p.delivery {
            Delivery::AtOnce => None,
            Delivery::OnClaim { term_ms } => Some(r.close_ms.saturating_add(term_ms)),
        })
    });
    let end_ms = claims.max().unwrap_or(0).max(close_ms);
    let kept = |records, from_ms: u64, from: &str| {
        let until_ms = zone.years_later(from_ms, years);
        let why = format!("{years} years from {from}, {}", zone.show(from_ms));
        Retained { records, until_ms, until: zone.show(until_ms), why }
    };
    vec![
        kept("plan: versions, sources, approvals, audit trail", end_ms, "the end of the campaign"),
        kept("disclosure: the text that was published", end_ms, "the end of the campaign"),
        kept("draws: entries, awards, round seeds", close_ms, "the close of the last round"),
        kept("prizes: winners, claims, deliveries, tax", end_ms, "the end of the campaign"),
    ]
}

fn zone_of(plan: &Plan) -> Zone {
    calendar::zone(&plan.time_zone).unwrap_or_else(|_| Zone::utc())
}

impl std::fmt::Display for TaxTotal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (paid, tax) = (yuan(self.paid_fen), yuan(self.tax_fen));
        write!(f, "{} users, {} payments, {paid} yuan paid, {tax} yuan of tax", self.users, self.payments)
    }
}
