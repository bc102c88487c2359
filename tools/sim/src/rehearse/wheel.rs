//! Who submits when: a wheel of milliseconds, and behind it blocks of about four seconds for whoever waits longer.
//!
//! Everything that a waiting player is stands in the twelve bytes of his entry, so that there is no table of players
//! to miss the cache in: an entry moves from one place of the wheel to the next. Places are chains of small chunks
//! from one pool, so memory follows the players and not the peaks of each millisecond.

use std::collections::BTreeMap;

/// Milliseconds of a block.
const BLOCK_MS: u64 = 4_096;
/// Milliseconds of the wheel: this block and the next one.
const WHEEL_MS: u64 = 2 * BLOCK_MS;
/// Entries of a chunk: with its header, 512 bytes.
const CHUNK: usize = 42;
const NONE: u32 = u32::MAX;

/// A player who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Entry {
    /// Number of the player, from 0: user id less 1.
    pub player: u32,
    /// Counter of his next draw.
    pub counter: u32,
    /// He leaves in this slot since the beginning; `u32::MAX`: with the last round.
    pub leaves: u32,
}

struct Chunk {
    next: u32,
    used: u32,
    entries: [Entry; CHUNK],
}

/// See the module.
pub(super) struct Wheel {
    heads: Box<[u32]>,
    chunks: Vec<Chunk>,
    free: u32,
    /// Entries in the wheel.
    near: u64,
    /// First ms that was not taken yet.
    now_ms: u64,
    far: BTreeMap<u64, Vec<(u16, Entry)>>,
}

impl Wheel {
    /// An empty wheel that stands at an instant.
    pub fn new(now_ms: u64) -> Wheel {
        Wheel {
            heads: vec![NONE; WHEEL_MS as usize].into(),
            chunks: Vec::new(),
            free: NONE,
            near: 0,
            now_ms,
            far: BTreeMap::new(),
        }
    }

    /// Someone waits in the wheel itself: within the next seconds.
    pub fn is_busy(&self) -> bool {
        self.near > 0
    }

    /// Nobody comes before this instant; `None`: nobody waits. Only of use while the wheel itself is empty.
    pub fn next_ms(&self) -> Option<u64> {
        let far = self.far.keys().next().map(|block| block * BLOCK_MS);
        if self.near > 0 { Some(self.now_ms) } else { far }
    }

    /// Puts an entry at an instant; one that is over counts as now.
    #[inline]
    pub fn put(&mut self, at_ms: u64, entry: Entry) {
        let at_ms = at_ms.max(self.now_ms);
        let block = at_ms / BLOCK_MS;
        if block > self.now_ms / BLOCK_MS + 1 {
            self.far.entry(block).or_default().push(((at_ms % BLOCK_MS) as u16, entry));
        } else {
            self.put_near(at_ms, entry);
        }
    }

    #[inline]
    fn put_near(&mut self, at_ms: u64, entry: Entry) {
        let place = (at_ms % WHEEL_MS) as usize;
        let head = self.heads[place];
        let at = match self.chunks.get(head as usize) {
            Some(chunk) if (chunk.used as usize) < CHUNK => head,
            _ => self.chunk(place, head),
        };
        let chunk = &mut self.chunks[at as usize];
        chunk.entries[chunk.used as usize] = entry;
        chunk.used += 1;
        self.near += 1;
    }

    /// A fresh chunk in front of a chain.
    fn chunk(&mut self, place: usize, next: u32) -> u32 {
        let at = match self.free {
            NONE => {
                self.chunks.push(Chunk { next, used: 0, entries: [Entry::default(); CHUNK] });
                (self.chunks.len() - 1) as u32
            }
            at => {
                let chunk = &mut self.chunks[at as usize];
                self.free = chunk.next;
                (chunk.next, chunk.used) = (next, 0);
                at
            }
        };
        self.heads[place] = at;
        at
    }

    /// Goes on to an instant at which nothing was missed: the caller has taken everything before it.
    pub fn go_on(&mut self, now_ms: u64) {
        debug_assert!(now_ms >= self.now_ms);
        self.now_ms = now_ms;
        let near = now_ms / BLOCK_MS + 1;
        while let Some(block) = self.far.first_entry().filter(|b| *b.key() <= near) {
            let (number, entries) = (*block.key(), block.remove());
            for (ms, entry) in entries {
                self.put_near((number * BLOCK_MS + u64::from(ms)).max(now_ms), entry);
            }
        }
    }

    /// Takes some of those who come at the instant that [`Wheel::go_on`] went to; false: that was all. What is put there meanwhile comes too.
    #[inline]
    pub fn take(&mut self, out: &mut Vec<Entry>) -> bool {
        let place = (self.now_ms % WHEEL_MS) as usize;
        let head = self.heads[place];
        let Some(chunk) = self.chunks.get_mut(head as usize) else { return false };
        out.extend_from_slice(&chunk.entries[..chunk.used as usize]);
        self.near -= u64::from(chunk.used);
        self.heads[place] = chunk.next;
        chunk.next = self.free;
        self.free = head;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Wheel};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Everybody comes exactly once, at his instant.
        #[test]
        fn keeps_every_appointment(start in 0u64..10_000, puts in prop::collection::vec((0u64..30_000, 0u64..60), 1..400)) {
            let mut wheel = Wheel::new(start);
            let mut wanted: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            let mut puts: Vec<(u64, u64)> = puts;
            puts.sort_by_key(|p| p.1);
            let mut came: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            let (mut next, mut batch) = (0, Vec::new());
            for now in start..start + 31_000 {
                wheel.go_on(now);
                while next < puts.len() && start + puts[next].1 <= now {
                    let at = now + puts[next].0;
                    wheel.put(at, Entry { player: next as u32, counter: 1, leaves: 0 });
                    wanted.entry(at).or_default().push(next as u32);
                    next += 1;
                }
                while wheel.take(&mut batch) {
                    came.entry(now).or_default().extend(batch.drain(..).map(|e| e.player));
                }
            }
            came.values_mut().for_each(|v| v.sort_unstable());
            wanted.values_mut().for_each(|v| v.sort_unstable());
            prop_assert_eq!(came, wanted);
            prop_assert_eq!((wheel.next_ms(), wheel.is_busy()), (None, false));
        }
    }
}
