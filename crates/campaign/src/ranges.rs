//! Sets of unit numbers as sorted, disjoint, non-touching ranges.

use std::fmt;

/// The numbers `first .. first + count`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UnitRange {
    /// Lowest number.
    pub first: u64,
    /// How many; a stored range is never empty.
    pub count: u64,
}

impl UnitRange {
    /// First number behind the range.
    pub fn end(self) -> u64 {
        self.first + self.count
    }
}

/// A set of unit numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(Vec<UnitRange>);

/// A number that would be in the set twice: a unit given back that was never out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unit {number} is already in the set")]
pub struct Overlap {
    /// The first number that overlaps.
    pub number: u64,
}

impl Ranges {
    /// The empty set.
    pub fn new() -> Ranges {
        Ranges::default()
    }

    /// One range (the empty set for `count` 0).
    pub fn one(first: u64, count: u64) -> Ranges {
        Ranges(if count == 0 { vec![] } else { vec![UnitRange { first, count }] })
    }

    /// Count of numbers.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|r| r.count).sum()
    }

    /// No number at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, rising.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = UnitRange> + '_ {
        self.0.iter().copied()
    }

    /// How many ranges it takes.
    pub fn range_count(&self) -> usize {
        self.0.len()
    }

    /// Every number, rising.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|r| r.first..r.end())
    }

    /// Is the number in the set?
    pub fn contains(&self, number: u64) -> bool {
        let i = self.0.partition_point(|r| r.end() <= number);
        self.0.get(i).is_some_and(|r| r.first <= number)
    }

    /// Adds a range that must not overlap the set.
    pub fn add(&mut self, range: UnitRange) -> Result<(), Overlap> {
        if range.count == 0 {
            return Ok(());
        }
        let i = self.0.partition_point(|r| r.end() <= range.first);
        if let Some(next) = self.0.get(i)
            && next.first < range.end()
        {
            return Err(Overlap { number: next.first.max(range.first) });
        }
        let joins_left = i > 0 && self.0[i - 1].end() == range.first;
        let joins_right = self.0.get(i).is_some_and(|r| r.first == range.end());
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[i - 1].count += range.count + self.0[i].count;
                self.0.remove(i);
            }
            (true, false) => self.0[i - 1].count += range.count,
            (false, true) => {
                self.0[i].first = range.first;
                self.0[i].count += range.count;
            }
            (false, false) => self.0.insert(i, range),
        }
        Ok(())
    }

    /// Adds every range of another set, or nothing.
    pub fn add_all(&mut self, other: &Ranges) -> Result<(), Overlap> {
        let mut sum = self.clone();
        for range in other.iter() {
            sum.add(range)?;
        }
        *self = sum;
        Ok(())
    }

    /// Takes up to `count` of the lowest numbers out.
    pub fn take_lowest(&mut self, count: u64) -> Ranges {
        let mut left = count;
        let mut taken = Vec::new();
        let mut whole = 0;
        for r in &mut self.0 {
            if left == 0 {
                break;
            }
            if r.count <= left {
                left -= r.count;
                taken.push(*r);
                whole += 1;
            } else {
                taken.push(UnitRange { first: r.first, count: left });
                r.first += left;
                r.count -= left;
                left = 0;
            }
        }
        self.0.drain(..whole);
        Ranges(taken)
    }

    /// Takes up to `count` of the highest numbers out.
    pub fn take_highest(&mut self, count: u64) -> Ranges {
        let keep = self.len().saturating_sub(count);
        let low = self.take_lowest(keep);
        std::mem::replace(self, low)
    }

    /// Takes one number out; `false` if it is not in the set.
    pub fn remove(&mut self, number: u64) -> bool {
        let i = self.0.partition_point(|r| r.end() <= number);
        let Some(r) = self.0.get(i).copied().filter(|r| r.first <= number) else { return false };
        let low = UnitRange { first: r.first, count: number - r.first };
        let high = UnitRange { first: number + 1, count: r.end() - number - 1 };
        let parts = [low, high].into_iter().filter(|p| p.count > 0);
        self.0.splice(i..=i, parts);
        true
    }

    /// Little-endian bytes: (first u64, count u64) for each range.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|r| [r.first.to_le_bytes(), r.count.to_le_bytes()]).flatten().collect()
    }

    /// Reads [`Ranges::to_bytes`]; `None` unless the bytes are a set in normal form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Ranges> {
        let chunks = bytes.chunks_exact(16);
        if !chunks.remainder().is_empty() {
            return None;
        }
        let mut ranges: Vec<UnitRange> = Vec::with_capacity(bytes.len() / 16);
        for c in chunks {
            let first = u64::from_le_bytes(c[..8].try_into().ok()?);
            let count = u64::from_le_bytes(c[8..].try_into().ok()?);
            first.checked_add(count)?;
            if count == 0 || ranges.last().is_some_and(|l: &UnitRange| l.end() >= first) {
                return None;
            }
            ranges.push(UnitRange { first, count });
        }
        Some(Ranges(ranges))
    }
}

impl FromIterator<u64> for Ranges {
    /// Numbers in any order; a number given twice stands in the set once.
    fn from_iter<I: IntoIterator<Item = u64>>(iter: I) -> Ranges {
        let mut numbers: Vec<u64> = iter.into_iter().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut out: Vec<UnitRange> = Vec::new();
        for n in numbers {
            match out.last_mut() {
                Some(last) if last.end() == n => last.count += 1,
                _ => out.push(UnitRange { first: n, count: 1 }),
            }
        }
        Ranges(out)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match r.count {
                1 => write!(f, "{comma}{}", r.first)?,
                _ => write!(f, "{comma}{}-{}", r.first, r.end() - 1)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Overlap, Ranges, UnitRange};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_is_never_in_twice() {
        let mut set = Ranges::one(10, 5);
        assert_eq!(set.add(UnitRange { first: 14, count: 3 }), Err(Overlap { number: 14 }));
        assert_eq!(set.add(UnitRange { first: 5, count: 6 }), Err(Overlap { number: 10 }));
        set.add(UnitRange { first: 15, count: 2 }).unwrap();
        assert_eq!(set.to_string(), "10-16");
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(ops in prop::collection::vec((0u8..5, 0u64..60, 1u64..8), 1..60)) {
            let (mut set, mut model) = (Ranges::new(), BTreeSet::new());
            for (op, at, n) in ops {
                match op {
                    0 | 1 => {
                        let fits = (at..at + n).all(|x| !model.contains(&x));
                        prop_assert_eq!(set.add(UnitRange { first: at, count: n }).is_ok(), fits);
                        if fits { model.extend(at..at + n); }
                    }
                    2 => {
                        let low = set.take_lowest(n);
                        let want: Vec<u64> = model.iter().copied().take(n as usize).collect();
                        for x in &want { model.remove(x); }
                        prop_assert_eq!(low.numbers().collect::<Vec<_>>(), want);
                    }
                    3 => {
                        let high = set.take_highest(n);
                        let want: BTreeSet<u64> = model.iter().rev().copied().take(n as usize).collect();
                        for x in &want { model.remove(x); }
                        prop_assert_eq!(high.numbers().collect::<BTreeSet<_>>(), want);
                    }
                    _ => prop_assert_eq!(set.remove(at), model.remove(&at)),
                }
                prop_assert_eq!(set.numbers().collect::<BTreeSet<_>>(), model.clone());
                prop_assert_eq!(Ranges::from_bytes(&set.to_bytes()), Some(set.clone()));
                prop_assert_eq!(set.numbers().collect::<Ranges>(), set.clone());
            }
        }
    }
}
