//! Which changes need a second person.
//!
//! A rule of thumb of those who lost money: what gives out more, or lets more be given out, is looked at by two
//! people; what gives out less never waits. The thresholds are an installation's own.

use crate::diff::{Diff, SpeedRaised, count, yuan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Thresholds above which a change needs a second person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Money added in one change, in fen, that one person may add. Only rises count: what other prizes lose is
    /// not taken off.
    pub budget_up_fen: i64,
    /// Units added in one change that one person may add.
    pub budget_up_units: u64,
    /// By how much one person may raise a speed, in percent of what it was.
    pub speed_up_percent: u32,
    /// Whether every raised win limit needs two.
    pub limit_up: bool,
    /// Raises of budgets and speeds that one person made within so many hours count together; 0: each by itself.
    pub window_hours: u32,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            budget_up_fen: 1_000_000,
            budget_up_units: 10_000,
            speed_up_percent: 20,
            limit_up: true,
            window_hours: 24,
        }
    }
}

impl Policy {
    /// Whether a change raises something that is counted together with what was raised before it.
    pub fn adds_up(&self, diff: &Diff) -> bool {
        diff.budget.fen_up > 0 || diff.budget.units_up > 0 || !diff.speeds_raised.is_empty()
    }

    /// Why a change needs a second person; empty if one suffices. `alone`: what one person alone would have changed
    /// within the window, this change among it; `None`: nothing but this.
    pub fn needs_two(&self, diff: &Diff, alone: Option<&Diff>) -> Vec<String> {
        let mut reasons = Vec::new();
        self.budgets(diff, alone, &mut reasons);
        if self.limit_up {
            reasons.extend(diff.limits_raised.iter().map(|limit| {
                let after = if limit.after == 0 { "no limit".into() } else { limit.after.to_string() };
                format!("limits.{} is raised from {} to {after}", limit.limit, limit.before)
            }));
        }
        self.speeds(diff, alone, &mut reasons);
        reasons.extend(diff.stops_lifted.iter().map(|target| format!("the stop of {target} is lifted")));
        reasons
    }

    fn budgets(&self, diff: &Diff, alone: Option<&Diff>, reasons: &mut Vec<String>) {
        let (most_fen, most_units) = (i128::from(self.budget_up_fen), i128::from(self.budget_up_units));
        let hours = self.window_hours;
        let fen = |diff: &Diff| Some(diff.budget.fen_up).filter(|fen| *fen > most_fen);
        if let Some(fen) = fen(diff) {
            reasons.push(format!("{} yuan are added; one person may add {}", yuan(fen), yuan(most_fen)));
        } else if let Some(fen) = alone.filter(|_| diff.budget.fen_up > 0).and_then(fen) {
            let most = yuan(most_fen);
            reasons.push(format!(
                "{} yuan are added within {hours} hours; one person may add {most}",
                yuan(fen)
            ));
        }
        let units = |diff: &Diff| Some(diff.budget.units_up).filter(|units| *units > most_units);
        let shown = |units: i128| count(units.unsigned_abs());
        if let Some(units) = units(diff) {
            reasons.push(format!(
                "{} units are added; one person may add {}",
                shown(units),
                shown(most_units)
            ));
        } else if let Some(units) = alone.filter(|_| diff.budget.units_up > 0).and_then(units) {
            let most = shown(most_units);
            reasons.push(format!(
                "{} units are added within {hours} hours; one person may add {most}",
                shown(units)
            ));
        }
    }

    fn speeds(&self, diff: &Diff, alone: Option<&Diff>, reasons: &mut Vec<String>) {
        const SHOWN: usize = 20;
        let (most, hours) = (self.speed_up_percent, self.window_hours);
        let is_high = |s: &SpeedRaised| s.percent.is_none_or(|p| p > u64::from(most));
        let before: BTreeMap<&str, &SpeedRaised> =
            alone.iter().flat_map(|d| &d.speeds_raised).map(|s| (s.path.as_str(), s)).collect();
        let high = diff.speeds_raised.iter().filter_map(|speed| {
            if is_high(speed) {
                return Some((speed, String::new()));
            }
            let all = before.get(speed.path.as_str()).copied().filter(|s| is_high(s))?;
            Some((all, format!(" within {hours} hours")))
        });
        let mut more = 0;
        for (i, (speed, within)) in high.enumerate() {
            if i >= SHOWN {
                more += 1;
                continue;
            }
            reasons.push(match speed.percent {
                Some(percent) => {
                    format!(
                        "{} is raised by {percent}%{within}; one person may raise it by {most}%",
                        speed.path
                    )
                }
                None => format!("{} is taken away: there is no limit any more", speed.path),
            });
        }
        if more > 0 {
            reasons.push(format!("{more} further speeds are raised by more than {most}%"));
        }
    }
}
