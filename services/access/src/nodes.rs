//! Which front door a client uses.
//!
//! The choice is made from what the front doors say about themselves, by one pure function: release group first (a grey
//! node takes the share of users that it is configured for, by a hash of the user, and nobody else), then the nearest
//! region, then the fewest connections. The list is at most some seconds old; what was given out since it was made
//! counts as connections, so that a crowd that asks at once is spread. Nothing rests on it but load: a client that goes
//! elsewhere is served there.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// A share of everybody, in thousandths.
pub const EVERYBODY_PERMILLE: u16 = 1_000;

/// Distance between regions that nothing is said about.
const FAR: u32 = u32::MAX;

/// Load from which a node gets nobody while another one has less, in thousandths.
const LOADED: u32 = 900;

/// A front door, as it announces itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessNode {
    /// Its number.
    pub node: u16,
    /// Where it speaks frames, `host:port` as clients reach it; empty: nowhere.
    pub tcp: String,
    /// Where it takes WebSockets, as a URL; empty: nowhere.
    pub websocket: String,
    /// Where it stands.
    pub region: String,
    /// Its release group: a name for people.
    pub group: String,
    /// The share of users that may use it, in thousandths; 1,000 for a node that is nobody's experiment.
    pub share_permille: u16,
    /// Connections that it has.
    pub connections: u32,
    /// Its load, 0 to 1,000.
    pub load: u32,
    /// Whether its clients are moving away.
    pub draining: bool,
}

/// Where to go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeAddress {
    /// `host:port` for frames; empty if unknown.
    pub tcp: String,
    /// URL for WebSockets; empty if unknown.
    pub websocket: String,
}

/// The front doors that there are, this one included or not.
///
/// Durability: none; a guess that may be some seconds old. Order: none. Reading changes nothing; the same `Arc` means that
/// nothing new has been heard.
pub trait AccessNodes: Send + Sync {
    /// The list as of now. Cheap: asked once a request.
    fn current(&self) -> Arc<Vec<AccessNode>>;
}

/// A list that does not change, from configuration or a test.
pub struct FixedNodes(Arc<Vec<AccessNode>>);

impl FixedNodes {
    /// This list.
    pub fn new(nodes: Vec<AccessNode>) -> Arc<FixedNodes> {
        Arc::new(FixedNodes(Arc::new(nodes)))
    }
}

impl AccessNodes for FixedNodes {
    fn current(&self) -> Arc<Vec<AccessNode>> {
        Arc::clone(&self.0)
    }
}

/// How far it is from region to region; the same region is nearest, and what is not named is far.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Distances(HashMap<String, HashMap<String, u32>>);

impl Distances {
    /// The distance, in whatever unit the configuration has. It holds both ways.
    pub fn between(&self, from: &str, to: &str) -> u32 {
        if from == to {
            return 0;
        }
        let named = |a: &str, b: &str| self.0.get(a).and_then(|others| others.get(b)).copied();
        named(from, to).or_else(|| named(to, from)).unwrap_or(FAR)
    }
}

/// The thousandth that a user falls into: the same at every node, and apart from the hash that routes.
pub fn share_of(user: u64) -> u16 {
    let mut hasher = SipHasher13::new_with_keys(0x6772_6579, 0x686f_6e67);
    hasher.write_u64(user);
    (hasher.finish() % u64::from(EVERYBODY_PERMILLE)) as u16
}

/// The front door for a user who comes from a region. `given`: connections that were sent to a node since it announced
/// itself. None if there is no node, or all of them drain.
pub fn choose<'a>(
    nodes: &'a [AccessNode],
    user: u64,
    region: &str,
    distances: &Distances,
    given: impl Fn(u16) -> u32,
) -> Option<&'a AccessNode> {
    let open = || nodes.iter().filter(|node| !node.draining);
    let share = share_of(user);
    // The smallest experiment that the user belongs to; else the nodes for everybody; else anybody who is there.
    let grey = |node: &&AccessNode| node.share_permille < EVERYBODY_PERMILLE;
    let chosen = open().filter(|node| node.share_permille > share).map(|node| node.share_permille).min();
    let in_group = |node: &&AccessNode| match chosen {
        Some(permille) if permille < EVERYBODY_PERMILLE => node.share_permille == permille,
        Some(_) => !grey(node),
        None => true,
    };
    let key = |node: &&AccessNode| {
        let connections = u64::from(node.connections) + u64::from(given(node.node));
        (node.load >= LOADED, distances.between(region, &node.region), connections, node.node)
    };
    open().filter(in_group).min_by_key(key)
}

/// What was given out since the list was made.
#[derive(Default)]
struct Given {
    list: Option<Arc<Vec<AccessNode>>>,
    counts: HashMap<u16, u32>,
}

/// Chooses, and keeps count.
pub(crate) struct Scheduler {
    nodes: Option<Arc<dyn AccessNodes>>,
    distances: Distances,
    given: Mutex<Given>,
}

impl Scheduler {
    pub fn new(nodes: Option<Arc<dyn AccessNodes>>, distances: Distances) -> Self {
        Self { nodes, distances, given: Mutex::default() }
    }

    /// Whether there may be somebody else.
    pub fn has_list(&self) -> bool {
        self.nodes.is_some()
    }

    /// The node for a user, of those on the list; not `except`.
    pub fn choose(&self, user: u64, region: &str, except: Option<u16>) -> Option<AccessNode> {
        let list = self.nodes.as_ref()?.current();
        let mut given = self.given.lock();
        if !given.list.as_ref().is_some_and(|known| Arc::ptr_eq(known, &list)) {
            given.list = Some(Arc::clone(&list));
            given.counts.clear();
        }
        let others: Vec<AccessNode>;
        let nodes = if except.is_some_and(|node| list.iter().any(|n| n.node == node)) {
            others = list.iter().filter(|node| Some(node.node) != except).cloned().collect();
            &others[..]
        } else {
            &list[..]
        };
        let count = |node: u16| given.counts.get(&node).copied().unwrap_or_default();
        let chosen = choose(nodes, user, region, &self.distances, count)?.clone();
        *given.counts.entry(chosen.node).or_default() += 1;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(node: u16, region: &str, share_permille: u16, connections: u32) -> AccessNode {
        AccessNode {
            node,
            tcp: format!("host{node}:1"),
            websocket: String::new(),
            region: region.into(),
            group: if share_permille < 1_000 { "grey" } else { "stable" }.into(),
            share_permille,
            connections,
            load: 0,
            draining: false,
        }
    }

    fn chosen(nodes: &[AccessNode], user: u64, region: &str) -> Option<u16> {
        let json = r#"{"north": {"east": 10, "south": 30}, "east": {"south": 15}}"#;
        let distances: Distances = serde_json::from_str(json).unwrap();
        choose(nodes, user, region, &distances, |_| 0).map(|node| node.node)
    }

    #[test]
    fn nearest_first_then_fewest() {
        let mut nodes =
            vec![node(1, "north", 1_000, 50), node(2, "north", 1_000, 40), node(3, "south", 1_000, 0)];
        assert_eq!(chosen(&nodes, 7, "north"), Some(2));
        assert_eq!(chosen(&nodes, 7, "south"), Some(3));
        assert_eq!(chosen(&nodes, 7, "east"), Some(2), "10 to north, 15 to south");
        assert_eq!(chosen(&nodes, 7, "moon"), Some(3), "all alike from there");
        nodes[1].draining = true;
        assert_eq!(chosen(&nodes, 7, "north"), Some(1));
        nodes[0].load = 950;
        assert_eq!(chosen(&nodes, 7, "north"), Some(3), "a loaded node is no help");
        nodes.iter_mut().for_each(|node| node.draining = true);
        assert_eq!(chosen(&nodes, 7, "north"), None);
    }

    #[test]
    fn a_grey_node_gets_its_share_and_nobody_else() {
        let nodes = [node(1, "a", 1_000, 1_000), node(2, "a", 50, 0)];
        let grey = (1..=20_000).filter(|user| chosen(&nodes, *user, "a") == Some(2)).count();
        assert!((800..1_200).contains(&grey), "{grey}");
        assert!((1..=20_000).all(|user| (share_of(user) < 50) == (chosen(&nodes, user, "a") == Some(2))));
        assert!((1..=100).all(|user| chosen(&nodes[1..], user, "a") == Some(2)), "better than nobody");
    }

    #[test]
    fn a_crowd_is_spread() {
        let list =
            FixedNodes::new(vec![node(1, "a", 1_000, 10), node(2, "a", 1_000, 0), node(3, "a", 1_000, 0)]);
        let scheduler = Scheduler::new(Some(list), Distances::default());
        let mut counts = [0; 4];
        for user in 0..30 {
            counts[usize::from(scheduler.choose(user, "a", None).unwrap().node)] += 1;
        }
        assert_eq!(counts, [0, 4, 13, 13]);
        assert!((0..30).all(|user| scheduler.choose(user, "a", Some(2)).unwrap().node != 2));
    }

    proptest! {
        #[test]
        fn somebody_who_may_take_him_is_never_passed_over(
            nodes in prop::collection::vec((0usize..3, prop::sample::select(vec![0u16, 50, 500, 1_000]), 0u32..100, 0u32..1_001, any::<bool>()), 0..8),
            user: u64,
        ) {
            let regions = ["a", "b", "c"];
            let nodes: Vec<_> = nodes.into_iter().enumerate().map(|(i, (region, share, connections, load, draining))| {
                AccessNode { load, draining, ..node(i as u16, regions[region], share, connections) }
            }).collect();
            let got = choose(&nodes, user, "a", &Distances::default(), |_| 0);
            prop_assert_eq!(got.is_some(), nodes.iter().any(|node| !node.draining));
            if let Some(got) = got {
                prop_assert!(!got.draining);
                let fits = |node: &AccessNode| !node.draining && node.share_permille > share_of(user);
                prop_assert!(fits(got) || !nodes.iter().any(fits));
            }
        }
    }
}
