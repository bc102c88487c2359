//! A shard: the users of some buckets, behind one short lock.

use super::arena::{Arena, Sight};
use super::layout::Layout;
use super::line::Line;
use super::table::{Table, pages_for, place_hash};
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
    /// Ours.
    Mine,
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
}

/// No room for another user on this shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crowded;

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

    /// The user's line and the bucket's wins. `None`: the bucket is not ours yet.
    #[inline]
    pub fn user(
        &mut self,
        bucket: usize,
        hash: u64,
        user: u64,
        campaign: u32,
    ) -> Option<Result<(&mut Line, &mut Wins), Crowded>> {
        if self.holds[bucket] != Hold::Mine {
            return None;
        }
        if self.users >= self.users_max && !self.knows(bucket, hash, user, campaign) {
            return Some(Err(Crowded));
        }
        let table = &mut self.tables[bucket];
        let before = table.len();
        let Ok(line) = table.get_or_add(&mut self.arena, bucket, hash, user, campaign) else {
            return Some(Err(Crowded));
        };
        self.users += table.len() - before;
        Some(Ok((line, &mut self.wins[bucket])))
    }

    fn knows(&self, bucket: usize, hash: u64, user: u64, campaign: u32) -> bool {
        Table::get(&self.arena, bucket, hash, user, campaign).is_some()
    }

    /// Forgets users who have won nothing and have not entered since `before_ms`. The count of those that stay.
    pub fn forget_idle(&mut self, before_ms: u64) -> usize {
        self.users = 0;
        for (bucket, table) in self.tables.iter_mut().enumerate() {
            table.retain(&mut self.arena, bucket, |line| line.wins_head != 0 || line.last_ms >= before_ms);
            self.users += table.len();
        }
        self.users
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
