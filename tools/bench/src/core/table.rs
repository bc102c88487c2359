//! The peer of `core.single`: a table of lines, and nothing around it.
#![allow(unsafe_code)] // advice about memory is a system call on a pointer

use super::world::{below, mix};

const HUGE: usize = 2 * 1024 * 1024;

#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Row([u64; 8]);

/// A table of 64-byte lines with the same advice about huge pages as the core's.
pub struct Table {
    rows: Vec<Row>,
    skip: usize,
    state: u64,
}

impl Table {
    /// A table of so many bytes, every page of it touched.
    pub fn new(bytes: usize) -> Table {
        let count = bytes / size_of::<Row>();
        let spare = HUGE / size_of::<Row>();
        let mut rows: Vec<Row> = Vec::with_capacity(count + spare);
        let start = rows.as_mut_ptr().cast::<u8>();
        let skip = start.align_offset(HUGE);
        let length = (rows.capacity() * size_of::<Row>() - skip) / HUGE * HUGE;
        // SAFETY: the range lies within the vector's capacity; advice changes no content.
        let advised =
            unsafe { rustix::mm::madvise(start.add(skip).cast(), length, rustix::mm::Advice::LinuxHugepage) };
        // A kernel without huge pages refuses; then neither side has them.
        let _ = advised;
        rows.resize(count + spare, Row([1; 8]));
        Table { rows, skip: skip / size_of::<Row>(), state: 7 }
    }

    /// Reads and writes `n` random rows; which one is next follows from what the last one held.
    pub fn read_modify_write(&mut self, n: u64) -> u64 {
        let rows = &mut self.rows[self.skip..];
        let count = rows.len() as u64;
        let mut x = self.state;
        for _ in 0..n {
            // All bits move at each step: a state that only crept would come back to rows that are still cached.
            x = mix(x);
            let row = &mut rows[below(x, count) as usize];
            row.0[0] = row.0[0].wrapping_add(1);
            x ^= row.0[0];
            row.0[7] = x;
        }
        self.state = std::hint::black_box(x);
        n
    }
}
