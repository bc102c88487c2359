//! What happened, in order: hashed, so that two runs can be compared, and its end kept, so that people can read it.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write as _};

/// Lines that are kept for people.
const KEPT_LINES: usize = 5_000;

/// Prime of FNV-1a with 64 bits (Fowler, Noll, Vo): enough to tell runs apart.
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The trace of a run.
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: VecDeque::new() }
    }

    /// Adds an event at an instant (ms since the world began).
    pub fn add(&mut self, at_ms: u64, what: Arguments<'_>) {
        let mut line = if self.lines.len() < KEPT_LINES {
            String::with_capacity(96)
        } else {
            self.lines.pop_front().unwrap_or_default()
        };
        line.clear();
        // Writing to a string does not fail.
        let _ = write!(line, "{at_ms:>7} {what}");
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.lines.push_back(line);
    }

    /// Adds an event that has no line: when it happened, and the random number drawn for it.
    pub fn mix(&mut self, at_ms: u64, random: u64) {
        for byte in at_ms.to_le_bytes().into_iter().chain(random.to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.events += 1;
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn tail(self) -> Vec<String> {
        self.lines.into()
    }
}
