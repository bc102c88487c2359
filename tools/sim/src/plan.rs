//! The campaign of a run: small, and different for each seed.

use crate::config::Config;
use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    CampaignId, Curve, Delivery, DistrictRange, Fen, Limits, MacKey, MacKeys, NodeId, Plan, Prize, PrizeId,
    PrizeKind, Region, Regions, Round, RoundId, SeedKey, SeqNo, Tranche, Vendor, VendorId,
};
use testkit::SimRng;

/// When the first round opens, ms UTC.
pub(crate) const OPEN_MS: u64 = 1_767_196_800_000;
/// Between two rounds, ms.
pub(crate) const GAP_MS: u64 = 2_000;
/// The campaign.
pub(crate) const CAMPAIGN: CampaignId = CampaignId(1);
/// The only node.
pub(crate) const NODE: NodeId = NodeId(1);
/// Term to claim a voucher, ms.
pub(crate) const TERM_MS: u64 = 6_000;
/// Pays cash at once.
pub(crate) const CASH_VENDOR: VendorId = VendorId(1);
/// Gives vouchers out on claim.
pub(crate) const VOUCHER_VENDOR: VendorId = VendorId(2);

/// Districts that players come from; 0 is not known.
pub(crate) const DISTRICTS: u64 = 10;

/// The key of round seeds.
pub(crate) fn seed_key() -> SeedKey {
    SeedKey { id: 1, key: [5; 32] }
}

/// The keys of award MACs.
pub(crate) fn mac_keys() -> MacKeys {
    // One key is not none.
    MacKeys::new(vec![mac_key()]).unwrap_or_else(|| unreachable!("a list with one key"))
}

/// The key of award MACs.
pub(crate) fn mac_key() -> MacKey {
    MacKey { id: 3, key: [7; 32] }
}

/// A tranche of lucky amounts with a mean of about four times the least.
pub(crate) fn tranche(rng: &mut SimRng, kind: PrizeKind, first: u64, units: u64) -> Tranche {
    if kind != PrizeKind::Cash {
        return Tranche { first, units, fen: Fen(0), min: Fen(0), max: Fen(0) };
    }
    let fen = units as i64 * (150 + rng.below(100) as i64);
    Tranche { first, units, fen: Fen(fen), min: Fen(50), max: Fen(900) }
}

/// Two regions that overlap more or less, with holes or without.
fn regions(rng: &mut SimRng) -> Vec<Region> {
    let mut region = |name: &str| {
        let districts = (1..DISTRICTS as u32).filter(|_| rng.below(3) > 0);
        let districts = districts.map(|d| DistrictRange { first: d, last: d }).collect();
        Region { name: name.to_owned(), districts }
    };
    vec![region("north"), region("coast")]
}

/// Most prizes can be won everywhere, some in one region or in either of two.
fn where_won(rng: &mut SimRng) -> Regions {
    if rng.below(3) > 0 { Regions::EVERYWHERE } else { Regions(1 + rng.below(3)) }
}

fn prize(rng: &mut SimRng, config: &Config, id: u32, kind: PrizeKind, delivery: Delivery) -> Prize {
    let units = 1 + rng.below(config.units);
    let length = config.round_ms - campaign::plan::CURVE_TAIL_MS;
    Prize {
        id: PrizeId(id),
        name: format!("prize {id}"),
        kind,
        weight: 1 + rng.below(4) as u32,
        vendor: if kind == PrizeKind::Cash { CASH_VENDOR } else { VOUCHER_VENDOR },
        delivery,
        curve: Curve::even(0, length),
        speed_max: 0,
        catch_up_percent: 200,
        regions: where_won(rng),
        paused: false,
        tranches: vec![tranche(rng, kind, 0, units)],
    }
}

/// The first plan of a run.
pub(crate) fn plan(rng: &mut SimRng, config: &Config) -> Plan {
    let limit = |rng: &mut SimRng, least: u64| (least + rng.below(3)) as u16;
    let limits = Limits {
        wins_round: limit(rng, 1),
        wins_day: limit(rng, 2),
        wins_campaign: limit(rng, 3),
        participation_ms: 0,
        interval_ms: 200 + 100 * rng.below(4) as u32,
        shakes_per_second: 5,
    };
    let rounds: Vec<Round> = (0..config.rounds)
        .map(|n| {
            let (id, open_ms) = (RoundId(n + 1), OPEN_MS + u64::from(n) * (config.round_ms + GAP_MS));
            let prizes = vec![
                prize(rng, config, 1, PrizeKind::Cash, Delivery::AtOnce),
                prize(rng, config, 2, PrizeKind::Voucher, Delivery::OnClaim { term_ms: TERM_MS }),
                prize(rng, config, 3, PrizeKind::Cash, Delivery::AtOnce),
            ];
            Round {
                id,
                name: format!("round {id}"),
                open_ms,
                close_ms: open_ms + config.round_ms,
                seed_key_id: seed_key().id,
                seed_commitment: seed_key().round_seed(CAMPAIGN, id).commitment(),
                prizes,
            }
        })
        .collect();
    // A new day begins in the middle of the campaign.
    let end_ms = rounds.last().map_or(OPEN_MS, |r| r.close_ms);
    let midnight = OPEN_MS + (end_ms - OPEN_MS) / 2 + rng.below(GAP_MS);
    let vendor = |id: VendorId| Vendor { id, name: format!("vendor {id}"), release_per_second: 0 };
    Plan {
        campaign: CAMPAIGN,
        seq_no: SeqNo(1),
        name: "simulated".to_owned(),
        source_sha256: [0; 32],
        time_zone: "UTC".to_owned(),
        days: vec![(0, 20_453), (midnight, 20_454), (midnight + 86_400_000, 20_455)],
        limits,
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: limits.interval_ms, submit_max_ms: 3_000 },
        rounds,
        regions: regions(rng),
        vendors: [CASH_VENDOR, VOUCHER_VENDOR].map(vendor).into(),
    }
}
