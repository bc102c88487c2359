//! The matching core: sorted rows in, totals and breaks out. Pure but for errors that its iterators hand through; it keeps
//! one award, one unit or one user at a time, and a line for each prize.

pub mod awards;
pub mod judge;
pub mod units;
pub mod users;

use crate::breaks::{Break, Kind};
use crate::rows::PrizeKey;
use campaign::Fen;
use std::collections::BTreeMap;
use std::io;

/// Patience: how old something may be before it is called missing, and who answers for what is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Now, ms UTC: handed in, so that the same books give the same report.
    pub now_ms: u64,
    /// How long an order may be on its way from flow to delivery.
    pub order_ms: u64,
    /// How long a payment may be missing from statements that are not final.
    pub statement_ms: u64,
    /// How long a delivery may stand still.
    pub stuck_ms: u64,
    /// How far a vendor's clock may be off.
    pub clock_ms: u64,
    /// Who answers for what is open; goes into every list of it.
    pub responsible: String,
}

impl Terms {
    /// The usual patience at an instant: a minute for orders, a day for statements and deliveries.
    pub fn at(now_ms: u64) -> Terms {
        const DAY_MS: u64 = 86_400_000;
        Terms {
            now_ms,
            order_ms: 60_000,
            statement_ms: DAY_MS,
            stuck_ms: DAY_MS,
            clock_ms: 1_000,
            responsible: "operator on duty".to_string(),
        }
    }
}

/// Units with their money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Units.
    pub units: i64,
    /// Money.
    pub fen: Fen,
}

impl Sum {
    /// Units with their money.
    pub fn of(units: u64, fen: Fen) -> Sum {
        Sum { units: units.cast_signed(), fen }
    }

    /// Adds one unit of this amount.
    pub fn one(&mut self, fen: Fen) {
        self.units += 1;
        self.fen = Fen(self.fen.0.saturating_add(fen.0));
    }

    /// Takes one unit of this amount off.
    pub fn less(&mut self, fen: Fen) {
        self.units -= 1;
        self.fen = Fen(self.fen.0.saturating_sub(fen.0));
    }
}

impl std::ops::Add for Sum {
    type Output = Sum;
    fn add(self, other: Sum) -> Sum {
        Sum { units: self.units + other.units, fen: Fen(self.fen.0.saturating_add(other.fen.0)) }
    }
}

impl std::ops::Sub for Sum {
    type Output = Sum;
    fn sub(self, other: Sum) -> Sum {
        Sum { units: self.units - other.units, fen: Fen(self.fen.0.saturating_sub(other.fen.0)) }
    }
}

/// What a prize comes to: a line of the settlement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Plan less what the ledger cancelled.
    pub budget: Sum,
    /// Awards in the flow archive.
    pub awarded: Sum,
    /// Delivered by the journal.
    pub delivered: Sum,
    /// Paid and not taken back by the statements.
    pub statement: Sum,
    /// In the journal, neither delivered nor lapsed.
    pub open: Sum,
    /// Lapsed by the journal.
    pub lapsed: Sum,
    /// Free in the ledger.
    pub unissued: Sum,
    /// In the ledger's open leases and not awarded.
    pub locked: Sum,
    /// Awarded so lately that the order may still be on its way.
    pub ordering: Sum,
    /// Delivered less statement, as far as time or a named open case explains it.
    pub explained: Sum,
    /// Some amounts could not be computed: a seed is missing.
    pub needs_seed: bool,
    /// The round is over.
    pub closed: bool,
    /// Its operator stopped it.
    pub paused: bool,
    /// The ledger has a row of it.
    pub in_ledger: bool,
}

/// Where the passes put what they find.
pub struct Findings<'a> {
    /// A line for each prize.
    pub totals: BTreeMap<PrizeKey, Totals>,
    /// Breaks of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// Paid for awards that nobody knows.
    pub foreign: Sum,
    /// Awards that several sources agree on.
    pub matched: u64,
    /// Answers to players that were compared.
    pub told: u64,
    /// MACs that were checked.
    pub macs: u64,
    sink: &'a mut dyn FnMut(Break) -> io::Result<()>,
}

impl<'a> Findings<'a> {
    /// Nothing found yet; breaks go to `sink`.
    pub fn new(sink: &'a mut dyn FnMut(Break) -> io::Result<()>) -> Findings<'a> {
        Findings {
            totals: BTreeMap::new(),
            counts: BTreeMap::new(),
            foreign: Sum::default(),
            matched: 0,
            told: 0,
            macs: 0,
            sink,
        }
    }

    /// The line of a prize.
    pub fn of(&mut self, key: PrizeKey) -> &mut Totals {
        self.totals.entry(key).or_default()
    }

    /// Adds a break.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn add(&mut self, found: Break) -> io::Result<()> {
        *self.counts.entry(found.kind).or_default() += 1;
        (self.sink)(found)
    }
}

/// An iterator of sorted rows that hands its group of equal keys out.
pub struct Groups<T, I: Iterator<Item = io::Result<T>>> {
    rows: std::iter::Peekable<I>,
}

impl<T, I: Iterator<Item = io::Result<T>>> Groups<T, I> {
    /// Groups of these rows.
    pub fn new(rows: I) -> Groups<T, I> {
        Groups { rows: rows.peekable() }
    }

    /// Looks at the next row.
    ///
    /// # Errors
    /// What the rows' source says.
    pub fn peek(&mut self) -> io::Result<Option<&T>> {
        if let Some(Err(_)) = self.rows.peek() {
            return self.rows.next().transpose().map(|_| None);
        }
        Ok(self.rows.peek().and_then(|row| row.as_ref().ok()))
    }

    /// Takes the next row if it is of the group.
    ///
    /// # Errors
    /// What the rows' source says.
    pub fn next_if(&mut self, of_group: impl FnOnce(&T) -> bool) -> io::Result<Option<T>> {
        match self.peek()? {
            Some(row) if of_group(row) => self.rows.next().transpose(),
            _ => Ok(None),
        }
    }
}
