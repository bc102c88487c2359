//! Awards, plans and events to test with.

use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    AwardId, CampaignId, Curve, Delivery, Fen, LeaseId, Limits, MacKey, MacKeys, NodeEpoch, NodeId, Plan,
    Prize, PrizeId, PrizeKind, Regions, Round, RoundId, SeqNo, UserId, VendorId,
};
use flow::core::{AwardRow, Doubt, LaneBatch, PlanSet};
use records::{DeliveryEvent, DeliveryState, OrderKind, Record, Won};

pub const TERM_MS: u64 = 1_000_000;

pub fn keys() -> MacKeys {
    MacKeys::new(vec![MacKey { id: 3, key: [7; 32] }]).unwrap()
}

/// Prize 1: cash at once by vendor 5. Prize 2: a voucher on claim by vendor 6.
pub fn plan() -> Plan {
    let prize = |id: u32, kind, vendor, delivery| Prize {
        id: PrizeId(id),
        name: format!("prize {id}"),
        kind,
        weight: 1,
        vendor: VendorId(vendor),
        delivery,
        curve: Curve::even(0, 57_000),
        speed_max: 0,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: Vec::new(),
    };
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(2),
        name: "test".to_owned(),
        source_sha256: [0; 32],
        time_zone: "Asia/Shanghai".to_owned(),
        days: vec![(0, 0)],
        limits: Limits::default(),
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1_000, submit_max_ms: 3_000 },
        rounds: vec![Round {
            id: RoundId(4),
            name: "round".to_owned(),
            open_ms: 0,
            close_ms: 60_000,
            seed_key_id: 1,
            seed_commitment: [0; 32],
            prizes: vec![
                prize(1, PrizeKind::Cash, 5, Delivery::AtOnce),
                prize(2, PrizeKind::Voucher, 6, Delivery::OnClaim { term_ms: TERM_MS }),
            ],
        }],
        regions: Vec::new(),
        vendors: Vec::new(),
    }
}

pub fn plans() -> PlanSet {
    let plans = PlanSet::new();
    plans.insert(&plan());
    plans
}

/// An award as node 1 makes it in the given epoch.
pub fn won(epoch: u32, sequence: u64, user: u64, prize: u32, unit: u64) -> Won {
    let time_ms = 1_000 + sequence;
    let mut won = Won {
        award: AwardId::new(time_ms, NodeId(1), NodeEpoch(epoch), sequence),
        campaign: CampaignId(1),
        round: RoundId(4),
        day: 20_000,
        user: UserId(user),
        counter: 1,
        try_no: 1,
        district: (user % 3) as u32,
        prize: PrizeId(prize),
        unit,
        fen: Fen(100 + (unit % 50) as i64),
        lease: LeaseId(1),
        seq_no: SeqNo(1),
        held: 0,
        time_ms,
        shakes: 3,
        mac_key: 0,
        mac: [0; 16],
    };
    sign(&mut won);
    won
}

pub fn sign(won: &mut Won) {
    won.mac_key = keys().newest().id;
    won.mac = keys().newest().mac(&won.facts());
}

pub fn row(won: Won) -> AwardRow {
    let (vendor, prize_kind, order, lapse_ms) = match won.prize.0 {
        1 => (5, PrizeKind::Cash, OrderKind::AtOnce, 0),
        _ => (6, PrizeKind::Voucher, OrderKind::OnClaim, won.time_ms + TERM_MS),
    };
    AwardRow { won, vendor: VendorId(vendor), prize_kind, order, lapse_ms, doubt: Doubt::None }
}

pub fn batch(from: u64, next: u64, awards: Vec<AwardRow>) -> LaneBatch {
    LaneBatch {
        node: NodeId(1),
        from,
        next,
        epoch: NodeEpoch(1),
        awards,
        marks: Vec::new(),
        alarms: Vec::new(),
        ignored: 0,
    }
}

pub fn event(won: &Won, step: u32, state: DeliveryState, at_ms: u64) -> DeliveryEvent {
    DeliveryEvent {
        award: won.award,
        step,
        state,
        generation: 0,
        attempt: 0,
        at_ms,
        due_ms: 0,
        vendor: row(*won).vendor,
        user: won.user,
        campaign: won.campaign,
        round: won.round,
        prize: won.prize,
        fen: won.fen,
    }
}

pub fn bytes<R: Record>(record: &R) -> Vec<u8> {
    record.encode()
}
