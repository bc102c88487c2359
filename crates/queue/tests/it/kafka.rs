//! What only servers can do: be away, be of another shape, hand partitions on.

use crate::lanes::conformance::{LANES_USED, suite};
use crate::lanes::{Log, ended};
use crate::setup::{OnKafka, assigned, options, texts, topics};
use proptest::prelude::*;
use queue::kafka::{KafkaLanes, KafkaQueue, OpenError, connect};
use queue::lanes::memory::MemoryLanes;
use queue::lanes::{LaneError, Lanes};
use queue::{Consumer, LANE, Position, ProduceError, Queue, TopicError, TopicOptions};
use std::time::Duration;

#[tokio::test]
async fn lanes_keep_their_promises() {
    let Some(broker) = testkit::servers::kafka() else { return };
    let mut options = options(&broker);
    options.lanes = LANES_USED;
    let kafka = connect(options, &[]).await.unwrap();
    suite(&KafkaLanes::new(&kafka).unwrap(), 0, LANES_USED).await;
}

/// Polls so often, and collects position and epoch of what comes.
async fn places(c: &mut dyn Consumer, groups: usize) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    for _ in 0..6_000 {
        for batch in c.poll(3, 1 << 20).await.unwrap() {
            all.extend(batch.groups.iter().map(|g| (g.position.0, g.epoch)));
        }
        if all.len() >= groups {
            break;
        }
        let _ = tokio::time::timeout(Duration::from_millis(20), c.ready()).await;
    }
    all
}

/// A lane with an end, a zombie behind it, repetitions and a jump; the node's number is 1.
async fn a_lane(lanes: &KafkaLanes) -> Vec<(u64, u32)> {
    let mut log = Log::new(1, 1);
    let first = log.groups(6);
    lanes.ship(1, first[..4].to_vec()).await.unwrap();
    lanes.mark_ended(1, 1, &ended(1, 1)).await.unwrap();
    lanes.ship(1, first[4..].to_vec()).await.unwrap();
    lanes.mark_ended(1, 1, &ended(1, 1)).await.unwrap();
    log.begin(2);
    lanes.ship(1, log.groups(3)).await.unwrap();
    // Somebody who has not heard repeats all of it.
    lanes.ship(1, first).await.unwrap();
    lanes.mark_ended(1, 1, &ended(1, 1)).await.unwrap();
    vec![(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (6, 2), (7, 2), (8, 2)]
}

#[tokio::test]
async fn a_lane_is_read_from_the_middle_and_judged_alike() {
    let Some(kafka) = OnKafka::new().await else { return };
    let (lanes, queue) = (KafkaLanes::new(&kafka.kafka).unwrap(), KafkaQueue::new(&kafka.kafka).unwrap());
    let want = a_lane(&lanes).await;
    // Behind each group a new member goes on from what the one before has committed.
    let mut got = Vec::new();
    for count in [3, 3, 2] {
        let mut c = queue.consumer(LANE, "flow").await.unwrap();
        assigned(&mut *c, 4).await;
        let some = places(&mut *c, count).await;
        let some = &some[..some.len().min(count)];
        c.commit(1, Position(some.last().unwrap().0 + 1)).await.unwrap();
        assert_eq!(queue.committed(LANE, "flow", 1).await.unwrap(), Position(some.last().unwrap().0 + 1));
        got.extend_from_slice(some);
    }
    assert_eq!(got, want);
    assert_eq!(queue.head(LANE, 1).await.unwrap(), Position(9));
    // What stands behind and counts for nothing is not behind for ever.
    assert_eq!(queue.lag(LANE, "flow").await.unwrap(), 0);
    let mut c = queue.consumer(LANE, "flow").await.unwrap();
    assigned(&mut *c, 4).await;
    lanes.mark_ended(1, 1, &ended(1, 1)).await.unwrap();
    for _ in 0..2_400 {
        if queue.lag(LANE, "flow").await.unwrap() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(queue.lag(LANE, "flow").await.unwrap(), 0);
    // Going back brings what was not committed, and a lane is not committed ahead.
    assert!(c.commit(1, Position(20)).await.is_err());
    assert_eq!(queue.produce(LANE, 1, &[b"x"]).await, Err(ProduceError::ReadOnly(LANE.to_owned())));
}

#[tokio::test]
async fn a_broken_lane_stops_its_readers_at_the_place() {
    let Some(kafka) = OnKafka::new().await else { return };
    let (lanes, queue) = (KafkaLanes::new(&kafka.kafka).unwrap(), KafkaQueue::new(&kafka.kafka).unwrap());
    let mut log = Log::new(2, 1);
    lanes.ship(2, log.groups(2)).await.unwrap();
    // Two processes under one number.
    let mut other = Log::new(2, 1);
    other.group(&[b"another"]);
    let second = KafkaLanes::new(&kafka.kafka).unwrap();
    second.ship(2, other.groups(2)[1..].to_vec()).await.unwrap();
    let mut c = queue.consumer(LANE, "flow").await.unwrap();
    assert_eq!(places(&mut *c, 2).await, [(0, 1), (1, 1)]);
    let error = loop {
        match c.poll(9, 9).await {
            Ok(_) => c.ready().await,
            Err(error) => break error,
        }
    };
    assert_eq!((error.partition, error.position), (2, Position(2)));
    assert!(error.why.contains("lane of node 2, group 2"), "{error}");
    assert!(matches!(lanes.end(2).await, Err(LaneError::Fault(_))));
}

#[tokio::test]
async fn a_topic_of_another_shape_is_refused_by_name() {
    let Some(broker) = testkit::servers::kafka() else { return };
    let options = options(&broker);
    connect(options.clone(), &topics()).await.unwrap();
    connect(options.clone(), &topics()).await.unwrap();
    let more = [TopicOptions::new("t").with_partitions(3)];
    let Err(OpenError::Topic { topic, found, wanted, .. }) = connect(options.clone(), &more).await else {
        panic!()
    };
    assert_eq!((topic, found, wanted), (format!("{}t", options.prefix), "2".to_owned(), "3".to_owned()));
    let mut lanes = options.clone();
    lanes.lanes = 9;
    let error = connect(lanes, &topics()).await.err().unwrap().to_string();
    assert!(error.contains("lane has another number of partitions: found \"4\", wanted 9"), "{error}");
    // Without the development switch one replica is too few.
    let mut strict = options;
    strict.development = false;
    let error = connect(strict, &topics()).await.err().unwrap().to_string();
    assert!(error.contains("has too few replicas: found \"1\", wanted at least 3"), "{error}");
}

#[tokio::test]
async fn who_is_down_at_the_start_is_waited_for() {
    // Nobody listens there.
    let options = options("127.0.0.1:1");
    let waited = tokio::time::timeout(Duration::from_secs(7), connect(options, &topics())).await;
    assert!(waited.is_err(), "it goes on trying");
    let mut wrong = self::options("127.0.0.1:1");
    wrong.settings.insert("no.such.setting".to_owned(), "1".to_owned());
    assert!(matches!(connect(wrong, &[]).await, Err(OpenError::Settings { .. })));
}

#[derive(Clone, Debug)]
enum Step {
    Ship { back: usize, groups: usize },
    Mark { epoch: u32 },
    Begin { jump: u64 },
    Read { from: u64, max: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0usize..4, 0usize..5).prop_map(|(back, groups)| Step::Ship { back, groups }),
        2 => (1u32..6).prop_map(|epoch| Step::Mark { epoch }),
        2 => (0u64..4).prop_map(|jump| Step::Begin { jump }),
        4 => (0u64..40, 1usize..9).prop_map(|(from, max)| Step::Read { from, max }),
    ];
    proptest::collection::vec(step, 10..40)
}

/// Whatever is written, faults too, both say the same.
async fn compare(kafka: &KafkaLanes, memory: &MemoryLanes, node: u16, steps: Vec<Step>) {
    let mut log = Log::new(node, 1);
    let mut groups = Vec::new();
    for step in steps {
        match step {
            Step::Ship { back, groups: more } => {
                let from = groups.len().saturating_sub(back);
                groups.extend(log.groups(more));
                let answer = kafka.ship(node, groups[from..].to_vec()).await;
                assert_eq!(answer, Ok(()));
                // A handle does not send again what it knows to be there, or it would say nothing else.
                memory.ship_now(node, groups[from..].to_vec()).unwrap();
            }
            Step::Mark { epoch } => {
                kafka.mark_ended(node, epoch, &ended(node, epoch)).await.unwrap();
                memory.mark_ended_now(node, epoch, &ended(node, epoch)).unwrap();
            }
            Step::Begin { jump } => {
                log.begin(log.epoch + 1);
                log.next = log.next.max(memory.end_now(node).map_or(0, |end| end.next.0)) + jump;
                groups.clear();
            }
            Step::Read { from, max } => {
                let (a, b) = (
                    kafka.read(node, Position(from), max).await,
                    memory.read(node, Position(from), max).await,
                );
                assert_eq!(a, b, "from {from}, at most {max}");
            }
        }
        assert_eq!(kafka.end(node).await, memory.end(node).await);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn lanes_answer_as_memory_does(sequences in proptest::collection::vec(steps(), 12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let Some(broker) = testkit::servers::kafka() else { return };
            let mut options = options(&broker);
            options.lanes = 12;
            let kafka = KafkaLanes::new(&connect(options, &[]).await.unwrap()).unwrap();
            let memory = MemoryLanes::new(12);
            for (node, steps) in (0u16..).zip(sequences) {
                compare(&kafka, &memory, node, steps).await;
            }
        });
    }
}

#[tokio::test]
async fn a_damaged_message_is_named() {
    let Some(kafka) = OnKafka::new().await else { return };
    let queue = KafkaQueue::new(&kafka.kafka).unwrap();
    assert_eq!(queue.produce("t", 0, &[b"good"]).await.unwrap(), Position(0));
    let mut c = queue.consumer("t", "g").await.unwrap();
    let batches = crate::setup::gather(&mut *c, 1).await;
    assert_eq!(texts(&batches), ["good"]);
    assert!(matches!(queue.head("nope", 0).await, Err(TopicError::UnknownTopic { .. })));
}
