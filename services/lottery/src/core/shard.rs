//! A shard: the users of some buckets, behind one short lock.

use super::arena::Arena;
use super::line::Line;
use super::table::{Table, place_hash};
use super::wins::{Win, Wins};
use records::SnapshotWin;

/// Users of one bucket.
#[derive(Default)]
pub struct Bucket {
    table: Table,
    wins: Wins,
}

/// Whether this node may draw for a bucket.
pub enum Hold {
    /// Another node draws for it.
    NotMine,
    /// It will be ours when its users' wins have been read.
    Loading,
    /// Ours.
    Mine(Bucket),
}

/// Some buckets and the memory of their users.
pub struct Shard {
    arena: Arena,
    buckets: Vec<Hold>,
    users: usize,
    users_max: usize,
}

/// No room for another user on this shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crowded;

impl Shard {
    /// A shard of `buckets` buckets, none of them ours, for at most `users_max` users.
    pub fn new(buckets: usize, users_max: usize) -> Shard {
        let buckets = (0..buckets).map(|_| Hold::NotMine).collect();
        Shard { arena: Arena::default(), buckets, users: 0, users_max }
    }

    /// How a bucket is held.
    pub fn hold(&self, bucket: usize) -> &Hold {
        &self.buckets[bucket]
    }

    /// Changes how a bucket is held; its users are forgotten.
    pub fn set(&mut self, bucket: usize, hold: Hold) {
        let before = std::mem::replace(&mut self.buckets[bucket], hold);
        if let Hold::Mine(mut was) = before {
            self.users -= was.table.len();
            was.table.clear(&mut self.arena);
        }
    }

    /// Takes a bucket over with the wins of its users, in any order; a win that stands there twice counts once.
    pub fn load(
        &mut self,
        bucket: usize,
        hash_of: impl Fn(u64) -> u64,
        wins: impl IntoIterator<Item = SnapshotWin>,
    ) {
        let mut fresh = Bucket::default();
        for win in wins {
            let hash = place_hash(hash_of(win.user.0), win.campaign.0);
            let line = fresh.table.get_or_add(&mut self.arena, hash, win.user.0, win.campaign.0);
            fresh.wins.restore(line, win);
        }
        self.users += fresh.table.len();
        self.set(bucket, Hold::Mine(fresh));
    }

    /// Asks for a user's line.
    #[inline]
    pub fn prefetch(&self, bucket: usize, hash: u32) {
        if let Hold::Mine(bucket) = &self.buckets[bucket] {
            bucket.table.prefetch(&self.arena, hash);
        }
    }

    /// The user's line and the bucket's wins. `None`: the bucket is not ours yet.
    #[inline]
    pub fn user(
        &mut self,
        bucket: usize,
        hash: u32,
        user: u64,
        campaign: u32,
    ) -> Option<Result<(&mut Line, &mut Wins), Crowded>> {
        if self.users >= self.users_max && !self.knows(bucket, hash, user, campaign) {
            return Some(Err(Crowded));
        }
        let Hold::Mine(mine) = &mut self.buckets[bucket] else { return None };
        let before = mine.table.len();
        let line = mine.table.get_or_add(&mut self.arena, hash, user, campaign);
        self.users += mine.table.len() - before;
        Some(Ok((line, &mut mine.wins)))
    }

    fn knows(&self, bucket: usize, hash: u32, user: u64, campaign: u32) -> bool {
        match &self.buckets[bucket] {
            Hold::Mine(mine) => mine.table.get(&self.arena, hash, user, campaign).is_some(),
            _ => true,
        }
    }

    /// Forgets users who have won nothing and have not entered since `before_ms`. The count of those that stay.
    pub fn forget_idle(&mut self, before_ms: u64) -> usize {
        self.users = 0;
        for hold in &mut self.buckets {
            if let Hold::Mine(mine) = hold {
                mine.table.retain(&mut self.arena, |line| line.wins_head != 0 || line.last_ms >= before_ms);
                self.users += mine.table.len();
            }
        }
        self.users
    }

    /// The wins of a bucket that is ours.
    pub fn wins(&self, bucket: usize) -> impl Iterator<Item = &Win> {
        let mine = match &self.buckets[bucket] {
            Hold::Mine(mine) => Some(&mine.wins),
            _ => None,
        };
        mine.into_iter().flat_map(Wins::iter)
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
