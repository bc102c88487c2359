//! Buckets that change hands: by another member list, by a drain, by a kill.

use super::cluster::{Cluster, Ground};
use crate::world::{into, to};
use protocol::v1::SendOutcome;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A user whose bucket the ring gives to a node, above a number.
pub fn user_of(cluster: &Cluster, node: u16, above: u64) -> u64 {
    let number = |user: &u64| cluster.of_id(*user).map(|node| node.options().node);
    (above + 1..).find(|user| number(user) == Some(node)).unwrap()
}

#[tokio::test]
async fn a_message_reaches_its_member_through_whoever_owns_what() {
    let cluster = Cluster::of(Ground::memory(), 1, &[1, 2, 3]).await;
    // Every node's users write to every other's.
    let users: Vec<u64> = (1..=3).map(|node| user_of(&cluster, node, 100)).collect();
    users.iter().for_each(|user| cluster.arrive(*user, 1));
    for from in &users {
        for other in users.iter().filter(|other| *other != from) {
            let answer = cluster.stored(to(*from, 1, *other, 1)).await;
            assert_eq!(answer.outcome(), SendOutcome::Stored);
            let again = cluster.stored(to(*from, 1, *other, 1)).await;
            assert_eq!((again.seq, again.message_id), (answer.seq, answer.message_id));
        }
    }
    cluster
        .until("each has been pushed what the others wrote", |cluster| {
            users.iter().all(|user| {
                let got = cluster.door.got.lock().get(&(user * 100 + 1, 1)).cloned().unwrap_or_default();
                let all: BTreeSet<(u64, u64)> = got.entries.iter().map(|e| (e.1, e.2)).collect();
                all.len() == 2
            })
        })
        .await;
    // What a sender wrote gets into his own timeline beside that.
    cluster.quiet().await;
    for user in &users {
        let (entries, unread) = cluster.timeline(*user).await;
        assert_eq!((entries.len(), unread), (4, 2), "user {user}");
    }
    cluster.end().await;
}

async fn hands_over(ground: Ground) {
    let cluster = Cluster::of(ground, 2, &[1]).await;
    let (a, b) = (11, 12);
    [a, b].iter().for_each(|user| cluster.arrive(*user, 1));
    let id = cluster.stored(to(a, 1, b, 1)).await.conversation;
    let talk = {
        let cluster = Arc::clone(&cluster);
        async move {
            for counter in 2..=120 {
                cluster.stored(into(a, 1, id, counter)).await;
            }
        }
    };
    let moves = async {
        cluster.start(2);
        cluster.start(3);
        cluster.members(&[1, 2, 3]);
        cluster.settled().await;
        cluster.members(&[2, 3]);
        cluster.node(1).drain().await;
        assert_eq!(cluster.node(1).status().buckets.open, 0);
        cluster.settled().await;
        cluster.stop(1).await;
        cluster.members(&[3]);
        cluster.settled().await;
    };
    tokio::join!(talk, moves);
    cluster.quiet().await;
    let expected: Vec<(u64, u64)> = (1..=120).map(|seq| (id, seq)).collect();
    for (user, unread) in [(a, 0), (b, 120)] {
        assert_eq!(cluster.timeline(user).await, (expected.clone(), unread));
    }
    // Whoever was connected is pushed what comes now, by the node that has him now.
    let last = cluster.stored(into(a, 1, id, 121)).await.seq;
    cluster
        .until("the push has come", |cluster| {
            let got = cluster.door.got.lock().get(&(b * 100 + 1, 1)).cloned().unwrap_or_default();
            got.entries.iter().any(|e| (e.1, e.2) == (id, last))
        })
        .await;
    assert!(cluster.door.got.lock().values().any(|got| !got.told_to_sync.is_empty()));
    cluster.end().await;
}

#[tokio::test]
async fn buckets_go_to_whom_the_ring_gives_them_and_nothing_is_lost() {
    hands_over(Ground::memory()).await;
}

#[tokio::test]
async fn the_same_over_postgresql() {
    if let Some(ground) = Ground::postgres().await {
        hands_over(ground).await;
    }
}

#[tokio::test]
async fn what_a_killed_node_had_stored_and_not_handed_on_its_heirs_hand_on() {
    let cluster = Cluster::of(Ground::memory(), 3, &[1, 2]).await;
    let a = user_of(&cluster, 1, 10);
    let b = user_of(&cluster, 2, 10);
    let id = cluster.stored(to(a, 1, b, 1)).await.conversation;
    let owner = cluster.of_id(id).unwrap().options().node;
    // No word gets from one node to the other: what is stored stays where it is.
    cluster.post.trouble.store(1_000, std::sync::atomic::Ordering::SeqCst);
    for counter in 2..=20 {
        cluster.stored(into(a, 1, id, counter)).await;
    }
    let other = 3 - owner;
    cluster.kill(owner).await;
    cluster.members(&[other]);
    cluster.post.trouble.store(0, std::sync::atomic::Ordering::SeqCst);
    cluster.quiet().await;
    let expected: Vec<(u64, u64)> = (1..=20).map(|seq| (id, seq)).collect();
    assert_eq!(cluster.timeline(a).await, (expected.clone(), 0));
    assert_eq!(cluster.timeline(b).await, (expected, 20));
    // The same number begins again, and gets its part back.
    cluster.start(owner);
    cluster.members(&[1, 2]);
    cluster.settled().await;
    assert_eq!(cluster.stored(into(a, 1, id, 21)).await.seq, 21);
    assert!(cluster.node(owner).status().epoch > Some(1));
    cluster.end().await;
}
