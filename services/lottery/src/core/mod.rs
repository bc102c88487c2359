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
mod each;
mod layout;
#[cfg(test)]
mod lazy_tests;
mod lease;
mod line;
mod pool;
mod shard;
mod submit;
mod table;
#[cfg(test)]
pub(crate) mod tests_support;
mod wanted;
mod wins;

pub use arena::PAGE_LINES;
pub use campaigns::{CampaignCore, Campaigns, PlanRefused, RoundCore, Stretch, Terms};
pub use lease::{Lease, instant_of};
pub use line::{Admission, Line, RoundRules};
pub use pool::{Hit, LEASES_PER_PRIZE, Picks, PrizeUse, RoundPool, Sealed};
pub use shard::{Hold, NotNow, Shard};
pub use submit::{NoWin, Now, Pending, Tally, WinLog};
pub use wanted::{WANTED_MAX, Want};
pub use wins::kept;

use crate::grey::{GreyRefused, WHOLE, check};
use arena::Sight;
use campaign::{CampaignId, MacKeys, NodeEpoch, NodeId, Plan, SeedKey};
use parking_lot::{Mutex, RwLock};
use records::SnapshotWin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use wanted::Wanted;

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
    /// Users whose past wins must be read before they can draw.
    wanted: Box<Wanted>,
}

/// A shard on cache lines of its own: another core's lock next door must not slow this one's.
#[repr(align(128))]
struct Apart {
    seat: Mutex<Seat>,
    sight: Arc<Sight>,
}

impl Apart {
    fn new(shard: Shard, wanted_max: usize) -> Apart {
        let sight = Arc::clone(shard.sight());
        let wanted = Box::new(Wanted::new(wanted_max));
        let seat = Seat { shard, campaigns: Arc::default(), tally: Tally::default(), wanted };
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
    /// Held while plans change. Plans that somebody still reads are kept here until the next change, so that the thread
    /// that lets go of one last is never one that draws: dropping a large plan takes milliseconds.
    retired: Mutex<Vec<Arc<Campaigns>>>,
    log: Arc<dyn WinLog>,
    sequence: AtomicU64,
    last_ms: AtomicU64,
    /// Somebody's past wins are wanted.
    wants: AtomicBool,
}

impl Core {
    /// A core that holds no bucket and no plan yet.
    pub fn new(config: CoreConfig, log: Arc<dyn WinLog>) -> Core {
        let count = config.shards.next_power_of_two().clamp(1, BUCKETS);
        let users_max = config.users_max.div_ceil(count);
        let layout = Shard::layout(BUCKETS / count, users_max);
        let shard = || {
            let shard = Shard::new(BUCKETS / count, users_max, Arc::clone(&layout));
            Apart::new(shard, WANTED_MAX.div_ceil(count))
        };
        Core {
            shards: (0..count).map(|_| shard()).collect(),
            shard_bits: count.trailing_zeros(),
            campaigns: RwLock::default(),
            retired: Mutex::default(),
            log,
            sequence: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
            wants: AtomicBool::new(false),
            config,
        }
    }

    /// The plans that run now.
    pub fn campaigns(&self) -> Arc<Campaigns> {
        Arc::clone(&self.campaigns.read())
    }

    /// Puts a plan into force. Built beside the running one and swapped in, shard by shard: an entry is decided under
    /// the one or the other, both of which draw from the same leases, and when this returns none is decided under the
    /// old one any more. An older or the same SeqNo changes nothing. A grey plan that is out stays if it may stand
    /// beside the new plan, and ends if not.
    pub fn apply(&self, plan: Arc<Plan>) -> Result<bool, PlanRefused> {
        let mut retired = self.retired.lock();
        let now = self.campaigns();
        let before = now.get(plan.campaign.0);
        if before.is_some_and(|b| b.plan.seq_no >= plan.seq_no) {
            return Ok(false);
        }
        let fresh = CampaignCore::new(plan, &self.config.seed_keys, before.map(|b| &**b))?;
        let fresh = match before.and_then(|b| b.grey()) {
            Some((grey, users)) => match check(&fresh.plan, grey) {
                Ok(()) => fresh.with_grey(Some((Arc::clone(grey), users))),
                Err(why) => {
                    tracing::warn!(%why, "the grey plan ends: it can't stand beside the new active plan");
                    fresh
                }
            },
            None => fresh,
        };
        self.swap(now.with(fresh), now, &mut retired);
        Ok(true)
    }

    /// Puts `plan` beside the campaign's active one for a share of the users, or changes that share; `None`, or a share
    /// of 0, ends it, and everybody draws under the active plan again. False: it was so already. Swapped in as plans are.
    ///
    /// # Errors
    /// When there is no active plan, the share is above 1,000, or the plan differs from the active one where it may not
    /// ([`crate::grey::check`]). Nothing is changed then.
    pub fn apply_grey(
        &self,
        plan: Option<Arc<Plan>>,
        campaign: CampaignId,
        users_per_mille: u16,
    ) -> Result<bool, GreyRefused> {
        let mut retired = self.retired.lock();
        let now = self.campaigns();
        let before = now.get(campaign.0).ok_or(GreyRefused::NoActive(campaign))?;
        if users_per_mille > WHOLE {
            return Err(GreyRefused::Share(users_per_mille));
        }
        if let Some(plan) = &plan {
            check(&before.plan, plan)?;
        }
        let grey = plan.filter(|_| users_per_mille > 0).map(|plan| (plan, users_per_mille));
        let version = |plan: &Arc<Plan>, users| (plan.seq_no, users);
        let is = before.grey().map(|(plan, users)| version(plan, users));
        if is == grey.as_ref().map(|(plan, users)| version(plan, *users)) {
            return Ok(false);
        }
        let fresh = before.with_grey(grey);
        self.swap(now.with(fresh), now, &mut retired);
        Ok(true)
    }

    /// Hands new plans to every shard, and drops the old ones where no draw waits for it.
    fn swap(&self, fresh: Campaigns, old: Arc<Campaigns>, retired: &mut Vec<Arc<Campaigns>>) {
        let fresh = Arc::new(fresh);
        *self.campaigns.write() = Arc::clone(&fresh);
        for shard in &self.shards {
            let mut fresh = Arc::clone(&fresh);
            loop {
                // Never waits in line: the lock would be handed to this thread, which may be one of low priority that
                // does not run now, and draws would wait until it does.
                if let Some(mut seat) = shard.seat.try_lock() {
                    std::mem::swap(&mut seat.campaigns, &mut fresh);
                    break;
                }
                std::thread::yield_now();
            }
        }
        retired.push(old);
        retired.retain(|plans| Arc::strong_count(plans) > 1);
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

    /// A bucket was claimed under `term`, and what its owners before us left is not in the award store yet.
    pub fn wait(&self, bucket: usize, term: u32) {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.take(i, Hold::Waiting, term);
    }

    /// A bucket is ours under `term`, and its users' past wins can be read one by one ([`Core::take_wanted`]).
    pub fn open(&self, bucket: usize, term: u32) {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.take(i, Hold::Lazy, term);
    }

    /// Lets nobody draw for a bucket any more. When everything before the answered log position is acknowledged, every
    /// win of the bucket is safe, and it can be given up.
    pub fn seal(&self, bucket: usize) -> u64 {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.seal(i)
    }

    /// How a bucket is held.
    pub fn hold(&self, bucket: usize) -> Hold {
        let (shard, i) = self.place(bucket);
        shard.seat.lock().shard.hold(i)
    }

    /// Somebody's past wins are wanted. One atomic load.
    #[inline]
    pub fn wants(&self) -> bool {
        self.wants.load(Ordering::Relaxed)
    }

    /// Takes users whose past wins are wanted, at most `max`, each once as long as he is not asked for again.
    pub fn take_wanted(&self, max: usize) -> Vec<Want> {
        self.wants.store(false, Ordering::Relaxed);
        let mut all = Vec::new();
        for shard in &self.shards {
            shard.seat.lock().wanted.take(max - all.len(), &mut all);
            if all.len() == max {
                // The rest waits; whoever comes next finds the flag as it must be.
                self.wants.store(true, Ordering::Relaxed);
                break;
            }
        }
        all
    }

    /// Gives a user of a lazy bucket his past wins: he can draw from now on. Nothing happens under another term, and
    /// nothing to a user who is here already. `false`: he is not here.
    pub fn restore(&self, want: &Want, wins: impl IntoIterator<Item = SnapshotWin>) -> bool {
        let (shard, i) = self.place(usize::from(want.bucket));
        let mut seat = shard.seat.lock();
        let shard = &mut seat.shard;
        if shard.hold(i) != Hold::Lazy || shard.term(i) != want.term {
            return false;
        }
        let hash = table::place_hash(table::user_hash(want.user.0), want.campaign.0);
        shard.restore(i, hash, (want.user.0, want.campaign.0), wins)
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

    /// Forgets users who have not entered since `before_ms` and have no win that only memory knows where to find (in a
    /// lazy bucket, one of this term). The users that stay.
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
