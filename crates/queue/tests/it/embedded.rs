//! What only files can do: be damaged, be of another shape.

use crate::setup::{Adapter, Embedded};
use queue::embedded::{EmbeddedQueue, OpenError};
use queue::{Position, Queue, TopicOptions};
use runtime::SystemClock;
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path, topics: &[TopicOptions]) -> Result<EmbeddedQueue, OpenError> {
    EmbeddedQueue::open(dir, topics, SystemClock::shared(), Arc::new(|_| {}))
}

fn one() -> Vec<TopicOptions> {
    vec![TopicOptions::new("t").with_partitions(1)]
}

#[tokio::test]
async fn refuses_another_number_of_partitions() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &one()).unwrap());
    let more = [TopicOptions::new("t").with_partitions(2)];
    let error = open(dir.path(), &more).err().unwrap().to_string();
    assert!(error.contains("was made with 1 partitions and the configuration says 2"), "{error}");
    open(dir.path(), &one()).unwrap();
}

#[tokio::test]
async fn a_log_that_lost_what_was_committed_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), &one()).unwrap();
    for _ in 0..3 {
        queue.produce("t", 0, &[b"x"]).await.unwrap();
    }
    queue.consumer("t", "g").await.unwrap().commit(0, Position(3)).await.unwrap();
    assert_eq!(queue.known("t", 0).unwrap(), Position(3));
    drop(queue);
    // The last group is damaged: a crash's trace, if nobody had known it.
    let segment = dir.path().join("t/00000/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|b| *b == b'x').unwrap();
    bytes[last] = b'y';
    std::fs::write(&segment, &bytes).unwrap();
    let refused = open(dir.path(), &one()).err().unwrap();
    assert!(
        matches!(&refused, OpenError::Log { partition: 0, source, .. } if source.corrupt().is_some()),
        "{refused}"
    );
    std::fs::remove_file(dir.path().join("t/g.00000.pos")).unwrap();
    assert_eq!(open(dir.path(), &one()).unwrap().head("t", 0).await.unwrap(), Position(2));
}

#[tokio::test]
async fn a_damaged_position_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), &one()).unwrap();
    drop(queue.consumer("t", "g").await.unwrap());
    drop(queue);
    std::fs::write(dir.path().join("t/g.00000.pos"), b"rubbish").unwrap();
    let error = open(dir.path(), &one()).err().unwrap().to_string();
    assert!(error.contains("group g in topic t") && error.contains("neither slot is whole"), "{error}");
}

#[tokio::test]
async fn produces_at_once_share_groups() {
    let a = Embedded::new();
    let queue = a.queue();
    let many = (0..200u32).map(|i| async move { queue.produce("t", 0, &[&i.to_le_bytes()]).await.unwrap() });
    futures_util::future::join_all(many).await;
    let mut c = queue.consumer("t", "g").await.unwrap();
    let batches = c.poll(1 << 20, 1 << 20).await.unwrap();
    assert_eq!(batches[0].records().count(), 200);
    assert!(batches[0].groups.len() < 200, "{} groups", batches[0].groups.len());
}

#[tokio::test]
async fn committed_segments_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let topics = [TopicOptions::new("orders").with_partitions(1).forgetting(&["g"])];
    let queue = open(dir.path(), &topics).unwrap();
    let record = vec![7u8; 500_000];
    // Segments of 8 MiB: the first one is full after 17.
    for _ in 0..40 {
        queue.produce("orders", 0, &[&record]).await.unwrap();
    }
    for _ in 0..60 {
        queue.produce("orders", 0, &[b"x"]).await.unwrap();
    }
    let segments = || {
        let names = std::fs::read_dir(dir.path().join("orders/00000")).unwrap();
        names.filter(|n| n.as_ref().unwrap().file_name().to_string_lossy().ends_with(".seg")).count()
    };
    assert_eq!(segments(), 3);
    let mut g = queue.consumer("orders", "g").await.unwrap();
    g.commit(0, Position(99)).await.unwrap();
    // The log's thread removes them when it gets to it.
    for _ in 0..6_000 {
        if segments() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(segments(), 1);
    assert_eq!(g.poll(9, 9).await.unwrap()[0].groups[0].position, Position(99));
}
