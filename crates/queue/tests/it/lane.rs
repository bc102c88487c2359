//! A node's flow log, read in place as its partition of the lane.

use flowlog::{Class, FlowLog, Hooks, LogClock, LogKind, LogOptions, LogWriter, RealDisk};
use queue::embedded::EmbeddedQueue;
use queue::{LANE, Position, ProduceError, Queue};
use runtime::SystemClock;
use std::path::Path;
use std::sync::Arc;

struct Still;

impl LogClock for Still {
    fn unix_ms(&self) -> u64 {
        7
    }
    fn mono_ns(&self) -> u64 {
        7
    }
}

/// Opens the node's log as a restarted node does, under the next epoch.
fn node(dir: &Path, known: Position, epoch: u32) -> (FlowLog, Position) {
    let options = LogOptions::small(LogKind::FLOW, 9);
    let (mut writer, recovery) = LogWriter::open(RealDisk, dir, options, Some(known), None).unwrap();
    writer.begin_epoch(epoch).unwrap();
    (FlowLog::start(writer, RealDisk, Arc::new(Still), Hooks::default()).unwrap(), recovery.first)
}

#[tokio::test]
async fn the_lane_is_read_in_place_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, data) = (dir.path().join("lane-9"), dir.path().join("queue"));
    let open = || EmbeddedQueue::open(&data, &[], SystemClock::shared(), Arc::new(|_| {})).unwrap();
    for epoch in 1..=3u32 {
        let queue = open();
        let known = queue.known(LANE, 9).unwrap();
        assert_eq!(known, Position(u64::from(epoch - 1)));
        let (log, first) = node(&lane, known, epoch);
        queue.attach_lane(9, log.clone(), first).unwrap();
        assert_eq!(queue.partitions(LANE).unwrap(), [9]);
        let mut c = queue.consumer(LANE, "flow").await.unwrap();
        let at = log.append(format!("e{epoch}").as_bytes(), Class::Normal).unwrap();
        c.ready().await;
        log.wait_durable(at).await.unwrap();
        let batches = c.poll(100, 1 << 20).await.unwrap();
        let group = &batches[0].groups[0];
        assert_eq!((batches[0].partition, group.position, group.epoch), (9, known, epoch));
        assert_eq!(group.records().next().unwrap(), format!("e{epoch}").as_bytes());
        assert_eq!(queue.lag(LANE, "flow").await.unwrap(), 1);
        c.commit(9, batches[0].next()).await.unwrap();
        assert!(matches!(queue.produce(LANE, 9, &[b"x"]).await, Err(ProduceError::ReadOnly(_))));
        // The consumer first, as the node's log outlives it.
        drop(c);
    }
}

#[tokio::test]
async fn a_lane_that_is_attached_later_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let queue =
        EmbeddedQueue::open(&dir.path().join("q"), &[], SystemClock::shared(), Arc::new(|_| {})).unwrap();
    let mut c = queue.consumer(LANE, "flow").await.unwrap();
    assert!(c.assignment().is_empty());
    let (log, first) = node(&dir.path().join("l"), Position(0), 1);
    queue.attach_lane(9, log.clone(), first).unwrap();
    c.ready().await;
    assert_eq!(c.assignment(), [9]);
    let at = log.append(b"x", Class::Normal).unwrap();
    log.wait_durable(at).await.unwrap();
    let batches = c.poll(1, 1).await.unwrap();
    c.commit(9, batches[0].next()).await.unwrap();
    drop(c);
    assert_eq!(queue.known(LANE, 9).unwrap(), Position(1));
}
