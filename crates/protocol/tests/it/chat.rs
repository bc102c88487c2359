//! Chat over the wire, both ways: what crosses, and what becomes of it when the wire breaks.

use crate::chat_host::{
    ACCESS, Door, Heard, Host, SILENT, TAGS_FROM, batch, device, dial, request, sends, serve, serve_keeping,
    stored, up,
};
use crate::weather::{self, Step};
use crate::world::{Mode, Server, Wire, eventually, hear, patient, tasks};
use proptest::prelude::*;
use protocol::calls::client::CallOptions;
use protocol::calls::limits::{PUSHES_WAITING_MAX, SENDS_MAX};
use protocol::calls::{CallError, Chat, DeviceAt, Inbox, SendCall, SendReply};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatRequest, Done, MarkRead, PresenceRequest, Recall, SendOutcome, SyncRequest};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_crosses_both_ways_in_its_order() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    up(&chat).await;
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    chat.arrive(device(5));
    let mut calls = sends(1..6, 77);
    let sent = calls.clone();
    chat.send(&mut calls, &inbox, &mut out);
    assert!(calls.is_empty() && out.is_empty());
    chat.beat(&[device(5)]);
    chat.confirm(&[(device(5), 30), (device(5), 31)]);
    chat.leave(device(5));
    chat.leave(device(6));
    chat.arrive_again(device(7));
    eventually("all answers come", || {
        hear(&inbox, &mut out);
        out.len() == sent.len()
    })
    .await;
    out.sort_by_key(|reply| reply.tag);
    assert_eq!(out, sent.iter().map(stored).collect::<Vec<_>>());
    let mut expected = vec![Heard::Arrived(device(5))];
    // On the wire a message has a mark instead of the caller's.
    expected.extend((0..).zip(sent).map(|(mark, call)| Heard::Send(SendCall { tag: mark, ..call })));
    expected.extend([
        Heard::Beat(device(5)),
        Heard::Confirmed(device(5), 30),
        Heard::Confirmed(device(5), 31),
        Heard::Left(device(5)),
        Heard::Again(device(7)),
    ]);
    eventually("all is heard", || server.host.heard.lock().len() == expected.len()).await;
    assert_eq!(*server.host.heard.lock(), expected, "who never arrived does not leave");

    let answer = chat.ask(device(5).at, request(Ask::MarkRead(MarkRead::default()))).await.unwrap();
    let done = Answer::Done(Done { conversation: 7, seq: u64::from(ACCESS) });
    assert_eq!((answer.user, answer.answer), (5, Some(done)), "it says from which connection it came");
    let error = chat.ask(device(5).at, request(Ask::Recall(Recall { conversation: 1, seq: 9 }))).await;
    assert_eq!(error, Err(CallError::Refused("9 is too old".into())));

    let pushed = batch(600, 40);
    server.host.doors.lock()[&ACCESS].push(pushed.clone());
    eventually("the push comes", || !door.0.lock().is_empty()).await;
    assert_eq!(*door.0.lock(), [pushed]);
    eventually("it is counted", || server.counts.pushes() == 600).await;
    assert_eq!((server.counts.sends(), server.counts.pushes_dropped()), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_is_pending_and_what_never_went_is_busy() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    up(&chat).await;
    chat.send(&mut sends(1..40, SILENT), &inbox, &mut out);
    let asking = chat.ask(device(5).at, request(Ask::Sync(SyncRequest::default())));
    let killing = async {
        eventually("chat has them", || server.counts.sends() == 39 && server.counts.others() == 1).await;
        server.kill().await;
    };
    let (answer, ()) = tokio::join!(asking, killing);
    assert!(matches!(answer, Err(CallError::Unavailable(text)) if text.contains("ended")));
    eventually("everybody is answered", || {
        hear(&inbox, &mut out);
        out.len() == 39
    })
    .await;
    let pending = |reply: &SendReply| {
        let answer = &reply.answer;
        answer.outcome() == SendOutcome::Pending
            && answer.conversation == SILENT
            && answer.retry_after_ms >= 400
    };
    assert!(out.iter().all(pending) && out.iter().map(|r| r.answer.counter).eq(1..40), "{out:?}");
    out.clear();
    chat.send(&mut sends(40..42, 7), &inbox, &mut out);
    assert!(out.iter().all(|reply| reply.answer.outcome() == SendOutcome::Busy) && out.len() == 2);
    let answer = chat.ask(device(5).at, request(Ask::MarkRead(MarkRead::default()))).await;
    assert!(matches!(answer, Err(CallError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_that_begins_anew_is_told_of_all_who_are_there() {
    let tasks = tasks();
    let (mut server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    // Before there is a connection, on it, and while it is broken.
    (0..3_000).for_each(|n| chat.arrive(device(n)));
    up(&chat).await;
    eventually("all are told of", || server.host.here().len() == 3_000).await;
    (3_000..5_000).for_each(|n| chat.arrive(device(n)));
    (0..500).for_each(|n| chat.leave(device(n)));
    eventually("all are told of", || server.host.here().len() == 4_500).await;
    server.kill().await;
    eventually("the end is noticed", || !chat.health().up).await;
    chat.arrive(device(9_000));
    chat.leave(device(500));
    server = serve(&tasks, Some(server.address));
    let expected: BTreeSet<u64> = (501..5_000).chain([9_000]).collect();
    eventually("all are told of again", || server.host.here() == expected && chat.health().untold == 0).await;
    assert_eq!(server.host.count(|heard| matches!(heard, Heard::Again(_))), 4_500, "each is to sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_device_watches_is_said_with_it_when_it_is_told_of_again() {
    let tasks = tasks();
    let (mut server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    up(&chat).await;
    let at = |user| DeviceAt { user, device: 6, at: device(5).at };
    [5, 6, 7].iter().for_each(|user| chat.arrive(at(*user)));
    let looks = |user, users: Vec<u64>, watch| ChatRequest {
        user,
        device: 6,
        ask: Some(Ask::Presence(PresenceRequest { users, watch })),
    };
    for request in [
        looks(5, vec![1, 2], true),
        looks(5, vec![2, 3], true),
        looks(6, vec![9], false),
        looks(7, (1..=100).collect(), true),
        looks(8, vec![9], true),
    ] {
        chat.ask(device(5).at, request).await.unwrap();
    }
    chat.leave(at(7));
    server.kill().await;
    eventually("the end is noticed", || !chat.health().up).await;
    assert_eq!(chat.out_of_reach_ms(5), patient().wait_ms);
    server = serve(&tasks, Some(server.address));
    eventually("all are told of again", || chat.health().up && chat.health().untold == 0).await;
    let watches = |heard: &Heard| matches!(heard, Heard::Watches(..));
    eventually("he goes on watching", || server.host.count(watches) == 1).await;
    assert!(server.host.heard.lock().contains(&Heard::Watches(at(5), vec![1, 2, 3])));
    assert_eq!(chat.out_of_reach_ms(5), 0);
    // He goes to another node, with what he watches.
    let gone = chat.give_up(|device| device.user == 5);
    assert_eq!(gone, [(at(5), vec![1, 2, 3])]);
    chat.watch_again(at(5), &[1]);
    chat.arrive_again(at(5));
    chat.watch_again(at(5), &[4]);
    eventually("he comes back", || server.host.count(watches) == 2).await;
    assert!(server.host.heard.lock().contains(&Heard::Watches(at(5), vec![4])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_wire_makes_nobody_leave_but_those_who_did() {
    let tasks = tasks();
    // As long as it takes this machine to come back.
    let door = Arc::new(Door::default());
    let server = serve_keeping(&tasks, None, Duration::from_secs(300));
    let wire = Wire::new(&tasks, server.address).await;
    let chat = dial(&tasks, wire.address, CallOptions { connect_ms: 200, ..patient() }, &door);
    up(&chat).await;
    (0..50).for_each(|n| chat.arrive(device(n)));
    eventually("all are told of", || server.host.here().len() == 50).await;
    wire.set(Mode::Cut);
    eventually("the end is noticed on both sides", || {
        !chat.health().up && server.host.doors.lock().is_empty()
    })
    .await;
    (0..5).for_each(|n| chat.leave(device(n)));
    wire.set(Mode::Carry);
    eventually("those who left have left", || server.host.here().len() == 45).await;
    assert_eq!(
        server.host.count(|heard| matches!(heard, Heard::Left(_))),
        5,
        "nobody else, not for a moment"
    );
    server.host.doors.lock()[&ACCESS].push(batch(1, 1));
    eventually("pushes have a way again", || door.0.lock().len() == 1).await;
    // An access node that does not come back takes its devices with it.
    let server = serve(&tasks, None);
    let wire = Wire::new(&tasks, server.address).await;
    let chat = dial(&tasks, wire.address, patient(), &door);
    up(&chat).await;
    (0..50).for_each(|n| chat.arrive(device(n)));
    eventually("all are told of", || server.host.here().len() == 50).await;
    wire.set(Mode::Cut);
    eventually("all have left", || server.host.here().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_connection_of_an_access_node_takes_the_place_of_the_one_before() {
    let tasks = tasks();
    let (server, doors) = (serve(&tasks, None), [Arc::new(Door::default()), Arc::new(Door::default())]);
    let first = dial(&tasks, server.address, patient(), &doors[0]);
    up(&first).await;
    first.arrive(device(1));
    first.arrive(device(2));
    eventually("they are there", || server.host.here().len() == 2).await;
    // As one that was started anew under its old number: its connections are others.
    let second = dial(&tasks, server.address, patient(), &doors[1]);
    second.arrive(device(2));
    eventually("the first one's devices are gone", || server.host.here().iter().eq(&[2])).await;
    first.stop();
    eventually("the second one stays", || {
        let to = server.host.doors.lock().get(&ACCESS).cloned();
        to.into_iter().for_each(|door| door.push(batch(1, 1)));
        second.health().up && !doors[1].0.lock().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_hold_both_ways() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let wire = Wire::new(&tasks, server.address).await;
    let chat = dial(&tasks, wire.address, patient(), &door);
    up(&chat).await;
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    chat.send(&mut sends(0..SENDS_MAX as u64, SILENT), &inbox, &mut out);
    assert!(out.is_empty());
    chat.send(&mut sends(1..3, 7), &inbox, &mut out);
    assert!(out.len() == 2 && out.iter().all(|reply| reply.answer.outcome() == SendOutcome::Busy));
    // An access node that does not read: pushes wait up to a bound, and are left out above it.
    eventually("chat has them", || server.counts.sends() == SENDS_MAX as u64).await;
    wire.set(Mode::Hold);
    let to = Arc::clone(&server.host.doors.lock()[&ACCESS]);
    let pushed = 2 * PUSHES_WAITING_MAX / 1_000_000;
    for _ in 0..pushed {
        to.push(batch(3, 1_000_000));
    }
    // Half of them, of three targets each, about; they are counted when the way out is looked at again.
    eventually("many are left out", || server.counts.pushes_dropped() as usize >= pushed).await;
    wire.set(Mode::Carry);
    let all = 3 * pushed as u64;
    eventually("what waited comes", || {
        server.counts.pushes() + server.counts.pushes_dropped() == all
            && door.0.lock().iter().map(|batch| batch.targets.len() as u64).sum::<u64>()
                == server.counts.pushes()
    })
    .await;
    assert!(chat.health().up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_answers_what_it_took() {
    let tasks = tasks();
    let (server, door) = (serve(&tasks, None), Arc::new(Door::default()));
    let chat = dial(&tasks, server.address, patient(), &door);
    up(&chat).await;
    let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
    chat.send(&mut sends(0..2_000, 7), &inbox, &mut out);
    eventually("chat has them", || server.counts.sends() == 2_000).await;
    let drained = server.tasks.drain(Duration::from_secs(60)).await;
    assert!(drained.unfinished.is_empty(), "{drained:?}");
    eventually("all are answered", || {
        hear(&inbox, &mut out);
        out.len() == 2_000
    })
    .await;
    assert!(out.iter().all(|reply| reply.answer.outcome() == SendOutcome::Stored));
}

/// What devices and senders do.
#[derive(Clone, Debug)]
enum Deed {
    Send(u64),
    Come(u64),
    Go(u64),
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (1u64..400).prop_map(Deed::Send),
        3 => (0u64..9).prop_map(Deed::Come),
        2 => (0u64..9).prop_map(Deed::Go),
    ]
}

async fn run(steps: Vec<Step<Deed>>) {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let wire = Wire::new(&tasks, server.address).await;
    let options = CallOptions { submit_ms: 150, connect_ms: 500, ..patient() };
    let chat = dial(&tasks, wire.address, options, &Arc::default());
    up(&chat).await;
    let inbox = Arc::new(Inbox::new());
    let (mut heard, mut sent, mut here) = (Vec::new(), 0, BTreeSet::new());
    let again = |server: &Server<Host>| serve(&tasks, Some(server.address));
    let server = weather::through(steps, &wire, server, again, |deed| {
        match deed {
            Some(Deed::Send(n)) => {
                chat.send(&mut sends(sent..sent + n, 3), &inbox, &mut heard);
                sent += n;
            }
            Some(Deed::Come(n)) => {
                here.insert(n);
                chat.arrive(device(n));
            }
            Some(Deed::Go(n)) => {
                here.remove(&n);
                chat.leave(device(n));
            }
            None => {}
        }
        hear(&inbox, &mut heard);
    })
    .await;
    let mut tags = || {
        hear(&inbox, &mut heard);
        heard.iter().map(|reply| reply.tag - TAGS_FROM).collect()
    };
    weather::all_answered(sent, &mut tags).await;
    wire.set(Mode::Carry);
    eventually("chat knows who is there", || server.host.here() == here).await;
    weather::nobody_twice(&wire, sent, tags).await;
    let _ = tasks.drain(Duration::ZERO).await;
    let _ = server.tasks.drain(Duration::ZERO).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_held_or_cut_each_message_is_answered_once_and_devices_are_right(
        steps in weather::steps(10, deeds()),
    ) {
        weather::block_on(run(steps));
    }
}
