//! The cases, one behaviour each.

use super::{OPEN_MS, Sketch, key, plan, raise};
use crate::ledger::port::*;
use crate::ledger::rows::{ClosedBy, LeaseKey};
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, Ranges, SeqNo, Slot};
use ownership::{ClaimBucket, EndReason, LaneEnd, SealBucket, SessionError};
use records::LeaseRange;
use runtime::ManualClock;

type Ledger<'a> = &'a dyn QuotaLedger;
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn ask(lease: u64, prize: u32, units: u32) -> GrantAsk {
    GrantAsk { lease: LeaseId(lease), prize: key(prize), units }
}

fn close(lease: u64, used: u64, returned: Ranges) -> CloseAsk {
    CloseAsk { lease: LeaseId(lease), used, returned }
}

fn tick(node: NodeId, epoch: u32) -> Tick {
    Tick { node, epoch: NodeEpoch(epoch), ..Tick::default() }
}

fn asking(node: NodeId, epoch: u32, asks: Vec<GrantAsk>) -> Tick {
    Tick { asks, ..tick(node, epoch) }
}

fn granted(answer: &TickAnswer, at: usize) -> Vec<LeaseRange> {
    match &answer.grants[at].1 {
        GrantAnswer::Granted { ranges, .. } => ranges.clone(),
        other => panic!("nothing granted: {other:?}"),
    }
}

fn numbers(ranges: &[LeaseRange]) -> Ranges {
    ranges.iter().flat_map(|r| r.units.first..r.units.end()).collect()
}

/// One prize of 600 units in 63 s (one a slot), node A in epoch 1, 2 s into the round.
async fn begun(ledger: Ledger<'_>, clock: &ManualClock) {
    ledger.register(&plan(1, 63_000, &[Sketch(1, 600, 1, 0)], &[(1, 0)])).await.unwrap();
    assert_eq!(ledger.begin_epoch(A, NodeEpoch(0)).await, Ok(NodeEpoch(1)));
    clock.advance_ms(2_000);
}

pub async fn a_repeated_tick_changes_nothing(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let claims = vec![ClaimBucket { bucket: 5, term: 0 }];
    let call = Tick { claims, ..asking(A, 1, vec![ask(1, 1, 10)]) };
    let first = ledger.tick(&call).await.unwrap();
    assert_eq!(first.now_ms, OPEN_MS + 2_000);
    assert_eq!(numbers(&granted(&first, 0)), Ranges::one(0, 10));
    assert_eq!(first.seq_nos, [(CampaignId(1), SeqNo(1))]);
    let prizes = ledger.prizes(CampaignId(1)).await;
    assert_eq!(ledger.tick(&call).await, Ok(first));
    assert_eq!(ledger.prizes(CampaignId(1)).await, prizes);
    let end = Tick { closes: vec![close(1, 7, Ranges::one(7, 3))], low_water: 4, ..tick(A, 1) };
    let first = ledger.tick(&end).await.unwrap();
    assert_eq!((first.closed.clone(), first.low_water), (vec![LeaseId(1)], 4));
    let prizes = ledger.prizes(CampaignId(1)).await;
    assert_eq!(ledger.tick(&end).await, Ok(first));
    assert_eq!(ledger.prizes(CampaignId(1)).await, prizes);
    let row = &prizes.unwrap()[0];
    assert_eq!((row.used, row.leased, row.returned.clone()), (7, 0, Ranges::one(7, 3)));
}

pub async fn a_closed_lease_grants_no_more(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let call = asking(A, 1, vec![ask(1, 1, 10)]);
    let got = ledger.tick(&call).await.unwrap();
    assert_eq!(got.open, [LeaseId(1)]);
    let end = Tick { closes: vec![close(1, 0, Ranges::one(0, 10))], ..tick(A, 1) };
    ledger.tick(&end).await.unwrap();
    let late = ledger.tick(&call).await.unwrap();
    assert_eq!((late.grants, late.open), (vec![(LeaseId(1), GrantAnswer::Closed)], vec![]));
    let next = ledger.tick(&asking(A, 1, vec![ask(2, 1, 4)])).await.unwrap();
    assert_eq!(numbers(&granted(&next, 0)), Ranges::one(0, 4), "what came back goes out first");
}

pub async fn closes_must_be_the_lease(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 10)])).await.unwrap();
    let before = ledger.prizes(CampaignId(1)).await;
    for (used, returned, why) in [
        (9, Ranges::one(8, 3), CloseRefused::NotInLease { unit: 10 }),
        (5, Ranges::one(0, 3), CloseRefused::Sum { used: 5, returned: 3, units: 10 }),
        (u64::MAX, Ranges::one(0, 1), CloseRefused::Sum { used: u64::MAX, returned: 1, units: 10 }),
    ] {
        let call = Tick { closes: vec![close(1, used, returned)], ..tick(A, 1) };
        let answer = ledger.tick(&call).await.unwrap();
        assert_eq!((answer.refused, answer.open), (vec![(LeaseId(1), why)], vec![LeaseId(1)]));
    }
    assert_eq!(ledger.prizes(CampaignId(1)).await, before);
}

pub async fn an_ended_epoch_changes_nothing(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 10)])).await.unwrap();
    let early = ledger.end_epoch(A, NodeEpoch(1), EndReason::Expired).await;
    assert!(matches!(early, Err(EpochError::End(_))), "{early:?}");
    assert!(ledger.begin_epoch(A, NodeEpoch(0)).await.is_err());
    clock.advance_ms(3_000);
    assert_eq!(ledger.dead_epochs().await.unwrap().len(), 1);
    assert_eq!(ledger.unsettled().await, Ok(vec![]), "it is open");
    assert_eq!(ledger.end_epoch(A, NodeEpoch(1), EndReason::Expired).await, Ok(true));
    assert_eq!(ledger.end_epoch(A, NodeEpoch(1), EndReason::BySelf).await, Ok(false));
    let before = (ledger.prizes(CampaignId(1)).await, ledger.epochs(A).await);
    let call = Tick {
        closes: vec![close(1, 10, Ranges::new())],
        low_water: 9,
        claims: vec![ClaimBucket { bucket: 1, term: 0 }],
        ..asking(A, 1, vec![ask(2, 1, 10)])
    };
    let ended = TickError::Session(SessionError::EpochEnded { node: 1, epoch: 1 });
    assert_eq!(ledger.tick(&call).await, Err(ended));
    assert_eq!((ledger.prizes(CampaignId(1)).await, ledger.epochs(A).await), before);
    assert_eq!(ledger.buckets(None).await, Ok(vec![]));
    assert_eq!(ledger.begin_epoch(A, NodeEpoch(6)).await, Ok(NodeEpoch(7)));
}

pub async fn the_settlement_gives_back_the_rest(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let claims = vec![ClaimBucket { bucket: 3, term: 0 }];
    ledger.tick(&Tick { claims, ..asking(A, 1, vec![ask(1, 1, 10)]) }).await.unwrap();
    let lease = LeaseKey { node: A, epoch: NodeEpoch(1), lease: LeaseId(1) };
    let used: Ranges = [2, 3, 7].into_iter().collect();
    let open = SettleError::EpochOpen { node: A, epoch: NodeEpoch(1) };
    assert_eq!(ledger.settle(lease, &used).await, Err(open));
    ledger.end_epoch(A, NodeEpoch(1), EndReason::BySelf).await.unwrap();
    let unmarked = SettleError::NoEndPosition { node: A, epoch: NodeEpoch(1) };
    assert_eq!(ledger.settle(lease, &used).await, Err(unmarked));
    let left = async || ledger.unsettled().await.unwrap().iter().map(|n| n.epoch).collect::<Vec<_>>();
    assert_eq!(left().await, [1]);
    // The mark of a later epoch covers this one too.
    ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap();
    ledger.end_epoch(A, NodeEpoch(2), EndReason::BySelf).await.unwrap();
    assert_eq!(left().await, [1, 2]);
    assert_eq!(ledger.record_end_position(A, NodeEpoch(2), 20).await, Ok(20));
    assert_eq!(left().await, [1], "its lease is open");
    assert_eq!(ledger.record_end_position(A, NodeEpoch(2), 30).await, Ok(20));
    let wrong = ledger.settle(lease, &Ranges::one(9, 2)).await;
    assert_eq!(wrong, Err(SettleError::NotInLease { unit: 10 }));
    let back: Ranges = [0, 1, 4, 5, 6, 8, 9].into_iter().collect();
    let settled = ledger.settle(lease, &used).await;
    assert_eq!(settled, Ok(Settled { returned: back.clone(), already: false }));
    let again = ledger.settle(lease, &Ranges::new()).await;
    assert_eq!(again, Ok(Settled { returned: back.clone(), already: true }));
    assert_eq!(ledger.open_leases(A).await, Ok(vec![]));
    assert_eq!(left().await, [0u32; 0]);
    let row = &ledger.prizes(CampaignId(1)).await.unwrap()[0];
    assert_eq!((row.used, row.leased, row.returned.clone()), (3, 0, back));
    let rows = ledger.leases(CampaignId(1), None, 10).await.unwrap();
    assert_eq!(rows[0].closed.as_ref().map(|c| (c.by, c.used)), Some((ClosedBy::Settlement, 3)));
    // Its bucket is free, and whoever takes it waits for the mark.
    ledger.begin_epoch(B, NodeEpoch(0)).await.unwrap();
    let claim = Tick { claims: vec![ClaimBucket { bucket: 3, term: 1 }], ..tick(B, 1) };
    let got = ledger.tick(&claim).await.unwrap();
    assert_eq!(got.claimed[0].wait_for, [LaneEnd { lane: 1, position: 20 }]);
}

pub async fn the_low_water_waits_for_older_epochs(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    ledger.tick(&Tick { low_water: 5, ..asking(A, 1, vec![ask(1, 1, 2)]) }).await.unwrap();
    ledger.end_epoch(A, NodeEpoch(1), EndReason::BySelf).await.unwrap();
    assert_eq!(ledger.begin_epoch(A, NodeEpoch(0)).await, Ok(NodeEpoch(2)));
    let call = Tick { low_water: 50, ..tick(A, 2) };
    assert_eq!(ledger.tick(&call).await.unwrap().low_water, 5);
    ledger.record_end_position(A, NodeEpoch(1), 40).await.unwrap();
    let lease = LeaseKey { node: A, epoch: NodeEpoch(1), lease: LeaseId(1) };
    ledger.settle(lease, &Ranges::new()).await.unwrap();
    assert_eq!(ledger.tick(&call).await.unwrap().low_water, 50);
    assert_eq!(ledger.tick(&tick(A, 2)).await.unwrap().low_water, 50, "it never moves back");
}

pub async fn budgets_are_raised_and_lowered_in_whole_units(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 10)])).await.unwrap();
    let low = ledger.lower(key(1), SeqNo(2), 100).await.unwrap();
    assert_eq!((low.cancelled, low.budget.units, low.budget.made, low.budget.applied), (100, 500, 600, true));
    let again = ledger.lower(key(1), SeqNo(2), 100).await.unwrap();
    assert_eq!((again.cancelled, again.budget.units, again.budget.applied), (0, 500, false));
    let mut raised = plan(2, 63_000, &[Sketch(1, 600, 1, 0)], &[(1, 0)]);
    let same = ledger.register(&raised).await.unwrap();
    assert_eq!((same.prizes[0].units, same.prizes[0].applied), (500, true), "the plan of the lowering");
    raised.seq_no = SeqNo(3);
    raise(&mut raised, 1, 50);
    let up = ledger.register(&raised).await.unwrap();
    assert_eq!((up.prizes[0].units, up.prizes[0].made), (550, 650));
    let again = ledger.register(&raised).await.unwrap();
    assert_eq!((again.prizes[0].units, again.prizes[0].applied, again.seq_no), (550, false, SeqNo(3)));
    let old = ledger.register(&plan(1, 63_000, &[Sketch(1, 600, 1, 0)], &[])).await.unwrap();
    assert_eq!((old.prizes[0].units, old.prizes[0].applied), (550, false));
    let row = &ledger.prizes(CampaignId(1)).await.unwrap()[0];
    assert_eq!(row.cancelled, Ranges::one(500, 100));
    // Never below what is out; what is out is wanted back.
    let all = ledger.lower(key(1), SeqNo(4), 10_000).await.unwrap();
    assert_eq!((all.cancelled, all.budget.units), (540, 10));
    let answer = ledger.tick(&tick(A, 1)).await.unwrap();
    assert_eq!((answer.send_back, answer.seq_nos), (vec![LeaseId(1)], vec![(CampaignId(1), SeqNo(4))]));
    let missing = ledger.lower(key(9), SeqNo(5), 1).await;
    assert_eq!(missing, Err(ChangeError::Unknown(key(9))));
}

pub async fn contradicting_tranches_are_refused(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let before = ledger.prizes(CampaignId(1)).await;
    let longer = plan(2, 63_000, &[Sketch(1, 601, 1, 0)], &[]);
    assert!(matches!(ledger.register(&longer).await, Err(ChangeError::Edited { made: 600, .. })));
    let mut gap = plan(2, 63_000, &[Sketch(1, 600, 1, 0)], &[]);
    raise(&mut gap, 1, 5);
    gap.rounds[0].prizes[0].tranches[1].first = 700;
    assert!(matches!(ledger.register(&gap).await, Err(ChangeError::Gap { first: 700, next: 600, .. })));
    let huge = plan(2, 63_000, &[Sketch(1, 600, 1, 0), Sketch(2, u64::MAX, 1, 0)], &[]);
    assert!(matches!(ledger.register(&huge).await, Err(ChangeError::TooLarge { .. })));
    assert_eq!(ledger.prizes(CampaignId(1)).await, before);
    assert_eq!(ledger.tick(&tick(A, 1)).await.unwrap().seq_nos, [(CampaignId(1), SeqNo(1))]);
}

pub async fn a_pause_stops_the_curve(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 5)])).await.unwrap();
    clock.advance_ms(28_000);
    assert!(ledger.pause(key(1), SeqNo(2)).await.unwrap().paused);
    let answer = ledger.tick(&asking(A, 1, vec![ask(2, 1, 5)])).await.unwrap();
    assert!(matches!(answer.grants[0].1, GrantAnswer::Nothing { why: Nothing::Paused, .. }));
    assert_eq!(answer.send_back, [LeaseId(1)]);
    clock.advance_ms(15_000);
    let row = |rows: Vec<PrizeReport>| rows[0].released;
    assert_eq!(row(ledger.prizes(CampaignId(1)).await.unwrap()), 300);
    assert!(!ledger.resume(key(1), SeqNo(3)).await.unwrap().paused);
    assert!(!ledger.pause(key(1), SeqNo(2)).await.unwrap().paused, "an old copy of the pause");
    clock.advance_ms(7_500);
    assert_eq!(row(ledger.prizes(CampaignId(1)).await.unwrap()), 450, "half of the rest in half of the time");
    let answer = ledger.tick(&asking(A, 1, vec![ask(2, 1, 5)])).await.unwrap();
    assert_eq!(numbers(&granted(&answer, 0)).len(), 5);
}

pub async fn a_plan_pauses_and_resumes(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let with = |seq_no, paused| {
        let mut plan = plan(seq_no, 63_000, &[Sketch(1, 600, 1, 0)], &[]);
        plan.rounds[0].prizes[0].paused = paused;
        plan
    };
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 5)])).await.unwrap();
    ledger.pause(key(1), SeqNo(2)).await.unwrap();
    ledger.register(&with(2, true)).await.unwrap();
    let answer = ledger.tick(&asking(A, 1, vec![ask(2, 1, 5)])).await.unwrap();
    assert!(matches!(answer.grants[0].1, GrantAnswer::Nothing { why: Nothing::Paused, .. }));
    ledger.register(&with(3, false)).await.unwrap();
    assert!(!ledger.prizes(CampaignId(1)).await.unwrap()[0].paused, "the newer plan lets it go on");
    ledger.register(&with(2, true)).await.unwrap();
    assert!(!ledger.prizes(CampaignId(1)).await.unwrap()[0].paused, "an old plan does not stop it again");
    ledger.register(&with(4, true)).await.unwrap();
    let answer = ledger.tick(&asking(A, 1, vec![ask(2, 1, 5)])).await.unwrap();
    assert!(matches!(answer.grants[0].1, GrantAnswer::Nothing { why: Nothing::Paused, .. }));
    assert_eq!(answer.send_back, [LeaseId(1)]);
}

pub async fn a_raise_behind_a_pause_counts(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let mut raised = plan(2, 63_000, &[Sketch(1, 600, 1, 0)], &[]);
    raise(&mut raised, 1, 50);
    // Accepted before the pause, and told to the ledger behind it; the pause's own version never came.
    ledger.pause(key(1), SeqNo(3)).await.unwrap();
    let done = ledger.register(&raised).await.unwrap();
    assert_eq!((done.prizes[0].units, done.prizes[0].applied), (650, true));
    assert!(ledger.prizes(CampaignId(1)).await.unwrap()[0].paused, "the pause is the newer word");
    ledger.pause(key(1), SeqNo(3)).await.unwrap();
    assert!(!ledger.register(&raised).await.unwrap().prizes[0].applied);
    let mut resumed = raised.clone();
    resumed.seq_no = SeqNo(4);
    ledger.register(&resumed).await.unwrap();
    let report = ledger.prizes(CampaignId(1)).await.unwrap();
    assert_eq!((report[0].paused, report[0].budget), (false, 650));
}

pub async fn all_buckets_move_at_once(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let claims = |term| (0..4096).map(|bucket| ClaimBucket { bucket, term }).collect::<Vec<_>>();
    let got = ledger.tick(&Tick { claims: claims(0), ..tick(A, 1) }).await.unwrap();
    assert_eq!((got.claimed.len(), got.claims_refused.len()), (4096, 0));
    ledger.begin_epoch(B, NodeEpoch(0)).await.unwrap();
    let none = ledger.tick(&Tick { claims: claims(0), ..tick(B, 1) }).await.unwrap();
    assert_eq!((none.claimed.len(), none.claims_refused.len()), (0, 4096));
    assert_eq!((none.claims_refused[7].term, none.claims_refused[7].owner), (1, Some((1, 1))));
    let seals = vec![SealBucket { bucket: 7, term: 1, position: 12 }];
    let sealed = ledger.tick(&Tick { seals: seals.clone(), ..tick(A, 1) }).await.unwrap();
    assert_eq!(sealed.sealed, [7]);
    let claim = Tick { claims: vec![ClaimBucket { bucket: 7, term: 1 }], ..tick(B, 1) };
    let got = ledger.tick(&claim).await.unwrap();
    assert_eq!(
        (got.claimed[0].term, got.claimed[0].wait_for.clone()),
        (2, vec![LaneEnd { lane: 1, position: 12 }])
    );
    let late = ledger.tick(&Tick { seals, ..tick(A, 1) }).await.unwrap();
    assert_eq!(late.sealed, [0u16; 0], "an old copy of the seal");
    // The node restarts: its epoch is ended, its mark recorded, and it takes its buckets again.
    ledger.end_epoch(A, NodeEpoch(1), EndReason::BySelf).await.unwrap();
    ledger.record_end_position(A, NodeEpoch(1), 33).await.unwrap();
    ledger.begin_epoch(A, NodeEpoch(0)).await.unwrap();
    let mine = ledger.buckets(Some(A)).await.unwrap();
    assert!(mine.len() == 4095 && mine.iter().all(|b| b.is_free()));
    let claims = mine.iter().map(|b| ClaimBucket { bucket: b.bucket, term: b.term }).collect();
    let got = ledger.tick(&Tick { claims, ..tick(A, 2) }).await.unwrap();
    assert_eq!(got.claimed.len(), 4095);
    assert!(got.claimed.iter().all(|c| c.term == 2 && c.wait_for == [LaneEnd { lane: 1, position: 33 }]));
}

pub async fn a_node_holds_two_leases_a_prize(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let got = ledger.tick(&asking(A, 1, vec![ask(1, 1, 1), ask(2, 1, 1), ask(3, 1, 1)])).await.unwrap();
    assert_eq!(numbers(&granted(&got, 1)), Ranges::one(1, 1));
    assert!(matches!(got.grants[2].1, GrantAnswer::Nothing { why: Nothing::TwoLeases, .. }));
    let after = Tick { closes: vec![close(1, 1, Ranges::new())], ..asking(A, 1, vec![ask(3, 1, 1)]) };
    assert_eq!(numbers(&granted(&ledger.tick(&after).await.unwrap(), 0)), Ranges::one(2, 1));
}

/// Two nodes take turns from a second before the end on, and each uses up what it got: nothing is left when grants end.
pub async fn the_last_grants_leave_nothing(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    clock.advance_ms(60_000);
    ledger.end_epoch(A, NodeEpoch(1), EndReason::Expired).await.unwrap();
    ledger.record_end_position(A, NodeEpoch(1), 0).await.unwrap();
    let mut epochs = [(A, NodeEpoch(0)), (B, NodeEpoch(0))];
    for (node, epoch) in &mut epochs {
        *epoch = ledger.begin_epoch(*node, NodeEpoch(0)).await.unwrap();
    }
    let mut given = 0;
    for (turn, (node, epoch)) in (1..=7).zip(epochs.into_iter().cycle()) {
        let got = ledger.tick(&asking(node, epoch.0, vec![ask(turn, 1, 1_000_000)])).await.unwrap();
        if let Some((_, GrantAnswer::Granted { ranges, .. })) = got.grants.first() {
            let units = numbers(ranges);
            given += units.len();
            let used = vec![close(turn, units.len(), Ranges::new())];
            ledger.tick(&Tick { closes: used, ..tick(node, epoch.0) }).await.unwrap();
        }
        clock.advance_ms(100);
    }
    let row = &ledger.prizes(CampaignId(1)).await.unwrap()[0];
    assert_eq!((given, row.used), (600, 600));
}

pub async fn bad_calls_are_refused(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    let unknown = TickError::Session(SessionError::EpochUnknown { node: 1, epoch: 9 });
    assert_eq!(ledger.tick(&tick(A, 9)).await, Err(unknown));
    let many = asking(A, 1, vec![ask(1, 1, 1); TICK_LEASES_MAX + 1]);
    assert!(matches!(ledger.tick(&many).await, Err(TickError::TooMany { .. })));
    let bucket = Tick { claims: vec![ClaimBucket { bucket: 4096, term: 0 }], ..tick(A, 1) };
    assert_eq!(ledger.tick(&bucket).await, Err(TickError::NoSuchBucket(4096)));
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 1)])).await.unwrap();
    let before = ledger.epochs(A).await;
    clock.advance_ms(10);
    let reused = ledger.tick(&asking(A, 1, vec![ask(1, 2, 1)])).await;
    assert_eq!(reused, Err(TickError::LeaseReused { lease: LeaseId(1), prize: key(1) }));
    assert_eq!(ledger.epochs(A).await, before, "a refused call renews nothing");
    let none = ledger.tick(&asking(A, 1, vec![ask(2, 8, 1)])).await.unwrap();
    assert!(matches!(none.grants[0].1, GrantAnswer::Nothing { why: Nothing::Unknown, .. }));
    let lease = LeaseKey { node: B, epoch: NodeEpoch(1), lease: LeaseId(1) };
    assert_eq!(ledger.settle(lease, &Ranges::new()).await, Err(SettleError::Unknown(lease)));
    assert!(ledger.begin_epoch(NodeId(5000), NodeEpoch(0)).await.is_err());
    assert!(ledger.record_end_position(B, NodeEpoch(1), 0).await.is_err());
}

pub async fn closed_leases_are_forgotten_late(ledger: Ledger<'_>, clock: &ManualClock) {
    begun(ledger, clock).await;
    ledger.tick(&asking(A, 1, vec![ask(1, 1, 1), ask(2, 1, 1)])).await.unwrap();
    ledger.tick(&Tick { closes: vec![close(1, 1, Ranges::new())], ..tick(A, 1) }).await.unwrap();
    clock.advance_ms(61_000 - 300);
    let over = ledger.tick(&asking(A, 1, vec![ask(3, 1, 1)])).await.unwrap();
    let nothing = GrantAnswer::Nothing { why: Nothing::Over, again: Slot(u64::MAX) };
    assert_eq!((over.grants[0].1.clone(), over.send_back), (nothing, vec![]));
    clock.advance_ms(300);
    assert_eq!(ledger.tick(&tick(A, 1)).await.unwrap().send_back, [LeaseId(2)]);
    clock.advance_ms(3_599_999);
    assert_eq!(ledger.prune().await, Ok(0));
    clock.advance_ms(1);
    assert_eq!(ledger.prune().await, Ok(1));
    let left = ledger.leases(CampaignId(1), None, 10).await.unwrap();
    assert_eq!(left.iter().map(|l| l.key.lease).collect::<Vec<_>>(), [LeaseId(2)], "open ones stay");
    let late = Tick { closes: vec![close(1, 1, Ranges::new())], ..tick(A, 1) };
    assert_eq!(ledger.tick(&late).await.unwrap().closed, [LeaseId(1)]);
}
