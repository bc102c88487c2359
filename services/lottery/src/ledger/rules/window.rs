//! Counts of units in the slots around now.
//!
//! A limit per slot has to hold over several nodes and several leases, and these do not ask in the order of the
//! slots: a slow prize takes a place two seconds ahead, a fast one of the same vendor fills the slots before it. A
//! position ("the first slot with room") would count those as used up; so each slot has its own count.

use campaign::{Slot, SlotRate};

/// Units placed in each slot from `first` on. Slots that are over are forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotWindow {
    first: Slot,
    counts: Vec<u32>,
}

impl SlotWindow {
    /// A window with these counts from `first` on.
    pub fn new(first: Slot, counts: Vec<u32>) -> SlotWindow {
        SlotWindow { first, counts }
    }

    /// The first slot and the counts from there on.
    pub fn parts(&self) -> (Slot, &[u32]) {
        (self.first, &self.counts)
    }

    /// The first slot that was not forgotten; in slots before it there is no room any more.
    pub fn first(&self) -> Slot {
        self.first
    }

    /// Units placed in a slot.
    pub fn count(&self, slot: Slot) -> u32 {
        let at = slot.0.checked_sub(self.first.0).and_then(|i| usize::try_from(i).ok());
        at.and_then(|i| self.counts.get(i).copied()).unwrap_or(0)
    }

    /// Units placed in `from .. to`.
    pub fn sum(&self, from: Slot, to: Slot) -> u64 {
        let skip = from.0.saturating_sub(self.first.0) as usize;
        let end = to.0.saturating_sub(self.first.0) as usize;
        self.counts.iter().take(end).skip(skip).map(|&c| u64::from(c)).sum()
    }

    /// Forgets what lies before `slot`.
    pub fn forget_before(&mut self, slot: Slot) {
        if self.counts.is_empty() || slot <= self.first {
            return;
        }
        let gone = (slot.0 - self.first.0).min(self.counts.len() as u64);
        self.counts.drain(..gone as usize);
        self.first = slot;
    }

    /// Counts `units` into a slot that was not forgotten.
    pub fn add(&mut self, slot: Slot, units: u32) {
        if units == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.first = self.first.max(slot);
        }
        debug_assert!(slot >= self.first, "a slot that was forgotten");
        let at = slot.0.saturating_sub(self.first.0) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(units);
    }

    /// Room in a slot under a rate. Below one unit a slot, units keep the rate's distance on both sides.
    pub fn room(&self, slot: Slot, rate: SlotRate) -> u32 {
        let around = u64::from(rate.every) - 1;
        let from = Slot(slot.0.saturating_sub(around));
        if around > 0 && (from.0..=slot.0 + around).any(|s| s != slot.0 && self.count(Slot(s)) > 0) {
            return 0;
        }
        rate.per_slot.saturating_sub(self.count(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_far_ahead_leaves_the_slots_before_it_free() {
        let rate = SlotRate::per_second(40).unwrap();
        let mut window = SlotWindow::new(Slot(95), vec![0]);
        window.add(Slot(119), 4);
        window.add(Slot(100), 1);
        assert_eq!([119, 118, 100].map(|s| window.room(Slot(s), rate)), [0, 4, 3]);
        assert_eq!(window.sum(Slot(0), Slot(119)), 1);
        window.forget_before(Slot(101));
        assert_eq!((window.first(), window.sum(Slot(0), Slot(200))), (Slot(101), 4));
    }

    proptest! {
        /// In whatever order slots are filled, no ten neighbouring slots carry more than the second's rate.
        #[test]
        fn never_above_the_rate(rate in 1u64..60, asks in prop::collection::vec((0u64..40, 1u32..20), 1..80)) {
            let slots = SlotRate::per_second(rate).unwrap();
            let mut window = SlotWindow::new(Slot(0), vec![0]);
            let mut placed = vec![0u64; 40];
            for (slot, units) in asks {
                let n = window.room(Slot(slot), slots).min(units);
                window.add(Slot(slot), n);
                placed[slot as usize] += u64::from(n);
            }
            for second in placed.windows(10) {
                prop_assert!(second.iter().sum::<u64>() <= rate);
            }
            prop_assert_eq!(window.sum(Slot(0), Slot(40)), placed.iter().sum::<u64>());
        }
    }
}
