//! Submits and the other requests over frames.

use access::Count;
use access::token::GatewayGrant;
use prost::Message;
use protocol::frame::{FrameKind, put_message};
use protocol::v1::{self, Outcome};

use crate::harness::*;

fn gateway() -> GatewayGrant {
    GatewayGrant { name: "g".into(), ..GatewayGrant::default() }
}

#[test]
fn a_loss_is_answered_with_the_interval() {
    let server = start();
    let mut client = server.user(5);
    let answer = client.submit(10, &entry(1));
    assert_eq!(
        (answer.outcome(), answer.counter, answer.next_counter, answer.user),
        (Outcome::Lost, 1, 2, 0)
    );
    assert_eq!(answer.next_submit_ms, 1_500);
    let call = server.draws.batches.lock()[0][0];
    assert_eq!((call.user, call.campaign, call.round, call.counter, call.shakes), (5, 1, 1, 1, 3));
}

#[test]
fn a_win_comes_late_and_a_resend_hears_the_same() {
    let server = start();
    let mut client = server.user(WINNER);
    let first = client.submit(10, &entry(1));
    assert_eq!(first.outcome(), Outcome::Won);
    assert!(first.award.is_some());
    assert_eq!(client.submit(11, &entry(1)), first);
    assert_eq!(server.user(WINNER).submit(12, &entry(1)), first);
    assert_eq!(server.control.count(Count::Wins), 3);
}

#[test]
fn sixty_four_frames_in_one_write_are_one_batch_and_a_win_overtakes_nobody() {
    let server = start();
    let (mut client, _) = server.gateway(gateway());
    let mut out = Vec::new();
    for i in 0..64u32 {
        let user = if i % 16 == 3 { WINNER + u64::from(i) } else { 100 + u64::from(i) };
        put_message(&mut out, FrameKind::Submit, i, &v1::Submit { user, ..entry(1) });
    }
    client.raw(&out);
    let mut seen = [false; 64];
    for _ in 0..64 {
        let (kind, id, body) = client.next().unwrap();
        assert_eq!(kind, FrameKind::SubmitAnswer);
        let answer = v1::SubmitAnswer::decode(&body[..]).unwrap();
        let won = id % 16 == 3;
        assert_eq!(answer.outcome() == Outcome::Won, won);
        assert_eq!(answer.user, if won { WINNER } else { 100 } + u64::from(id));
        assert!(!std::mem::replace(&mut seen[id as usize], true), "answered twice");
    }
    assert_eq!(server.draws.batches.lock().iter().map(Vec::len).collect::<Vec<_>>(), [64]);
}

#[test]
fn frames_may_come_in_any_pieces() {
    let server = start();
    let mut client = server.user(5);
    let mut out = Vec::new();
    put_message(&mut out, FrameKind::Submit, 1, &entry(1));
    put_message(&mut out, FrameKind::Submit, 2, &entry(2));
    for piece in out.chunks(5) {
        client.raw(piece);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for id in [1, 2] {
        let answer: v1::SubmitAnswer = client.expect(FrameKind::SubmitAnswer, id);
        assert_eq!(answer.counter, id);
    }
}

#[test]
fn what_can_not_succeed_ends_here() {
    let server = start();
    let mut client = server.user(5);
    let unknown = client.submit(1, &v1::Submit { campaign: 9, ..entry(1) });
    assert_eq!((unknown.outcome(), unknown.next_counter), (Outcome::UnknownCampaign, 1));
    assert_eq!(client.submit(2, &v1::Submit { round: 9, ..entry(1) }).outcome(), Outcome::UnknownCampaign);
    let early = client.submit(3, &v1::Submit { round: 2, ..entry(1) });
    assert_eq!((early.outcome(), early.until_ms), (Outcome::NotOpen, NOW_MS + 3_600_000));
    assert_eq!(early.next_submit_ms, 3_600_000);
    client.send(FrameKind::Submit, 4, &v1::Submit { counter: 0, ..entry(1) });
    assert!(client.refused(4).message.contains("counter is 0"));
    client.send(FrameKind::Submit, 5, &v1::Submit { shakes: 0, ..entry(1) });
    assert!(client.refused(5).message.contains("shakes is 0"));
    client.send(FrameKind::Submit, 6, &v1::Submit { shakes: 12_001, ..entry(1) });
    assert!(client.refused(6).message.contains("12000"));
    client.send(FrameKind::Submit, 7, &v1::Submit { user: 6, ..entry(1) });
    assert_eq!(client.refused(7).code, "forbidden");
    assert_eq!(server.draws.calls(), 0);
    server.clock.advance_ms(700_000);
    let mut client = server.user(5);
    let over = client.submit(8, &entry(1));
    assert_eq!((over.outcome(), over.until_ms), (Outcome::NotOpen, NOW_MS + 3_600_000));
    assert_eq!(server.draws.calls(), 0);
}

#[test]
fn a_user_who_can_win_no_more_is_answered_here_and_his_resends_are_not() {
    let server = start();
    let (mut client, _) = server.gateway(gateway());
    let user = EXHAUSTED + 1;
    let submit = |counter| v1::Submit { user, ..entry(counter) };
    assert_eq!(client.submit(1, &submit(1)).outcome(), Outcome::Lost);
    assert_eq!(client.submit(2, &submit(2)).outcome(), Outcome::LimitReached);
    assert_eq!(server.draws.calls(), 2);
    for id in 3..6 {
        let answer = client.submit(id, &submit(2));
        assert_eq!((answer.outcome(), answer.next_counter, answer.user), (Outcome::LimitReached, 2, user));
    }
    assert_eq!(server.draws.calls(), 2, "lottery is not asked again");
    assert_eq!(client.submit(7, &submit(1)).outcome(), Outcome::Lost);
    assert_eq!(server.draws.calls(), 3, "a resend is lottery's to answer");
}

#[test]
fn bodies_that_are_no_message_fail_alone() {
    let server = start();
    let mut client = server.user(5);
    for (i, kind) in
        [FrameKind::Submit, FrameKind::Prizes, FrameKind::Claim, FrameKind::Account].into_iter().enumerate()
    {
        let id = i as u32 + 1;
        let mut out = Vec::new();
        protocol::frame::put(&mut out, kind, id, |out| out.extend_from_slice(&[0x08, 0xff]));
        client.raw(&out);
        let error = client.refused(id);
        assert!(error.code == "malformed" && error.message.contains(&format!("{kind:?}")), "{error:?}");
    }
    assert_eq!(client.submit(9, &entry(1)).outcome(), Outcome::Lost);
}

#[test]
fn bytes_that_are_no_frame_end_the_connection() {
    let server = start();
    let cases: [(&[u8], &str); 4] = [
        (&[4, 0, 0, 0, 6, 0, 0, 0, 0], "frame length 4"),
        (&[0, 0x20, 0, 0, 6], "4096"),
        (&[5, 0, 0, 0, 99, 0, 0, 0, 0], "kind 99"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame length"),
    ];
    for (bytes, part) in cases {
        for mut client in [server.connect(), server.user(5)] {
            client.raw(bytes);
            let error = client.thrown_out(0);
            assert!(error.code == "malformed" && error.message.contains(part), "{error:?}");
        }
    }
    let mut client = server.user(5);
    client.empty(FrameKind::Welcome, 3);
    assert!(client.thrown_out(3).message.contains("server to the client"));
    assert!(server.control.count(Count::Malformed) >= 9);
}

#[test]
fn prizes_claims_and_accounts() {
    let server = start();
    let mut client = server.user(5);
    client.send(FrameKind::Prizes, 1, &v1::PrizesRequest::default());
    let page: v1::PrizesAnswer = client.expect(FrameKind::PrizesAnswer, 1);
    assert_eq!((page.awards.len(), page.more), (1, false));
    let id = page.awards[0].award.clone();
    client.send(FrameKind::Claim, 2, &v1::Claim { award: id.clone(), ..v1::Claim::default() });
    assert_eq!(client.expect::<v1::ClaimAnswer>(FrameKind::ClaimAnswer, 2).award.unwrap().award, id);
    client.send(FrameKind::Account, 3, &v1::Account { user: 5, vendor: 2, account: "openid".into() });
    assert_eq!(client.expect::<v1::AccountAnswer>(FrameKind::AccountAnswer, 3).version, 1);
    assert_eq!(server.desks.accounts.lock()[0], (5, 2, "openid".to_owned()));
    client.send(FrameKind::Claim, 4, &v1::Claim { award: "nonsense".into(), ..v1::Claim::default() });
    assert_eq!(client.refused(4).code, "invalid");
    let mut nobody = server.user(404);
    nobody.send(FrameKind::Claim, 1, &v1::Claim { award: id, ..v1::Claim::default() });
    assert_eq!(nobody.refused(1).code, "not_found");
    let mut unlucky = server.user(503);
    unlucky.send(FrameKind::Prizes, 1, &v1::PrizesRequest::default());
    let error = unlucky.refused(1);
    assert!(error.code == "unavailable" && error.retry_after_ms > 0);
}

#[test]
fn answers_fit_the_frame_that_the_client_takes() {
    let server = start();
    let mut client = server.connect();
    client.send(
        FrameKind::Hello,
        1,
        &v1::Hello { protocol_version: 1, frame_max: 8_192, ..v1::Hello::default() },
    );
    client.next();
    client.send(
        FrameKind::Login,
        2,
        &v1::Login { user_token: server.user_token(30), ..v1::Login::default() },
    );
    client.next();
    client.send(FrameKind::Prizes, 3, &v1::PrizesRequest { limit: 200, ..v1::PrizesRequest::default() });
    let (kind, _, body) = client.next().unwrap();
    assert_eq!(kind, FrameKind::PrizesAnswer);
    assert!(body.len() + 5 <= 8_192);
    let page = v1::PrizesAnswer::decode(&body[..]).unwrap();
    assert!(page.more && page.awards.len() >= 10);
}
