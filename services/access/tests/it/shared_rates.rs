//! A book of rates that has to ask somebody: logins and HTTP requests wait for its word.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use access::Limits;
use access::gates::{AddressRates, Limited, Pass, RateBook};
use protocol::frame::{FrameKind, put_message};
use protocol::v1;

use crate::harness::{Server, entry, start_sharing};

/// Admits some of each kind, after a while.
struct Slow {
    left: AtomicU32,
}

impl RateBook for Slow {
    fn pass(&self, _: Limited, _: IpAddr) -> Pass {
        let passed = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        Pass::Ask(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            passed.map(|_| ()).map_err(|_| 700)
        }))
    }

    fn sweep(&self, _: AddressRates) {}
}

fn start(left: u32) -> Server {
    let book = Arc::new(Slow { left: left.into() });
    start_sharing(Limits::default(), Some(book))
}

#[test]
fn a_login_waits_for_the_word_and_what_is_behind_it_too() {
    let server = start(2);
    let mut client = server.connect();
    client.hello();
    // All at once, as a client does that does not wait for LoginDone.
    let mut bytes = Vec::new();
    let login = v1::Login { user_token: server.user_token(5), ..v1::Login::default() };
    put_message(&mut bytes, FrameKind::Login, 2, &login);
    put_message(&mut bytes, FrameKind::Submit, 3, &entry(1));
    let last = bytes.len();
    put_message(&mut bytes, FrameKind::Submit, 4, &entry(2));
    // The last frame comes in two pieces.
    client.raw(&bytes[..last + 7]);
    std::thread::sleep(Duration::from_millis(60));
    client.raw(&bytes[last + 7..]);
    let done: v1::LoginDone = client.expect(FrameKind::LoginDone, 2);
    assert_eq!(done.user, 5);
    for id in [3, 4] {
        let answer: v1::SubmitAnswer = client.expect(FrameKind::SubmitAnswer, id);
        assert_eq!(answer.outcome(), v1::Outcome::Lost);
    }
    assert_eq!(server.user(6).submit(9, &entry(1)).outcome(), v1::Outcome::Lost);
    // The third is one too many.
    let mut client = server.connect();
    client.hello();
    client.send(FrameKind::Login, 2, &v1::Login { user_token: server.user_token(7), ..v1::Login::default() });
    let error = client.thrown_out(2);
    assert_eq!((error.code.as_str(), error.retry_after_ms), ("rate_limited", 700));
    assert_eq!(server.draws.calls(), 3);
}

#[test]
fn http_requests_wait_for_the_word() {
    let server = start(1);
    let get = |address: SocketAddr| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    assert!(get(server.http).starts_with("HTTP/1.1 200"));
    let refused = get(server.http);
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
}
