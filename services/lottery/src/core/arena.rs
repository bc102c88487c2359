//! Pages of user lines. A page is 128 lines (8 KiB); pages come from chunks of 2 MiB that ask for huge pages,
//! and freed pages are used again, so that growing tables leave no holes behind.
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

const CHUNK_BYTES: usize = 2 * 1024 * 1024;
const CHUNK_LINES: usize = CHUNK_BYTES / size_of::<Line>();
const CHUNK_PAGES: usize = CHUNK_LINES / PAGE_LINES;

/// Which page: chunk number times pages in a chunk plus the page within it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageId(u32);

/// A store of pages.
#[derive(Default)]
pub struct Arena {
    chunks: Vec<Chunk>,
    free: Vec<PageId>,
}

struct Chunk(NonNull<Line>);

// SAFETY: a chunk owns its memory; lines are plain numbers.
unsafe impl Send for Chunk {}

impl Chunk {
    /// Maps twice the size and gives the ends back, so that the chunk lies on one huge page. The advice comes
    /// before the first touch: a page that was touched before stays small.
    fn new() -> Chunk {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh private mapping of our own, of which only the parts outside the chunk are unmapped;
        // zero bytes are a valid (empty) Line; advice about our own memory changes no content.
        let lines = unsafe {
            let rights = ProtFlags::READ | ProtFlags::WRITE;
            mmap_anonymous(std::ptr::null_mut(), 2 * CHUNK_BYTES, rights, flags).ok().map(|start| {
                let before = start.cast::<u8>().align_offset(CHUNK_BYTES);
                let chunk = start.cast::<u8>().add(before);
                if before > 0 {
                    let _ = munmap(start, before);
                }
                let _ = munmap(chunk.add(CHUNK_BYTES).cast(), CHUNK_BYTES - before);
                let _ = madvise(chunk.cast(), CHUNK_BYTES, Advice::LinuxHugepage);
                chunk.cast::<Line>()
            })
        };
        match lines.and_then(NonNull::new) {
            Some(lines) => Chunk(lines),
            None => handle_alloc_error(Layout::new::<[Line; CHUNK_LINES]>()),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), CHUNK_BYTES) };
    }
}

impl Arena {
    /// An empty page.
    pub fn take(&mut self) -> PageId {
        if self.free.is_empty() {
            let first = (self.chunks.len() * CHUNK_PAGES) as u32;
            self.chunks.push(Chunk::new());
            self.free.extend((first..first + CHUNK_PAGES as u32).rev().map(PageId));
        }
        // Just filled when it was empty.
        self.free.pop().unwrap_or(PageId(0))
    }

    /// Gives a page back; its lines are emptied.
    pub fn give(&mut self, page: PageId) {
        for i in 0..PAGE_LINES {
            *self.line_mut(page, i) = Line::default();
        }
        self.free.push(page);
    }

    #[inline]
    fn pointer(&self, page: PageId, i: usize) -> *mut Line {
        let page = page.0 as usize;
        let chunk = &self.chunks[page / CHUNK_PAGES];
        let at = (page % CHUNK_PAGES) * PAGE_LINES + (i % PAGE_LINES);
        // SAFETY: at < CHUNK_LINES, within the chunk.
        unsafe { chunk.0.as_ptr().add(at) }
    }

    /// Line `i` of a page.
    #[inline]
    pub fn line(&self, page: PageId, i: usize) -> &Line {
        // SAFETY: within a chunk that lives as long as the arena, borrowed with it.
        unsafe { &*self.pointer(page, i) }
    }

    /// Line `i` of a page.
    #[inline]
    pub fn line_mut(&mut self, page: PageId, i: usize) -> &mut Line {
        // SAFETY: as above; the arena is borrowed mutably.
        unsafe { &mut *self.pointer(page, i) }
    }

    /// Asks the processor to fetch a line.
    #[inline]
    pub fn prefetch(&self, page: PageId, i: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch has no effect on memory; the address is within a chunk.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.pointer(page, i).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (page, i);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, CHUNK_PAGES, Line, PAGE_LINES};

    #[test]
    fn pages_are_separate_and_come_back_empty() {
        let mut arena = Arena::default();
        let pages: Vec<_> = (0..CHUNK_PAGES + 1).map(|_| arena.take()).collect();
        for (n, page) in pages.iter().enumerate() {
            for i in 0..PAGE_LINES {
                assert!(arena.line(*page, i).is_empty());
                *arena.line_mut(*page, i) = Line::new((n * PAGE_LINES + i + 1) as u64, 1);
            }
        }
        for (n, page) in pages.iter().enumerate() {
            for i in 0..PAGE_LINES {
                assert_eq!(arena.line(*page, i).user, (n * PAGE_LINES + i + 1) as u64);
            }
        }
        let bytes = arena.bytes();
        pages.into_iter().for_each(|p| arena.give(p));
        let again = arena.take();
        assert!(arena.line(again, 5).is_empty());
        assert_eq!(arena.bytes(), bytes);
    }
}
