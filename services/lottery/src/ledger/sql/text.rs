//! How sets, curves and windows stand in text columns: short, the same in every engine, and readable by people.
//!
//! - ranges: `0-9,12` (both ends included);
//! - lease ranges: `0-9@17000000000/5*1`, units at first slot, units a slot, slots apart;
//! - curve: `0:0,60000:1000000000`, ms since the opening and share in parts per billion;
//! - window: `17000000000:5,0,3`, first slot and counts.

use campaign::curve::Point;
use campaign::{Curve, Ranges, Slot, UnitRange};
use records::LeaseRange;

use crate::ledger::rules::window::SlotWindow;

/// Reads what `Ranges` displays.
pub fn ranges(text: &str) -> Option<Ranges> {
    let mut set = Ranges::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        set.add(unit_range(part)?).ok()?;
    }
    Some(set)
}

fn unit_range(text: &str) -> Option<UnitRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(UnitRange { first, count: last.checked_sub(first)?.checked_add(1)? })
}

pub fn lease_ranges_text(ranges: &[LeaseRange]) -> String {
    let one = |r: &LeaseRange| {
        let (first, last) = (r.units.first, r.units.end() - 1);
        format!("{first}-{last}@{}/{}*{}", r.first_slot.0, r.per_slot, r.every)
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

pub fn lease_ranges(text: &str) -> Option<Vec<LeaseRange>> {
    let one = |part: &str| {
        let (units, pace) = part.split_once('@')?;
        let (slot, pace) = pace.split_once('/')?;
        let (per_slot, every) = pace.split_once('*')?;
        let first_slot = Slot(slot.parse().ok()?);
        let (per_slot, every) = (per_slot.parse().ok()?, every.parse().ok()?);
        Some(LeaseRange { units: unit_range(units)?, first_slot, per_slot, every })
            .filter(|r| r.per_slot > 0 && r.every > 0)
    };
    text.split(',').map(one).collect()
}

pub fn curve_text(curve: &Curve) -> String {
    curve.points().iter().map(|p| format!("{}:{}", p.at_ms, p.share)).collect::<Vec<_>>().join(",")
}

pub fn curve(text: &str) -> Option<Curve> {
    let point = |part: &str| {
        let (at_ms, share) = part.split_once(':')?;
        Some(Point { at_ms: at_ms.parse().ok()?, share: share.parse().ok()? })
    };
    Curve::new(text.split(',').map(point).collect::<Option<Vec<_>>>()?).ok()
}

pub fn window_text(window: &SlotWindow) -> String {
    let (first, counts) = window.parts();
    format!("{}:{}", first.0, counts.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

pub fn window(text: &str) -> Option<SlotWindow> {
    let (first, counts) = text.split_once(':')?;
    let counts: Result<Vec<u32>, _> = counts.split(',').filter(|c| !c.is_empty()).map(str::parse).collect();
    Some(SlotWindow::new(Slot(first.parse().ok()?), counts.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::collection::vec(0u64..500, 0..60),
            leases in prop::collection::vec((0u64..1_000_000, 1u64..99, 0u64..1 << 40, 1u32..9, 1u32..9), 1..9),
            first in 0u64..1 << 40, counts in prop::collection::vec(0u32..9, 0..30),
        ) {
            let set: Ranges = numbers.into_iter().collect();
            prop_assert_eq!(ranges(&set.to_string()), Some(set));
            let leases: Vec<LeaseRange> = leases.into_iter().map(|(first, count, slot, per_slot, every)| LeaseRange {
                units: UnitRange { first, count }, first_slot: Slot(slot), per_slot, every,
            }).collect();
            prop_assert_eq!(lease_ranges(&lease_ranges_text(&leases)), Some(leases));
            let w = SlotWindow::new(Slot(first), counts);
            prop_assert_eq!(window(&window_text(&w)), Some(w));
        }
    }

    #[test]
    fn what_no_program_wrote_is_refused() {
        assert_eq!(ranges("5-3"), None);
        assert_eq!(ranges("1,1"), None);
        assert_eq!(lease_ranges("1-2@5/0*1"), None);
        assert_eq!(lease_ranges(""), None);
        assert_eq!(curve("0:0"), None);
        assert_eq!(window("7"), None);
        let even = Curve::even(0, 60_000);
        assert_eq!(curve(&curve_text(&even)), Some(even));
    }
}
