//! A server with everything behind it, a wire that misbehaves on request, and callers.

use async_trait::async_trait;
use campaign::{AwardId, CampaignId, Fen, NodeEpoch, NodeId, PrizeId, RoundId, UserId, VendorId};
use parking_lot::Mutex;
use protocol::calls::client::{CallOptions, Dialer, Peer, Target};
use protocol::calls::server::{CallCounts, CallServer};
use protocol::calls::{
    Accounts, AwardView, Awards, CallError, CallKey, Cluster, Draws, Histories, Inbox, PastWin, Served,
    ServiceSet, SubmitCall, SubmitReply,
};
use protocol::v1::{self, Outcome};
use runtime::{SharedClock, Shutdown, SystemClock, TaskKind, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Number of the node in these tests.
pub const NODE: u16 = 7;

pub fn cluster(secret: u8) -> Cluster {
    Cluster::new("test", vec![CallKey::new("k1", &[secret; 32]).unwrap()]).unwrap()
}

pub fn award(n: u64) -> AwardId {
    AwardId::new(1_800_000_000_000, NodeId(NODE), NodeEpoch(1), n)
}

/// A lottery and flow whose answers follow from the user: by the last digit 0 wins late, 1 is never answered, 2 loses
/// late, everybody else loses at once.
#[derive(Default)]
pub struct Fake {
    pub batches: Mutex<Vec<usize>>,
    pub claims: AtomicU64,
    pub accounts: AtomicU64,
    /// The next claims and accounts hear that flow is away.
    pub away: AtomicU64,
}

pub fn reply_to(call: &SubmitCall) -> SubmitReply {
    let won = call.user.is_multiple_of(10);
    let award =
        won.then(|| v1::Award { award: award(call.user).to_string(), fen: 88, ..v1::Award::default() });
    SubmitReply {
        tag: call.tag,
        user: call.user,
        counter: call.counter,
        next_counter: call.counter + 1,
        outcome: if won { Outcome::Won } else { Outcome::Lost },
        next_submit_ms: 1_500,
        until_ms: u64::from(call.district),
        award: award.map(Box::new),
    }
}

impl Draws for Fake {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        self.batches.lock().push(calls.len());
        let mut late = Vec::new();
        for call in calls {
            match call.user % 10 {
                0 | 2 => late.push(reply_to(call)),
                1 => {}
                _ => out.push(reply_to(call)),
            }
        }
        if !late.is_empty() {
            let inbox = Arc::clone(inbox);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2));
                inbox.put_all(late);
            });
        }
    }
}

pub fn past_win(user: UserId, campaign: CampaignId, n: u64) -> PastWin {
    PastWin {
        award: award(n),
        user,
        campaign,
        round: RoundId(2),
        day: 20_000,
        counter: n as u32,
        prize: PrizeId(4),
        unit: u64::MAX - n,
        fen: Fen(-(n as i64)),
    }
}

#[async_trait]
impl Histories for Fake {
    async fn passed(&self, lanes: &[u16]) -> Result<Vec<(u16, u64)>, CallError> {
        Ok(lanes.iter().rev().map(|lane| (*lane, u64::from(*lane) << 33)).collect())
    }

    /// User n has n wins.
    async fn wins(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<PastWin>>, CallError> {
        let of = |&(user, campaign): &(UserId, CampaignId)| {
            (0..user.0).map(|n| past_win(user, campaign, n)).collect()
        };
        Ok(asked.iter().map(of).collect())
    }
}

#[async_trait]
impl Awards for Fake {
    async fn prizes(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<(Vec<AwardView>, bool), CallError> {
        match user.0 {
            404 => Err(CallError::NotFound("user 404 has nothing".into())),
            // Longer than any caller waits.
            408 => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Err(CallError::Busy(1))
            }
            _ => {
                let view =
                    v1::Award { award: award(1).to_string(), fen: limit as i64, ..v1::Award::default() };
                Ok((vec![view], after.is_some()))
            }
        }
    }

    async fn claim(&self, user: UserId, award: AwardId) -> Result<AwardView, CallError> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) > 0 {
            self.away.fetch_sub(1, Ordering::SeqCst);
            return Err(CallError::Unavailable("flow is away".into()));
        }
        match user.0 {
            408 => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Err(CallError::Busy(1))
            }
            409 => Err(CallError::Refused("it has lapsed".into())),
            _ => Ok(v1::Award { award: award.to_string(), ..v1::Award::default() }),
        }
    }
}

#[async_trait]
impl Accounts for Fake {
    async fn set_account(&self, user: UserId, _: VendorId, _: &str) -> Result<u64, CallError> {
        let version = self.accounts.fetch_add(1, Ordering::SeqCst) + 1;
        if user.0 == 408 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(version)
    }
}

/// Options with long times, so that a machine that is busy with something else fails no test.
pub fn patient() -> CallOptions {
    CallOptions {
        connect_ms: 10_000,
        submit_ms: 30_000,
        try_ms: 10_000,
        dead_ms: 9_000,
        ..CallOptions::default()
    }
}

/// A server in a stage of its own, so that it can be killed, and what stands behind it.
pub struct Server<H = Fake> {
    pub address: SocketAddr,
    pub host: Arc<H>,
    pub counts: Arc<CallCounts>,
    pub tasks: Tasks,
}

/// Serves everything but chat.
pub fn serve(tasks: &Tasks, at: Option<SocketAddr>) -> Server {
    serve_as(tasks, at, KEPT, |fake: Arc<Fake>| Served {
        draws: Some(fake.clone()),
        awards: Some(fake.clone()),
        accounts: Some(fake.clone()),
        histories: Some(fake),
        ..Served::default()
    })
}

/// How long a server keeps the devices of an access node that is out of reach, in tests that are not about that.
pub const KEPT: Duration = Duration::from_millis(700);

/// Serves what a new host stands for, on a free port if no address is named.
pub fn serve_as<H: Default>(
    tasks: &Tasks,
    at: Option<SocketAddr>,
    kept: Duration,
    served: impl FnOnce(Arc<H>) -> Served,
) -> Server<H> {
    let host = Arc::new(H::default());
    let at = at.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let served = served(host.clone());
    let server = CallServer::bind(at, cluster(1), NODE, served, SystemClock::shared()).unwrap();
    server.keep_devices_for(kept);
    let (address, counts, tasks) = (server.address(), server.counts(), tasks.stage());
    server.run(&tasks);
    Server { address, host, counts, tasks }
}

impl<H> Server<H> {
    /// Its sockets are closed at once, whatever is under way.
    pub async fn kill(&self) {
        let _ = self.tasks.drain(Duration::ZERO).await;
        // An aborted task lets go of its sockets a little later.
        eventually("its address is free", || std::net::TcpListener::bind(self.address).is_ok()).await;
    }
}

pub fn tasks() -> Tasks {
    Tasks::new(Shutdown::new())
}

pub const EVERYTHING: fn() -> ServiceSet =
    || ServiceSet::DRAWS | ServiceSet::AWARDS | ServiceSet::ACCOUNTS | ServiceSet::HISTORIES;

pub fn dial(tasks: &Tasks, address: SocketAddr, options: CallOptions) -> Arc<Peer> {
    dial_by(tasks, address, options, SystemClock::shared())
}

pub fn dial_by(tasks: &Tasks, address: SocketAddr, options: CallOptions, clock: SharedClock) -> Arc<Peer> {
    let target = Target { node: NODE, address: address.to_string() };
    Dialer::new(cluster(1), "test/1", options, clock, tasks.stage()).dial(target, EVERYTHING())
}

pub async fn up(peer: &Peer) {
    eventually("the peer is up", || peer.health().links_up == peer.health().links).await;
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not within a minute");
}

pub fn calls(tags: std::ops::Range<u64>) -> Vec<SubmitCall> {
    let call = |tag| SubmitCall {
        tag,
        user: tag,
        campaign: 1,
        round: 2,
        counter: 3,
        shakes: 4,
        district: tag as u32,
    };
    tags.map(call).collect()
}

/// Moves what has come to `heard`.
pub fn hear<R>(inbox: &Inbox<R>, heard: &mut Vec<R>) {
    while inbox.take(heard, Waker::noop()) {}
}

/// A wire between a caller and a server.
pub struct Wire {
    pub address: SocketAddr,
    mode: Arc<AtomicU8>,
    carried: Arc<AtomicU64>,
}

/// What the wire does with what it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Carry = 0,
    /// Keeps it; it goes on later.
    Hold = 1,
    /// Ends every connection, and takes no new one.
    Cut = 2,
}

impl Wire {
    pub async fn new(tasks: &Tasks, to: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(0));
        let carried = Arc::new(AtomicU64::new(0));
        let (of_wire, of_tasks, of_count) = (mode.clone(), tasks.clone(), carried.clone());
        tasks.spawn("wire", TaskKind::BestEffort, async move {
            loop {
                let (near, _) = listener.accept().await?;
                let Ok(far) = TcpStream::connect(to).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                for (from, to) in [(near_read, far_write), (far_read, near_write)] {
                    let (mode, carried) = (of_wire.clone(), of_count.clone());
                    of_tasks.spawn("way", TaskKind::BestEffort, async move {
                        carry(from, to, &mode, &carried).await;
                        Ok(())
                    });
                }
            }
        });
        Wire { address, mode, carried }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Bytes carried, both ways.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mode: &AtomicU8,
    carried: &AtomicU64,
) {
    let mut bytes = [0; 1000];
    loop {
        let n = tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(n) if n > 0 => n,
                _ => return,
            },
            () = until_cut(mode) => return,
        };
        while mode.load(Ordering::SeqCst) == Mode::Hold as u8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if mode.load(Ordering::SeqCst) == Mode::Cut as u8 || to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
        carried.fetch_add(n as u64, Ordering::SeqCst);
    }
}

async fn until_cut(mode: &AtomicU8) {
    while mode.load(Ordering::SeqCst) != Mode::Cut as u8 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
