//! The queue and the lanes on Kafka (any broker that speaks its protocol; tested with Apache Kafka 4.1).
//!
//! [`connect`] looks for the brokers, makes topics that are missing, and refuses topics that could lose what they
//! acknowledged. Then:
//!
//! - [`KafkaQueue`] is the port [`crate::Queue`]: one message a `produce`, the position is the message's offset. Consumers of
//!   the topic [`crate::LANE`] judge messages by [`crate::lanes::LaneState`]; the state stands beside each committed
//!   offset, so the next owner of a partition judges alike.
//! - [`KafkaLanes`] is the port [`crate::lanes::Lanes`].
//!
//! **Brokers that are away.** At the start: who does not answer is said, and tried again for as long as it takes. Later:
//! writes are `Unsure` after some seconds, consumers bring nothing until the brokers are back, and no call waits for ever.
//!
//! **Names.** A topic has the configured prefix; a group of consumers is `PREFIX GROUP . TOPIC`. Groups' offsets must not be
//! forgotten while nobody reads: the brokers' `offsets.retention.minutes` (7 days) bounds how long all members of a
//! group may be away; after that it begins anew with the first record, which its readers take as repetitions.

mod checkpoints;
mod client;
mod commits;
mod consume;
mod lanes;
mod lookup;
mod member;
mod message;
#[cfg(test)]
mod outage;
mod queue;
mod reader;
mod shared;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use runtime::{Backoff, BackoffPolicy};

use crate::error::{TopicError, check_name};
use crate::lanes::LANE_GROUP_BYTES_MAX;
use crate::port::TopicOptions;
use client::{Plain, Troubles, blocking};

pub use self::client::KafkaOptions;
pub use self::lanes::KafkaLanes;
pub use self::queue::KafkaQueue;

/// Most bytes of a message: the largest group of a lane, and room for what Kafka adds.
pub(crate) const MESSAGE_BYTES_MAX: usize = LANE_GROUP_BYTES_MAX + (64 << 10);
/// Between two tries to reach the brokers.
const RETRY: BackoffPolicy = BackoffPolicy { first_ms: 200, max_ms: 5_000, repeats: 2, spread_permille: 0 };

/// Kafka can't be used as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] TopicError),
    /// A setting that the client library refuses.
    #[error("Kafka at {brokers}: {why}; look at the settings of kafka in the configuration")]
    Settings {
        /// Where.
        brokers: String,
        /// What it says.
        why: String,
    },
    /// The brokers don't know who we are.
    #[error(
        "Kafka at {brokers} refuses us: {why}; look at user, password and mechanism in the configuration"
    )]
    Credentials {
        /// Where.
        brokers: String,
        /// What they say.
        why: String,
    },
    /// A topic is not as it must be.
    #[error("topic {topic} {what}: found {found:?}, wanted {wanted}. What to do: {advice}")]
    Topic {
        /// Its name on the brokers.
        topic: String,
        /// What is wrong.
        what: String,
        /// What there is.
        found: String,
        /// What would be right.
        wanted: String,
        /// How to get there.
        advice: String,
    },
    /// The brokers can't say just now. Never returned: it is tried again.
    #[error("{0}")]
    NotNow(String),
}

/// Kafka, reached, with all topics as they must be.
#[derive(Clone)]
pub struct Kafka {
    pub(crate) options: KafkaOptions,
    pub(crate) topics: Vec<TopicOptions>,
    pub(crate) troubles: Troubles,
}

/// Looks for the brokers and sees to the topics; the lane's is added. Waits, and says for whom, until the brokers are
/// there: put it beside the process's shutdown in a `select`.
///
/// # Errors
/// What waiting does not help against.
pub async fn connect(options: KafkaOptions, topics: &[TopicOptions]) -> Result<Kafka, OpenError> {
    let mut topics = topics.to_vec();
    topics.retain(|t| t.name != crate::LANE);
    topics.push(TopicOptions::new(crate::LANE).with_partitions(options.lanes));
    for topic in &topics {
        check_name("topic", &topic.name)?;
        topic.groups.iter().try_for_each(|group| check_name("group", group))?;
    }
    let kafka = Kafka { options, topics, troubles: Troubles::default() };
    let mut backoff = Backoff::new(RETRY);
    loop {
        match kafka.look().await {
            Ok(()) => return Ok(kafka),
            Err(OpenError::NotNow(why)) => {
                let wait_ms = backoff.failed(0);
                let (brokers, tried) = (&kafka.options.brokers, kafka.troubles.take());
                tracing::warn!(brokers, tried, why, wait_ms, "Kafka can't be used yet, trying again");
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Kafka {
    /// One look at brokers and topics.
    async fn look(&self) -> Result<(), OpenError> {
        let settings =
            |e: KafkaError| OpenError::Settings { brokers: self.options.brokers.clone(), why: e.to_string() };
        // A client for each look: it would go on trying to connect to a broker that has moved.
        let context = || Plain(self.troubles.clone());
        let asker: BaseConsumer<Plain> =
            self.options.client().create_with_context(context()).map_err(settings)?;
        let asker = Arc::new(asker);
        let admin: AdminClient<Plain> =
            self.options.client().create_with_context(context()).map_err(settings)?;
        self.metadata(&asker).await?;
        for topic in &self.topics {
            self.see_to(&asker, &admin, topic).await?;
        }
        Ok(())
    }

    async fn see_to(
        &self,
        asker: &Arc<BaseConsumer<Plain>>,
        admin: &AdminClient<Plain>,
        topic: &TopicOptions,
    ) -> Result<(), OpenError> {
        let name = self.options.topic(&topic.name);
        for made in [false, true] {
            let all = self.metadata(asker).await?;
            if let Some(found) = all.topics().iter().find(|t| t.name() == name && !t.partitions().is_empty())
            {
                topics::check_shape(found, &self.options, topic)?;
                return topics::check_settings(admin, &self.options, topic).await;
            }
            if !made {
                topics::create(admin, &self.options, topic).await?;
                // Brokers learn of it one after the other.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Err(OpenError::NotNow(format!("topic {name} was made and is not known to every broker yet")))
    }

    async fn metadata(
        &self,
        asker: &Arc<BaseConsumer<Plain>>,
    ) -> Result<rdkafka::metadata::Metadata, OpenError> {
        let (client, within) = (Arc::clone(asker), self.options.answer / 2);
        let answer = blocking(move || {
            // Serves the reports about connections too, which a consumer gets only from polls.
            let answer = client.fetch_metadata(None, within);
            let _ = client.poll(Duration::ZERO);
            answer
        });
        match answer.await.map_err(OpenError::NotNow)? {
            Ok(metadata) => Ok(metadata),
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::SaslAuthenticationFailed
                    | RDKafkaErrorCode::UnsupportedSASLMechanism
                    | RDKafkaErrorCode::ClusterAuthorizationFailed,
                ) => Err(OpenError::Credentials {
                    brokers: self.options.brokers.clone(),
                    why: format!("{error}; {}", self.troubles.take()),
                }),
                _ => Err(OpenError::NotNow(error.to_string())),
            },
        }
    }
}
