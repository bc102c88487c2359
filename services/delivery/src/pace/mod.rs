//! Pace: how fast a vendor is called, by the stamps of our own sends.
//!
//! Three things stand in front of a call. The **window** is the vendor's declared limit and is never broken: in any
//! 100 ms at most a tenth of the second's limit, below ten a second one call per `1/limit`. The **rate** beneath it
//! follows the vendor: time-outs and over-limit answers cut it by their share, and it climbs back in equal steps. The
//! **breaker** stops calling a vendor that only fails, and lets single probes through until it answers again.
//!
//! Pure: monotonic nanoseconds come in, the stamp to send under or the time to wait for goes out. A limit may be changed
//! at any moment; what was sent under the old one counts under the new one too, so no window around the change is
//! overfull by the new limit.
//!
//! Where several nodes deliver, each has its **share** of the limit, as its shards of the orders say.

mod adapt;
mod breaker;
mod share;
mod window;

pub use adapt::{AdaptOptions, AdaptiveRate};
pub use breaker::{Breaker, BreakerOptions, BreakerState, Gate};
pub use share::{Allotment, Division, Holdings, Part, REDIVIDE_NS, STALE_NS, TAKEOVER_NS, division};
pub use window::{LIMIT_MAX, SendWindow};

/// What became of a call, as far as pace is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The vendor answered and has room.
    Good,
    /// The vendor answered that we are too fast.
    OverLimit,
    /// No answer in time, a fault, no connection.
    Failed,
}

/// What kind of call asks for its turn. Questions have a capacity of their own at the vendor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallKind {
    /// A payout.
    Pay,
    /// A question by number.
    Ask,
}

/// Leave to call now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// The stamp to send under, monotonic ns; never below an earlier one.
    pub stamp_ns: u64,
    /// This call tries out whether a broken vendor is back.
    pub is_probe: bool,
}

/// How a vendor is paced.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PaceOptions {
    /// The vendor's declared limit, calls a second; 0 stops it.
    pub limit_per_second: u32,
    /// How the rate follows the vendor.
    pub adapt: AdaptOptions,
    /// When it is cut off.
    pub breaker: BreakerOptions,
}

/// The pace of one vendor.
#[derive(Debug)]
pub struct Pacer {
    pays: SendWindow,
    asks: SendWindow,
    rate: AdaptiveRate,
    breaker: Breaker,
}

impl Pacer {
    /// A pacer that has sent nothing yet and starts at the full limit.
    pub fn new(options: PaceOptions) -> Pacer {
        let rate = AdaptiveRate::new(options.limit_per_second, options.adapt);
        Pacer {
            pays: SendWindow::new(rate.rate_milli()),
            asks: SendWindow::new(rate.rate_milli()),
            rate,
            breaker: Breaker::new(options.breaker),
        }
    }

    /// Changes the declared limit from now on.
    pub fn set_limit(&mut self, limit_per_second: u32) {
        self.rate.set_limit(limit_per_second);
        self.apply();
    }

    /// The declared limit, calls a second.
    pub fn limit(&self) -> u32 {
        self.rate.limit()
    }

    /// The rate that the vendor gets at present, calls in 1,000 s.
    pub fn rate_milli(&self) -> u64 {
        self.rate.rate_milli()
    }

    /// Where the breaker stands.
    pub fn breaker(&self, now_ns: u64) -> BreakerState {
        self.breaker.state(now_ns)
    }

    /// How long a payout that came now would wait for its turn, ns; a call that wants to know before it is written down.
    pub fn wait_ns(&self, now_ns: u64) -> u64 {
        let gate_ns = match self.breaker.gate(now_ns) {
            Gate::Wait(until_ns) => until_ns,
            Gate::Go | Gate::Probe => 0,
        };
        gate_ns.max(self.pays.free_ns()).saturating_sub(now_ns)
    }

    /// Asks for a turn. Each turn taken is one call, to be reported with [`Pacer::record`].
    ///
    /// # Errors
    /// The earliest time, monotonic ns, at which asking again can succeed; `u64::MAX` while the limit is 0.
    pub fn take(&mut self, kind: CallKind, now_ns: u64) -> Result<Turn, u64> {
        let gate = match self.breaker.gate(now_ns) {
            Gate::Wait(until_ns) => return Err(until_ns),
            gate => gate,
        };
        let window = match kind {
            CallKind::Pay => &mut self.pays,
            CallKind::Ask => &mut self.asks,
        };
        let stamp_ns = window.take(now_ns)?;
        if gate == Gate::Probe {
            self.breaker.probe_sent(now_ns);
        }
        Ok(Turn { stamp_ns, is_probe: gate == Gate::Probe })
    }

    /// Reports what became of a call.
    pub fn record(&mut self, outcome: Outcome, now_ns: u64) {
        self.rate.record(outcome, now_ns);
        if self.breaker.record(outcome != Outcome::Failed, now_ns) {
            self.rate.restart_low();
        }
        self.apply();
    }

    fn apply(&mut self) {
        self.pays.set_rate(self.rate.rate_milli());
        self.asks.set_rate(self.rate.rate_milli());
    }
}
