//! When orders are repeated.
//!
//! An order is lost for delivery if delivery has consumed the place where it stood and still never journalled it. So
//! a round notes where the order topic ends, waits until delivery's group has committed all of that, gives the
//! journal's way back time (`grace_ms`), and then repeats what was won before the note and has no step yet. While delivery stands
//! still nothing is repeated: repeating would only make its backlog longer.

/// The schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepeatConfig {
    /// Least time from round to round.
    pub interval_ms: u64,
    /// How long after delivery has consumed an order its first step may take to get here.
    pub grace_ms: u64,
}

impl Default for RepeatConfig {
    fn default() -> Self {
        RepeatConfig { interval_ms: 30_000, grace_ms: 10_000 }
    }
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Nothing before this instant.
    Wait(u64),
    /// Repeat the orders of awards won before this instant that have no step.
    Repeat(u64),
}

/// The state of the schedule.
#[derive(Clone, Debug)]
pub struct RepeatSchedule {
    config: RepeatConfig,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Idle {
        until_ms: u64,
    },
    /// Waiting for delivery to commit `heads`, which were noted at `noted_ms`.
    Noted {
        noted_ms: u64,
        heads: Vec<u64>,
    },
    /// Waiting for the journal.
    Consumed {
        noted_ms: u64,
        until_ms: u64,
    },
}

impl RepeatSchedule {
    /// A schedule that begins at once.
    pub fn new(config: RepeatConfig) -> RepeatSchedule {
        RepeatSchedule { config, state: State::Idle { until_ms: 0 } }
    }

    /// One look: the order topic's ends and what delivery has committed, by partition.
    pub fn look(&mut self, now_ms: u64, heads: &[u64], committed: &[u64]) -> Round {
        match &self.state {
            State::Idle { until_ms } if now_ms < *until_ms => Round::Wait(*until_ms),
            State::Idle { .. } => {
                self.state = State::Noted { noted_ms: now_ms, heads: heads.to_vec() };
                self.look(now_ms, heads, committed)
            }
            State::Noted { noted_ms, heads } => {
                let done = heads.iter().zip(committed).all(|(head, committed)| committed >= head);
                if !done {
                    return Round::Wait(now_ms + self.config.interval_ms.min(1_000));
                }
                let until_ms = now_ms + self.config.grace_ms;
                self.state = State::Consumed { noted_ms: *noted_ms, until_ms };
                Round::Wait(until_ms)
            }
            State::Consumed { until_ms, .. } if now_ms < *until_ms => Round::Wait(*until_ms),
            State::Consumed { noted_ms, .. } => {
                let before = *noted_ms;
                self.state = State::Idle { until_ms: now_ms + self.config.interval_ms };
                Round::Repeat(before)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RepeatConfig, RepeatSchedule, Round};

    #[test]
    fn repeats_only_what_delivery_has_passed() {
        let mut s = RepeatSchedule::new(RepeatConfig { interval_ms: 30_000, grace_ms: 5_000 });
        assert_eq!(s.look(1_000, &[5, 7], &[5, 6]), Round::Wait(2_000));
        assert_eq!(s.look(9_000, &[9, 9], &[5, 6]), Round::Wait(10_000));
        assert_eq!(s.look(10_000, &[9, 9], &[5, 7]), Round::Wait(15_000));
        assert_eq!(s.look(14_999, &[9, 9], &[9, 9]), Round::Wait(15_000));
        assert_eq!(s.look(15_000, &[9, 9], &[9, 9]), Round::Repeat(1_000));
        assert_eq!(s.look(15_001, &[9, 9], &[9, 9]), Round::Wait(45_000));
        assert_eq!(s.look(45_000, &[9, 9], &[9, 9]), Round::Wait(50_000));
    }
}
