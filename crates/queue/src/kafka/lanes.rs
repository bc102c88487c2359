//! The port [`Lanes`] on Kafka: one partition a node, one message a group.
//!
//! **Order.** The producer repeats by itself and for ever, in order; what it has taken is never given up while others behind
//! it go on. When it fails for good it is replaced, and a lane then goes on only from the first group that nobody
//! acknowledged: a call for later ones is `Unsure`. So a lane never has a gap, whatever fails.
//!
//! **Waiting.** A call waits some seconds for the in-sync replicas and is `Unsure` then; the groups stay on their way, and a
//! repetition of the call waits for them without sending them again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flowlog::format::GroupHeader;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use tokio::sync::{oneshot, watch};

use super::client::{Troubles, log};
use super::reader::LaneReader;
use super::{Kafka, OpenError};
use crate::lanes::{LaneError, LaneRead, LaneState, Lanes, RawGroup, check_shipped, foreign_mark};
use crate::{LANE, Position};

/// The lanes on Kafka. Cloning gives another handle.
#[derive(Clone)]
pub struct KafkaLanes {
    shared: Arc<Shared>,
}

struct Shared {
    kafka: Kafka,
    topic: String,
    producer: Mutex<Slot>,
    lanes: Vec<Arc<Lane>>,
    reader: LaneReader,
}

/// The producer, and which one it is.
struct Slot {
    number: u64,
    producer: Arc<ThreadedProducer<Deliveries>>,
}

/// Where a lane ends, as one who writes it knows. Places are (epoch, position): the group there is included below.
type Reached = (u32, Position);

#[derive(Default)]
struct Lane {
    sending: Mutex<Sending>,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Sending {
    /// The producer that has what was sent.
    number: u64,
    /// Behind the last group that was handed to it; epoch 0: none yet.
    sent: Reached,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    /// The producer that it speaks of.
    number: u64,
    /// Behind the last group that all in-sync replicas have.
    acked: Reached,
    /// That producer lost a message.
    failed: bool,
}

/// What a message was.
enum Sent {
    /// The next group of the lane's own log.
    Group { lane: Arc<Lane>, number: u64, behind: Reached },
    /// Anything else: who waits for it.
    Stray(oneshot::Sender<Result<(), String>>),
}

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
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.to_string());
        match *sent {
            Sent::Group { lane, number, behind } => lane.progress.send_modify(|p| {
                if p.number == number && !p.failed {
                    match result {
                        Ok(()) => p.acked = p.acked.max(behind),
                        Err(error) => {
                            tracing::warn!(error, "a group was not taken by its lane");
                            p.failed = true;
                        }
                    }
                }
            }),
            // Whoever waited may have gone.
            Sent::Stray(waiter) => drop(waiter.send(result)),
        }
    }
}

impl KafkaLanes {
    /// The lanes on brokers that were reached.
    ///
    /// # Errors
    /// When the client library refuses a setting.
    pub fn new(kafka: &Kafka) -> Result<KafkaLanes, OpenError> {
        let producer = producer(kafka).map_err(|e| OpenError::Settings {
            brokers: kafka.options.brokers.clone(),
            why: e.to_string(),
        })?;
        let shared = Shared {
            topic: kafka.options.topic(LANE),
            producer: Mutex::new(Slot { number: 1, producer: Arc::new(producer) }),
            lanes: (0..kafka.options.lanes).map(|_| Arc::default()).collect(),
            reader: LaneReader::new(kafka),
            kafka: kafka.clone(),
        };
        Ok(KafkaLanes { shared: Arc::new(shared) })
    }

    fn lane(&self, node: u16) -> Result<&Arc<Lane>, LaneError> {
        let lanes = self.shared.kafka.options.lanes;
        self.shared.lanes.get(usize::from(node)).ok_or(LaneError::UnknownLane { node, lanes })
    }

    fn producer(&self) -> (u64, Arc<ThreadedProducer<Deliveries>>) {
        let slot = self.shared.producer.lock();
        (slot.number, Arc::clone(&slot.producer))
    }

    fn unsure(&self, why: &str) -> LaneError {
        LaneError::Unsure(format!("{why} {}", self.shared.kafka.troubles.take()).trim_end().to_owned())
    }

    /// Replaces a producer that failed for good; the next calls begin with what nobody acknowledged.
    pub(super) fn replace(&self, number: u64) {
        let old = {
            let mut slot = self.shared.producer.lock();
            if slot.number != number {
                return;
            }
            match producer(&self.shared.kafka) {
                Ok(new) => {
                    slot.number += 1;
                    std::mem::replace(&mut slot.producer, Arc::new(new))
                }
                Err(error) => {
                    tracing::error!(%error, "no new producer for the lanes");
                    return;
                }
            }
        };
        tracing::warn!("the producer of the lanes failed and was replaced");
        // What it still holds must not come later than what is sent again. Its thread is waited for elsewhere.
        old.purge(PurgeConfig::default().queue().inflight());
        drop(tokio::task::spawn_blocking(move || drop(old)));
    }

    fn send(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        node: u16,
        bytes: &[u8],
        sent: Sent,
    ) -> Result<(), KafkaError> {
        let record: BaseRecord<'_, (), [u8], _> =
            BaseRecord::with_opaque_to(&self.shared.topic, Box::new(sent));
        producer.send(record.partition(node.into()).payload(bytes)).map_err(|(error, _)| error)
    }

    /// Hands groups of the lane's own log to the producer, in order, those that it has excepted. Returns the producer's
    /// number and those groups that are of an epoch before the one that was sent last: they stand apart.
    fn hand_over(
        &self,
        lane: &Arc<Lane>,
        node: u16,
        groups: &[Bytes],
        headers: &[GroupHeader],
    ) -> Result<(u64, usize), LaneError> {
        let (number, producer) = self.producer();
        let mut sending = lane.sending.lock();
        if sending.number != number {
            // What the one before had taken and not acknowledged is sent again.
            let acked = lane.progress.borrow().acked;
            *sending = Sending { number, sent: acked };
            lane.progress.send_modify(|p| *p = Progress { number, acked, failed: false });
        }
        let strays = headers.iter().take_while(|h| h.epoch < sending.sent.0).count();
        for (header, bytes) in headers.iter().zip(groups).skip(strays) {
            let behind = (header.epoch, header.position.next());
            let (epoch, next) = sending.sent;
            if behind <= sending.sent {
                continue;
            }
            if epoch == 0 {
                // The first since this process began: nothing before it is this process's to send.
                lane.progress.send_modify(|p| p.acked = (header.epoch, header.position));
            } else if (header.epoch == epoch && header.position != next)
                || (header.epoch > epoch && header.epoch_seq != 0)
            {
                return Err(LaneError::Unsure(format!(
                    "group {} can't be sent before group {next} of epoch {epoch}, which was not taken",
                    header.position
                )));
            }
            let sent = Sent::Group { lane: Arc::clone(lane), number, behind };
            if let Err(error) = self.send(&producer, node, bytes, sent) {
                drop(sending);
                return Err(self.refused(number, &error));
            }
            sending.sent = behind;
        }
        Ok((number, strays))
    }

    fn refused(&self, number: u64, error: &KafkaError) -> LaneError {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => self.unsure("too much is on its way already"),
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => LaneError::Refused(error.to_string()),
            _ => {
                self.replace(number);
                self.unsure(&error.to_string())
            }
        }
    }

    async fn acknowledged(&self, lane: &Lane, number: u64, behind: Reached) -> Result<(), LaneError> {
        let mut progress = lane.progress.subscribe();
        let decided = progress.wait_for(|p| p.number != number || p.failed || p.acked >= behind);
        let (acked, failed) = match tokio::time::timeout(self.shared.kafka.options.patience, decided).await {
            Ok(Ok(p)) => (p.acked, p.failed || p.number != number),
            Ok(Err(_)) | Err(_) => {
                return Err(self.unsure("the in-sync replicas did not acknowledge in time."));
            }
        };
        if acked >= behind {
            return Ok(());
        }
        if failed {
            self.replace(number);
        }
        Err(self.unsure("the producer failed."))
    }

    /// Sends a message that stands apart from the lane's own order, and waits.
    async fn stray(&self, node: u16, bytes: &[u8]) -> Result<(), LaneError> {
        let (number, producer) = self.producer();
        let (answer, waiter) = oneshot::channel();
        self.send(&producer, node, bytes, Sent::Stray(answer))
            .map_err(|error| self.refused(number, &error))?;
        match tokio::time::timeout(self.shared.kafka.options.patience, waiter).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                self.replace(number);
                Err(self.unsure(&error))
            }
            Ok(Err(_)) | Err(_) => Err(self.unsure("the in-sync replicas did not acknowledge in time.")),
        }
    }
}

fn producer(kafka: &Kafka) -> Result<ThreadedProducer<Deliveries>, KafkaError> {
    let mut config = kafka.options.producer();
    // A message that was given up while later ones go on would leave a gap.
    config.set("message.timeout.ms", "0").set("enable.gapless.guarantee", "true");
    config.create_with_context(Deliveries(kafka.troubles.clone()))
}

#[async_trait]
impl Lanes for KafkaLanes {
    async fn end(&self, node: u16) -> Result<LaneState, LaneError> {
        self.shared.reader.end(node).await
    }

    async fn ship(&self, node: u16, groups: Vec<Bytes>) -> Result<(), LaneError> {
        let lane = self.lane(node)?;
        let headers = check_shipped(node, &groups)?;
        let Some(last) = headers.last() else { return Ok(()) };
        let (number, strays) = self.hand_over(lane, node, &groups, &headers)?;
        for group in &groups[..strays] {
            self.stray(node, group).await?;
        }
        if strays == groups.len() {
            return Ok(());
        }
        self.acknowledged(lane, number, (last.epoch, last.position.next())).await
    }

    async fn mark_ended(&self, node: u16, epoch: u32, record: &[u8]) -> Result<(), LaneError> {
        self.lane(node)?;
        let mark = foreign_mark(node, epoch, record, self.shared.kafka.options.clock.now_ms())?;
        self.stray(node, &mark).await
    }

    async fn read_raw(
        &self,
        node: u16,
        from: Position,
        max_groups: usize,
    ) -> Result<LaneRead<RawGroup>, LaneError> {
        self.shared.reader.read(node, from, max_groups).await
    }
}
