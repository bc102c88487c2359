//! What only a server far away can do: lose an answer, take calls from many at once, let one wait for another.

use super::make::{Both, adds, bucket, entry, gets, pair, postgres};
use chat::store::owned::{
    ConversationOutcome as C, ConversationStep, OwnedShelf as _, Step, TimelineOutcome as T,
};
use chat::store::owners::{BeginError, BucketTerm, OwnerBook as _, OwnerTick, PgOwners, TickError};
use chat::store::{MessageStore as _, PgShelf, SCHEMA, StoreError, Timeline as _};
use futures_util::future::join_all;
use ownership::EndReason;
use runtime::ManualClock;
use std::sync::Arc;
use std::time::Duration;
use storage::pg::{Pg, PgOptions};
use storage::sqlx;
use testkit::between::{Between, Cut};
use testkit::servers::FreshDatabase;

struct Far {
    between: Between,
    shelf: PgShelf,
    book: PgOwners,
    clock: Arc<ManualClock>,
    database: FreshDatabase,
}

async fn far() -> Option<Far> {
    far_over(PgOptions::patient("").connections_max).await
}

/// With so many connections. A connection goes back into the pool a little after its call, and a call that does not find it
/// there begins another.
async fn far_over(connections_max: u32) -> Option<Far> {
    let database = FreshDatabase::new()?;
    let between = Between::new(database.url());
    let clock = ManualClock::new(1_000_000);
    let options = PgOptions { connections_max, ..PgOptions::patient(between.url()) };
    let shelf = PgShelf::open(options, 1).await.unwrap();
    let book = PgOwners::with_clock(shelf.pg().clone(), clock.clone());
    Some(Far { between, shelf, book, clock, database })
}

#[tokio::test]
async fn a_step_whose_answer_was_lost_is_told_when_it_is_sent_again() {
    let Some(Far { between, shelf, book, clock, database: _database }) = far().await else { return };
    let claims = vec![BucketTerm { bucket: bucket(5), term: 0 }, BucketTerm { bucket: bucket(2), term: 0 }];
    // A begin whose answer is lost leaves an epoch open, which has to die first.
    between.cut_next(Cut::Behind);
    let error = book.begin(1, 0).await.unwrap_err();
    assert!(matches!(error, BeginError::Store(StoreError::Unavailable(_))), "{error}");
    assert!(matches!(book.begin(1, 0).await, Err(BeginError::StillSeen { epoch: 1, .. })));
    clock.advance_ms(3_000);
    assert_eq!(book.begin(1, 0).await.unwrap().epoch, 2);
    // A claim is the same when it is repeated.
    let tick = OwnerTick { node: 1, epoch: 2, claims, ..OwnerTick::default() };
    between.cut_next(Cut::Behind);
    let error = book.tick(&tick).await.unwrap_err();
    assert!(matches!(error, TickError::Store(StoreError::Unavailable(_))), "{error}");
    let answer = book.tick(&tick).await.unwrap();
    let mut terms: Vec<(u16, u32)> = answer.claimed.iter().map(|c| (c.bucket, c.term)).collect();
    terms.sort_unstable();
    assert!(terms.iter().all(|(_, term)| *term == 1), "claimed once: {terms:?}");
    let fence = chat::store::owned::Fence { node: 1, epoch: 2, terms };
    for (cut, id_seq) in [(Cut::Behind, 1u64), (Cut::Before, 2)] {
        let step = Step {
            conversations: vec![adds(5, id_seq, id_seq..=id_seq)],
            timelines: vec![gets(2, id_seq, vec![entry(10 * id_seq, 5, id_seq)])],
            ..Step::default()
        };
        between.cut_next(cut);
        let error = shelf.step(&fence, &step).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        for _ in 0..2 {
            let outcomes = shelf.step(&fence, &step).await.unwrap();
            assert_eq!(outcomes.conversations, [C::Done]);
            assert_eq!(outcomes.timelines, [T::Added { new: vec![true] }]);
        }
        assert_eq!(shelf.messages(5, 1, 9).await.unwrap().len() as u64, id_seq);
        assert_eq!(shelf.entries(2, 0, 9).await.unwrap().len() as u64, id_seq);
    }
    assert_eq!(between.cuts(), 4);
}

#[tokio::test]
async fn a_step_is_two_round_trips_and_a_quiet_tick_one() {
    let Some(Far { between, shelf, book, database: _database, .. }) = far_over(1).await else { return };
    book.begin(1, 0).await.unwrap();
    let users: Vec<u64> = (1..=100).collect();
    let mut claims: Vec<BucketTerm> =
        users.iter().map(|id| BucketTerm { bucket: bucket(*id), term: 0 }).collect();
    claims.sort_unstable();
    claims.dedup();
    let tick = OwnerTick { node: 1, epoch: 1, claims, ..OwnerTick::default() };
    let terms = book.tick(&tick).await.unwrap().claimed.iter().map(|c| (c.bucket, c.term)).collect();
    let fence = chat::store::owned::Fence { node: 1, epoch: 1, terms };
    let quiet = OwnerTick { claims: vec![], ..tick };
    let mut step = Step::default();
    for id in &users {
        step.conversations.push(ConversationStep { name: pair(*id, 1_000 + id), ..adds(*id, 1, 1..=2) });
        step.timelines.push(gets(*id, 1, vec![entry(1, *id, 1), entry(2, *id, 2)]));
    }
    let before = between.messages();
    let outcomes = shelf.step(&fence, &step).await.unwrap();
    assert!(outcomes.conversations.iter().all(|o| *o == C::Done));
    let steps = between.messages() - before;
    // Larger than one packet, so it may be counted in more pieces than it is waited for.
    assert!((2..=8).contains(&steps), "{steps}");
    let small = Step { conversations: vec![adds(7, 2, 3..=3)], ..Step::default() };
    let before = between.messages();
    assert_eq!(shelf.step(&fence, &small).await.unwrap().conversations, [C::Done]);
    assert_eq!(between.messages() - before, 2);
    book.tick(&quiet).await.unwrap();
    assert_eq!(between.messages() - before, 3);
}

#[tokio::test]
async fn of_many_copies_and_of_many_with_one_name_each_is_done_once() {
    let Some(both) = postgres().await else { return };
    let Both { shelf, .. } = &both;
    let ids: Vec<u64> = (1..=8).collect();
    let fence = both.begin(1, &ids).await;
    let named = |id: u64| ConversationStep { name: pair(70, 80), ..adds(id, 1, 1..=1) };
    let steps: Vec<Step> =
        ids.iter().map(|id| Step { conversations: vec![named(*id)], ..Step::default() }).collect();
    let outcomes = join_all(steps.iter().map(|step| shelf.step(&fence, step))).await;
    let told: Vec<C> = outcomes.into_iter().map(|o| o.unwrap().conversations[0]).collect();
    let winner = shelf.pairs(&[(70, 80)]).await.unwrap()[0].2;
    for (id, outcome) in ids.iter().zip(told) {
        let right = if *id == winner { C::Done } else { C::Named { conversation: winner } };
        assert_eq!(outcome, right, "{id}");
    }
    let step = Step {
        conversations: vec![adds(winner, 2, 2..=40)],
        timelines: vec![gets(3, 1, (2..=40).map(|n| entry(n, winner, n)).collect())],
        ..Step::default()
    };
    for outcome in join_all((0..8).map(|_| shelf.step(&fence, &step))).await {
        let outcome = outcome.unwrap();
        assert_eq!(outcome.conversations, [C::Done]);
        assert_eq!(outcome.timelines, [T::Added { new: vec![true; 39] }]);
    }
    assert_eq!(shelf.messages(winner, 1, 99).await.unwrap().len(), 40);
    assert_eq!(shelf.entries(3, 0, 99).await.unwrap().len(), 39);
}

#[tokio::test]
async fn an_epoch_ends_behind_its_steps_and_its_session_does_not_wait_for_them() {
    let Some(Far { shelf, book, clock, database, .. }) = far().await else { return };
    book.begin(1, 0).await.unwrap();
    // What a step holds until its commit.
    let other =
        Pg::open(PgOptions { schema: Some(SCHEMA), ..PgOptions::patient(database.url()) }).await.unwrap();
    let mut step = other.begin().await.unwrap();
    let hold = "SELECT 1 FROM node_epoch WHERE node = 1 AND epoch = 1 AND ended_ms IS NULL FOR KEY SHARE";
    assert_eq!(sqlx::query(hold).fetch_all(&mut *step).await.unwrap().len(), 1);
    for bucket in [1, 2] {
        let claims = vec![BucketTerm { bucket, term: 0 }];
        let tick = OwnerTick { node: 1, epoch: 1, claims, ..OwnerTick::default() };
        assert_eq!(book.tick(&tick).await.unwrap().claimed.len(), 1);
        book.tick(&OwnerTick { node: 1, epoch: 1, ..OwnerTick::default() }).await.unwrap();
    }
    clock.advance_ms(3_000);
    let ending = book.end(1, 1, EndReason::Expired);
    tokio::pin!(ending);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut ending).await;
    assert!(early.is_err(), "the epoch ended while a step of it was under way");
    other.commit(step).await.unwrap();
    assert!(ending.await.unwrap());
    assert!(book.buckets().await.unwrap().iter().all(|row| row.is_free()));
    drop(shelf);
}
