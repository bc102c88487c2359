//! Plans for tests.

use super::ground::Ground;
use campaign::curve::Curve;
use campaign::plan::{CURVE_TAIL_MS, ClientPacing, Stagger};
use campaign::{
    CampaignId, Delivery, Fen, Limits, Plan, Prize, PrizeId, PrizeKind, Regions, Round, RoundId, SeqNo,
    Tranche, Vendor, VendorId,
};
use futures_util::FutureExt as _;
use lottery::ledger::{MemoryLedger, PrizeReport, QuotaLedger as _};

/// One round with equal prizes of so many units each, a yuan and a half on average.
pub(super) fn plan(prizes: u32, units: u64, round_ms: u64) -> Plan {
    let open_ms = super::START_MS;
    let prize = |id: u32| Prize {
        id: PrizeId(id),
        name: format!("prize {id}"),
        kind: PrizeKind::Cash,
        weight: 1,
        vendor: VendorId(1),
        delivery: Delivery::AtOnce,
        curve: Curve::even(0, round_ms - CURVE_TAIL_MS),
        speed_max: 0,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: vec![Tranche {
            first: 0,
            units,
            fen: Fen(150 * units as i64),
            min: Fen(50),
            max: Fen(20_000),
        }],
    };
    let round = Round {
        id: RoundId(1),
        name: "round".into(),
        open_ms,
        close_ms: open_ms + round_ms,
        seed_key_id: 1,
        seed_commitment: [0; 32],
        prizes: (1..=prizes).map(prize).collect(),
    };
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(1),
        name: "test".into(),
        source_sha256: [0; 32],
        time_zone: "Asia/Shanghai".into(),
        days: vec![(open_ms - 20 * 3_600_000, 20_500)],
        limits: Limits { interval_ms: 1_000, shakes_per_second: 5, ..Limits::default() },
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1_000, submit_max_ms: 3_000 },
        rounds: vec![round],
        regions: Vec::new(),
        vendors: vec![Vendor { id: VendorId(1), name: "wallet".into(), release_per_second: 0 }],
    }
}

/// What a ledger says of a plan of which nothing was given out.
pub(super) fn ledger_of(ground: &Ground) -> Vec<PrizeReport> {
    let ledger = MemoryLedger::new(runtime::ManualClock::new(ground.from_ms));
    let registered = ledger.register(&ground.plan).now_or_never();
    assert!(registered.is_some_and(|r| r.is_ok()));
    ledger.prizes(ground.plan.campaign).now_or_never().unwrap().unwrap()
}
