//! A circuit breaker: calls to a vendor that only fails are pointless, and each costs a question later.
//!
//! Closed, it counts failures in a row. At the bound it opens: nothing passes for a while. Then it is half open: one
//! probe at a time passes; enough good ones close it, a bad one opens it again for twice as long, up to a maximum.
//! A probe that never reports back gives up its place after the first opening time.

/// When a vendor is cut off, and how it is tried again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BreakerOptions {
    /// Failures in a row that open it; 0 switches it off.
    pub failures: u32,
    /// First opening time, ms.
    pub open_ms: u64,
    /// Longest opening time, ms.
    pub open_max_ms: u64,
    /// Good probes in a row that close it.
    pub probes: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 50, open_ms: 1_000, open_max_ms: 60_000, probes: 3 }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Nothing passes.
    Open,
    /// Single probes pass.
    HalfOpen,
}

/// What a call that comes now may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// Pass.
    Go,
    /// Pass as the probe; say so with [`Breaker::probe_sent`].
    Probe,
    /// Come back at this time, monotonic ns.
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Closed { failures: u32 },
    Open { until_ns: u64, open_ms: u64 },
    HalfOpen { good: u32, probe_until_ns: u64, open_ms: u64 },
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    inner: Inner,
}

impl Breaker {
    /// Closed.
    pub fn new(options: BreakerOptions) -> Breaker {
        Breaker { options, inner: Inner::Closed { failures: 0 } }
    }

    /// Where it stands.
    pub fn state(&self, now_ns: u64) -> BreakerState {
        match self.inner {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { until_ns, .. } if until_ns > now_ns => BreakerState::Open,
            Inner::Open { .. } | Inner::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// What a call may do now.
    pub fn gate(&self, now_ns: u64) -> Gate {
        match self.inner {
            Inner::Closed { .. } => Gate::Go,
            Inner::Open { until_ns, .. } if until_ns > now_ns => Gate::Wait(until_ns),
            Inner::HalfOpen { probe_until_ns, .. } if probe_until_ns > now_ns => Gate::Wait(probe_until_ns),
            Inner::Open { .. } | Inner::HalfOpen { .. } => Gate::Probe,
        }
    }

    /// The probe is on its way: the next one waits for its outcome.
    pub fn probe_sent(&mut self, now_ns: u64) {
        let probe_until_ns = now_ns + self.options.open_ms.max(1) * 1_000_000;
        self.inner = match self.inner {
            Inner::Open { open_ms, .. } => Inner::HalfOpen { good: 0, probe_until_ns, open_ms },
            Inner::HalfOpen { good, open_ms, .. } => Inner::HalfOpen { good, probe_until_ns, open_ms },
            closed @ Inner::Closed { .. } => closed,
        };
    }

    /// Counts an outcome; true when it closed the breaker.
    pub fn record(&mut self, is_good: bool, now_ns: u64) -> bool {
        let opened = |open_ms: u64| Inner::Open { until_ns: now_ns + open_ms.max(1) * 1_000_000, open_ms };
        let options = self.options;
        let (inner, closed) = match (self.inner, is_good) {
            (Inner::Closed { .. }, true) => (Inner::Closed { failures: 0 }, false),
            (Inner::Closed { failures }, false)
                if options.failures > 0 && failures + 1 >= options.failures =>
            {
                (opened(options.open_ms), false)
            }
            (Inner::Closed { failures }, false) => {
                (Inner::Closed { failures: failures.saturating_add(1) }, false)
            }
            // Answers to calls from before it opened say nothing about now.
            (open @ Inner::Open { .. }, _) => (open, false),
            (Inner::HalfOpen { good, .. }, true) if good + 1 >= options.probes => {
                (Inner::Closed { failures: 0 }, true)
            }
            (Inner::HalfOpen { good, open_ms, .. }, true) => {
                (Inner::HalfOpen { good: good + 1, probe_until_ns: 0, open_ms }, false)
            }
            (Inner::HalfOpen { open_ms, .. }, false) => {
                (opened(open_ms.saturating_mul(2).min(options.open_max_ms)), false)
            }
        };
        self.inner = inner;
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, BreakerOptions, BreakerState, Gate};

    const MS: u64 = 1_000_000;

    #[test]
    fn opens_probes_doubles_and_closes() {
        let options = BreakerOptions { failures: 3, open_ms: 100, open_max_ms: 150, probes: 2 };
        let mut b = Breaker::new(options);
        b.record(false, 0);
        b.record(false, 0);
        b.record(true, 0);
        for _ in 0..3 {
            assert_eq!(b.gate(0), Gate::Go);
            b.record(false, 0);
        }
        assert_eq!(b.state(0), BreakerState::Open);
        assert_eq!(b.gate(99 * MS), Gate::Wait(100 * MS));
        b.record(true, 50 * MS);
        assert_eq!(b.state(50 * MS), BreakerState::Open, "late answers don't close it");

        assert_eq!(b.gate(100 * MS), Gate::Probe);
        b.probe_sent(100 * MS);
        assert_eq!(b.gate(101 * MS), Gate::Wait(200 * MS), "one probe at a time");
        b.record(false, 110 * MS);
        assert_eq!(b.gate(111 * MS), Gate::Wait(260 * MS), "doubled, up to the maximum");

        b.probe_sent(260 * MS);
        assert_eq!(b.gate(360 * MS), Gate::Probe, "a lost probe gives up its place");
        b.probe_sent(360 * MS);
        assert!(!b.record(true, 361 * MS));
        assert_eq!(b.gate(361 * MS), Gate::Probe);
        b.probe_sent(361 * MS);
        assert!(b.record(true, 362 * MS));
        assert_eq!(b.gate(362 * MS), Gate::Go);
    }
}
