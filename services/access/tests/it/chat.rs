//! Chat over frames: messages, answers, confirmations, requests, pushes.

use std::sync::Arc;

use access::token::GatewayGrant;
use access::{Count, Limits};
use prost::Message;
use protocol::calls::{DeviceAt, Part, PartKind, PushBatch, Pushes, Target};
use protocol::frame::{FrameKind, put_message};
use protocol::v1::{self, SendOutcome, chat_answer, chat_request};

use crate::harness::*;

fn message(counter: u64) -> v1::Send {
    v1::Send { conversation: 5, counter, body: b"hello".to_vec(), kind: 1, ..v1::Send::default() }
}

fn gateway() -> GatewayGrant {
    GatewayGrant { name: "g".into(), ..GatewayGrant::default() }
}

/// A batch with entries of these cursors for a device.
pub fn entries(to: DeviceAt, cursors: std::ops::RangeInclusive<u64>, body: usize) -> PushBatch {
    let mut batch = PushBatch::default();
    for cursor in cursors {
        let message =
            v1::ChatMessage { conversation: 5, seq: cursor, body: vec![9; body], ..Default::default() };
        let start = batch.bytes.len() as u32;
        message.encode(&mut batch.bytes).unwrap();
        let bytes = start..batch.bytes.len() as u32;
        batch.parts.push(Part { kind: PartKind::Message { conversation: 5, seq: cursor }, bytes });
        batch.targets.push(Target {
            connection: to.at.connection,
            user: to.user,
            device: to.device,
            after: cursor - 1,
            cursor,
            message: batch.parts.len() as u32 - 1,
        });
    }
    batch
}

#[test]
fn without_chat_or_device_everything_else_works() {
    let server = start();
    let mut client = server.device(5, 7);
    client.send(FrameKind::Send, 3, &message(1));
    assert!(client.refused(3).message.contains("no chat"));
    let (server, chat) = start_chat(Limits::default());
    let mut client = server.user(5);
    client.send(FrameKind::Ask, 3, &v1::ChatRequest::default());
    let error = client.refused(3);
    assert!(error.code == "invalid" && error.message.contains("Login.device"), "{error:?}");
    assert_eq!(client.submit(4, &entry(1)).counter, 1);
    assert!(chat.seen.lock().arrived.is_empty());
}

#[test]
fn a_login_says_whether_chat_can_be_reached() {
    let (server, chat) = start_chat(Limits::default());
    let log_in = |device| {
        let mut client = server.connect();
        client.hello();
        let done = server.log_in(&mut client, 5, device);
        (done.chat, done.chat_retry_after_ms)
    };
    assert_eq!((log_in(7), log_in(0)), ((true, 0), (false, 0)));
    chat.away_ms.store(1_200, std::sync::atomic::Ordering::Relaxed);
    // The device is registered: what comes later reaches it.
    assert_eq!((log_in(8), log_in(0)), ((true, 1_200), (false, 0)));
    assert_eq!(chat.device(5, 8).device, 8);
}

#[test]
fn a_device_arrives_is_heard_of_and_leaves() {
    let (server, chat) = start_chat(Limits::default());
    let mut client = server.device(5, 7);
    let at = chat.device(5, 7);
    assert_eq!(at.at.access, 1);
    client.empty(FrameKind::Heartbeat, 9);
    client.next();
    eventually("beat", || chat.seen.lock().beats.contains(&at));
    drop(client);
    eventually("left", || chat.seen.lock().left == [at]);
    let again = server.device(5, 7);
    assert_ne!(chat.device(5, 7), at, "an address is never used twice");
    drop(again);
}

#[test]
fn messages_of_one_read_are_one_call_and_answers_come_in_any_order() {
    let (server, chat) = start_chat(Limits::default());
    let mut client = server.device(5, 7);
    let mut out = Vec::new();
    for counter in 1..=6u64 {
        put_message(&mut out, FrameKind::Send, 10 + counter as u32, &message(counter));
    }
    put_message(&mut out, FrameKind::Confirm, 0, &v1::Confirm { cursor: 4, ..Default::default() });
    put_message(&mut out, FrameKind::Confirm, 0, &v1::Confirm { cursor: 6, ..Default::default() });
    client.raw(&out);
    let mut counters = Vec::new();
    for _ in 0..6 {
        let (kind, id, body) = client.next().unwrap();
        assert_eq!(kind, FrameKind::SendAnswer);
        let answer = v1::SendAnswer::decode(&body[..]).unwrap();
        assert_eq!(
            (answer.outcome(), u64::from(id), answer.user),
            (SendOutcome::Stored, 10 + answer.counter, 0)
        );
        counters.push(answer.counter);
    }
    // The fake answers even counters late.
    assert_eq!(counters, [1, 3, 5, 2, 4, 6]);
    let seen = chat.seen.lock();
    assert_eq!(seen.batches, [6]);
    assert!(seen.sends.iter().all(|call| (call.send.user, call.send.device) == (5, 7)));
    assert!(seen.sends.iter().all(|call| call.from == seen.arrived[0].at));
    let confirmed = [(seen.arrived[0], 6)];
    drop(seen);
    eventually("the newest is confirmed", || chat.seen.lock().confirms == confirmed);
}

#[test]
fn who_he_is_and_what_he_sends_is_checked() {
    let (server, chat) = start_chat(Limits::default());
    let mut client = server.device(5, 7);
    let cases: [(v1::Send, &str, &str); 6] = [
        (v1::Send { user: 6, ..message(1) }, "forbidden", "6"),
        (v1::Send { device: 8, ..message(1) }, "forbidden", "device 8"),
        (v1::Send { body: vec![0; 3_073], ..message(1) }, "too_large", "3072"),
        (message(0), "invalid", "counter"),
        (v1::Send { to_user: 3, ..message(1) }, "invalid", "exactly one"),
        (v1::Send { conversation: 0, ..message(1) }, "invalid", "exactly one"),
    ];
    for (i, (send, code, part)) in cases.into_iter().enumerate() {
        client.send(FrameKind::Send, i as u32, &send);
        let error = client.refused(i as u32);
        assert!(error.code == code && error.message.contains(part), "{error:?}");
    }
    client.send(FrameKind::Ask, 9, &v1::ChatRequest::default());
    assert!(client.refused(9).message.contains("asks nothing"));
    client.empty(FrameKind::Push, 10);
    assert!(client.thrown_out(10).message.contains("from the server"));
    assert!(chat.seen.lock().sends.is_empty());
}

#[test]
fn floods_are_bounded_and_cut_and_the_bound_is_live() {
    let (server, chat) = start_chat(Limits { user_sends_per_second: 2, ..Limits::default() });
    let mut client = server.device(5, 7);
    for counter in [1u64, 3] {
        client.send(FrameKind::Send, counter as u32, &message(counter));
        let _: v1::SendAnswer = client.expect(FrameKind::SendAnswer, counter as u32);
    }
    client.send(FrameKind::Send, 3, &message(5));
    let error = client.refused(3);
    assert!(error.code == "rate_limited" && error.retry_after_ms == 500, "{error:?}");
    assert_eq!(client.submit(4, &entry(1)).counter, 1, "shaking goes on");
    server
        .control
        .change_limits(&access::LimitsChange { user_sends_per_second: Some(1_000), ..Default::default() });
    server.clock.advance_ms(1_000);
    client.send(FrameKind::Send, 5, &message(5));
    let _: v1::SendAnswer = client.expect(FrameKind::SendAnswer, 5);
    let mut out = Vec::new();
    for id in 0..2_100 {
        put_message(&mut out, FrameKind::Send, id, &v1::Send { conversation: SILENT, ..message(7) });
    }
    client.raw(&out);
    eventually("cut", || server.control.count(Count::Strikes) == 1);
    // The bound of unanswered requests is one for everything.
    let answered = 4;
    assert!(chat.seen.lock().sends.len() <= answered + 64);
}

#[test]
fn requests_are_answered_with_proved_names() {
    let (server, _chat) = start_chat(Limits::default());
    let mut client = server.device(5, 7);
    let sync = v1::SyncRequest { cursor: 3, limit: 2, ..Default::default() };
    let ask = v1::ChatRequest { ask: Some(chat_request::Ask::Sync(sync)), ..Default::default() };
    client.send(FrameKind::Ask, 3, &ask);
    let answer: v1::ChatAnswer = client.expect(FrameKind::AskAnswer, 3);
    let Some(chat_answer::Answer::Sync(sync)) = answer.answer else { panic!("{answer:?}") };
    assert_eq!((sync.cursor, sync.entries.len(), answer.user), (5, 2, 0));
    // The fake's answer names who asked.
    assert_eq!(sync.unread_total, 5 * 1_000 + 7);
    let recall = v1::Recall { conversation: 404, seq: 1 };
    client.send(
        FrameKind::Ask,
        4,
        &v1::ChatRequest { ask: Some(chat_request::Ask::Recall(recall)), ..Default::default() },
    );
    assert_eq!(client.refused(4).code, "not_found");
}

#[test]
fn an_answer_larger_than_a_frame_is_a_shorter_page() {
    let (server, _chat) = start_chat(Limits::default());
    let mut client = server.connect();
    client.send(
        FrameKind::Hello,
        1,
        &v1::Hello { protocol_version: 1, frame_max: 2_000, ..Default::default() },
    );
    let _: v1::Welcome = client.expect(FrameKind::Welcome, 1);
    server.log_in(&mut client, 5, 7);
    let sync = v1::SyncRequest { cursor: 0, limit: 500, ..Default::default() };
    client.send(
        FrameKind::Ask,
        3,
        &v1::ChatRequest { ask: Some(chat_request::Ask::Sync(sync)), ..Default::default() },
    );
    let answer: v1::ChatAnswer = client.expect(FrameKind::AskAnswer, 3);
    let Some(chat_answer::Answer::Sync(sync)) = answer.answer else { panic!("{answer:?}") };
    assert!(sync.more && sync.entries.len() > 1 && sync.entries.len() < 500);
    assert_eq!(sync.cursor, sync.entries.last().unwrap().cursor);
}

#[test]
fn a_gateway_names_users_and_devices_and_hears_who_is_meant() {
    let (server, chat) = start_chat(Limits::default());
    let (mut client, done) = server.gateway(gateway());
    assert!(done.chat);
    client.send(FrameKind::Send, 1, &v1::Send { user: 8, ..message(1) });
    assert!(client.refused(1).message.contains("device is missing"));
    for (id, user, counter) in [(2, 8, 2), (3, 9, 2), (4, 8, 4)] {
        client.send(FrameKind::Send, id, &v1::Send { user, device: 70 + user, ..message(counter) });
        let answer: v1::SendAnswer = client.expect(FrameKind::SendAnswer, id);
        assert_eq!((answer.user, answer.outcome()), (user, SendOutcome::Stored));
    }
    let ask = Some(chat_request::Ask::Devices(v1::DevicesRequest {}));
    client.send(FrameKind::Ask, 5, &v1::ChatRequest { user: 9, device: 79, ask });
    let answer: v1::ChatAnswer = client.expect(FrameKind::AskAnswer, 5);
    assert_eq!(answer.user, 9);
    let (one, two) = (chat.device(8, 78), chat.device(9, 79));
    assert_eq!((chat.seen.lock().arrived.len(), one.at), (2, two.at));
    let mut batch = entries(one, 4..=5, 10);
    let other = entries(two, 7..=7, 10);
    batch.targets.push(Target {
        connection: two.at.connection,
        user: 9,
        device: 79,
        after: 6,
        cursor: 7,
        message: 0,
    });
    assert_eq!(other.targets.len(), 1);
    server.pushes.push(batch);
    let (first, second): (v1::Push, v1::Push) =
        (client.expect(FrameKind::Push, 0), client.expect(FrameKind::Push, 0));
    assert_eq!((first.user, first.device, first.after, first.cursor, first.entries.len()), (8, 78, 3, 5, 2));
    assert_eq!((second.user, second.device, second.after, second.cursor), (9, 79, 6, 7));
    drop(client);
    eventually("both left", || chat.seen.lock().left.len() == 2);
}

#[test]
fn pushes_reach_their_device_in_one_frame_and_strangers_never() {
    let (server, chat) = start_chat(Limits::default());
    let mut clients: Vec<_> = (1..=20).map(|user| server.device(user, 7)).collect();
    let mut batch = PushBatch::default();
    for user in 1..=20 {
        let own = entries(chat.device(user, 7), 1..=3, 20);
        let (bytes, parts) = (batch.bytes.len() as u32, batch.parts.len() as u32);
        batch.bytes.extend_from_slice(&own.bytes);
        let moved = |part: Part| Part { bytes: part.bytes.start + bytes..part.bytes.end + bytes, ..part };
        batch.parts.extend(own.parts.into_iter().map(moved));
        batch.targets.extend(own.targets.into_iter().map(|t| Target { message: t.message + parts, ..t }));
    }
    server.pushes.push(batch);
    for client in &mut clients {
        let push: v1::Push = client.expect(FrameKind::Push, 0);
        assert_eq!((push.after, push.cursor, push.entries.len(), push.user), (0, 3, 3, 0));
        assert_eq!(push.entries[2].message.as_ref().unwrap().body, [9; 20]);
    }
    let gone = chat.device(3, 7);
    drop(clients);
    eventually("all left", || chat.seen.lock().left.len() == 20);
    let mut stranger = server.device(77, 7);
    server.pushes.push(entries(gone, 4..=4, 5));
    server.pushes.push(entries(
        DeviceAt { at: protocol::calls::ConnectionAt { access: 1, connection: u64::MAX }, ..gone },
        4..=4,
        5,
    ));
    eventually("left out", || server.control.count(Count::PushesStale) >= 1);
    stranger.empty(FrameKind::Heartbeat, 3);
    assert_eq!(stranger.next().unwrap().0, FrameKind::Heartbeat);
}

#[test]
fn a_reader_that_is_behind_hears_how_far_it_goes_and_is_not_buffered_for() {
    let (server, chat) =
        start_chat(Limits { silence_ms: 10_000_000, unsent_ms: 1_000_000, ..Limits::default() });
    let mut client = server.device(5, 7);
    let at = chat.device(5, 7);
    let mut cursor = 0;
    // He reads nothing: his socket fills up, then only the newest cursor is kept for him.
    eventually("behind", || {
        server.pushes.push(entries(at, cursor + 1..=cursor + 100, 2_000));
        cursor += 100;
        server.clock.advance_ms(300);
        server.control.count(Count::PushesBare) > 0
    });
    server.pushes.push(entries(at, cursor + 1..=cursor + 1, 10));
    cursor += 1;
    let mut has = 0;
    let mut bare = false;
    while has < cursor {
        let push: v1::Push = client.expect(FrameKind::Push, 0);
        bare |= push.entries.is_empty() && push.after == push.cursor && push.after > has;
        assert!(bare || push.after <= has, "a gap that is not said");
        has = push.cursor;
    }
    assert!(bare);
}

#[test]
fn many_pushes_at_once_all_arrive() {
    let (server, chat) = start_chat(Limits::default());
    let mut client = server.device(5, 7);
    let at = chat.device(5, 7);
    let pushes = Arc::new(server.pushes.clone());
    let pusher = std::thread::spawn(move || {
        for i in 0..50u64 {
            pushes.push(entries(at, i * 8 + 1..=i * 8 + 8, 100));
        }
    });
    let (mut has, mut seen) = (0, 0);
    while has < 400 {
        let push: v1::Push = client.expect(FrameKind::Push, 0);
        assert_eq!(push.after, has);
        has = push.cursor;
        seen += push.entries.len();
    }
    assert_eq!(seen, 400);
    pusher.join().unwrap();
}
