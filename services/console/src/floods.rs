//! How often one may ask.
//!
//! Each operator has a rate of his own, far above what people and `watch` need; pauses, stops and lowerings are not
//! counted, because a script that runs wild under somebody's token must not keep him from stopping what it does.
//! Requests without a valid token have a rate by address. A valid token is never refused for its address: behind
//! a proxy everybody has the same, and a token of 256 bits can't be guessed anyway.

use crate::config::ConsoleConfig;
use crate::problem::Problem;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

/// Addresses that are told apart at once; further ones share one rate until some are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// The rates.
pub(crate) struct Floods {
    clock: DefaultClock,
    operators: DefaultKeyedRateLimiter<String>,
    strangers: DefaultKeyedRateLimiter<IpAddr>,
}

impl Floods {
    pub fn new(config: &ConsoleConfig) -> Floods {
        let some = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let token = Quota::per_second(some(config.token_per_second)).allow_burst(some(config.token_burst));
        let stranger =
            Quota::per_minute(some(config.strangers_per_minute)).allow_burst(some(config.strangers_burst));
        Floods {
            clock: DefaultClock::default(),
            operators: RateLimiter::keyed(token),
            strangers: RateLimiter::keyed(stranger),
        }
    }

    /// Counts a request of an operator.
    pub fn operator(&self, name: &str) -> Result<(), Problem> {
        // As many keys as operators: the file bounds them.
        self.operators.check_key(&name.to_string()).map_err(|until| {
            let seconds = seconds(until.wait_time_from(self.clock.now()));
            Problem::too_many(format!("too many requests under the token of {name}"), seconds)
        })
    }

    /// Counts a request without a valid token.
    pub fn stranger(&self, address: IpAddr) -> Result<(), Problem> {
        let mut key = network(address);
        if self.strangers.len() >= ADDRESSES_MAX {
            self.strangers.retain_recent();
            if self.strangers.len() >= ADDRESSES_MAX {
                key = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            }
        }
        self.strangers.check_key(&key).map_err(|until| {
            let seconds = seconds(until.wait_time_from(self.clock.now()));
            Problem::too_many("too many requests without a valid token from this address", seconds)
        })
    }
}

/// Whole seconds to wait, at least one.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

/// One customer has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES_MAX, Floods};
    use crate::ConsoleConfig;
    use std::net::IpAddr;

    #[test]
    fn strangers_are_slowed_by_network_and_operators_by_name() {
        let config =
            ConsoleConfig { strangers_burst: 2, token_burst: 1, token_per_second: 1, ..Default::default() };
        let floods = Floods::new(&config);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(floods.stranger(address("2001:db8::1")).is_ok());
        assert!(floods.stranger(address("2001:db8::2")).is_ok());
        let slow = floods.stranger(address("2001:db8::3")).unwrap_err();
        assert!(slow.status == 429 && slow.retry_after_s.is_some_and(|s| (1..=3).contains(&s)));
        assert!(floods.stranger(address("2001:db8:0:1::1")).is_ok());
        assert!(floods.operator("alice").is_ok() && floods.operator("bob").is_ok());
        assert!(floods.operator("alice").is_err());
    }

    #[test]
    fn many_addresses_take_bounded_memory() {
        let floods = Floods::new(&ConsoleConfig::default());
        for i in 0..(ADDRESSES_MAX as u32 + 500) {
            let _ = floods.stranger(IpAddr::from((0x0a00_0000 + i).to_be_bytes()));
        }
        assert!(floods.strangers.len() <= ADDRESSES_MAX + 1);
    }
}
