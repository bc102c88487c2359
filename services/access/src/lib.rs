//! The front door of the platform: it ends connections, knows who is speaking, refuses what can't succeed, and
//! routes by consistent hash.
//!
//! It exists so that what stands behind it sees proved users and requests that may succeed, in batches. It acts on
//! every frame and HTTP request; it refuses what is malformed, unproved, outside its window, over a bound, or asked by
//! a user who is known to be able to win nothing. Its only state is connections and bounded caches, so a crash loses
//! nothing but connections, and clients come back.
//!
//! How it is built: one thread accepts ([`mod@limits`] says how much), and hands each connection to the worker thread
//! that has the fewest. A worker serves its connections one turn at a time with shared buffers. A turn is one read: all
//! its frames are checked, decided with one call to each lottery node, and answered with one write.
//!
//! [`AccessServer::bind`] takes [`AccessConfig`] and [`AccessDeps`]; [`BoundAccess::run`] serves; [`AccessControl`]
//! is for operators. Wire and tokens are described in `docs/protocol.md`, `docs/tokens.md` and `docs/errors.md`.

mod accept;
mod asked;
mod campaigns;
mod chat_desk;
mod chat_ways;
mod connection;
mod counters;
mod desk;
mod fit;
mod floods;
pub mod gates;
mod gateways;
mod http;
pub mod limits;
mod load;
mod moves;
mod negative;
mod nodes;
mod pending;
mod pushes;
mod rate;
mod requests;
mod router;
mod routes;
mod server;
mod session;
mod shared;
mod slots;
mod status;
mod stream;
mod tls;
pub mod token;
mod websocket;
mod wire;
mod worker;

pub use crate::campaigns::{FixedPlans, PlanSource};
pub use crate::chat_ways::ChatWays;
pub use crate::counters::Count;
pub use crate::http::{Body, HttpExtra};
pub use crate::limits::{Limits, LimitsChange};
pub use crate::nodes::{AccessNode, AccessNodes, Distances, FixedNodes, NodeAddress, choose, share_of};
pub use crate::pushes::PushDoor;
pub use crate::router::{Nodes, Router};
pub use crate::routes::{RouteError, RouteTable, Routes};
pub use crate::server::{
    AccessConfig, AccessServer, BindError, BoundAccess, PublicConfig, SchedulerConfig, WebSocketConfig,
};
pub use crate::shared::AccessDeps;
pub use crate::status::{AccessControl, AccessStatus, WorkerStatus};
pub use crate::tls::{TlsConfig, TlsError};
