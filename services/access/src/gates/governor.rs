//! The limits of one door alone (governor, GCRA).
//!
//! The maps are swept each second; when one then still holds too many addresses, all share one bucket until the next
//! sweep. An address gets there only with a whole TCP handshake, so what comes between two sweeps is bounded by the rate of
//! new connections.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::RwLock;

use super::{AddressRates, Limited, Pass, RateBook};
use crate::floods::address_key;
use crate::limits::GATE_KEYS_MAX;

/// Everyone, where there are too many to tell apart. No peer has this address.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A limit by address, replaceable while it runs.
struct Gate {
    per_second: RwLock<(u32, Arc<DefaultKeyedRateLimiter<IpAddr>>)>,
    /// Whether the last sweep found too many addresses: counting them takes every lock of the map.
    crowded: AtomicBool,
    clock: DefaultClock,
}

fn limiter(per_second: u32) -> Arc<DefaultKeyedRateLimiter<IpAddr>> {
    Arc::new(RateLimiter::keyed(Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN))))
}

impl Gate {
    /// So many a second from each address; a second's worth may come at once.
    fn new(per_second: u32) -> Self {
        Self {
            per_second: RwLock::new((per_second, limiter(per_second))),
            crowded: AtomicBool::new(false),
            clock: DefaultClock::default(),
        }
    }

    /// Lets one pass, or says how many ms to wait.
    ///
    /// # Errors
    /// The wait in ms, at least 1.
    fn pass(&self, address: IpAddr) -> Result<(), u32> {
        let key = if self.crowded.load(Ordering::Relaxed) { OTHERS } else { address_key(address) };
        self.per_second.read().1.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now()).as_millis();
            u32::try_from(wait).unwrap_or(u32::MAX).max(1)
        })
    }

    /// Forgets addresses that have been quiet, and takes a changed rate. About once a second.
    fn sweep(&self, per_second: u32) {
        let (rate, limiter_now) = self.per_second.read().clone();
        if rate != per_second {
            *self.per_second.write() = (per_second, limiter(per_second));
            return;
        }
        limiter_now.retain_recent();
        self.crowded.store(limiter_now.len() >= GATE_KEYS_MAX, Ordering::Relaxed);
        limiter_now.shrink_to_fit();
    }
}

/// A book of one door: nothing is shared.
pub struct GovernorRates {
    logins: Gate,
    http: Gate,
}

impl GovernorRates {
    /// A book with these rates.
    pub fn new(rates: AddressRates) -> GovernorRates {
        let gate = |limited| Gate::new(rates.of(limited));
        GovernorRates { logins: gate(Limited::Login), http: gate(Limited::Http) }
    }

    fn gate(&self, limited: Limited) -> &Gate {
        match limited {
            Limited::Login => &self.logins,
            Limited::Http => &self.http,
        }
    }
}

impl RateBook for GovernorRates {
    fn pass(&self, limited: Limited, address: IpAddr) -> Pass {
        self.gate(limited).pass(address).map_or_else(Pass::Wait, |()| Pass::Yes)
    }

    fn sweep(&self, rates: AddressRates) {
        Limited::ALL.iter().for_each(|limited| self.gate(*limited).sweep(rates.of(*limited)));
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, GovernorRates};
    use crate::gates::conformance;
    use std::sync::Arc;

    #[tokio::test]
    async fn conforms() {
        conformance::holds(|rates| {
            let book = Arc::new(GovernorRates::new(rates));
            async move { vec![book as _] }
        })
        .await;
    }

    #[test]
    fn holds_each_address_to_its_rate_and_takes_a_new_one() {
        let gate = Gate::new(3);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!((0..10).filter(|_| gate.pass(a).is_ok()).count(), 3);
        assert!(gate.pass(a).unwrap_err() >= 1);
        assert!(gate.pass(b).is_ok());
        gate.sweep(3);
        assert!(gate.pass(a).is_err());
        gate.sweep(5);
        assert_eq!((0..10).filter(|_| gate.pass(a).is_ok()).count(), 5);
    }
}
