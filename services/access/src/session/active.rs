//! What a connection needs while something is under way on it.
//!
//! Most connections of most platforms are idle. So what counts requests is there from the first of them on, and is given
//! back when the client has sent a heartbeat and nothing else, no answer is due, and every rate has all of its permits
//! back: made anew it would say the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::calls::{Inbox, SendReply};

use crate::desk::Desk;
use crate::gateways::Seat;
use crate::rate::Bucket;

/// A gateway's part of its connection.
pub(super) struct Gate {
    /// Its place among the gateway's connections.
    pub _seat: Seat,
    /// Submits a second.
    pub rate: u32,
    /// Unanswered requests.
    pub outstanding_max: u32,
}

/// The requests of a connection.
pub(super) struct Active {
    /// Late answers to submits; there from the first submit on. Knocks at its worker.
    pub inbox: Option<Arc<Inbox>>,
    /// Late answers to messages; there from the first message on. Knocks at its worker.
    pub sends_inbox: Option<Arc<Inbox<SendReply>>>,
    /// Submits and requests that are not chat's; everything on a gateway's connection.
    pub bucket: Bucket,
    /// A device's messages.
    pub sends: Bucket,
    /// A device's requests to chat.
    pub asks: Bucket,
    /// Requests that are unanswered.
    pub outstanding: u32,
    /// As many as there may be.
    pub outstanding_max: u32,
    /// Requests over bound, or unreadable, in a row.
    pub strikes: u32,
}

/// The rates of a connection now, a second.
struct Rates {
    bucket: u32,
    sends: u32,
    asks: u32,
}

/// Rate of submits and of requests that are not chat's.
#[inline]
pub(super) fn rate(gate: Option<&Gate>, desk: &Desk) -> u32 {
    match gate {
        Some(gate) => gate.rate,
        None => desk.shared.live.user_submits_per_second.load(Ordering::Relaxed),
    }
}

impl Rates {
    fn of(gate: Option<&Gate>, desk: &Desk) -> Self {
        let live = &desk.shared.live;
        let (sends, asks) = (&live.user_sends_per_second, &live.user_asks_per_second);
        let load = |rate: &std::sync::atomic::AtomicU32| rate.load(Ordering::Relaxed);
        Self { bucket: rate(gate, desk), sends: load(sends), asks: load(asks) }
    }
}

impl Active {
    /// Nothing is under way, and every permit is there.
    pub fn new(gate: Option<&Gate>, desk: &Desk) -> Self {
        let rates = Rates::of(gate, desk);
        Self {
            inbox: None,
            sends_inbox: None,
            bucket: Bucket::full(rates.bucket, desk.mono_ms),
            sends: Bucket::full(rates.sends, desk.mono_ms),
            asks: Bucket::full(rates.asks, desk.mono_ms),
            outstanding: 0,
            outstanding_max: gate
                .map_or(desk.shared.limits.user_outstanding_max, |gate| gate.outstanding_max),
            strikes: 0,
        }
    }

    /// Whether a new one would say the same.
    pub fn is_idle(&mut self, gate: Option<&Gate>, desk: &Desk) -> bool {
        let rates = Rates::of(gate, desk);
        let buckets =
            [(&mut self.bucket, rates.bucket), (&mut self.sends, rates.sends), (&mut self.asks, rates.asks)];
        let full = buckets.into_iter().all(|(bucket, rate)| {
            bucket.refill(rate, desk.mono_ms);
            bucket.is_full(rate)
        });
        full && self.outstanding == 0 && self.strikes == 0
    }
}
