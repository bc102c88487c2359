use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storage::pg::{CommitError, Pg, PgOpenError, PgOptions, migrate};
use storage::sqlx::{self, Row as _};
use storage::{Migration, MigrationError, SqlError};
use testkit::servers::FreshDatabase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

async fn open(database: &FreshDatabase) -> Pg {
    Pg::open(PgOptions::patient(database.url())).await.unwrap()
}

async fn with_table(database: &FreshDatabase) -> Pg {
    let pg = open(database).await;
    let mut connection = pg.connection().await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id BIGINT PRIMARY KEY)").execute(&mut *connection).await.unwrap();
    pg
}

async fn ids(pg: &Pg) -> Vec<i64> {
    let mut connection = pg.connection().await.unwrap();
    sqlx::query_scalar("SELECT id FROM t ORDER BY id").fetch_all(&mut *connection).await.unwrap()
}

#[tokio::test]
async fn what_was_committed_is_there_and_what_was_dropped_is_not() {
    let Some(database) = FreshDatabase::new() else { return };
    let pg = with_table(&database).await;
    let mut transaction = pg.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES ($1)").bind(1i64).execute(&mut *transaction).await.unwrap();
    pg.commit(transaction).await.unwrap();
    let mut dropped = pg.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES ($1)").bind(2i64).execute(&mut *dropped).await.unwrap();
    drop(dropped);
    let mut undone = pg.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES ($1)").bind(2i64).execute(&mut *undone).await.unwrap();
    undone.rollback().await.unwrap();
    let mut first = pg.begin_with_first().await.unwrap();
    let answers =
        first.run("INSERT INTO t VALUES (3) RETURNING id; SELECT id FROM t ORDER BY id").await.unwrap();
    assert_eq!(answers.len(), 2);
    let seen: Vec<i64> = answers[1].iter().map(|row| row.try_get(0).unwrap()).collect();
    assert_eq!((answers[0].len(), seen), (1, vec![1, 3]));
    let last = pg.run_and_commit(first, "SELECT 7::bigint; INSERT INTO t VALUES (4)").await.unwrap();
    assert_eq!((last.len(), last[0][0].try_get::<i64, _>(0).unwrap()), (2, 7));
    assert_eq!(ids(&pg).await, [1, 3, 4]);
    let health = pg.check().await.unwrap();
    assert!(health.connections >= 1 && health.synchronous_standbys == 0, "{health:?}");
}

#[tokio::test]
async fn a_failed_transaction_is_never_said_to_be_committed() {
    let Some(database) = FreshDatabase::new() else { return };
    let pg = with_table(&database).await;
    let mut transaction = pg.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *transaction).await.unwrap();
    let twice = sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *transaction).await;
    assert!(matches!(SqlError::from(twice.unwrap_err()), SqlError::Constraint(_)));
    let error = pg.commit(transaction).await.unwrap_err();
    assert!(matches!(error, CommitError::NotDone(_)), "{error}");
    let transaction = pg.begin_with_first().await.unwrap();
    let error = pg.run_and_commit(transaction, "INSERT INTO t VALUES (5); SELECT 1/0").await.unwrap_err();
    assert!(matches!(error, CommitError::NotDone(_)), "{error}");
    assert_eq!(ids(&pg).await, [0i64; 0]);
}

#[tokio::test]
async fn who_waits_too_long_for_a_lock_is_told_that_nothing_was_done() {
    let Some(database) = FreshDatabase::new() else { return };
    let options = PgOptions { lock_timeout_ms: 30, ..PgOptions::patient(database.url()) };
    let pg = with_table(&database).await;
    let hasty = Pg::open(options).await.unwrap();
    let mut holds = pg.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *holds).await.unwrap();
    let mut waits = hasty.begin().await.unwrap();
    let error = sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *waits).await.unwrap_err();
    let error = SqlError::from(error);
    assert!(matches!(error, SqlError::Busy { .. }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn wrong_addresses_and_credentials_are_named_without_the_password() {
    let Some(database) = FreshDatabase::new() else { return };
    let missing = format!("{}_not_there", database.url());
    let error = Pg::open(PgOptions::patient(missing)).await.unwrap_err();
    assert!(matches!(error, PgOpenError::Refused { .. }) && !error.is_temporary(), "{error}");
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    let stranger = format!("{scheme}://nobody:hush@{place}");
    let error = Pg::open(PgOptions::patient(stranger)).await.unwrap_err();
    let text = error.to_string();
    let at = place.split('/').next().unwrap();
    assert!(matches!(error, PgOpenError::Refused { .. }), "{text}");
    assert!(text.contains(at) && text.contains("user nobody") && !text.contains("hush"), "{text}");
}

#[tokio::test]
async fn a_server_with_one_copy_is_refused_without_the_development_switch() {
    let Some(database) = FreshDatabase::new() else { return };
    let error = Pg::open(PgOptions::new(database.url())).await.unwrap_err();
    assert!(matches!(error, PgOpenError::NotReplicated { .. }), "{error}");
    assert!(error.to_string().contains("synchronous_standby_names"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_each_try_is_told() {
    // Nobody listens there.
    let at = "127.0.0.1:1";
    let options = PgOptions::patient(format!("postgres://u:hush@{at}/db"));
    let error = Pg::open(options.clone()).await.unwrap_err();
    let text = error.to_string();
    assert!(error.is_temporary() && text.contains(at) && !text.contains("hush"), "{text}");
    let heard = std::sync::Mutex::new(Vec::new());
    let waiting =
        Pg::wait_for(options, |error, pause| heard.lock().unwrap().push((error.to_string(), pause)));
    let tried = async {
        while heard.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = waiting => panic!("somebody answered"),
        tried = tokio::time::timeout(Duration::from_secs(60), tried) => tried.expect("it is tried again"),
    }
    let heard = heard.lock().unwrap();
    assert!(heard[1].1 > heard[0].1, "{heard:?}");
}

#[tokio::test]
async fn of_several_servers_the_one_that_answers_is_taken() {
    let Some(database) = FreshDatabase::new() else { return };
    let url = database.url().replacen('@', "@127.0.0.1:1,", 1);
    let pg = Pg::open(PgOptions::patient(url)).await.unwrap();
    assert!(database.url().contains(&pg.at()));
    assert!(pg.check().await.is_ok());
}

const ONE: Migration =
    Migration { version: 1, name: "tables", sql: "CREATE TABLE a (id BIGINT); INSERT INTO a VALUES (1)" };
const TWO: Migration = Migration { version: 2, name: "more", sql: "INSERT INTO a VALUES (2)" };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_migrate_at_once_run_each_migration_once() {
    let Some(database) = FreshDatabase::new() else { return };
    let mut running = Vec::new();
    for _ in 0..6 {
        let options = PgOptions { connections_max: 2, ..PgOptions::patient(database.url()) };
        running.push(async move {
            let pg = Pg::open(options).await.unwrap();
            migrate(&pg, "flow", &[ONE, TWO], 5).await.unwrap()
        });
    }
    let done = futures_util::future::join_all(running).await;
    assert_eq!(done.iter().filter(|done| done.from == 0).count(), 1, "{done:?}");
    let pg = open(&database).await;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM a")
        .fetch_one(&mut *pg.connection().await.unwrap())
        .await
        .unwrap();
    assert_eq!(count, 2);
    let newer = migrate(&pg, "flow", &[ONE], 6).await.unwrap_err();
    assert!(matches!(newer, MigrationError::NewerDatabase { found: 2, known: 1, .. }), "{newer}");
    let edited = Migration { sql: "SELECT 1", ..ONE };
    let error = migrate(&pg, "flow", &[edited, TWO], 6).await.unwrap_err();
    assert!(matches!(error, MigrationError::Edited { version: 1, .. }), "{error}");
    let broken = Migration { version: 1, name: "broken", sql: "CREATE TABLE b (id BIGINT); SELECT 1/0" };
    assert!(migrate(&pg, "other", &[broken], 7).await.is_err());
    assert_eq!(
        migrate(&pg, "other", &[Migration { sql: "CREATE TABLE b (id BIGINT)", ..broken }], 8)
            .await
            .unwrap()
            .from,
        0
    );
}

/// Passes bytes on to the server, until told to swallow its answers and hang up.
async fn proxy(to: String, cut: Arc<AtomicBool>) -> String {
    stoppable_proxy(to, cut).await.0
}

/// As [`proxy`], with the task that takes connections.
async fn stoppable_proxy(to: String, cut: Arc<AtomicBool>) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    #[allow(clippy::disallowed_methods)] // a test's own server
    let taking = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (to, cut) = (to.clone(), Arc::clone(&cut));
            tokio::spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = async { tokio::io::copy(&mut from_client, &mut to_server).await };
                let down = async {
                    let mut buffer = vec![0; 4096];
                    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                        if cut.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).await.is_err()
                        {
                            return;
                        }
                    }
                };
                tokio::select! { _ = up => {}, () = down => {} }
            });
        }
    });
    (at, taking)
}

#[tokio::test]
async fn when_the_server_goes_the_other_one_is_used() {
    let Some(database) = FreshDatabase::new() else { return };
    let straight = with_table(&database).await;
    let (cut_one, cut_two) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let (one, taking) = stoppable_proxy(straight.at(), Arc::clone(&cut_one)).await;
    let two = proxy(straight.at(), cut_two).await;
    let url = database.url().replace(&straight.at(), &format!("{one},{two}"));
    let pg = Pg::open(PgOptions { acquire_timeout_ms: 20_000, ..PgOptions::patient(url) }).await.unwrap();
    assert_eq!((pg.at(), ids(&pg).await), (one, vec![]));
    taking.abort();
    cut_one.store(true, Ordering::SeqCst);
    // The connection that was there breaks, and may be found broken once.
    let mut tries = 0;
    let transaction = loop {
        tries += 1;
        assert!(tries <= 3);
        match pg.begin().await {
            Ok(transaction) => break transaction,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    };
    pg.run_and_commit(transaction, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!((pg.at(), ids(&straight).await), (two, vec![1]));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_was_done() {
    let Some(database) = FreshDatabase::new() else { return };
    let straight = with_table(&database).await;
    let cut = Arc::new(AtomicBool::new(false));
    let at = proxy(straight.at(), Arc::clone(&cut)).await;
    let pg = Pg::open(PgOptions::patient(database.url().replace(&straight.at(), &at))).await.unwrap();
    let mut transaction = pg.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *transaction).await.unwrap();
    cut.store(true, Ordering::SeqCst);
    let error = pg.commit(transaction).await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown(_)), "{error}");
    assert_eq!(ids(&straight).await, [1]);
    cut.store(false, Ordering::SeqCst);
    assert_eq!(ids(&pg).await, [1], "the next call has a connection of its own");
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_unknown() {
    let Some(database) = FreshDatabase::new() else { return };
    let patient = with_table(&database).await;
    // Long enough for what comes before the commit, on a busy machine too.
    let options = PgOptions { statement_timeout_ms: 2_000, ..PgOptions::patient(database.url()) };
    let pg = Pg::open(options).await.unwrap();
    let transaction = pg.begin().await.unwrap();
    let error =
        pg.run_and_commit(transaction, "INSERT INTO t VALUES (1); SELECT pg_sleep(20)").await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown(SqlError::TimedOut { .. })), "{error}");
    assert!(ids(&patient).await.len() <= 1);
}
