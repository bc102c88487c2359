//! Follows the member lists, and keeps the ways to other processes.
//!
//! It exists so that users whose node died are drawn for elsewhere as soon as the list says so. It looks at the lists 20
//! times a second. When lottery's has a new epoch it makes the ring, dials who is new, keeps the connections of who
//! stays, and swaps the routes whole; who left ends once what is under way there is answered. Flow's and delivery's nodes
//! are all alike: whoever is in the list and up is called.
//!
//! A node that the list still has and that does not answer keeps its users: they hear 'pending' with a wait, because only
//! the owner of a bucket may draw for it, and who owns it is not decided here. A list without anybody changes
//! nothing: it is more likely to be wrong than right, and a way that leads nowhere says the same 'pending'.

use std::sync::Arc;
use std::time::Duration;

use ownership::Members;
use protocol::calls::client::{Dialer, Peer, Peers, RemoteAccounts, RemoteAwards, RemoteDraws, Target};
use protocol::calls::{Draws, ServiceSet};
use runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use crate::chat_ways::ChatWays;
use crate::routes::{Nowhere, RouteTable, Routes};

/// How often the lists are looked at, in ms.
const LOOK_MS: u64 = 50;

/// Where a node is called, `host:port`; none for one that is not known.
type AddressOf = Arc<dyn Fn(u16) -> Option<Arc<str>> + Send + Sync>;

/// The nodes of a role, as the member list has them.
#[derive(Clone)]
pub struct Nodes {
    members: Arc<dyn Members>,
    address: AddressOf,
}

impl Nodes {
    /// The nodes of this list, called where `address` says.
    pub fn new(
        members: Arc<dyn Members>,
        address: impl Fn(u16) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Nodes {
        Nodes { members, address: Arc::new(address) }
    }

    /// Those that may be given work.
    fn targets(&self) -> Vec<Target> {
        let serving = self.members.current();
        let serving = serving.members.iter().filter(|member| member.weight > 0);
        let target = |node| Some(Target { node, address: (self.address)(node)?.to_string() });
        serving.filter_map(|member| target(member.node)).collect()
    }
}

/// A role that is called, and which version of its list was seen last.
struct Followed {
    nodes: Nodes,
    peers: Arc<Peers>,
    wants: ServiceSet,
    seen: Option<u64>,
}

impl Followed {
    fn new(nodes: Nodes, what: &'static str, wants: ServiceSet) -> Self {
        Self { nodes, peers: Peers::new(what), wants, seen: None }
    }

    /// Dials and lets go; the peers, if the list has changed.
    fn follow(&mut self, dialer: &Dialer) -> Option<(u64, Arc<Vec<Arc<Peer>>>)> {
        let epoch = self.nodes.members.current().epoch;
        if self.seen == Some(epoch) {
            return None;
        }
        self.seen = Some(epoch);
        Some((epoch, self.peers.follow(dialer, self.wants, self.nodes.targets())))
    }
}

/// Keeps the routes and ways of a front door up to date.
pub struct Router {
    dialer: Dialer,
    lottery: Followed,
    flow: Followed,
    delivery: Followed,
    /// A lottery node in this very process.
    local: Option<(u16, Arc<dyn Draws>)>,
    routes: Arc<RouteTable>,
    chat: Option<FollowedChat>,
}

/// Chat's nodes, and which version of their list was seen last.
struct FollowedChat {
    nodes: Nodes,
    ways: Arc<ChatWays>,
    seen: Option<u64>,
}

impl FollowedChat {
    fn follow(&mut self, dialer: &Dialer) {
        let list = self.nodes.members.current();
        if self.seen == Some(list.epoch) {
            return;
        }
        self.seen = Some(list.epoch);
        match self.ways.follow(dialer, &list, &*self.nodes.address) {
            Ok(()) => tracing::info!(epoch = list.epoch, nodes = list.members.len(), "ways to chat changed"),
            // Said once for each version of the list; the ways there are stay.
            Err(error) => {
                tracing::warn!(epoch = list.epoch, %error, "no ways to chat can be made of the member list")
            }
        }
    }
}

impl Router {
    /// A router between these nodes. Until its first step there is no way to anybody.
    pub fn new(dialer: Dialer, lottery: Nodes, flow: Nodes, delivery: Nodes) -> Router {
        Router {
            dialer,
            lottery: Followed::new(lottery, "lottery", ServiceSet::DRAWS),
            flow: Followed::new(flow, "flow", ServiceSet::AWARDS),
            delivery: Followed::new(delivery, "delivery", ServiceSet::ACCOUNTS),
            local: None,
            routes: RouteTable::new(Routes::nowhere()),
            chat: None,
        }
    }

    /// Has chat's nodes followed too.
    pub fn with_chat(mut self, nodes: Nodes, ways: Arc<ChatWays>) -> Router {
        self.chat = Some(FollowedChat { nodes, ways, seen: None });
        self
    }

    /// Has one lottery node called directly: it is in this process.
    pub fn with_local(mut self, node: u16, draws: Arc<dyn Draws>) -> Router {
        self.local = Some((node, draws));
        self
    }

    /// The routes to lottery.
    pub fn routes(&self) -> Arc<RouteTable> {
        Arc::clone(&self.routes)
    }

    /// Flow, at whichever node.
    pub fn awards(&self) -> RemoteAwards {
        RemoteAwards::new(Arc::clone(&self.flow.peers))
    }

    /// Delivery, at whichever node.
    pub fn accounts(&self) -> RemoteAccounts {
        RemoteAccounts::new(Arc::clone(&self.delivery.peers))
    }

    /// The connections to lottery, flow and delivery, to be shown.
    pub fn peers(&self) -> [Arc<Peers>; 3] {
        [&self.lottery, &self.flow, &self.delivery].map(|followed| Arc::clone(&followed.peers))
    }

    /// Looks at the lists once. True when routes were swapped.
    pub fn step(&mut self) -> bool {
        self.flow.follow(&self.dialer);
        self.delivery.follow(&self.dialer);
        if let Some(chat) = &mut self.chat {
            chat.follow(&self.dialer);
        }
        let list = self.lottery.nodes.members.current();
        if self.lottery.seen == Some(list.epoch) {
            return false;
        }
        let ring = match list.ring() {
            Ok(ring) => ring,
            Err(error) => {
                // Said once for each version of the list; the ways there are stay.
                self.lottery.seen = Some(list.epoch);
                tracing::warn!(epoch = list.epoch, %error, "no routes can be made of the member list");
                return false;
            }
        };
        let Some((epoch, peers)) = self.lottery.follow(&self.dialer) else { return false };
        if epoch != list.epoch {
            // It changed in between: the next look takes it whole.
            self.lottery.seen = None;
            return false;
        }
        let way = |node: u16| -> Arc<dyn Draws> {
            if let Some((local, draws)) = &self.local
                && *local == node
            {
                return Arc::clone(draws);
            }
            match peers.iter().find(|peer| peer.target().node == node) {
                Some(peer) => Arc::new(RemoteDraws::new(Arc::clone(peer))),
                None => Arc::new(Nowhere),
            }
        };
        let nodes = list.members.iter().filter(|member| member.weight > 0);
        let ways = nodes.map(|member| (member.node, way(member.node))).collect();
        match Routes::new(&ring, ways) {
            Ok(routes) => self.routes.swap(routes),
            Err(error) => {
                tracing::error!(epoch, %error, "no routes can be made of the member list");
                false
            }
        }
    }

    /// Follows the lists until shutdown is requested.
    ///
    /// # Errors
    /// Never; a task of this kind may say so.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(LOOK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.step() {
                let routes = self.routes.get();
                tracing::info!(epoch = routes.ring_epoch(), nodes = routes.len(), "routes changed");
            }
            tokio::select! {
                _ = tick.tick() => {}
                () = shutdown.wait() => return Ok(()),
            }
        }
    }
}
