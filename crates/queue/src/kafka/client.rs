//! What every connection to Kafka has in common: its settings, and who of the brokers did not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use runtime::SharedClock;

/// Longest that a single question waits for a broker, unless the options say another.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a write waits for the in-sync replicas: a broker that is gone is replaced within that.
const PATIENCE: Duration = Duration::from_secs(10);
/// A member that is silent for so long loses its partitions to the others. The least that brokers allow by default: while a
/// lane is nobody's, no bucket that waits for it opens.
const SESSION: Duration = Duration::from_secs(6);
/// Brokers whose last trouble is remembered.
const TROUBLES_MAX: usize = 64;

/// Where Kafka is and how it is used.
#[derive(Clone)]
pub struct KafkaOptions {
    /// Brokers to begin with: `host:port`, several joined by commas.
    pub brokers: String,
    /// Stands before the names of topics and groups, so that several installations can share a cluster. May be empty.
    pub prefix: String,
    /// Lanes: one for each node number that may ever be used, so 1 + the highest.
    pub lanes: u16,
    /// Groups of consumers of the lane whose commits may be used as places to begin reading.
    pub lane_groups: Vec<String>,
    /// One replica is enough. What a player was told then does not survive the loss of a broker's disk.
    pub development: bool,
    /// Replicas of topics that are made here; at least 3 unless `development`.
    pub replication: u16,
    /// How long a write waits for the in-sync replicas before it is `Unsure`.
    pub patience: Duration,
    /// How long a question (what is committed, where a partition ends) waits for a broker.
    pub answer: Duration,
    /// A member that is silent for so long loses its partitions to the others; the brokers say what is allowed.
    pub session: Duration,
    /// Further settings, handed on as they are: TLS, SASL.
    pub settings: BTreeMap<String, String>,
    /// Time.
    pub clock: SharedClock,
}

impl KafkaOptions {
    /// Three replicas, 64 lanes, no prefix, no authentication.
    pub fn new(brokers: &str, clock: SharedClock) -> KafkaOptions {
        KafkaOptions {
            brokers: brokers.to_owned(),
            prefix: String::new(),
            lanes: 64,
            lane_groups: vec!["flow".to_owned()],
            development: false,
            replication: 3,
            patience: PATIENCE,
            answer: ANSWER,
            session: SESSION,
            settings: BTreeMap::new(),
            clock,
        }
    }

    /// A topic's name on the brokers.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A group's name on the brokers. It names the topic too: members of one group that read different topics would
    /// disturb each other.
    pub(crate) fn group(&self, topic: &str, group: &str) -> String {
        format!("{}{group}.{topic}", self.prefix)
    }

    /// Settings of every client.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "hongbao")
            .set("socket.timeout.ms", self.answer.as_millis().to_string())
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        config
    }

    /// Settings of a consumer that reads what it is told and commits when it is told.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.max.bytes", "16777216")
            .set("check.crcs", "true");
        config
    }

    /// Settings of a producer that keeps the order and repeats by itself.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("message.max.bytes", super::MESSAGE_BYTES_MAX.to_string())
            // Groups have been collected by whoever sends them; nothing is gained by waiting for more.
            .set("linger.ms", "0")
            .set("queue.buffering.max.kbytes", "65536")
            .set("queue.buffering.max.messages", "20000")
            .set("retry.backoff.ms", "50");
        config
    }
}

/// What brokers said last. Shared by the clients of one queue.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<String, String>>>);

impl Troubles {
    /// Keeps what a client reports, by broker.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        let mut all = self.0.lock();
        let broker = reason.split(": ").next().unwrap_or_default().to_owned();
        if all.len() < TROUBLES_MAX || all.contains_key(&broker) {
            all.insert(broker, reason.to_owned());
        }
        drop(all);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::debug!(reason, "no broker of Kafka is connected");
        } else {
            tracing::debug!(%error, reason, "Kafka");
        }
    }

    /// Everything that was said since this was asked last, for a person.
    pub fn take(&self) -> String {
        let all = std::mem::take(&mut *self.0.lock());
        all.into_values().collect::<Vec<_>>().join("; ")
    }
}

/// The context of clients without callbacks of their own.
#[derive(Clone, Default)]
pub(crate) struct Plain(pub Troubles);

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Plain {}

/// The client library's own log: it says much about each reconnection, and the calls say what matters.
pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    tracing::debug!(?level, fac, message, "librdkafka");
}

/// Runs a call of the client library that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(call).await.map_err(|error| error.to_string())
}
