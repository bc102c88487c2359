//! The lines of one bucket of users: two choices over the bucket's pages of an [`Arena`].
//!
//! A user has two homes, each a pair of neighbouring lines, and stands in one of the four (cuckoo hashing with
//! buckets of two: Pagh and Rodler 2001, Dietzfelbinger and Weidling 2007). A lone entry asks for all four at once, a batch
//! for the one that bears the user's mark (see [`super::arena`]), so that finding a user takes one miss at any load; with
//! linear probing one user in six stood further away, behind a second miss. A newcomer whose homes are full moves others to
//! their other homes, along the shortest way.
//!
//! A table grows by a page when it is 78 % full, in place: under 96 bytes a user once it has a few pages. Only the new
//! page's share of the lines moves (see [`super::layout`]), so no entry waits for a growing table for longer than
//! microseconds.

use super::arena::{Arena, PAGE_LINES, mark_of};
use super::line::Line;

/// Places used per 32 before the table grows.
const LOAD_NUM: usize = 25;
const LOAD_DEN: usize = 32;

/// Pages that a growing table has in reserve for a line that finds no place: it grows on until it does. Closer to
/// the most that a bucket can have, growing is slower and can be taken back.
const PAGES_IN_RESERVE: usize = 8;

/// Lines looked at, at most, on the way to a free one.
const WAYS_MAX: usize = 128;

/// A bucket's users: how many they are. Where their lines lie follows from the bucket's number, which every call
/// is given.
#[derive(Clone, Copy, Default)]
pub struct Table {
    used: u32,
}

/// The bucket has all the pages that it can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Position hash of a user in a campaign, one half for each home: the bits of the user's hash below the bucket,
/// stirred by the campaign.
#[inline]
pub fn place_hash(user_hash: u64, campaign: u32) -> u64 {
    let h = (user_hash << 12) ^ u64::from(campaign).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let h = h.wrapping_mul(0x9fb2_1c65_1e98_df25);
    h ^ (h >> 32)
}

/// XXH3-64 of the user id: the top 12 bits are the bucket, the others place the user within it.
#[inline]
pub fn user_hash(user: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&user.to_le_bytes())
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

    /// The user's line.
    pub fn get(arena: &Arena, bucket: usize, hash: u64, user: u64, campaign: u32) -> Option<&Line> {
        arena.find(bucket, hash, user, campaign).map(|spot| arena.at(spot))
    }

    /// The user's line; a new one for a user who comes for the first time.
    #[inline]
    pub fn get_or_add<'a>(
        &mut self,
        arena: &'a mut Arena,
        bucket: usize,
        hash: u64,
        user: u64,
        campaign: u32,
    ) -> Result<&'a mut Line, NoRoom> {
        match arena.find(bucket, hash, user, campaign) {
            Some(spot) => Ok(arena.at_mut(spot)),
            None => self.add(arena, bucket, Line::new(user, campaign)),
        }
    }

    /// Puts the line of a user who is not in the table into it, growing it when it is due.
    #[cold]
    pub fn add<'a>(
        &mut self,
        arena: &'a mut Arena,
        bucket: usize,
        line: Line,
    ) -> Result<&'a mut Line, NoRoom> {
        let pages = arena.pages(bucket);
        let due = (self.len() + 1) * LOAD_DEN > pages * PAGE_LINES * LOAD_NUM;
        let place = if due { None } else { place_for(arena, bucket, &line) };
        let place = match place {
            Some(place) => place,
            None => {
                self.grow(arena, bucket)?;
                place_for(arena, bucket, &line).ok_or(NoRoom)?
            }
        };
        self.used += 1;
        put(arena, bucket, place, line);
        Ok(arena.line_mut(bucket, place))
    }

    /// Adds a page, and gives it its share of the lines.
    fn grow(&mut self, arena: &mut Arena, bucket: usize) -> Result<(), NoRoom> {
        let pages = arena.pages(bucket);
        if pages == arena.levels_max() {
            return Err(NoRoom);
        }
        if pages + PAGES_IN_RESERVE > arena.levels_max() {
            self.rebuild(arena, bucket, pages + 1, |_| true);
            return Ok(());
        }
        let mut homeless = arena.take_scratch();
        for _ in 0..PAGES_IN_RESERVE {
            let before = arena.pages(bucket);
            arena.resize(bucket, before + 1);
            for place in 0..before * PAGE_LINES {
                let line = arena.line(bucket, place);
                if !line.is_empty() && homes_of(arena, bucket, line).iter().all(|home| place & !1 != *home) {
                    homeless.push(*line);
                    put(arena, bucket, place, Line::default());
                }
            }
            while let Some(line) = homeless.pop() {
                let Some(place) = place_for(arena, bucket, &line) else {
                    homeless.push(line);
                    break;
                };
                put(arena, bucket, place, line);
            }
            if homeless.is_empty() {
                break;
            }
        }
        // Five users with the same two homes among thousands of pairs, eight times in a row under eight layouts.
        assert!(homeless.is_empty(), "a growing table has room for those it had");
        arena.keep_scratch(homeless);
        Ok(())
    }

    /// Drops the lines that `keep` refuses, and the pages that are not needed any more.
    pub fn retain(&mut self, arena: &mut Arena, bucket: usize, keep: impl Fn(&Line) -> bool) {
        let mut stay = 0;
        Table::for_each(arena, bucket, |line| stay += usize::from(keep(line)));
        self.rebuild(arena, bucket, pages_for(stay).min(arena.pages(bucket)), keep);
    }

    /// Puts the lines that stay into `pages` pages, or into as many more as they need. When they fit nowhere they
    /// stay where they are, so that no line is ever lost.
    fn rebuild(&mut self, arena: &mut Arena, bucket: usize, pages: usize, keep: impl Fn(&Line) -> bool) {
        let before = arena.pages(bucket);
        let mut image = arena.take_scratch();
        for place in 0..before * PAGE_LINES {
            let line = arena.line(bucket, place);
            image.push(if !line.is_empty() && keep(line) { *line } else { Line::default() });
        }
        self.used = image.iter().filter(|line| !line.is_empty()).count() as u32;
        let most = if pages > before { arena.levels_max() } else { before };
        let fits = (pages..=most).any(|pages| {
            empty(arena, bucket);
            arena.resize(bucket, pages);
            fill(arena, bucket, &image)
        });
        if !fits {
            empty(arena, bucket);
            arena.resize(bucket, before);
            image.iter().enumerate().for_each(|(place, line)| put(arena, bucket, place, *line));
        }
        image.clear();
        arena.keep_scratch(image);
    }

    /// Looks at every line.
    pub fn for_each(arena: &Arena, bucket: usize, mut look: impl FnMut(&Line)) {
        for place in 0..arena.pages(bucket) * PAGE_LINES {
            let line = arena.line(bucket, place);
            if !line.is_empty() {
                look(line);
            }
        }
    }

    /// The same, to change them where they stand. Who they are must stay.
    pub fn for_each_mut(arena: &mut Arena, bucket: usize, mut change: impl FnMut(&mut Line)) {
        for place in 0..arena.pages(bucket) * PAGE_LINES {
            let line = arena.line_mut(bucket, place);
            if !line.is_empty() {
                change(line);
            }
        }
    }

    /// Forgets all users and gives their memory back.
    pub fn clear(&mut self, arena: &mut Arena, bucket: usize) {
        arena.discard(bucket);
        *self = Table::default();
    }
}

fn empty(arena: &mut Arena, bucket: usize) {
    (0..arena.pages(bucket) * PAGE_LINES).for_each(|p| put(arena, bucket, p, Line::default()));
}

/// Puts lines into an empty table. False: one found no place.
fn fill(arena: &mut Arena, bucket: usize, lines: &[Line]) -> bool {
    lines.iter().filter(|line| !line.is_empty()).all(|line| match place_for(arena, bucket, line) {
        Some(place) => {
            put(arena, bucket, place, *line);
            true
        }
        None => false,
    })
}

fn hash_of(line: &Line) -> u64 {
    place_hash(user_hash(line.user), line.campaign)
}

fn homes_of(arena: &Arena, bucket: usize, line: &Line) -> [usize; 2] {
    arena.homes(bucket, hash_of(line))
}

/// Puts a line at a place, with the mark by which batches find it. An empty one makes the place nobody's.
fn put(arena: &mut Arena, bucket: usize, place: usize, line: Line) {
    let mark = if line.is_empty() { 0 } else { mark_of(hash_of(&line)) };
    arena.put(bucket, place, line, mark);
}

/// An empty home for a line that is not in the table, in the emptier one of its homes; others are moved to make one
/// empty if need be.
fn place_for(arena: &mut Arena, bucket: usize, line: &Line) -> Option<usize> {
    if arena.pages(bucket) == 0 {
        return None;
    }
    let homes = homes_of(arena, bucket, line);
    let free = |place: usize| arena.line(bucket, place).is_empty();
    let [a, b] = homes.map(|home| (free(home), free(home + 1)));
    let [in_a, in_b] = homes.map(|home| home + usize::from(!free(home)));
    match (usize::from(a.0) + usize::from(a.1), usize::from(b.0) + usize::from(b.1)) {
        (0, 0) => make_room(arena, bucket, homes),
        (in_first, in_second) if in_first >= in_second => Some(in_a),
        _ => Some(in_b),
    }
}

/// Makes a place of these full homes empty, along the shortest way there is. `None`: no way within [`WAYS_MAX`]
/// lines; nothing was moved.
#[cold]
fn make_room(arena: &mut Arena, bucket: usize, [a, b]: [usize; 2]) -> Option<usize> {
    // Breadth first: each entry is a place, and the entry whose line would move to it.
    let mut ways: Vec<(usize, Option<usize>)> = Vec::with_capacity(WAYS_MAX);
    for place in [a, a + 1, b, b + 1] {
        if ways.iter().all(|way| way.0 != place) {
            ways.push((place, None));
        }
    }
    let mut others = Vec::with_capacity(WAYS_MAX);
    let mut done = 0;
    while done < ways.len() {
        // A generation at a time: all its lines' other homes are asked for before the first is looked at.
        others.clear();
        for (at, way) in ways.iter().enumerate().skip(done) {
            let [a, b] = homes_of(arena, bucket, arena.line(bucket, way.0));
            let other = if way.0 & !1 == a { b } else { a };
            arena.prefetch(bucket, other);
            arena.prefetch(bucket, other + 1);
            others.push((at, other));
        }
        done = ways.len();
        for (at, place) in others.iter().flat_map(|(at, other)| [(*at, *other), (*at, other + 1)]) {
            if arena.line(bucket, place).is_empty() {
                return Some(shift(arena, bucket, &ways, at, place));
            }
            if ways.len() < WAYS_MAX && ways.iter().all(|way| way.0 != place) {
                ways.push((place, Some(at)));
            }
        }
    }
    None
}

/// Moves each line on the way from `last` back to its beginning one step on, the first into `free`. The place that
/// is empty then.
fn shift(
    arena: &mut Arena,
    bucket: usize,
    ways: &[(usize, Option<usize>)],
    last: usize,
    free: usize,
) -> usize {
    let mut to = free;
    for (from, _) in std::iter::successors(Some(ways[last]), |way| way.1.map(|at| ways[at])) {
        put(arena, bucket, to, *arena.line(bucket, from));
        to = from;
    }
    put(arena, bucket, to, Line::default());
    to
}

#[cfg(test)]
mod tests {
    use super::{Table, place_hash, user_hash};
    use crate::core::arena::{Arena, PAGE_LINES};
    use crate::core::layout::Layout;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn hash_agrees_with_the_ring() {
        for user in [1, 2, 77, u64::MAX, 1 << 40] {
            assert_eq!((user_hash(user) >> 52) as u16, hashring::bucket_of(user).get());
        }
    }

    #[test]
    fn a_table_that_can_not_grow_refuses_and_keeps_everyone() {
        let (mut arena, mut table) = (Arena::new(1, Arc::new(Layout::new(1))), Table::default());
        let mut kept = Vec::new();
        for user in 1..=200 {
            let hash = place_hash(user_hash(user), 1);
            match table.get_or_add(&mut arena, 0, hash, user, 1) {
                Ok(line) => {
                    line.counter = user as u32;
                    kept.push(user);
                }
                Err(_) => break,
            }
        }
        assert!((90..=PAGE_LINES * 25 / 32).contains(&kept.len()), "{}", kept.len());
        for user in kept {
            let line = Table::get(&arena, 0, place_hash(user_hash(user), 1), user, 1);
            assert_eq!(line.map(|l| l.counter), Some(user as u32));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn keeps_every_user(users in prop::collection::vec((1u64..3000, 1u32..3), 1..4000), drop_below in 0u32..4) {
            let (mut arena, mut table, mut model) = (Arena::new(4, Arc::new(Layout::new(40))), Table::default(), BTreeMap::new());
            let (mut met, mut missed) = (0, 0);
            for (n, (user, campaign)) in users.iter().enumerate() {
                let hash = place_hash(user_hash(*user), *campaign);
                let mut seen = arena.sight().homes(2, hash);
                arena.sight().look(&mut seen);
                // Where the marks of two users in the same homes are equal, the other one's line may be the one seen.
                let seen = arena.seen(&seen, *user, *campaign).map(|line| line.counter);
                let known = model.insert((*user, *campaign), n as u32);
                prop_assert!(seen == known || seen.is_none());
                (met, missed) = (met + usize::from(known.is_some()), missed + usize::from(seen != known));
                table.get_or_add(&mut arena, 2, hash, *user, *campaign).unwrap().counter = n as u32;
            }
            prop_assert!(missed <= 3 + met / 20, "{missed} of {met} were not seen where they are");
            table.retain(&mut arena, 2, |l| l.counter % 4 >= drop_below);
            model.retain(|_, n| *n % 4 >= drop_below);
            prop_assert_eq!(table.len(), model.len());
            let mut missed = 0;
            for ((user, campaign), n) in &model {
                let hash = place_hash(user_hash(*user), *campaign);
                prop_assert_eq!(Table::get(&arena, 2, hash, *user, *campaign).map(|l| l.counter), Some(*n));
                let mut seen = arena.sight().homes(2, hash);
                arena.sight().look(&mut seen);
                missed += usize::from(arena.seen(&seen, *user, *campaign).is_none());
            }
            prop_assert!(missed <= 3 + model.len() / 20, "{missed} of {} after the table was rebuilt", model.len());
            let mut seen = 0;
            Table::for_each(&arena, 2, |_| seen += 1);
            prop_assert_eq!(seen, model.len());
            table.clear(&mut arena, 2);
            prop_assert_eq!((table.len(), arena.bytes()), (0, 0));
        }
    }
}
