//! Where users are connected, so that pushes find their way before the devices have said so themselves.

use super::BookError;
use async_trait::async_trait;
use protocol::calls::ConnectionAt;

/// A device's connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Route {
    /// The device.
    pub device: u64,
    /// Number of the access node.
    pub access: u16,
    /// The access node's name for the connection.
    pub connection: u64,
}

impl Route {
    /// A device's way.
    pub fn new(device: u64, at: ConnectionAt) -> Route {
        Route { device, access: at.access, connection: at.connection }
    }

    /// Where it leads.
    pub fn at(&self) -> ConnectionAt {
        ConnectionAt { access: self.access, connection: self.connection }
    }
}

/// Port: the route book. A route is a hint: who follows a stale one finds a connection that is gone, and a user whose
/// route was forgotten is heard of when his device speaks.
///
/// **Order.** A device has one route, the one that was put last. [`RouteBook::unroute`] takes away only the route
/// that it names, so that a late word about an old connection does not hide a new one.
/// **Expiry.** A route that is not put again is gone from the time that was named.
#[async_trait]
pub trait RouteBook: Send + Sync {
    /// Devices of users are to be found here until `until_ms` (ms UTC). Of a user who has [`super::DEVICES_MAX`] routes
    /// a further one is passed over.
    async fn route(&self, routes: &[(u64, Route)], until_ms: u64, now_ms: u64) -> Result<(), BookError>;

    /// A connection is gone.
    async fn unroute(&self, user: u64, route: Route) -> Result<(), BookError>;

    /// The routes of users, in their order; each user's by device.
    async fn routes(&self, users: &[u64], now_ms: u64) -> Result<Vec<Vec<Route>>, BookError>;
}
