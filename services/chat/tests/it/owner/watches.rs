//! Watching somebody's presence goes on over everything that may become of the watcher's node.

use super::cluster::{Cluster, Ground};
use super::hands::user_of;
use crate::world::options;
use chat::ChatOptions;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A watcher at node 1, and two friends at node 2 whom he watches; both are there.
async fn watching(seed: u64) -> (Arc<Cluster>, [u64; 3]) {
    let cluster = Cluster::with(Ground::memory(), seed, ChatOptions { tick_ms: 20, ..options() });
    [1, 2].iter().for_each(|node| cluster.start(*node));
    cluster.members(&[1, 2]);
    cluster.settled().await;
    let watcher = user_of(&cluster, 1, 10);
    let one = user_of(&cluster, 2, 10);
    let other = user_of(&cluster, 2, one);
    for user in [watcher, one, other] {
        cluster.arrive(user, 1);
    }
    for friend in [one, other] {
        befriend(&cluster, watcher, friend).await;
    }
    cluster.quiet().await;
    assert_eq!(cluster.watch(watcher, vec![one, other]).await, [one, other]);
    (cluster, [watcher, one, other])
}

async fn befriend(cluster: &Cluster, one: u64, other: u64) {
    use protocol::v1::Befriend;
    use protocol::v1::chat_request::Ask;
    cluster.done(one, Ask::Befriend(Befriend { user: other })).await;
    cluster.done(other, Ask::Befriend(Befriend { user: one })).await;
}

async fn sees(cluster: &Cluster, watcher: u64, other: u64, online: bool) {
    let what = format!("{watcher} sees {other}: {online}");
    cluster.until(&what, |c| c.sees(watcher, other) == Some(online)).await;
}

#[tokio::test]
async fn it_goes_on_at_the_node_that_has_the_watcher_now() {
    let (cluster, [watcher, one, other]) = watching(31).await;
    // All of node 1 goes to node 3, and while that is under way one of them goes away.
    cluster.start(3);
    cluster.members(&[2, 3]);
    cluster.leave(one);
    cluster.settled().await;
    sees(&cluster, watcher, one, false).await;
    sees(&cluster, watcher, other, true).await;
    cluster.leave(other);
    sees(&cluster, watcher, other, false).await;
    cluster.arrive(one, 1);
    sees(&cluster, watcher, one, true).await;
    cluster.end().await;
}

#[tokio::test]
async fn it_goes_on_when_the_watchers_node_is_killed() {
    let (cluster, [watcher, one, other]) = watching(32).await;
    cluster.kill(1).await;
    cluster.leave(other);
    cluster.members(&[2]);
    cluster.settled().await;
    sees(&cluster, watcher, other, false).await;
    cluster.leave(one);
    sees(&cluster, watcher, one, false).await;
    cluster.arrive(other, 1);
    sees(&cluster, watcher, other, true).await;
    cluster.end().await;
}

#[tokio::test]
async fn it_goes_on_in_the_next_epoch_of_the_same_node() {
    let (cluster, [watcher, one, _]) = watching(33).await;
    // Its session dies, somebody ends it, and it has the same buckets again: the front door has noticed nothing.
    let epoch = cluster.node(1).status().epoch;
    cluster.with_node(1, |running| running.line.bookless.store(true, Ordering::SeqCst));
    cluster.until("its epoch is dead", |c| !c.node(1).status().is_fresh).await;
    cluster.leave(one);
    let is_open = async || cluster.ground.book.epochs(1).await.unwrap().iter().any(|row| row.is_open());
    let ended = async {
        while is_open().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::cluster::SOON, ended).await.expect("the other node ends it");
    cluster.with_node(1, |running| running.line.bookless.store(false, Ordering::SeqCst));
    cluster.until("it has begun anew", |c| c.node(1).status().epoch > epoch).await;
    cluster.settled().await;
    sees(&cluster, watcher, one, false).await;
    cluster.arrive(one, 1);
    sees(&cluster, watcher, one, true).await;
    cluster.end().await;
}
