//! Submits over the wire.

use crate::world::{calls, dial, eventually, hear, patient, reply_to, serve, tasks, up};
use protocol::calls::client::{CallOptions, RemoteDraws};
use protocol::calls::{Draws, Inbox, SubmitReply};
use protocol::v1::Outcome;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_come_back_to_the_inbox_that_asked_as_they_were_made() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let options = CallOptions { submit_ms: 8_000, ..patient() };
    let draws = RemoteDraws::new(dial(&tasks, server.address, options));
    up(draws.peer()).await;
    let inboxes = [Arc::new(Inbox::new()), Arc::new(Inbox::new())];
    let mut at_once = Vec::new();
    // More than a frame's worth, and one alone.
    let asked = [calls(0..9_990), calls(10_002..10_003)];
    for (inbox, asked) in inboxes.iter().zip(&asked) {
        draws.submit(asked, inbox, &mut at_once);
    }
    assert!(at_once.is_empty());
    let mut heard: [Vec<SubmitReply>; 2] = Default::default();
    let silent = asked[0].iter().filter(|call| call.user % 10 == 1).count();
    eventually("everybody is answered", || {
        inboxes.iter().zip(&mut heard).for_each(|(inbox, heard)| hear(inbox, heard));
        heard[0].len() == asked[0].len() && heard[1].len() == 1
    })
    .await;
    for (asked, heard) in asked.iter().zip(&mut heard) {
        heard.sort_by_key(|reply| reply.tag);
        for (call, reply) in asked.iter().zip(heard) {
            if call.user % 10 == 1 {
                assert_eq!((reply.tag, reply.outcome, reply.next_counter), (call.tag, Outcome::Pending, 3));
                assert!((400..=600).contains(&reply.next_submit_ms));
            } else {
                assert_eq!(*reply, reply_to(call));
            }
        }
    }
    assert_eq!(draws.peer().health().timed_out, silent as u64);
    assert_eq!(server.counts.submits(), 9_991);
    assert!(server.host.batches.lock().len() < 100, "what came together was decided together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_answers_at_is_pending_at_once_and_found_when_it_comes() {
    let tasks = tasks();
    // An address that nobody listens on: bound, and given back.
    let server = serve(&tasks, None);
    let address = server.address;
    server.kill().await;
    let draws = RemoteDraws::new(dial(&tasks, address, patient()));
    let inbox = Arc::new(Inbox::new());
    let mut out = Vec::new();
    draws.submit(&calls(3..5), &inbox, &mut out);
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|reply| reply.outcome == Outcome::Pending && reply.next_counter == 3));
    eventually("it is known why", || draws.peer().health().last_error.is_some()).await;
    let health = draws.peer().health();
    assert!(health.failures > 0 && health.links_up == 0, "{health:?}");
    let _server = serve(&tasks, Some(address));
    up(draws.peer()).await;
    assert_eq!((draws.peer().health().failures, draws.peer().health().last_error), (0, None));
    out.clear();
    draws.submit(&calls(3..5), &inbox, &mut out);
    eventually("both are answered", || {
        hear(&inbox, &mut out);
        out.len() == 2
    })
    .await;
    assert!(out.iter().all(|reply| reply.outcome == Outcome::Lost));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_stopped_answers_what_it_took_and_a_server_that_ends_too() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let inbox = Arc::new(Inbox::new());
    let (mut out, mut heard) = (Vec::new(), Vec::new());
    let draws = RemoteDraws::new(dial(&tasks, server.address, patient()));
    up(draws.peer()).await;
    draws.submit(&calls(10..11), &inbox, &mut out);
    draws.peer().stop();
    eventually("the win has come, and the links are gone", || {
        hear(&inbox, &mut heard);
        heard.len() == 1 && !draws.peer().is_up()
    })
    .await;
    assert_eq!(heard[0].outcome, Outcome::Won);
    draws.submit(&calls(10..11), &inbox, &mut out);
    assert_eq!(out[0].outcome, Outcome::Pending);

    let draws = RemoteDraws::new(dial(&tasks, server.address, patient()));
    up(draws.peer()).await;
    heard.clear();
    draws.submit(&calls(20..21), &inbox, &mut out);
    eventually("the server has it", || server.counts.submits() == 2).await;
    let drained = server.tasks.drain(Duration::from_secs(60)).await;
    assert!(drained.unfinished.is_empty(), "{drained:?}");
    eventually("the win has come", || {
        hear(&inbox, &mut heard);
        heard.len() == 1
    })
    .await;
    assert_eq!(heard[0].outcome, Outcome::Won);
}
