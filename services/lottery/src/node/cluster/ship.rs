//! The shipper: durable groups of the log go into the lane as they are, and winners hear of it when the lane has them.
//!
//! It ships only while the node's session is valid. A process that was stopped for a while and wakes knows nothing of what
//! happened; it must hear from the ledger first.

use super::node::ClusterNode;
use super::shipping::Shipping;
use bytes::Bytes;
use flowlog::{Batch, LogError, LogReader, Position, RealDisk, fault};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use queue::lanes::LaneError;
use runtime::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of a call, unless a single group is larger.
const CALL_BYTES: usize = 1 << 20;

/// Pause before calls that failed are repeated.
const RETRY: Duration = Duration::from_millis(50);

/// How often it looks whether it may ship again.
const LOOK: Duration = Duration::from_millis(50);

type Call = std::pin::Pin<Box<dyn Future<Output = Result<(), LaneError>> + Send>>;

/// The shipper of one epoch.
struct Shipper {
    node: Arc<ClusterNode>,
    shipping: Shipping,
    calls: FuturesOrdered<Call>,
    /// A call has failed: those behind it that have not begun must not begin, or groups would be missing before theirs.
    failing: Arc<AtomicBool>,
    reader: Option<LogReader<RealDisk>>,
}

/// Ships until it is asked to end, or the epoch is over.
pub(super) async fn run(node: Arc<ClusterNode>, shutdown: Shutdown) -> anyhow::Result<()> {
    let shipping = Shipping::new(node.first);
    let failing = Arc::new(AtomicBool::new(false));
    Shipper { node, shipping, calls: FuturesOrdered::new(), failing, reader: None }.run(shutdown).await
}

impl Shipper {
    async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let log = self.node.journal.log().clone();
        loop {
            if self.node.over.load(Ordering::Acquire) {
                self.shipping.end();
            }
            let may = self.node.has_session();
            if may && self.shipping.next(log.durable().0).is_some() {
                self.send(log.durable()).await?;
                continue;
            }
            let waits_for_more = may && self.shipping.next(u64::MAX).is_some();
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                Some(answer) = self.calls.next() => self.answered(answer).await?,
                durable = log.wait_durable(Position(self.shipping.sent())), if waits_for_more => {
                    if durable.is_err() && self.calls.is_empty() {
                        // The log was closed, and all of it is there; or it failed, and the process ends.
                        return Ok(());
                    }
                    if durable.is_err() {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Reads what is durable and sends it on its way.
    async fn send(&mut self, durable: Position) -> anyhow::Result<()> {
        let from = Position(self.shipping.sent());
        let reader = self.reader.take().filter(|reader| reader.position() == from);
        let mut reader = reader.unwrap_or_else(|| self.node.journal.log().reader(from));
        let read = move || -> Result<(LogReader<RealDisk>, Batch), LogError> {
            let batch = reader.read_batch(durable, CALL_BYTES)?;
            Ok((reader, batch))
        };
        let (reader, batch) = tokio::task::spawn_blocking(read).await??;
        let end = reader.position().0;
        self.reader = Some(reader);
        let groups: Vec<Bytes> = batch.groups().map(|g| Bytes::copy_from_slice(g.bytes())).collect();
        if groups.is_empty() {
            return Ok(());
        }
        fault::point("ship.before_send");
        // Looked at once more: reading may have taken long.
        if !self.node.has_session() || self.node.over.load(Ordering::Acquire) {
            self.reader = None;
            return Ok(());
        }
        self.shipping.send(end);
        let (lanes, node) = (Arc::clone(&self.node.parts.lanes), self.node.config.node.0);
        let failing = Arc::clone(&self.failing);
        self.calls.push_back(Box::pin(async move {
            if failing.load(Ordering::Acquire) {
                return Err(LaneError::Unsure("a call before this one failed".to_owned()));
            }
            let answer = lanes.ship(node, groups).await;
            failing.fetch_or(answer.is_err(), Ordering::AcqRel);
            answer
        }));
        Ok(())
    }

    /// The oldest call has been answered. The session is looked at behind this, by [`crate::node::journal::Waiting`].
    async fn answered(&mut self, answer: Result<(), LaneError>) -> anyhow::Result<()> {
        if self.calls.is_empty() {
            self.failing.store(false, Ordering::Release);
        }
        match answer {
            Ok(()) => {
                fault::point("ship.after_ack");
                if let Some(end) = self.shipping.answered(true) {
                    self.node.waiting.acknowledge(Position(end));
                    self.node.moved.notify_one();
                }
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                if self.node.counts.ships_failed.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                    tracing::warn!(%error, "the lane did not take groups; winners wait");
                }
                self.shipping.answered(false);
                if self.calls.is_empty() {
                    tokio::time::sleep(RETRY).await;
                }
                Ok(())
            }
            // A person must look: what was read from the own disk can't be shipped, or the lane is damaged.
            Err(error) => Err(error.into()),
        }
    }
}
