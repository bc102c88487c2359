//! Pages of user lines. A page is 128 lines (8 KiB); pages come from chunks of 2 MiB that ask for huge pages,
//! and freed pages are used again, so that growing tables leave no holes behind.
//!
//! The only module with unsafe code of the decision core: it owns the memory, and hands out references that
//! borrow the arena.
#![allow(unsafe_code)]

use super::line::Line;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
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

const LAYOUT: Layout = match Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a chunk's size is a power of two"),
};

impl Chunk {
    fn new() -> Chunk {
        // SAFETY: the layout has a size; zero bytes are a valid (empty) Line.
        let memory = unsafe { alloc_zeroed(LAYOUT) };
        let Some(lines) = NonNull::new(memory.cast::<Line>()) else { handle_alloc_error(LAYOUT) };
        // SAFETY: advice about memory that is ours; a kernel that does not take it changes nothing.
        let _ = unsafe { rustix::mm::madvise(memory.cast(), CHUNK_BYTES, rustix::mm::Advice::LinuxHugepage) };
        Chunk(lines)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.0.as_ptr().cast(), LAYOUT) }
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
