//! From a topic of delivery events to notices.

use super::{Application, Notifies, in_language};
use crate::node::Notice;
use campaign::AwardId;
use protocol::calls::CallError;
use queue::{Batch, CommitError, Consumer, PollError, Queue, TopicError};
use records::{DecodeError, DeliveryEvent, DeliveryState, Record};
use runtime::{Backoff, BackoffPolicy, Shutdown, TaskKind, Tasks};
use std::sync::Arc;
use std::time::Duration;

/// Records of one round.
const RECORDS_MAX: usize = 1_000;
/// Bytes of one round.
const BYTES_MAX: usize = 256 << 10;
/// Between two tries of what could not be done.
const RETRY: BackoffPolicy = BackoffPolicy { first_ms: 50, max_ms: 5_000, repeats: 2, spread_permille: 0 };

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Poll(#[from] PollError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Notify(#[from] CallError),
    #[error("topic {topic}, partition {partition}, group {position}: {error}")]
    Record { topic: String, partition: u16, position: u64, error: DecodeError },
}

/// Starts every application of the node's settings on the queue. They end with the tasks.
///
/// # Errors
/// When a topic can't be read.
pub async fn start<N: Notifies>(
    node: &Arc<N>,
    queue: &Arc<dyn Queue>,
    tasks: &Tasks,
) -> Result<(), TopicError> {
    for app in &node.options().accounts.applications {
        let consumer = queue.consumer(&app.topic, &app.group).await?;
        let worker = Worker { app: Arc::new(app.clone()), node: Arc::clone(node), consumer };
        let name = format!("chat-account-{}", app.group);
        tasks.spawn(name, TaskKind::Service, worker.run(tasks.shutdown().clone()));
    }
    Ok(())
}

struct Worker<N> {
    app: Arc<Application>,
    node: Arc<N>,
    consumer: Box<dyn Consumer>,
}

impl<N: Notifies> Worker<N> {
    async fn run(mut self, stop: Shutdown) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(RETRY);
        while !stop.is_requested() {
            match self.round().await {
                Ok(true) => backoff.succeeded(),
                Ok(false) => {
                    tokio::select! { () = self.consumer.ready() => {}, () = stop.wait() => {} }
                }
                // Nobody may pass over a record that he can't read.
                Err(error @ RoundError::Record { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(application = self.app.group, %error, "notices wait");
                    self.consumer.rewind();
                    let wait = Duration::from_millis(backoff.failed(0));
                    tokio::select! { () = tokio::time::sleep(wait) => {}, () = stop.wait() => {} }
                }
            }
        }
        Ok(())
    }

    /// One round; false when there was nothing.
    async fn round(&mut self) -> Result<bool, RoundError> {
        let batches = self.consumer.poll(RECORDS_MAX, BYTES_MAX).await?;
        if batches.is_empty() {
            return Ok(false);
        }
        let notices = self.notices(&batches)?;
        self.node.notify(&notices).await?;
        flowlog::fault::point("chat.after_notices");
        for batch in batches {
            match self.consumer.commit(batch.partition, batch.next()).await {
                // It is another node's by now; its events come there again, and are recognised.
                Err(CommitError::Lost { .. }) => {}
                done => done?,
            }
        }
        Ok(true)
    }

    fn notices(&self, batches: &[Batch]) -> Result<Vec<Notice>, RoundError> {
        let mut notices = Vec::new();
        for batch in batches {
            for group in &batch.groups {
                for record in group.records() {
                    let event = DeliveryEvent::decode(record).map_err(|error| RoundError::Record {
                        topic: self.app.topic.clone(),
                        partition: batch.partition,
                        position: group.position.0,
                        error,
                    })?;
                    self.notices_of(&event, &mut notices);
                }
            }
        }
        Ok(notices)
    }

    fn notices_of(&self, event: &DeliveryEvent, notices: &mut Vec<Notice>) {
        if event.user.0 == 0 || (self.app.campaign != 0 && self.app.campaign != event.campaign.0) {
            return;
        }
        if event.step == 1 {
            notices.push(self.notice(event, false));
        }
        if event.state == DeliveryState::Delivered {
            notices.push(self.notice(event, true));
        }
    }

    fn notice(&self, event: &DeliveryEvent, arrived: bool) -> Notice {
        let (app, default) = (Arc::clone(&self.app), self.node.options().language.clone());
        let (award, fen) = (event.award, event.fen);
        let body = move |language: &str| {
            let texts = in_language(&app.texts, language, &default);
            texts.map(|t| t.text(arrived, award, fen)).unwrap_or_default().into_bytes()
        };
        let mark = mark(award, arrived);
        Notice { account: self.app.account, mark, user: event.user.0, body: Box::new(body) }
    }
}

/// The mark of a notice: 64 bits of the award's 128 and of what is said, mixed (splitmix64's finisher), never 0.
fn mark(award: AwardId, arrived: bool) -> u64 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let (high, low) = ((award.0 >> 64) as u64, award.0 as u64);
    mix(mix(high.wrapping_add(0x9e37_79b9_7f4a_7c15))
        ^ low
        ^ u64::from(arrived).wrapping_mul(0xa5a5_a5a5_a5a5_a5a5))
    .max(1)
}
