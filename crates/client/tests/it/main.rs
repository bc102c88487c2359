//! The tokio adapter against a server of a few lines.

mod server;

use client::{ClientError, Connection, Credential, Dialer, Options, ReconnectPolicy, SessionError};
use protocol::v1::{Outcome, Submit};
use runtime::{Shutdown, SystemClock};
use server::{Manners, TinyServer};

fn options(server: &TinyServer, token: &str) -> Options {
    Options {
        address: server.address.to_string(),
        tls: None,
        device: 0,
        credential: Credential::User(token.into()),
        client: "test 1".into(),
        answer_ms: 300,
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
    // The server asks for a heartbeat every 40 ms and cuts whoever is silent for 150.
    connection.idle(400).await.unwrap();
    assert!(connection.submit(&submit).await.is_ok());
    assert!(
        matches!(connection.prizes(&protocol::v1::PrizesRequest::default()).await, Err(ClientError::Refused(e)) if e.code == "unavailable")
    );
}

#[tokio::test]
async fn a_lost_answer_is_late_and_the_next_one_is_not_mistaken_for_it() {
    let server = TinyServer::start(Manners { drop_first_answer: true, ..Manners::default() }).await;
    let mut connection = Connection::open(options(&server, "good")).await.unwrap();
    let submit = Submit { campaign: 1, round: 1, counter: 4, shakes: 2, ..Submit::default() };
    assert!(matches!(connection.submit(&submit).await, Err(ClientError::Late(300))));
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
    connection.idle(100).await.unwrap();
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
    old.idle(20).await.unwrap();
    let away = old.moved().cloned().expect("the server asks to move");
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
