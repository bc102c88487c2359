//! Many players, walked through in turn, so that what each one must be remembered for is next to nothing.

use super::Target;

/// Players whose turn is remembered together.
const CHUNK: u64 = 4_096;

/// Longer than the interval by so much, for what the network adds to one submit and not to the other, in ms.
const SLACK_MS: u64 = 500;

pub(crate) struct Population {
    first: u64,
    users: u64,
    at: u64,
    /// When each chunk's last turn ended (monotonic ms); 0: never.
    turns: Vec<u64>,
    pub interval_ms: u64,
    target: Target,
    /// Players of the walk so far, each counted once.
    pub seen: u64,
    counter: u32,
}

impl Population {
    pub fn new(first: u64, users: u64, target: Target) -> Self {
        let chunks = users.div_ceil(CHUNK) as usize;
        let interval_ms = target.interval_ms;
        Self { first, users, at: 0, turns: vec![0; chunks], interval_ms, target, seen: 0, counter: 0 }
    }

    /// The counter of this moment: number n in the n-th interval since the opening.
    pub fn set_time(&mut self, wall_ms: u64) {
        let since_ms = self.target.time.at(wall_ms).saturating_sub(self.target.open_ms);
        self.counter = u32::try_from(since_ms / self.target.interval_ms).unwrap_or(u32::MAX);
    }

    /// The next player and his counter; `None` while his interval is not over.
    #[inline]
    pub fn next(&mut self, mono_ms: u64) -> Option<(u64, u32)> {
        let chunk = (self.at / CHUNK) as usize;
        if self.at.is_multiple_of(CHUNK) {
            let last_ms = self.turns[chunk];
            if last_ms != 0 && mono_ms < last_ms + self.interval_ms + SLACK_MS {
                return None;
            }
        }
        let user = self.first + self.at;
        self.at += 1;
        self.seen = self.seen.max(self.at);
        if self.at == self.users || self.at.is_multiple_of(CHUNK) {
            self.turns[chunk] = mono_ms.max(1);
            self.at %= self.users;
        }
        Some((user, self.counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_again_before_his_interval_and_counters_rise() {
        let target = Target {
            campaign: 1,
            round: 1,
            open_ms: 1_000,
            interval_ms: 1_000,
            time: client::ServerTime::default(),
        };
        let mut people = Population::new(10, 5_000, target);
        let mut last = std::collections::HashMap::new();
        let mut waits = 0;
        for step in 0..40_000u64 {
            let now_ms = 5_000 + step / 4;
            people.set_time(now_ms);
            match people.next(now_ms) {
                Some((user, counter)) => {
                    assert!((10..5_010).contains(&user));
                    if let Some((at_ms, before)) = last.insert(user, (now_ms, counter)) {
                        assert!(now_ms >= at_ms + 1_000 && counter > before, "{user}");
                    }
                }
                None => waits += 1,
            }
        }
        assert!(last.len() == 5_000 && people.seen == 5_000 && waits > 0);
    }
}
