//! Who may come in, and what is said to those who may not.

use access::token::{GatewayGrant, TokenKey, TokenKeys};
use protocol::frame::FrameKind;
use protocol::v1;

use crate::harness::{Client, Server, entry, start, start_with};

fn greeted(server: &Server) -> Client {
    let mut client = server.connect();
    client.hello();
    client
}

fn login(client: &mut Client, user_token: &str) {
    client.send(FrameKind::Login, 2, &v1::Login { user_token: user_token.into(), ..v1::Login::default() });
}

#[test]
fn hello_login_and_then_anything() {
    let server = start();
    let mut client = server.connect();
    let welcome = client.hello();
    assert_eq!((welcome.protocol_version, welcome.frame_max, welcome.heartbeat_ms), (1, 4096, 30_000));
    login(&mut client, &server.user_token(5));
    let done: v1::LoginDone = client.expect(FrameKind::LoginDone, 2);
    assert_eq!((done.user, done.outstanding_max, done.submits_per_second), (5, 64, 10));
    assert_eq!(done.campaigns[0].rounds.len(), 2);
    client.empty(FrameKind::Heartbeat, 3);
    assert_eq!(client.next(), Some((FrameKind::Heartbeat, 3, vec![])));
    client.empty(FrameKind::Campaigns, 4);
    let answer: v1::CampaignsAnswer = client.expect(FrameKind::CampaignsAnswer, 4);
    assert_eq!(answer.campaigns, done.campaigns);
}

#[test]
fn before_login_nothing_else_is_taken() {
    let server = start();
    for kind in [FrameKind::Submit, FrameKind::Heartbeat, FrameKind::Login, FrameKind::Campaigns] {
        let mut client = server.connect();
        client.send(kind, 9, &entry(1));
        let error = client.thrown_out(9);
        assert!(error.code == "unauthenticated" && error.message.contains("Hello"), "{error:?}");
    }
    for kind in [FrameKind::Submit, FrameKind::Heartbeat, FrameKind::Hello] {
        let mut client = greeted(&server);
        client.send(kind, 9, &entry(1));
        let error = client.thrown_out(9);
        assert!(error.code == "unauthenticated" && error.message.contains("Login"), "{error:?}");
    }
    assert_eq!(server.draws.calls(), 0);
}

#[test]
fn tokens_that_are_not_good_are_told_why() {
    let server = start();
    let now = server.now_s();
    let forged = TokenKeys::new(vec![TokenKey::new("k1", &[8; 32]).unwrap()]).unwrap().mint_user(
        5,
        now,
        now + 60,
        None,
    );
    let unknown = TokenKeys::new(vec![TokenKey::new("k2", &[9; 32]).unwrap()]).unwrap().mint_user(
        5,
        now,
        now + 60,
        None,
    );
    let gateway = server.gateway_token(&GatewayGrant { name: "g".into(), ..GatewayGrant::default() });
    let cases = [
        (forged, "unauthenticated", "signature"),
        (unknown, "unauthenticated", "kid"),
        (server.keys.mint_user(5, now - 60, now, None), "token_expired", "expired"),
        (server.keys.mint_user(5, now + 600, now + 900, None), "unauthenticated", "clock"),
        (server.keys.mint_user(5, now, now + 60, Some("else")), "unauthenticated", "aud"),
        ("x".into(), "unauthenticated", "three base64url parts"),
        (gateway, "unauthenticated", "use gateway_token"),
    ];
    for (token, code, part) in cases {
        let mut client = greeted(&server);
        login(&mut client, &token);
        let error = client.thrown_out(2);
        assert!(error.code == code && error.message.contains(part), "{part}: {error:?}");
    }
    let mut client = greeted(&server);
    client.send(FrameKind::Login, 2, &v1::Login::default());
    assert!(client.thrown_out(2).message.contains("exactly one"));
}

#[test]
fn hello_is_checked() {
    let server = start();
    let mut client = server.connect();
    client.send(FrameKind::Hello, 1, &v1::Hello { protocol_version: 2, ..v1::Hello::default() });
    assert!(client.thrown_out(1).message.contains("version 2"));
    let mut client = server.connect();
    client.send(
        FrameKind::Hello,
        1,
        &v1::Hello { protocol_version: 1, frame_max: 10, ..v1::Hello::default() },
    );
    assert!(client.thrown_out(1).message.contains("1024"));
    let mut client = server.user(5);
    client.send(FrameKind::Hello, 3, &v1::Hello { protocol_version: 1, ..v1::Hello::default() });
    assert_eq!(client.thrown_out(3).code, "invalid");
}

#[test]
fn a_gateway_has_the_lower_of_its_bounds_and_no_more_connections() {
    let server = start();
    let grant =
        GatewayGrant { name: "g".into(), submits_per_second: 50, outstanding_max: 9, connections_max: 1 };
    let (first, done) = server.gateway(grant.clone());
    assert_eq!((done.user, done.submits_per_second, done.outstanding_max), (0, 50, 9));
    assert_eq!(server.control.status().gateways, [("g".to_owned(), 1)]);
    let mut second = greeted(&server);
    let gateway_token = server.gateway_token(&grant);
    second.send(FrameKind::Login, 2, &v1::Login { gateway_token, ..v1::Login::default() });
    assert_eq!(second.thrown_out(2).code, "busy");
    drop(first);
    crate::harness::eventually("the place is free again", || server.control.status().gateways.is_empty());
    server.gateway(grant);
}

#[test]
fn who_does_not_log_in_is_shown_out() {
    let server = start();
    let mut silent = server.connect();
    let mut greeted = greeted(&server);
    crate::harness::eventually("both are in", || server.control.count(access::Count::Connections) == 2);
    server.clock.advance_ms(10_001);
    assert!(silent.thrown_out(0).message.contains("login"));
    assert!(greeted.thrown_out(0).message.contains("login"));
    let mut user = server.user(5);
    server.clock.advance_ms(99_000);
    user.empty(FrameKind::Heartbeat, 3);
    user.next();
    server.clock.advance_ms(100_001);
    assert!(user.thrown_out(0).message.contains("heartbeat"));
}

#[test]
fn a_token_that_expires_ends_its_connection() {
    let server = start();
    let token = server.keys.mint_user(5, server.now_s(), server.now_s() + 30, None);
    let mut client = greeted(&server);
    login(&mut client, &token);
    let _: v1::LoginDone = client.expect(FrameKind::LoginDone, 2);
    server.clock.advance_ms(30_000);
    assert_eq!(client.thrown_out(0).code, "token_expired");
}

#[test]
fn logins_are_limited_by_address() {
    let server = start_with(access::Limits { logins_per_second_address: 2, ..access::Limits::default() });
    let (_a, _b) = (server.user(1), server.user(2));
    let mut client = greeted(&server);
    login(&mut client, &server.user_token(3));
    let error = client.thrown_out(2);
    assert!(error.code == "rate_limited" && error.retry_after_ms > 0, "{error:?}");
}
