//! Questions to the brokers that no member of a group is needed for: ends of partitions, what a group has committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{KafkaOptions, Plain, Troubles, blocking};

/// Clients that are kept, one for each group that was asked about.
const CLIENTS_MAX: usize = 16;

/// Asks brokers.
#[derive(Clone)]
pub(crate) struct Lookup {
    options: KafkaOptions,
    troubles: Troubles,
    clients: Arc<Mutex<BTreeMap<String, Arc<BaseConsumer<Plain>>>>>,
}

/// What is committed: the offset, and what stands beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Committed {
    pub offset: i64,
    pub metadata: String,
}

impl Lookup {
    pub fn new(options: KafkaOptions, troubles: Troubles) -> Lookup {
        Lookup { options, troubles, clients: Arc::default() }
    }

    /// First offset that is kept, and the offset that the next message gets.
    pub async fn watermarks(&self, topic: &str, partition: u16) -> Result<(i64, i64), String> {
        let (client, name) = (self.client("lookup")?, self.options.topic(topic));
        let answer = self.options.answer;
        let ask = move || {
            drain(&client);
            client.fetch_watermarks(&name, partition.into(), answer)
        };
        let answer = blocking(ask).await?;
        answer.map_err(|error| self.failed("lookup", error))
    }

    /// What a group has committed in partitions; none where it never did. `group` is its name on the brokers.
    pub async fn committed(
        &self,
        topic: &str,
        group: &str,
        partitions: &[u16],
    ) -> Result<Vec<Option<Committed>>, String> {
        let (client, name) = (self.client(group)?, self.options.topic(topic));
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&name, i32::from(*partition));
        }
        let (asked, answer) = (list.clone(), self.options.answer);
        let ask = move || {
            drain(&client);
            client.committed_offsets(asked, answer)
        };
        let answer = blocking(ask).await?;
        let answer = answer.map_err(|error| self.failed(group, error))?;
        partitions.iter().map(|p| committed_in(&answer, &name, *p)).collect()
    }

    /// Commits for a group that has no members. Not waited for: it is worth trying, and no more.
    pub fn commit_loosely(&self, topic: &str, group: &str, partition: u16, offset: i64, metadata: &str) {
        let Ok(client) = self.client(group) else { return };
        let Ok(list) = one(&self.options.topic(topic), partition, offset, metadata) else { return };
        if let Err(error) = client.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, group, "a place to begin could not be written down");
        }
    }

    fn client(&self, group: &str) -> Result<Arc<BaseConsumer<Plain>>, String> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(group) {
            return Ok(Arc::clone(client));
        }
        if clients.len() >= CLIENTS_MAX {
            clients.pop_first();
        }
        let client = self.options.consumer(group).create_with_context(Plain(self.troubles.clone()));
        let client: Arc<BaseConsumer<Plain>> = Arc::new(client.map_err(|e| e.to_string())?);
        clients.insert(group.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// A client that got no answer goes: it may hold on to a broker, or a group's coordinator, that is none any more, and
    /// a new one asks anew.
    fn failed(&self, group: &str, error: rdkafka::error::KafkaError) -> String {
        let old = self.clients.lock().remove(group);
        // Closing waits for its threads.
        drop(tokio::task::spawn_blocking(move || drop(old)));
        let tried = self.troubles.take();
        format!("Kafka at {} did not answer: {error} {tried}", self.options.brokers)
    }
}

/// Takes what the library has to report; it collects until somebody does.
fn drain(client: &BaseConsumer<Plain>) {
    while client.poll(std::time::Duration::ZERO).is_some() {}
}

/// A list of one partition with its offset and what stands beside it.
pub(crate) fn one(
    topic: &str,
    partition: u16,
    offset: i64,
    metadata: &str,
) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::new();
    {
        let mut element = list.add_partition(topic, i32::from(partition));
        element.set_offset(Offset::Offset(offset)).map_err(|e| e.to_string())?;
        if !metadata.is_empty() {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}

/// What an answer says of a partition.
pub(crate) fn committed_in(
    answer: &TopicPartitionList,
    topic: &str,
    partition: u16,
) -> Result<Option<Committed>, String> {
    let Some(element) = answer.find_partition(topic, i32::from(partition)) else {
        return Err(format!("no answer about partition {partition} of {topic}"));
    };
    element.error().map_err(|e| format!("partition {partition} of {topic}: {e}"))?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(Committed { offset, metadata: element.metadata().to_owned() }),
        _ => None,
    })
}
