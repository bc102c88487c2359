//! What people see of delivery: how much waits, how fast it goes, and what may be promised.

use super::{Shared, VendorRoom};
use crate::book::{BookError, Count};
use crate::core::Lane;
use crate::pace::BreakerState;
use campaign::VendorId;
use records::DeliveryState;
use std::sync::atomic::Ordering::Relaxed;

/// What a player may be told about the time that a prize takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Eta {
    /// Within minutes.
    Soon,
    /// Within 24 hours.
    Hours24,
    /// Within 48 hours.
    Hours48,
    /// Longer; nothing should be promised.
    Later,
}

impl Eta {
    /// The promise for a wait of so many seconds: half of the time promised is kept in reserve.
    pub fn of_wait_s(wait_s: u64) -> Eta {
        match wait_s {
            0..=600 => Eta::Soon,
            601..=43_200 => Eta::Hours24,
            43_201..=86_400 => Eta::Hours48,
            _ => Eta::Later,
        }
    }
}

/// One vendor.
#[derive(Clone, PartialEq, Debug)]
pub struct VendorStatus {
    /// Its id.
    pub vendor: VendorId,
    /// Its name; empty when it is not configured any more.
    pub name: String,
    /// Orders by state.
    pub counts: Vec<Count>,
    /// Orders that are to be sent or under way.
    pub backlog: u64,
    /// How long the first of those to be sent has been waiting, ms.
    pub oldest_ms: u64,
    /// Limit of all nodes together, calls a second.
    pub limit_per_second: u32,
    /// Present rate of this node, calls a second.
    pub rate_per_second: f64,
    /// Whether it is cut off.
    pub breaker: Option<BreakerState>,
    /// Payouts on the wire.
    pub calling: usize,
    /// Delivered since the start of the process.
    pub delivered: u64,
    /// Calls without a good answer since the start of the process.
    pub failed: u64,
    /// What may be promised for a prize won now.
    pub eta: Eta,
}

/// A picture of delivery.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// Nothing is sent.
    pub hold: bool,
    /// Lines of the journal that the topic has, over all shards; there may be more by now.
    pub published: u64,
    /// All vendors that are configured or have orders, by id.
    pub vendors: Vec<VendorStatus>,
}

pub(crate) async fn status(shared: &Shared) -> Result<Status, BookError> {
    let counts = shared.book.counts().await?;
    let mut ids: Vec<VendorId> =
        shared.vendors.keys().copied().chain(counts.iter().map(|c| c.vendor)).collect();
    ids.sort();
    ids.dedup();
    let mut vendors = Vec::with_capacity(ids.len());
    for id in ids {
        let of: Vec<Count> = counts.iter().filter(|c| c.vendor == id).copied().collect();
        let oldest = shared.book.oldest_due(id, Lane::Send).await?;
        let oldest_ms = oldest.map_or(0, |due_ms| shared.clock.now_ms().saturating_sub(due_ms));
        vendors.push(vendor_status(shared, id, of, oldest_ms));
    }
    let mut published = 0;
    for shard in 0..shared.shards.count() {
        published += shared.book.published(shard).await?;
    }
    Ok(Status { hold: shared.is_held_back(), published, vendors })
}

/// Orders among these that are to be sent or under way.
pub fn backlog(counts: &[Count]) -> u64 {
    use DeliveryState as S;
    let on_the_way = [S::Ready, S::Sending, S::Accepted, S::RetryAt, S::Unknown];
    let is_open = |c: &&Count| on_the_way.iter().any(|state| *state as u8 == c.state);
    counts.iter().filter(is_open).map(|c| c.orders).sum()
}

fn vendor_status(shared: &Shared, vendor: VendorId, counts: Vec<Count>, oldest_ms: u64) -> VendorStatus {
    let backlog = backlog(&counts);
    let room: Option<&VendorRoom> = shared.vendors.get(&vendor).map(|room| &**room);
    let now_ns = shared.clock.mono_ns();
    let (limit, part, rate_milli, breaker) = room.map_or((0, 0, 0, None), |room| {
        let limit = room.allotment.lock().limit();
        let pacer = room.pacer.lock();
        (limit, pacer.limit(), pacer.rate_milli(), Some(pacer.breaker(now_ns)))
    });
    // What all nodes do together, if the others fare as this one does.
    let all_milli = match part {
        0 => u64::from(limit) * 1_000,
        part => (u128::from(rate_milli) * u128::from(limit) / u128::from(part)) as u64,
    };
    let mut eta = match all_milli {
        0 => Eta::Later,
        rate => {
            Eta::of_wait_s((u128::from(backlog) * 1_000 / u128::from(rate)).min(u128::from(u64::MAX)) as u64)
        }
    };
    if breaker == Some(BreakerState::Open) || shared.is_held_back() {
        eta = eta.max(Eta::Hours24);
    }
    VendorStatus {
        vendor,
        name: room.map_or_else(String::new, |room| room.config.name.clone()),
        counts,
        backlog,
        oldest_ms,
        limit_per_second: limit,
        rate_per_second: rate_milli as f64 / 1_000.0,
        breaker,
        calling: room.map_or(0, |room| room.calling.load(Relaxed)),
        delivered: room.map_or(0, |room| room.delivered.load(Relaxed)),
        failed: room.map_or(0, |room| room.failed.load(Relaxed)),
        eta,
    }
}
