//! One suite for every adapter of the lanes. Each test begins with an empty lane.

use super::{Log, ended};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use queue::lanes::memory::{MemoryLanes, Trouble};
use queue::lanes::{LaneError, LaneState, Lanes};
use queue::memory::MemoryQueue;
use queue::{Group, LANE, Position, Queue, TopicOptions};

/// Records of groups as text, with position and epoch.
fn texts(groups: &[Group]) -> Vec<(u64, u32, String)> {
    let text = |g: &Group| {
        g.records().map(|r| String::from_utf8_lossy(r).into_owned()).collect::<Vec<_>>().join("+")
    };
    groups.iter().map(|g| (g.position.0, g.epoch, text(g))).collect()
}

async fn all(lanes: &dyn Lanes, node: u16) -> Vec<Group> {
    let read = lanes.read(node, Position::ZERO, 1000).await.unwrap();
    assert!(read.at_end);
    read.groups
}

/// All of the suite, on the empty lanes `from` and up.
pub async fn suite(lanes: &dyn Lanes, from: u16, lanes_count: u16) {
    what_was_shipped_is_read(lanes, from).await;
    repeating_is_harmless(lanes, from + 1).await;
    a_stretch_is_read_from_anywhere(lanes, from + 2).await;
    zombies_count_for_nothing(lanes, from + 3).await;
    many_in_flight_keep_their_order(lanes, from + 4).await;
    what_can_not_be_is_refused(lanes, from + 5, lanes_count).await;
    a_broken_lane_is_named(lanes, from + 6).await;
}
/// Lanes that the suite uses.
pub const LANES_USED: u16 = 7;

async fn what_was_shipped_is_read(lanes: &dyn Lanes, node: u16) {
    assert_eq!(lanes.end(node).await.unwrap(), LaneState::ORIGIN);
    assert!(all(lanes, node).await.is_empty());
    let mut log = Log::new(node, 1);
    let groups = vec![log.group(&[b"a", b""]), log.group(&[b"b"])];
    lanes.ship(node, groups.clone()).await.unwrap();
    lanes.ship(node, vec![]).await.unwrap();
    let end = lanes.end(node).await.unwrap();
    assert_eq!((end.next, end.epoch, end.epoch_seq, end.hash), (Position(2), 1, 2, log.hash));
    assert_eq!(texts(&all(lanes, node).await), [(0, 1, "a+".into()), (1, 1, "b".into())]);
    let raw = lanes.read_raw(node, Position::ZERO, 10).await.unwrap();
    assert_eq!(raw.groups.iter().map(|g| g.bytes.clone()).collect::<Vec<_>>(), groups, "byte for byte");
}

async fn repeating_is_harmless(lanes: &dyn Lanes, node: u16) {
    let mut log = Log::new(node, 1);
    let groups = log.groups(4);
    lanes.ship(node, groups[..3].to_vec()).await.unwrap();
    lanes.ship(node, groups[1..].to_vec()).await.unwrap();
    lanes.ship(node, groups.clone()).await.unwrap();
    for _ in 0..2 {
        lanes.mark_ended(node, 1, &ended(node, 1)).await.unwrap();
    }
    assert_eq!(all(lanes, node).await.len(), 5);
    let end = lanes.end(node).await.unwrap();
    assert_eq!((end.next, end.ended_up_to), (Position(5), 1));
}

async fn a_stretch_is_read_from_anywhere(lanes: &dyn Lanes, node: u16) {
    let mut log = Log::new(node, 1);
    lanes.ship(node, log.groups(40)).await.unwrap();
    lanes.mark_ended(node, 1, &ended(node, 1)).await.unwrap();
    log.next = 50;
    log.begin(2);
    lanes.ship(node, log.groups(30)).await.unwrap();
    let whole = all(lanes, node).await;
    assert_eq!(whole.len(), 71);
    for (from, max) in
        [(0, 1), (7, 3), (39, 5), (40, 1), (41, 4), (49, 2), (50, 2), (70, 100), (79, 1), (80, 5), (99, 5)]
    {
        let read = lanes.read(node, Position(from), max).await.unwrap();
        let want: Vec<Group> = whole.iter().filter(|g| g.position.0 >= from).take(max).cloned().collect();
        assert_eq!(texts(&read.groups), texts(&want), "from {from}");
        let behind = whole.iter().filter(|g| g.position.0 >= from).count();
        assert_eq!(read.at_end, behind <= max, "from {from}");
    }
}

async fn zombies_count_for_nothing(lanes: &dyn Lanes, node: u16) {
    let mut log = Log::new(node, 1);
    let groups = log.groups(4);
    lanes.ship(node, groups[..2].to_vec()).await.unwrap();
    lanes.mark_ended(node, 1, &ended(node, 1)).await.unwrap();
    // It wakes, does not know, and ships: taken, and nothing.
    lanes.ship(node, groups[2..].to_vec()).await.unwrap();
    log.begin(2);
    lanes.ship(node, log.groups(1)).await.unwrap();
    lanes.ship(node, groups.clone()).await.unwrap();
    lanes.mark_ended(node, 1, &ended(node, 1)).await.unwrap();
    lanes.ship(node, log.groups(1)).await.unwrap();
    let mark = String::from_utf8_lossy(&ended(node, 1)).into_owned();
    assert_eq!(
        texts(&all(lanes, node).await),
        [
            (0, 1, "1/0".into()),
            (1, 1, "1/1".into()),
            (2, 1, mark),
            (4, 2, "2/4".into()),
            (5, 2, "2/5".into())
        ]
    );
    let raw = lanes.read_raw(node, Position(2), 2).await.unwrap();
    assert_eq!(raw.groups.iter().map(|g| g.place.is_mark).collect::<Vec<_>>(), [true, false]);
}

async fn many_in_flight_keep_their_order(lanes: &dyn Lanes, node: u16) {
    let mut log = Log::new(node, 1);
    let groups = log.groups(400);
    let mut flying: FuturesOrdered<_> =
        groups.chunks(8).map(|chunk| lanes.ship(node, chunk.to_vec())).collect();
    while let Some(shipped) = flying.next().await {
        shipped.unwrap();
    }
    let positions: Vec<u64> = all(lanes, node).await.iter().map(|g| g.position.0).collect();
    assert_eq!(positions, (0..400).collect::<Vec<_>>());
}

async fn what_can_not_be_is_refused(lanes: &dyn Lanes, node: u16, count: u16) {
    let mut log = Log::new(node, 1);
    let groups = log.groups(3);
    let refused =
        |result: Result<(), LaneError>| assert!(matches!(result, Err(LaneError::Refused(_))), "{result:?}");
    refused(lanes.ship(node, vec![groups[0].clone(), groups[2].clone()]).await);
    refused(lanes.ship(node, vec![Bytes::from_static(b"rubbish")]).await);
    refused(lanes.ship(node, Log::new(node + 1, 1).groups(1)).await);
    refused(lanes.mark_ended(node, 1, b"x").await);
    refused(lanes.mark_ended(node, 2, &ended(node, 1)).await);
    assert_eq!(lanes.end(node).await.unwrap(), LaneState::ORIGIN, "nothing was written");
    let unknown = LaneError::UnknownLane { node: count, lanes: count };
    assert_eq!(lanes.end(count).await, Err(unknown.clone()));
    assert_eq!(lanes.ship(count, Log::new(count, 1).groups(1)).await, Err(unknown.clone()));
    assert_eq!(lanes.mark_ended(count, 1, &ended(count, 1)).await, Err(unknown.clone()));
    assert_eq!(lanes.read(count, Position::ZERO, 1).await, Err(unknown));
}

async fn a_broken_lane_is_named(lanes: &dyn Lanes, node: u16) {
    let mut log = Log::new(node, 1);
    lanes.ship(node, log.groups(2)).await.unwrap();
    // Another history under the same epoch: two processes with one number.
    let mut other = Log::new(node, 1);
    other.group(&[b"other"]);
    other.groups(1);
    lanes.ship(node, other.groups(1)).await.unwrap();
    assert_eq!(lanes.read(node, Position::ZERO, 2).await.unwrap().groups.len(), 2, "before it all is well");
    for fault in [lanes.end(node).await.err(), lanes.read(node, Position::ZERO, 3).await.err()] {
        let Some(LaneError::Fault(fault)) = fault else { panic!("{fault:?}") };
        assert_eq!((fault.node, fault.next), (node, Position(2)));
        assert!(fault.why.contains("hash chain"), "{fault}");
    }
}

#[tokio::test]
async fn memory() {
    suite(&MemoryLanes::new(LANES_USED), 0, LANES_USED).await;
}

#[tokio::test]
async fn memory_goes_wrong_as_it_is_told() {
    let lanes = MemoryLanes::new(1);
    let mut log = Log::new(0, 1);
    let groups = log.groups(6);
    for trouble in [Trouble::Unsure { lands: 1 }, Trouble::Held, Trouble::Twice] {
        lanes.trouble(0, trouble).unwrap();
    }
    assert!(matches!(lanes.ship_now(0, groups[..2].to_vec()), Err(LaneError::Unsure(_))));
    assert_eq!(lanes.end_now(0).unwrap().next, Position(1));
    assert!(lanes.ship_now(0, groups[1..3].to_vec()).unwrap_err().is_retryable());
    assert_eq!(lanes.end_now(0).unwrap().next, Position(1));
    lanes.ship_now(0, groups[1..4].to_vec()).unwrap();
    assert_eq!((lanes.end_now(0).unwrap().next, lanes.messages(0).unwrap().len()), (Position(4), 7));
    assert_eq!(lanes.land(0, 9).unwrap(), 2);
    lanes.repeat(0, 3, 2).unwrap();
    lanes.ship_now(0, groups[4..].to_vec()).unwrap();
    assert_eq!(lanes.read_raw_now(0, Position::ZERO, 99).unwrap().groups.len(), 6);
    assert_eq!(lanes.messages(0).unwrap().len(), 13);
}

#[tokio::test]
async fn consumers_of_a_memory_queue_read_the_lanes() {
    let queue = MemoryQueue::new([TopicOptions::new(LANE).with_partitions(2)]).unwrap();
    let lanes = MemoryLanes::new(2).feeding(&queue);
    let mut consumer = queue.consumer(LANE, "flow").await.unwrap();
    let mut log = Log::new(1, 1);
    lanes.ship_now(1, log.groups(2)).unwrap();
    lanes.repeat(1, 2, 2).unwrap();
    lanes.mark_ended_now(1, 1, &ended(1, 1)).unwrap();
    log.next = 9;
    log.begin(2);
    lanes.ship_now(1, log.groups(2)).unwrap();
    let batches = consumer.poll(100, 1 << 20).await.unwrap();
    let positions: Vec<u64> = batches[0].groups.iter().map(|g| g.position.0).collect();
    assert_eq!((batches[0].partition, positions), (1, vec![0, 1, 2, 9, 10]));
    consumer.commit(1, Position(3)).await.unwrap();
    consumer.rewind();
    let batches = consumer.poll(100, 1 << 20).await.unwrap();
    assert_eq!(batches[0].groups[0].position, Position(9));
    assert_eq!(batches[0].groups, lanes.read(1, Position(3), 9).await.unwrap().groups);
    consumer.commit(1, batches[0].next()).await.unwrap();
    assert_eq!(queue.lag(LANE, "flow").unwrap(), 0);
}
