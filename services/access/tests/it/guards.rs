//! Bounds: rates, floods, unanswered requests, readers that don't read.

use std::io::{Read, Write};
use std::net::TcpStream;

use access::token::GatewayGrant;
use access::{Count, Limits, LimitsChange};
use protocol::frame::{FrameKind, put_message};
use protocol::v1::{self, Outcome};

use crate::harness::*;

#[test]
fn a_flood_of_connections_is_banned_for_a_while() {
    let server = start_with(Limits { connections_per_second_address: 20, ..Limits::default() });
    let mut kept: Vec<_> = (0..20).map(|_| server.connect()).collect();
    kept[19].hello();
    let mut refused = TcpStream::connect(server.tcp).unwrap();
    assert!(matches!(refused.read(&mut [0; 16]), Ok(0) | Err(_)), "closed without a word");
    assert!(matches!(TcpStream::connect(server.http).unwrap().read(&mut [0; 16]), Ok(0) | Err(_)));
    kept[0].hello();
    assert_eq!((server.control.count(Count::Bans), server.control.status().banned_addresses), (1, 1));
    assert!(server.control.lift_ban([127, 0, 0, 1].into()));
    server.connect().hello();
    for _ in 0..20 {
        let _ = TcpStream::connect(server.tcp);
    }
    eventually("banned again", || server.control.status().banned_addresses == 1);
    server.control.change_limits(&LimitsChange {
        connections_per_second_address: Some(1_000),
        ..LimitsChange::default()
    });
    server.clock.advance_ms(60_001);
    server.connect().hello();
}

#[test]
fn this_machine_can_be_exempt() {
    let limits = Limits { connections_per_second_address: 2, loopback_exempt: true, ..Limits::default() };
    let server = start_with(limits);
    for _ in 0..20 {
        server.connect().hello();
    }
    assert_eq!(server.control.count(Count::Bans), 0);
}

#[test]
fn a_connection_is_held_to_its_rate() {
    let server = start_with(Limits { user_submits_per_second: 2, ..Limits::default() });
    let mut client = server.user(5);
    assert_eq!(client.submit(1, &entry(1)).outcome(), Outcome::Lost);
    assert_eq!(client.submit(2, &entry(2)).outcome(), Outcome::Lost);
    client.send(FrameKind::Submit, 3, &entry(3));
    let error = client.refused(3);
    assert_eq!((error.code.as_str(), error.retry_after_ms), ("rate_limited", 500));
    server.clock.advance_ms(500);
    assert_eq!(client.submit(4, &entry(3)).outcome(), Outcome::Lost);
    let change = LimitsChange { user_submits_per_second: Some(100), ..LimitsChange::default() };
    server.control.change_limits(&change);
    server.clock.advance_ms(100);
    assert_eq!(client.submit(5, &entry(4)).outcome(), Outcome::Lost);
}

#[test]
fn who_goes_on_far_over_his_bounds_is_cut() {
    let server = start_with(Limits { user_submits_per_second: 1, ..Limits::default() });
    let mut client = server.user(5);
    let mut out = Vec::new();
    for id in 0..1_001 {
        put_message(&mut out, FrameKind::Submit, id, &entry(1));
    }
    client.raw(&out);
    let mut fatal = 0;
    while let Some((kind, _, body)) = client.next() {
        let error = <v1::Error as prost::Message>::decode(&body[..]).unwrap_or_default();
        fatal += u32::from(kind == FrameKind::Error && error.fatal);
    }
    assert_eq!(fatal, 1);
    assert_eq!(server.control.count(Count::Strikes), 1);
    assert_eq!(server.draws.calls(), 1);
}

#[test]
fn unanswered_requests_are_bounded() {
    let server = start();
    let grant = GatewayGrant { name: "g".into(), outstanding_max: 3, ..GatewayGrant::default() };
    let (mut client, _) = server.gateway(grant);
    for id in 1..=4 {
        client.send(FrameKind::Submit, id, &v1::Submit { user: UNANSWERED, ..entry(id) });
    }
    let error = client.refused(4);
    assert!(error.code == "busy" && error.message.contains('3'), "{error:?}");
    assert_eq!(server.draws.calls(), 3);
}

/// Asks for large answers and never reads one.
fn clog(server: &Server) -> TcpStream {
    let client = server.user(30);
    let mut stream = client.stream;
    stream.set_write_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    let mut out = Vec::new();
    for id in 0..32 {
        put_message(
            &mut out,
            FrameKind::Prizes,
            id,
            &v1::PrizesRequest { limit: 200, ..v1::PrizesRequest::default() },
        );
    }
    for _ in 0..400 {
        server.clock.advance_ms(1_000);
        if stream.write_all(&out).is_err() || server.control.count(Count::SlowReader) > 0 {
            break;
        }
    }
    stream
}

#[test]
fn a_reader_that_does_not_read_is_cut() {
    let limits = Limits {
        user_submits_per_second: 1_000_000,
        user_outstanding_max: 1_000_000,
        silence_ms: 10_000_000,
        unsent_ms: 5_000,
        ..Limits::default()
    };
    let server = start_with(limits);
    let stream = clog(&server);
    eventually("cut", || {
        server.clock.advance_ms(200);
        server.control.count(Count::SlowReader) == 1
    });
    eventually("gone", || server.control.status().connections == 0);
    drop(stream);
    server.user(5);
}

#[test]
fn a_full_house_lets_newcomers_wait_and_then_in() {
    let server = start_with(Limits { connections_max: 2, ..Limits::default() });
    let (mut first, mut second) = (server.connect(), server.connect());
    first.hello();
    second.hello();
    let mut third = server.connect();
    third.send(FrameKind::Hello, 1, &v1::Hello { protocol_version: 1, ..v1::Hello::default() });
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(server.control.status().connections, 2);
    drop(first);
    let _: v1::Welcome = third.expect(FrameKind::Welcome, 1);
}
