//! How many submits cross the wire in a second; prints, and judges nothing.

use crate::world::{calls, cluster, hear, tasks, up};
use protocol::calls::client::{CallOptions, Dialer, RemoteDraws, Target};
use protocol::calls::server::CallServer;
use protocol::calls::{Draws, Inbox, Served, ServiceSet, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use runtime::{Clock, SystemClock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everybody loses at once.
struct Losing;

impl Draws for Losing {
    fn submit(&self, calls: &[SubmitCall], _: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        out.extend(calls.iter().map(|call| SubmitReply {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            next_counter: call.counter + 1,
            outcome: Outcome::Lost,
            next_submit_ms: 1_000,
            until_ms: 0,
            award: None,
        }));
    }
}

/// Run by hand: `cargo test --release -p protocol --test it -- --ignored --nocapture submits_a_second`.
#[test]
#[ignore = "a measurement"]
fn submits_a_second() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (draws, tasks) = runtime.block_on(async {
        let tasks = tasks();
        let served = Served { draws: Some(Arc::new(Losing)), ..Served::default() };
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = CallServer::bind(at, cluster(1), 7, served, SystemClock::shared()).unwrap();
        let address = server.address().to_string();
        server.run(&tasks);
        let dialer =
            Dialer::new(cluster(1), "speed", CallOptions::default(), SystemClock::shared(), tasks.clone());
        let draws = RemoteDraws::new(dialer.dial(Target { node: 7, address }, ServiceSet::DRAWS));
        up(draws.peer()).await;
        (draws, tasks)
    });
    for (batch, flight) in [(1, 64), (16, 1_024), (64, 8_192), (1_000, 16_000)] {
        let (inbox, clock) = (Arc::new(Inbox::new()), SystemClock);
        let asked = calls(1..batch as u64 + 1);
        let (mut out, mut heard) = (Vec::new(), Vec::new());
        let (mut done, mut under_way) = (0, 0);
        let begun = clock.mono_ns();
        while clock.mono_ns() - begun < 2_000_000_000 {
            while under_way < flight {
                draws.submit(&asked, &inbox, &mut out);
                under_way += batch;
            }
            hear(&inbox, &mut heard);
            done += heard.len();
            under_way -= heard.len();
            heard.clear();
            if under_way >= flight {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let seconds = (clock.mono_ns() - begun) as f64 / 1e9;
        println!("batches of {batch}, {flight} under way: {:.0} submits/s", done as f64 / seconds);
        assert!(out.is_empty());
    }
    let _ = runtime.block_on(tasks.drain(Duration::from_secs(5)));
}
