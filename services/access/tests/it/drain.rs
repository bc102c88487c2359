//! The end of a server: outstanding answers are given, then it says goodbye.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use access::Limits;
use protocol::frame::FrameKind;
use protocol::v1;

use crate::harness::*;

#[test]
fn says_goodbye_and_accepts_nobody() {
    let server = start();
    let mut client = server.user(5);
    let drained = server.drain();
    assert!(drained.failure.is_none() && drained.unfinished.is_empty(), "{drained:?}");
    let error: v1::Error = client.expect(FrameKind::Error, 0);
    assert!(error.fatal && error.code == "unavailable" && error.retry_after_ms > 0, "{error:?}");
    assert_eq!(client.next(), None);
    assert!(TcpStream::connect(server.tcp).is_err());
}

#[test]
fn waits_for_what_is_outstanding_but_not_for_ever() {
    let server = start_with(Limits { drain_ms: 300, ..Limits::default() });
    let mut client = server.user(UNANSWERED);
    client.send(FrameKind::Submit, 1, &entry(1));
    eventually("asked", || server.draws.calls() == 1);
    let clock = server.clock.clone();
    // Time goes on until it is over, whenever that began.
    let over = AtomicBool::new(false);
    let drained = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(100));
                clock.advance_ms(301);
            }
        });
        let drained = server.drain();
        over.store(true, Ordering::SeqCst);
        drained
    });
    assert!(drained.unfinished.is_empty(), "{drained:?}");
    assert_eq!(client.next(), None, "no goodbye while an answer is owed");
}
