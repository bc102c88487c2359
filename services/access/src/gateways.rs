//! Gateways that are connected: how many connections each has, and its rate over HTTP.
//!
//! Touched at login, at close and by a gateway's HTTP requests; never by a submit on a connection.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::Limits;
use crate::rate::Bucket;
use crate::token::GatewayGrant;

/// What one connection of a gateway may do, token and platform taken together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayBounds {
    /// Submits a second.
    pub submits_per_second: u32,
    /// Unanswered requests.
    pub outstanding_max: u32,
    /// Connections.
    pub connections_max: u32,
}

/// The lower of the token's bounds and the platform's.
pub fn bounds(grant: &GatewayGrant, limits: &Limits) -> GatewayBounds {
    let lower = |own: u32, ours: u32| if own == 0 { ours } else { own.min(ours) };
    GatewayBounds {
        submits_per_second: lower(grant.submits_per_second, limits.gateway_submits_per_second),
        outstanding_max: lower(grant.outstanding_max, limits.gateway_outstanding_max),
        connections_max: lower(grant.connections_max, limits.gateway_connections_max),
    }
}

#[derive(Default)]
struct Present {
    connections: u32,
    http: Option<Bucket>,
}

/// The book of gateways. Only names from signed tokens get in, so it is as small as the list of gateways.
#[derive(Default)]
pub struct Gateways {
    present: Mutex<HashMap<String, Present>>,
}

/// A gateway's connection; gives its place back when dropped.
pub struct Seat {
    gateways: Arc<Gateways>,
    name: String,
}

impl Gateways {
    /// Takes a place for one more connection; `None` when the gateway has as many as it may.
    pub fn seat(self: &Arc<Self>, name: &str, connections_max: u32) -> Option<Seat> {
        let mut present = self.present.lock();
        let entry = present.entry(name.to_owned()).or_default();
        if entry.connections >= connections_max {
            return None;
        }
        entry.connections += 1;
        Some(Seat { gateways: Arc::clone(self), name: name.to_owned() })
    }

    /// Lets a submit over HTTP pass, or says how many ms to wait.
    ///
    /// # Errors
    /// The wait in ms.
    pub fn pass_http(&self, name: &str, per_second: u32, now_ms: u64) -> Result<(), u32> {
        let mut present = self.present.lock();
        if !present.contains_key(name) {
            present.insert(name.to_owned(), Present::default());
        }
        // Just put in where it was missing.
        let Some(entry) = present.get_mut(name) else { return Ok(()) };
        let bucket = entry.http.get_or_insert_with(|| Bucket::full(per_second, now_ms));
        bucket.refill(per_second, now_ms);
        if bucket.take() { Ok(()) } else { Err(bucket.wait_ms(per_second).max(1)) }
    }

    /// Connections of each gateway that has any, by name.
    pub fn connections(&self) -> Vec<(String, u32)> {
        let mut all: Vec<_> =
            self.present.lock().iter().map(|(name, present)| (name.clone(), present.connections)).collect();
        all.retain(|(_, connections)| *connections > 0);
        all.sort();
        all
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(entry) = self.gateways.present.lock().get_mut(&self.name) {
            entry.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gateways, bounds};
    use crate::limits::Limits;
    use crate::token::GatewayGrant;
    use std::sync::Arc;

    #[test]
    fn a_token_can_only_lower() {
        let limits = Limits::default();
        let grant =
            GatewayGrant { submits_per_second: 5, outstanding_max: u32::MAX, ..GatewayGrant::default() };
        let bounds = bounds(&grant, &limits);
        assert_eq!(bounds.submits_per_second, 5);
        assert_eq!(bounds.outstanding_max, limits.gateway_outstanding_max);
        assert_eq!(bounds.connections_max, limits.gateway_connections_max);
    }

    #[test]
    fn places_are_given_back() {
        let gateways = Arc::new(Gateways::default());
        let first = gateways.seat("g", 1);
        assert!(first.is_some() && gateways.seat("g", 1).is_none() && gateways.seat("h", 1).is_some());
        assert_eq!(gateways.connections(), [("g".to_owned(), 1)]);
        drop(first);
        assert!(gateways.seat("g", 1).is_some());
        assert!(gateways.pass_http("g", 1, 0).is_ok());
        assert_eq!(gateways.pass_http("g", 1, 0), Err(1000));
    }
}
