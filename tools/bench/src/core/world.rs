//! A decision core as a round at its peak has it: every limit on, pacing on, one entry in a hundred wins.
//!
//! Time is made, not read: [`PER_MS`] entries are one millisecond, and the leases release as many units as make
//! one entry in a hundred win. A user's counter follows from the time, so that the bench keeps no table of its
//! own whose cache misses would be counted as the core's.

use campaign::curve::Curve;
use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    CampaignId, Delivery, Fen, LeaseId, Limits, MacKey, MacKeys, NodeEpoch, NodeId, Plan, Prize, PrizeId,
    PrizeKind, Regions, Round, RoundId, SeedKey, SeqNo, Slot, Tranche, UnitRange, Vendor, VendorId,
};
use lottery::core::{BUCKETS, Core, CoreConfig, NoWin, Now, Pending, WinLog};
use parking_lot::Mutex;
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use records::{LeaseGot, LeaseRange, Record, Won};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

/// Entries that make a millisecond.
pub const PER_MS: u64 = 10;

/// Units released in a slot of 100 ms: a hundredth of its entries.
const PER_SLOT: u64 = 100 * PER_MS / 100;

const OPEN_MS: u64 = 100_000;
const ROUND_MS: u64 = 12 * 3_600_000;
const INTERVAL_MS: u32 = 1_000;

/// Records that wait in the log before it calls them durable, as a group does.
const GROUP: usize = 64;

/// A log in memory: records are encoded, answers wait until their group is full.
#[derive(Default)]
pub struct MemoryLog {
    state: Mutex<LogState>,
    acknowledged: AtomicU64,
}

#[derive(Default)]
struct LogState {
    bytes: Vec<u8>,
    waiting: Vec<Pending>,
    records: u64,
}

impl WinLog for MemoryLog {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        let mut state = self.state.lock();
        won.encode_into(&mut state.bytes);
        state.waiting.push(pending);
        state.records += 1;
        let position = state.records;
        if state.waiting.len() == GROUP {
            state.bytes.clear();
            self.acknowledged.store(position + 1, Ordering::Release);
            for p in state.waiting.drain(..) {
                p.inbox.put(p.reply);
            }
        }
        Ok(position)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }
}

/// A core with its users, and the time they live in.
pub struct World {
    /// The core.
    pub core: Core,
    inbox: Arc<Inbox>,
    out: Vec<SubmitReply>,
    late: Vec<SubmitReply>,
    calls: Vec<SubmitCall>,
    users: u64,
    entries: u64,
}

impl World {
    /// A core with `prizes` prizes and no user yet.
    pub fn new(users_max: u64, prizes: u32) -> World {
        let seed_key = SeedKey { id: 1, key: [1; 32] };
        let config = CoreConfig {
            node: NodeId(1),
            epoch: NodeEpoch(1),
            shards: 16,
            users_max: users_max as usize + users_max as usize / 4 + 1000,
            mac_keys: MacKeys::new(vec![MacKey { id: 1, key: [2; 32] }]).expect("there is a key"),
            seed_keys: vec![seed_key.clone()],
        };
        let core = Core::new(config, Arc::new(MemoryLog::default()));
        (0..BUCKETS).for_each(|b| core.load(b, []));
        core.apply(Arc::new(plan(&seed_key, prizes))).expect("the plan is sound");
        let world = World {
            core,
            inbox: Arc::new(Inbox::new()),
            out: Vec::with_capacity(64),
            late: Vec::new(),
            calls: Vec::with_capacity(64),
            users: 0,
            entries: 0,
        };
        world.lease(prizes);
        world
    }

    /// One lease a prize, for the whole round: together they release `PER_SLOT` units in a slot.
    fn lease(&self, prizes: u32) {
        let campaigns = self.core.campaigns();
        let round = campaigns.get(1).and_then(|c| c.round(RoundId(1))).expect("the plan has the round");
        let every = (u64::from(prizes) / PER_SLOT).max(1);
        let per_slot = (PER_SLOT * every / u64::from(prizes)).max(1);
        for p in 0..prizes {
            let slots = ROUND_MS / 100 / every;
            let range = LeaseRange {
                units: UnitRange { first: 0, count: slots * per_slot },
                first_slot: Slot(OPEN_MS / 100 + u64::from(p) % every),
                per_slot: per_slot as u32,
                every: every as u32,
            };
            let got = LeaseGot {
                lease: LeaseId(u64::from(p) + 1),
                campaign: CampaignId(1),
                round: RoundId(1),
                prize: PrizeId(p + 1),
                seq_no: SeqNo(1),
                ranges: vec![range],
            };
            assert!(round.pool.install(&got, 0), "the prize is in the round");
        }
    }

    /// Users that have come.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// Lets users come until there are `users`, each with one entry.
    pub fn grow_to(&mut self, users: u64) {
        while self.users < users {
            let n = (users - self.users).min(16);
            let first = self.users + 1;
            self.users += n;
            self.submit((first..first + n).map(|u| u - 1));
        }
    }

    /// Entries of these users (counted from 0) in one batch; a number that depends on the answers.
    #[inline]
    pub fn submit(&mut self, users: impl Iterator<Item = u64>) -> u64 {
        let now = Now { ms: OPEN_MS + self.entries / PER_MS, may_win: true };
        let counter = ((now.ms - OPEN_MS) / u64::from(INTERVAL_MS) + 1) as u32;
        self.calls.clear();
        self.calls.extend(users.map(|user| SubmitCall {
            tag: user,
            user: user + 1,
            campaign: 1,
            round: 1,
            counter,
            shakes: 3,
            district: 1,
        }));
        self.entries += self.calls.len() as u64;
        self.out.clear();
        self.core.submit(now, &self.calls, &self.inbox, &mut self.out);
        self.out.last().map_or(1, |r| u64::from(r.next_counter) + r.tag)
    }

    /// Takes the winners' answers out, as their connections would.
    pub fn collect(&mut self) -> usize {
        self.late.clear();
        self.inbox.take(&mut self.late, Waker::noop());
        self.late.len()
    }
}

fn plan(seed_key: &SeedKey, prizes: u32) -> Plan {
    let units = 2 * ROUND_MS / 100 * PER_SLOT;
    let prize = |p: u32| Prize {
        id: PrizeId(p + 1),
        name: format!("prize {}", p + 1),
        kind: PrizeKind::Cash,
        weight: 10 + p,
        vendor: VendorId(1),
        delivery: Delivery::AtOnce,
        curve: Curve::even(0, ROUND_MS - 3_000),
        speed_max: 0,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: vec![Tranche {
            first: 0,
            units,
            fen: Fen(200 * units as i64),
            min: Fen(50),
            max: Fen(20_000),
        }],
    };
    let id = RoundId(1);
    let round = Round {
        id,
        name: "peak".into(),
        open_ms: OPEN_MS,
        close_ms: OPEN_MS + ROUND_MS,
        seed_key_id: seed_key.id,
        seed_commitment: seed_key.round_seed(CampaignId(1), id).commitment(),
        prizes: (0..prizes).map(prize).collect(),
    };
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(1),
        name: "bench".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![(0, 0), (86_400_000, 1)],
        limits: Limits {
            wins_round: 10,
            wins_day: 20,
            wins_campaign: 30,
            participation_ms: ROUND_MS as u32,
            interval_ms: INTERVAL_MS,
            shakes_per_second: 5,
        },
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1000, submit_max_ms: 3000 },
        rounds: vec![round],
        regions: Vec::new(),
        vendors: vec![Vendor { id: VendorId(1), name: "wallet".into(), release_per_second: 0 }],
    }
}

/// A step of splitmix64: the next user, from the last one's answer.
#[inline]
pub fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random number as a number below `bound`.
#[inline]
pub fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}
