//! What every adapter of [`QuotaLedger`](super::QuotaLedger) must do. One list of cases, run against each; generated
//! sequences of calls, answered alike by all; and the laws of money over such sequences.

mod cases;
mod laws;
mod pg;
mod world;

use super::rows::PrizeKey;
use super::{MemoryLedger, PgLedger, QuotaLedger, SqlLedger};
use campaign::plan::{CURVE_TAIL_MS, ClientPacing, Stagger};
use campaign::{
    CampaignId, Curve, Delivery, Fen, Limits, Plan, Prize, PrizeId, PrizeKind, Regions, Round, RoundId,
    SeqNo, Tranche, Vendor, VendorId,
};
use runtime::ManualClock;
use std::future::Future;
use std::sync::Arc;
use storage::pg::{Pg, PgOptions};
use storage::{Sql, SqlOptions};
use testkit::servers::FreshDatabase;

/// Opening of the round in these tests.
pub const OPEN_MS: u64 = 1_700_000_000_000;

/// What a prize of a test has: id, units, vendor, highest speed.
pub struct Sketch(pub u32, pub u64, pub u32, pub u64);

/// The key of a prize of round 1 of campaign 1.
pub fn key(prize: u32) -> PrizeKey {
    PrizeKey { campaign: CampaignId(1), round: RoundId(1), prize: PrizeId(prize) }
}

/// A plan with one round of `length_ms`, even curves and a catch-up of 200 %.
pub fn plan(seq_no: u64, length_ms: u64, prizes: &[Sketch], vendors: &[(u32, u64)]) -> Plan {
    let prize = |Sketch(id, units, vendor, speed_max): &Sketch| Prize {
        id: PrizeId(*id),
        name: format!("prize {id}"),
        kind: PrizeKind::Cash,
        weight: 1,
        vendor: VendorId(*vendor),
        delivery: Delivery::AtOnce,
        curve: Curve::even(0, length_ms - CURVE_TAIL_MS),
        speed_max: *speed_max,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: vec![Tranche { first: 0, units: *units, fen: Fen(0), min: Fen(0), max: Fen(0) }],
    };
    let vendor = |&(id, release_per_second): &(u32, u64)| Vendor {
        id: VendorId(id),
        name: format!("vendor {id}"),
        release_per_second,
    };
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(seq_no),
        name: "test".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![(0, 0)],
        limits: Limits::default(),
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1_000, submit_max_ms: 2_000 },
        rounds: vec![Round {
            id: RoundId(1),
            name: "round".into(),
            open_ms: OPEN_MS,
            close_ms: OPEN_MS + length_ms,
            seed_key_id: 1,
            seed_commitment: [0; 32],
            prizes: prizes.iter().map(prize).collect(),
        }],
        regions: Vec::new(),
        vendors: vendors.iter().map(vendor).collect(),
    }
}

/// Adds a tranche to the first prize with this id.
pub fn raise(plan: &mut Plan, prize: u32, units: u64) {
    for p in plan.rounds[0].prizes.iter_mut().filter(|p| p.id.0 == prize) {
        let first = p.units();
        p.tranches.push(Tranche { first, units, fen: Fen(0), min: Fen(0), max: Fen(0) });
    }
}

/// Runs a test to its end on one thread.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// An SQL ledger in a folder of its own.
pub async fn sql_ledger(clock: &Arc<ManualClock>, folder: &tempfile::TempDir) -> SqlLedger {
    let sql = Sql::open(&folder.path().join("ledger.db"), SqlOptions::patient()).await.unwrap();
    SqlLedger::open(sql, clock.clone()).await.unwrap()
}

/// A ledger in a PostgreSQL database of its own, with time that stands still until the test moves it.
pub async fn pg_ledger(clock: &Arc<ManualClock>, database: &FreshDatabase) -> PgLedger {
    // Patient, so that a slow machine changes nothing.
    let options = PgOptions {
        connections_max: 4,
        acquire_timeout_ms: 30_000,
        lock_timeout_ms: 30_000,
        statement_timeout_ms: 60_000,
        ..PgOptions::patient(database.url())
    };
    PgLedger::open_with_clock(Pg::open(options).await.unwrap(), clock.clone()).await.unwrap()
}

macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $case() {
                let clock = super::ManualClock::new(super::OPEN_MS);
                super::run(super::cases::$case(&super::MemoryLedger::new(clock.clone()), &clock));
            })*
        }
        mod sql {
            $(#[test] fn $case() {
                let clock = super::ManualClock::new(super::OPEN_MS);
                let folder = tempfile::tempdir().unwrap();
                super::run(async { super::cases::$case(&super::sql_ledger(&clock, &folder).await, &clock).await });
            })*
        }
        mod postgres {
            $(#[test] fn $case() {
                let clock = super::ManualClock::new(super::OPEN_MS);
                let Some(database) = super::FreshDatabase::new() else { return };
                super::run(async { super::cases::$case(&super::pg_ledger(&clock, &database).await, &clock).await });
            })*
        }
    };
}

conformance!(
    a_repeated_tick_changes_nothing,
    a_closed_lease_grants_no_more,
    closes_must_be_the_lease,
    an_ended_epoch_changes_nothing,
    the_settlement_gives_back_the_rest,
    the_low_water_waits_for_older_epochs,
    budgets_are_raised_and_lowered_in_whole_units,
    contradicting_tranches_are_refused,
    a_pause_stops_the_curve,
    a_plan_pauses_and_resumes,
    a_raise_behind_a_pause_counts,
    all_buckets_move_at_once,
    a_node_holds_two_leases_a_prize,
    the_last_grants_leave_nothing,
    bad_calls_are_refused,
    closed_leases_are_forgotten_late,
);

#[test]
fn sql_keeps_everything_over_a_restart() {
    let clock = ManualClock::new(OPEN_MS);
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let first = sql_ledger(&clock, &folder).await;
        cases::the_settlement_gives_back_the_rest(&first, &clock).await;
        let campaign = CampaignId(1);
        let before = (
            first.prizes(campaign).await,
            first.leases(campaign, None, 100).await,
            first.buckets(None).await,
        );
        drop(first);
        let second = sql_ledger(&clock, &folder).await;
        let after = (
            second.prizes(campaign).await,
            second.leases(campaign, None, 100).await,
            second.buckets(None).await,
        );
        assert_eq!(before, after);
    });
}
