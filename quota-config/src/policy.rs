//! Which changes need a second person.
//!
//! A rule of thumb of those who lost money: what gives out more, or lets more be given out, is looked at by two
//! people; what gives out less never waits. The thresholds are an installation's own.

use crate::diff::{Diff, count, yuan};
use serde::{Deserialize, Serialize};

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
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { budget_up_fen: 1_000_000, budget_up_units: 10_000, speed_up_percent: 20, limit_up: true }
    }
}

impl Policy {
    /// Why a change needs a second person; empty if one suffices.
    pub fn needs_two(&self, diff: &Diff) -> Vec<String> {
        let mut reasons = Vec::new();
        let (fen, units) = (diff.budget.fen_up, diff.budget.units_up);
        if fen > i128::from(self.budget_up_fen) {
            let most = yuan(i128::from(self.budget_up_fen));
            reasons.push(format!("{} yuan are added; one person may add {most}", yuan(fen)));
        }
        if units > i128::from(self.budget_up_units) {
            let most = count(u128::from(self.budget_up_units));
            reasons
                .push(format!("{} units are added; one person may add {most}", count(units.unsigned_abs())));
        }
        if self.limit_up {
            reasons.extend(diff.limits_raised.iter().map(|limit| {
                let after = if limit.after == 0 { "no limit".into() } else { limit.after.to_string() };
                format!("limits.{} is raised from {} to {after}", limit.limit, limit.before)
            }));
        }
        self.speeds(diff, &mut reasons);
        reasons.extend(diff.stops_lifted.iter().map(|target| format!("the stop of {target} is lifted")));
        reasons
    }

    fn speeds(&self, diff: &Diff, reasons: &mut Vec<String>) {
        const SHOWN: usize = 20;
        let most = self.speed_up_percent;
        let high = diff.speeds_raised.iter().filter(|s| s.percent.is_none_or(|p| p > u64::from(most)));
        let mut more = 0;
        for (i, speed) in high.enumerate() {
            if i >= SHOWN {
                more += 1;
                continue;
            }
            reasons.push(match speed.percent {
                Some(percent) => {
                    format!("{} is raised by {percent}%; one person may raise it by {most}%", speed.path)
                }
                None => format!("{} is taken away: there is no limit any more", speed.path),
            });
        }
        if more > 0 {
            reasons.push(format!("{more} further speeds are raised by more than {most}%"));
        }
    }
}
