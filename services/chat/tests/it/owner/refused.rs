//! Something in the store is such that it is refused for ever: it rests, those who wait for it are told the truth, and
//! everything else goes on.

use super::cluster::{Cluster, Ground};
use super::hands::user_of;
use crate::world::{into, to};
use protocol::calls::CallError;
use protocol::v1::chat_request::Ask;
use protocol::v1::{AddMembers, MakeGroup, RangeRequest, Send, SendOutcome};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Messages that go on in one conversation while another is wrong.
const MESSAGES: u64 = 20;

/// Says a message that must not be acknowledged.
async fn not_stored(cluster: &Cluster, send: Send) {
    let Some(answer) = cluster.send(send).await else { return };
    let outcome = answer.outcome();
    assert!(matches!(outcome, SendOutcome::Pending | SendOutcome::Busy), "{answer:?}");
    assert!(answer.retry_after_ms > 0, "{answer:?}");
}

async fn talk(cluster: &Cluster, user: u64, id: u64) {
    for counter in 2..=MESSAGES {
        cluster.stored(into(user, 1, id, counter)).await;
    }
}

fn all(id: u64) -> Vec<(u64, u64)> {
    (1..=MESSAGES).map(|seq| (id, seq)).collect()
}

#[tokio::test]
async fn a_conversation_that_the_store_refuses_rests_and_the_others_go_on() {
    let cluster = Cluster::of(Ground::memory(), 21, &[1]).await;
    let bad = cluster.stored(to(11, 1, 12, 1)).await.conversation;
    let good = cluster.stored(to(13, 1, 14, 1)).await.conversation;
    cluster.quiet().await;
    cluster.with_node(1, |running| running.line.wrong.lock().conversations.insert(bad));
    // Both at once, so that they share transactions.
    tokio::join!(not_stored(&cluster, into(11, 1, bad, 2)), talk(&cluster, 13, good));
    let status = cluster.node(1).status();
    assert!(status.resting_conversations == 1 && status.refused_steps > 0, "{status:#?}");
    // Whoever comes meanwhile hears so at once, and so does who looks.
    not_stored(&cluster, into(12, 1, bad, 1)).await;
    let range = Ask::Range(RangeRequest { conversation: bad, limit: 9, ..RangeRequest::default() });
    let asked = cluster.ask_once(Cluster::at(12, 1), range).await;
    assert!(matches!(&asked, Err(CallError::Unavailable(why)) if why.contains("refuses")), "{asked:?}");
    assert_eq!(cluster.timeline(14).await.0, all(good));
    cluster.with_node(1, |running| running.line.wrong.lock().conversations.clear());
    assert_eq!(cluster.stored(into(11, 1, bad, 2)).await.seq, 2);
    assert_eq!(cluster.stored(into(12, 1, bad, 1)).await.seq, 3);
    cluster.quiet().await;
    assert_eq!(cluster.node(1).status().resting_conversations, 0);
    assert_eq!(cluster.timeline(12).await.0, [(bad, 1), (bad, 2), (bad, 3)]);
    cluster.end().await;
}

#[tokio::test]
async fn a_conversation_whose_steps_never_end_does_not_hold_up_the_others() {
    let cluster = Cluster::of(Ground::memory(), 22, &[1]).await;
    let bad = cluster.stored(to(11, 1, 12, 1)).await.conversation;
    let good = cluster.stored(to(13, 1, 14, 1)).await.conversation;
    cluster.with_node(1, |running| running.line.wrong.lock().stuck.insert(bad));
    tokio::join!(not_stored(&cluster, into(11, 1, bad, 2)), talk(&cluster, 13, good));
    cluster.until("it rests", |c| c.node(1).status().resting_conversations == 1).await;
    cluster.with_node(1, |running| running.line.wrong.lock().stuck.clear());
    assert_eq!(cluster.stored(into(11, 1, bad, 2)).await.seq, 2);
    cluster.end().await;
}

#[tokio::test]
async fn a_timeline_that_the_store_refuses_keeps_neither_its_node_nor_its_groups_waiting() {
    let cluster = Cluster::of(Ground::memory(), 23, &[1, 2]).await;
    let [a, c] = [1, 2].map(|node| user_of(&cluster, node, 30));
    let b = user_of(&cluster, 2, c);
    let make = MakeGroup { name: "g".to_owned(), members: vec![b, c], request: 1 };
    let group = cluster.done(a, Ask::MakeGroup(make)).await;
    cluster.arrive(c, 1);
    cluster.quiet().await;
    cluster.with_node(2, |running| running.line.wrong.lock().timelines.insert(b));
    for counter in 1..=MESSAGES {
        assert_eq!(cluster.stored(into(a, 1, group, counter)).await.seq, counter + 1);
    }
    let pushed = |cluster: &Cluster| {
        let got = cluster.door.got.lock().get(&(c * 100 + 1, 1)).cloned().unwrap_or_default();
        got.entries.iter().any(|e| (e.1, e.2) == (group, MESSAGES + 1))
    };
    cluster.until("the others get all of it", pushed).await;
    assert_eq!(cluster.timeline(c).await.0.len() as u64, MESSAGES + 1);
    assert!(cluster.timeline(b).await.0.len() as u64 <= MESSAGES);
    let late: usize = [1, 2].iter().map(|node| cluster.node(*node).status().late_conversations).sum();
    assert_eq!((late, cluster.node(2).status().resting_timelines), (1, 1));
    // Who gets what is decided by who is in it, so that does not change now.
    let add = Ask::AddMembers(AddMembers { conversation: group, users: vec![99] });
    let added = cluster.ask_once(Cluster::at(a, 1), add.clone()).await;
    assert!(matches!(&added, Err(CallError::Unavailable(why)) if why.contains("timeline")), "{added:?}");
    cluster.with_node(2, |running| running.line.wrong.lock().timelines.clear());
    cluster.quiet().await;
    assert_eq!(cluster.timeline(b).await, cluster.timeline(c).await);
    cluster.done(a, add).await;
    let late: usize = [1, 2].iter().map(|node| cluster.node(*node).status().late_conversations).sum();
    assert_eq!((late, cluster.node(2).status().resting_timelines), (0, 0));
    cluster.end().await;
}

#[tokio::test]
async fn what_somebody_late_has_missed_the_next_owner_hands_on() {
    let cluster = Cluster::of(Ground::memory(), 24, &[1, 2]).await;
    let a = user_of(&cluster, 1, 30);
    let (b, c) = (user_of(&cluster, 2, 30), user_of(&cluster, 1, a));
    let make = MakeGroup { name: "g".to_owned(), members: vec![b, c], request: 1 };
    let group = cluster.done(a, Ask::MakeGroup(make)).await;
    cluster.quiet().await;
    cluster.with_node(2, |running| running.line.wrong.lock().timelines.insert(b));
    cluster.stored(into(a, 1, group, 1)).await;
    cluster.stored(into(a, 1, group, 2)).await;
    let is_late =
        |cluster: &Cluster| [1, 2].iter().any(|n| cluster.node(*n).status().late_conversations == 1);
    cluster.until("they go on without him", is_late).await;
    // Both nodes give everything to a third one, though what rests is not stored.
    cluster.start(3);
    cluster.members(&[3]);
    cluster.node(1).drain().await;
    cluster.node(2).drain().await;
    cluster.quiet().await;
    for user in [a, b, c] {
        assert_eq!(
            cluster.timeline(user).await.0,
            (1..=3).map(|seq| (group, seq)).collect::<Vec<_>>(),
            "{user}"
        );
    }
    cluster.end().await;
}

#[tokio::test]
async fn what_the_store_refuses_does_not_keep_a_node_from_handing_over() {
    let cluster = Cluster::of(Ground::memory(), 25, &[1]).await;
    let bad = cluster.stored(to(11, 1, 12, 1)).await.conversation;
    cluster.with_node(1, |running| running.line.wrong.lock().conversations.insert(bad));
    not_stored(&cluster, into(11, 1, bad, 2)).await;
    cluster.until("it rests", |c| c.node(1).status().resting_conversations == 1).await;
    // To its next owner the store says something else.
    cluster.start(2);
    cluster.members(&[2]);
    tokio::time::timeout(super::cluster::SOON, cluster.node(1).drain()).await.unwrap();
    assert_eq!(cluster.stored(into(11, 1, bad, 2)).await.seq, 2);
    cluster.quiet().await;
    assert_eq!(cluster.timeline(12).await.0, [(bad, 1), (bad, 2)]);
    cluster.end().await;
}

#[tokio::test]
async fn what_can_not_be_read_keeps_nothing_else_from_being_read() {
    let cluster = Cluster::of(Ground::memory(), 26, &[1, 2]).await;
    let [a, c] = [1, 2].map(|node| user_of(&cluster, node, 30));
    let [b, d] = [1, 2].map(|node| user_of(&cluster, node, 300));
    let bad = cluster.stored(to(a, 1, b, 1)).await.conversation;
    let good = cluster.stored(to(c, 1, d, 1)).await.conversation;
    // What is stored from here on is not handed on.
    cluster.post.trouble.store(1_000, Ordering::SeqCst);
    cluster.stored(into(a, 1, bad, 2)).await;
    cluster.stored(into(c, 1, good, 2)).await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    cluster.post.trouble.store(0, Ordering::SeqCst);
    cluster.members(&[3]);
    cluster.start(3);
    cluster.with_node(3, |running| running.line.wrong.lock().unreadable.extend([bad, a]));
    cluster.settled().await;
    let (_, stored) =
        tokio::join!(not_stored(&cluster, into(b, 1, bad, 1)), cluster.stored(into(c, 1, good, 3)));
    assert_eq!(stored.seq, 3);
    cluster.until("the good one is handed on", |c| c.node(3).status().fanning == 0).await;
    assert_eq!(cluster.timeline(d).await.0, [(good, 1), (good, 2), (good, 3)]);
    assert!(cluster.node(3).status().unreadable > 0);
    cluster.with_node(3, |running| running.line.wrong.lock().unreadable.clear());
    assert_eq!(cluster.stored(into(b, 1, bad, 1)).await.seq, 3);
    cluster.quiet().await;
    assert_eq!(cluster.timeline(a).await.0, [(bad, 1), (bad, 2), (bad, 3)]);
    cluster.end().await;
}

#[tokio::test]
async fn rows_that_somebody_has_damaged_by_hand() {
    let Some(ground) = Ground::postgres().await else { return };
    let pg = ground.pg.clone().unwrap();
    let run = async |text: String| {
        let mut connection = pg.connection().await.unwrap();
        let done = storage::sqlx::raw_sql(&text).execute(&mut *connection).await;
        assert!(done.unwrap().rows_affected() > 0);
    };
    let cluster = Cluster::of(ground, 27, &[1]).await;
    let bad = cluster.stored(to(11, 1, 12, 1)).await.conversation;
    let good = cluster.stored(to(13, 1, 14, 1)).await.conversation;
    let torn = cluster.stored(to(15, 1, 16, 1)).await.conversation;
    cluster.quiet().await;
    // A message where the next one has to stand.
    run(format!("INSERT INTO message (conversation, seq, data) VALUES ({bad}, 2, '')")).await;
    tokio::join!(not_stored(&cluster, into(11, 1, bad, 2)), talk(&cluster, 13, good));
    assert_eq!(cluster.node(1).status().resting_conversations, 1);
    run(format!("DELETE FROM message WHERE conversation = {bad} AND seq = 2")).await;
    assert_eq!(cluster.stored(into(11, 1, bad, 2)).await.seq, 2);
    cluster.quiet().await;
    assert_eq!(cluster.timeline(12).await.0, [(bad, 1), (bad, 2)]);
    // A head that is none; its members write elsewhere.
    run(format!("CREATE TABLE kept AS SELECT id, head FROM conversation WHERE id = {torn}")).await;
    run(format!("UPDATE conversation SET head = '\\xff'::bytea WHERE id = {torn}")).await;
    cluster.kill(1).await;
    cluster.start(1);
    cluster.settled().await;
    let cluster = Arc::clone(&cluster);
    tokio::join!(not_stored(&cluster, into(15, 1, torn, 2)), async {
        cluster.stored(to(15, 1, 12, 1)).await;
        assert_eq!(cluster.stored(into(14, 1, good, 1)).await.seq, MESSAGES + 1);
    });
    assert!(cluster.node(1).status().unreadable > 0);
    let (entries, _) = cluster.timeline(16).await;
    assert_eq!(entries, [(torn, 1)], "whatever else he has is there");
    run("UPDATE conversation c SET head = k.head FROM kept k WHERE c.id = k.id".to_owned()).await;
    assert_eq!(cluster.stored(into(15, 1, torn, 2)).await.seq, 2);
    cluster.quiet().await;
    cluster.end().await;
}
