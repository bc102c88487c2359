//! Users who can win nothing for now, so that their submits end here.
//!
//! Filled from lottery's own 'limit reached' answers and good for the plans they were given under: a newer plan, or a
//! grey one that comes or goes, may have raised a limit, so entries of older plans count for nothing. A submit is answered from here only if it is
//! a new draw: the same round with a counter that lottery had not seen, or a round that began later. A resend goes to
//! lottery, which knows what the player was told. The table has a fixed size; losing an entry costs one call.

const WAYS: usize = 4;

/// What is known of a user in a campaign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exhausted {
    /// The user; 0 marks a free place.
    pub user: u64,
    /// Before this instant (ms UTC) he can win nothing; `u64::MAX`: not in this campaign.
    pub until_ms: u64,
    /// The campaign.
    pub campaign: u32,
    /// The round he asked in.
    pub round: u32,
    /// The first counter of that round that lottery has not seen.
    pub next_counter: u32,
    /// Which plans were in force: the worker's count of their changes.
    pub plans: u32,
}

/// Four entries: two cache lines that the processor fetches together.
#[derive(Clone, Copy, Default)]
#[repr(align(128))]
struct Set([Exhausted; WAYS]);

const _: () = assert!(size_of::<Set>() == 128);

/// A bounded table; one for each worker.
pub struct NegativeCache {
    sets: Box<[Set]>,
}

impl NegativeCache {
    /// Room for about `entries` users.
    pub fn new(entries: u32) -> Self {
        let sets = (entries as usize / WAYS).next_power_of_two().max(1);
        Self { sets: vec![Set::default(); sets].into_boxed_slice() }
    }

    fn set(&self, user: u64) -> usize {
        // Fibonacci hashing: user ids are often consecutive.
        (user.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.sets.len() - 1)
    }

    /// What is known of the user in the campaign at this instant under these plans.
    #[inline]
    pub fn get(&self, user: u64, campaign: u32, plans: u32, now_ms: u64) -> Option<Exhausted> {
        self.sets[self.set(user)]
            .0
            .iter()
            .find(|e| e.user == user && e.campaign == campaign)
            .filter(|e| e.plans == plans && now_ms < e.until_ms)
            .copied()
    }

    /// Remembers. In a full set the entry that ends first makes room.
    pub fn put(&mut self, entry: Exhausted) {
        let set = self.set(entry.user);
        let ways = &mut self.sets[set].0;
        let place = ways
            .iter()
            .position(|e| e.user == entry.user && e.campaign == entry.campaign)
            .or_else(|| (0..WAYS).min_by_key(|i| ways[*i].until_ms))
            .unwrap_or(0);
        ways[place] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::{Exhausted, NegativeCache};
    use proptest::prelude::*;

    fn entry(user: u64, until_ms: u64, plans: u32) -> Exhausted {
        Exhausted { user, until_ms, campaign: 1, round: 2, next_counter: 3, plans }
    }

    #[test]
    fn knows_until_the_instant_or_a_newer_plan() {
        let mut cache = NegativeCache::new(64);
        cache.put(entry(5, 100, 7));
        assert_eq!(cache.get(5, 1, 7, 99), Some(entry(5, 100, 7)));
        assert_eq!(cache.get(5, 1, 7, 100), None);
        assert_eq!(cache.get(5, 1, 8, 99), None);
        assert_eq!(cache.get(5, 2, 7, 99), None);
        assert_eq!(cache.get(6, 1, 7, 99), None);
        cache.put(entry(5, 300, 8));
        assert_eq!(cache.get(5, 1, 8, 299), Some(entry(5, 300, 8)));
    }

    proptest! {
        /// Whatever is forgotten, nothing is ever made up.
        #[test]
        fn only_what_was_put_comes_back(puts in prop::collection::vec((1u64..40, 1u64..1000), 0..200)) {
            let mut cache = NegativeCache::new(8);
            let mut last = std::collections::HashMap::new();
            for (user, until_ms) in puts {
                cache.put(entry(user, until_ms, 1));
                last.insert(user, until_ms);
                prop_assert!(cache.get(user, 1, 1, 0).is_some());
            }
            for user in 1..40 {
                if let Some(found) = cache.get(user, 1, 1, 0) {
                    prop_assert_eq!(last.get(&user), Some(&found.until_ms));
                }
            }
        }
    }
}
