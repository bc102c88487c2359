//! How often to send a heartbeat, found out for each network: as rarely as its address translation allows.
//!
//! A NAT forgets a connection that is silent for too long, and a telephone that beats too often drains its battery. So
//! the interval is probed, as WeChat's mars does (`mars/stn/src/smart_heartbeat.cc`, published at
//! <https://github.com/Tencent/mars>): begin each connection with a few beats at the least interval, which every
//! network bears; then, after a few successes in a row, lengthen it by a step; when a beat at a new length fails, go back to the last length that held, and stay there.
//! Settled, it is probed again after many successes; when even the settled length begins to fail, the search begins anew.
//! What was found is kept for each network by its name, because people go back and forth between a few of them.
//!
//! A beat fails when the connection is found dead behind it: no answer in time, or broken after a silence of the
//! interval's length. The caller says so; connections that end for other reasons are none of this module's business.

use std::collections::HashMap;

/// Bounds and pace of the search. All times in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatRules {
    /// Where the search begins; every network is thought to bear it.
    pub min_ms: u64,
    /// Never longer than this.
    pub max_ms: u64,
    /// Length of a step up.
    pub step_ms: u64,
    /// Short beats at the start of each connection, and successes at each length before the next.
    pub successes: u32,
    /// A settled interval is this much shorter than the longest that held, for safety.
    pub margin_ms: u64,
    /// Successes of a settled interval before a longer one is tried again.
    pub probe_again: u32,
    /// Failures in a row at a settled interval before the search begins anew.
    pub failures: u32,
    /// Networks that are remembered.
    pub networks: usize,
}

impl Default for HeartbeatRules {
    fn default() -> Self {
        Self {
            min_ms: 30_000,
            max_ms: 570_000,
            step_ms: 60_000,
            successes: 3,
            margin_ms: 10_000,
            probe_again: 200,
            failures: 3,
            networks: 16,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    /// The interval in use.
    now_ms: u64,
    /// The longest that held.
    held_ms: u64,
    settled: bool,
    successes: u32,
    failures: u32,
    /// For forgetting the network that was used longest ago.
    used: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct AdaptiveHeartbeat {
    rules: HeartbeatRules,
    networks: HashMap<String, Found>,
    current: String,
    used: u64,
    /// Beats at the least interval on this connection.
    short: u32,
    /// What the server asks for at least.
    limit_ms: u64,
}

impl AdaptiveHeartbeat {
    /// Nothing is known of any network.
    pub fn new(rules: HeartbeatRules) -> Self {
        let mut heartbeat = Self {
            rules,
            networks: HashMap::new(),
            current: String::new(),
            used: 0,
            short: 0,
            limit_ms: u64::MAX,
        };
        heartbeat.on_network("");
        heartbeat
    }

    /// The telephone is on this network now: an SSID, an operator's name, whatever tells networks apart.
    pub fn on_network(&mut self, name: &str) {
        self.used += 1;
        if !self.networks.contains_key(name) && self.networks.len() >= self.rules.networks.max(1) {
            let oldest = self.networks.iter().min_by_key(|(_, found)| found.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.networks.remove(&oldest);
            }
        }
        let fresh = self.fresh();
        self.networks.entry(name.to_owned()).or_insert(fresh).used = self.used;
        name.clone_into(&mut self.current);
    }

    /// The server wants to hear something at least so often (`Welcome.heartbeat_ms`); 0: it doesn't say.
    pub fn limit(&mut self, heartbeat_ms: u64) {
        self.limit_ms = if heartbeat_ms == 0 { u64::MAX } else { heartbeat_ms };
    }

    /// There is a new connection: its first beats are short, so that one which is no good is found out soon.
    pub fn connected(&mut self) {
        self.short = 0;
    }

    /// The interval to use.
    pub fn interval_ms(&self) -> u64 {
        if self.short < self.rules.successes {
            return self.rules.min_ms.min(self.limit_ms);
        }
        self.networks.get(&self.current).map_or(self.rules.min_ms, |found| found.now_ms).min(self.limit_ms)
    }

    /// Whether the search on this network is over for now.
    pub fn is_settled(&self) -> bool {
        self.networks.get(&self.current).is_some_and(|found| found.settled)
    }

    /// A beat was answered after a silence of the whole interval.
    pub fn succeeded(&mut self) {
        let (rules, limit_ms) = (self.rules, self.limit_ms);
        if self.short < rules.successes {
            self.short += 1;
            return;
        }
        let Some(found) = self.networks.get_mut(&self.current) else { return };
        found.failures = 0;
        found.successes += 1;
        // A beat that the server's limit made shorter proves nothing about the interval.
        if found.now_ms > limit_ms {
            return;
        }
        found.held_ms = found.held_ms.max(found.now_ms);
        let enough = if found.settled { rules.probe_again } else { rules.successes };
        if found.successes < enough {
            return;
        }
        found.successes = 0;
        let longest_ms = rules.max_ms.min(limit_ms);
        if found.now_ms >= longest_ms {
            found.settled = true;
            return;
        }
        let from_ms = if found.settled { found.held_ms } else { found.now_ms };
        found.settled = false;
        found.now_ms = (from_ms + rules.step_ms).min(longest_ms);
    }

    /// The connection turned out to be dead after a silence of the interval.
    pub fn failed(&mut self) {
        let (rules, fresh) = (self.rules, self.fresh());
        if self.short < rules.successes {
            // The least interval is what every network bears: this was something else.
            return;
        }
        let Some(found) = self.networks.get_mut(&self.current) else { return };
        found.successes = 0;
        found.failures += 1;
        if found.settled || found.held_ms == 0 {
            // A settled interval may fail for a reason that passes.
            if found.failures >= rules.failures {
                *found = Found { used: found.used, ..fresh };
            }
            return;
        }
        found.now_ms = found.held_ms.saturating_sub(rules.margin_ms).max(rules.min_ms);
        (found.settled, found.failures) = (true, 0);
    }

    fn fresh(&self) -> Found {
        let now_ms = self.rules.min_ms;
        Found { now_ms, held_ms: 0, settled: false, successes: 0, failures: 0, used: self.used }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: HeartbeatRules = HeartbeatRules {
        min_ms: 30_000,
        max_ms: 600_000,
        step_ms: 60_000,
        successes: 3,
        margin_ms: 10_000,
        probe_again: 20,
        failures: 3,
        networks: 2,
    };

    /// A NAT that forgets after `timeout_ms`.
    fn beat(heartbeat: &mut AdaptiveHeartbeat, timeout_ms: u64) -> bool {
        let good = heartbeat.interval_ms() <= timeout_ms;
        if good {
            heartbeat.succeeded()
        } else {
            heartbeat.failed()
        }
        good
    }

    fn settle(heartbeat: &mut AdaptiveHeartbeat, timeout_ms: u64) -> u64 {
        for beats in 0..200 {
            if heartbeat.is_settled() {
                return beats;
            }
            beat(heartbeat, timeout_ms);
        }
        panic!("never settles");
    }

    #[test]
    fn finds_what_a_nat_bears_and_remembers_it_by_network() {
        let mut h = AdaptiveHeartbeat::new(RULES);
        h.on_network("home");
        assert_eq!(h.interval_ms(), 30_000);
        settle(&mut h, 300_000);
        assert_eq!(h.interval_ms(), 260_000, "270 s held, 330 s did not; 10 s for safety");
        h.on_network("train");
        h.connected();
        assert_eq!(h.interval_ms(), 30_000);
        settle(&mut h, 45_000);
        assert_eq!(h.interval_ms(), 30_000);
        h.on_network("home");
        assert!(h.is_settled() && h.interval_ms() == 260_000);
        h.on_network("hotel");
        h.on_network("train");
        assert!(!h.is_settled(), "only two networks are remembered");
    }

    #[test]
    fn keeps_to_the_bounds_and_to_what_the_server_asks_for() {
        let mut h = AdaptiveHeartbeat::new(RULES);
        settle(&mut h, u64::MAX);
        assert_eq!(h.interval_ms(), 600_000);
        h.limit(50_000);
        assert_eq!(h.interval_ms(), 50_000);
        let mut limited = AdaptiveHeartbeat::new(RULES);
        limited.limit(50_000);
        settle(&mut limited, u64::MAX);
        assert_eq!(limited.interval_ms(), 50_000);
    }

    #[test]
    fn follows_a_network_that_changes() {
        let mut h = AdaptiveHeartbeat::new(RULES);
        settle(&mut h, 300_000);
        let failed = (0..10).take_while(|_| !beat(&mut h, 100_000)).count();
        assert_eq!(failed, 3, "the search begins anew after three failures");
        settle(&mut h, 100_000);
        assert_eq!(h.interval_ms(), 80_000);
        let longest = (0..200)
            .map(|_| {
                beat(&mut h, 400_000);
                h.interval_ms()
            })
            .max();
        assert!(longest > Some(300_000), "it is probed again: {longest:?}");
    }

    proptest! {
        #[test]
        fn in_the_long_run_nearly_every_beat_holds(timeout_ms in 30_000u64..700_000, before in 30_000u64..700_000) {
            let mut h = AdaptiveHeartbeat::new(RULES);
            for _ in 0..100 {
                beat(&mut h, before);
            }
            let failures = (0..400).filter(|_| !beat(&mut h, timeout_ms)).count();
            prop_assert!(failures <= 3 + 400 / 20, "{failures}");
            while !h.is_settled() {
                beat(&mut h, timeout_ms);
            }
            prop_assert!(h.interval_ms() <= timeout_ms);
            let longest = timeout_ms.min(RULES.max_ms);
            prop_assert!(h.interval_ms() + RULES.step_ms + RULES.margin_ms >= longest, "{}", h.interval_ms());
        }
    }
}
