//! What is counted, and how `GET /stats` shows it. Field names are part of the page for senders: add, don't rename.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::payout::Status;
use crate::rate::{StampReport, allowance};
use crate::vendor::{Sim, Vendor};

/// Counts up from 0 at start.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// As of now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Counter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// Counted per vendor since start.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Calls to pay, whatever became of them.
    pub payout_calls: Counter,
    /// Repeats of a taken number with the same data.
    pub duplicates: Counter,
    /// Repeats with other data: 409.
    pub mismatches: Counter,
    /// 422.
    pub refused: Counter,
    /// 404 NO_ACCOUNT.
    pub no_account: Counter,
    /// 429, payouts and queries.
    pub over_capacity: Counter,
    /// Not taken, no answer.
    pub timeouts_before: Counter,
    /// Taken, no answer.
    pub timeouts_after: Counter,
    /// Not taken, 500.
    pub errors_before: Counter,
    /// Taken, 500.
    pub errors_after: Counter,
    /// Calls that met an outage.
    pub outage_hits: Counter,
    /// 401.
    pub bad_signatures: Counter,
    /// 400 and 413.
    pub bad_requests: Counter,
    /// Calls to ask.
    pub queries: Counter,
    /// Of these, 404 NOT_FOUND.
    pub queries_not_found: Counter,
    /// Of these, left without an answer or answered 500.
    pub query_faults: Counter,
    /// Statements begun.
    pub statements: Counter,
}

/// Callbacks of a vendor since start.
#[derive(Debug, Default, Serialize)]
pub struct CallbackCounters {
    /// Put on the list, copies included.
    pub scheduled: Counter,
    /// Of these, second copies.
    pub duplicates: Counter,
    /// Left out on purpose.
    pub lost: Counter,
    /// Left out because too many waited.
    pub dropped: Counter,
    /// Sent, repetitions included.
    pub sent: Counter,
    /// Answered with 2xx.
    pub delivered: Counter,
    /// Answered otherwise, or not at all.
    pub failed: Counter,
    /// Given up after the last repetition, or without an address.
    pub given_up: Counter,
}

#[derive(Serialize)]
struct Rate {
    limit_per_second: u32,
    window_ns: u64,
    window_allowance: usize,
    #[serde(flatten)]
    stamps: StampReport,
    arrivals_max_per_100ms: u64,
    arrival_windows_over: u64,
}

#[derive(Default, Serialize)]
struct ByStatus {
    accepted: u64,
    processing: u64,
    unfamiliar: u64,
    success: u64,
    failed: u64,
    reversed: u64,
}

#[derive(Serialize)]
struct VendorStats<'a> {
    id: u32,
    name: &'a str,
    accepted: u64,
    accepted_fen: String,
    double_payments: u64,
    accounts: usize,
    #[serde(flatten)]
    counters: &'a Counters,
    rate: Rate,
    callbacks: &'a CallbackCounters,
    by_status: ByStatus,
}

#[derive(Serialize)]
struct Stats<'a> {
    uptime_ms: u64,
    connections_open: u64,
    callbacks_waiting: usize,
    late_accepts_waiting: usize,
    vendors: Vec<VendorStats<'a>>,
}

/// The body of `GET /stats`. Looks at every payout, a slice at a time: not for an async thread.
pub fn body(sim: &Sim) -> Vec<u8> {
    crate::wire::json(&Stats {
        uptime_ms: sim.uptime_ms(),
        connections_open: sim.connections_open.load(Ordering::Relaxed),
        callbacks_waiting: sim.callbacks.len(),
        late_accepts_waiting: sim.late_accepts.len(),
        vendors: sim.vendors.iter().map(|v| vendor(v, sim.clock.now_ms())).collect(),
    })
}

fn vendor(vendor: &Vendor, now_ms: u64) -> VendorStats<'_> {
    let limit_per_second = vendor.live().limit_per_second;
    let (stamps, arrivals) = {
        let meters = vendor.meters.lock();
        (meters.stamps.clone(), meters.arrivals)
    };
    let (window_allowance, window_ns) = allowance(limit_per_second);
    let rate = Rate {
        limit_per_second,
        window_ns,
        window_allowance,
        stamps: stamps.report(),
        arrivals_max_per_100ms: arrivals.max,
        arrival_windows_over: arrivals.windows_over,
    };
    let by_status = by_status(vendor, now_ms);
    let (tally, accounts) = {
        let book = vendor.book.lock();
        (book.tally(), book.accounts())
    };
    VendorStats {
        id: vendor.id,
        name: &vendor.name,
        accepted: tally.accepted,
        accepted_fen: tally.accepted_fen.to_string(),
        double_payments: tally.double_payments,
        accounts,
        counters: &vendor.counters,
        rate,
        callbacks: &vendor.callback_counters,
        by_status,
    }
}

fn by_status(vendor: &Vendor, now_ms: u64) -> ByStatus {
    let mut counts = ByStatus::default();
    let mut next = 0;
    loop {
        let book = vendor.book.lock();
        let end = book.len().min(next + 4096);
        if next == end {
            return counts;
        }
        for index in next..end {
            *match book.payout(index).status(now_ms) {
                Status::Accepted => &mut counts.accepted,
                Status::Processing => &mut counts.processing,
                Status::Unfamiliar => &mut counts.unfamiliar,
                Status::Success => &mut counts.success,
                Status::Failed => &mut counts.failed,
                Status::Reversed => &mut counts.reversed,
            } += 1;
        }
        next = end;
    }
}
