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

use super::line::Line;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

/// Lines of a page.
pub const PAGE_LINES: usize = 128;

const PAGE_BYTES: usize = PAGE_LINES * size_of::<Line>();
const HUGE_BYTES: usize = 2 * 1024 * 1024;

/// The pages of a shard's buckets.
pub struct Arena {
    /// Start of the reserved range, on a huge page's boundary.
    base: NonNull<Line>,
    reserved: usize,
    buckets: usize,
    /// Buckets that have a page on each level.
    levels: Vec<u32>,
    pages: usize,
    scratch: Vec<Line>,
}

// SAFETY: an arena owns its memory; lines are plain numbers.
unsafe impl Send for Arena {}

impl Arena {
    /// Room for up to `levels_max` pages in each of `buckets` buckets. Takes addresses, no memory.
    pub fn new(buckets: usize, levels_max: usize) -> Arena {
        let reserved = (buckets * levels_max * PAGE_BYTES).next_multiple_of(HUGE_BYTES);
        let base = reserve(reserved);
        let arena =
            Arena { base, reserved, buckets, levels: vec![0; levels_max], pages: 0, scratch: Vec::new() };
        if arena.level_bytes() < HUGE_BYTES {
            arena.advise(0, reserved, Advice::LinuxHugepage);
        }
        arena
    }

    /// Most pages that a bucket can have.
    pub fn levels_max(&self) -> usize {
        self.levels.len()
    }

    fn level_bytes(&self) -> usize {
        self.buckets * PAGE_BYTES
    }

    /// Advice about a part of the range. Kernels that do not know it change nothing.
    fn advise(&self, offset: usize, bytes: usize, advice: Advice) {
        assert!(offset + bytes <= self.reserved, "advice is about the arena's own memory");
        // SAFETY: within the range that is ours; callers that discard content borrow the arena mutably, and
        // memory that was discarded reads as zeros, which are valid (empty) lines.
        let _ = unsafe { madvise(self.base.as_ptr().cast::<u8>().add(offset).cast(), bytes, advice) };
    }

    /// Makes huge pages of the small ones that were touched already, now: the kernel's own thread would take
    /// minutes. Kernels before 6.1 don't know it, and their thread does it.
    fn collapse(&self, offset: usize, bytes: usize) {
        #[cfg(target_os = "linux")]
        {
            assert!(offset + bytes <= self.reserved, "collapsing is about the arena's own memory");
            // SAFETY: within the range that is ours; content stays as it is.
            unsafe {
                let start = self.base.as_ptr().cast::<u8>().add(offset);
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

    /// A bucket goes from `from` to `to` pages; new ones are empty.
    pub fn extend(&mut self, from: usize, to: usize) {
        for level in from..to {
            self.levels[level] += 1;
            self.pages += 1;
            let bytes = self.level_bytes();
            if bytes >= HUGE_BYTES && self.levels[level] as usize == self.buckets.div_ceil(2) {
                self.advise(level * bytes, bytes, Advice::LinuxHugepage);
                self.collapse(level * bytes, bytes);
            }
        }
    }

    /// A bucket goes from `from` to `to` pages; the caller has emptied those that it gives up.
    pub fn shrink(&mut self, from: usize, to: usize) {
        for level in to..from {
            self.levels[level] -= 1;
            self.pages -= 1;
            if self.levels[level] == 0 {
                let bytes = self.level_bytes();
                self.advise(level * bytes, bytes, Advice::LinuxDontNeed);
            }
        }
    }

    /// Gives the memory of a bucket's first `pages` pages back.
    pub fn discard(&mut self, bucket: usize, pages: usize) {
        assert!(bucket < self.buckets, "the bucket is on this shard");
        for level in 0..pages {
            self.advise(level * self.level_bytes() + bucket * PAGE_BYTES, PAGE_BYTES, Advice::LinuxDontNeed);
        }
        self.shrink(pages, 0);
    }

    #[inline]
    fn pointer(&self, bucket: usize, place: usize) -> *mut Line {
        let (level, line) = (place / PAGE_LINES, place % PAGE_LINES);
        assert!(bucket < self.buckets && level < self.levels.len(), "the place is in the arena");
        // SAFETY: level < levels and bucket < buckets, so the offset is within the reserved range.
        unsafe { self.base.as_ptr().add((level * self.buckets + bucket) * PAGE_LINES + line) }
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
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch has no effect on memory; the address is within the arena.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.pointer(bucket, place).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (bucket, place);
    }

    /// Bytes of the pages in use.
    pub fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.reserved) };
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
    match (start.and_then(NonNull::new), Layout::from_size_align(bytes, HUGE_BYTES)) {
        (Some(base), _) => base,
        (None, Ok(layout)) => handle_alloc_error(layout),
        (None, Err(_)) => handle_alloc_error(Layout::new::<[Line; PAGE_LINES]>()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, Line, PAGE_BYTES, PAGE_LINES};

    #[test]
    fn places_are_separate_and_come_back_empty() {
        // One shape with levels of a huge page, one with smaller ones.
        for buckets in [256, 3] {
            let mut arena = Arena::new(buckets, 3);
            let all = |look: &mut dyn FnMut(usize, usize)| {
                (0..buckets).for_each(|b| (0..3 * PAGE_LINES).for_each(|p| look(b, p)));
            };
            (0..buckets).for_each(|_| arena.extend(0, 3));
            all(&mut |b, p| {
                assert!(arena.line(b, p).is_empty());
                *arena.line_mut(b, p) = Line::new((b * 1000 + p + 1) as u64, 1);
            });
            all(&mut |b, p| assert_eq!(arena.line(b, p).user, (b * 1000 + p + 1) as u64));
            assert_eq!(arena.bytes(), buckets * 3 * PAGE_BYTES);
            arena.discard(1, 3);
            all(&mut |b, p| assert_eq!(arena.line(b, p).is_empty(), b == 1));
            (1..buckets).for_each(|_| arena.shrink(3, 2));
            all(&mut |b, p| assert_eq!(arena.line(b, p).is_empty(), b == 1 || p >= 2 * PAGE_LINES));
        }
    }

    #[test]
    #[should_panic(expected = "in the arena")]
    fn a_place_outside_is_refused() {
        Arena::new(2, 1).line(1, PAGE_LINES);
    }
}
