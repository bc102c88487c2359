//! The port [`Queue`] on Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use tokio::sync::{Semaphore, oneshot};

use super::checkpoints::Checkpoints;
use super::client::{Plain, Troubles, log};
use super::lookup::{Lookup, one};
use super::member::Member;
use super::reader::LaneReader;
use super::topics::admin_options;
use super::{Kafka, OpenError, message};
use crate::error::{ProduceError, TopicError, check_name, numbers};
use crate::port::{Consumer, Queue, Retain, TopicOptions};
use crate::{LANE, Position};

/// Most bytes of the records of one `produce`, as in the embedded queue.
const GROUP_BYTES_MAX: usize = crate::embedded::GROUP_BYTES_MAX;
/// Messages that may be on their way at once.
const IN_FLIGHT_MAX: usize = 256;
/// Questions about partitions' ends that are asked at once.
const ASKED_AT_ONCE: usize = 16;
/// How long the reader behind whom records are removed waits for it.
const TRIM_MAX: std::time::Duration = std::time::Duration::from_secs(1);
/// Records that are done with are removed when so many more of a partition are.
const TRIM_EVERY: i64 = 1_000;

/// The queue on Kafka. Cloning gives another handle.
#[derive(Clone)]
pub struct KafkaQueue {
    shared: Arc<Shared>,
}

struct Shared {
    kafka: Kafka,
    producer: ThreadedProducer<Deliveries>,
    in_flight: Semaphore,
    lookup: Lookup,
    lanes: LaneReader,
    admin: AdminClient<Plain>,
    /// How far partitions of topics that forget were trimmed.
    trimmed: BTreeMap<String, Vec<AtomicI64>>,
}

/// Hands answers about messages to who waits for them.
struct Deliveries(Troubles);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Result<i64, KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiter: Self::DeliveryOpaque) {
        let answer = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever waited may have gone.
        let _ = waiter.send(answer);
    }
}

impl KafkaQueue {
    /// The queue on brokers that were reached.
    ///
    /// # Errors
    /// When the client library refuses a setting.
    pub fn new(kafka: &Kafka) -> Result<KafkaQueue, OpenError> {
        let settings = |e: KafkaError| OpenError::Settings {
            brokers: kafka.options.brokers.clone(),
            why: e.to_string(),
        };
        let mut config = kafka.options.producer();
        config.set("message.timeout.ms", kafka.options.patience.as_millis().to_string());
        let producer = config.create_with_context(Deliveries(kafka.troubles.clone())).map_err(settings)?;
        let admin =
            kafka.options.client().create_with_context(Plain(kafka.troubles.clone())).map_err(settings)?;
        let forgets = kafka.topics.iter().filter(|t| t.retain == Retain::Uncommitted);
        let trimmed = forgets
            .map(|t| (t.name.clone(), (0..t.partitions).map(|_| AtomicI64::new(0)).collect()))
            .collect();
        let shared = Shared {
            kafka: kafka.clone(),
            producer,
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            lookup: Lookup::new(kafka.options.clone(), kafka.troubles.clone()),
            lanes: LaneReader::new(kafka),
            admin,
            trimmed,
        };
        Ok(KafkaQueue { shared: Arc::new(shared) })
    }

    fn topic(&self, name: &str) -> Result<&TopicOptions, TopicError> {
        let all = &self.shared.kafka.topics;
        all.iter().find(|t| t.name == name).ok_or_else(|| TopicError::UnknownTopic {
            topic: name.to_owned(),
            known: all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    fn partition(&self, topic: &str, partition: u16) -> Result<&TopicOptions, TopicError> {
        let options = self.topic(topic)?;
        if partition >= options.partitions {
            let known = numbers(&(0..options.partitions).collect::<Vec<_>>());
            return Err(TopicError::UnknownPartition { topic: topic.to_owned(), partition, known });
        }
        Ok(options)
    }

    /// What a group has committed in all partitions: offset, and the text beside it.
    async fn committed_all(&self, topic: &str, group: &str) -> Result<Vec<(i64, String)>, TopicError> {
        let partitions: Vec<u16> = (0..self.topic(topic)?.partitions).collect();
        let name = self.shared.kafka.options.group(topic, group);
        let found =
            self.shared.lookup.committed(topic, &name, &partitions).await.map_err(unavailable(topic))?;
        Ok(found.into_iter().map(|c| c.map_or((0, String::new()), |c| (c.offset, c.metadata))).collect())
    }

    async fn wait(&self, waiter: oneshot::Receiver<Result<i64, KafkaError>>) -> Result<i64, ProduceError> {
        let unsure = |why: String| {
            let tried = self.shared.kafka.troubles.take();
            ProduceError::Unsure(format!("{why} {tried}"))
        };
        // The library gives up by itself before that.
        match tokio::time::timeout(self.shared.kafka.options.patience * 2, waiter).await {
            Ok(Ok(Ok(offset))) => Ok(offset),
            Ok(Ok(Err(error))) => match error.rdkafka_error_code() {
                Some(
                    code @ (RDKafkaErrorCode::MessageSizeTooLarge
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::InvalidRecord
                    | RDKafkaErrorCode::Fatal),
                ) => Err(ProduceError::Failed(code.to_string())),
                _ => Err(unsure(error.to_string())),
            },
            Ok(Err(_)) | Err(_) => Err(unsure("no broker answered in time".to_owned())),
        }
    }
}

fn unavailable(topic: &str) -> impl Fn(String) -> TopicError + '_ {
    move |why| TopicError::Unavailable { topic: topic.to_owned(), why }
}

#[async_trait]
impl Queue for KafkaQueue {
    fn partitions(&self, topic: &str) -> Result<Vec<u16>, TopicError> {
        Ok((0..self.topic(topic)?.partitions).collect())
    }

    async fn produce(
        &self,
        topic: &str,
        partition: u16,
        records: &[&[u8]],
    ) -> Result<Position, ProduceError> {
        self.partition(topic, partition)?;
        if topic == LANE {
            return Err(ProduceError::ReadOnly(topic.to_owned()));
        }
        if records.is_empty() {
            return Err(ProduceError::Empty);
        }
        let len: usize = records.iter().map(|r| r.len() + 4).sum();
        if len > GROUP_BYTES_MAX {
            return Err(ProduceError::TooLarge { len, max: GROUP_BYTES_MAX });
        }
        let _permit = self.shared.in_flight.acquire().await.map_err(|_| ProduceError::Closed)?;
        let (name, payload) = (self.shared.kafka.options.topic(topic), message::encode(records));
        let (answer, waiter) = oneshot::channel();
        let record: BaseRecord<'_, (), [u8], _> = BaseRecord::with_opaque_to(&name, Box::new(answer));
        let record = record.partition(partition.into()).payload(&payload[..]);
        if let Err((error, _)) = self.shared.producer.send(record) {
            return Err(match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => ProduceError::Busy,
                _ => ProduceError::Failed(error.to_string()),
            });
        }
        match self.wait(waiter).await? {
            offset @ 0.. => Ok(Position(offset as u64)),
            // A repetition that the broker knew: it stands somewhere below the end.
            _ => Ok(Position(self.head(topic, partition).await?.0.saturating_sub(1))),
        }
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, TopicError> {
        check_name("group", group)?;
        let options = self.topic(topic)?;
        let trim = Trim {
            queue: self.clone(),
            topic: topic.to_owned(),
            is_on: options.retain == Retain::Uncommitted,
        };
        Ok(Box::new(Member::join(&self.shared.kafka, topic, group, trim)?))
    }

    async fn head(&self, topic: &str, partition: u16) -> Result<Position, TopicError> {
        self.partition(topic, partition)?;
        if topic == LANE {
            let end = self.shared.lanes.end(partition).await;
            return Ok(end.map_err(|e| unavailable(topic)(e.to_string()))?.next);
        }
        let (_, high) = self.shared.lookup.watermarks(topic, partition).await.map_err(unavailable(topic))?;
        Ok(Position(high.max(0) as u64))
    }

    async fn committed(&self, topic: &str, group: &str, partition: u16) -> Result<Position, TopicError> {
        self.partition(topic, partition)?;
        let all = self.committed_all(topic, group).await?;
        let Some((offset, text)) = all.get(usize::from(partition)) else { return Ok(Position::ZERO) };
        if topic == LANE {
            let newest = Checkpoints::from_text(text).and_then(|c| c.newest());
            return Ok(newest.map_or(Position::ZERO, |c| c.state.next));
        }
        Ok(Position((*offset).max(0) as u64))
    }

    /// In messages: those of a lane that count for nothing are among them until they were passed.
    async fn lag(&self, topic: &str, group: &str) -> Result<u64, TopicError> {
        // A partition's end is a question of its own, and there may be a thousand lanes.
        let done = self.committed_all(topic, group).await?;
        let ends = (0u16..).zip(done).map(|(partition, (done, _))| async move {
            let ends = self.shared.lookup.watermarks(topic, partition).await.map_err(unavailable(topic))?;
            let (low, high) = ends;
            Ok::<_, TopicError>(high.saturating_sub(done.max(low)).max(0) as u64)
        });
        let lags: Vec<u64> = stream::iter(ends).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
        let lag = lags.into_iter().fold(0, u64::saturating_add);
        Ok(lag)
    }
}

/// Removes what every group that the topic names has committed.
pub(crate) struct Trim {
    queue: KafkaQueue,
    topic: String,
    is_on: bool,
}

impl Trim {
    /// A group has committed an offset. Best effort: what stays is removed the next time.
    pub async fn committed(&self, partition: u16, offset: i64) {
        if !self.is_on {
            return;
        }
        let trimmed = self.queue.shared.trimmed.get(&self.topic).and_then(|t| t.get(usize::from(partition)));
        let Some(trimmed) = trimmed.filter(|t| offset >= t.load(Ordering::Relaxed) + TRIM_EVERY) else {
            return;
        };
        trimmed.store(offset, Ordering::Relaxed);
        let trimmed = tokio::time::timeout(TRIM_MAX, self.trim(partition, offset)).await;
        if let Err(why) = trimmed.unwrap_or_else(|_| Err("no broker answered in time".to_owned())) {
            tracing::warn!(
                topic = self.topic,
                partition,
                why,
                "records that are done with could not be removed"
            );
        }
    }

    async fn trim(&self, partition: u16, offset: i64) -> Result<(), String> {
        let topic = self.queue.topic(&self.topic).map_err(|e| e.to_string())?;
        let mut below = offset;
        for group in &topic.groups {
            let all = self.queue.committed_all(&self.topic, group).await.map_err(|e| e.to_string())?;
            below = below.min(all.get(usize::from(partition)).map_or(0, |(offset, _)| *offset));
        }
        if below <= 0 || topic.groups.is_empty() {
            return Ok(());
        }
        let name = self.queue.shared.kafka.options.topic(&self.topic);
        let list = one(&name, partition, below, "")?;
        let options = admin_options(&self.queue.shared.kafka.options);
        self.queue.shared.admin.delete_records(&list, &options).await.map_err(|e| e.to_string())?;
        Ok(())
    }
}
