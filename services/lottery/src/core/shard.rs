//! A shard: the users of some buckets, behind one short lock.

use super::arena::{Arena, Seen, Sight};
use super::layout::Layout;
use super::line::Line;
use super::table::{NoRoom, Table, pages_for, place_hash};
use super::wins::{Win, Wins};
use records::SnapshotWin;
use std::sync::Arc;

/// Whether this node may draw for a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Another node draws for it.
    NotMine,
    /// It will be ours when its users' wins have been read.
    Loading,
    /// Ours, with the wins of all its users.
    Mine,
    /// Claimed, but the award store has not passed everything that the owners before us left: nobody may draw yet.
    Waiting,
    /// Ours; a user's wins are read when he first comes, and until then he hears 'pending'.
    Lazy,
    /// Being given up: nobody draws any more, and what was won is still told once it is safe.
    Held,
}

/// Why a user's state can't be had now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotNow {
    /// There is no room for another user.
    Crowded,
    /// The bucket is another node's, or not ours yet, or not any more.
    Pending,
    /// His past wins have to be read first.
    Wanted,
}

/// Some buckets and the memory of their users. What an entry looks at (tables) stands apart from what only few
/// need (holds, wins), so that it stays in the cache.
pub struct Shard {
    arena: Arena,
    tables: Box<[Table]>,
    users: usize,
    users_max: usize,
    holds: Box<[Hold]>,
    wins: Box<[Wins]>,
    /// The term under which each bucket is ours; of meaning in a cluster alone.
    terms: Box<[u32]>,
}

/// Pages that a bucket may have beyond twice its fair share: small shards are uneven.
const LEVELS_SPARE: usize = 16;

impl Shard {
    /// Where the pages of such a shard's buckets lie; all shards of a size share one.
    pub fn layout(buckets: usize, users_max: usize) -> Arc<Layout> {
        Arc::new(Layout::new(2 * pages_for(users_max.div_ceil(buckets)) + LEVELS_SPARE))
    }

    /// A shard of `buckets` buckets, none of them ours, for at most `users_max` users, with their [`Self::layout`].
    pub fn new(buckets: usize, users_max: usize, layout: Arc<Layout>) -> Shard {
        Shard {
            arena: Arena::new(buckets, layout),
            tables: vec![Table::default(); buckets].into(),
            users: 0,
            users_max,
            holds: vec![Hold::NotMine; buckets].into(),
            wins: (0..buckets).map(|_| Wins::default()).collect(),
            terms: vec![0; buckets].into(),
        }
    }

    /// How a bucket is held.
    pub fn hold(&self, bucket: usize) -> Hold {
        self.holds[bucket]
    }

    /// Changes how a bucket is held; its users are forgotten.
    pub fn set(&mut self, bucket: usize, hold: Hold) {
        self.users -= self.tables[bucket].len();
        self.tables[bucket].clear(&mut self.arena, bucket);
        self.wins[bucket] = Wins::default();
        self.holds[bucket] = hold;
    }

    /// Takes a bucket over with the wins of its users, in any order; a win that stands there twice counts once.
    /// Users for whom there is no room are an error of the configuration: the bucket stays as it was asked for
    /// ('loading'), because drawing for them without their wins would break their limits.
    pub fn load(
        &mut self,
        bucket: usize,
        hash_of: impl Fn(u64) -> u64,
        wins: impl IntoIterator<Item = SnapshotWin>,
    ) {
        self.set(bucket, Hold::Loading);
        for win in wins {
            let hash = place_hash(hash_of(win.user.0), win.campaign.0);
            let table = &mut self.tables[bucket];
            let before = table.len();
            let Ok(line) = table.get_or_add(&mut self.arena, bucket, hash, win.user.0, win.campaign.0) else {
                tracing::error!(bucket, "more winners than the node's users_max has room for: raise it");
                return;
            };
            self.wins[bucket].restore(line, win);
            self.users += self.tables[bucket].len() - before;
        }
        self.holds[bucket] = Hold::Mine;
    }

    /// Where its lines lie, for those who ask for them ahead.
    pub fn sight(&self) -> &Arc<Sight> {
        self.arena.sight()
    }

    /// Takes a bucket under a term, without any user: they are forgotten.
    pub fn take(&mut self, bucket: usize, hold: Hold, term: u32) {
        self.set(bucket, hold);
        self.terms[bucket] = term;
    }

    /// The term under which a bucket was taken.
    pub fn term(&self, bucket: usize) -> u32 {
        self.terms[bucket]
    }

    /// Lets nobody draw for a bucket any more. The log position behind the last win that this node decided for it; 0: none.
    pub fn seal(&mut self, bucket: usize) -> u64 {
        self.holds[bucket] = Hold::Held;
        let newest = self.wins[bucket].iter().map(|w| w.position).max().unwrap_or(0);
        if newest == 0 { 0 } else { newest + 1 }
    }

    /// Makes the line of a user of a lazy bucket, with his past wins. `false`: there is no room for him. A line that
    /// is there stays as it is.
    pub fn restore(
        &mut self,
        bucket: usize,
        hash: u64,
        (user, campaign): (u64, u32),
        wins: impl IntoIterator<Item = SnapshotWin>,
    ) -> bool {
        if self.knows(bucket, hash, user, campaign) {
            return true;
        }
        if self.users >= self.users_max {
            return false;
        }
        let table = &mut self.tables[bucket];
        let before = table.len();
        let Ok(line) = table.get_or_add(&mut self.arena, bucket, hash, user, campaign) else { return false };
        for win in wins {
            self.wins[bucket].restore(line, win);
        }
        self.users += self.tables[bucket].len() - before;
        true
    }

    /// The line of a user who stands where he was seen to, and the bucket's wins. `None`: [`Shard::user`] knows more.
    #[inline]
    pub fn user_seen(
        &mut self,
        bucket: usize,
        seen: &Seen,
        user: u64,
        campaign: u32,
    ) -> Option<(&mut Line, &mut Wins)> {
        if !matches!(self.holds[bucket], Hold::Mine | Hold::Lazy) {
            return None;
        }
        Some((self.arena.seen(seen, user, campaign)?, &mut self.wins[bucket]))
    }

    /// The user's line and the bucket's wins. A user who comes for the first time gets a line, where a bucket is ours whole.
    pub fn user(
        &mut self,
        bucket: usize,
        hash: u64,
        user: u64,
        campaign: u32,
    ) -> Result<(&mut Line, &mut Wins), NotNow> {
        if !matches!(self.holds[bucket], Hold::Mine | Hold::Lazy) {
            return Err(NotNow::Pending);
        }
        match self.arena.find(bucket, hash, user, campaign) {
            Some(spot) => Ok((self.arena.at_mut(spot), &mut self.wins[bucket])),
            None => self.new_user(bucket, user, campaign),
        }
    }

    /// Makes the line of a user who comes for the first time; in a lazy bucket an entry never does.
    #[cold]
    fn new_user(
        &mut self,
        bucket: usize,
        user: u64,
        campaign: u32,
    ) -> Result<(&mut Line, &mut Wins), NotNow> {
        if self.users >= self.users_max {
            return Err(NotNow::Crowded);
        }
        if self.holds[bucket] == Hold::Lazy {
            return Err(NotNow::Wanted);
        }
        let added = self.tables[bucket].add(&mut self.arena, bucket, Line::new(user, campaign));
        let line = added.map_err(|NoRoom| NotNow::Crowded)?;
        self.users += 1;
        Ok((line, &mut self.wins[bucket]))
    }

    /// What a bucket that is being given up knows of a user.
    pub fn held(&self, bucket: usize, hash: u64, user: u64, campaign: u32) -> Option<(&Line, &Wins)> {
        if self.holds[bucket] != Hold::Held {
            return None;
        }
        let line = Table::get(&self.arena, bucket, hash, user, campaign)?;
        Some((line, &self.wins[bucket]))
    }

    fn knows(&self, bucket: usize, hash: u64, user: u64, campaign: u32) -> bool {
        Table::get(&self.arena, bucket, hash, user, campaign).is_some()
    }

    /// Forgets users who have not entered since `before_ms` and have won nothing; in a lazy bucket, nothing under this
    /// term: their wins can be read again. The count of those that stay.
    pub fn forget_idle(&mut self, before_ms: u64) -> usize {
        self.users = 0;
        for bucket in 0..self.tables.len() {
            let (lazy, wins) = (self.holds[bucket] == Hold::Lazy, &self.wins[bucket]);
            let stays = |line: &Line| {
                line.last_ms >= before_ms
                    || line.wins_head != 0 && (!lazy || wins.of(line).any(|win| win.position != 0))
            };
            self.tables[bucket].retain(&mut self.arena, bucket, stays);
            self.users += self.tables[bucket].len();
            if lazy {
                self.compact(bucket);
            }
        }
        self.users
    }

    /// Drops the wins of users whose lines are gone.
    fn compact(&mut self, bucket: usize) {
        let all = std::mem::take(&mut self.wins[bucket]);
        let kept = &mut self.wins[bucket];
        Table::for_each_mut(&mut self.arena, bucket, |line| all.move_to(line, kept));
    }

    /// The wins of a bucket that is ours.
    pub fn wins(&self, bucket: usize) -> impl Iterator<Item = &Win> {
        self.wins[bucket].iter()
    }

    /// Users on the shard.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Bytes of the users' pages.
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
    }
}
