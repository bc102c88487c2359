//! One suite for every adapter of the book, and generated sequences that must leave two adapters alike.

use crate::support::{NOW_MS, award, order, policy};
use campaign::{UserId, VendorId};
use delivery::account::{AccountBook, MemoryAccounts, PgAccounts, SqlAccounts};
use delivery::book::{Alarm, DeliveryBook, MemoryBook, OpenBookError, PgBook, SqlBook, Transition, shard_of};
use delivery::core::{Input, Lane, OrderRow, Step, first_step, step};
use proptest::prelude::*;
use records::{DeliveryState as S, OrderKind};
use storage::pg::{Pg, PgOptions};
use storage::{Sql, SqlOptions};
use testkit::servers::FreshDatabase;

pub async fn sql() -> (tempfile::TempDir, Sql) {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("delivery.db"), SqlOptions::patient()).await.unwrap();
    (folder, sql)
}

const ALL: &[u16] = &[0];

/// A database of its own on the real server, with a book of so many shards.
pub async fn pg(shards: u16) -> Option<(FreshDatabase, PgBook)> {
    let database = FreshDatabase::new()?;
    let book = pg_again(&database, shards).await;
    Some((database, book))
}

/// Another process on the same book.
pub async fn pg_again(database: &FreshDatabase, shards: u16) -> PgBook {
    PgBook::open(pg_at(database).await, shards, NOW_MS).await.unwrap()
}

async fn pg_at(database: &FreshDatabase) -> Pg {
    Pg::open(PgOptions::patient(database.url())).await.unwrap()
}

fn first(n: u64, kind: OrderKind) -> Step {
    first_step(&order(n, kind, 7), NOW_MS, true)
}

fn permit(row: &OrderRow) -> Transition {
    let input = Input::Permit { payee: "p\"'é".into(), merchant: "m".into(), body_sha256: [9; 32] };
    let step = step(row, &input, NOW_MS + 5, Some(&policy()), 0).unwrap();
    Transition { from_step: row.step, from_state: row.state, step }
}

async fn conforms(book: &dyn DeliveryBook) {
    let vendor = VendorId(7);
    let steps: Vec<Step> =
        (1..=5).map(|n| first(n, OrderKind::AtOnce)).chain([first(6, OrderKind::OnClaim)]).collect();
    assert_eq!(book.take_orders(&steps).await.unwrap(), [true; 6]);
    let again = [first(3, OrderKind::AtOnce), first(7, OrderKind::AtOnce)];
    assert_eq!(book.take_orders(&again).await.unwrap(), [false, true]);

    let row = book.rows(&[award(2), award(99)]).await.unwrap();
    assert_eq!(row, [steps[1].row.clone()]);
    assert!(book.due(ALL, vendor, Lane::Send, NOW_MS - 1, 10).await.unwrap().is_empty());
    let due = book.due(ALL, vendor, Lane::Send, NOW_MS, 4).await.unwrap();
    assert_eq!(due.iter().map(|r| r.award).collect::<Vec<_>>(), [1, 2, 3, 4].map(award));
    assert!(book.due(ALL, VendorId(8), Lane::Send, NOW_MS, 4).await.unwrap().is_empty());

    // Fenced: the second writer of the same step loses, and leaves nothing behind.
    let batch: Vec<Transition> = due.iter().map(permit).collect();
    assert_eq!(book.transition(&batch[..2]).await.unwrap(), [true, true]);
    assert_eq!(book.transition(&batch).await.unwrap(), [false, false, true, true]);
    let rows = book.rows(&[award(1)]).await.unwrap();
    assert_eq!(rows, [batch[0].step.row.clone()]);
    assert_eq!((rows[0].state, rows[0].attempt, rows[0].payee.as_str()), (S::Sending, 1, "p\"'é"));
    assert_eq!(book.due(ALL, vendor, Lane::Send, u64::MAX >> 1, 10).await.unwrap().len(), 2);
    assert_eq!(book.due(ALL, vendor, Lane::Ask, u64::MAX >> 1, 10).await.unwrap().len(), 4);
    assert_eq!(book.oldest_due(vendor, Lane::Send).await.unwrap(), Some(NOW_MS));

    let journal = book.journal(0, 0, 100).await.unwrap();
    assert_eq!(journal.iter().map(|l| l.position).collect::<Vec<_>>(), (1..=11).collect::<Vec<u64>>());
    assert_eq!(book.journal(0, 9, 1).await.unwrap(), journal[9..10]);
    let history = book.history(award(3)).await.unwrap();
    assert_eq!(history.iter().map(|l| l.event.step).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(history[1].event, batch[2].step.event);
    assert!(book.history(award(99)).await.unwrap().is_empty());

    assert!(book.lapse_due(ALL, NOW_MS, 10).await.unwrap().is_empty());
    assert_eq!(book.lapse_due(ALL, NOW_MS + 10_000, 10).await.unwrap()[0].award, award(6));
    let held = book.rows(&[award(5)]).await.unwrap().remove(0);
    let held_step = step(&held, &Input::NoAccountKnown, NOW_MS, Some(&policy()), 0).unwrap();
    let t = Transition { from_step: 1, from_state: S::Ready, step: held_step };
    assert_eq!(book.transition(&[t]).await.unwrap(), [true]);
    assert_eq!(book.held(UserId(1_005), vendor, 10).await.unwrap()[0].award, award(5));
    assert!(book.held(UserId(1_005), VendorId(8), 10).await.unwrap().is_empty());

    let counts: Vec<(u8, u64)> = book.counts().await.unwrap().iter().map(|c| (c.state, c.orders)).collect();
    assert_eq!(counts, [(S::New as u8, 1), (S::Ready as u8, 1), (S::Sending as u8, 4), (S::Held as u8, 1)]);
    let (mut scanned, mut after) = (Vec::new(), None);
    while let Some(last) = book.scan(after, 3).await.unwrap().last().map(|r| r.award) {
        scanned.extend(book.scan(after, 3).await.unwrap().iter().map(|r| r.award));
        after = Some(last);
    }
    scanned.sort_unstable();
    assert_eq!(scanned, [1, 2, 3, 4, 5, 6, 7].map(award));
    assert!(book.with_person(None, 10).await.unwrap().is_empty());
    let rejected = first_step(&order(8, OrderKind::AtOnce, 9), NOW_MS, false);
    book.take_orders(std::slice::from_ref(&rejected)).await.unwrap();
    assert_eq!(book.with_person(None, 10).await.unwrap(), [rejected.row]);

    assert_eq!(book.published(0).await.unwrap(), 0);
    book.set_published(0, 7).await.unwrap();
    book.set_published(0, 4).await.unwrap();
    assert_eq!(book.published(0).await.unwrap(), 7);
    assert_eq!(book.unpublished(ALL).await.unwrap(), [0]);
    assert!(book.due(&[], vendor, Lane::Ask, u64::MAX >> 1, 10).await.unwrap().is_empty());
    assert!(book.journal(1, 0, 10).await.is_err() && book.published(1).await.is_err());
    let alarm = Alarm { kind: "k".into(), award: award(1), detail: "d".into(), at_ms: 5, times: 1 };
    book.alarm(std::slice::from_ref(&alarm)).await.unwrap();
    book.alarm(std::slice::from_ref(&alarm)).await.unwrap();
    assert_eq!(book.alarms(10).await.unwrap(), [Alarm { times: 2, ..alarm }]);
}

async fn accounts_conform(book: &dyn AccountBook) {
    let (u, v) = (UserId(u64::MAX - 3), VendorId(7));
    assert_eq!(book.accounts(v, &[u]).await.unwrap(), [None]);
    let mut versions = Vec::new();
    for account in ["a", "a", "b"] {
        versions.push(book.register(u, v, account, 5).await.unwrap().version);
    }
    assert_eq!(versions, [1, 1, 2]);
    let found = book.accounts(v, &[UserId(1), u, u]).await.unwrap();
    let accounts: Vec<Option<&str>> = found.iter().map(|a| a.as_ref().map(|a| a.account.as_str())).collect();
    assert_eq!(accounts, [None, Some("b"), Some("b")]);
    assert_eq!(book.accounts(VendorId(8), &[u]).await.unwrap(), [None]);
}

#[tokio::test]
async fn every_adapter_conforms() {
    conforms(&MemoryBook::default()).await;
    accounts_conform(&MemoryAccounts::default()).await;
    let (_folder, sql) = sql().await;
    conforms(&SqlBook::open(sql.clone(), NOW_MS).await.unwrap()).await;
    accounts_conform(&SqlAccounts::open(sql, NOW_MS).await.unwrap()).await;
    let Some((database, book)) = pg(1).await else { return };
    conforms(&book).await;
    accounts_conform(&PgAccounts::open(pg_at(&database).await, NOW_MS).await.unwrap()).await;
}

async fn shards_are_apart(book: &dyn DeliveryBook) {
    let vendor = VendorId(7);
    let steps: Vec<Step> = (1..=60).map(|n| first(n, OrderKind::AtOnce)).collect();
    book.take_orders(&steps).await.unwrap();
    let batch: Vec<Transition> = steps[..30].iter().map(|step| permit(&step.row)).collect();
    assert!(book.transition(&batch).await.unwrap().iter().all(|won| *won));
    let mut all = Vec::new();
    for shard in 0..4u16 {
        let mine = |user: UserId| shard_of(user, 4) == shard;
        let count = steps.iter().filter(|s| mine(s.row.user)).count();
        assert!(count > 0, "no order in shard {shard}");
        let lines = book.journal(shard, 0, 1_000).await.unwrap();
        assert!(lines.iter().map(|l| l.position).eq(1..=lines.len() as u64));
        assert!(lines.iter().all(|l| mine(l.event.user)));
        all.extend(lines.iter().map(|l| (l.event.award, l.event.step)));
        let due = book.due(&[shard], vendor, Lane::Send, NOW_MS, 100).await.unwrap();
        assert!(
            due.iter()
                .map(|r| r.award)
                .eq(steps[30..].iter().filter(|s| mine(s.row.user)).map(|s| s.row.award))
        );
        book.set_published(shard, lines.len() as u64).await.unwrap();
        assert_eq!(book.published(shard).await.unwrap(), lines.len() as u64);
    }
    assert_eq!(all.len(), 90);
    let two = book.due(&[0, 2], vendor, Lane::Send, NOW_MS, 5).await.unwrap();
    assert_eq!(two.len(), 5);
    assert!(two.is_sorted_by_key(|r| (r.due_ms, r.award)));
    assert!(two.iter().all(|r| shard_of(r.user, 4).is_multiple_of(2)));
    assert_eq!(book.history(award(3)).await.unwrap().len(), 2);
    let counts: Vec<u64> = book.counts().await.unwrap().iter().map(|c| c.orders).collect();
    assert_eq!(counts, [30, 30]);
}

#[tokio::test]
async fn every_shard_has_a_journal_of_its_own() {
    shards_are_apart(&MemoryBook::with_shards(4)).await;
    let Some((database, book)) = pg(4).await else { return };
    shards_are_apart(&book).await;
    assert!(book.unpublished(&[0, 1, 2, 3]).await.unwrap().is_empty());
    book.take_orders(&[first(99, OrderKind::AtOnce)]).await.unwrap();
    let only = shard_of(UserId(1_099), 4);
    assert_eq!(book.unpublished(&[0, 1, 2, 3]).await.unwrap(), [only]);
    let other = PgBook::open(pg_at(&database).await, 5, NOW_MS).await;
    assert!(matches!(other, Err(OpenBookError::Divided { stored: 4, wanted: 5 })));
    assert!(matches!(PgBook::open(pg_at(&database).await, 0, NOW_MS).await, Err(OpenBookError::Count(0))));
    // A vendor may say anything.
    let mut row = book.rows(&[award(99)]).await.unwrap().remove(0);
    row.merchant = "m\0".into();
    let odd = permit(&row);
    assert_eq!(book.transition(&[odd]).await.unwrap(), [true]);
}

/// Writers of the same awards, side by side: each step is written by one of them, and the journals have no holes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_that_meet_one_wins() {
    let Some((database, one)) = pg(3).await else { return };
    let other = pg_again(&database, 3).await;
    let steps: Vec<Step> = (1..=200).map(|n| first(n, OrderKind::AtOnce)).collect();
    let backwards: Vec<Step> = steps.iter().rev().cloned().collect();
    let write = async |book: &PgBook, steps: &[Step]| {
        let (mut took, mut sent) = (0, 0);
        for chunk in steps.chunks(17) {
            took += book.take_orders(chunk).await.unwrap().iter().filter(|new| **new).count();
            let batch: Vec<Transition> = chunk.iter().map(|s| permit(&s.row)).collect();
            sent += book.transition(&batch).await.unwrap().iter().filter(|won| **won).count();
        }
        (took, sent)
    };
    let (a, b) = tokio::join!(write(&one, &steps), write(&other, &backwards));
    assert_eq!((a.0 + b.0, a.1 + b.1), (200, 200));
    let mut seen = std::collections::HashSet::new();
    for shard in 0..3 {
        let lines = one.journal(shard, 0, 1_000).await.unwrap();
        assert!(lines.iter().map(|l| l.position).eq(1..=lines.len() as u64));
        seen.extend(lines.iter().map(|l| (l.event.award, l.event.step)));
    }
    assert_eq!(seen.len(), 400);
}

#[tokio::test]
async fn two_processes_on_one_book_read_one_journal() {
    let (_folder, sql) = sql().await;
    let one = SqlBook::open(sql.clone(), NOW_MS).await.unwrap();
    let other = SqlBook::open(sql, NOW_MS).await.unwrap();
    for n in 1..=6 {
        let book = if n % 3 == 0 { &other } else { &one };
        assert_eq!(book.take_orders(&[first(n, OrderKind::AtOnce)]).await.unwrap(), [true]);
        // What one has taken, the other knows.
        assert_eq!(one.take_orders(&[first(n, OrderKind::AtOnce)]).await.unwrap(), [false]);
        for book in [&one, &other] {
            // In however many calls: nothing is left out where the other one wrote.
            let (mut awards, mut behind) = (Vec::new(), 0);
            loop {
                let lines = book.journal(0, behind, 4).await.unwrap();
                let Some(last) = lines.last() else { break };
                behind = last.position;
                awards.extend(lines.iter().map(|line| line.event.award));
            }
            assert_eq!(awards, (1..=n).map(award).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_call_that_is_too_large_or_names_an_award_twice_is_refused() {
    let (_folder, sql) = sql().await;
    refuses(&SqlBook::open(sql, NOW_MS).await.unwrap()).await;
    let Some((_database, book)) = pg(1).await else { return };
    refuses(&book).await;
}

async fn refuses(book: &dyn DeliveryBook) {
    let twice = [first(1, OrderKind::AtOnce), first(1, OrderKind::AtOnce)];
    let error = book.take_orders(&twice).await.unwrap_err().to_string();
    assert!(error.contains("an award occurs twice"), "{error}");
    let many: Vec<Step> = (0..=4_096).map(|n| first(n, OrderKind::AtOnce)).collect();
    let error = book.take_orders(&many).await.unwrap_err().to_string();
    assert!(error.contains("4097 rows; at most 4096"), "{error}");
    assert!(
        book.scan(None, 10).await.unwrap().is_empty() && book.journal(0, 0, 10).await.unwrap().is_empty()
    );
}

#[derive(Clone, Debug)]
enum Op {
    Take(Vec<u64>, bool),
    Send(Vec<u64>),
    TimeOut(Vec<u64>, bool),
    Claim(Vec<u64>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let awards =
        || prop::collection::btree_set(1u64..30, 1..12).prop_map(|s| s.into_iter().collect::<Vec<_>>());
    prop::collection::vec(
        prop_oneof![
            (awards(), any::<bool>()).prop_map(|(a, c)| Op::Take(a, c)),
            awards().prop_map(Op::Send),
            (awards(), any::<bool>()).prop_map(|(a, s)| Op::TimeOut(a, s)),
            awards().prop_map(Op::Claim),
        ],
        1..14,
    )
}

/// Does an operation on one book; `stale` takes the step before as the fence.
async fn run(book: &dyn DeliveryBook, op: &Op) -> Vec<bool> {
    let (awards, stale) = match op {
        Op::Take(awards, on_claim) => {
            let kind = if *on_claim { OrderKind::OnClaim } else { OrderKind::AtOnce };
            let steps: Vec<Step> = awards.iter().map(|n| first(*n, kind)).collect();
            return book.take_orders(&steps).await.unwrap();
        }
        Op::Send(awards) | Op::Claim(awards) => (awards, false),
        Op::TimeOut(awards, stale) => (awards, *stale),
    };
    let keys: Vec<_> = awards.iter().map(|n| award(*n)).collect();
    let mut rows = book.rows(&keys).await.unwrap();
    rows.sort_by_key(|row| row.award);
    let transitions: Vec<Transition> = rows
        .iter()
        .filter_map(|row| {
            let input = match op {
                Op::Send(_) => {
                    Input::Permit { payee: "p".into(), merchant: "m".into(), body_sha256: [9; 32] }
                }
                Op::TimeOut(..) => Input::TimedOut { attempt: row.attempt },
                _ => Input::Claim,
            };
            let step = step(row, &input, NOW_MS + 5, Some(&policy()), 0).ok()?;
            Some(Transition { from_step: row.step - u32::from(stale), from_state: row.state, step })
        })
        .collect();
    book.transition(&transitions).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn two_adapters_never_differ(ops in ops()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (_folder, sql) = sql().await;
            let (memory, stored) = (MemoryBook::default(), SqlBook::open(sql.clone(), NOW_MS).await.unwrap());
            for op in &ops {
                assert_eq!(run(&memory, op).await, run(&stored, op).await, "{op:?}");
            }
            alike(&memory, &stored, 1).await;
            let journal = memory.journal(0, 0, 1_000).await.unwrap();
            assert_eq!(journal, stored.journal(0, 0, 1_000).await.unwrap());
            // Another process has nothing of it in memory and reads the table.
            let other = SqlBook::open(sql, NOW_MS).await.unwrap();
            assert_eq!(journal, other.journal(0, 0, 1_000).await.unwrap());
        });
    }
}

/// Two books give the same answers.
async fn alike(a: &dyn DeliveryBook, b: &dyn DeliveryBook, shards: u16) {
    let sorted = async |book: &dyn DeliveryBook| {
        let mut rows = book.scan(None, 100).await.unwrap();
        rows.sort_unstable_by_key(|row| row.award);
        rows
    };
    assert_eq!(sorted(a).await, sorted(b).await);
    assert_eq!(a.counts().await.unwrap(), b.counts().await.unwrap());
    let (all, far): (Vec<u16>, _) = ((0..shards).collect(), NOW_MS * 2);
    for shard in 0..shards {
        assert_eq!(a.journal(shard, 0, 1_000).await.unwrap(), b.journal(shard, 0, 1_000).await.unwrap());
    }
    for lane in [Lane::Send, Lane::Ask, Lane::Claim] {
        for limit in [100, 3] {
            let (a, b) =
                (a.due(&all, VendorId(7), lane, far, limit), b.due(&all, VendorId(7), lane, far, limit));
            assert_eq!(a.await.unwrap(), b.await.unwrap());
        }
        let (a, b) = (a.oldest_due(VendorId(7), lane), b.oldest_due(VendorId(7), lane));
        assert_eq!(a.await.unwrap(), b.await.unwrap());
    }
    assert_eq!(a.lapse_due(&all, far, 4).await.unwrap(), b.lapse_due(&all, far, 4).await.unwrap());
    for n in 1..30 {
        assert_eq!(a.history(award(n)).await.unwrap(), b.history(award(n)).await.unwrap());
    }
}

/// One database for all cases, emptied before each.
#[test]
fn postgresql_does_what_memory_does() {
    use proptest::test_runner::{Config, TestRunner};
    let Some(database) = FreshDatabase::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let book = runtime.block_on(pg_again(&database, 3));
    let empty = "TRUNCATE delivery_order, delivery_journal, delivery_count, delivery_published; \
                 UPDATE delivery_shard SET position = 0";
    let config = Config { cases: 10, failure_persistence: None, ..Config::default() };
    let done = TestRunner::new(config).run(&ops(), |ops| {
        runtime.block_on(async {
            let pg = pg_at(&database).await;
            storage::sqlx::raw_sql(empty).execute(&mut *pg.connection().await.unwrap()).await.unwrap();
            let memory = MemoryBook::with_shards(3);
            for op in &ops {
                assert_eq!(run(&memory, op).await, run(&book, op).await, "{op:?}");
            }
            alike(&memory, &book, 3).await;
        });
        Ok(())
    });
    done.unwrap();
}
