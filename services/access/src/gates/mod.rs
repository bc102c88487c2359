//! Limits by address for what is rare and dear: logins and HTTP requests.
//!
//! Submits on a connection don't come here; they have buckets without a shared map.

mod governor;
mod redis;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use crate::limits::{Limits, LiveLimits};

pub use governor::GovernorRates;
pub use redis::{RedisRates, RedisRatesOptions};

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limited {
    /// Logins on frame connections.
    Login,
    /// HTTP requests.
    Http,
}

impl Limited {
    /// Both.
    pub const ALL: [Limited; 2] = [Limited::Login, Limited::Http];
}

/// Permits a second from one address, of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRates {
    /// Logins.
    pub logins: u32,
    /// HTTP requests.
    pub http: u32,
}

impl AddressRates {
    /// The rate of a kind; 0 counts as 1.
    pub fn of(self, limited: Limited) -> u32 {
        match limited {
            Limited::Login => self.logins,
            Limited::Http => self.http,
        }
        .max(1)
    }
}

impl From<&Limits> for AddressRates {
    fn from(limits: &Limits) -> AddressRates {
        AddressRates { logins: limits.logins_per_second_address, http: limits.http_per_second_address }
    }
}

impl From<&LiveLimits> for AddressRates {
    fn from(live: &LiveLimits) -> AddressRates {
        AddressRates {
            logins: live.logins_per_second_address.load(Ordering::Relaxed),
            http: live.http_per_second_address.load(Ordering::Relaxed),
        }
    }
}

/// A word that others have to give: `Ok`, or how many ms to wait.
pub type Word = Pin<Box<dyn Future<Output = Result<(), u32>> + Send>>;

/// Whether one may pass.
pub enum Pass {
    /// It may.
    Yes,
    /// Not before so many ms have passed (at least 1).
    Wait(u32),
    /// Somebody else is asked; the answer comes soon, or is yes.
    Ask(Word),
}

/// Port: limits by address that hold over all front doors that share the book.
///
/// From one address, in any time t, at most one second's worth and t times the rate pass, over all who share the book, for
/// as long as what they share can be reached; a permit that one door has taken and not used is lost. Without it each
/// door holds the limit by itself. Durability: none; a book that is lost begins anew. Order: none. Idempotency: each
/// call is one permit. Nothing that has to do with money rests on it.
pub trait RateBook: Send + Sync {
    /// Lets one pass from an address. Never blocks.
    fn pass(&self, limited: Limited, address: IpAddr) -> Pass;

    /// Forgets addresses that have been quiet, and takes changed rates. About once a second.
    fn sweep(&self, rates: AddressRates);
}

#[cfg(test)]
pub(crate) mod conformance;
