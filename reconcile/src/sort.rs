//! External merge sort: sorts more rows than fit in memory.
//!
//! Rows are collected until they weigh more than the budget, sorted, and written to a run file; the runs are merged,
//! at most [`FAN_IN`] at once (Knuth, The Art of Computer Programming 3, 5.4.1). Memory is the budget plus one buffer for
//! each run of a merge, however many rows there are; time is n log n. As long as everything fits, no file is made.
//!
//! Run files lie in the folder that the caller names, are private to the run and are removed when the sorter or its
//! output is dropped; what a killed process leaves behind is removed by the next one in [`clear`].

use crate::rows::Spill;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Run files merged at once.
pub const FAN_IN: usize = 64;
/// Buffer of each run file, bytes.
const BUFFER: usize = 64 * 1024;
/// Least budget: below it runs would be silly small.
const BUDGET_MIN: usize = 4 * 1024;
/// Longest row, bytes; a longer length in a run file is damage.
const ROW_MAX: usize = 1 << 20;

/// What a sort took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SortStats {
    /// Rows.
    pub rows: u64,
    /// Run files written, those of intermediate merges too.
    pub runs: u64,
    /// Most bytes of rows in memory at once.
    pub resident_max: usize,
}

/// Collects rows in any order.
pub struct Sorter<T: Spill> {
    folder: PathBuf,
    name: &'static str,
    budget: usize,
    rows: Vec<T>,
    weight: usize,
    runs: Vec<Run>,
    stats: SortStats,
}

/// Removes run files that a killed process left in the folder.
///
/// # Errors
/// When the folder can't be read or a file not removed.
pub fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "run") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl<T: Spill> Sorter<T> {
    /// A sorter with `budget` bytes of memory that spills into `folder`; `name` tells its files apart.
    pub fn new(folder: &Path, name: &'static str, budget: usize) -> Sorter<T> {
        Sorter {
            folder: folder.to_owned(),
            name,
            budget: budget.max(BUDGET_MIN),
            rows: Vec::new(),
            weight: 0,
            runs: Vec::new(),
            stats: SortStats::default(),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When a run file can't be written.
    pub fn push(&mut self, row: T) -> io::Result<()> {
        self.weight += row.weight();
        self.rows.push(row);
        self.stats.rows += 1;
        self.stats.resident_max = self.stats.resident_max.max(self.weight);
        if self.weight >= self.budget {
            self.rows.sort_unstable();
            let rows = std::mem::take(&mut self.rows);
            self.weight = 0;
            self.spill(rows.into_iter().map(Ok))?;
        }
        Ok(())
    }

    /// Rows pushed so far.
    pub fn stats(&self) -> SortStats {
        self.stats
    }

    /// The rows in order.
    ///
    /// # Errors
    /// When run files can't be written or read.
    pub fn finish(mut self) -> io::Result<Sorted<T>> {
        self.rows.sort_unstable();
        while self.runs.len() >= FAN_IN {
            // Oldest first: every row goes through each level of merging once.
            let part: Vec<Run> = self.runs.drain(..FAN_IN).collect();
            let merged = Sorted::new(Vec::new(), part, SortStats::default())?;
            self.spill(merged)?;
        }
        Sorted::new(std::mem::take(&mut self.rows), std::mem::take(&mut self.runs), self.stats)
    }

    fn spill(&mut self, rows: impl Iterator<Item = io::Result<T>>) -> io::Result<()> {
        let path = self.folder.join(format!("{}-{:06}.run", self.name, self.stats.runs));
        self.stats.runs += 1;
        let file = File::create(&path).map_err(|e| at(&path, e))?;
        let run = Run { path };
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let mut bytes = Vec::new();
        for row in rows {
            bytes.clear();
            row?.encode(&mut bytes);
            out.write_all(&(bytes.len() as u32).to_le_bytes()).map_err(|e| at(&run.path, e))?;
            out.write_all(&bytes).map_err(|e| at(&run.path, e))?;
        }
        out.flush().map_err(|e| at(&run.path, e))?;
        self.runs.push(run);
        Ok(())
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A run file, removed when dropped.
struct Run {
    path: PathBuf,
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where rows come from during a merge.
enum Source<T> {
    Memory(std::vec::IntoIter<T>),
    File { input: BufReader<File>, run: Run, bytes: Vec<u8> },
}

impl<T: Spill> Source<T> {
    fn next(&mut self) -> io::Result<Option<T>> {
        match self {
            Source::Memory(rows) => Ok(rows.next()),
            Source::File { input, run, bytes } => {
                let mut len = [0u8; 4];
                match input.read(&mut len[..1])? {
                    0 => return Ok(None),
                    _ => input.read_exact(&mut len[1..])?,
                }
                let len = u32::from_le_bytes(len) as usize;
                let damaged =
                    || at(&run.path, io::Error::new(io::ErrorKind::InvalidData, "the run file is damaged"));
                if len > ROW_MAX {
                    return Err(damaged());
                }
                bytes.resize(len, 0);
                input.read_exact(bytes)?;
                T::decode(bytes).map(Some).ok_or_else(damaged)
            }
        }
    }
}

/// Rows in order.
pub struct Sorted<T: Spill> {
    sources: Vec<Source<T>>,
    heads: BinaryHeap<Reverse<(T, usize)>>,
    stats: SortStats,
}

impl<T: Spill> Sorted<T> {
    fn new(rows: Vec<T>, runs: Vec<Run>, stats: SortStats) -> io::Result<Sorted<T>> {
        let mut sources = vec![Source::Memory(rows.into_iter())];
        for run in runs {
            let input = File::open(&run.path).map_err(|e| at(&run.path, e))?;
            sources.push(Source::File {
                input: BufReader::with_capacity(BUFFER, input),
                run,
                bytes: Vec::new(),
            });
        }
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (i, source) in sources.iter_mut().enumerate() {
            if let Some(row) = source.next()? {
                heads.push(Reverse((row, i)));
            }
        }
        Ok(Sorted { sources, heads, stats })
    }

    /// What the sort took.
    pub fn stats(&self) -> SortStats {
        self.stats
    }
}

impl<T: Spill> Iterator for Sorted<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        let mut head = self.heads.peek_mut()?;
        match self.sources[head.0.1].next() {
            Err(error) => Some(Err(error)),
            Ok(Some(row)) => Some(Ok(std::mem::replace(&mut head.0.0, row))),
            Ok(None) => Some(Ok(PeekMut::pop(head).0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FAN_IN, Sorter, clear};
    use crate::row;
    use proptest::prelude::*;

    row! {
        /// A row for tests.
        pub struct Sample {
            /// Key.
            pub key: u32,
            /// Rest.
            pub text: String,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sorts_like_a_vector(keys in prop::collection::vec((any::<u32>(), "[a-z]{0,40}"), 0..3000), small in any::<bool>()) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path(), "t", if small { 4096 } else { 1 << 20 });
            let mut want: Vec<Sample> = keys.into_iter().map(|(key, text)| Sample { key, text }).collect();
            for row in &want {
                sorter.push(row.clone()).unwrap();
            }
            want.sort();
            let sorted = sorter.finish().unwrap();
            let got: Vec<Sample> = sorted.map(|r| r.unwrap()).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "run files are gone");
        }
    }

    #[test]
    fn memory_stays_within_the_budget_over_many_runs() {
        let folder = tempfile::tempdir().unwrap();
        let budget = 4096;
        let mut sorter = Sorter::new(folder.path(), "t", budget);
        let rows = 40_000u32;
        for i in 0..rows {
            sorter.push(Sample { key: i.wrapping_mul(2_654_435_761), text: "x".repeat(8) }).unwrap();
        }
        let stats = sorter.stats();
        assert!(stats.runs > FAN_IN as u64 * 2, "{stats:?}: the test means to merge in levels");
        assert!(stats.resident_max < budget + 100, "{stats:?}");
        let sorted = sorter.finish().unwrap();
        assert_eq!(sorted.stats().rows, u64::from(rows));
        let mut last = None;
        let mut count = 0;
        for row in sorted {
            let key = row.unwrap().key;
            assert!(last <= Some(key));
            last = Some(key);
            count += 1;
        }
        assert_eq!(count, rows);
    }

    #[test]
    fn leftovers_are_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t-000000.run"), b"old").unwrap();
        std::fs::write(folder.path().join("keep.csv"), b"mine").unwrap();
        clear(folder.path()).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["keep.csv"]);
    }
}
