//! A chat node that shares the conversations with others: PostgreSQL has them, Redis, if there is one, what may be forgotten,
//! and the nodes speak to each other over the calls between services.
//!
//! Start: an epoch is begun (at once, or 3 s after the last word of a process that had this number), then the process is
//! announced as serving, and the ring over the member list gives the node its share, which the others give up. Asked to stop, it
//! is announced as draining, gives its buckets back while it still answers and hears the others, and ends its epoch last, so that
//! nobody has to wait for its session to die. A node that is killed costs its users the 3 s after which the others end its epoch.

use super::Stages;
use crate::admin::NodeView;
use crate::run::base::{Base, LEDGER_MS, LOOK};
use crate::run::servers;
use chat::core::NoRisk;
use chat::owner::{OwnerNode, OwnerStores};
use chat::store::owners::PgOwners;
use chat::store::{PgShelf, RedisBooks, RedisBooksOptions, SCHEMA};
use chat::{ChatOptions, accounts};
use ownership::Members as _;
use ownership::members::{Role, RoleMembers};
use protocol::calls::client::{Health, RemoteChatPeers, Target};
use runtime::{Shutdown, TaskKind, Tasks};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long an answer of Redis may take, ms: what it would have said is found out otherwise then.
const BOOKS_MS: u64 = 200;

/// Connections for the owners' book: one for the call that is made each tick, others for the ends of others' epochs.
const BOOK_CONNECTIONS: u32 = 3;

/// The node with its ways to the others.
pub struct Owner {
    node: Arc<OwnerNode>,
    peers: Arc<RemoteChatPeers>,
}

impl Owner {
    /// Opens the node.
    ///
    /// # Errors
    /// When a server refuses, a table can't be used, or a topic can't be read.
    pub async fn open(base: &Base, options: ChatOptions, stages: Stages<'_>) -> anyhow::Result<Arc<Owner>> {
        let peers = RemoteChatPeers::new(options.node, &base.dialer);
        let (stores, speaking) = (stores(base).await?, Arc::clone(&peers) as _);
        let clock = base.clock.clone();
        let node = OwnerNode::open(options, stores, speaking, Box::new(NoRisk), clock, stages.node)?;
        accounts::start(&node, &base.queue()?, stages.behind).await?;
        let owner = Arc::new(Owner { node, peers });
        let members = base.members.members(Role::Chat);
        let follow = Arc::clone(&owner).follow(members, stages.node.shutdown().clone());
        stages.node.spawn("chat nodes", TaskKind::Service, follow);
        owner.hand_over_with(stages.hand_over);
        Ok(owner)
    }

    /// The node itself.
    pub fn node(&self) -> &Arc<OwnerNode> {
        &self.node
    }

    /// What is left to be given back, and how far it has come with that.
    pub fn left(&self) -> Value {
        let status = self.node.status();
        json!({
            "buckets": status.buckets.open + status.buckets.closing,
            "transactions": status.done_steps,
            "resting": status.resting_conversations + status.resting_timelines,
        })
    }

    /// Returns when it has begun an epoch.
    pub async fn has_begun(&self) {
        while self.node.status().epoch.is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Follows the member list: the ways to the others, those that drain too, and who should have which buckets.
    async fn follow(self: Arc<Self>, members: Arc<RoleMembers>, stop: Shutdown) -> anyhow::Result<()> {
        let mut seen = 0;
        while !stop.is_requested() {
            let list = members.current();
            if list.epoch != seen {
                seen = list.epoch;
                let target = |node| Some(Target { node, address: members.address(node)?.to_string() });
                self.peers.follow(list.members.iter().filter_map(|member| target(member.node)));
                // Of a list in which everybody drains no ring can be made: the one before stays.
                if let Err(error) = self.node.follow(&list) {
                    tracing::debug!(epoch = list.epoch, %error, "the member list says nothing about buckets");
                }
            }
            tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = stop.wait() => {} }
        }
        Ok(())
    }

    /// Gives everything to the other nodes as soon as these tasks are to end.
    fn hand_over_with(&self, tasks: &Tasks) {
        let (node, stop) = (Arc::clone(&self.node), tasks.shutdown().clone());
        tasks.spawn("chat hand-over", TaskKind::Service, async move {
            stop.wait().await;
            node.drain().await;
            tracing::info!("chat has given its buckets back");
            Ok(())
        });
    }
}

/// What stands behind a node.
async fn stores(base: &Base) -> anyhow::Result<OwnerStores> {
    let cluster = &base.config.cluster;
    let shelf = servers::postgres_in(&base.config, Some(SCHEMA), cluster.postgres_connections, None).await?;
    let shelf = PgShelf::on(shelf, base.clock.now_ms()).await?;
    let book = servers::postgres_in(&base.config, Some(SCHEMA), BOOK_CONNECTIONS, Some(LEDGER_MS)).await?;
    let options = RedisBooksOptions { prefix: cluster.name.clone(), ..RedisBooksOptions::default() };
    let books = base.redis(BOOKS_MS)?.map(|redis| Arc::new(RedisBooks::new(Arc::new(redis), options)) as _);
    Ok(OwnerStores { shelf: Arc::new(shelf), owners: Arc::new(PgOwners::new(book)), books })
}

impl NodeView for Owner {
    fn status(&self) -> Value {
        let mut status = json!(self.node.status());
        let peer = |(node, health): (u16, Health)| {
            json!({
                "node": node, "up": health.links_up > 0, "failures": health.failures,
                "last_error": health.last_error,
            })
        };
        status["peers"] = self.peers.health().into_iter().map(peer).collect();
        status["lost"] = json!(self.peers.lost());
        status
    }
}
