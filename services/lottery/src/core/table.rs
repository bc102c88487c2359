//! The lines of one bucket of users: open addressing over the bucket's pages of an [`Arena`].
//!
//! Linear probing at about 75 to 81 % load, so that a line is one miss away and its neighbours are already on
//! their way. A table grows by a twelfth at a time, in place: with its spare room that is under 96 bytes a user at
//! any size, and it takes microseconds, so no entry waits for a growing table.

use super::arena::{Arena, PAGE_LINES};
use super::line::Line;

/// Places used per 16 before the table grows.
const LOAD_NUM: usize = 13;
const LOAD_DEN: usize = 16;

/// Lines fetched ahead of a look-up: most users are found within them.
const PREFETCH_LINES: usize = 3;

/// A bucket's users: how many pages they have, and how many they are. Where the pages lie follows from the
/// bucket's number, which every call is given.
#[derive(Clone, Copy, Default)]
pub struct Table {
    pages: u32,
    used: u32,
}

/// The bucket has all the pages that it can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Position hash of a user in a campaign: the bits of the user's hash below the bucket, stirred by the campaign.
#[inline]
pub fn place_hash(user_hash: u64, campaign: u32) -> u32 {
    let h = (user_hash << 12) ^ u64::from(campaign).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (h >> 32) as u32
}

/// Pages that hold so many users within the load.
pub fn pages_for(users: usize) -> usize {
    (users * LOAD_DEN).div_ceil(LOAD_NUM * PAGE_LINES)
}

impl Table {
    /// Users in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.used as usize
    }

    #[inline]
    fn places(&self) -> usize {
        self.pages as usize * PAGE_LINES
    }

    /// Home of a hash: rises with the hash, whatever the size.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places() as u64) >> 32) as usize
    }

    /// Asks for the lines where a user would be found.
    #[inline]
    pub fn prefetch(&self, arena: &Arena, bucket: usize, hash: u32) {
        let (home, places) = (self.home(hash), self.places());
        for place in home..(home + PREFETCH_LINES).min(places) {
            arena.prefetch(bucket, place);
        }
    }

    /// Where the user is, or the empty place where he would go. `None` in a table without pages.
    #[inline]
    fn find(
        &self,
        arena: &Arena,
        bucket: usize,
        hash: u32,
        user: u64,
        campaign: u32,
    ) -> Option<(usize, bool)> {
        if self.pages == 0 {
            return None;
        }
        // The neighbours come along with the first line, instead of one after the other behind wrong guesses.
        self.prefetch(arena, bucket, hash);
        let places = self.places();
        let mut place = self.home(hash);
        // Load is below one, so an empty place ends the walk.
        loop {
            let line = arena.line(bucket, place);
            if line.user == user && line.campaign == campaign {
                return Some((place, true));
            }
            if line.is_empty() {
                return Some((place, false));
            }
            place += 1;
            if place == places {
                place = 0;
            }
        }
    }

    /// The user's line.
    pub fn get<'a>(
        &self,
        arena: &'a Arena,
        bucket: usize,
        hash: u32,
        user: u64,
        campaign: u32,
    ) -> Option<&'a Line> {
        let (place, found) = self.find(arena, bucket, hash, user, campaign)?;
        found.then(|| arena.line(bucket, place))
    }

    /// The user's line; a new one for a user who comes for the first time.
    #[inline]
    pub fn get_or_add<'a>(
        &mut self,
        arena: &'a mut Arena,
        bucket: usize,
        hash: u32,
        user: u64,
        campaign: u32,
    ) -> Result<&'a mut Line, NoRoom> {
        match self.find(arena, bucket, hash, user, campaign) {
            Some((place, true)) => Ok(arena.line_mut(bucket, place)),
            free => self.add(arena, bucket, free.map(|(place, _)| place), Line::new(user, campaign)),
        }
    }

    /// Puts a line into a free place, or a place of a larger table.
    #[cold]
    fn add<'a>(
        &mut self,
        arena: &'a mut Arena,
        bucket: usize,
        free: Option<usize>,
        line: Line,
    ) -> Result<&'a mut Line, NoRoom> {
        let mut free = free;
        if (self.len() + 1) * LOAD_DEN > self.places() * LOAD_NUM {
            let pages = self.pages as usize;
            let more = (pages + (pages / 12).max(1)).min(arena.levels_max());
            if more == pages {
                return Err(NoRoom);
            }
            self.rebuild(arena, bucket, more, |_| true);
            let hash = place_hash(user_hash(line.user), line.campaign);
            free = self.find(arena, bucket, hash, line.user, line.campaign).map(|(place, _)| place);
        }
        let place = free.ok_or(NoRoom)?;
        self.used += 1;
        let slot = arena.line_mut(bucket, place);
        *slot = line;
        Ok(slot)
    }

    /// Drops the lines that `keep` refuses, and the pages that are not needed any more.
    pub fn retain(&mut self, arena: &mut Arena, bucket: usize, keep: impl Fn(&Line) -> bool) {
        let mut stay = 0;
        self.for_each(arena, bucket, |line| stay += usize::from(keep(line)));
        self.rebuild(arena, bucket, pages_for(stay).min(self.pages as usize), keep);
    }

    /// Takes all lines out and puts those that stay into the first `pages` pages.
    fn rebuild(&mut self, arena: &mut Arena, bucket: usize, pages: usize, keep: impl Fn(&Line) -> bool) {
        let mut stay = arena.take_scratch();
        for place in 0..self.places() {
            let line = arena.line_mut(bucket, place);
            if !line.is_empty() {
                if keep(line) {
                    stay.push(*line);
                }
                *line = Line::default();
            }
        }
        let before = self.pages as usize;
        if pages > before {
            arena.extend(before, pages);
        } else {
            arena.shrink(before, pages);
        }
        *self = Table { pages: pages as u32, used: 0 };
        for line in stay.drain(..) {
            let hash = place_hash(user_hash(line.user), line.campaign);
            if let Some((place, false)) = self.find(arena, bucket, hash, line.user, line.campaign) {
                *arena.line_mut(bucket, place) = line;
                self.used += 1;
            }
        }
        arena.keep_scratch(stay);
    }

    /// Looks at every line.
    pub fn for_each(&self, arena: &Arena, bucket: usize, mut look: impl FnMut(&Line)) {
        for place in 0..self.places() {
            let line = arena.line(bucket, place);
            if !line.is_empty() {
                look(line);
            }
        }
    }

    /// Forgets all users and gives their memory back.
    pub fn clear(&mut self, arena: &mut Arena, bucket: usize) {
        arena.discard(bucket, self.pages as usize);
        *self = Table::default();
    }
}

/// XXH3-64 of the user id: the top 12 bits are the bucket, the others place the user within it.
#[inline]
pub fn user_hash(user: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&user.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::{Table, place_hash, user_hash};
    use crate::core::arena::Arena;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn hash_agrees_with_the_ring() {
        for user in [1, 2, 77, u64::MAX, 1 << 40] {
            assert_eq!((user_hash(user) >> 52) as u16, hashring::bucket_of(user).get());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn keeps_every_user(users in prop::collection::vec((1u64..3000, 1u32..3), 1..4000), drop_below in 0u32..4) {
            let (mut arena, mut table, mut model) = (Arena::new(4, 40), Table::default(), BTreeMap::new());
            for (n, (user, campaign)) in users.iter().enumerate() {
                let hash = place_hash(user_hash(*user), *campaign);
                table.prefetch(&arena, 2, hash);
                table.get_or_add(&mut arena, 2, hash, *user, *campaign).unwrap().counter = n as u32;
                model.insert((*user, *campaign), n as u32);
            }
            table.retain(&mut arena, 2, |l| l.counter % 4 >= drop_below);
            model.retain(|_, n| *n % 4 >= drop_below);
            prop_assert_eq!(table.len(), model.len());
            for ((user, campaign), n) in &model {
                let hash = place_hash(user_hash(*user), *campaign);
                prop_assert_eq!(table.get(&arena, 2, hash, *user, *campaign).map(|l| l.counter), Some(*n));
            }
            let mut seen = 0;
            table.for_each(&arena, 2, |_| seen += 1);
            prop_assert_eq!(seen, model.len());
            table.clear(&mut arena, 2);
            prop_assert_eq!((table.len(), arena.bytes()), (0, 0));
        }
    }
}
