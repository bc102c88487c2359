//! Idempotency keys: a lost answer, two at once, another body, a program that ended in between.

use crate::support::{Fake, SMALL, World, config, sql, with_more};
use console::ConsoleConfig;
use runtime::ManualClock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const LOWER: &str = "/v1/campaigns/4/lower";

fn lower(units: u32) -> Value {
    json!({"prize": "1/1", "units": units.to_string(), "reason": "too many"})
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_another_one_none() {
    let world = World::new().await;
    world.begin().await;
    let first = world.post("olga", LOWER, lower(10)).key("a").send().await;
    let second = world.post("olga", LOWER, lower(10)).key("a").send().await;
    assert_eq!((first.status, &first.body), (201, &second.body));
    assert_eq!((second.status, second.header("idempotent-replayed")), (201, "true"));
    assert_eq!(world.fake.lowerings.load(Ordering::SeqCst), 1);
    world.post("olga", LOWER, lower(11)).key("a").send().await.problem(422, "key-reused");
    let dry = format!("{LOWER}?dry_run=true");
    assert_eq!(world.post("olga", &dry, lower(10)).key("a").send().await.status, 200);

    // A refusal that stands is the same again; the key of another person or place is another.
    let gone = json!({"prize": "1/9", "units": "1", "reason": "r"});
    let first = world.post("olga", LOWER, gone.clone()).key("b").send().await;
    first.problem(404, "not-found");
    assert_eq!(world.post("olga", LOWER, gone).key("b").send().await.body, first.body);
    assert_eq!(world.post("otto", LOWER, lower(10)).key("a").send().await.status, 201);
    let other = json!({"prize": "1/1", "weight": 3, "reason": "r"});
    assert_eq!(world.post("olga", "/v1/campaigns/4/weight", other).key("a").send().await.status, 201);
    assert_eq!(world.fake.lowerings.load(Ordering::SeqCst), 2);
    for wrong in ["", &"x".repeat(201)] {
        world.post("olga", LOWER, lower(1)).key(wrong).send().await.problem(400, "malformed");
    }
    world.end().await;
}

#[tokio::test]
async fn of_many_at_once_one_runs() {
    let world = Arc::new(World::new().await);
    world.begin().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let world = world.clone();
        asking.spawn(async move { world.post("olga", LOWER, lower(10)).key("k").send().await.body });
    }
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|body| *body == answers[0]));
    assert_eq!(world.fake.lowerings.load(Ordering::SeqCst), 1);
    let history = world.get("vic", "/v1/campaigns/4/versions").send().await.json();
    assert_eq!(history["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_many_at_once_at_two_consoles_one_runs() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let (fake, plans) = (Fake::with_prizes(), sql(dir.path()).await);
    let one = Arc::new(World::on(dir.clone(), config(), plans.clone(), fake.clone()).await);
    let two = Arc::new(World::on(dir.clone(), config(), plans, fake.clone()).await);
    one.begin().await;
    for key in ["a", "b", "c", "d", "e", "f"] {
        let before = fake.lowerings.load(Ordering::SeqCst);
        let mut asking = tokio::task::JoinSet::new();
        for at in 0..8 {
            let world = if at % 2 == 0 { one.clone() } else { two.clone() };
            asking.spawn(async move { world.post("olga", LOWER, lower(1)).key(key).send().await });
        }
        let answers = asking.join_all().await;
        let made: Vec<_> = answers.iter().filter(|a| a.status == 201).map(|a| &a.body).collect();
        assert!(!made.is_empty() && made.iter().all(|body| *body == made[0]));
        for other in answers.iter().filter(|a| a.status != 201) {
            other.problem(409, "under-way");
        }
        assert_eq!(fake.lowerings.load(Ordering::SeqCst), before + 1, "key {key}");
    }
}

/// The other console finds the change made and stores its answer before the one that made it does.
#[tokio::test]
async fn the_answer_that_was_stored_first_is_everybodys() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let world = World::on(dir.clone(), config(), sql(dir.path()).await, Fake::with_prizes()).await;
    world.begin().await;
    let plans =
        storage::Sql::open(&dir.path().join("plans.db"), storage::SqlOptions::patient()).await.unwrap();
    // Its words here: those of another change.
    let before = world.post("olga", LOWER, lower(10)).key("j").send().await;
    let other = "CREATE TRIGGER other BEFORE INSERT ON plan_remembered WHEN NEW.answer_key LIKE 'a:%' BEGIN \
                 INSERT OR IGNORE INTO plan_remembered (answer_key, request, status, content_type, body, at_ms) \
                 SELECT NEW.answer_key, NEW.request, status, content_type, body, NEW.at_ms FROM plan_remembered \
                 WHERE answer_key LIKE 'a:%' LIMIT 1; END";
    let mut write = plans.write().await.unwrap();
    storage::sqlx::query(other).execute(&mut *write).await.unwrap();
    write.commit().await.unwrap();
    for _ in 0..2 {
        let answer = world.post("olga", LOWER, lower(10)).key("k").send().await;
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, "true"));
        assert_eq!(answer.body, before.body);
    }
    assert_eq!(world.fake.lowerings.load(Ordering::SeqCst), 2, "one for each key");
    world.end().await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_under_the_same_key() {
    let world = World::new().await;
    world.begin().await;
    world.fake.is_away.store(true, Ordering::SeqCst);
    world.post("olga", LOWER, lower(10)).key("k").send().await.problem(503, "unavailable");
    world.fake.is_away.store(false, Ordering::SeqCst);
    assert_eq!(world.post("olga", LOWER, lower(10)).key("k").send().await.status, 201);
    assert_eq!(world.fake.prizes.lock()[&quota_config::PrizeAt::new(1, 1)].budget, 90);
    world.end().await;
}

/// Forgets the answers, not the markers: as if the program had ended between change and answer.
async fn forget_answers(dir: &std::path::Path) {
    let sql = storage::Sql::open(&dir.join("plans.db"), storage::SqlOptions::patient()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    let gone = storage::sqlx::query("DELETE FROM plan_remembered WHERE answer_key LIKE 'a:%'");
    assert!(gone.execute(&mut *write).await.unwrap().rows_affected() > 0);
    write.commit().await.unwrap();
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_in_a_crash_is_found_and_not_made_again() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let fake = Fake::with_prizes();
    let world = World::on(dir.clone(), config(), sql(dir.path()).await, fake.clone()).await;
    let file = "/v1/campaigns?reason=first";
    let first = world.file("olga", file, SMALL).key("k").send().await.json();
    let lowered = world.post("olga", LOWER, lower(10)).key("k").send().await.json();
    let paused = json!({"target": "prize:1/2", "reason": "r"});
    let pause = world.post("olga", "/v1/campaigns/4/stop", paused.clone()).key("k").send().await.json();
    let rich = with_more(50_000, 4);
    let waits = world.file("olga", "/v1/campaigns?reason=more", &rich).key("l").send().await.json();
    let approve = format!("/v1/proposals/{}/approve", waits["proposal"].as_str().unwrap());
    let word = json!({"reason": "yes"});
    let done = world.post("anna", &approve, word.clone()).key("k").send().await.json();
    world.end().await;
    forget_answers(dir.path()).await;

    let world = World::on(dir.clone(), config(), sql(dir.path()).await, fake.clone()).await;
    let history = world.get("vic", "/v1/campaigns/4/versions").send().await.json();
    let again = [
        (world.file("olga", file, SMALL).key("k").send().await, first, 201),
        (world.post("olga", LOWER, lower(10)).key("k").send().await, lowered, 201),
        (world.post("olga", "/v1/campaigns/4/stop", paused).key("k").send().await, pause, 201),
        (world.file("olga", "/v1/campaigns?reason=more", &rich).key("l").send().await, waits, 202),
        (world.post("anna", &approve, word).key("k").send().await, done, 201),
    ];
    for (answer, before, status) in &again {
        assert_eq!(answer.status, *status, "{}", answer.text());
        let now = answer.json();
        for field in ["state", "campaign", "seq_no", "proposal"] {
            assert_eq!(now[field], before[field], "{field} in {now}");
        }
    }
    assert_eq!(world.get("vic", "/v1/campaigns/4/versions").send().await.json(), history);
    assert_eq!(fake.lowerings.load(Ordering::SeqCst), 1);
    world.end().await;
}

#[tokio::test]
async fn a_change_that_a_crash_cut_off_is_made_once_its_time_is_over() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let fake = Fake::with_prizes();
    // By a clock that stands: what is under way and what is over is not a matter of this machine's speed.
    let (config, clock) =
        (ConsoleConfig { change_ms: 60_000, ..config() }, ManualClock::new(1_771_243_200_000));
    let plans = sql(dir.path()).await;
    let world = World::timed(dir.clone(), config.clone(), plans, fake.clone(), clock.clone()).await;
    world.begin().await;
    fake.hangs.store(true, Ordering::SeqCst);
    let hangs = async {
        while fake.hanging.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = world.post("olga", LOWER, lower(10)).key("k").send() => panic!("{}", answer.text()),
        () = hangs => {}
    }
    // The process dies: its tasks with it.
    let _ = world.tasks.drain(std::time::Duration::ZERO).await;
    fake.hangs.store(false, Ordering::SeqCst);
    let plans = sql(dir.path()).await;
    let world = World::timed(dir.clone(), config, plans, fake.clone(), clock.clone()).await;
    let early = world.post("olga", LOWER, lower(10)).key("k").send().await;
    early.problem(409, "under-way");
    assert!(!early.header("retry-after").is_empty());
    clock.advance_ms(59_999);
    world.post("olga", LOWER, lower(10)).key("k").send().await.problem(409, "under-way");
    clock.advance_ms(1);
    let answer = world.post("olga", LOWER, lower(10)).key("k").send().await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(fake.lowerings.load(Ordering::SeqCst), 1);
    world.end().await;
}
