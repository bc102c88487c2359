//! Delivery on virtual time: the orders of each vendor in the order in which they come due, sent by the pacer that
//! delivery itself sends by.
//!
//! A vendor here answers every call after its latency, and well: a rehearsal shows what the plan asks of a vendor in
//! good health. Faults are the other simulation's business.

use super::books::Win;
use super::ground::{Ground, chance};
use super::setup::VendorSetup;
use campaign::{Delivery, VendorId, seed};
use delivery::pace::{AdaptOptions, BreakerOptions, CallKind, Outcome, PaceOptions, Pacer};
use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// Most points of the backlog's curve.
const POINTS: usize = 240;
/// First width of a stretch, ms; doubled as often as needed.
const WIDTH_MS: u64 = 1_000;
const NS: u64 = 1_000_000;
/// A call that would begin later than this behind the world's beginning is not made: 30 years, in ns. It keeps the
/// arithmetic within its range.
const HORIZON_NS: u64 = 30 * 366 * 86_400 * 1_000_000_000;

/// How a vendor fared.
#[derive(Clone, Debug)]
pub(super) struct VendorRun {
    pub setup: VendorSetup,
    /// Orders that came due, and those that were delivered.
    pub orders: u64,
    pub delivered: u64,
    /// Wins that nobody claimed.
    pub unclaimed: u64,
    /// When the last order came due, and when the last was delivered; ms UTC.
    pub last_order_ms: Option<u64>,
    pub done_ms: Option<u64>,
    /// Most orders that waited, and when.
    pub peak: u64,
    pub peak_ms: u64,
    /// From order to delivery, ms: median, 99 of 100, longest.
    pub wait_ms: [u64; 3],
    /// Sends that waited because as many calls as allowed were under way.
    pub crowded: u64,
    /// Stretches: width, and what waited at the end of each.
    pub width_ms: u64,
    pub backlog: Vec<u64>,
    /// First ms of the first stretch.
    pub from_ms: u64,
}

/// Orders of a vendor: ms since the world began, rising; and the wins that nobody claims.
pub(super) fn orders(ground: &Ground, wins: &[Vec<Win>], vendor: VendorId) -> (Vec<u64>, u64) {
    let behaviour = &ground.setup.behaviour;
    let (mut due, mut unclaimed) = (Vec::new(), 0);
    let mut is_late = false;
    for (part, wins) in wins.iter().enumerate() {
        for (n, win) in wins.iter().enumerate() {
            let (round, at) = ground.prizes[win.prize()];
            let prize = &ground.plan.rounds[round].prizes[at];
            if prize.vendor != vendor {
                continue;
            }
            let Delivery::OnClaim { term_ms } = prize.delivery else {
                due.push(win.after_ms());
                continue;
            };
            is_late = true;
            let random = chance(ground.setup.seed ^ part as u64, n as u64);
            if seed::below(random, 100) >= u64::from(behaviour.claims_percent) {
                unclaimed += 1;
                continue;
            }
            let within_ms = behaviour.claim_within_ms.min(term_ms.saturating_sub(1));
            due.push(win.after_ms() + seed::below(chance(random, 1), within_ms + 1));
        }
    }
    // Of one part they are in order already, and the sort finds that out.
    if is_late || wins.len() > 1 {
        due.sort();
    }
    (due, unclaimed)
}

/// Sends a vendor's orders. `from_ms`: when the world began.
pub(super) fn run(setup: VendorSetup, from_ms: u64, due: &[u64], unclaimed: u64) -> VendorRun {
    let mut pacer = Pacer::new(PaceOptions {
        limit_per_second: setup.per_second,
        adapt: AdaptOptions::default(),
        breaker: BreakerOptions::default(),
    });
    let mut waits = Histogram::<u64>::new(3).ok();
    let mut curve = Backlog::new(due.first().copied().unwrap_or(0));
    let mut queue = Queue::default();
    let mut calls: VecDeque<u64> = VecDeque::with_capacity(setup.concurrency as usize);
    let (mut at, mut crowded, mut delivered, mut done_ns, mut longest) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let latency_ns = u64::from(setup.latency_ms) * NS;
    for &due_ms in due {
        at = at.max(due_ms * NS);
        let stamp = loop {
            while let Some(done) = calls.pop_front_if(|done| *done <= at) {
                pacer.record(Outcome::Good, done);
            }
            if calls.len() >= setup.concurrency as usize {
                crowded += 1;
                // There is a call under way: at least one is allowed.
                at = calls.front().copied().unwrap_or(at);
                continue;
            }
            match pacer.take(CallKind::Pay, at) {
                Ok(turn) => break Some(turn.stamp_ns),
                Err(free_ns) if free_ns > HORIZON_NS => break None,
                Err(free_ns) => at = free_ns.max(at + 1),
            }
        };
        let Some(stamp) = stamp else { break };
        let done = stamp + latency_ns;
        calls.push_back(done);
        delivered += 1;
        done_ns = done_ns.max(done);
        let wait_ms = (done - due_ms * NS).div_ceil(NS);
        longest = longest.max(wait_ms);
        if let Some(waits) = &mut waits {
            // It grows with what it is given; a wait beyond its range would be missing from the quantiles alone.
            let _ = waits.record(wait_ms.max(1));
        }
        curve.pair(due_ms, done / NS);
        queue.order(due_ms, done);
    }
    for due_ms in &due[delivered as usize..] {
        curve.order(*due_ms);
        queue.order(*due_ms, u64::MAX);
    }
    let quantile = |q: f64| waits.as_ref().map_or(0, |w| w.value_at_quantile(q).min(longest));
    let (width_ms, backlog) = curve.points();
    VendorRun {
        setup,
        orders: due.len() as u64,
        delivered,
        unclaimed,
        last_order_ms: due.last().map(|ms| from_ms + ms),
        done_ms: (delivered > 0).then(|| from_ms + done_ns.div_ceil(NS)),
        peak: queue.peak,
        peak_ms: from_ms + queue.peak_after_ms,
        wait_ms: [quantile(0.5), quantile(0.99), longest],
        crowded,
        width_ms,
        backlog,
        from_ms: from_ms + curve.first_ms,
    }
}

/// Orders that wait for their delivery, and the most of them at once.
#[derive(Default)]
struct Queue {
    /// When they will have been delivered, ns; `u64::MAX`: never.
    waiting: VecDeque<u64>,
    peak: u64,
    peak_after_ms: u64,
}

impl Queue {
    /// An order comes due, and will be delivered then.
    fn order(&mut self, due_ms: u64, done_ns: u64) {
        while self.waiting.pop_front_if(|done| *done <= due_ms * NS).is_some() {}
        self.waiting.push_back(done_ns);
        let count = self.waiting.len() as u64;
        if count > self.peak {
            (self.peak, self.peak_after_ms) = (count, due_ms);
        }
    }
}

/// Orders and deliveries by stretches whose width doubles when there are too many.
struct Backlog {
    first_ms: u64,
    width_ms: u64,
    /// (came due, delivered) in each stretch.
    bins: Vec<(u64, u64)>,
}

impl Backlog {
    fn new(first_ms: u64) -> Backlog {
        Backlog { first_ms: first_ms / WIDTH_MS * WIDTH_MS, width_ms: WIDTH_MS, bins: Vec::new() }
    }

    fn bin(&mut self, ms: u64) -> &mut (u64, u64) {
        while (ms - self.first_ms) / self.width_ms >= POINTS as u64 {
            let pairs = self.bins.chunks(2);
            self.bins = pairs.map(|pair| pair.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))).collect();
            self.width_ms *= 2;
        }
        let at = ((ms - self.first_ms) / self.width_ms) as usize;
        if at >= self.bins.len() {
            self.bins.resize(at + 1, (0, 0));
        }
        &mut self.bins[at]
    }

    fn order(&mut self, due_ms: u64) {
        self.bin(due_ms).0 += 1;
    }

    fn pair(&mut self, due_ms: u64, done_ms: u64) {
        self.bin(done_ms).1 += 1;
        self.order(due_ms);
    }

    /// What waited at the end of each stretch.
    fn points(&self) -> (u64, Vec<u64>) {
        let mut waiting = 0u64;
        let point = |(due, done): &(u64, u64)| {
            waiting = (waiting + due).saturating_sub(*done);
            waiting
        };
        (self.width_ms, self.bins.iter().map(point).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{VendorRun, run};
    use crate::rehearse::setup::VendorSetup;

    fn send(per_second: u32, latency_ms: u32, concurrency: u32, due: &[u64]) -> VendorRun {
        run(VendorSetup { vendor: 1, per_second, latency_ms, concurrency }, 10_000, due, 0)
    }

    #[test]
    fn a_burst_takes_as_long_as_the_limit_says() {
        // 1,000 orders at once, 100 a second: ten a tenth of a second, evenly; the last goes out after 9.97 s or so.
        let run = send(100, 50, 64, &[0; 1_000]);
        assert_eq!((run.orders, run.delivered, run.peak), (1_000, 1_000, 1_000));
        let took = run.done_ms.unwrap() - 10_000;
        assert!((9_850..=10_050).contains(&took), "{took}");
        let [median, p99, longest] = run.wait_ms;
        assert!((4_900..=5_100).contains(&median) && p99 <= longest && longest == took, "{:?}", run.wait_ms);
        // One tenth of them are gone with every second.
        for (i, left) in run.backlog.iter().enumerate() {
            let exact = 1_000 - 100 * (i as i64 + 1).min(10);
            assert!((*left as i64 - exact).abs() <= 7, "{:?}", run.backlog);
        }
        assert_eq!(run.backlog.last(), Some(&0));
    }

    #[test]
    fn calls_at_once_bound_it_too() {
        // Four calls at once of 100 ms each: 40 a second, whatever the limit is.
        let run = send(1_000, 100, 4, &[0; 400]);
        assert!((9_900..=10_100).contains(&(run.done_ms.unwrap() - 10_000)), "{run:?}");
        // Four places become free nearly at once: every fourth order waits.
        assert!(run.crowded >= 90, "{}", run.crowded);
    }

    #[test]
    fn who_keeps_up_has_no_backlog() {
        let due: Vec<u64> = (0..2_000).map(|i| i * 20).collect();
        let run = send(100, 30, 64, &due);
        assert_eq!((run.peak, run.wait_ms), (2, [30, 30, 30]));
        assert_eq!(run.done_ms, Some(10_000 + 1_999 * 20 + 30));
    }

    #[test]
    fn a_vendor_that_is_off_delivers_nothing() {
        let run = send(0, 30, 64, &[1, 2, 3]);
        assert_eq!((run.orders, run.delivered, run.peak, run.done_ms), (3, 0, 3, None));
        assert_eq!(run.backlog.last(), Some(&3));
    }
}
