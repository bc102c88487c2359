//! One suite, every adapter.

use crate::setup::{adapters, assigned, gather, gather_within, local, nothing, texts};
use queue::{CommitError, Position, ProduceError, TopicError};
use std::collections::BTreeSet;
use std::time::Duration;

const ALL: usize = 1 << 20;

#[tokio::test]
async fn produced_is_durable_and_in_order() {
    for mut a in adapters().await {
        for i in 0..20 {
            let (x, y) = (format!("{i}a"), format!("{i}b"));
            let at = a.queue().produce("t", 1, &[x.as_bytes(), y.as_bytes()]).await.unwrap();
            assert_eq!(at, Position(i));
        }
        assert_eq!(a.queue().head("t", 1).await.unwrap(), Position(20));
        assert_eq!(a.queue().head("t", 0).await.unwrap(), Position(0));
        a.restart();
        assert_eq!(a.queue().head("t", 1).await.unwrap(), Position(20));
        let mut c = a.queue().consumer("t", "g").await.unwrap();
        assert_eq!(assigned(&mut *c, 2).await, [0, 1]);
        let batches = gather(&mut *c, 40).await;
        let last = batches.last().unwrap();
        assert_eq!((last.partition, last.next()), (1, Position(20)));
        let want: Vec<String> = (0..20).flat_map(|i| [format!("{i}a"), format!("{i}b")]).collect();
        assert_eq!(texts(&batches), want);
        nothing(&*a, &mut *c).await;
    }
}

#[tokio::test]
async fn what_was_not_committed_comes_again_and_what_was_does_not() {
    for mut a in adapters().await {
        for i in 0..6 {
            a.queue().produce("t", 0, &[format!("{i}").as_bytes()]).await.unwrap();
        }
        let mut c = a.queue().consumer("t", "g").await.unwrap();
        assert_eq!(texts(&gather(&mut *c, 6).await).len(), 6);
        c.commit(0, Position(4)).await.unwrap();
        // Going back is no error and changes nothing.
        c.commit(0, Position(2)).await.unwrap();
        c.rewind();
        assert_eq!(texts(&gather(&mut *c, 2).await), ["4", "5"]);
        drop(c);
        a.restart();
        assert_eq!(a.queue().committed("t", "g", 0).await.unwrap(), Position(4));
        assert_eq!(a.queue().lag("t", "g").await.unwrap(), 2);
        let mut c = a.queue().consumer("t", "g").await.unwrap();
        assert_eq!(texts(&gather(&mut *c, 2).await), ["4", "5"]);
        // Another group has a life of its own.
        let mut other = a.queue().consumer("t", "other").await.unwrap();
        assert_eq!(texts(&gather(&mut *other, 6).await).len(), 6);
        // A commit in front of the cursor skips.
        drop(other);
        let mut other = a.queue().consumer("t", "other").await.unwrap();
        gather_within(&mut *other, 1, (1, 1)).await;
        other.commit(0, Position(5)).await.unwrap();
        assert_eq!(texts(&gather(&mut *other, 1).await), ["5"]);
        let ahead = other.commit(0, Position(7)).await;
        assert_eq!(ahead, Err(CommitError::Ahead { partition: 0, position: Position(7), head: Position(6) }));
    }
}

#[tokio::test]
async fn bounds_hold_but_one_group_always_fits() {
    for a in local() {
        for i in 0..10 {
            let record = [b'x'; 100];
            a.queue().produce("t", i % 2, &[&record, &record]).await.unwrap();
        }
        let mut c = a.queue().consumer("t", "g").await.unwrap();
        let sizes = |b: &[queue::Batch]| -> Vec<(u16, usize)> {
            b.iter().map(|b| (b.partition, b.records().count())).collect()
        };
        assert_eq!(sizes(&c.poll(1, 1).await.unwrap()), [(0, 2)]);
        assert_eq!(sizes(&c.poll(5, ALL).await.unwrap()), [(1, 4)], "turns: partition 1 is first now");
        assert_eq!(sizes(&c.poll(7, ALL).await.unwrap()), [(0, 6)]);
        assert_eq!(sizes(&c.poll(ALL, 450).await.unwrap()), [(1, 4)]);
        assert_eq!(sizes(&c.poll(ALL, ALL).await.unwrap()), [(0, 2), (1, 2)]);
        assert!(c.poll(ALL, ALL).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn members_share_partitions_and_hand_them_on() {
    for a in adapters().await {
        for p in 0..5 {
            a.queue().produce("wide", p, &[format!("{p}").as_bytes()]).await.unwrap();
        }
        let mut one = a.queue().consumer("wide", "g").await.unwrap();
        assert_eq!(texts(&gather(&mut *one, 5).await).len(), 5);
        let mut two = a.queue().consumer("wide", "g").await.unwrap();
        let second = assigned(&mut *two, 2).await;
        let first = assigned(&mut *one, 3).await;
        let all: BTreeSet<u16> = first.iter().chain(&second).copied().collect();
        assert_eq!(all.len(), 5, "{first:?} {second:?}");
        // Nothing was committed, so what moved is delivered again, and nothing else.
        let again: BTreeSet<String> = texts(&gather(&mut *two, 2).await).into_iter().collect();
        assert_eq!(again, second.iter().map(u16::to_string).collect());
        nothing(&*a, &mut *one).await;
        let lost = one.commit(second[0], Position(1)).await;
        assert!(matches!(lost, Err(CommitError::Lost { partition, .. }) if partition == second[0]));
        two.commit(second[0], Position(1)).await.unwrap();
        drop(two);
        tokio::time::timeout(Duration::from_secs(60), one.ready()).await.unwrap();
        assigned(&mut *one, 5).await;
        let rest: BTreeSet<String> = texts(&gather(&mut *one, 1).await).into_iter().collect();
        assert_eq!(rest, second[1..].iter().map(u16::to_string).collect());
    }
}

#[tokio::test]
async fn ready_waits_for_records() {
    for a in adapters().await {
        let mut c = a.queue().consumer("t", "g").await.unwrap();
        assigned(&mut *c, 2).await;
        assert!(c.poll(ALL, ALL).await.unwrap().is_empty());
        let nothing = tokio::time::timeout(Duration::from_millis(20), c.ready()).await;
        assert!(nothing.is_err());
        let (_, ()) = tokio::join!(a.queue().produce("t", 1, &[b"x"]), async {
            tokio::time::timeout(Duration::from_secs(60), c.ready()).await.unwrap();
        });
        assert_eq!(texts(&gather(&mut *c, 1).await), ["x"]);
    }
}

#[tokio::test]
async fn what_all_have_committed_may_be_forgotten() {
    for mut a in adapters().await {
        // Servers are asked to forget rarely.
        let count = if a.is_remote() { 1010 } else { 3000 };
        let keep = Position(count - 10);
        for i in 0..count {
            a.queue().produce("orders", 0, &[&i.to_le_bytes()]).await.unwrap();
        }
        let mut g = a.queue().consumer("orders", "g").await.unwrap();
        assigned(&mut *g, 1).await;
        g.commit(0, keep).await.unwrap();
        drop(g);
        a.restart();
        // A group that comes late begins behind what is gone, without an error.
        let mut late = a.queue().consumer("orders", "late").await.unwrap();
        assert_eq!(gather(&mut *late, 10).await[0].groups[0].position, keep);
        let mut g = a.queue().consumer("orders", "g").await.unwrap();
        assert_eq!(texts(&gather(&mut *g, 10).await).len(), 10);
        nothing(&*a, &mut *g).await;
    }
}

#[tokio::test]
async fn says_what_is_wrong() {
    for a in adapters().await {
        let q = a.queue();
        assert!(matches!(
            q.produce("nope", 0, &[b"x"]).await,
            Err(ProduceError::Topic(TopicError::UnknownTopic { .. }))
        ));
        let error = q.produce("t", 2, &[b"x"]).await.unwrap_err();
        assert_eq!(error.to_string(), "topic t has no partition 2; it has: 0, 1");
        assert_eq!(q.produce("t", 0, &[]).await, Err(ProduceError::Empty));
        let big = vec![0u8; 1 << 20];
        assert!(matches!(q.produce("t", 0, &[&big]).await, Err(ProduceError::TooLarge { .. })));
        assert!(matches!(q.consumer("t", "../x").await.err(), Some(TopicError::Name { what: "group", .. })));
        assert!(matches!(q.head("t", 9).await, Err(TopicError::UnknownPartition { .. })));
        assert_eq!(q.committed("t", "never", 1).await.unwrap(), Position(0));
    }
}
