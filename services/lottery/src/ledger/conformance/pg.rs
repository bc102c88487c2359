//! What only a server far away can do: lose an answer, serve many nodes at once, and have a clock of its own.

use super::{OPEN_MS, Sketch, key, pg_ledger, plan};
use crate::ledger::port::*;
use crate::ledger::{PgLedger, QuotaLedger};
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, Ranges, SeqNo};
use ownership::{ClaimBucket, EndReason};
use runtime::{Clock as _, ManualClock, SystemClock};
use std::collections::BTreeSet;
use storage::pg::{Pg, PgOptions};
use testkit::between::{Between, Cut};
use testkit::servers::FreshDatabase;

const A: NodeId = NodeId(1);

fn tick(epoch: u32, lease: u64, units: u32) -> Tick {
    let asks = vec![GrantAsk { lease: LeaseId(lease), prize: key(1), units }];
    Tick { node: A, epoch: NodeEpoch(epoch), asks, ..Tick::default() }
}

async fn registered(ledger: &PgLedger, units: u64) {
    ledger.register(&plan(1, 63_000, &[Sketch(1, units, 1, 0)], &[(1, 0)])).await.unwrap();
}

#[tokio::test]
async fn a_grant_whose_answer_was_lost_is_the_same_when_asked_again() {
    let Some(database) = FreshDatabase::new() else { return };
    let between = Between::new(database.url());
    let clock = ManualClock::new(OPEN_MS);
    let options = PgOptions::patient(between.url());
    let ledger = PgLedger::open_with_clock(Pg::open(options).await.unwrap(), clock.clone()).await.unwrap();
    registered(&ledger, 600).await;
    ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap();
    clock.advance_ms(2_000);
    let claims = vec![ClaimBucket { bucket: 5, term: 0 }];
    let call = Tick { claims, ..tick(1, 1, 10) };
    between.cut_all(Cut::Behind);
    for lost in 1..=2 {
        let error = ledger.tick(&call).await.unwrap_err();
        assert!(matches!(error, TickError::Store(StoreError::Unknown(_))), "{error}");
        assert_eq!(between.cuts(), lost);
        // It changes something each time, or it would not commit.
        clock.advance_ms(10);
    }
    between.cut_all(Cut::No);
    let straight = pg_ledger(&clock, &database).await;
    let done = straight.prizes(CampaignId(1)).await.unwrap();
    assert_eq!((done[0].leased, done[0].granted), (10, 10), "it was done, once");
    let answer = ledger.tick(&call).await.unwrap();
    let GrantAnswer::Granted { ranges, .. } = &answer.grants[0].1 else { panic!("{answer:?}") };
    let units: Ranges = ranges.iter().flat_map(|r| r.units.first..r.units.end()).collect();
    assert_eq!((units, answer.open.clone()), (Ranges::one(0, 10), vec![LeaseId(1)]));
    assert_eq!(answer.claimed[0].term, 1, "claimed once");
    assert_eq!(straight.prizes(CampaignId(1)).await.unwrap(), done);
    // A begin whose answer was lost leaves an epoch open, which the node ends before it begins another.
    ledger.end_epoch(A, NodeEpoch(1), EndReason::BySelf).await.unwrap();
    between.cut_all(Cut::Behind);
    let error = ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap_err();
    assert!(matches!(error, EpochError::Store(StoreError::Unknown(_))), "{error}");
    between.cut_all(Cut::No);
    assert!(matches!(ledger.begin_epoch(A, NodeEpoch(0)).await, Err(EpochError::Begin(_))));
    assert_eq!(straight.epochs(A).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_call_is_two_round_trips() {
    let Some(database) = FreshDatabase::new() else { return };
    let between = Between::new(database.url());
    let clock = ManualClock::new(OPEN_MS);
    // The only connection goes back into the pool a little after its call; another call would begin a second one.
    let options = PgOptions { connections_max: 1, ..PgOptions::patient(between.url()) };
    let ledger = PgLedger::open_with_clock(Pg::open(options).await.unwrap(), clock.clone()).await.unwrap();
    registered(&ledger, 600).await;
    ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap();
    clock.advance_ms(2_000);
    // The connection that a warm call finds.
    ledger.tick(&tick(1, 1, 3)).await.unwrap();
    let claims = (0..4_096).map(|bucket| ClaimBucket { bucket, term: 0 }).collect();
    let closes = vec![CloseAsk { lease: LeaseId(1), used: 3, returned: Ranges::new() }];
    let full = Tick { claims, closes, ..tick(1, 2, 5) };
    let calls = [(tick(1, 3, 3), 2), (Tick { asks: vec![], ..tick(1, 0, 0) }, 2)];
    for (call, trips) in calls {
        clock.advance_ms(200);
        let before = between.messages();
        ledger.tick(&call).await.unwrap();
        assert_eq!(between.messages() - before, trips);
    }
    // One that moves everything is sent in more pieces than one, and waits twice all the same.
    let answer = ledger.tick(&full).await.unwrap();
    assert_eq!((answer.claimed.len(), answer.closed.len()), (4_096, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_at_once_get_every_unit_once() {
    let Some(database) = FreshDatabase::new() else { return };
    let clock = ManualClock::new(OPEN_MS);
    let first = pg_ledger(&clock, &database).await;
    // Everybody brings the plan at the same time, and each prize is made once.
    let bringing = (0..4).map(|_| registered(&first, 600));
    futures_util::future::join_all(bringing).await;
    clock.advance_ms(20_000);
    let mut running = Vec::new();
    for node in 1..=4u16 {
        let ledger = pg_ledger(&clock, &database).await;
        running.push(async move {
            let mut got = Vec::new();
            ledger.begin_epoch(NodeId(node), NodeEpoch(0)).await.unwrap();
            for round in 0..10u64 {
                let asks = [1, 2].map(|prize| GrantAsk {
                    lease: LeaseId(2 * round + prize),
                    prize: key(1),
                    units: 4,
                });
                let mut call =
                    Tick { node: NodeId(node), epoch: NodeEpoch(1), asks: asks.to_vec(), ..Tick::default() };
                call.claims = (0..8).map(|bucket| ClaimBucket { bucket, term: 0 }).collect();
                let answer = ledger.tick(&call).await.unwrap();
                let mut closes = Vec::new();
                for (lease, grant) in &answer.grants {
                    if let GrantAnswer::Granted { ranges, .. } = grant {
                        let units: Vec<u64> =
                            ranges.iter().flat_map(|r| r.units.first..r.units.end()).collect();
                        closes.push(CloseAsk {
                            lease: *lease,
                            used: units.len() as u64,
                            returned: Ranges::new(),
                        });
                        got.extend(units);
                    }
                }
                let end = Tick { asks: vec![], claims: vec![], closes, ..call };
                assert!(ledger.tick(&end).await.unwrap().refused.is_empty());
            }
            got
        });
    }
    let got: Vec<u64> = futures_util::future::join_all(running).await.into_iter().flatten().collect();
    let different: BTreeSet<u64> = got.iter().copied().collect();
    assert!(
        different.len() == got.len() && got.len() >= 20,
        "{} of {} are different; time stands still, so two seconds of slots are all there is",
        different.len(),
        got.len()
    );
    let row = &first.prizes(CampaignId(1)).await.unwrap()[0];
    assert_eq!((row.used, row.leased), (got.len() as u64, 0));
    let owners = first.buckets(None).await.unwrap();
    assert!(
        owners.len() == 8 && owners.iter().all(|bucket| bucket.term == 1),
        "each bucket was claimed once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_with_one_number_one_begins() {
    let Some(database) = FreshDatabase::new() else { return };
    let clock = ManualClock::new(OPEN_MS);
    let ledger = pg_ledger(&clock, &database).await;
    for epoch in 1..=3 {
        let all = (0..4).map(|_| ledger.begin_epoch(A, NodeEpoch(0)));
        let begun = futures_util::future::join_all(all).await;
        assert_eq!(begun.iter().filter(|b| **b == Ok(NodeEpoch(epoch))).count(), 1, "{begun:?}");
        assert!(begun.iter().all(|b| b.is_ok() || matches!(b, Err(EpochError::Begin(_)))), "{begun:?}");
        ledger.end_epoch(A, NodeEpoch(epoch), EndReason::BySelf).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_once_leave_the_newest_number() {
    let Some(database) = FreshDatabase::new() else { return };
    let clock = ManualClock::new(OPEN_MS);
    let ledger = pg_ledger(&clock, &database).await;
    registered(&ledger, 600).await;
    let lowering = (2..=9).map(|seq_no| ledger.lower(key(1), SeqNo(seq_no), 10));
    let done = futures_util::future::join_all(lowering).await;
    let cancelled: u64 = done.into_iter().map(|done| done.unwrap().cancelled).sum();
    ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap();
    let answer = ledger.tick(&tick(1, 1, 1)).await.unwrap();
    assert_eq!(answer.seq_nos, [(CampaignId(1), SeqNo(9))]);
    assert_eq!(ledger.prizes(CampaignId(1)).await.unwrap()[0].budget, 600 - cancelled);
}

#[tokio::test]
async fn time_is_the_servers() {
    let Some(database) = FreshDatabase::new() else { return };
    let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
    let ledger = PgLedger::open(pg, 0).await.unwrap();
    // A session lives for three seconds of the server's: once, this machine must get from a tick to the end in that time.
    for epoch in 1..=50 {
        ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap();
        let tick = Tick { asks: vec![], ..tick(epoch, 0, 0) };
        let now_ms = ledger.tick(&tick).await.unwrap().now_ms;
        let here_ms = SystemClock.now_ms();
        // The server of the tests runs on this machine.
        assert!(now_ms.abs_diff(here_ms) < 60_000, "{now_ms} and {here_ms}");
        let dead = ledger.dead_epochs().await.unwrap();
        match ledger.end_epoch(A, NodeEpoch(epoch), EndReason::Expired).await {
            Err(EpochError::End(_)) => {
                assert_eq!(dead, []);
                return;
            }
            other => assert_eq!(other, Ok(true)),
        }
    }
    panic!("whoever ticks has expired a moment later");
}

#[tokio::test]
async fn a_server_that_is_away_has_done_nothing() {
    let Some(database) = FreshDatabase::new() else { return };
    let between = Between::new(database.url());
    let options = PgOptions { acquire_timeout_ms: 5_000, ..PgOptions::patient(between.url()) };
    let ledger = PgLedger::open(Pg::open(options).await.unwrap(), 0).await.unwrap();
    drop(database);
    let error = ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap_err();
    assert!(matches!(error, EpochError::Store(StoreError::NotDone(_))), "{error}");
}
