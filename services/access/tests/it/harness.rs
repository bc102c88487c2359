//! A server, what stands behind it, and a client that speaks frames.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::fake_chat::FakeChat;
use access::token::{GatewayGrant, KeyCell, TokenKey, TokenKeys};
use access::{
    AccessConfig, AccessControl, AccessDeps, AccessNodes, AccessServer, FixedPlans, Limits, RouteTable,
    Routes,
};
use async_trait::async_trait;
use campaign::plan::{ClientPacing, Limits as PlanLimits, Plan, Round, Stagger};
use campaign::{AwardId, CampaignId, NodeEpoch, NodeId, RoundId, SeqNo, UserId, VendorId};
use parking_lot::Mutex;
use prost::Message;
use protocol::calls::{Accounts, AwardView, Awards, CallError, Chat, Draws, Inbox, SubmitCall, SubmitReply};
use protocol::frame::{self, FRAME_MAX, FrameKind, put, put_message};
use protocol::v1::{self, Outcome};
use runtime::{ManualClock, Metrics, Shutdown, Tasks};

/// The time at which tests begin: two seconds into round 1.
pub const NOW_MS: u64 = 1_800_000_000_000;

/// What a user's number makes of his entries.
pub const WINNER: u64 = 7_000;
pub const EXHAUSTED: u64 = 8_000;
pub const UNANSWERED: u64 = 9_000;

/// The conversation in which chat never answers.
pub const SILENT: u64 = 999;

/// A lottery whose outcomes follow from the user: `WINNER..` wins, told late; `EXHAUSTED..` has reached his limit with
/// counter 2; `UNANSWERED..` never hears; everybody else loses. The same draw has the same outcome.
#[derive(Default)]
pub struct FakeDraws {
    pub batches: Mutex<Vec<Vec<SubmitCall>>>,
    won: Mutex<HashMap<(u32, u32, u64, u32), String>>,
}

impl FakeDraws {
    pub fn calls(&self) -> usize {
        self.batches.lock().iter().map(Vec::len).sum()
    }

    fn reply(&self, call: &SubmitCall) -> SubmitReply {
        let mut reply = SubmitReply {
            tag: call.tag,
            user: call.user,
            counter: call.counter,
            next_counter: call.counter + 1,
            outcome: Outcome::Lost,
            next_submit_ms: 1_500,
            until_ms: 0,
            award: None,
        };
        if (EXHAUSTED..EXHAUSTED + 1000).contains(&call.user) && call.counter >= 2 {
            reply.outcome = Outcome::LimitReached;
            reply.next_counter = call.counter;
        } else if (WINNER..WINNER + 1000).contains(&call.user) {
            reply.outcome = Outcome::Won;
            let key = (call.campaign, call.round, call.user, call.counter);
            let mut won = self.won.lock();
            let sequence = won.len() as u64;
            let id = won.entry(key).or_insert_with(|| award_id(sequence).to_string());
            reply.award = Some(Box::new(award(id)));
        }
        reply
    }
}

pub fn award_id(sequence: u64) -> AwardId {
    AwardId::new(NOW_MS, NodeId(1), NodeEpoch(1), sequence)
}

pub fn award(id: &str) -> v1::Award {
    v1::Award { award: id.to_owned(), campaign: 1, round: 1, prize: 3, fen: 88, ..v1::Award::default() }
}

impl Draws for FakeDraws {
    fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        self.batches.lock().push(calls.to_vec());
        let mut late = Vec::new();
        for call in calls.iter().filter(|call| !(UNANSWERED..UNANSWERED + 1000).contains(&call.user)) {
            let reply = self.reply(call);
            if reply.outcome == Outcome::Won { late.push(reply) } else { out.push(reply) }
        }
        if !late.is_empty() {
            let inbox = Arc::clone(inbox);
            // Made durable by somebody else.
            std::thread::spawn(move || inbox.put_all(late));
        }
    }
}

/// Flow and delivery: user 404 has nothing, user 503 finds nobody there, user 30 has 500 large awards.
#[derive(Default)]
pub struct FakeDesks {
    pub accounts: Mutex<Vec<(u64, u32, String)>>,
}

#[async_trait]
impl Awards for FakeDesks {
    async fn prizes(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<(Vec<AwardView>, bool), CallError> {
        tokio::task::yield_now().await;
        match user.0 {
            503 => Err(CallError::Unavailable("flow is away".into())),
            30 => {
                let large =
                    |i: u64| v1::Award { prize_name: "x".repeat(600), ..award(&award_id(i).to_string()) };
                Ok(((0..limit as u64).map(large).collect(), true))
            }
            _ if after.is_some() => Ok((vec![], false)),
            _ => Ok((vec![award(&award_id(1).to_string())], false)),
        }
    }

    async fn claim(&self, user: UserId, id: AwardId) -> Result<AwardView, CallError> {
        if user.0 == 404 {
            return Err(CallError::NotFound(format!("user 404 has no award {id}")));
        }
        Ok(award(&id.to_string()))
    }
}

#[async_trait]
impl Accounts for FakeDesks {
    async fn set_account(&self, user: UserId, vendor: VendorId, account: &str) -> Result<u64, CallError> {
        let mut accounts = self.accounts.lock();
        accounts.push((user.0, vendor.0, account.to_owned()));
        Ok(accounts.len() as u64)
    }
}

pub fn plan() -> Plan {
    let round = |id: u32, open_ms: u64| Round {
        id: RoundId(id),
        name: format!("round {id}"),
        open_ms,
        close_ms: open_ms + 600_000,
        seed_key_id: 1,
        seed_commitment: [5; 32],
        prizes: vec![],
    };
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(3),
        name: "new year".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![],
        limits: PlanLimits { interval_ms: 1_000, ..PlanLimits::default() },
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1_000, submit_max_ms: 3_000 },
        rounds: vec![round(1, NOW_MS - 2_000), round(2, NOW_MS + 3_600_000)],
        regions: Vec::new(),
        vendors: vec![],
    }
}

/// A running server.
pub struct Server {
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    pub draws: Arc<FakeDraws>,
    pub desks: Arc<FakeDesks>,
    pub clock: Arc<ManualClock>,
    pub keys: TokenKeys,
    pub cell: Arc<KeyCell>,
    pub control: AccessControl,
    pub pushes: access::PushDoor,
    pub tasks: Tasks,
    runtime: Option<tokio::runtime::Runtime>,
}

pub fn start() -> Server {
    start_with(Limits::default())
}

pub fn start_with(limits: Limits) -> Server {
    start_sharing(limits, None)
}

pub fn start_sharing(limits: Limits, rates: Option<Arc<dyn access::gates::RateBook>>) -> Server {
    start_as(AccessConfig { limits, ..AccessConfig::default() }, rates, Around::default())
}

/// A server with a chat that is made for the test.
pub fn start_chat(limits: Limits) -> (Server, Arc<FakeChat>) {
    start_chat_as(AccessConfig { limits, ..AccessConfig::default() })
}

/// The same, configured in other ways too.
pub fn start_chat_as(config: AccessConfig) -> (Server, Arc<FakeChat>) {
    let chat = Arc::new(FakeChat::default());
    let around = Around { chat: Some(chat.clone()), ..Around::default() };
    (start_as(config, None, around), chat)
}

/// What else may stand around a server.
#[derive(Default)]
pub struct Around {
    pub chat: Option<Arc<dyn Chat>>,
    pub nodes: Option<Arc<dyn AccessNodes>>,
}

/// Why a server can't open.
pub fn bind_error(config: AccessConfig, around: Around) -> String {
    let keys = TokenKeys::new(vec![TokenKey::new("k1", &[9; 32]).unwrap()]).unwrap();
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let desks = Arc::new(FakeDesks::default());
    let deps = AccessDeps {
        node: 1,
        clock: ManualClock::new(NOW_MS),
        keys: KeyCell::new(keys),
        plans: FixedPlans::new(vec![]),
        routes: RouteTable::new(Routes::single(1, Arc::new(FakeDraws::default()))),
        awards: desks.clone(),
        accounts: desks,
        chat: around.chat,
        nodes: around.nodes,
        metrics: Metrics::new(),
        extra: None,
    };
    match AccessServer::bind(AccessConfig { tcp: any, http: any, ..config }, deps) {
        Ok(_) => panic!("it opens"),
        Err(error) => error.to_string(),
    }
}

/// A server, configured, on ports of its own.
pub fn start_as(
    config: AccessConfig,
    rates: Option<Arc<dyn access::gates::RateBook>>,
    around: Around,
) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tasks = {
        let _inside = runtime.enter();
        Tasks::new(Shutdown::new())
    };
    let keys = TokenKeys::new(vec![TokenKey::new("k1", &[9; 32]).unwrap()]).unwrap();
    let (draws, desks) = (Arc::new(FakeDraws::default()), Arc::new(FakeDesks::default()));
    let clock = ManualClock::new(NOW_MS);
    let cell = KeyCell::new(keys.clone());
    let deps = AccessDeps {
        node: 1,
        clock: clock.clone(),
        keys: cell.clone(),
        plans: FixedPlans::new(vec![Arc::new(plan())]),
        routes: RouteTable::new(Routes::single(1, draws.clone())),
        awards: desks.clone(),
        accounts: desks.clone(),
        chat: around.chat,
        nodes: around.nodes,
        metrics: Metrics::new(),
        extra: Some(Arc::new(crate::http::Echo)),
    };
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let config = AccessConfig { tcp: any, http: any, workers: 2, audience: Some("test".into()), ..config };
    let bound = AccessServer::bind_sharing(config, deps, rates).unwrap();
    let (tcp, http) = (bound.tcp_address().unwrap(), bound.http_address().unwrap());
    let (control, pushes) = (bound.control(), bound.pushes());
    bound.run(&tasks).unwrap();
    Server { tcp, http, draws, desks, clock, keys, cell, control, pushes, tasks, runtime: Some(runtime) }
}

impl Server {
    pub fn now_s(&self) -> u64 {
        NOW_MS / 1000
    }

    pub fn user_token(&self, user: u64) -> String {
        self.keys.mint_user(user, self.now_s(), self.now_s() + 3600, None)
    }

    pub fn gateway_token(&self, grant: &GatewayGrant) -> String {
        self.keys.mint_gateway(grant, self.now_s(), self.now_s() + 3600, Some("test"))
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.tcp).unwrap())
    }

    /// A user's connection, logged in.
    pub fn user(&self, user: u64) -> Client {
        let mut client = self.connect();
        client.hello();
        client.send(
            FrameKind::Login,
            2,
            &v1::Login { user_token: self.user_token(user), ..v1::Login::default() },
        );
        let done: v1::LoginDone = client.expect(FrameKind::LoginDone, 2);
        assert_eq!(done.user, user);
        client
    }

    /// A user's device, logged in.
    pub fn device(&self, user: u64, device: u64) -> Client {
        let mut client = self.connect();
        client.hello();
        self.log_in(&mut client, user, device);
        client
    }

    /// Logs a device in.
    pub fn log_in(&self, client: &mut Client, user: u64, device: u64) -> v1::LoginDone {
        let login = v1::Login { user_token: self.user_token(user), device, ..v1::Login::default() };
        client.send(FrameKind::Login, 2, &login);
        client.expect(FrameKind::LoginDone, 2)
    }

    /// A gateway's connection, logged in.
    pub fn gateway(&self, grant: GatewayGrant) -> (Client, v1::LoginDone) {
        let mut client = self.connect();
        client.hello();
        let gateway_token = self.gateway_token(&grant);
        client.send(FrameKind::Login, 2, &v1::Login { gateway_token, ..v1::Login::default() });
        let done = client.expect(FrameKind::LoginDone, 2);
        (client, done)
    }

    pub fn drain(&self) -> runtime::Drained {
        self.runtime.as_ref().unwrap().block_on(self.tasks.drain(Duration::from_secs(60)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.shutdown().request();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client that speaks frames, and waits at most thirty seconds for anything.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, kind: FrameKind, id: u32, message: &impl Message) {
        let mut out = Vec::new();
        put_message(&mut out, kind, id, message);
        self.raw(&out);
    }

    pub fn empty(&mut self, kind: FrameKind, id: u32) {
        let mut out = Vec::new();
        put(&mut out, kind, id, |_| ());
        self.raw(&out);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn hello(&mut self) -> v1::Welcome {
        self.send(FrameKind::Hello, 1, &v1::Hello { protocol_version: 1, ..v1::Hello::default() });
        self.expect(FrameKind::Welcome, 1)
    }

    /// The next frame; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<(FrameKind, u32, Vec<u8>)> {
        loop {
            if let Some((frame, used)) = frame::next(&self.buffer, FRAME_MAX).unwrap() {
                let owned = (frame.kind, frame.id, frame.body.to_vec());
                self.buffer.drain(..used);
                return Some(owned);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    pub fn expect<M: Message + Default>(&mut self, kind: FrameKind, id: u32) -> M {
        let (got, got_id, body) = self.next().expect("a frame, not the end");
        if got == FrameKind::Error && kind != FrameKind::Error {
            panic!("{:?}", v1::Error::decode(&body[..]));
        }
        assert_eq!((got, got_id), (kind, id));
        M::decode(&body[..]).unwrap()
    }

    /// An error that leaves the connection open.
    pub fn refused(&mut self, id: u32) -> v1::Error {
        let error: v1::Error = self.expect(FrameKind::Error, id);
        assert!(!error.fatal, "{error:?}");
        error
    }

    /// An error and then the end.
    pub fn thrown_out(&mut self, id: u32) -> v1::Error {
        let error: v1::Error = self.expect(FrameKind::Error, id);
        assert!(error.fatal, "{error:?}");
        assert_eq!(self.next(), None);
        error
    }

    pub fn submit(&mut self, id: u32, submit: &v1::Submit) -> v1::SubmitAnswer {
        self.send(FrameKind::Submit, id, submit);
        self.expect(FrameKind::SubmitAnswer, id)
    }
}

/// An entry for round 1.
pub fn entry(counter: u32) -> v1::Submit {
    v1::Submit { campaign: 1, round: 1, counter, shakes: 3, ..v1::Submit::default() }
}

/// Waits until something holds, for at most thirty seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: not within thirty seconds");
}
