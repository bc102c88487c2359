//! Nodes, what is common to them, and a front door that routes as the real one does: by the ring over the member list.

use super::cut::{CutBook, CutShelf, Line};
use super::post::{Peer, Post};
use crate::world::{Door, World, options};
use chat::core::NoRisk;
use chat::store::books::MemoryBooks;
use chat::store::owners::{MemoryOwners, OwnerBook, PgOwners};
use chat::store::{MemoryOwned, OwnedShelf, PgShelf};
use chat::{ChatOptions, OwnerNode, OwnerStores};
use hashring::{Bucket, Member, Ring, bucket_of};
use ownership::MemberList;
use parking_lot::Mutex;
use protocol::calls::{CallError, Chat, ChatHost, DeviceAt, Inbox, SendCall};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatRequest, PresenceRequest, Send, SendAnswer, SendOutcome, SyncRequest};
use runtime::{Clock, SharedClock, Shutdown, SystemClock, Tasks};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;
use storage::pg::{Pg, PgOptions};
use testkit::servers::FreshDatabase;

/// How long anything may take on a slow machine.
pub const SOON: Duration = Duration::from_secs(60);

/// What is common to the nodes, and outlives them.
pub struct Ground {
    pub shelf: Arc<dyn OwnedShelf>,
    pub book: Arc<dyn OwnerBook>,
    pub books: Option<MemoryBooks>,
    /// The database, for whoever puts something into it by hand.
    pub pg: Option<Pg>,
    /// Dropped last.
    _database: Option<FreshDatabase>,
}

impl Ground {
    pub fn memory() -> Ground {
        let book = MemoryOwners::new(SystemClock::shared());
        let shelf = Arc::new(MemoryOwned::new(book.clone()));
        Ground { shelf, book: Arc::new(book), books: Some(MemoryBooks::default()), pg: None, _database: None }
    }

    pub async fn postgres() -> Option<Ground> {
        let database = FreshDatabase::new()?;
        let shelf = PgShelf::open(PgOptions::development(database.url()), 1).await.unwrap();
        let book = Arc::new(PgOwners::new(shelf.pg().clone()));
        let pg = Some(shelf.pg().clone());
        Some(Ground { shelf: Arc::new(shelf), book, books: None, pg, _database: Some(database) })
    }
}

/// The machine's clock, which may jump ahead, as it does for a process that was stopped.
pub struct Jumping(AtomicU64);

impl Jumping {
    pub fn jump(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Jumping {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        SystemClock.mono_ns() + self.0.load(Ordering::SeqCst) * 1_000_000
    }
}

/// A running node.
pub struct Running {
    pub node: Arc<OwnerNode>,
    pub line: Arc<Line>,
    pub clock: Arc<Jumping>,
    tasks: Tasks,
}

/// The cluster.
pub struct Cluster {
    pub ground: Ground,
    pub post: Arc<Post>,
    pub door: Arc<Door>,
    nodes: Mutex<BTreeMap<u16, Running>>,
    /// The member list's version, and the ring.
    ring: Mutex<(u64, Option<Arc<Ring>>)>,
    devices: Mutex<BTreeSet<(u64, u64)>>,
    /// Whom devices watch, as the front door remembers it.
    watches: Mutex<BTreeMap<(u64, u64), Vec<u64>>>,
    options: ChatOptions,
    seed: AtomicU64,
    tasks: Tasks,
}

impl Cluster {
    pub fn new(ground: Ground, seed: u64) -> Arc<Cluster> {
        Cluster::with(ground, seed, options())
    }

    pub fn with(ground: Ground, seed: u64, options: ChatOptions) -> Arc<Cluster> {
        let tasks = Tasks::new(Shutdown::new());
        Arc::new(Cluster {
            ground,
            post: Post::start(seed, &tasks),
            door: Arc::default(),
            nodes: Mutex::default(),
            ring: Mutex::default(),
            devices: Mutex::default(),
            watches: Mutex::default(),
            options,
            seed: AtomicU64::new(seed),
            tasks,
        })
    }

    /// Some nodes, each of which has what the ring gives it.
    pub async fn of(ground: Ground, seed: u64, nodes: &[u16]) -> Arc<Cluster> {
        let cluster = Cluster::new(ground, seed);
        nodes.iter().for_each(|node| cluster.start(*node));
        cluster.members(nodes);
        cluster.settled().await;
        cluster
    }

    /// A node starts, perhaps one that was killed.
    pub fn start(&self, number: u16) {
        let tasks = Tasks::new(Shutdown::new());
        let line = Line::new(self.seed.fetch_add(1, Ordering::SeqCst));
        let stores = OwnerStores {
            shelf: Arc::new(CutShelf { inner: Arc::clone(&self.ground.shelf), line: Arc::clone(&line) }),
            owners: Arc::new(CutBook { inner: Arc::clone(&self.ground.book), line: Arc::clone(&line) }),
            books: self.ground.books.clone().map(|books| Arc::new(books) as _),
        };
        let peer = Arc::new(Peer { post: Arc::clone(&self.post), from: number, line: Arc::clone(&line) });
        let clock = Arc::new(Jumping(AtomicU64::new(0)));
        let options = ChatOptions { node: number, ..self.options.clone() };
        let shared: SharedClock = clock.clone();
        let node = OwnerNode::open(options, stores, peer, Box::new(NoRisk), shared, &tasks).unwrap();
        node.attach(1, self.door.clone());
        self.post.hosts.lock().insert(number, node.clone());
        let (epoch, ring) = self.ring.lock().clone();
        if let Some(ring) = ring {
            node.follow(&list_of(epoch, &ring)).unwrap();
        }
        self.nodes.lock().insert(number, Running { node, line, clock, tasks });
    }

    /// A node is gone at once: nothing of it gets anywhere any more.
    pub async fn kill(&self, number: u16) {
        self.post.hosts.lock().remove(&number);
        let running = self.nodes.lock().remove(&number);
        let running = running.expect("a running node");
        running.line.dead.store(true, Ordering::SeqCst);
        let drained = running.tasks.drain(SOON).await;
        assert!(drained.failure.is_none(), "{drained:?}");
    }

    /// A node ends in order, without having handed over.
    pub async fn stop(&self, number: u16) {
        let running = self.nodes.lock().remove(&number);
        let drained = running.expect("a running node").tasks.drain(SOON).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
        self.post.hosts.lock().remove(&number);
    }

    /// Everything ends.
    pub async fn end(&self) {
        let all: Vec<u16> = self.nodes.lock().keys().copied().collect();
        for number in all {
            self.stop(number).await;
        }
        let _ = self.tasks.drain(SOON).await;
    }

    pub fn node(&self, number: u16) -> Arc<OwnerNode> {
        Arc::clone(&self.nodes.lock()[&number].node)
    }

    pub fn with_node<T>(&self, number: u16, look: impl FnOnce(&Running) -> T) -> T {
        look(&self.nodes.lock()[&number])
    }

    /// Troubles everywhere: of 1,000 calls to the store, and of 1,000 words between nodes.
    pub fn trouble(&self, store: u64, post: u64) {
        self.post.trouble.store(post, Ordering::SeqCst);
        for running in self.nodes.lock().values() {
            running.line.trouble.store(store, Ordering::SeqCst);
        }
    }

    /// Another member list. The front door tells of its devices where their users are by it.
    pub fn members(&self, members: &[u16]) {
        let member = |node: &u16| Member { node: *node, weight: 1 };
        let members: Vec<Member> = members.iter().map(member).collect();
        let (before, after, list) = {
            let mut now = self.ring.lock();
            let list = MemberList { epoch: now.0 + 1, members };
            let ring = Arc::new(list.ring().unwrap());
            let before = now.1.replace(Arc::clone(&ring));
            now.0 += 1;
            (before, ring, list)
        };
        let nodes: BTreeMap<u16, Arc<OwnerNode>> =
            self.nodes.lock().iter().map(|(number, running)| (*number, Arc::clone(&running.node))).collect();
        for (user, device) in self.devices.lock().iter() {
            let at = World::at(*user, *device);
            let was = before.as_ref().map(|ring| ring.owner(bucket_of(*user)));
            let is = after.owner(bucket_of(*user));
            if was != Some(is) {
                was.and_then(|was| nodes.get(&was)).into_iter().for_each(|node| node.leave(at));
                let watches = self.watches.lock().get(&(*user, *device)).cloned();
                if let Some(node) = nodes.get(&is) {
                    node.arrive_again(at);
                    watches.iter().for_each(|users| node.watch_again(at, users));
                }
            }
        }
        nodes.values().for_each(|node| node.follow(&list).unwrap());
    }

    /// Waits until every node of the ring has what the ring gives it.
    pub async fn settled(&self) {
        self.until("buckets are where the ring wants them", |cluster| {
            let ring = cluster.ring.lock().1.clone().unwrap();
            let mut fair: BTreeMap<u16, usize> = BTreeMap::new();
            Bucket::all().for_each(|bucket| *fair.entry(ring.owner(bucket)).or_default() += 1);
            let nodes = cluster.nodes.lock();
            fair.iter().all(|(node, count)| {
                let status = nodes.get(node).map(|running| running.node.status());
                status.is_some_and(|s| s.buckets.open == *count && s.buckets.closing == 0 && s.is_fresh)
            })
        })
        .await;
    }

    /// Waits until nothing is under way.
    pub async fn quiet(&self) {
        self.settled().await;
        self.until("everything is handed on", |cluster| {
            cluster.nodes.lock().values().all(|running| {
                let status = running.node.status();
                status.pending == 0 && status.fanning == 0
            })
        })
        .await;
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, mut so: impl FnMut(&Cluster) -> bool) {
        let wait = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(SOON, wait).await.is_err() {
            panic!("waited in vain: {what}; {:#?}", self.statuses());
        }
    }

    /// The node that has a user or a conversation by the ring, if it runs.
    pub fn of_id(&self, id: u64) -> Option<Arc<OwnerNode>> {
        let owner = self.ring.lock().1.as_ref()?.owner(bucket_of(id));
        self.nodes.lock().get(&owner).map(|running| Arc::clone(&running.node))
    }

    pub fn arrive(&self, user: u64, device: u64) {
        self.devices.lock().insert((user, device));
        if let Some(node) = self.of_id(user) {
            node.arrive(World::at(user, device));
        }
    }

    /// A user's first device asks about users and watches them from now on; who is online.
    pub async fn watch(&self, user: u64, users: Vec<u64>) -> Vec<u64> {
        let ask = Ask::Presence(PresenceRequest { users: users.clone(), watch: true });
        let Answer::Presence(seen) = self.ask(user, ask).await.unwrap() else { panic!("no presence") };
        self.watches.lock().insert((user, 1), users);
        seen.presence.iter().filter(|p| p.online).map(|p| p.user).collect()
    }

    /// A user's first device is gone.
    pub fn leave(&self, user: u64) {
        self.devices.lock().remove(&(user, 1));
        if let Some(node) = self.of_id(user) {
            node.leave(World::at(user, 1));
        }
    }

    /// What a user's first device was told last of another's presence.
    pub fn sees(&self, user: u64, other: u64) -> Option<bool> {
        let got = self.door.got.lock();
        let presence = &got.get(&(user * 100 + 1, 1))?.presence;
        presence.iter().rev().find(|p| p.user == other).map(|p| p.online)
    }

    pub fn at(user: u64, device: u64) -> DeviceAt {
        World::at(user, device)
    }

    /// Sends once; nothing when no answer came in time.
    pub async fn send(&self, send: Send) -> Option<SendAnswer> {
        let place = if send.conversation == 0 { send.user.min(send.to_user) } else { send.conversation };
        let node = self.of_id(place)?;
        let (inbox, mut out) = (Arc::new(Inbox::new()), Vec::new());
        let from = World::at(send.user, send.device).at;
        node.send(&mut vec![SendCall { tag: 1, send, from }], &inbox, &mut out);
        let wait = async {
            while out.is_empty() && !inbox.take(&mut out, Waker::noop()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), wait).await;
        out.pop().map(|reply| reply.answer)
    }

    /// Sends until it is stored.
    pub async fn stored(&self, send: Send) -> SendAnswer {
        let mut last = None;
        let stored = async {
            loop {
                let answer = self.send(send.clone()).await;
                last.clone_from(&answer);
                match answer.as_ref().map(SendAnswer::outcome) {
                    Some(SendOutcome::Stored) => return answer.unwrap(),
                    // Its owner is not there, or can't say.
                    None | Some(SendOutcome::Busy | SendOutcome::Pending) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Some(_) => panic!("{answer:?} to {send:?}"),
                }
            }
        };
        let in_time = tokio::time::timeout(SOON, stored).await;
        in_time.unwrap_or_else(|_| panic!("not stored: {send:?}, {last:?}; {:#?}", self.statuses()))
    }

    fn statuses(&self) -> Vec<chat::OwnerStatus> {
        self.nodes.lock().values().map(|running| running.node.status()).collect()
    }

    /// Asks once.
    pub async fn ask_once(&self, who: DeviceAt, ask: Ask) -> Result<Answer, CallError> {
        let Some(node) = self.of_id(place_of(who.user, &ask)) else {
            return Err(CallError::Unavailable("nobody".to_owned()));
        };
        let request = ChatRequest { user: who.user, device: who.device, ask: Some(ask) };
        Ok(node.ask(who.at, request).await?.answer.unwrap())
    }

    /// Asks until it is answered.
    pub async fn ask(&self, user: u64, ask: Ask) -> Result<Answer, CallError> {
        let asked = async {
            loop {
                match self.ask_once(World::at(user, 1), ask.clone()).await {
                    Err(CallError::Unavailable(_) | CallError::Busy(_)) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    other => return other,
                }
            }
        };
        tokio::time::timeout(SOON, asked).await.expect("answered in time")
    }

    pub async fn done(&self, user: u64, ask: Ask) -> u64 {
        match self.ask(user, ask).await.unwrap() {
            Answer::Done(done) => done.conversation,
            other => panic!("{other:?}"),
        }
    }

    /// What a device that has everything up to a cursor does not have: (cursor, conversation, seq); its next cursor, and
    /// the unread total.
    pub async fn sync(&self, user: u64, mut cursor: u64) -> (Vec<(u64, u64, u64)>, u64, u64) {
        let mut all = Vec::new();
        loop {
            let ask = SyncRequest { cursor, limit: 50, pulled: Vec::new() };
            let Answer::Sync(sync) = self.ask(user, Ask::Sync(ask)).await.unwrap() else { panic!("no sync") };
            let mut last = cursor;
            for entry in &sync.entries {
                assert!(entry.cursor > last, "cursors rise");
                last = entry.cursor;
                all.push((entry.cursor, entry.conversation, entry.seq));
            }
            assert!(sync.cursor >= last);
            cursor = sync.cursor;
            if !sync.more {
                return (all, cursor, sync.unread_total);
            }
        }
    }

    /// Everything of a timeline: (conversation, seq); and the unread total.
    pub async fn timeline(&self, user: u64) -> (Vec<(u64, u64)>, u64) {
        let (all, _, unread) = self.sync(user, 1).await;
        (all.into_iter().map(|(_, conversation, seq)| (conversation, seq)).collect(), unread)
    }
}

fn list_of(epoch: u64, ring: &Ring) -> MemberList {
    let nodes: BTreeSet<u16> = Bucket::all().map(|bucket| ring.owner(bucket)).collect();
    MemberList { epoch, members: nodes.into_iter().map(|node| Member { node, weight: 1 }).collect() }
}

/// Whose node answers a request, as the front door sees it.
fn place_of(user: u64, ask: &Ask) -> u64 {
    match ask {
        Ask::Range(ask) => ask.conversation,
        Ask::MarkRead(ask) => ask.conversation,
        Ask::Recall(ask) => ask.conversation,
        Ask::Delete(ask) => ask.conversation,
        Ask::SetNotice(ask) => ask.conversation,
        Ask::AddMembers(ask) => ask.conversation,
        Ask::RemoveMembers(ask) => ask.conversation,
        Ask::SetRole(ask) => ask.conversation,
        Ask::Mute(ask) => ask.conversation,
        Ask::Rename(ask) => ask.conversation,
        Ask::Dissolve(ask) => ask.conversation,
        Ask::Members(ask) => ask.conversation,
        _ => user,
    }
}
