//! What happens inside the platform between an event and the last player who noticed it, step by step.
//!
//! A wait of some seconds is a chain: the dead node's session runs out, its epoch is ended, its buckets are claimed, the
//! award store passes the positions that they wait for. Each link is a condition that the lottery nodes' own status tells
//! of; it is said when a condition that an event had broken holds again.

use lottery::core::BUCKETS;
use serde_json::Value;

/// How long after an event conditions are put down to it, ms.
const AFTER_MS: u64 = 20_000;
/// Longest that a condition must hold to count as holding again, ms; it may flap while things settle.
const HOLDS_MS: u64 = 300;

/// Conditions, in the order of the chain.
const TEXTS: [&str; 5] = [
    "every lottery node has its session",
    "the dead node's epoch has been ended and its leases settled",
    "no win waits for its lane",
    "every bucket of users has an owner",
    "every bucket is drawn for",
];

/// What lottery nodes say together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Now {
    /// In the order of [`TEXTS`].
    holds: [bool; 5],
}

/// Follows the conditions since the newest event.
#[derive(Default)]
pub(super) struct Chain {
    event_ms: u64,
    /// A node was killed, and this many epochs had been seen to before.
    buried_before: Option<u64>,
    buried: u64,
    /// By condition: since when it does not hold (0: it does), and since when it holds again.
    broken_ms: [u64; 5],
    again_ms: [u64; 5],
}

impl Chain {
    /// Something has happened. `kills`: a lottery node dies of it.
    pub fn event(&mut self, now_ms: u64, kills: bool) {
        let buried = self.buried;
        *self =
            Chain { event_ms: now_ms, buried_before: kills.then_some(buried), buried, ..Chain::default() };
    }

    /// Takes in what the lottery nodes say; lines to be said.
    pub fn seen(&mut self, now_ms: u64, nodes: &[Value]) -> Vec<String> {
        let now = self.judge(nodes);
        let mut lines = Vec::new();
        if now_ms > self.event_ms + AFTER_MS {
            return lines;
        }
        for (i, holds) in now.holds.into_iter().enumerate() {
            if !holds {
                (self.broken_ms[i], self.again_ms[i]) = (now_ms, 0);
            } else if self.broken_ms[i] > 0 && self.again_ms[i] == 0 {
                self.again_ms[i] = now_ms;
            } else if self.again_ms[i] > 0 && now_ms >= self.again_ms[i] + HOLDS_MS {
                let after_ms = self.again_ms[i].saturating_sub(self.event_ms);
                (self.broken_ms[i], self.again_ms[i]) = (0, 0);
                lines.push(format!("  {after_ms:>6} ms later: {}", TEXTS[i]));
            }
        }
        lines
    }

    fn judge(&mut self, nodes: &[Value]) -> Now {
        let nodes: Vec<&Value> = nodes.iter().map(|status| &status["node"]).collect();
        let sum = |of: &dyn Fn(&Value) -> &Value| -> u64 {
            nodes.iter().map(|node| of(node).as_u64().unwrap_or(0)).sum()
        };
        let buckets = |which: &'static str| sum(&move |node| &node["buckets"][which]);
        self.buried = self.buried.max(sum(&|node| &node["buried"]));
        let (open, waiting, sealing) = (buckets("open"), buckets("waiting"), buckets("sealing"));
        // Of the wins of a moment some are always on their way.
        let stuck = |node: &&&Value| node["unshipped"].as_u64().unwrap_or(0) > UNSHIPPED_MAX;
        Now {
            holds: [
                nodes.iter().all(|node| node["session"] == true),
                self.buried_before.is_none_or(|before| self.buried > before),
                nodes.iter().filter(stuck).count() == 0,
                open + waiting + sealing >= BUCKETS as u64,
                open >= BUCKETS as u64,
            ],
        }
    }
}

/// Groups of a node's log that may be on their way into its lane without anybody waiting long.
const UNSHIPPED_MAX: u64 = 50;

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Chain, HOLDS_MS};
    use serde_json::{Value, json};

    fn node(open: usize, waiting: usize, buried: u64, unshipped: u64) -> Value {
        let buckets = json!({ "open": open, "waiting": waiting, "sealing": 0, "wanted": 0 });
        json!({ "node": { "session": true, "buckets": buckets, "buried": buried, "unshipped": unshipped } })
    }

    #[test]
    fn what_an_event_broke_is_said_when_it_holds_again() {
        let half = BUCKETS / 2;
        let mut chain = Chain::default();
        assert!(chain.seen(900, &[node(half, 0, 3, 0), node(half, 0, 0, 0)]).is_empty());
        chain.event(1_000, true);
        assert!(chain.seen(1_100, &[node(half, 0, 3, 0)]).is_empty());
        assert!(chain.seen(4_500, &[node(half, half, 4, 0)]).is_empty());
        let lines = chain.seen(4_500 + HOLDS_MS, &[node(half, half, 4, 0)]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("3500 ms later: the dead node's epoch"), "{lines:?}");
        assert!(lines[1].contains("3500 ms later: every bucket of users has an owner"), "{lines:?}");
        chain.seen(5_000, &[node(2 * half, 0, 4, 0)]);
        let lines = chain.seen(5_000 + HOLDS_MS, &[node(2 * half, 0, 4, 0)]);
        assert_eq!(lines, ["    4000 ms later: every bucket is drawn for"]);
        chain.event(9_000, false);
        chain.seen(9_100, &[node(2 * half, 0, 4, 51)]);
        chain.seen(9_200, &[node(2 * half, 0, 4, 0)]);
        let lines = chain.seen(9_200 + HOLDS_MS, &[node(2 * half, 0, 4, 0)]);
        assert_eq!(lines, ["     200 ms later: no win waits for its lane"]);
    }
}
