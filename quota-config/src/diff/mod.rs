//! What one plan changes of another: for the people who approve it, and for the rules that decide who must.
//!
//! Plans are compared, not files: an edit that moves no number is no difference, and a number that a prize set
//! moves in a hundred rounds is a hundred differences. Paths name things as commands do (`prize:2/11.weight`).
//! A difference lists at most [`ENTRIES_MAX`] entries and [`SUMMARY_MAX`] lines; what decides approvals (budgets,
//! limits, speeds) is counted in full however long the list is.

mod compare;
mod summary;
#[cfg(test)]
mod tests;
mod text;

use campaign::{Fen, Plan, PrizeId, PrizeKind, RoundId, VendorId};
use serde::Serialize;

pub(crate) use compare::percent;
pub use text::{count, signed_count, yuan};
pub(crate) use text::{id as text_id, ids as text_ids, kind as text_kind};
pub(crate) use text::{number as text_number, option as text_option};

/// Most entries that a difference lists.
pub const ENTRIES_MAX: usize = 2_000;
/// Most lines of a summary.
pub const SUMMARY_MAX: usize = 100;

/// Everything that a plan changes of the one before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Diff {
    /// Whether there was no plan before.
    pub first: bool,
    /// Each change, by place; at most [`ENTRIES_MAX`].
    pub entries: Vec<DiffEntry>,
    /// Changes that the list has no room for.
    pub entries_left_out: u64,
    /// The change for people, the most important first; at most [`SUMMARY_MAX`] lines.
    pub summary: Vec<String>,
    /// Change of all budgets together.
    pub budget: BudgetChange,
    /// Prizes whose planned units or money differ, those of new and removed rounds among them.
    pub prizes: Vec<PrizeBudget>,
    /// Win limits that allow more than before.
    pub limits_raised: Vec<LimitRaised>,
    /// Speeds that allow more than before.
    pub speeds_raised: Vec<SpeedRaised>,
    /// Weights that differ.
    pub weights: Vec<WeightChange>,
    /// Rounds that the plan before had not.
    #[serde(serialize_with = "text::ids")]
    pub rounds_added: Vec<RoundId>,
    /// Rounds that the new plan has no more.
    #[serde(serialize_with = "text::ids")]
    pub rounds_removed: Vec<RoundId>,
    /// Prizes that are paused now and were not, as `ROUND/PRIZE`.
    pub paused: Vec<String>,
    /// Prizes that give out again, as `ROUND/PRIZE`.
    pub resumed: Vec<String>,
    /// Stops that are lifted, as text of their target. Plans can't tell a stop from a pause, so that
    /// whoever knows the adjustments fills this in before asking the policy.
    pub stops_lifted: Vec<String>,
    /// When prizes will be exhausted, where [`crate::forecast::explain`] was asked and the change moves it.
    pub exhaustion: Vec<Exhaustion>,
    /// Places that a grey release may not touch; at most [`ENTRIES_MAX`].
    pub fixed: Vec<String>,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DiffEntry {
    /// Where: `limits.wins_per_day`, `vendor:3.release_per_second`, `region:north.districts`, `round:2.close`,
    /// `prize:2/11.weight`.
    pub path: String,
    /// The value before; `None` where there was none.
    pub before: Option<String>,
    /// The value now; `None` where there is none.
    pub after: Option<String>,
    /// What it does; empty where before and after say it all.
    pub effect: String,
}

/// Change of all budgets. Sums over many prizes may leave the range of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BudgetChange {
    /// Units more (or fewer) in all.
    #[serde(serialize_with = "text::number")]
    pub units: i128,
    /// Fen more (or less) in all.
    #[serde(serialize_with = "text::number")]
    pub fen: i128,
    /// Units more of those prizes that get more. What others lose is not taken off: money that moves from one
    /// prize to another is money newly given.
    #[serde(serialize_with = "text::number")]
    pub units_up: i128,
    /// Fen more of those prizes that get more.
    #[serde(serialize_with = "text::number")]
    pub fen_up: i128,
}

/// Change of one prize's budget.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PrizeBudget {
    /// The round.
    #[serde(serialize_with = "text::id")]
    pub round: RoundId,
    /// The prize.
    #[serde(serialize_with = "text::id")]
    pub prize: PrizeId,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(serialize_with = "text::kind")]
    pub kind: PrizeKind,
    /// Units more, or fewer.
    #[serde(serialize_with = "text::number")]
    pub units: i128,
    /// Fen more, or less.
    #[serde(serialize_with = "text::number")]
    pub fen: i128,
}

/// A win limit that allows more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LimitRaised {
    /// Key of the limit in the file.
    pub limit: &'static str,
    /// Before.
    pub before: u16,
    /// Now; 0: no limit.
    pub after: u16,
}

/// A speed that allows more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SpeedRaised {
    /// Where.
    pub path: String,
    /// Before, units a second (percent, for a catch-up speed).
    #[serde(serialize_with = "text::number")]
    pub before: u64,
    /// Now; 0: no limit.
    #[serde(serialize_with = "text::number")]
    pub after: u64,
    /// By how much, in percent rounded up; `None` where the limit is gone.
    pub percent: Option<u64>,
}

/// A weight that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WeightChange {
    /// The round.
    #[serde(serialize_with = "text::id")]
    pub round: RoundId,
    /// The prize.
    #[serde(serialize_with = "text::id")]
    pub prize: PrizeId,
    /// Before.
    pub before: u32,
    /// Now.
    pub after: u32,
}

/// How a change moves the end of a prize.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Exhaustion {
    /// The round.
    #[serde(serialize_with = "text::id")]
    pub round: RoundId,
    /// The prize.
    #[serde(serialize_with = "text::id")]
    pub prize: PrizeId,
    /// When the last unit would have been won, ms UTC; `None`: some would have been left over.
    #[serde(serialize_with = "text::option")]
    pub before_ms: Option<u64>,
    /// When it will be.
    #[serde(serialize_with = "text::option")]
    pub after_ms: Option<u64>,
    /// Both for people, in the campaign's zone: `exhausted 21:14:00 instead of 21:03:00`.
    pub text: String,
}

impl Diff {
    /// What `after` changes of `before`; everything in it is new where there was none.
    pub fn between(before: Option<&Plan>, after: &Plan) -> Diff {
        let mut diff = Diff { first: before.is_none(), ..Diff::default() };
        match before {
            Some(before) => compare::plans(before, after, &mut diff),
            None => compare::first(after, &mut diff),
        }
        diff.summary = summary::lines(before, after, &diff);
        diff
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        !self.first && self.entries.is_empty() && self.stops_lifted.is_empty()
    }

    /// Whether this may go out as a grey release: weights, regions, limits, client pacing, stagger and speeds only, for
    /// budgets and times are one for all players, and pauses come from the active version.
    ///
    /// # Errors
    /// What must first be taken out, one place each.
    pub fn only_grey(&self) -> Result<(), Vec<String>> {
        if self.fixed.is_empty() { Ok(()) } else { Err(self.fixed.clone()) }
    }

    fn note(&mut self, path: String, before: Option<String>, after: Option<String>, effect: String) {
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(DiffEntry { path, before, after, effect });
        } else {
            self.entries_left_out += 1;
        }
    }

    /// Notes a change that a grey release may not make.
    fn note_fixed(&mut self, path: String, before: Option<String>, after: Option<String>, effect: String) {
        if self.fixed.len() < ENTRIES_MAX {
            self.fixed.push(format!("{path}: {}", why_fixed(&path)));
        }
        self.note(path, before, after, effect);
    }

    fn note_budget(
        &mut self,
        round: RoundId,
        before: Option<&campaign::Prize>,
        now: Option<&campaign::Prize>,
    ) {
        let of = |p: Option<&campaign::Prize>| {
            p.map_or((0, 0), |p| (i128::from(p.units()), i128::from(p.fen().0)))
        };
        let ((units_before, fen_before), (units_now, fen_now)) = (of(before), of(now));
        let (units, fen) = (units_now - units_before, fen_now - fen_before);
        let Some(prize) = now.or(before).filter(|_| units != 0 || fen != 0) else { return };
        self.budget.units += units;
        self.budget.fen += fen;
        self.budget.units_up += units.max(0);
        self.budget.fen_up += fen.max(0);
        let (name, kind) = (prize.name.clone(), prize.kind);
        self.prizes.push(PrizeBudget { round, prize: prize.id, name, kind, units, fen });
    }

    fn note_speed(&mut self, path: &str, before: u64, after: u64) {
        if before == 0 || (after != 0 && after <= before) {
            return;
        }
        let more = |after: u64| (u128::from(after - before) * 100).div_ceil(u128::from(before));
        let percent = (after != 0).then(|| u64::try_from(more(after)).unwrap_or(u64::MAX));
        self.speeds_raised.push(SpeedRaised { path: path.to_string(), before, after, percent });
    }
}

fn why_fixed(path: &str) -> &'static str {
    if path.ends_with(".paused") {
        return "pauses come from the active version; pause or resume for all";
    }
    "a grey release changes weights, regions, limits, client pacing, stagger and speeds only; publish this for all"
}

/// A sum of money that may leave the range of [`Fen`].
fn fen_text(fen: i128) -> String {
    yuan(fen)
}

/// `ROUND/PRIZE`.
fn at(round: RoundId, prize: PrizeId) -> String {
    format!("{round}/{prize}")
}

fn vendor_path(id: VendorId, key: &str) -> String {
    format!("vendor:{id}.{key}")
}

fn money(fen: Fen) -> String {
    fen_text(i128::from(fen.0))
}
