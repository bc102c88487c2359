//! Kills at any moment: what was acknowledged is there, once and in order; cursors never change.

use crate::world::{Ground, World, into, to};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{MarkRead, SendOutcome};
use std::collections::BTreeMap;
use testkit::SimRng;

const USERS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_over_kills() {
    let mut ground = Ground::sql(21).await;
    ground.options.write_members_max = 4;
    let mut rng = SimRng::new(4_711);
    let mut world = World::start(&ground).await;
    let small = world.group(1, vec![2, 3], 1).await;
    let large = world.group(2, (1..=USERS).collect(), 2).await;
    // Where each sender stands, and what was acknowledged: (conversation, seq) -> (sender, counter, id).
    let mut counters: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut acked: BTreeMap<(u64, u64), (u64, u64, u64)> = BTreeMap::new();
    let mut before: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for round in 0..8 {
        for user in 1..=USERS {
            world.arrive(user, 1);
        }
        world.ground.disk.go_down_after(20 + rng.below(60));
        while !world.ground.disk.is_down() {
            let sender = 1 + rng.below(3);
            let (place, send): (u64, fn(u64, u64, u64, u64) -> protocol::v1::Send) = match rng.below(3) {
                0 => (small, into),
                1 => (large, into),
                _ => (1 + sender % 3, to),
            };
            let taken = counters.entry((sender, place)).or_default();
            // A few at once, the first of them perhaps a resend from before the kill.
            let batch: Vec<_> = (*taken + 1..=*taken + 3).map(|n| send(sender, 1, place, n)).collect();
            for answer in world.send_all(batch).await {
                match answer.outcome() {
                    SendOutcome::Stored => {
                        let at = (answer.conversation, answer.seq);
                        let what = (sender, answer.counter, answer.message_id);
                        assert_eq!(*acked.entry(at).or_insert(what), what, "round {round}");
                        *taken = (*taken).max(answer.counter);
                    }
                    SendOutcome::Pending | SendOutcome::Busy | SendOutcome::OutOfTurn => {}
                    other => panic!("{other:?} {answer:?}"),
                }
            }
        }
        let ground = world.kill().await;
        world = World::start(&ground).await;
        for user in 1..=USERS {
            let timeline = world.timeline(user, 0).await;
            let was = before.insert(user, timeline.clone()).unwrap_or_default();
            assert_eq!(
                timeline[..was.len()],
                was,
                "user {user}, round {round}: what was there stays as it was"
            );
            let mut next: BTreeMap<u64, u64> = BTreeMap::new();
            for (conversation, seq) in &timeline {
                let next = next.entry(*conversation).or_insert(*seq);
                assert_eq!(*seq, *next, "no hole, nothing twice");
                *next += 1;
            }
        }
        audit(&world, &acked, [small, large]).await;
    }
    assert!(acked.len() > 20, "{}", acked.len());
    world.stop().await;
}

/// Every acknowledged message is where it was said to be; every conversation counts 1, 2, 3; unread is the recount.
async fn audit(world: &World, acked: &BTreeMap<(u64, u64), (u64, u64, u64)>, groups: [u64; 2]) {
    let mut conversations: BTreeMap<u64, u64> = groups.iter().map(|id| (*id, 1)).collect();
    for ((conversation, _), (sender, ..)) in acked {
        conversations.entry(*conversation).or_insert(*sender);
    }
    for (conversation, reader) in conversations {
        let messages = world.messages(reader, conversation).await;
        let numbered: Vec<u64> = messages.iter().map(|m| m.seq).collect();
        assert_eq!(numbered, (1..=messages.len() as u64).collect::<Vec<_>>());
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for message in &messages {
            if let Some(said) = acked.get(&(conversation, message.seq)) {
                assert_eq!((message.sender, message.counter, message.message_id), *said);
            }
            if message.sender != 0 {
                let last = last.entry(message.sender).or_default();
                assert_eq!(message.counter, *last + 1, "in the sender's order, once");
                *last = message.counter;
            }
        }
        let told = acked.keys().filter(|(c, _)| *c == conversation).map(|(_, seq)| *seq).max().unwrap_or(0);
        assert!(messages.len() as u64 >= told, "conversation {conversation} lost an acknowledged message");
        let read = world.ask(reader, Ask::MarkRead(MarkRead { conversation, seq: 0 })).await.unwrap();
        let Answer::ReadAt(read) = read else { panic!("{read:?}") };
        let count = messages.iter().filter(|m| m.seq > read.seq && m.sender != reader && m.kind < 32);
        assert_eq!(read.unread, count.count() as u64);
        let half = messages.len() as u64 / 2;
        let read = world.ask(reader, Ask::MarkRead(MarkRead { conversation, seq: half })).await.unwrap();
        let Answer::ReadAt(read) = read else { panic!("{read:?}") };
        let count = messages.iter().filter(|m| m.seq > read.seq && m.sender != reader && m.kind < 32);
        assert_eq!(read.unread, count.count() as u64, "read to {half} of {}", messages.len());
    }
}
