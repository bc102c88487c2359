//! Brokers that go away and come back, with the client library's mock cluster: nothing waits for ever, nothing is lost, a
//! lane has no gap.

use std::time::Duration;

use bytes::Bytes;
use flowlog::LogKind;
use flowlog::format::{GroupHeader, epoch_genesis, group_hash};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use runtime::SystemClock;

use super::client::Troubles;
use super::{Kafka, KafkaLanes, KafkaOptions, KafkaQueue};
use crate::lanes::{LaneError, LaneState, Lanes as _};
use crate::port::{Queue as _, TopicOptions};
use crate::{LANE, Position};

const WAIT: Duration = Duration::from_secs(120);

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, Kafka) {
    let cluster = MockCluster::new(1).unwrap();
    let mut options = KafkaOptions::new(&cluster.bootstrap_servers(), SystemClock::shared());
    (options.lanes, options.development, options.patience) = (1, true, Duration::from_secs(2));
    cluster.create_topic(LANE, 1, 1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let topics = vec![TopicOptions::new("t").with_partitions(1), TopicOptions::new(LANE).with_partitions(1)];
    (cluster, Kafka { options, topics, troubles: Troubles::default() })
}

/// Groups of node 0, epoch 1.
fn groups(count: u64) -> Vec<Bytes> {
    let mut hash = epoch_genesis(0, 1);
    let group = |i: u64| {
        let body = [&4u32.to_le_bytes()[..], b"test"].concat();
        let header = GroupHeader {
            kind: LogKind::FLOW.0,
            node: 0,
            epoch: 1,
            position: Position(i),
            epoch_seq: i,
            record_count: 1,
            body_len: body.len() as u32,
            time_ms: 0,
            prev_hash: hash,
            body_crc: crc32c::crc32c(&body),
        };
        let bytes = [&header.encode()[..], &body].concat();
        hash = group_hash(&bytes);
        Bytes::from(bytes)
    };
    (0..count).map(group).collect()
}

/// Ships until it is known to be there: a busy machine may make any call unsure, and repeating is harmless.
async fn ship(lanes: &KafkaLanes, groups: &[Bytes]) {
    let shipped = async {
        while let Err(error) = lanes.ship(0, groups.to_vec()).await {
            assert!(error.is_retryable(), "{error}");
        }
    };
    tokio::time::timeout(WAIT, shipped).await.unwrap();
}

/// Produces until it is known to be there.
async fn produce(queue: &KafkaQueue, record: &[u8]) {
    let produced = async {
        while let Err(error) = queue.produce("t", 0, &[record]).await {
            assert!(error.is_retryable(), "{error}");
        }
    };
    tokio::time::timeout(WAIT, produced).await.unwrap();
}

/// Where the lane ends, when the broker says.
async fn end_of(lanes: &KafkaLanes) -> LaneState {
    let asked = async {
        loop {
            match lanes.end(0).await {
                Ok(end) => return end,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    tokio::time::timeout(WAIT, asked).await.unwrap()
}

#[tokio::test]
async fn a_lost_broker_makes_unsure_and_repeating_makes_whole() {
    let (cluster, kafka) = cluster();
    let (lanes, queue) = (KafkaLanes::new(&kafka).unwrap(), KafkaQueue::new(&kafka).unwrap());
    let groups = groups(6);
    ship(&lanes, &groups[..2]).await;
    produce(&queue, b"before").await;
    cluster.broker_down(1).unwrap();
    let both = async { tokio::join!(lanes.ship(0, groups[2..4].to_vec()), queue.produce("t", 0, &[b"x"])) };
    let (shipped, produced) = tokio::time::timeout(WAIT, both).await.unwrap();
    assert!(matches!(shipped, Err(LaneError::Unsure(_))), "{shipped:?}");
    assert!(matches!(&produced, Err(e) if e.is_unsure() && e.is_retryable()), "{produced:?}");
    // Later groups wait behind those that were not acknowledged, and don't go before them.
    let end = tokio::time::timeout(WAIT, lanes.end(0)).await.unwrap();
    assert!(matches!(end, Err(LaneError::Unavailable(_))), "{end:?}");
    cluster.broker_up(1).unwrap();
    ship(&lanes, &groups[2..]).await;
    produce(&queue, b"x").await;
    let end = end_of(&lanes).await;
    assert_eq!((end.next, end.epoch_seq), (Position(6), 6));
}

#[tokio::test]
async fn a_later_group_is_not_sent_before_one_that_was_not_taken() {
    let (_cluster, kafka) = cluster();
    let lanes = KafkaLanes::new(&kafka).unwrap();
    let groups = groups(6);
    ship(&lanes, &groups[..2]).await;
    let early = lanes.ship(0, groups[4..].to_vec()).await;
    assert!(matches!(&early, Err(LaneError::Unsure(why)) if why.contains("before group 2")), "{early:?}");
    ship(&lanes, &groups[1..]).await;
    // A producer that failed is replaced, and the lane goes on from what was acknowledged.
    lanes.replace(1);
    lanes.replace(1);
    // All of it was there.
    ship(&lanes, &groups[3..]).await;
    assert_eq!(end_of(&lanes).await.next, Position(6));
}
