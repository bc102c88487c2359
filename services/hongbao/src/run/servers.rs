//! The way to the servers of a cluster, from its configuration. Who does not answer is waited for, and told of; who refuses
//! is an error.

use crate::config::Config;
use anyhow::Context as _;
use queue::kafka::{Kafka, KafkaOptions, connect};
use queue::{JOURNAL, ORDERS, TopicOptions};
use runtime::SharedClock;
use std::time::Duration;
use storage::pg::{Pg, PgOptions};

/// Opens PostgreSQL, and waits for it while it is only away.
pub async fn postgres(config: &Config, connections: u32, limit_ms: Option<u64>) -> anyhow::Result<Pg> {
    let cluster = &config.cluster;
    let mut options = match cluster.development {
        true => PgOptions::development(&cluster.postgres),
        false => PgOptions::new(&cluster.postgres),
    };
    options.connections_max = connections.max(1);
    options.application = format!("hongbao {}", config.node.id);
    if let Some(limit_ms) = limit_ms {
        options.acquire_timeout_ms = limit_ms;
        options.statement_timeout_ms = limit_ms;
        options.lock_timeout_ms = limit_ms;
        options.connect_timeout_ms = options.connect_timeout_ms.min(limit_ms);
    }
    let told = |error: &storage::pg::PgOpenError, pause: Duration| {
        tracing::warn!(%error, again_ms = pause.as_millis() as u64, "PostgreSQL can't be used yet, trying again");
    };
    Pg::wait_for(options, told).await.context("PostgreSQL (cluster.postgres)")
}

/// Reaches Kafka, and sees to the topics.
///
/// # Errors
/// When it refuses, or a topic is not as it must be.
pub async fn kafka(config: &Config, clock: &SharedClock) -> anyhow::Result<Kafka> {
    connect(kafka_options(config, clock), &topics(config)).await.context("Kafka (cluster.kafka)")
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
