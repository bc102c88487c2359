//! Which page of a bucket a hash belongs to, for every number of pages.
//!
//! When a bucket grows by a page, only the lines of that page's share may move: going through all of them anew cost
//! more than everything else a newcomer costs. So the hashes are cut into slots, each slot belongs to a page, and a
//! further page takes its share of slots from those that have most (consistent hashing with a table; the table of a
//! number of pages is a few KiB and the same for all buckets, so the ones in use stay in the cache).

use super::arena::PAGE_LINES;

/// Slots for each page that a bucket can have: pages differ by one slot at most.
const SLOTS_PER_PAGE: usize = 16;

/// Slots and their pages.
pub struct Layout {
    slot_bits: u32,
    /// The pages of all slots, for 1, 2, 3 ... pages.
    pages: Box<[u16]>,
}

impl Layout {
    /// For up to so many pages.
    pub fn new(pages_max: usize) -> Layout {
        let slots = (pages_max * SLOTS_PER_PAGE).next_power_of_two();
        let mut now = vec![0u16; slots];
        let mut all = Vec::with_capacity(slots * pages_max);
        let mut counts = vec![slots];
        all.extend_from_slice(&now);
        for page in 1..pages_max {
            counts.push(0);
            let share = slots / (page + 1);
            // First from those that have more than one above their share, then from those that have one.
            for least in [share + 1, share] {
                for slot in spread(slots) {
                    let owner = usize::from(now[slot]);
                    if counts[page] < share && owner != page && counts[owner] > least {
                        counts[owner] -= 1;
                        counts[page] += 1;
                        now[slot] = page as u16;
                    }
                }
            }
            all.extend_from_slice(&now);
        }
        Layout { slot_bits: slots.trailing_zeros(), pages: all.into() }
    }

    /// Most pages that it knows of.
    pub fn pages_max(&self) -> usize {
        self.pages.len() >> self.slot_bits
    }

    /// First lines of the two homes of a hash, in a table of so many pages (at least one).
    #[inline]
    pub fn homes(&self, hash: u64, pages: usize) -> [usize; 2] {
        let base = (pages - 1) << self.slot_bits;
        let home = |half: u32| {
            let slot = (half >> (32 - self.slot_bits)) as usize;
            // The bits below the slot's: which pair of the page.
            let pair = (half << self.slot_bits) as usize >> (32 - PAIR_BITS);
            usize::from(self.pages[base + slot]) * PAGE_LINES + pair * 2
        };
        [home((hash >> 32) as u32), home(hash as u32)]
    }
}

/// Pairs of a page, as a power of two.
const PAIR_BITS: u32 = (PAGE_LINES / 2).trailing_zeros();

/// All slots, neighbours far apart, so that a page's slots come from everywhere.
fn spread(slots: usize) -> impl Iterator<Item = usize> {
    // An odd step goes through all places of a power of two.
    let step = (slots * 5 / 8) | 1;
    (0..slots).map(move |i| i.wrapping_mul(step) & (slots - 1))
}

#[cfg(test)]
mod tests {
    use super::{Layout, SLOTS_PER_PAGE};
    use crate::core::arena::PAGE_LINES;

    #[test]
    fn pages_are_even_and_few_slots_move() {
        let layout = Layout::new(50);
        let slots = 1usize << layout.slot_bits;
        assert!(slots >= 50 * SLOTS_PER_PAGE);
        let table = |pages: usize| &layout.pages[(pages - 1) * slots..pages * slots];
        for pages in 1..=50 {
            let count = |page: usize| table(pages).iter().filter(|p| usize::from(**p) == page).count();
            let counts: Vec<usize> = (0..pages).map(count).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least >= slots / pages && *most <= slots.div_ceil(pages) + 1, "{pages}: {counts:?}");
            if pages > 1 {
                let moved = |(old, new): (&u16, &u16)| {
                    assert!(old == new || usize::from(*new) == pages - 1, "only to the new page");
                    usize::from(old != new)
                };
                let moves: usize = table(pages - 1).iter().zip(table(pages)).map(moved).sum();
                assert_eq!(moves, slots / pages);
            }
        }
    }

    #[test]
    fn homes_lie_in_the_table() {
        let layout = Layout::new(7);
        for n in 0..10_000u64 {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for home in layout.homes(hash, 7) {
                assert!(home % 2 == 0 && home < 7 * PAGE_LINES);
            }
        }
        assert_eq!(layout.homes(u64::MAX, 1), [PAGE_LINES - 2; 2]);
        assert_eq!(layout.homes(0, 1), [0; 2]);
    }
}
