//! Small worlds for the core's tests.

use super::{Core, CoreConfig, NoWin, Pending, WinLog};
use campaign::curve::Curve;
use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    CampaignId, Delivery, Fen, Limits, MacKey, MacKeys, NodeEpoch, NodeId, Plan, Prize, PrizeId, PrizeKind,
    Regions, Round, RoundId, SeedKey, SeqNo, Tranche, Vendor, VendorId,
};
use parking_lot::Mutex;
use records::Won;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub fn seed_key() -> SeedKey {
    SeedKey { id: 1, key: [1; 32] }
}

/// A round from 100 s to 160 s with prizes (id, weight, units) of one yuan.
pub fn round(prizes: &[(u32, u32, u64)]) -> Round {
    let prize = |&(id, weight, units): &(u32, u32, u64)| Prize {
        id: PrizeId(id),
        name: format!("prize {id}"),
        kind: PrizeKind::Cash,
        weight,
        vendor: VendorId(1),
        delivery: Delivery::AtOnce,
        curve: Curve::even(0, 57_000),
        speed_max: 0,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: vec![Tranche {
            first: 0,
            units,
            fen: Fen(100 * units as i64),
            min: Fen(100),
            max: Fen(100),
        }],
    };
    let id = RoundId(1);
    Round {
        id,
        name: "one".into(),
        open_ms: 100_000,
        close_ms: 160_000,
        seed_key_id: 1,
        seed_commitment: seed_key().round_seed(CampaignId(1), id).commitment(),
        prizes: prizes.iter().map(prize).collect(),
    }
}

pub fn plan(limits: Limits, prizes: &[(u32, u32, u64)]) -> Plan {
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(1),
        name: "test".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![(0, 0), (86_400_000, 1)],
        limits,
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1000, submit_max_ms: 3000 },
        rounds: vec![round(prizes)],
        regions: Vec::new(),
        vendors: vec![Vendor { id: VendorId(1), name: "wallet".into(), release_per_second: 0 }],
    }
}

/// A log that becomes durable when the test says so.
#[derive(Default)]
pub struct TestLog {
    pub wins: Mutex<Vec<(Won, Option<Pending>)>>,
    pub acknowledged: AtomicU64,
    pub refuse: Mutex<Option<NoWin>>,
}

impl TestLog {
    pub fn acknowledge_all(&self) {
        let mut wins = self.wins.lock();
        self.acknowledged.store(wins.len() as u64 + 1, Ordering::SeqCst);
        for (_, pending) in wins.iter_mut() {
            if let Some(p) = pending.take() {
                p.inbox.put(p.reply);
            }
        }
    }
}

impl WinLog for TestLog {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        if let Some(why) = *self.refuse.lock() {
            return Err(why);
        }
        let mut wins = self.wins.lock();
        wins.push((*won, Some(pending)));
        Ok(wins.len() as u64)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }
}

/// A core that owns every bucket and runs the plan.
pub fn core(plan: Plan) -> (Core, Arc<TestLog>) {
    let log = Arc::new(TestLog::default());
    let config = CoreConfig {
        node: NodeId(1),
        epoch: NodeEpoch(1),
        shards: 4,
        users_max: 10_000,
        mac_keys: MacKeys::new(vec![MacKey { id: 1, key: [2; 32] }]).unwrap(),
        seed_keys: vec![seed_key()],
    };
    let core = Core::new(config, log.clone());
    (0..super::BUCKETS).for_each(|b| core.load(b, []));
    core.apply(Arc::new(plan)).unwrap();
    (core, log)
}
