//! One suite for every adapter of the book, and generated sequences that must leave two adapters alike.

use crate::support::{NOW_MS, award, order, policy};
use campaign::{UserId, VendorId};
use delivery::account::{AccountBook, MemoryAccounts, SqlAccounts};
use delivery::book::{Alarm, DeliveryBook, MemoryBook, SqlBook, Transition};
use delivery::core::{Input, Lane, OrderRow, Step, first_step, step};
use proptest::prelude::*;
use records::{DeliveryState as S, OrderKind};
use storage::{Sql, SqlOptions};

pub async fn sql() -> (tempfile::TempDir, Sql) {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("delivery.db"), SqlOptions::default()).await.unwrap();
    (folder, sql)
}

const ALL: &[u16] = &[0];

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
    assert_eq!(
        book.scan(Some(award(2)), 3).await.unwrap().iter().map(|r| r.award).collect::<Vec<_>>(),
        [3, 4, 5].map(award)
    );
    assert_eq!(book.scan(None, 100).await.unwrap().len(), 7);
    assert!(book.with_person(None, 10).await.unwrap().is_empty());
    let rejected = first_step(&order(8, OrderKind::AtOnce, 9), NOW_MS, false);
    book.take_orders(std::slice::from_ref(&rejected)).await.unwrap();
    assert_eq!(book.with_person(None, 10).await.unwrap(), [rejected.row]);

    assert_eq!(book.published(0).await.unwrap(), 0);
    book.set_published(0, 7).await.unwrap();
    book.set_published(0, 4).await.unwrap();
    assert_eq!(book.published(0).await.unwrap(), 7);
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
async fn memory_and_sql_conform() {
    conforms(&MemoryBook::default()).await;
    accounts_conform(&MemoryAccounts::default()).await;
    let (_folder, sql) = sql().await;
    conforms(&SqlBook::open(sql.clone(), NOW_MS).await.unwrap()).await;
    accounts_conform(&SqlAccounts::open(sql, NOW_MS).await.unwrap()).await;
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
    let book = SqlBook::open(sql, NOW_MS).await.unwrap();
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
            assert_eq!(memory.scan(None, 100).await.unwrap(), stored.scan(None, 100).await.unwrap());
            let journal = memory.journal(0, 0, 1_000).await.unwrap();
            assert_eq!(journal, stored.journal(0, 0, 1_000).await.unwrap());
            // Another process has nothing of it in memory and reads the table.
            let other = SqlBook::open(sql, NOW_MS).await.unwrap();
            assert_eq!(journal, other.journal(0, 0, 1_000).await.unwrap());
            assert_eq!(memory.counts().await.unwrap(), stored.counts().await.unwrap());
            for lane in [Lane::Send, Lane::Ask, Lane::Claim] {
                let far = NOW_MS * 2;
                let (a, b) = (memory.due(ALL, VendorId(7), lane, far, 100).await, stored.due(ALL, VendorId(7), lane, far, 100).await);
                assert_eq!(a.unwrap(), b.unwrap());
            }
        });
    }
}
