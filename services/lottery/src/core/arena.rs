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
//! The only module with unsafe code of the decision core: it owns the memory, and hands out references that
//! borrow the arena.
#![allow(unsafe_code)]

use super::layout::Layout;
use super::line::Line;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::alloc::{self, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
    levels_max: usize,
    layout: Arc<Layout>,
    /// Pages of each bucket. Written by the arena alone.
    pages: Box<[AtomicU32]>,
}

// SAFETY: the pointer is only used for addresses here; the memory behind it is the arena's.
unsafe impl Send for Sight {}
// SAFETY: as above.
unsafe impl Sync for Sight {}

impl Sight {
    #[inline]
    fn offset(&self, bucket: usize, place: usize) -> usize {
        let (level, line) = (place / PAGE_LINES, place % PAGE_LINES);
        assert!(bucket < self.pages.len() && level < self.levels_max, "the place is in the arena");
        (level * self.pages.len() + bucket) * PAGE_LINES + line
    }

    #[inline]
    fn pages(&self, bucket: usize) -> usize {
        self.pages[bucket].load(Ordering::Relaxed) as usize
    }

    /// Asks for the lines where a user would be found.
    #[inline]
    pub fn prefetch(&self, bucket: usize, hash: u64) {
        let pages = self.pages(bucket);
        if pages == 0 {
            return;
        }
        for home in self.layout.homes(hash, pages) {
            self.prefetch_line(bucket, home);
            self.prefetch_line(bucket, home + 1);
        }
    }

    #[inline]
    fn prefetch_line(&self, bucket: usize, place: usize) {
        let _offset = self.offset(bucket, place);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch has no effect on memory, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().wrapping_add(_offset).cast());
        }
    }
}

/// The pages of a shard's buckets.
pub struct Arena {
    sight: Arc<Sight>,
    reserved: usize,
    /// Buckets that have a page on each level.
    levels: Vec<u32>,
    used: usize,
    scratch: Vec<Line>,
}

impl Arena {
    /// Room for as many pages as the layout knows in each of `buckets` buckets. Takes addresses, no memory.
    pub fn new(buckets: usize, layout: Arc<Layout>) -> Arena {
        let levels_max = layout.pages_max();
        let reserved = (buckets * levels_max * PAGE_BYTES).next_multiple_of(HUGE_BYTES);
        let pages = (0..buckets).map(|_| AtomicU32::new(0)).collect();
        let sight = Arc::new(Sight { base: reserve(reserved), levels_max, layout, pages });
        let arena = Arena { sight, reserved, levels: vec![0; levels_max], used: 0, scratch: Vec::new() };
        if arena.level_bytes() < HUGE_BYTES {
            arena.advise(0, reserved, Advice::LinuxHugepage);
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

    /// First lines of the two homes of a hash in a bucket that has pages.
    #[inline]
    pub fn homes(&self, bucket: usize, hash: u64) -> [usize; 2] {
        self.sight.layout.homes(hash, self.pages(bucket))
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
        assert!(offset + bytes <= self.reserved, "advice is about the arena's own memory");
        // SAFETY: within the range that is ours; callers that discard content borrow the arena mutably, and
        // memory that was discarded reads as zeros, which are valid (empty) lines.
        let _ = unsafe { madvise(self.sight.base.as_ptr().cast::<u8>().add(offset).cast(), bytes, advice) };
    }

    /// Makes huge pages of the small ones that were touched already, now: the kernel's own thread would take
    /// minutes. Kernels before 6.1 don't know it, and their thread does it.
    fn collapse(&self, offset: usize, bytes: usize) {
        #[cfg(target_os = "linux")]
        {
            assert!(offset + bytes <= self.reserved, "collapsing is about the arena's own memory");
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
        }
        self.resize(bucket, 0);
    }

    #[inline]
    fn pointer(&self, bucket: usize, place: usize) -> *mut Line {
        let offset = self.sight.offset(bucket, place);
        // SAFETY: `offset` refuses what is outside of the reserved range.
        unsafe { self.sight.base.as_ptr().add(offset) }
    }

    /// The line at a place of a bucket.
    #[inline]
    pub fn line(&self, bucket: usize, place: usize) -> &Line {
        // SAFETY: within memory that lives as long as the arena, borrowed with it.
        unsafe { &*self.pointer(bucket, place) }
    }

    /// The line at a place of a bucket.
    #[inline]
    pub fn line_mut(&mut self, bucket: usize, place: usize) -> &mut Line {
        // SAFETY: as above; the arena is borrowed mutably.
        unsafe { &mut *self.pointer(bucket, place) }
    }

    /// Asks the processor to fetch a line.
    #[inline]
    pub fn prefetch(&self, bucket: usize, place: usize) {
        self.sight.prefetch_line(bucket, place);
    }

    /// Bytes of the pages in use.
    pub fn bytes(&self) -> usize {
        self.used * PAGE_BYTES
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.sight.base.as_ptr().cast(), self.reserved) };
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
