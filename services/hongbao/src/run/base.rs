//! What every role stands on: the servers, who else is there, and the way to them.

use super::ClusterSection;
use crate::config::Config;
use crate::keys::Keys;
use anyhow::Context as _;
use ownership::members::{Announcement, MemberState, PgMembers, Poller, Role};
use protocol::calls::client::{CallOptions, Dialer};
use protocol::calls::{Cluster, ServiceSet};
use queue::kafka::{KafkaLanes, KafkaOptions, KafkaQueue};
use queue::{JOURNAL, LANE, ORDERS, TopicOptions};
use runtime::{SharedClock, Shutdown, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use storage::pg::{Pg, PgOptions};

/// Servers, members, keys.
#[derive(Clone)]
pub struct Base {
    /// Settings.
    pub config: Arc<Config>,
    /// Secrets.
    pub keys: Arc<Keys>,
    /// Time.
    pub clock: SharedClock,
    /// PostgreSQL.
    pub pg: Pg,
    /// Kafka, for those who consume and produce.
    pub queue: KafkaQueue,
    /// Kafka, for those who write lanes or read a stretch of one.
    pub lanes: KafkaLanes,
    /// Who is alive.
    pub members: Arc<Poller>,
    /// Proof of belonging.
    pub cluster: Cluster,
}
