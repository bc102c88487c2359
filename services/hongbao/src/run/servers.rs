//! The way to the servers of a cluster, from its configuration. Who does not answer is waited for, and told of; who refuses
//! is an error.

use super::brokers;
use crate::config::Config;
use anyhow::Context as _;
use queue::kafka::{Kafka, KafkaOptions, connect};
use queue::{JOURNAL, ORDERS, TopicOptions};
use runtime::SharedClock;
use std::time::Duration;
use storage::pg::{Pg, PgOptions};

/// How long a command waits for brokers.
const SOON: Duration = Duration::from_secs(20);

fn postgres_options(config: &Config, url: &str, connections: u32) -> PgOptions {
    let options = match config.cluster.development {
        true => PgOptions::development(url),
        false => PgOptions::new(url),
    };
    let application = format!("hongbao {}", config.node.id);
    PgOptions { connections_max: connections.max(1), application, ..options }
}

/// Opens PostgreSQL for a command: one that is away is an error at once.
///
/// # Errors
/// When it does not answer or refuses.
pub async fn postgres_now(config: &Config, url: &str) -> anyhow::Result<Pg> {
    postgres_now_in(config, None, url).await
}

/// The same for tables in a schema of their own.
///
/// # Errors
/// When it does not answer or refuses.
pub async fn postgres_now_in(config: &Config, schema: Option<&'static str>, url: &str) -> anyhow::Result<Pg> {
    let opened = Pg::open(PgOptions { schema, ..postgres_options(config, url, 2) }).await;
    opened.context("PostgreSQL (cluster.postgres)")
}

/// Opens PostgreSQL, and waits for it while it is only away.
///
/// # Errors
/// When it refuses.
pub async fn postgres(config: &Config, connections: u32, limit_ms: Option<u64>) -> anyhow::Result<Pg> {
    postgres_in(config, None, connections, limit_ms).await
}

/// The same for tables in a schema of their own.
///
/// # Errors
/// When it refuses.
pub async fn postgres_in(
    config: &Config,
    schema: Option<&'static str>,
    connections: u32,
    limit_ms: Option<u64>,
) -> anyhow::Result<Pg> {
    let mut options = postgres_options(config, &config.cluster.postgres, connections);
    options.schema = schema;
    if let Some(limit_ms) = limit_ms {
        options.acquire_timeout_ms = limit_ms;
        options.statement_timeout_ms = limit_ms;
        options.lock_timeout_ms = limit_ms;
        options.connect_timeout_ms = options.connect_timeout_ms.min(limit_ms);
    }
    let told = |error: &storage::pg::PgOpenError, pause: Duration| {
        let again_ms = pause.as_millis() as u64;
        tracing::warn!(
            %error,
            again_ms,
            "PostgreSQL can't be used yet, trying again; start it, or correct cluster.postgres"
        );
    };
    Pg::wait_for(options, told).await.context("PostgreSQL (cluster.postgres)")
}

/// Reaches Kafka, and sees to the topics.
///
/// # Errors
/// When it refuses, or a topic is not as it must be.
pub async fn kafka(config: &Config, clock: &SharedClock) -> anyhow::Result<Kafka> {
    brokers::check(&config.cluster.kafka).await?;
    connect(kafka_options(config, clock), &topics(config)).await.context("Kafka (cluster.kafka)")
}

/// The same for a command: brokers that do not answer soon are an error.
///
/// # Errors
/// When they do not answer or refuse, or a topic is not as it must be.
pub async fn kafka_soon(config: &Config, clock: &SharedClock) -> anyhow::Result<Kafka> {
    let Ok(reached) = tokio::time::timeout(SOON, kafka(config, clock)).await else {
        let (brokers, s) = (config.cluster.kafka.join(", "), SOON.as_secs());
        anyhow::bail!(
            "Kafka (cluster.kafka): no broker of {brokers} could be used within {s} s; start them, or correct the address"
        );
    };
    reached
}

/// The topics between the services.
fn topics(config: &Config) -> [TopicOptions; 2] {
    let partitions = config.queue.partitions;
    [
        TopicOptions::new(ORDERS).with_partitions(partitions).forgetting(&[flow::service::DELIVERY_GROUP]),
        TopicOptions::new(JOURNAL).with_partitions(partitions),
    ]
}

/// How Kafka is reached.
fn kafka_options(config: &Config, clock: &SharedClock) -> KafkaOptions {
    let cluster = &config.cluster;
    let mut options = KafkaOptions::new(&cluster.kafka.join(","), clock.clone());
    options.prefix = format!("{}.", cluster.name);
    options.lanes = cluster.lanes;
    options.development = cluster.development;
    options.replication = if cluster.development { 1 } else { 3 };
    options
}
