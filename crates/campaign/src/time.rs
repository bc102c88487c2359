//! Time: milliseconds UTC, and the 100 ms slots in which units are released.

/// Length of a slot of release and of delivery pace, in milliseconds.
pub const SLOT_MS: u64 = 100;

/// A slot: the 100 ms that begin at `slot * 100` ms UTC. The last number means 'never', so sums stop there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot that holds the instant.
    pub fn at(ms: u64) -> Slot {
        Slot(ms / SLOT_MS)
    }

    /// First millisecond of the slot.
    pub fn start_ms(self) -> u64 {
        self.0.saturating_mul(SLOT_MS)
    }

    /// First millisecond behind the slot.
    pub fn end_ms(self) -> u64 {
        self.0.saturating_add(1).saturating_mul(SLOT_MS)
    }

    /// The slot `n` later.
    pub fn plus(self, n: u64) -> Slot {
        Slot(self.0.saturating_add(n))
    }
}
