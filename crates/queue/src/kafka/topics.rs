//! Topics as they must be: made when they are missing, checked when they are there. A topic that could lose what was
//! acknowledged is refused by name, with what was found and what to do.

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::client::{KafkaOptions, Plain};
use super::{MESSAGE_BYTES_MAX, OpenError};
use crate::port::TopicOptions;

/// Replicas that must have a message before it is acknowledged.
const MIN_INSYNC: u16 = 2;
/// Replicas that a topic must have.
const REPLICATION_MIN: usize = 3;

/// What a setting of a topic must be.
enum Wanted {
    AtLeast(i64),
    Is(&'static str),
}

/// Settings that every topic must have: name, value when it is made, what is accepted.
fn settings(options: &KafkaOptions) -> Vec<(&'static str, String, Wanted)> {
    let mut all = vec![
        ("cleanup.policy", "delete".to_owned(), Wanted::Is("delete")),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string(), Wanted::AtLeast(MESSAGE_BYTES_MAX as i64)),
        // Lane and journal are kept for ever. Of the orders the queue removes what was consumed; neither time nor size
        // may remove what was not.
        ("retention.ms", "-1".to_owned(), Wanted::Is("-1")),
        ("retention.bytes", "-1".to_owned(), Wanted::Is("-1")),
    ];
    if !options.development {
        all.push(("min.insync.replicas", MIN_INSYNC.to_string(), Wanted::AtLeast(MIN_INSYNC.into())));
        all.push(("unclean.leader.election.enable", "false".to_owned(), Wanted::Is("false")));
    }
    all
}

/// Makes a topic.
pub(crate) async fn create(
    admin: &AdminClient<Plain>,
    options: &KafkaOptions,
    topic: &TopicOptions,
) -> Result<(), OpenError> {
    let name = options.topic(&topic.name);
    let replication = if options.development { 1 } else { i32::from(options.replication) };
    let settings = settings(options);
    let new = NewTopic::new(&name, topic.partitions.into(), TopicReplication::Fixed(replication));
    let new = settings.iter().fold(new, |new, (key, value, _)| new.set(key, value));
    let failed = |why: String| OpenError::Topic {
        topic: name.clone(),
        what: "can't be made".to_owned(),
        found: why,
        wanted: format!("{} partitions, {replication} replicas", topic.partitions),
        advice: "start as many brokers, or make the topic by hand".to_owned(),
    };
    let results = admin
        .create_topics([&new], &admin_options(options))
        .await
        .map_err(|e| OpenError::NotNow(e.to_string()))?;
    match results.into_iter().next() {
        Some(Ok(_)) => {
            tracing::info!(topic = name, partitions = topic.partitions, replication, "made a topic");
            Ok(())
        }
        // Another process was faster.
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code @ (RDKafkaErrorCode::RequestTimedOut | RDKafkaErrorCode::NotController)))) => {
            Err(OpenError::NotNow(format!("topic {name}: {code}")))
        }
        // Brokers that are starting have not all come yet.
        Some(Err((_, code @ RDKafkaErrorCode::InvalidReplicationFactor))) => Err(OpenError::NotNow(format!(
            "topic {name} can't be made with {replication} replicas: {code}; start as many brokers, or set the \
             development switch"
        ))),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("no answer about it".to_owned())),
    }
}

pub(super) fn admin_options(options: &KafkaOptions) -> AdminOptions {
    let answer = Some(options.answer);
    AdminOptions::new().request_timeout(answer).operation_timeout(answer)
}

/// Checks partitions and replicas.
pub(crate) fn check_shape(
    found: &MetadataTopic,
    options: &KafkaOptions,
    topic: &TopicOptions,
) -> Result<(), OpenError> {
    let name = options.topic(&topic.name);
    let wrong = |what: &str, found: String, wanted: String, advice: &str| {
        Err(OpenError::Topic {
            topic: name.clone(),
            what: what.to_owned(),
            found,
            wanted,
            advice: advice.to_owned(),
        })
    };
    let partitions = found.partitions().len();
    if partitions != usize::from(topic.partitions) {
        let advice = if topic.name == crate::LANE {
            "say how many there are in the configuration; when there are too few for the node numbers, add some with \
             `kafka-topics.sh --alter --partitions`"
        } else {
            "records would change their partition: write the number that was found into the configuration"
        };
        return wrong(
            "has another number of partitions",
            partitions.to_string(),
            topic.partitions.to_string(),
            advice,
        );
    }
    let fewest = found.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or_default();
    if !options.development && fewest < REPLICATION_MIN {
        return wrong(
            "has too few replicas",
            fewest.to_string(),
            format!("at least {REPLICATION_MIN}"),
            "give it more with `kafka-reassign-partitions.sh`, or set the development switch and lose what was \
             acknowledged with the broker's disk",
        );
    }
    Ok(())
}

/// Checks the settings.
pub(crate) async fn check_settings(
    admin: &AdminClient<Plain>,
    options: &KafkaOptions,
    topic: &TopicOptions,
) -> Result<(), OpenError> {
    let name = options.topic(&topic.name);
    let asked = [ResourceSpecifier::Topic(&name)];
    let answers = admin.describe_configs(&asked, &admin_options(options)).await;
    let not_now = |why: String| OpenError::NotNow(format!("settings of topic {name}: {why}"));
    let answers = answers.map_err(|e| not_now(e.to_string()))?;
    let resource = match answers.into_iter().next() {
        Some(Ok(resource)) => resource,
        Some(Err(code)) => return Err(not_now(code.to_string())),
        None => return Err(not_now("no answer".to_owned())),
    };
    settings(options).iter().try_for_each(|(key, _, wanted)| check(&name, &resource, key, wanted))
}

fn check(topic: &str, resource: &ConfigResource, key: &str, wanted: &Wanted) -> Result<(), OpenError> {
    // A broker that has not heard of a topic made a moment ago describes it without any setting.
    let Some(found) = resource.get(key).and_then(|entry| entry.value.clone()) else {
        return Err(OpenError::NotNow(format!("the broker does not say {key} of topic {topic} yet")));
    };
    let (good, wanted) = match wanted {
        Wanted::Is(value) => (found == *value, (*value).to_owned()),
        Wanted::AtLeast(value) => {
            (found.parse::<i64>().is_ok_and(|found| found >= *value), format!("at least {value}"))
        }
    };
    if good {
        return Ok(());
    }
    Err(OpenError::Topic {
        topic: topic.to_owned(),
        what: format!("has another {key}"),
        found,
        wanted,
        advice: format!("`kafka-configs.sh --alter --topic {topic} --add-config {key}=...`"),
    })
}
