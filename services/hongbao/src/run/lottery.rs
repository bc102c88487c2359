//! The role lottery: a node of the cluster, started anew whenever its epoch was ended by others.

use crate::admin::NodeView;
use crate::up::plans::PlanTarget;
use anyhow::Context as _;
use async_trait::async_trait;
use campaign::Plan;
use lottery::grey::Grey;
use lottery::node::cluster::{self, ClusterNode, ClusterParts, Exit, StartError};
use lottery::node::{ApplyError, NodeConfig};
use parking_lot::RwLock;
use protocol::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use runtime::Shutdown;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Between two tries of a start that servers kept from succeeding.
const AGAIN: Duration = Duration::from_millis(500);

/// Least wait named while there is no node.
const NO_NODE_MS: u32 = 300;

/// Where the node is, if there is one now. Calls, plans and questions come here, so that nobody holds on to a node whose
/// epoch is over.
#[derive(Default)]
pub struct LotterySlot {
    node: RwLock<Option<Arc<ClusterNode>>>,
    begun: Notify,
}

impl LotterySlot {
    fn node(&self) -> Option<Arc<ClusterNode>> {
        self.node.read().clone()
    }

    /// Returns when there is a node that has begun an epoch. For one caller.
    pub async fn has_begun(&self) {
        while self.node().is_none() {
            self.begun.notified().await;
        }
    }

    /// Starts the node, runs it, and starts it anew until it is asked to stop.
    ///
    /// # Errors
    /// When it can't start or go on, and a person must look.
    pub async fn run(
        &self,
        config: NodeConfig,
        parts: ClusterParts,
        shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        while !shutdown.is_requested() {
            let fatal = |error: String| crate::up::die(&format!("the flow log failed: {error}"));
            let started = tokio::select! {
                started = cluster::start(config.clone(), parts.clone(), fatal) => started,
                () = shutdown.wait() => return Ok(()),
            };
            let (node, found) = match started {
                Ok(started) => started,
                Err(error) if may_pass(&error) => {
                    tracing::warn!(%error, "the lottery node does not start yet; trying again");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error).context("starting the lottery node"),
            };
            tracing::info!(?found, "the lottery node has begun an epoch");
            *self.node.write() = Some(Arc::clone(&node));
            self.begun.notify_one();
            let exit = node.run(shutdown.clone()).await;
            *self.node.write() = None;
            match exit? {
                Exit::Drained => return Ok(()),
                Exit::EpochEnded => tracing::warn!("others ended this node's epoch; it begins anew"),
            }
        }
        Ok(())
    }
}

/// Servers that are away come back; what is wrong on this machine does not mend itself.
fn may_pass(error: &StartError) -> bool {
    match error {
        StartError::Ledger(_) | StartError::Bury(_) => true,
        StartError::Lane(error) => error.is_retryable(),
        _ => false,
    }
}

impl Draws for LotterySlot {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        if let Some(node) = self.node() {
            return node.submit(calls, inbox, out);
        }
        out.extend(calls.iter().map(|call| SubmitReply {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            next_counter: call.counter,
            outcome: Outcome::Pending,
            next_submit_ms: NO_NODE_MS,
            until_ms: 0,
            award: None,
        }));
    }
}

#[async_trait]
impl PlanTarget for LotterySlot {
    /// Without a node nothing is done: the next look at the repository tries again.
    async fn apply_grey(&self, active: Arc<Plan>, grey: Option<Grey>) -> Result<bool, ApplyError> {
        match self.node() {
            Some(node) => node.apply_grey(active, grey).await,
            None => Ok(false),
        }
    }
}

impl NodeView for LotterySlot {
    fn status(&self) -> Value {
        self.node().map_or(Value::Null, |node| json!(node.status()))
    }
}
