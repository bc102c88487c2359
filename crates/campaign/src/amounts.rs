//! The amount of each unit of a cash prize.
//!
//! A tranche's sum is split exactly, once and for all: the units stand in blocks of [`BLOCK_UNITS`]; a block's
//! sum is the difference of two rounded prefixes of the tranche's sum, so that all blocks together are the
//! tranche to the fen; within a block each unit has a random weight, what lies above the minimum is shared
//! out by weight, shares above the maximum are cut and handed to units that have room. Weights are
//! 2^36 / (h + 2^24), rounded down, for a uniform 32-bit h: a Pareto-like tail, so that most amounts are small and a few are
//! large. Everything is integer arithmetic.

use crate::money::Fen;
use crate::plan::Tranche;
use crate::seed::RoundKeys;

/// Units in a block. Part of the published arithmetic: never changes.
pub const BLOCK_UNITS: u64 = 256;

/// Amounts of a prize's units, with the last block kept.
#[derive(Clone)]
pub struct UnitAmounts {
    prize: u32,
    tranches: Vec<Tranche>,
    kept: Option<(u64, Vec<i64>)>,
}

impl UnitAmounts {
    /// Amounts of prize `prize` with these tranches (rising, as in the plan).
    pub fn new(prize: u32, tranches: Vec<Tranche>) -> UnitAmounts {
        UnitAmounts { prize, tranches, kept: None }
    }

    /// The amount of `unit`, or `None` where no tranche has that number.
    pub fn amount(&mut self, keys: &RoundKeys, unit: u64) -> Option<Fen> {
        let i = self.tranches.partition_point(|t| t.first + t.units <= unit);
        let tranche = self.tranches.get(i).filter(|t| t.first <= unit)?;
        if tranche.min == tranche.max {
            return Some(tranche.min);
        }
        let block_first = tranche.first + (unit - tranche.first) / BLOCK_UNITS * BLOCK_UNITS;
        let within = (unit - block_first) as usize;
        if let Some((first, amounts)) = &self.kept
            && *first == block_first
        {
            return amounts.get(within).copied().map(Fen);
        }
        let amounts = block(tranche, self.prize, block_first, keys);
        let amount = amounts.get(within).copied().map(Fen);
        self.kept = Some((block_first, amounts));
        amount
    }
}

/// Sum of the first `units` units' blocks' shares: the tranche's sum in proportion, rounded down.
fn prefix(tranche: &Tranche, units: u64) -> i64 {
    (i128::from(tranche.fen.0) * i128::from(units) / i128::from(tranche.units)) as i64
}

/// The amounts of the block that begins at unit `first` of the tranche.
fn block(tranche: &Tranche, prize: u32, first: u64, keys: &RoundKeys) -> Vec<i64> {
    let offset = first - tranche.first;
    let count = BLOCK_UNITS.min(tranche.units - offset);
    let sum = prefix(tranche, offset + count) - prefix(tranche, offset);
    let (min, max) = (tranche.min.0, tranche.max.0);
    let weights: Vec<u64> = (0..count)
        .map(|i| {
            let h = keys.amount(prize, first + i, 0) >> 32;
            (1u64 << 36) / (h + (1 << 24))
        })
        .collect();
    share_out(sum, min, max, &weights)
}

/// Shares `sum` by weight so that each share lies in `min..=max` and all together are `sum`.
///
/// Rounds: what is left to give goes to the units with room, by weight and rounded down, cut at the maximum;
/// each round either gives out everything but crumbs, or fills a unit, so there are at most `n` rounds. Crumbs
/// go one fen at a time to the units with room, in order.
fn share_out(sum: i64, min: i64, max: i64, weights: &[u64]) -> Vec<i64> {
    let n = weights.len();
    let mut amounts = vec![min; n];
    let mut left = sum - min * n as i64;
    debug_assert!(left >= 0 && sum <= max * n as i64, "the plan checks min x units <= fen <= max x units");
    while left > 0 {
        let open: Vec<usize> = (0..n).filter(|&i| amounts[i] < max).collect();
        if open.is_empty() {
            break;
        }
        let total: u128 = open.iter().map(|&i| u128::from(weights[i])).sum();
        let pot = left;
        for &i in &open {
            let share = (pot as u128 * u128::from(weights[i]) / total) as i64;
            let add = share.min(max - amounts[i]).min(left);
            amounts[i] += add;
            left -= add;
        }
        if left == pot || left < open.len() as i64 {
            for &i in &open {
                if left > 0 && amounts[i] < max {
                    amounts[i] += 1;
                    left -= 1;
                }
            }
        }
    }
    amounts
}

#[cfg(test)]
mod tests {
    use super::UnitAmounts;
    use crate::money::Fen;
    use crate::plan::Tranche;
    use crate::seed::RoundSeed;
    use proptest::prelude::*;

    fn tranche(first: u64, units: u64, fen: i64, min: i64, max: i64) -> Tranche {
        Tranche { first, units, fen: Fen(fen), min: Fen(min), max: Fen(max) }
    }

    #[test]
    fn has_a_tail() {
        let keys = RoundSeed([3; 32]).keys();
        let t = tranche(0, 10_000, 10_000 * 500, 50, 20_000);
        let mut amounts = UnitAmounts::new(1, vec![t]);
        let all: Vec<i64> = (0..10_000).map(|u| amounts.amount(&keys, u).unwrap().0).collect();
        assert_eq!(all.iter().sum::<i64>(), 5_000_000);
        assert!(all.iter().filter(|&&a| a > 5_000).count() > 50, "some are ten times the mean");
        assert!(all.iter().filter(|&&a| a < 300).count() > 5_000, "most are below it");
    }

    proptest! {
        #[test]
        fn sums_exactly_within_the_range(
            seed in any::<[u8; 32]>(), first in 0u64..1000, units in 1u64..1500,
            min in 0i64..100, spread in 0i64..20_000, fill in 0u64..=1000,
        ) {
            let keys = RoundSeed(seed).keys();
            let max = min + spread;
            let fen = min * units as i64 + (i128::from(spread) * i128::from(units) * i128::from(fill) / 1000) as i64;
            let mut amounts = UnitAmounts::new(9, vec![tranche(first, units, fen, min, max)]);
            let mut sum = 0;
            for unit in first..first + units {
                let a = amounts.amount(&keys, unit).unwrap().0;
                prop_assert!((min..=max).contains(&a), "unit {unit} has {a}");
                sum += a;
            }
            prop_assert_eq!(sum, fen);
            prop_assert_eq!(amounts.amount(&keys, first + units), None);
            // any unit again, out of order, gives the same
            let again = UnitAmounts::new(9, vec![tranche(first, units, fen, min, max)]).amount(&keys, first + units / 2);
            prop_assert_eq!(again, amounts.amount(&keys, first + units / 2));
        }

        #[test]
        fn tranches_follow_each_other(units in prop::collection::vec(1u64..700, 1..5)) {
            let keys = RoundSeed([9; 32]).keys();
            let mut first = 0;
            let mut tranches = Vec::new();
            for (i, n) in units.iter().enumerate() {
                tranches.push(tranche(first, *n, *n as i64 * (100 + i as i64), 1, 1000));
                first += n;
            }
            let want: i64 = tranches.iter().map(|t| t.fen.0).sum();
            let mut amounts = UnitAmounts::new(1, tranches);
            let got: i64 = (0..first).map(|u| amounts.amount(&keys, u).unwrap().0).sum();
            prop_assert_eq!(got, want);
        }
    }
}
