//! Who has lost touch with the owners' book answers nothing and pushes nothing.

use super::cluster::{Cluster, Ground};
use crate::world::{into, to};
use protocol::calls::CallError;
use protocol::v1::chat_request::Ask;
use protocol::v1::{SendOutcome, SyncRequest};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn nothing_is_said_two_seconds_after_the_last_call_that_succeeded() {
    let cluster = Cluster::of(Ground::memory(), 4, &[1]).await;
    let id = cluster.stored(to(11, 1, 12, 1)).await.conversation;
    cluster.arrive(12, 1);
    cluster.quiet().await;
    let pushed = || cluster.door.got.lock().get(&(12 * 100 + 1, 1)).map_or(0, |got| got.entries.len());
    let before = pushed();
    // The book is out of reach, the store is not; and the process was stopped for a while.
    cluster.with_node(1, |running| {
        running.line.bookless.store(true, Ordering::SeqCst);
        running.clock.jump(2_000);
    });
    let answer = cluster.send(into(11, 1, id, 2)).await;
    assert!(answer.as_ref().is_none_or(|a| a.outcome() != SendOutcome::Stored), "{answer:?}");
    let sync = Ask::Sync(SyncRequest { cursor: 1, ..SyncRequest::default() });
    let asked = cluster.ask_once(Cluster::at(12, 1), sync).await;
    assert!(matches!(asked, Err(CallError::Unavailable(_))), "{asked:?}");
    assert_eq!(pushed(), before);
    assert!(!cluster.node(1).status().is_fresh);
    // It is back: another epoch, if the book had given it up; the message is stored once.
    cluster.with_node(1, |running| running.line.bookless.store(false, Ordering::SeqCst));
    assert_eq!(cluster.stored(into(11, 1, id, 2)).await.seq, 2);
    cluster.settled().await;
    assert_eq!(cluster.timeline(12).await, (vec![(id, 1), (id, 2)], 2));
    cluster.end().await;
}

#[tokio::test]
async fn an_epoch_that_others_have_ended_takes_nothing_with_it_that_was_acknowledged() {
    let cluster = Cluster::of(Ground::memory(), 5, &[1, 2]).await;
    let a = super::hands::user_of(&cluster, 1, 10);
    let b = super::hands::user_of(&cluster, 1, a);
    cluster.arrive(b, 1);
    let id = cluster.stored(to(a, 1, b, 1)).await.conversation;
    let owner = cluster.of_id(id).unwrap().options().node;
    // The owner's calls to the book fail for as long as it takes the others to end its epoch.
    cluster.with_node(owner, |running| running.line.bookless.store(true, Ordering::SeqCst));
    cluster.members(&[3 - owner]);
    cluster.settled().await;
    assert_eq!(cluster.stored(into(a, 1, id, 2)).await.seq, 2);
    cluster.with_node(owner, |running| running.line.bookless.store(false, Ordering::SeqCst));
    cluster.until("it begins another epoch", |c| c.node(owner).status().epoch > Some(1)).await;
    cluster.members(&[1, 2]);
    cluster.settled().await;
    assert_eq!(cluster.stored(into(a, 1, id, 3)).await.seq, 3);
    cluster.quiet().await;
    assert_eq!(cluster.timeline(b).await, ((1..=3).map(|seq| (id, seq)).collect(), 3));
    cluster.end().await;
}
