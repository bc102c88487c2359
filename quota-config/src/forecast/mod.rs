//! When each prize of a round will be exhausted, given how many players come.
//!
//! The release is reckoned in slots of 100 ms by the rules that the ledger grants by: what the curve has released
//! and is not won yet may be won at the curve's speed, or at the catch-up speed if that is more, never above the
//! prize's and its vendor's limits; in the last three seconds the rest is spread evenly. What is won follows the
//! draw: an entry picks a prize by weight and takes the next one that is winnable, so that it wins whenever
//! anything is. It is an expectation: leases are a stock of at most two seconds' units, and there are no win limits
//! of players and no chance.
//!
//! Long rounds are reckoned in steps of several slots, [`STEPS_MAX`] a round; a time is then that much coarser.

mod explain;
mod step;
#[cfg(test)]
mod tests;

use campaign::plan::CURVE_TAIL_MS;
use campaign::{Plan, PrizeId, Round, RoundId, SLOT_MS};
use serde::Serialize;
use step::Grant;

pub use explain::explain;

/// Most steps that a round is reckoned in: up to six minutes in slots of 100 ms, an hour in seconds.
pub const STEPS_MAX: u64 = 3_600;
/// From so long before the close on nothing is granted.
const LAST_GRANT_MS: u64 = 300;
/// The rest is spread until so long before the close.
const SPREAD_END_MS: u64 = 1_000;

/// Entries a second over a round.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Demand {
    /// More players than prizes at every instant: whatever is winnable is won at once.
    #[default]
    Unbounded,
    /// Entries a second from so many ms after the opening on, times rising; none before the first.
    Entries(Vec<(u64, f64)>),
}

impl Demand {
    /// Entries in `from .. to`, ms since the opening.
    fn entries(&self, from_ms: u64, to_ms: u64) -> f64 {
        match self {
            Demand::Unbounded => f64::INFINITY,
            Demand::Entries(steps) => {
                let mut sum = 0.0;
                let first = steps.partition_point(|s| s.0 <= from_ms).saturating_sub(1);
                for (i, (at, rate)) in steps.iter().enumerate().skip(first) {
                    if *at >= to_ms {
                        break;
                    }
                    let end = steps.get(i + 1).map_or(to_ms, |next| next.0.min(to_ms));
                    sum += rate.max(0.0) * end.saturating_sub((*at).max(from_ms)) as f64 / 1000.0;
                }
                sum
            }
        }
    }
}

/// How a prize of a running round stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The prize.
    pub prize: PrizeId,
    /// Units won.
    pub awarded: u64,
    /// Units that there are in all; `None`: as planned. Less where it was lowered.
    pub budget: Option<u64>,
    /// Units that the curve has released; `None`: as if the plan had held since the opening.
    pub released: Option<u64>,
}

/// The state of a running round.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Live {
    /// Now, ms UTC.
    pub now_ms: u64,
    /// Its prizes; those that are not named begin with nothing won.
    pub prizes: Vec<Standing>,
}

/// What becomes of a prize.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PrizeForecast {
    /// The prize.
    #[serde(serialize_with = "crate::diff::text_id")]
    pub prize: PrizeId,
    /// Its name.
    pub name: String,
    /// Units that there are.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub units: u64,
    /// Units won by the close.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub awarded: u64,
    /// When the last unit is won, ms UTC; `None`: some are left over at the close.
    #[serde(serialize_with = "crate::diff::text_option")]
    pub exhausted_ms: Option<u64>,
}

/// What becomes of a round.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RoundForecast {
    /// The round.
    #[serde(serialize_with = "crate::diff::text_id")]
    pub round: RoundId,
    /// How exact the times are, ms.
    pub step_ms: u64,
    /// Its prizes in the order of the file.
    pub prizes: Vec<PrizeForecast>,
}

/// Reckons a round from its opening, or from how it stands now.
pub fn forecast_round(plan: &Plan, round: &Round, demand: &Demand, live: Option<&Live>) -> RoundForecast {
    let open_ms = round.open_ms;
    let begin_ms = live.map_or(open_ms, |l| l.now_ms.clamp(open_ms, round.close_ms));
    let last_ms = round.close_ms.saturating_sub(LAST_GRANT_MS).max(open_ms);
    let slots = last_ms.saturating_sub(begin_ms).div_ceil(SLOT_MS);
    let step_ms = slots.div_ceil(STEPS_MAX).max(1) * SLOT_MS;
    let mut state = step::State::new(plan, round, begin_ms, live);
    let tail_ms = round.close_ms.saturating_sub(CURVE_TAIL_MS).max(open_ms);
    let spread_end_ms = round.close_ms.saturating_sub(SPREAD_END_MS);
    let mut at_ms = begin_ms;
    while at_ms < round.close_ms && !state.done() {
        // The last seconds are reckoned slot by slot in any case.
        let (grant, until_ms) = if at_ms < tail_ms {
            (Some(Grant::Curve), tail_ms.min(at_ms + step_ms))
        } else if at_ms < last_ms {
            let slots = spread_end_ms.saturating_sub(at_ms).div_ceil(SLOT_MS).max(1);
            (Some(Grant::Spread { slots }), last_ms.min(at_ms + SLOT_MS))
        } else {
            (None, round.close_ms.min(at_ms + SLOT_MS))
        };
        state.step(at_ms, until_ms, grant, demand.entries(at_ms - open_ms, until_ms - open_ms));
        at_ms = until_ms;
    }
    RoundForecast { round: round.id, step_ms, prizes: state.finish() }
}

/// Reckons all rounds that are not over, each with the same demand; a round that runs, from how it stands.
pub fn forecast(plan: &Plan, demand: &Demand, live: Option<&Live>) -> Vec<RoundForecast> {
    let now_ms = live.map_or(0, |l| l.now_ms);
    let ahead = plan.rounds.iter().filter(|r| r.close_ms > now_ms);
    ahead.map(|r| forecast_round(plan, r, demand, live.filter(|_| r.open_ms <= now_ms))).collect()
}
