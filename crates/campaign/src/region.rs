//! Regions: where a prize can be won.
//!
//! A district is a number of the app's own that comes with every entry; 0 stands for 'not known'. A campaign names at
//! most [`REGIONS_MAX`] regions, each a set of districts, and a prize may be limited to some of them. Regions may
//! overlap. Who is in a district is the app's word alone.
//!
//! A prize carries its regions as bits of one word ([`Regions`]), and a plan's regions become one sorted table
//! ([`Places`]) in which a district is looked up once a draw, however many prizes are limited.

/// Most regions that a campaign may name: one bit each in a 64-bit word.
pub const REGIONS_MAX: usize = 64;

/// District of which nothing is known. It is in no region.
pub const DISTRICT_UNKNOWN: u32 = 0;

/// Districts `first ..= last`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DistrictRange {
    /// The lowest.
    pub first: u32,
    /// The highest.
    pub last: u32,
}

impl DistrictRange {
    /// How many districts.
    pub fn count(&self) -> u64 {
        u64::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Whether a district is one of them.
    pub fn contains(&self, district: u32) -> bool {
        (self.first..=self.last).contains(&district)
    }
}

/// `110101`, or `110101 to 110119`.
impl std::fmt::Display for DistrictRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{} to {}", self.first, self.last),
        }
    }
}

/// A named set of districts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    /// Its name, unique in the campaign.
    pub name: String,
    /// Its districts, rising, without overlap.
    pub districts: Vec<DistrictRange>,
}

/// Regions by their places in the plan's list, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Regions(pub u64);

impl Regions {
    /// No limit: the prize can be won in every district, the unknown one too.
    pub const EVERYWHERE: Regions = Regions(0);

    /// Whether there is no limit.
    #[inline]
    pub fn is_everywhere(self) -> bool {
        self.0 == 0
    }

    /// Whether what is limited to these can be won in a district that lies in `here` (one bit a region, as
    /// [`Places::regions_of`] says).
    #[inline]
    pub fn allow(self, here: u64) -> bool {
        self.0 == 0 || self.0 & here != 0
    }

    /// Places in the plan's list, rising.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..REGIONS_MAX).filter(move |i| self.0 >> i & 1 == 1)
    }
}

/// Where each district lies: the regions of a plan as one sorted table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// First district of each stretch whose districts lie in the same regions, rising.
    starts: Box<[u32]>,
    /// The regions of that stretch, one bit each.
    regions: Box<[u64]>,
}

impl Places {
    /// The table of a plan's regions; those behind the first [`REGIONS_MAX`] are left out.
    pub fn new(regions: &[Region]) -> Places {
        let mut edges: Vec<(u32, usize, bool)> = Vec::new();
        for (i, region) in regions.iter().take(REGIONS_MAX).enumerate() {
            for range in region.districts.iter().filter(|r| r.first.max(1) <= r.last) {
                edges.push((range.first.max(DISTRICT_UNKNOWN + 1), i, true));
                edges.extend(range.last.checked_add(1).map(|end| (end, i, false)));
            }
        }
        edges.sort_unstable();
        let (mut starts, mut bits) = (Vec::<u32>::new(), Vec::<u64>::new());
        let (mut open, mut here) = ([0u32; REGIONS_MAX], 0u64);
        for stretch in edges.chunk_by(|a, b| a.0 == b.0) {
            for (_, region, begins) in stretch {
                let count = &mut open[*region];
                *count = if *begins { *count + 1 } else { count.saturating_sub(1) };
                here = here & !(1 << region) | u64::from(*count > 0) << region;
            }
            if bits.last().copied().unwrap_or(0) != here {
                starts.push(stretch[0].0);
                bits.push(here);
            }
        }
        Places { starts: starts.into(), regions: bits.into() }
    }

    /// The regions that a district lies in, one bit each; none for the unknown one.
    #[inline]
    pub fn regions_of(&self, district: u32) -> u64 {
        match self.starts.partition_point(|start| *start <= district) {
            0 => 0,
            behind => self.regions[behind - 1],
        }
    }

    /// All stretches of districts that lie in the same regions (at least one): (districts, regions).
    pub fn stretches(&self) -> impl Iterator<Item = (DistrictRange, u64)> {
        let last = |i: usize| self.starts.get(i + 1).map_or(u32::MAX, |next| next - 1);
        let all = self.starts.iter().zip(&self.regions).enumerate();
        let all = all.map(move |(i, (first, here))| (DistrictRange { first: *first, last: last(i) }, *here));
        all.filter(|(_, here)| *here != 0)
    }

    /// The districts in which something limited to `regions` can be won, rising, joined where they touch. Empty for
    /// what is not limited.
    pub fn districts_of(&self, regions: Regions) -> Vec<DistrictRange> {
        let mut joined: Vec<DistrictRange> = Vec::new();
        for (range, _) in self.stretches().filter(|(_, here)| regions.0 & here != 0) {
            match joined.last_mut() {
                Some(before) if before.last.checked_add(1) == Some(range.first) => before.last = range.last,
                _ => joined.push(range),
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::{DistrictRange, Places, Region, Regions};
    use proptest::prelude::*;

    fn region(name: &str, ranges: &[(u32, u32)]) -> Region {
        let districts = ranges.iter().map(|&(first, last)| DistrictRange { first, last }).collect();
        Region { name: name.into(), districts }
    }

    #[test]
    fn a_district_lies_where_the_ranges_say() {
        let places = Places::new(&[
            region("north", &[(10, 19), (30, 30)]),
            region("south", &[(20, 29), (u32::MAX, u32::MAX)]),
            region("capital", &[(15, 22)]),
        ]);
        let at = |d: u32| places.regions_of(d);
        assert_eq!([0, 9, 10, 15, 20, 23, 30, 31].map(at), [0, 0, 1, 0b101, 0b110, 0b10, 1, 0]);
        assert_eq!([u32::MAX - 1, u32::MAX].map(at), [0, 0b10]);
        let of = |bits: u64| {
            places.districts_of(Regions(bits)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(1), ["10 to 19", "30"]);
        assert_eq!(of(0b111), ["10 to 30", "4294967295"]);
        assert_eq!(of(0), Vec::<String>::new());
        assert!(Regions::EVERYWHERE.allow(0) && !Regions(2).allow(1) && Regions(3).allow(1));
        assert_eq!(Places::new(&[]).regions_of(7), 0);
        assert_eq!(Places::new(&[region("all", &[(0, 5)])]).regions_of(0), 0, "the unknown one is nowhere");
    }

    proptest! {
        /// The table says of each district what the ranges say, overlapping or not.
        #[test]
        fn the_table_is_the_ranges(
            regions in prop::collection::vec(prop::collection::vec((1u32..60, 0u32..12), 0..6), 0..8), district in 0u32..80,
        ) {
            let regions: Vec<Region> = regions
                .iter()
                .map(|ranges| region("r", &ranges.iter().map(|(a, n)| (*a, a + n)).collect::<Vec<_>>()))
                .collect();
            let places = Places::new(&regions);
            let here = |r: &Region| r.districts.iter().any(|d| d.contains(district));
            let want = regions.iter().enumerate().fold(0u64, |bits, (i, r)| bits | u64::from(here(r)) << i);
            prop_assert_eq!(places.regions_of(district), want);
            for some in [want, !want & 0xff, 0xff] {
                let listed = places.districts_of(Regions(some)).iter().any(|d| d.contains(district));
                prop_assert_eq!(listed, want & some != 0);
            }
        }
    }
}
