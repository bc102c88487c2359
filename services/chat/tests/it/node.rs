//! Two users, several devices: order, resends, pushes, sync, unread, recall, full disk.

use crate::world::{Ground, World, into, to};
use protocol::calls::{CallError, Chat};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{
    Befriend, ConversationsRequest, Delete, DevicesRequest, FriendsRequest, MarkRead, PresenceRequest,
    ReadAt, Recall, Send, SendOutcome, SetProfile, SyncRequest, Unfriend,
};

async fn read_to(world: &World, user: u64, conversation: u64, seq: u64) -> ReadAt {
    match world.ask(user, Ask::MarkRead(MarkRead { conversation, seq })).await.unwrap() {
        Answer::ReadAt(read) => read,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_once_in_order_and_a_resend_gets_the_first_answer() {
    let (ground, _) = Ground::memory(1);
    let world = World::start(&ground).await;
    world.arrive(1, 1);
    world.arrive(2, 1);
    world.arrive(2, 2);
    let first = world.stored(to(1, 1, 2, 1)).await;
    let id = first.conversation;
    let sends = (2..=20).map(|counter| into(1, 1, id, counter)).collect();
    let answers = world.send_all(sends).await;
    let seqs: Vec<u64> = answers.iter().map(|a| a.seq).collect();
    assert_eq!(seqs, (2..=20).collect::<Vec<_>>());
    assert!(answers.iter().all(|a| a.outcome() == SendOutcome::Stored));
    assert!(answers.is_sorted_by_key(|a| a.message_id));
    world.until("pushes", |w| w.got(2, 1).entries.len() == 20 && w.got(2, 2).entries.len() == 20).await;
    assert!(world.got(1, 1).entries.is_empty(), "the sending device knows its messages");
    let got = world.got(2, 1);
    let mut after = got.entries[0].0.after;
    for (at, (target, conversation, seq, message)) in got.entries.iter().enumerate() {
        assert_eq!((target.after, *conversation, *seq), (after, id, at as u64 + 1));
        assert_eq!(message.as_ref().unwrap().body, format!("{} from 1", at + 1).into_bytes());
        after = target.cursor;
    }
    // Resends: of the newest, of one that has left memory, and one out of turn.
    world.until("a checkpoint", |w| w.node.status().unstored_bytes == 0).await;
    for counter in [20, 3, 1] {
        let again = world.stored(to(1, 1, 2, counter)).await;
        let was = if counter == 1 { &first } else { &answers[counter as usize - 2] };
        assert_eq!((again.message_id, again.seq, again.sent_ms), (was.message_id, was.seq, was.sent_ms));
    }
    let early = world.send(into(1, 1, id, 25)).await;
    assert_eq!((early.outcome(), early.next_counter), (SendOutcome::OutOfTurn, 21));
    let mut after_gap = into(1, 1, id, 25);
    after_gap.given_up = 24;
    assert_eq!(world.send(after_gap).await.seq, 21);
    let given_up = world.send(into(1, 1, id, 22)).await;
    assert_eq!(given_up.outcome(), SendOutcome::Invalid, "{given_up:?}");
    let stranger = world.send(into(3, 1, id, 1)).await;
    assert_eq!(stranger.outcome(), SendOutcome::NotAllowed);
    assert_eq!(world.timeline(2, 0).await, (1..=21).map(|seq| (id, seq)).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_is_what_counting_gives_whatever_happens() {
    let ground = Ground::sql(2).await;
    let world = World::start(&ground).await;
    for user in [1, 2, 3] {
        world.arrive(user, 1);
    }
    let id = world.stored(to(1, 1, 2, 1)).await.conversation;
    let other = world.stored(to(3, 1, 2, 1)).await.conversation;
    for counter in 2..=10 {
        world.stored(into(1, 1, id, counter)).await;
    }
    world.stored(into(2, 1, id, 1)).await;
    world.stored(into(1, 1, id, 11)).await;
    // Behind 4: 5..=10 and 12 of user 1, and his own 11.
    assert_eq!(
        read_to(&world, 2, id, 4).await,
        ReadAt { conversation: id, seq: 4, unread: 7, unread_total: 8 }
    );
    assert_eq!(read_to(&world, 2, id, 2).await.seq, 4, "positions only rise");
    let recall = Recall { conversation: id, seq: 6 };
    assert!(matches!(world.ask(2, Ask::Recall(recall)).await, Err(CallError::Refused(_))));
    let done = world.ask(1, Ask::Recall(recall)).await.unwrap();
    assert!(matches!(done, Answer::Done(done) if done.seq == 13));
    assert!(matches!(world.ask(1, Ask::Recall(recall)).await.unwrap(), Answer::Done(done) if done.seq == 0));
    let delete = Delete { conversation: id, seqs: vec![3, 6, 7], all: false };
    world.ask(2, Ask::Delete(delete.clone())).await.unwrap();
    world.ask(2, Ask::Delete(delete)).await.unwrap();
    assert_eq!(read_to(&world, 2, id, 4).await.unread, 5);
    assert_eq!(read_to(&world, 2, id, 8).await.unread, 3);
    assert_eq!(read_to(&world, 1, id, 9).await.unread, 1, "user 2's only message");
    let seen = world.messages(2, id).await;
    assert_eq!(seen.len(), 10);
    assert!(world.messages(1, id).await.iter().any(|m| m.seq == 6 && m.recalled && m.body.is_empty()));
    // The same numbers after a restart, from store and log.
    let ground = world.kill().await;
    let world = World::start(&ground).await;
    assert_eq!(
        read_to(&world, 2, id, 0).await,
        ReadAt { conversation: id, seq: 8, unread: 3, unread_total: 4 }
    );
    assert_eq!(read_to(&world, 1, id, 0).await.unread, 1);
    assert_eq!(
        read_to(&world, 2, id, 999).await,
        ReadAt { conversation: id, seq: 13, unread: 0, unread_total: 1 }
    );
    world.ask(2, Ask::Delete(Delete { conversation: other, seqs: vec![], all: true })).await.unwrap();
    let list = world.ask(2, Ask::Conversations(ConversationsRequest::default())).await.unwrap();
    let Answer::Conversations(list) = list else { panic!("{list:?}") };
    assert_eq!(list.unread_total, 0);
    assert_eq!(list.conversations.iter().map(|c| c.conversation).collect::<Vec<_>>(), [id, other]);
    assert!(list.conversations[1].last.is_none(), "cleared");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_device_confirmed_is_not_pushed_again_and_a_new_one_starts_from_the_list() {
    let (mut ground, _) = Ground::memory(3);
    ground.options.again_ms = 50;
    let world = World::start(&ground).await;
    world.arrive(1, 1);
    world.arrive(2, 1);
    world.arrive(2, 2);
    let id = world.stored(to(1, 1, 2, 1)).await.conversation;
    // Unconfirmed: once more to each device, and then no more.
    world.until("again", |w| w.got(2, 1).entries.len() == 2 && w.got(2, 2).entries.len() == 2).await;
    let cursor = world.got(2, 1).entries[1].0.cursor;
    world.confirmed(2, 1, cursor).await;
    world.stored(into(1, 1, id, 2)).await;
    world.until("the second", |w| w.got(2, 1).entries.last().is_some_and(|e| e.2 == 2)).await;
    let newest = world.got(2, 1).entries.last().unwrap().0.cursor;
    world.confirmed(2, 1, newest).await;
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    let late = world.got(2, 2).entries;
    assert!(late.iter().filter(|e| e.2 == 1).count() <= 2 && late.iter().filter(|e| e.2 == 2).count() <= 2);
    let Answer::Devices(devices) = world.ask(2, Ask::Devices(DevicesRequest {})).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        devices.devices.iter().map(|d| (d.device, d.cursor)).collect::<Vec<_>>(),
        [(1, newest), (2, 0)]
    );
    let Answer::Sync(sync) = world.ask_from(2, 3, Ask::Sync(SyncRequest::default())).await.unwrap() else {
        panic!()
    };
    assert!(sync.start && sync.entries.is_empty() && sync.cursor >= newest && sync.unread_total == 2);
    // A restart keeps what was confirmed.
    let ground = world.stop().await;
    let world = World::start(&ground).await;
    let Answer::Devices(devices) = world.ask(2, Ask::Devices(DevicesRequest {})).await.unwrap() else {
        panic!()
    };
    assert_eq!(devices.devices[0].cursor, newest);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_blocks_words_and_presence() {
    let (mut ground, _) = Ground::memory(4);
    ground.options.friends_only = true;
    let world = World::start(&ground).await;
    world.arrive(1, 1);
    assert_eq!(world.send(to(1, 1, 2, 1)).await.outcome(), SendOutcome::NotAllowed);
    let befriend = |user| Ask::Befriend(Befriend { user });
    let Answer::Done(done) = world.ask(1, befriend(2)).await.unwrap() else { panic!() };
    assert_eq!(world.send(to(1, 1, 2, 1)).await.outcome(), SendOutcome::NotAllowed, "asked, not answered");
    world.ask(2, befriend(1)).await.unwrap();
    assert_eq!(world.stored(to(1, 1, 2, 1)).await.conversation, done.conversation);
    world.node.set_words(&["casino"]).unwrap();
    let mut bad = to(1, 1, 2, 2);
    bad.body = b"the CASINO".to_vec();
    assert_eq!(world.send(bad).await.outcome(), SendOutcome::Words);
    let watch = Ask::Presence(PresenceRequest { users: vec![2, 3], watch: true });
    let Answer::Presence(seen) = world.ask(1, watch).await.unwrap() else { panic!() };
    assert_eq!(seen.presence.iter().map(|p| (p.user, p.online)).collect::<Vec<_>>(), [(2, false)]);
    world.arrive(2, 1);
    world.until("he is there", |w| w.got(1, 1).presence.last().is_some_and(|p| p.online)).await;
    world.node.leave(World::at(2, 1));
    world.until("he is gone", |w| w.got(1, 1).presence.last().is_some_and(|p| !p.online)).await;
    world.ask(2, Ask::SetProfile(SetProfile { name: "Li".into(), language: "en".into() })).await.unwrap();
    let Answer::Friends(friends) = world.ask(1, Ask::Friends(FriendsRequest::default())).await.unwrap()
    else {
        panic!()
    };
    assert_eq!((friends.friends[0].user, friends.friends[0].state, &*friends.friends[0].name), (2, 1, "Li"));
    world.ask(2, Ask::Unfriend(Unfriend { user: 1, block: true })).await.unwrap();
    assert_eq!(world.send(to(1, 1, 2, 2)).await.outcome(), SendOutcome::NotAllowed);
    assert!(matches!(world.ask(1, befriend(2)).await, Err(CallError::Refused(_))));
    let ground = world.kill().await;
    let world = World::start(&ground).await;
    assert_eq!(world.send(to(1, 1, 2, 2)).await.outcome(), SendOutcome::NotAllowed, "still blocked");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_sends_and_answers_reads() {
    let (ground, shelf) = Ground::memory(5);
    let world = World::start(&ground).await;
    let id = world.stored(to(1, 1, 2, 1)).await.conversation;
    shelf.set_failing(true);
    ground.disk.set_capacity(Some(1));
    let (mut counter, mut full) = (2, false);
    while !full {
        let sends = (counter..counter + 100).map(|n| Send { body: vec![7; 3_000], ..into(1, 1, id, n) });
        for answer in world.send_all(sends.collect()).await {
            match answer.outcome() {
                SendOutcome::Stored => counter += 1,
                SendOutcome::Busy => full |= answer.reason.contains("full"),
                SendOutcome::OutOfTurn => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(world.messages(2, id).await.len() as u64, counter - 1);
    let sync = Ask::Sync(SyncRequest { cursor: 1, ..SyncRequest::default() });
    assert!(
        matches!(world.ask(2, sync).await.unwrap(), Answer::Sync(sync) if sync.unread_total == counter - 1)
    );
    ground.disk.set_capacity(None);
    shelf.set_failing(false);
    assert_eq!(world.stored(into(1, 1, id, counter)).await.seq, counter);
    world.stop().await;
}

/// What was pushed while there was no way to the front door is lost; whoever arrives again hears that there is something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_arrives_again_is_told_how_far_his_timeline_has_come() {
    let (ground, _) = Ground::memory(9);
    let world = World::start(&ground).await;
    world.arrive(2, 1);
    let first = world.stored(to(1, 1, 2, 1)).await;
    world.until("a push", |w| w.got(2, 1).entries.len() == 1).await;
    let pushed = world.got(2, 1).entries[0].0.cursor;
    assert!(world.got(2, 1).told_to_sync.is_empty());
    world.node.detach(World::at(2, 1).at.access);
    world.stored(into(1, 1, first.conversation, 2)).await;
    // Senders hear before pushes go out; when a later one has heard, this one's have.
    world.stored(to(1, 1, 3, 1)).await;
    world.node.attach(World::at(2, 1).at.access, world.door.clone());
    world.node.arrive_again(World::at(2, 1));
    let told = world.got(2, 1).told_to_sync;
    assert!(told.len() == 1 && told[0] > pushed, "{told:?}: further than {pushed}");
    assert_eq!(world.got(2, 1).entries.len(), 1, "the second one went nowhere");
    // From there on pushes join.
    world.stored(into(1, 1, first.conversation, 3)).await;
    world.until("a push", |w| w.got(2, 1).entries.len() == 2).await;
    assert_eq!(world.got(2, 1).entries[1].0.after, told[0]);
    assert_eq!(world.timeline(2, pushed).await.len(), 2);
    world.stop().await;
}
