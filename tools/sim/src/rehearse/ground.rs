//! What every part of a rehearsal reads and nothing changes: the plan under the rehearsal's own seeds, and where a
//! round's and a prize's numbers are kept.

use super::setup::Setup;
use campaign::{Plan, PrizeId, Round, RoundId, RoundKeys, SLOT_MS, SeedKey};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Points of all prizes' curves together, about: what a page or a file can hold.
const POINTS_ALL: usize = 400_000;
/// Most points of one curve.
const POINTS_MAX: usize = 240;
/// Fewest points of one curve, however many prizes there are.
const POINTS_MIN: usize = 12;
/// Most lines of a round by the minute.
const MINUTES_MAX: u64 = 1_440;
/// Widths that a person reads easily, ms.
const WIDTHS: [u64; 17] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
    1_800_000, 3_600_000, 7_200_000,
];
/// The world begins so long before the first thing in it, ms.
const LEAD_MS: u64 = 2_000;

/// Equal stretches of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bins {
    pub open_ms: u64,
    pub width_ms: u64,
    pub count: usize,
}

impl Bins {
    fn new(round: &Round, width_ms: u64) -> Bins {
        let count = (round.close_ms - round.open_ms).div_ceil(width_ms).max(1) as usize;
        Bins { open_ms: round.open_ms, width_ms, count }
    }

    /// The stretch that an instant falls into; outside the round the first or the last.
    pub fn at(&self, ms: u64) -> usize {
        ((ms.saturating_sub(self.open_ms) / self.width_ms) as usize).min(self.count - 1)
    }
}

/// The next width that a person reads easily.
fn readable(width_ms: u64) -> u64 {
    let day = 86_400_000;
    WIDTHS.into_iter().find(|w| *w >= width_ms).unwrap_or(width_ms.div_ceil(day) * day)
}

/// See the module.
pub(super) struct Ground {
    pub plan: Arc<Plan>,
    pub setup: Setup,
    pub seed_key: SeedKey,
    /// First ms of the world; a slot begins here.
    pub from_ms: u64,
    /// The first round's opening: what arrivals count from.
    pub zero_ms: u64,
    /// For each round, the number of its first prize among all prizes of the plan.
    pub first_prize: Vec<usize>,
    /// For each prize, its round's place and its own place in it.
    pub prizes: Vec<(usize, usize)>,
    /// For each round, the stretches of its curves.
    pub bins: Vec<Bins>,
    /// For each round, its minutes (longer stretches in rounds of more than a day).
    pub minutes: Vec<Bins>,
    /// For each round, the keys of its choices.
    pub keys: Vec<RoundKeys>,
}

impl Ground {
    /// The plan is drawn under seeds of the rehearsal's own: nobody learns from it what the real ones will give.
    pub fn new(plan: &Plan, setup: &Setup) -> Ground {
        let mut hash = Sha256::new();
        hash.update(b"hongbao rehearsal");
        hash.update(setup.seed.to_le_bytes());
        let seed_key = SeedKey { id: 1, key: hash.finalize().into() };
        let mut plan = plan.clone();
        let mut keys = Vec::with_capacity(plan.rounds.len());
        for round in &mut plan.rounds {
            let seed = seed_key.round_seed(plan.campaign, round.id);
            (round.seed_key_id, round.seed_commitment) = (seed_key.id, seed.commitment());
            keys.push(seed.keys());
        }
        let zero_ms = plan.rounds.first().map_or(0, |r| r.open_ms);
        let first_ms = zero_ms.saturating_add_signed(setup.arrivals.span().0.min(0));
        let mut prizes = Vec::new();
        let mut first_prize = Vec::with_capacity(plan.rounds.len());
        for (index, round) in plan.rounds.iter().enumerate() {
            first_prize.push(prizes.len());
            prizes.extend((0..round.prizes.len()).map(|at| (index, at)));
        }
        let points = (POINTS_ALL / prizes.len().max(1)).clamp(POINTS_MIN, POINTS_MAX) as u64;
        let curve = |r: &Round| Bins::new(r, readable((r.close_ms - r.open_ms).div_ceil(points)));
        let minute =
            |r: &Round| Bins::new(r, readable((r.close_ms - r.open_ms).div_ceil(MINUTES_MAX)).max(60_000));
        Ground {
            bins: plan.rounds.iter().map(curve).collect(),
            minutes: plan.rounds.iter().map(minute).collect(),
            plan: Arc::new(plan),
            setup: setup.clone(),
            seed_key,
            from_ms: first_ms.saturating_sub(LEAD_MS) / SLOT_MS * SLOT_MS,
            zero_ms,
            first_prize,
            prizes,
            keys,
        }
    }

    /// The district of the player with a number, from 0.
    #[inline]
    pub fn district_of(&self, player: u32) -> u32 {
        self.setup.districts.as_ref().map_or(0, |d| d.of(player, self.setup.seed))
    }

    /// Place of a round in the plan.
    pub fn round_of(&self, id: RoundId, at_ms: u64) -> Option<usize> {
        let guess = self.plan.rounds.partition_point(|r| r.close_ms <= at_ms);
        let is_it = |i: &usize| self.plan.rounds.get(*i).is_some_and(|r| r.id == id);
        Some(guess).filter(is_it).or_else(|| self.plan.rounds.iter().position(|r| r.id == id))
    }

    /// Number of a prize among all prizes of the plan.
    pub fn prize_of(&self, round: usize, id: PrizeId) -> Option<usize> {
        Some(self.first_prize[round] + self.plan.rounds[round].position(id)?)
    }

    /// Players that have come before an instant.
    pub fn come_by(&self, ms: u64) -> u64 {
        self.setup.arrivals.by(ms as i64 - self.zero_ms as i64)
    }

    /// When the next player comes, once `come` have.
    pub fn next_arrival_ms(&self, come: u64) -> Option<u64> {
        // The instant named is the one by which he has come.
        let at = self.setup.arrivals.next_after(come)?;
        Some(self.zero_ms.saturating_add_signed(at).saturating_sub(1))
    }
}

/// A step of splitmix64 over two numbers: all chance of the players.
#[inline]
pub(super) fn chance(seed: u64, n: u64) -> u64 {
    let z = (seed ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
