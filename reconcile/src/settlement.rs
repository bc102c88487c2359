//! The settlement (结算): what each prize comes to, each law with its verdict, and the breaks.

use crate::breaks::{Break, Kind};
use crate::laws::{Law, Verdict};
use crate::matching::{Sum, Totals};
use crate::rows::PrizeKey;
use runtime::exit;

/// A line of the settlement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrizeLine {
    /// The prize.
    pub key: PrizeKey,
    /// The round's name.
    pub round_name: String,
    /// The prize's name.
    pub name: String,
    /// What it comes to.
    pub totals: Totals,
}

/// A column: its name, and how to read it.
pub type Column = (&'static str, fn(&Totals) -> Sum);

/// The columns, the same in every report.
pub const COLUMNS: [Column; 8] = [
    ("budget", |t| t.budget),
    ("awarded", |t| t.awarded),
    ("delivered", |t| t.delivered),
    ("statement", |t| t.statement),
    ("open", |t| t.open),
    ("lapsed", |t| t.lapsed),
    ("unissued", |t| t.unissued),
    ("locked", |t| t.locked),
];

/// How much was read of each source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Read {
    /// Groups of the flow archive.
    pub groups: u64,
    /// Awards.
    pub awards: u64,
    /// Steps of the journal.
    pub steps: u64,
    /// Statement rows.
    pub statement_rows: u64,
    /// Answers to players.
    pub told: u64,
    /// Run files that the sorting took.
    pub runs: u64,
    /// Most bytes of rows that a sort had in memory.
    pub resident_max: usize,
}

/// The result of a reconciliation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// The instant that ages are counted to, ms UTC.
    pub now_ms: u64,
    /// Who answers for what is open.
    pub responsible: String,
    /// The laws, 1 to 7.
    pub laws: Vec<Law>,
    /// A line for each prize, by campaign, round, prize.
    pub prizes: Vec<PrizeLine>,
    /// Breaks by kind and subject; at most [`BREAKS_KEPT_MAX`], all of them are in `breaks.csv`.
    pub breaks: Vec<Break>,
    /// Breaks of each kind.
    pub counts: Vec<(Kind, u64)>,
    /// Awards without any break.
    pub matched: u64,
    /// Paid for awards that nobody knows.
    pub foreign: Sum,
    /// How much was read.
    pub read: Read,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

/// Breaks that a settlement keeps in memory.
pub const BREAKS_KEPT_MAX: usize = 10_000;

impl Settlement {
    /// Every law was checked and holds.
    pub fn all_hold(&self) -> bool {
        self.laws.iter().all(|law| law.verdict == Verdict::Holds)
    }

    /// A law was checked and is broken.
    pub fn any_broken(&self) -> bool {
        self.laws.iter().any(|law| law.verdict == Verdict::Broken)
    }

    /// Exit code of a process that settles: see [`runtime::exit`].
    pub fn exit_code(&self) -> u8 {
        match (self.any_broken(), self.all_hold()) {
            (true, _) => exit::CHECK_FAILED,
            (false, true) => exit::OK,
            (false, false) => exit::NOT_ALL_CHECKED,
        }
    }

    /// Number of breaks, those that are not kept in memory too.
    pub fn break_count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Sum of a column over all prizes.
    pub fn total(&self, column: impl Fn(&Totals) -> Sum) -> Sum {
        self.prizes.iter().fold(Sum::default(), |sum, line| sum + column(&line.totals))
    }
}
