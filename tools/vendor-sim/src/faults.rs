//! What goes wrong, decided by keyed hash: the same seed gives the same faults, in any order and after any restart.
//!
//! What meets an attempt depends on (seed, vendor, number, attempt); what becomes of a payout on (seed, vendor, number),
//! so that it does not matter which attempt got through. Chances and times come from the vendor's [`Live`] settings at
//! that moment.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::config::{Live, Outage, PPM};
use crate::payout::{Plan, RowFate};

/// The dice of one vendor.
#[derive(Debug, Clone, Copy)]
pub struct Dice {
    seed: u64,
    vendor: u32,
}

/// What each throw is for; throws are independent of each other.
#[derive(Debug, Clone, Copy)]
enum Throw {
    Attempt = 1,
    Query,
    AcceptDelay,
    Latency,
    Refuse,
    Outcome,
    LateTime,
    Reversed,
    ReverseTime,
    Row,
    Callback,
    CallbackDelay,
    CallbackCopyDelay,
    Account,
}

/// What meets an attempt to pay or to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptFault {
    /// All well.
    None,
    /// Nothing is taken and nothing answered.
    TimeoutBefore,
    /// Taken (so many ms later), and nothing answered.
    TimeoutAfter {
        /// When it is taken.
        accept_delay_ms: u64,
    },
    /// Nothing is taken; 500.
    ErrorBefore,
    /// Taken; 500.
    ErrorAfter,
}

impl Dice {
    /// For one vendor.
    #[must_use]
    pub fn new(seed: u64, vendor: u32) -> Self {
        Self { seed, vendor }
    }

    fn throw(&self, what: Throw, name: &str, attempt: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, u64::from(self.vendor));
        hasher.write_u64(what as u64);
        hasher.write_u64(attempt);
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    /// 0 to 999,999.
    fn ppm(&self, what: Throw, name: &str, attempt: u64) -> u32 {
        below(self.throw(what, name, attempt), u64::from(PPM)) as u32
    }

    fn between(&self, what: Throw, name: &str, low: u32, high: u32) -> u64 {
        let span = u64::from(high - low) + 1;
        u64::from(low) + below(self.throw(what, name, 0), span)
    }

    /// What meets this attempt to pay.
    #[must_use]
    pub fn attempt(&self, live: &Live, number: &str, attempt: u64) -> AttemptFault {
        let chances =
            [live.timeout_before_ppm, live.timeout_after_ppm, live.error_before_ppm, live.error_after_ppm];
        match pick(self.ppm(Throw::Attempt, number, attempt), &chances) {
            Some(0) => AttemptFault::TimeoutBefore,
            Some(1) => {
                let span = u64::from(live.accept_delay_ms_max) + 1;
                let accept_delay_ms = below(self.throw(Throw::AcceptDelay, number, attempt), span);
                AttemptFault::TimeoutAfter { accept_delay_ms }
            }
            Some(2) => AttemptFault::ErrorBefore,
            Some(_) => AttemptFault::ErrorAfter,
            None => AttemptFault::None,
        }
    }

    /// What meets this attempt to ask.
    #[must_use]
    pub fn query(&self, live: &Live, number: &str, attempt: u64) -> AttemptFault {
        match pick(self.ppm(Throw::Query, number, attempt), &[live.query_timeout_ppm, live.query_error_ppm]) {
            Some(0) => AttemptFault::TimeoutBefore,
            Some(_) => AttemptFault::ErrorBefore,
            None => AttemptFault::None,
        }
    }

    /// Time to answer, ms: min plus exponential with the mean, cut at the tail.
    #[must_use]
    pub fn latency_ms(&self, live: &Live, number: &str, attempt: u64) -> u64 {
        let l = live.latency;
        if l.mean_ms == l.min_ms {
            return u64::from(l.min_ms);
        }
        let uniform = (self.throw(Throw::Latency, number, attempt) >> 11) as f64 / (1u64 << 53) as f64;
        let above = -(1.0 - uniform).ln() * f64::from(l.mean_ms - l.min_ms);
        u64::from(l.min_ms).saturating_add(above.round() as u64).min(u64::from(l.tail_ms))
    }

    /// Whether this number is refused for good.
    #[must_use]
    pub fn refused(&self, live: &Live, number: &str) -> bool {
        self.ppm(Throw::Refuse, number, 0) < live.refuse_ppm
    }

    /// Whether this payee has no account of its own accord.
    #[must_use]
    pub fn without_account(&self, live: &Live, payee: &str) -> bool {
        live.require_account && self.ppm(Throw::Account, payee, 0) < live.account_missing_ppm
    }

    /// What becomes of a payout taken at `now_ms`.
    #[must_use]
    pub fn plan(&self, live: &Live, number: &str, now_ms: u64) -> Plan {
        let fate =
            pick(self.ppm(Throw::Outcome, number, 0), &[live.late_ppm, live.fail_ppm, live.unfamiliar_ppm]);
        let failed = fate == Some(1);
        // At least 1 ms, so that `accepted` is seen before the end.
        let late_ms = self.between(Throw::LateTime, number, live.late_ms_min, live.late_ms_max).max(1);
        let finish_ms = if fate.is_some() { now_ms + late_ms } else { now_ms };
        let back = !failed && self.ppm(Throw::Reversed, number, 0) < live.reversed_ppm;
        let back_ms =
            self.between(Throw::ReverseTime, number, live.reverse_ms_min, live.reverse_ms_max).max(1);
        let reverse_ms = back.then_some(finish_ms + back_ms);
        let chances = [live.row_missing_ppm, live.row_late_ppm, live.row_missing_final_ppm];
        let row = match pick(self.ppm(Throw::Row, number, 0), &chances) {
            Some(0) => RowFate::OnlyFinal,
            Some(1) => RowFate::Late { visible_ms: finish_ms + u64::from(live.row_late_ms) },
            Some(_) => RowFate::Never,
            None => RowFate::InTime,
        };
        let wanted = live.callback_always || fate.is_some() || back;
        let lost_or_twice = pick(
            self.ppm(Throw::Callback, number, 0),
            &[live.callback_lost_ppm, live.callback_duplicate_ppm],
        );
        let callbacks = match (wanted, lost_or_twice) {
            (false, _) => None,
            (true, Some(0)) => Some(0),
            (true, Some(_)) => Some(2),
            (true, None) => Some(1),
        };
        Plan { finish_ms, failed, unfamiliar: fate == Some(2), reverse_ms, row, callbacks }
    }

    /// How long after its event the nth copy of a callback is sent, ms. The second copy draws its own delay.
    #[must_use]
    pub fn callback_delay_ms(&self, live: &Live, number: &str, copy: u8) -> u64 {
        let what = if copy == 0 { Throw::CallbackDelay } else { Throw::CallbackCopyDelay };
        self.between(what, number, live.callback_delay_ms_min, live.callback_delay_ms_max)
    }
}

/// Which of several chances a throw of 0 to 999,999 falls into.
fn pick(throw: u32, chances_ppm: &[u32]) -> Option<usize> {
    let mut above = 0;
    chances_ppm.iter().position(|&chance| {
        above += chance;
        throw < above
    })
}

/// A uniform hash scaled to `0..n`.
fn below(hash: u64, n: u64) -> u64 {
    ((u128::from(hash) * u128::from(n)) >> 64) as u64
}

/// The outage that holds at `uptime_ms`, if any.
#[must_use]
pub fn outage(live: &Live, uptime_ms: u64) -> Option<Outage> {
    live.outages.iter().copied().find(|o| (o.from_ms..o.to_ms).contains(&uptime_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OutageMode;
    use crate::testing::quiet;

    fn numbers() -> impl Iterator<Item = String> {
        (0..10_000).map(|i| format!("N{i:06}"))
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
        let live =
            Live { timeout_after_ppm: 300_000, late_ppm: 300_000, accept_delay_ms_max: 500, ..quiet() };
        let all = |seed: u64| -> Vec<_> {
            let dice = Dice::new(seed, 3);
            numbers().map(|n| (dice.attempt(&live, &n, 1), dice.plan(&live, &n, 1_000))).collect()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn attempts_and_vendors_throw_for_themselves() {
        let live = Live { error_before_ppm: 500_000, ..quiet() };
        let hits = |vendor, attempt| -> Vec<_> {
            numbers().map(|n| Dice::new(1, vendor).attempt(&live, &n, attempt)).collect()
        };
        assert_ne!(hits(1, 1), hits(1, 2));
        assert_ne!(hits(1, 1), hits(2, 1));
    }

    #[test]
    fn chances_are_met() {
        let live = Live { fail_ppm: 100_000, row_missing_ppm: 50_000, refuse_ppm: 10_000, ..quiet() };
        let dice = Dice::new(5, 1);
        let share = |hit: &dyn Fn(&str) -> bool| numbers().filter(|n| hit(n)).count();
        assert!((900..1100).contains(&share(&|n| dice.plan(&live, n, 0).failed)));
        assert!((430..570).contains(&share(&|n| dice.plan(&live, n, 0).row == RowFate::OnlyFinal)));
        assert!((60..140).contains(&share(&|n| dice.refused(&live, n))));
    }

    #[test]
    fn a_quiet_vendor_does_nothing_wrong() {
        let dice = Dice::new(5, 1);
        for number in numbers() {
            assert_eq!(dice.attempt(&quiet(), &number, 1), AttemptFault::None);
            assert_eq!(dice.query(&quiet(), &number, 1), AttemptFault::None);
            let plan = dice.plan(&quiet(), &number, 77);
            let good = Plan {
                finish_ms: 77,
                failed: false,
                unfamiliar: false,
                reverse_ms: None,
                row: RowFate::InTime,
                callbacks: None,
            };
            assert_eq!(plan, good);
        }
    }

    #[test]
    fn latency_keeps_to_its_bounds_and_its_mean() {
        let mut live = quiet();
        (live.latency.min_ms, live.latency.mean_ms, live.latency.tail_ms) = (2, 10, 200);
        let dice = Dice::new(5, 1);
        let all: Vec<u64> = numbers().map(|n| dice.latency_ms(&live, &n, 1)).collect();
        assert!(all.iter().all(|ms| (2..=200).contains(ms)));
        let mean = all.iter().sum::<u64>() as f64 / all.len() as f64;
        assert!((9.5..10.5).contains(&mean), "{mean}");
    }

    #[test]
    fn an_outage_holds_from_its_first_to_before_its_last_ms() {
        let hours = Outage { from_ms: 10, to_ms: 20, mode: OutageMode::Hang };
        let live = Live { outages: vec![hours], ..quiet() };
        assert_eq!([9, 10, 19, 20].map(|t| outage(&live, t).is_some()), [false, true, true, false]);
    }
}
