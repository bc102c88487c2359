//! The section `[cluster]` of the configuration: the servers that the roles stand on when they run apart.

use crate::config::Mistake;
use ownership::members::Role;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Highest number of a chat node: ids of messages have 10 bits for it.
pub const CHAT_NODE_MAX: u16 = 1_023;

/// Where everything is. Empty in the default configuration: `hongbao up` needs none of it.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterSection {
    /// Name of the installation. Processes of another name are refused, and topics begin with it.
    pub name: String,
    /// Where this process takes calls of the others.
    pub calls: SocketAddr,
    /// Under which address the others reach that; empty: as `calls` is bound.
    pub advertise: String,
    /// Where it answers health checks, operators and vendors' callbacks over HTTP.
    pub http: SocketAddr,
    /// Folder with the installation's keys, the same for all processes.
    pub keys: PathBuf,
    /// URL of PostgreSQL. The password may stand in the environment (`HONGBAO__CLUSTER__POSTGRES`).
    pub postgres: String,
    /// Connections to it at most.
    pub postgres_connections: u32,
    /// Kafka's brokers.
    pub kafka: Vec<String>,
    /// Partitions of the topic of lanes: node numbers are below it.
    pub lanes: u16,
    /// Memcached servers; empty: users are always read from flow.
    pub memcached: Vec<String>,
    /// Redis servers that hold the limits of logins over all access nodes; empty: each node alone.
    pub redis: Vec<String>,
    /// This node's share of users and connections, against the others'.
    pub weight: u32,
    /// Accept servers that keep one copy. The settlement says 'not replicated' then.
    pub development: bool,
}

impl ClusterSection {
    /// Is there everything that a role apart needs?
    ///
    /// # Errors
    /// What is missing, with its key.
    pub fn check(&self, node: u16, roles: &[Role]) -> Result<(), Mistake> {
        let missing = |key: &str, example: &str| {
            Err(Mistake(format!(
                "cluster.{key} is not set, and roles that run apart need it, for instance {example}"
            )))
        };
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return missing("name", "name = \"festival\" (lower-case letters and digits)");
        }
        if self.postgres.is_empty() {
            return missing("postgres", "postgres = \"postgres://hongbao@10.0.0.5/hongbao\"");
        }
        if self.kafka.is_empty() {
            return missing("kafka", "kafka = [\"10.0.0.6:9092\"]");
        }
        if self.keys == Path::new("") {
            return missing("keys", "keys = \"/etc/hongbao\" (made once with `hongbao keys DIR`)");
        }
        if roles.contains(&Role::Lottery) && node >= self.lanes {
            return Err(Mistake(format!(
                "node.id is {node}, and cluster.lanes = {} allows 0 to {}; raise cluster.lanes on every node \
                 (the topic must have as many partitions)",
                self.lanes,
                self.lanes.saturating_sub(1)
            )));
        }
        if roles.contains(&Role::Chat) && node > CHAT_NODE_MAX {
            return Err(Mistake(format!(
                "node.id is {node}: a chat node's number goes into the ids that it gives, and is 0 to {CHAT_NODE_MAX}"
            )));
        }
        if self.lanes == 0 || self.lanes > 1_024 {
            return Err(Mistake("cluster.lanes: 1 to 1024".into()));
        }
        if self.weight == 0 || self.weight > 1_000 {
            return Err(Mistake("cluster.weight: 1 to 1000".into()));
        }
        Ok(())
    }
}
