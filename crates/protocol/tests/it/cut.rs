//! Whatever happens to the wire, each call is answered exactly once.

use crate::weather::{self, Step};
use crate::world::{Mode, Server, Wire, calls, dial, dial_by, eventually, hear, patient, serve, tasks, up};
use proptest::prelude::*;
use protocol::calls::client::{CallOptions, RemoteDraws};
use protocol::calls::{Draws, Inbox};
use protocol::v1::Outcome;
use runtime::{ManualClock, Tasks};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_mid_batch_leaves_nobody_without_an_answer() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    // Patient enough that only the broken connection can be why.
    let draws = RemoteDraws::new(dial(&tasks, server.address, patient()));
    up(draws.peer()).await;
    let inbox = Arc::new(Inbox::new());
    let (mut out, mut heard) = (Vec::new(), Vec::new());
    // Users with the last digit 1 are never answered, so the batch is under way when the server dies.
    draws.submit(&calls(0..5_000), &inbox, &mut out);
    eventually("the rest is answered", || {
        hear(&inbox, &mut heard);
        heard.len() == 4_500
    })
    .await;
    assert!(heard.iter().all(|reply| reply.outcome != Outcome::Pending));
    server.kill().await;
    eventually("everybody is answered", || {
        hear(&inbox, &mut heard);
        heard.len() == 5_000
    })
    .await;
    let pending = &heard[4_500..];
    assert!(pending.iter().all(|reply| reply.outcome == Outcome::Pending && reply.tag % 10 == 1));
    assert!(out.is_empty());
    draws.submit(&calls(0..1), &inbox, &mut out);
    assert_eq!(out[0].outcome, Outcome::Pending);
}

/// Two links that beat each 100 ms of a clock that stands still until the test moves it, and end after a second of silence.
struct Beating {
    wire: Wire,
    clock: Arc<ManualClock>,
    draws: RemoteDraws,
    _server: Server,
    _tasks: Tasks,
}

impl Beating {
    async fn start() -> Beating {
        let tasks = tasks();
        let server = serve(&tasks, None);
        let wire = Wire::new(&tasks, server.address).await;
        let options = CallOptions { heartbeat_ms: 100, dead_ms: 1_000, ..patient() };
        let clock = ManualClock::new(1_800_000_000_000);
        let draws = RemoteDraws::new(dial_by(&tasks, wire.address, options, clock.clone()));
        up(draws.peer()).await;
        Beating { wire, clock, draws, _server: server, _tasks: tasks }
    }

    /// Moves the clock; two links beat, nine bytes there and nine back.
    async fn beat(&self, ms: u64) {
        let before = self.wire.carried();
        self.clock.advance_ms(ms);
        eventually("heartbeats are answered", || self.wire.carried() >= before + 36).await;
    }
}

/// What a process that was stopped with SIGSTOP looks like: its sockets are open, and nothing comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_connection() {
    let beating = Beating::start().await;
    // Heartbeats keep it alive for longer than the silence that would end it.
    for _ in 0..15 {
        beating.beat(100).await;
    }
    let Beating { wire, clock, draws, .. } = &beating;
    assert!(draws.peer().is_up());
    wire.set(Mode::Hold);
    let inbox = Arc::new(Inbox::new());
    let (mut out, mut heard) = (Vec::new(), Vec::new());
    draws.submit(&calls(3..4), &inbox, &mut out);
    // In small steps: a jump would look like a stop of this process, which says nothing of the other one.
    eventually("silence is noticed", || {
        clock.advance_ms(10);
        hear(&inbox, &mut heard);
        heard.len() + out.len() == 1 && !draws.peer().is_up()
    })
    .await;
    assert_eq!(heard.iter().chain(&out).next().unwrap().outcome, Outcome::Pending);
    eventually("it is known why", || draws.peer().health().last_error.is_some()).await;
    let error = draws.peer().health().last_error.unwrap();
    assert!(error.contains("nothing was heard") || error.contains("no greeting"), "{error}");
    wire.set(Mode::Carry);
    up(draws.peer()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_this_process_is_not_taken_for_the_others_silence() {
    let beating = Beating::start().await;
    for _ in 0..5 {
        beating.beat(5_000).await;
        assert!(beating.draws.peer().is_up(), "{:?}", beating.draws.peer().health());
    }
}

async fn run(steps: Vec<Step<u64>>) {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let wire = Wire::new(&tasks, server.address).await;
    let options = CallOptions { submit_ms: 150, connect_ms: 500, ..patient() };
    let draws = RemoteDraws::new(dial(&tasks, wire.address, options));
    up(draws.peer()).await;
    let inbox = Arc::new(Inbox::new());
    let (mut heard, mut asked) = (Vec::new(), 0);
    let again = |server: &Server| serve(&tasks, Some(server.address));
    let server = weather::through(steps, &wire, server, again, |more| {
        if let Some(more) = more {
            draws.submit(&calls(asked..asked + more), &inbox, &mut heard);
            asked += more;
        }
        hear(&inbox, &mut heard);
    })
    .await;
    let mut tags = || {
        hear(&inbox, &mut heard);
        heard.iter().map(|reply| reply.tag).collect()
    };
    weather::all_answered(asked, &mut tags).await;
    weather::nobody_twice(&wire, asked, tags).await;
    let _ = tasks.drain(Duration::ZERO).await;
    let _ = server.tasks.drain(Duration::ZERO).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_held_or_cut_each_call_is_answered_once(steps in weather::steps(5, 1u64..400)) {
        weather::block_on(run(steps));
    }
}
