//! The memory of a shard's user lines, laid out so that a line's address is computed, not looked up.
//!
//! Users spread evenly over buckets, so all tables of a shard are about the same size. Their memory stands in
//! levels: level n holds the n-th page of every bucket, one after the other, and the levels follow each other in
//! one reserved range of addresses. A table is then described by its number of pages alone; with an index of
//! pages per bucket, looking at that index cost as much as the line itself once millions of users had pushed
//! it out of the cache.
//!
//! Only pages that were touched take memory. A level asks for huge pages when half of its buckets have
//! reached it; before that they would cost more memory than they save time. A level that nobody needs any more
//! goes back to the system, and so do the pages of a bucket that goes to another node.
//!
//! Behind all lines stands a mark of one byte for each, from the hash of its user. A batch looks at the marks of its users'
//! homes, which are often in the cache, and fetches the one line that bears a user's mark: all four lines of sixteen users
//! were more than a core can ask for at once. A mark is only a hint. Who stands on a line is read from the line. (Marks in
//! the page of their lines would need no table of their own, and would all fall into the same few sets of the cache.)
//!
//! The only module with unsafe code of the decision core: it owns the memory, and hands out references that
//! borrow the arena.
#![allow(unsafe_code)]

use super::layout::Layout;
use super::line::Line;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::alloc::{self, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Lines of a page.
pub const PAGE_LINES: usize = 128;

const PAGE_BYTES: usize = PAGE_LINES * size_of::<Line>();
const HUGE_BYTES: usize = 2 * 1024 * 1024;

/// Where the pages of a shard's buckets lie, for those who do not hold its lock: enough to ask for a line ahead
/// of time. A locked instruction between two requests would make the second wait for the first one's address to be
/// translated, so a batch asks for all its lines before it takes any lock. What is read here may be old; then
/// the wrong line is fetched, and nothing else happens.
pub struct Sight {
    /// Start of the reserved range, on a huge page's boundary.
    base: NonNull<Line>,
    /// Behind the lines, in the same range: their marks, two bytes a pair of lines.
    marks: NonNull<AtomicU16>,
    /// Bytes of the range.
    reserved: usize,
    /// Lines that there can be.
    lines: usize,
    levels_max: usize,
    layout: Arc<Layout>,
    /// Pages of each bucket. Written by the arena alone.
    pages: Box<[AtomicU32]>,
}

// SAFETY: the lines behind the pointer are reached through the arena alone; what is read and written here is atomic.
unsafe impl Send for Sight {}
// SAFETY: as above.
unsafe impl Sync for Sight {}

/// A line, as the arena counts them.
#[derive(Clone, Copy)]
pub struct Spot(u32);

/// Where a user stands, as far as one sees without the shard's lock.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// First lines of his homes.
    pairs: [u32; 2],
    /// What he is marked with.
    mark: u8,
    /// The line that most likely is his; `None`: one of his homes'.
    at: Option<u32>,
}

impl Sight {
    #[inline]
    fn offset(&self, bucket: usize, place: usize) -> u32 {
        let (level, line) = (place / PAGE_LINES, place % PAGE_LINES);
        assert!(bucket < self.pages.len() && level < self.levels_max, "the place is in the arena");
        ((level * self.pages.len() + bucket) * PAGE_LINES + line) as u32
    }

    #[inline]
    fn pages(&self, bucket: usize) -> usize {
        self.pages[bucket].load(Ordering::Relaxed) as usize
    }

    /// The homes of a hash. Always inlined: through a call, a batch's addresses come one after the other, and so do its misses
    /// (measured: a fifth of the time of a small batch).
    #[inline(always)]
    pub fn homes(&self, bucket: usize, hash: u64) -> Seen {
        // A bucket without pages has nobody; its first page reads as empty.
        let homes = self.layout.homes(hash, self.pages(bucket).max(1));
        Seen { pairs: homes.map(|home| self.offset(bucket, home)), mark: mark_of(hash), at: None }
    }

    /// Asks for the marks of a user's homes.
    #[inline]
    pub fn prefetch_marks(&self, seen: &Seen) {
        seen.pairs.iter().for_each(|pair| fetch(self.marks(*pair)));
    }

    /// Asks for all lines of a user's homes.
    #[inline]
    pub fn prefetch_lines(&self, seen: &Seen) {
        for pair in seen.pairs {
            self.prefetch_line(pair);
            self.prefetch_line(pair + 1);
        }
    }

    /// Sees by the marks which line is a user's, and asks for it. Whose mark is in neither home comes for the first time; all
    /// of his lines are asked for.
    #[inline]
    pub fn look(&self, seen: &mut Seen) {
        let marks = seen.pairs.map(|pair| u32::from(self.marks(pair).load(Ordering::Relaxed)));
        // A byte of zeros where a mark is his: the lowest bit of `his` is in the first of them, higher ones may be in others
        // that only look like it (Mycroft 1987).
        let other = (marks[0] | (marks[1] << 16)) ^ (u32::from(seen.mark) * 0x0101_0101);
        let mut his = other.wrapping_sub(0x0101_0101) & !other & 0x8080_8080;
        if his == 0 {
            return self.prefetch_lines(seen);
        }
        let [a, b] = seen.pairs;
        let line = |his: u32| {
            let at = his.trailing_zeros() / 8;
            (if at < 2 { a } else { b }) + at % 2
        };
        seen.at = Some(line(his));
        while his != 0 {
            self.prefetch_line(line(his));
            his &= his - 1;
        }
    }

    #[inline]
    fn prefetch_line(&self, offset: u32) {
        fetch(self.base.as_ptr().wrapping_add(offset as usize));
    }

    /// The marks of a line and its neighbour in the same pair: the lower one's in the lower byte.
    #[inline]
    fn marks(&self, offset: u32) -> &AtomicU16 {
        let offset = offset as usize;
        assert!(offset < self.lines, "the line is in the arena");
        // SAFETY: within the range, which is ours as long as this lives, which reads as zeros where nothing was written, and
        // of whose marks nobody has other references.
        unsafe { &*self.marks.as_ptr().add(offset / 2) }
    }

    /// Changes the mark of a line. Only the arena's holder does.
    fn set_mark(&self, offset: u32, mark: u8) {
        let marks = self.marks(offset);
        let shift = offset % 2 * 8;
        let others = marks.load(Ordering::Relaxed) & !(0xff << shift);
        marks.store(others | u16::from(mark) << shift, Ordering::Relaxed);
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        // SAFETY: mapped in `Arena::new`, and nobody has a reference into it any more: all of them borrow from this.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.reserved) };
    }
}

/// Asks the processor to fetch what an address points to.
#[inline]
fn fetch<T>(_address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect on memory, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(_address.cast());
    }
}

/// The mark of a hash: bits that its homes are not made of. 0 is that of an empty line.
#[inline]
pub fn mark_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// The pages of a shard's buckets.
pub struct Arena {
    sight: Arc<Sight>,
    /// Buckets that have a page on each level.
    levels: Vec<u32>,
    used: usize,
    scratch: Vec<Line>,
}

impl Arena {
    /// Room for as many pages as the layout knows in each of `buckets` buckets. Takes addresses, no memory.
    pub fn new(buckets: usize, layout: Arc<Layout>) -> Arena {
        let levels_max = layout.pages_max();
        let lines = buckets * levels_max * PAGE_LINES;
        assert!(
            u32::try_from(lines).is_ok(),
            "a shard has less than 256 GiB of lines: more shards are needed"
        );
        let line_bytes = lines * size_of::<Line>();
        let reserved = (line_bytes + lines).next_multiple_of(HUGE_BYTES);
        let pages = (0..buckets).map(|_| AtomicU32::new(0)).collect();
        let base = reserve(reserved);
        // SAFETY: the range is long enough for a byte of each line behind them.
        let marks = unsafe { base.add(lines) }.cast();
        let sight = Arc::new(Sight { base, marks, reserved, lines, levels_max, layout, pages });
        let arena = Arena { sight, levels: vec![0; levels_max], used: 0, scratch: Vec::new() };
        if arena.level_bytes() < HUGE_BYTES {
            arena.advise(0, line_bytes, Advice::LinuxHugepage);
        }
        arena
    }

    /// Where the lines lie, for those who ask for them ahead.
    pub fn sight(&self) -> &Arc<Sight> {
        &self.sight
    }

    /// Pages that a bucket has.
    #[inline]
    pub fn pages(&self, bucket: usize) -> usize {
        self.sight.pages(bucket)
    }

    /// First places of the two homes of a hash in a bucket that has pages.
    #[inline]
    pub fn homes(&self, bucket: usize, hash: u64) -> [usize; 2] {
        self.sight.layout.homes(hash, self.pages(bucket))
    }

    /// Where a user stands in a bucket.
    pub fn find(&self, bucket: usize, hash: u64, user: u64, campaign: u32) -> Option<Spot> {
        if self.pages(bucket) == 0 {
            return None;
        }
        let seen = self.sight.homes(bucket, hash);
        // All at once, instead of one after the other behind wrong guesses.
        self.sight.prefetch_lines(&seen);
        self.find_in(&seen, user, campaign)
    }

    #[inline]
    fn find_in(&self, Seen { pairs: [a, b], .. }: &Seen, user: u64, campaign: u32) -> Option<Spot> {
        let spots = [*a, a + 1, *b, b + 1].map(Spot);
        spots.into_iter().find(|spot| self.at(*spot).is_of(user, campaign))
    }

    /// The user's line, if he stands where he was seen to.
    #[inline]
    pub fn seen(&mut self, seen: &Seen, user: u64, campaign: u32) -> Option<&mut Line> {
        let spot = match seen.at.map(Spot) {
            Some(spot) => Some(spot).filter(|spot| self.at(*spot).is_of(user, campaign)),
            None => self.find_in(seen, user, campaign),
        };
        spot.map(|spot| self.at_mut(spot))
    }

    /// Most pages that a bucket can have.
    pub fn levels_max(&self) -> usize {
        self.levels.len()
    }

    fn buckets(&self) -> usize {
        self.sight.pages.len()
    }

    fn level_bytes(&self) -> usize {
        self.buckets() * PAGE_BYTES
    }

    /// Advice about a part of the range. Kernels that do not know it change nothing.
    fn advise(&self, offset: usize, bytes: usize, advice: Advice) {
        assert!(offset + bytes <= self.sight.reserved, "advice is about the arena's own memory");
        // SAFETY: within the range that is ours; callers that discard content borrow the arena mutably, and
        // memory that was discarded reads as zeros, which are valid (empty) lines.
        let _ = unsafe { madvise(self.sight.base.as_ptr().cast::<u8>().add(offset).cast(), bytes, advice) };
    }

    /// Makes huge pages of the small ones that were touched already, now: the kernel's own thread would take
    /// minutes. Kernels before 6.1 don't know it, and their thread does it.
    fn collapse(&self, offset: usize, bytes: usize) {
        #[cfg(target_os = "linux")]
        {
            assert!(offset + bytes <= self.sight.reserved, "collapsing is about the arena's own memory");
            // SAFETY: within the range that is ours; content stays as it is.
            unsafe {
                let start = self.sight.base.as_ptr().cast::<u8>().add(offset);
                let _ = libc::madvise(start.cast(), bytes, libc::MADV_COLLAPSE);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, bytes);
    }

    /// An empty list for lines that are moved: one for all tables, because lists of ever larger size would leave
    /// holes in the process's memory that nothing fits into.
    pub fn take_scratch(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.scratch)
    }

    /// Keeps the list for the next one.
    pub fn keep_scratch(&mut self, scratch: Vec<Line>) {
        self.scratch = scratch;
    }

    /// Gives a bucket so many pages. New ones are empty; the caller has emptied those that it gives up.
    pub fn resize(&mut self, bucket: usize, to: usize) {
        let from = self.pages(bucket);
        for level in from..to {
            self.levels[level] += 1;
            self.used += 1;
            let bytes = self.level_bytes();
            if bytes >= HUGE_BYTES && self.levels[level] as usize == self.buckets().div_ceil(2) {
                self.advise(level * bytes, bytes, Advice::LinuxHugepage);
                self.collapse(level * bytes, bytes);
            }
        }
        for level in to..from {
            self.levels[level] -= 1;
            self.used -= 1;
            if self.levels[level] == 0 {
                let bytes = self.level_bytes();
                self.advise(level * bytes, bytes, Advice::LinuxDontNeed);
            }
        }
        self.sight.pages[bucket].store(to as u32, Ordering::Relaxed);
    }

    /// Gives the memory of a bucket's pages back.
    pub fn discard(&mut self, bucket: usize) {
        for level in 0..self.pages(bucket) {
            self.advise(level * self.level_bytes() + bucket * PAGE_BYTES, PAGE_BYTES, Advice::LinuxDontNeed);
            let first = self.sight.offset(bucket, level * PAGE_LINES);
            (first..first + PAGE_LINES as u32).for_each(|line| self.sight.set_mark(line, 0));
        }
        self.resize(bucket, 0);
    }

    /// Where a place of a bucket lies.
    #[inline]
    fn spot(&self, bucket: usize, place: usize) -> Spot {
        Spot(self.sight.offset(bucket, place))
    }

    #[inline]
    fn pointer(&self, Spot(offset): Spot) -> *mut Line {
        let offset = offset as usize;
        assert!(offset < self.sight.lines, "the spot is in the arena");
        // SAFETY: within the reserved range.
        unsafe { self.sight.base.as_ptr().add(offset) }
    }

    /// The line at a spot.
    #[inline]
    pub fn at(&self, spot: Spot) -> &Line {
        // SAFETY: within memory that lives as long as the arena, borrowed with it.
        unsafe { &*self.pointer(spot) }
    }

    /// The line at a spot.
    #[inline]
    pub fn at_mut(&mut self, spot: Spot) -> &mut Line {
        // SAFETY: as above; the arena is borrowed mutably.
        unsafe { &mut *self.pointer(spot) }
    }

    /// The line at a place of a bucket.
    #[inline]
    pub fn line(&self, bucket: usize, place: usize) -> &Line {
        self.at(self.spot(bucket, place))
    }

    /// The line at a place of a bucket.
    #[inline]
    pub fn line_mut(&mut self, bucket: usize, place: usize) -> &mut Line {
        self.at_mut(self.spot(bucket, place))
    }

    /// Puts a line and its mark at a place: the way by which a place gets another user, or none.
    pub fn put(&mut self, bucket: usize, place: usize, line: Line, mark: u8) {
        let spot = self.spot(bucket, place);
        self.sight.set_mark(spot.0, mark);
        *self.at_mut(spot) = line;
    }

    /// Asks the processor to fetch a line.
    #[inline]
    pub fn prefetch(&self, bucket: usize, place: usize) {
        self.sight.prefetch_line(self.spot(bucket, place).0);
    }

    /// Bytes of the pages in use.
    pub fn bytes(&self) -> usize {
        self.used * PAGE_BYTES
    }
}

/// Reserves addresses that begin on a huge page's boundary.
fn reserve(bytes: usize) -> NonNull<Line> {
    let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
    // SAFETY: a fresh private mapping of our own, of which only the ends outside the range are unmapped.
    let start = unsafe {
        mmap_anonymous(std::ptr::null_mut(), bytes + HUGE_BYTES, rights, flags).ok().map(|start| {
            let before = start.cast::<u8>().align_offset(HUGE_BYTES);
            let range = start.cast::<u8>().add(before);
            if before > 0 {
                let _ = munmap(start, before);
            }
            let _ = munmap(range.add(bytes).cast(), HUGE_BYTES - before);
            range.cast::<Line>()
        })
    };
    match (start.and_then(NonNull::new), alloc::Layout::from_size_align(bytes, HUGE_BYTES)) {
        (Some(base), _) => base,
        (None, Ok(layout)) => handle_alloc_error(layout),
        (None, Err(_)) => handle_alloc_error(alloc::Layout::new::<[Line; PAGE_LINES]>()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, Layout, Line, PAGE_BYTES, PAGE_LINES};
    use std::sync::Arc;

    #[test]
    fn places_are_separate_and_come_back_empty() {
        // One shape with levels of a huge page, one with smaller ones.
        for buckets in [256, 3] {
            let mut arena = Arena::new(buckets, Arc::new(Layout::new(3)));
            let all = |look: &mut dyn FnMut(usize, usize)| {
                (0..buckets).for_each(|b| (0..3 * PAGE_LINES).for_each(|p| look(b, p)));
            };
            (0..buckets).for_each(|b| arena.resize(b, 3));
            all(&mut |b, p| {
                assert!(arena.line(b, p).is_empty());
                *arena.line_mut(b, p) = Line::new((b * 1000 + p + 1) as u64, 1);
            });
            all(&mut |b, p| assert_eq!(arena.line(b, p).user, (b * 1000 + p + 1) as u64));
            assert_eq!(arena.bytes(), buckets * 3 * PAGE_BYTES);
            arena.discard(1);
            all(&mut |b, p| assert_eq!(arena.line(b, p).is_empty(), b == 1));
            // What a bucket gives up it has emptied; a level goes back when nobody has it.
            (0..buckets).filter(|b| *b != 1).for_each(|b| {
                (2 * PAGE_LINES..3 * PAGE_LINES).for_each(|p| *arena.line_mut(b, p) = Line::default());
                arena.resize(b, 2);
            });
            all(&mut |b, p| assert_eq!(arena.line(b, p).is_empty(), b == 1 || p >= 2 * PAGE_LINES));
        }
    }

    #[test]
    #[should_panic(expected = "in the arena")]
    fn a_place_outside_is_refused() {
        Arena::new(2, Arc::new(Layout::new(1))).line(1, PAGE_LINES);
    }
}
