//! The tokio adapter against a server of a few lines.

mod server;

use client::{
    ClientError, Connection, Credential, Dialer, HeartbeatRules, Heartbeats, Options, ReconnectPolicy,
    Scheduler, SessionError,
};
use protocol::v1::{Outcome, Submit};
use runtime::{Shutdown, SystemClock};
use server::{Manners, TinyScheduler, TinyServer};
use std::sync::atomic::Ordering;

/// How long an answer may take on a slow machine, in ms.
const SOON_MS: u64 = 30_000;

/// Is idle until the server has heard so many heartbeats more.
async fn beat(connection: &mut Connection, server: &TinyServer, count: u32) {
    let wanted = server.beats.load(Ordering::SeqCst) + count;
    while server.beats.load(Ordering::SeqCst) < wanted {
        connection.idle(50).await.unwrap();
    }
}

fn options(server: &TinyServer, token: &str) -> Options {
    Options {
        address: server.address.to_string(),
        tls: None,
        heartbeats: None,
        device: 0,
        credential: Credential::User(token.into()),
        client: "test 1".into(),
        answer_ms: SOON_MS,
        clock: SystemClock::shared(),
    }
}

#[tokio::test]
async fn logs_in_asks_and_is_answered() {
    let server = TinyServer::start(Manners::default()).await;
    let mut connection = Connection::open(options(&server, "good")).await.unwrap();
    assert_eq!(connection.login().user, 77);
    assert!(connection.server_time().is_known());
    let submit = Submit { campaign: 1, round: 1, counter: 4, shakes: 2, ..Submit::default() };
    let answer = connection.submit(&submit).await.unwrap();
    assert_eq!((answer.counter, answer.outcome()), (4, Outcome::Lost));
    assert_eq!(connection.campaigns().await.unwrap().server_time_ms, 5);
    // It beats as the server asks for.
    beat(&mut connection, &server, 2).await;
    assert!(connection.submit(&submit).await.is_ok());
    assert!(
        matches!(connection.prizes(&protocol::v1::PrizesRequest::default()).await, Err(ClientError::Refused(e)) if e.code == "unavailable")
    );
}

#[tokio::test]
async fn a_lost_answer_is_late_and_the_next_one_is_not_mistaken_for_it() {
    let server = TinyServer::start(Manners { drop_first_answer: true, ..Manners::default() }).await;
    let quick = Options { answer_ms: 1_500, ..options(&server, "good") };
    let mut connection = Connection::open(quick).await.unwrap();
    let submit = Submit { campaign: 1, round: 1, counter: 4, shakes: 2, ..Submit::default() };
    assert!(matches!(connection.submit(&submit).await, Err(ClientError::Late(1_500))));
    assert_eq!(connection.submit(&Submit { counter: 5, ..submit }).await.unwrap().counter, 5);
}

#[tokio::test]
async fn dials_until_there_is_a_server_and_gives_up_on_a_bad_token() {
    let server = TinyServer::start(Manners { refuse_connections: 3, ..Manners::default() }).await;
    let policy = ReconnectPolicy::default().scaled(1);
    let mut dialer = Dialer::new(options(&server, "good"), policy, || 0);
    let connection = dialer.dial(&Shutdown::new()).await.unwrap();
    drop(connection);
    dialer.dropped();
    assert!(dialer.dial(&Shutdown::new()).await.is_ok());
    let mut wrong = Dialer::new(options(&server, "bad"), policy, || 0);
    let error = wrong.dial(&Shutdown::new()).await.err().unwrap();
    assert!(matches!(error, ClientError::Session(SessionError::Farewell(e)) if e.code == "unauthenticated"));
    let ended = Shutdown::new();
    ended.request();
    assert!(matches!(wrong.dial(&ended).await, Err(ClientError::Ended)));
}

#[tokio::test]
async fn speaks_over_a_websocket() {
    let server = TinyServer::start(Manners { websocket: true, ..Manners::default() }).await;
    let address = format!("ws://{}/v1/ws", server.address);
    let mut connection = Connection::open(Options { address, ..options(&server, "good") }).await.unwrap();
    let submit = Submit { campaign: 1, round: 1, counter: 4, shakes: 2, ..Submit::default() };
    for _ in 0..3 {
        assert_eq!(connection.submit(&submit).await.unwrap().counter, 4);
    }
    beat(&mut connection, &server, 1).await;
    assert_eq!(connection.campaigns().await.unwrap().server_time_ms, 5);
    let plain = TinyServer::start(Manners::default()).await;
    let wrong = Options { address: format!("wss://{}", plain.address), ..options(&plain, "good") };
    let error = Connection::open(wrong).await.err().unwrap();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn follows_a_move_and_leaves_when_the_new_connection_stands() {
    let there = TinyServer::start(Manners::default()).await;
    let here = TinyServer::start(Manners { away: Some(there.address), ..Manners::default() }).await;
    let mut dialer = Dialer::new(options(&here, "good"), ReconnectPolicy::default().scaled(1), || 1 << 63);
    let mut old = dialer.dial(&Shutdown::new()).await.unwrap();
    // The server asks to move.
    while old.moved().is_none() {
        old.idle(20).await.unwrap();
    }
    let away = old.moved().cloned().unwrap();
    assert_eq!(away.tcp, there.address.to_string());
    let mut new = dialer.follow(&away, &mut old, &Shutdown::new()).await.unwrap();
    // Both live; what is under way on the old one can still be answered.
    assert!(old.campaigns().await.is_ok() && new.campaigns().await.is_ok());
    drop((old, here));
    assert!(new.campaigns().await.is_ok());
    // The next connection is made where the move went, and at home again when that is gone.
    drop((new, there));
    dialer.dropped();
    let ended = Shutdown::new();
    let dial = tokio::time::timeout(std::time::Duration::from_millis(200), dialer.dial(&ended));
    assert!(dial.await.is_err(), "nobody is anywhere");
}

#[tokio::test]
async fn learns_by_itself_what_silence_a_network_bears() {
    let server = TinyServer::start(Manners { heartbeat_ms: 60_000, nat_ms: 400, ..Manners::default() }).await;
    let rules = HeartbeatRules {
        min_ms: 20,
        max_ms: 2_000,
        step_ms: 90,
        successes: 2,
        margin_ms: 30,
        probe_again: 1_000,
        failures: 3,
        networks: 2,
    };
    let heartbeats = Heartbeats::new(rules);
    heartbeats.on_network("home");
    let options = Options { heartbeats: Some(heartbeats.clone()), ..options(&server, "good") };
    // A beat that is not answered soon shows that the network has forgotten the connection.
    let quick = Options { answer_ms: 300, ..options.clone() };
    let mut dead = 0;
    let settle = async {
        while !heartbeats.is_settled() {
            let Ok(mut connection) = Connection::open(quick.clone()).await else { continue };
            while !heartbeats.is_settled() {
                if connection.idle(50).await.is_err() {
                    dead += 1;
                    break;
                }
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(180), settle).await.expect("the search ends");
    assert!(dead > 0, "the search ends at a length that does not hold");
    let found = heartbeats.interval_ms();
    assert!(found <= 450, "{found} ms is more than the network bears");
    // A connection that asks for answers meanwhile learns nothing from beats that prove nothing.
    let mut connection = Connection::open(options.clone()).await.unwrap();
    assert!(connection.campaigns().await.is_ok() && connection.idle(30).await.is_ok());
    assert_eq!(heartbeats.interval_ms(), 20, "each connection begins with short beats");
}

#[tokio::test]
async fn goes_where_the_scheduler_says_and_asks_again_when_that_is_gone() {
    let here = TinyServer::start(Manners::default()).await;
    let there = TinyServer::start(Manners::default()).await;
    let names = |server: &TinyServer| format!(r#"{{"node":2,"tcp":"{}","ttlMs":60000}}"#, server.address);
    let known = TinyScheduler::start(names(&there)).await;
    let scheduler =
        Scheduler { url: known.url.clone(), tls: None, region: "cn-north".into(), answer_ms: SOON_MS };
    assert_eq!(scheduler.ask(7).await.unwrap().tcp, there.address.to_string());
    assert_eq!(known.asked.lock().pop().unwrap(), "GET /v1/scheduler?user=7&region=cn-north HTTP/1.1");
    // The app's own address is one where nobody is.
    let nowhere = Options { address: "127.0.0.1:1".into(), ..options(&here, "good") };
    let policy = ReconnectPolicy::default().scaled(1);
    let mut dialer = Dialer::new(nowhere, policy, || 0).asking(scheduler.clone(), 7);
    let never = Shutdown::new();
    for _ in 0..2 {
        let mut connection = dialer.dial(&never).await.unwrap();
        assert!(connection.campaigns().await.is_ok());
        drop(connection);
        dialer.dropped();
    }
    assert_eq!(known.asked.lock().len(), 1, "its word holds for a while");
    drop(there);
    *known.answer.lock() = names(&here);
    let soon = std::time::Duration::from_secs(30);
    assert!(tokio::time::timeout(soon, dialer.dial(&never)).await.unwrap().is_ok());
    assert!(known.asked.lock().len() >= 2, "the place was gone");
    // Nobody can be asked: the app's own address is used.
    drop(known);
    assert!(scheduler.ask(7).await.is_err());
    let mut dialer = Dialer::new(options(&here, "good"), policy, || 0).asking(scheduler, 7);
    assert!(tokio::time::timeout(soon, dialer.dial(&never)).await.unwrap().is_ok());
}
