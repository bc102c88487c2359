//! What a member's thread and its caller share, and what the client library calls back: rebalances, answers to commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::watch;

use super::checkpoints::Checkpoint;
use super::client::{Troubles, log};
use super::commits::{self, Commits, list_of};
use super::consume::Part;
use super::lookup::committed_in;

pub(super) type Client = BaseConsumer<Context>;

/// What a member's two halves share.
pub(super) struct Shared {
    pub topic: String,
    /// Its name on the brokers.
    pub name: String,
    pub is_lane: bool,
    pub troubles: Troubles,
    /// How long a question waits for a broker.
    pub answer: Duration,
    pub inner: Mutex<Inner>,
    pub commits: Mutex<Commits>,
    /// Rises when a poll may bring something or the assignment has changed.
    pub changes: watch::Sender<u64>,
}

/// What they share under a lock.
#[derive(Default)]
pub(super) struct Inner {
    pub parts: BTreeMap<u16, Part>,
    pub client: Option<Arc<Client>>,
    pub is_stopping: bool,
    /// Why the thread has to leave and join again.
    pub broken: Option<String>,
}

/// Hears of rebalances, and of commits that nobody waits for.
pub(super) struct Context(pub Arc<Shared>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.troubles.note(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &Client, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let shared = &*self.0;
        let done = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            shared.assigned(client, list)
        } else {
            shared.revoked(client, list);
            client.incremental_unassign(list).map_err(|e| e.to_string())
        };
        if let Err(why) = done {
            shared.inner.lock().broken = Some(why);
        }
        shared.changed();
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.0.committed(&result, offsets);
    }
}

impl Shared {
    /// A poll may bring something, or the assignment has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Partitions have come: each goes on from what is committed there.
    fn assigned(&self, client: &Client, list: &TopicPartitionList) -> Result<(), String> {
        let answer = client.committed_offsets(list.clone(), self.answer).map_err(|e| e.to_string())?;
        let (mut parts, mut places) = (Vec::new(), TopicPartitionList::new());
        for element in list.elements() {
            let Ok(partition) = u16::try_from(element.partition()) else { continue };
            let part = Part::new(partition, self.is_lane, committed_in(&answer, &self.name, partition)?)?;
            let offset = part.resume_at().map_or(Offset::Beginning, Offset::Offset);
            let mut place = places.add_partition(&self.name, partition.into());
            place.set_offset(offset).map_err(|e| e.to_string())?;
            parts.push((partition, part));
        }
        client.incremental_assign(&places).map_err(|e| e.to_string())?;
        self.inner.lock().parts.extend(parts);
        Ok(())
    }

    /// Partitions go. What is due of them goes out before the group hears that they are free.
    fn revoked(&self, client: &Client, list: &TopicPartitionList) {
        let gone: Vec<(u16, Part)> = {
            let mut inner = self.inner.lock();
            let elements = list.elements();
            let is_in = |number: u16| elements.iter().any(|e| e.partition() == i32::from(number));
            inner.parts.extract_if(.., |number, _| is_in(*number)).collect()
        };
        let due = gone.iter().filter_map(|(number, part)| Some((*number, part.due()?, part)));
        if let Err(why) = list_of(&self.name, due).and_then(|list| commits::send(client, &list)) {
            tracing::debug!(why, "a partition goes without its last commit");
        }
    }

    /// Commits what is due, of all partitions together.
    pub fn commit_due(&self, client: &Client, now_ns: u64) -> Result<(), String> {
        if !self.commits.lock().may(now_ns) {
            return Ok(());
        }
        let (places, list) = {
            let inner = self.inner.lock();
            let due = || inner.parts.iter().filter_map(|(number, part)| Some((*number, part.due()?, part)));
            let places: Vec<(u16, Checkpoint)> = due().map(|(number, at, _)| (number, at)).collect();
            (places, list_of(&self.name, due())?)
        };
        self.commits.lock().sent(now_ns, places.into_iter());
        commits::send(client, &list)
    }

    /// The answer to one of these commits.
    fn committed(&self, result: &KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, topic = self.name, "a commit failed; it is made again");
        }
        let done = self.commits.lock().answered(result.is_ok(), offsets);
        let mut inner = self.inner.lock();
        for (number, at) in done {
            if let Some(part) = inner.parts.get_mut(&number) {
                part.committed(at);
            }
        }
    }
}
