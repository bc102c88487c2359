//! The decision core: who wins what.
//!
//! It knows no socket, no disk, no clock and no randomness of its own. What comes in: plans, leases, the wins
//! that users had before, batches of entries with the time; what goes out: decisions, and for each win a record
//! that is handed to a [`WinLog`]. Users live in shards, each behind a short lock; prizes in rounds, each behind
//! another, which losers never take.
//!
//! Order of locks: shard, then round, then the log's own.

mod arena;
mod campaigns;
mod layout;
mod lease;
mod line;
mod pool;
mod shard;
mod submit;
mod table;
#[cfg(test)]
pub(crate) mod tests_support;
mod wins;

pub use arena::PAGE_LINES;
pub use campaigns::{CampaignCore, Campaigns, PlanRefused, RoundCore, Stretch};
pub use lease::{Lease, instant_of};
pub use line::{Admission, Line, RoundRules};
pub use pool::{Hit, LEASES_PER_PRIZE, PrizeUse, RoundPool, Sealed};
pub use shard::{Hold, Shard};
pub use submit::{NoWin, Now, Pending, Tally, WinLog};
pub use wins::kept;

use arena::Sight;
use campaign::{MacKeys, NodeEpoch, NodeId, Plan, SeedKey};
use parking_lot::{Mutex, RwLock};
use records::SnapshotWin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of users, as the ring has them.
pub const BUCKETS: usize = hashring::BUCKET_COUNT;

/// What the core is made for.
#[derive(Clone)]
pub struct CoreConfig {
    /// The node.
    pub node: NodeId,
    /// Its epoch: award ids carry it.
    pub epoch: NodeEpoch,
    /// Shards; a power of two up to [`BUCKETS`].
    pub shards: usize,
    /// Most users in memory.
    pub users_max: usize,
    /// Keys of award MACs.
    pub mac_keys: MacKeys,
    /// Keys of round seeds.
    pub seed_keys: Vec<SeedKey>,
}

/// What an entry needs, behind one lock: the users, the plans that run, and the counts of what was decided.
struct Seat {
    shard: Shard,
    campaigns: Arc<Campaigns>,
    tally: Tally,
}

/// A shard on cache lines of its own: another core's lock next door must not slow this one's.
#[repr(align(128))]
struct Apart {
    seat: Mutex<Seat>,
    sight: Arc<Sight>,
}

impl Apart {
    fn new(shard: Shard) -> Apart {
        let sight = Arc::clone(shard.sight());
        let seat = Seat { shard, campaigns: Arc::default(), tally: Tally::default() };
        Apart { seat: Mutex::new(seat), sight }
    }
}

/// The decision core of a node.
pub struct Core {
    config: CoreConfig,
    shards: Box<[Apart]>,
    /// Shards as a power of two.
    shard_bits: u32,
    /// The newest plans. Every seat has them too, so that an entry takes no second lock for them.
    campaigns: RwLock<Arc<Campaigns>>,
    log: Arc<dyn WinLog>,
    sequence: AtomicU64,
    last_ms: AtomicU64,
}

impl Core {
    /// A core that holds no bucket and no plan yet.
    pub fn new(config: CoreConfig, log: Arc<dyn WinLog>) -> Core {
        let count = config.shards.next_power_of_two().clamp(1, BUCKETS);
        let users_max = config.users_max.div_ceil(count);
        let layout = Shard::layout(BUCKETS / count, users_max);
        let shard = || Apart::new(Shard::new(BUCKETS / count, users_max, Arc::clone(&layout)));
        Core {
            shards: (0..count).map(|_| shard()).collect(),
            shard_bits: count.trailing_zeros(),
            campaigns: RwLock::default(),
            log,
            sequence: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
            config,
        }
    }

    /// The plans that run now.
    pub fn campaigns(&self) -> Arc<Campaigns> {
        Arc::clone(&self.campaigns.read())
    }

    /// Puts a plan into force. Built beside the running one and swapped in, shard by shard; leases of running rounds
    /// go over to it at once, so that no shard wins under the old plan meanwhile. When this returns no entry is
    /// decided under the old one. An older or the same SeqNo changes nothing. Callers apply plans one at a time.
    pub fn apply(&self, plan: Arc<Plan>) -> Result<bool, PlanRefused> {
        let now = self.campaigns();
        let before = now.get(plan.campaign.0);
        if before.is_some_and(|b| b.plan.seq_no >= plan.seq_no) {
            return Ok(false);
        }
        let fresh = CampaignCore::new(plan, &self.config.seed_keys, before.map(|b| &**b))?;
        let fresh = Arc::new(now.with(fresh));
        *self.campaigns.write() = Arc::clone(&fresh);
        self.shards.iter().for_each(|s| s.seat.lock().campaigns = Arc::clone(&fresh));
        Ok(true)
    }

    /// Which shard a bucket is on, and which of the shard's buckets it is.
    #[inline]
    fn place(&self, bucket: usize) -> (&Apart, usize) {
        (&self.shards[bucket & (self.shards.len() - 1)], bucket >> self.shard_bits)
    }

    /// The bucket is ours, but its users' wins are not here yet: its players hear 'pending'.
    pub fn begin_loading(&self, bucket: usize) {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.set(i, Hold::Loading);
    }

    /// The bucket is another node's.
    pub fn release(&self, bucket: usize) {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.set(i, Hold::NotMine);
    }

    /// The bucket is ours, with these wins of its users.
    pub fn load(&self, bucket: usize, wins: impl IntoIterator<Item = SnapshotWin>) {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.load(i, table::user_hash, wins);
    }

    /// The wins of a bucket, and the highest log position among them; `None` if it is not loaded.
    pub fn wins(&self, bucket: usize) -> Option<(Vec<SnapshotWin>, u64)> {
        let (shard, i) = self.place(bucket);
        let seat = shard.seat.lock();
        let shard = &seat.shard;
        if shard.hold(i) != Hold::Mine {
            return None;
        }
        let newest = shard.wins(i).map(|w| w.position).max().unwrap_or(0);
        Some((shard.wins(i).map(|w| w.kept).collect(), newest))
    }

    /// Forgets users who have won nothing and have not entered since `before_ms`. The users that stay.
    pub fn forget_idle(&self, before_ms: u64) -> usize {
        self.shards.iter().map(|s| s.seat.lock().shard.forget_idle(before_ms)).sum()
    }

    /// Users in memory.
    pub fn users(&self) -> usize {
        self.shards.iter().map(|s| s.seat.lock().shard.users()).sum()
    }

    /// Bytes of the users' lines.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|s| s.seat.lock().shard.bytes()).sum()
    }

    /// What was decided since the start.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.shards.iter().for_each(|s| sum.add(&s.seat.lock().tally));
        sum
    }

    /// The next award id's sequence and a time that never runs back.
    fn next_award(&self, now_ms: u64) -> (u64, u64) {
        let time = self.last_ms.fetch_max(now_ms, Ordering::Relaxed).max(now_ms);
        (time, self.sequence.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
