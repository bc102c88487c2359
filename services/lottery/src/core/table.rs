//! The lines of one bucket of users: open addressing over pages of an [`Arena`].
//!
//! Linear probing at 59 to 81 % load in the table, so that a line is one miss away and its neighbours are
//! already on their way. A table grows by an eighth at a time: together with line and index that is under 96
//! bytes a user at any size, and moving one bucket takes microseconds, so no entry waits for a growing table.

use super::arena::{Arena, PAGE_LINES, PageId};
use super::line::Line;

/// Places used per 16 before the table grows.
const LOAD_NUM: usize = 13;
const LOAD_DEN: usize = 16;

/// Lines fetched ahead of a look-up: most users are found within them.
const PREFETCH_LINES: usize = 3;

/// A bucket's users.
#[derive(Default)]
pub struct Table {
    pages: Vec<PageId>,
    used: usize,
}

/// Position hash of a user in a campaign: the bits of the user's hash below the bucket, stirred by the campaign.
#[inline]
pub fn place_hash(user_hash: u64, campaign: u32) -> u32 {
    let h = (user_hash << 12) ^ u64::from(campaign).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (h >> 32) as u32
}

impl Table {
    /// Users in the table.
    pub fn len(&self) -> usize {
        self.used
    }

    /// No user yet.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    #[inline]
    fn places(&self) -> usize {
        self.pages.len() * PAGE_LINES
    }

    /// Home of a hash: rises with the hash, whatever the size.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places() as u64) >> 32) as usize
    }

    #[inline]
    fn at(&self, place: usize) -> (PageId, usize) {
        (self.pages[place / PAGE_LINES], place % PAGE_LINES)
    }

    /// Asks for the lines where a user would be found.
    #[inline]
    pub fn prefetch(&self, arena: &Arena, hash: u32) {
        if self.pages.is_empty() {
            return;
        }
        let home = self.home(hash);
        for i in 0..PREFETCH_LINES {
            let place = home + i;
            if place < self.places() {
                let (page, line) = self.at(place);
                arena.prefetch(page, line);
            }
        }
    }

    /// Where the user is, or the empty place where he would go. `None` in a table without pages.
    #[inline]
    fn find(&self, arena: &Arena, hash: u32, user: u64, campaign: u32) -> Option<(usize, bool)> {
        if self.pages.is_empty() {
            return None;
        }
        let places = self.places();
        let mut place = self.home(hash);
        // Load is below one, so an empty place ends the walk.
        loop {
            let (page, i) = self.at(place);
            let line = arena.line(page, i);
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
    pub fn get<'a>(&self, arena: &'a Arena, hash: u32, user: u64, campaign: u32) -> Option<&'a Line> {
        let (place, found) = self.find(arena, hash, user, campaign)?;
        let (page, i) = self.at(place);
        found.then(|| arena.line(page, i))
    }

    /// The user's line; a new one for a user who comes for the first time.
    #[inline]
    pub fn get_or_add<'a>(
        &mut self,
        arena: &'a mut Arena,
        hash: u32,
        user: u64,
        campaign: u32,
    ) -> &'a mut Line {
        if let Some((place, found)) = self.find(arena, hash, user, campaign) {
            if found {
                let (page, i) = self.at(place);
                return arena.line_mut(page, i);
            }
            if (self.used + 1) * LOAD_DEN <= self.places() * LOAD_NUM {
                return self.add_at(arena, place, user, campaign);
            }
        }
        self.grow(arena);
        let place = self.find(arena, hash, user, campaign).map_or(0, |(place, _)| place);
        self.add_at(arena, place, user, campaign)
    }

    fn add_at<'a>(&mut self, arena: &'a mut Arena, place: usize, user: u64, campaign: u32) -> &'a mut Line {
        self.used += 1;
        let (page, i) = self.at(place);
        let line = arena.line_mut(page, i);
        *line = Line::new(user, campaign);
        line
    }

    #[cold]
    fn grow(&mut self, arena: &mut Arena) {
        let more = (self.pages.len() / 8).max(1);
        self.rebuild(arena, self.pages.len() + more, |_| true);
    }

    /// Drops the lines that `keep` refuses, and the pages that are not needed any more.
    pub fn retain(&mut self, arena: &mut Arena, keep: impl Fn(&Line) -> bool) {
        let mut stay = 0;
        self.for_each(arena, |line| stay += usize::from(keep(line)));
        let pages = (stay * LOAD_DEN).div_ceil(LOAD_NUM * PAGE_LINES);
        self.rebuild(arena, pages.min(self.pages.len()), keep);
    }

    /// Moves the lines that stay into `pages` fresh pages.
    fn rebuild(&mut self, arena: &mut Arena, pages: usize, keep: impl Fn(&Line) -> bool) {
        let fresh: Vec<PageId> = (0..pages).map(|_| arena.take()).collect();
        let old = std::mem::replace(self, Table { pages: fresh, used: 0 });
        for page in old.pages {
            for i in 0..PAGE_LINES {
                let line = *arena.line(page, i);
                if !line.is_empty() && keep(&line) {
                    let hash = place_hash(user_hash(line.user), line.campaign);
                    if let Some((place, _)) = self.find(arena, hash, line.user, line.campaign) {
                        let (page, i) = self.at(place);
                        *arena.line_mut(page, i) = line;
                        self.used += 1;
                    }
                }
            }
            arena.give(page);
        }
    }

    /// Looks at every line.
    pub fn for_each(&self, arena: &Arena, mut look: impl FnMut(&Line)) {
        for page in &self.pages {
            for i in 0..PAGE_LINES {
                let line = arena.line(*page, i);
                if !line.is_empty() {
                    look(line);
                }
            }
        }
    }

    /// Gives all pages back.
    pub fn clear(&mut self, arena: &mut Arena) {
        for page in self.pages.drain(..) {
            arena.give(page);
        }
        self.used = 0;
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
            let (mut arena, mut table, mut model) = (Arena::default(), Table::default(), BTreeMap::new());
            for (n, (user, campaign)) in users.iter().enumerate() {
                let hash = place_hash(user_hash(*user), *campaign);
                table.prefetch(&arena, hash);
                table.get_or_add(&mut arena, hash, *user, *campaign).counter = n as u32;
                model.insert((*user, *campaign), n as u32);
            }
            table.retain(&mut arena, |l| l.counter % 4 >= drop_below);
            model.retain(|_, n| *n % 4 >= drop_below);
            prop_assert_eq!(table.len(), model.len());
            for ((user, campaign), n) in &model {
                let hash = place_hash(user_hash(*user), *campaign);
                prop_assert_eq!(table.get(&arena, hash, *user, *campaign).map(|l| l.counter), Some(*n));
            }
            let mut seen = 0;
            table.for_each(&arena, |_| seen += 1);
            prop_assert_eq!(seen, model.len());
            table.clear(&mut arena);
            prop_assert!(table.is_empty());
        }
    }
}
