//! Speeds from counts that are looked at now and then.

use std::collections::{BTreeMap, VecDeque};

/// How far back a speed looks, ms.
const SPAN_MS: u64 = 5_000;

/// Looks closer together than this count as one, ms.
const STEP_MS: u64 = 250;

/// Counts of many things, each with its last few looks.
pub struct Rates<K> {
    looks: BTreeMap<K, VecDeque<(u64, u64)>>,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Rates { looks: BTreeMap::new() }
    }
}

impl<K: Ord> Rates<K> {
    /// How fast the count has risen over the last seconds; 0 at the first look, and for one that fell.
    pub fn of(&mut self, what: K, count: u64, now_ms: u64) -> f64 {
        let looks = self.looks.entry(what).or_default();
        if looks.back().is_none_or(|(at, _)| now_ms >= at + STEP_MS) {
            looks.push_back((now_ms, count));
        }
        // The one just behind the span stays: the speed looks back over the whole of it.
        while looks.get(1).is_some_and(|(at, _)| at + SPAN_MS <= now_ms) {
            looks.pop_front();
        }
        match looks.front() {
            Some((at, was)) if *at < now_ms => {
                count.saturating_sub(*was) as f64 * 1000.0 / (now_ms - at) as f64
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rates;

    #[test]
    fn a_speed_looks_back_over_some_seconds() {
        let mut rates = Rates::default();
        assert_eq!(rates.of(1, 100, 1_000), 0.0);
        assert_eq!(rates.of(1, 110, 1_100), 100.0);
        for s in 2..10 {
            rates.of(1, 100 * s, s * 1_000);
        }
        assert_eq!(rates.of(1, 1_000, 10_000), 100.0);
        assert_eq!(rates.of(1, 1_000, 16_000), 0.0, "nothing came for longer than the span");
        assert!(rates.looks[&1].len() < 25);
        assert_eq!(rates.of(2, 5, 16_000), 0.0);
    }
}
