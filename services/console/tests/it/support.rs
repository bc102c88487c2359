//! A console with a platform that is made up, and a caller that holds every answer against the document.

use async_trait::async_trait;
use bytes::Bytes;
use campaign::{AwardId, CampaignId, SeedKey, SeqNo, UserId, VendorId};
use console::{
    AwardError, AwardExport, Console, ConsoleConfig, ConsoleDeps, Operators, Progress, RehearsalRequest,
    Rehearse, RehearseError, Report,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use quota_config::{
    AwardRow, Desk, LimitSet, Lowered, MemoryRepository, OperationError, Operations, PlanRepository,
    PlatformStatus, Policy, PrizeAt, PrizeStatus, Role, SqlRepository, VendorSetting, VendorStatus,
};
use runtime::{Clock as _, SharedClock, Shutdown, SystemClock, TaskKind, Tasks};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use storage::{Sql, SqlOptions};

pub const SMALL: &str = "\
campaign: 4
name: Small
time_zone: Asia/Shanghai
vendors:
  - {id: 1, name: Wallet, release_per_second: 100}
limits: {wins_per_round: 1, wins_per_day: 2, wins_per_campaign: 2}
prize_sets:
  cash:
    - id: 1
      name: Cash
      kind: cash
      weight: 10
      vendor: 1
      units: 100
      sum: 400
      min: 0.50
      max: 20
    - id: 2
      name: Voucher
      kind: voucher
      value: 600
      weight: 10
      vendor: 1
      units: 100
rounds:
  - {id: 1, name: One, open: +0s, duration: 1h, prizes: cash}
  - {id: 2, name: Two, open: +2h, duration: 1h, prizes: cash}
";

/// The same with a further tranche of cash, units of so many yuan each.
pub fn with_more(units: u32, each: u32) -> String {
    let more = format!("max: 20\n      tranches: [{{units: {units}, each: {each}}}]");
    SMALL.replacen("max: 20", &more, 1)
}

/// A ledger and a delivery that are made up.
#[derive(Default)]
pub struct Fake {
    pub prizes: Mutex<BTreeMap<PrizeAt, PrizeStatus>>,
    pub vendor_limits: Mutex<BTreeMap<u32, u32>>,
    pub is_away: AtomicBool,
    pub hangs: AtomicBool,
    /// Calls that hang.
    pub hanging: AtomicU64,
    pub lowerings: AtomicU64,
}

impl Fake {
    pub fn with_prizes() -> Arc<Fake> {
        let fake = Fake::default();
        for round in [1, 2] {
            for prize in [1, 2] {
                let at = PrizeAt::new(round, prize);
                let row = PrizeStatus {
                    campaign: CampaignId(4),
                    at,
                    name: "Cash".into(),
                    vendor: VendorId(1),
                    seq_no: SeqNo(0),
                    paused: false,
                    made: 100,
                    budget: 100,
                    granted: 30,
                    awarded: 20,
                    locked: 10,
                    open_leases: 1,
                    per_second: 0.5,
                };
                fake.prizes.lock().insert(at, row);
            }
        }
        Arc::new(fake)
    }

    fn answers(&self) -> Result<(), OperationError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(OperationError::Failed("the ledger is away".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Operations for Fake {
    async fn pause(&self, _: CampaignId, prize: PrizeAt, seq_no: SeqNo) -> Result<(), OperationError> {
        self.answers()?;
        let mut prizes = self.prizes.lock();
        let row = prizes.get_mut(&prize).ok_or(OperationError::Unknown(prize))?;
        (row.paused, row.seq_no) = (true, seq_no);
        Ok(())
    }

    async fn lower(
        &self,
        _: CampaignId,
        prize: PrizeAt,
        seq_no: SeqNo,
        units: u64,
    ) -> Result<Lowered, OperationError> {
        self.answers()?;
        if self.hangs.load(Ordering::SeqCst) {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.lowerings.fetch_add(1, Ordering::SeqCst);
        let mut prizes = self.prizes.lock();
        let row = prizes.get_mut(&prize).ok_or(OperationError::Unknown(prize))?;
        let taken = units.min(row.budget - row.granted);
        row.budget -= taken;
        row.seq_no = seq_no;
        Ok(Lowered { effective_units: row.budget, taken })
    }

    async fn set_vendor_limit(&self, setting: &VendorSetting) -> Result<LimitSet, OperationError> {
        self.answers()?;
        if setting.vendor != VendorId(1) {
            return Ok(LimitSet::UnknownVendor);
        }
        self.vendor_limits.lock().insert(setting.vendor.0, setting.per_second.unwrap_or(100));
        Ok(LimitSet::Now)
    }

    async fn status(&self) -> Result<PlatformStatus, OperationError> {
        self.answers()?;
        let vendor = VendorStatus {
            vendor: VendorId(1),
            name: "Wallet".into(),
            limit_per_second: self.vendor_limits.lock().get(&1).copied().unwrap_or(100),
            backlog: 3,
            cut_off: false,
            per_second: 1.0,
        };
        let prizes = self.prizes.lock().values().cloned().collect();
        Ok(PlatformStatus { at_ms: 1, nodes: Vec::new(), prizes, vendors: vec![vendor] })
    }
}

/// Awards in memory.
#[derive(Default)]
pub struct Awards {
    pub rows: Mutex<Vec<AwardRow>>,
    pub fails_after: AtomicU64,
}

impl Awards {
    fn page<K: Ord>(
        &self,
        key: impl Fn(&AwardRow) -> K,
        after: Option<K>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError> {
        if self.fails_after.load(Ordering::SeqCst) == 1 {
            return Err(AwardError("the store is away".into()));
        }
        self.fails_after.fetch_sub(u64::from(self.fails_after.load(Ordering::SeqCst) > 1), Ordering::SeqCst);
        let mut rows = self.rows.lock().clone();
        rows.sort_by_key(&key);
        let behind = rows.into_iter().filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
        Ok(behind.take(limit).collect())
    }
}

#[async_trait]
impl AwardExport for Awards {
    async fn by_award(
        &self,
        _: CampaignId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError> {
        self.page(|row| row.award, after, limit)
    }

    async fn by_user(
        &self,
        _: CampaignId,
        after: Option<(UserId, AwardId)>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError> {
        self.page(|row| (row.user, row.award), after, limit)
    }
}

/// Rehearses nothing, when it is told to.
#[derive(Default)]
pub struct Stage {
    pub curtain: tokio::sync::Notify,
}

#[async_trait]
impl Rehearse for Stage {
    async fn rehearse(
        &self,
        request: RehearsalRequest,
        progress: Arc<Progress>,
    ) -> Result<Report, RehearseError> {
        progress.set(500);
        self.curtain.notified().await;
        if request.players == 13 {
            return Err(RehearseError("nobody rehearses with 13".into()));
        }
        let summary = serde_json::json!({"players": request.players.to_string()});
        Ok(Report { summary, html: b"<!doctype html>".to_vec() })
    }
}

/// A console that listens.
pub struct World {
    pub url: String,
    pub tokens: BTreeMap<&'static str, String>,
    pub fake: Arc<Fake>,
    pub awards: Arc<Awards>,
    pub stage: Arc<Stage>,
    pub tasks: Tasks,
    pub dir: Arc<tempfile::TempDir>,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub fn config() -> ConsoleConfig {
    ConsoleConfig {
        http: Some(([127, 0, 0, 1], 0).into()),
        token_per_second: 100_000,
        token_burst: 100_000,
        export_page: 3,
        ..ConsoleConfig::default()
    }
}

pub async fn sql(dir: &Path) -> Arc<dyn PlanRepository> {
    let sql = Sql::open(&dir.join("plans.db"), SqlOptions::patient()).await.unwrap();
    Arc::new(SqlRepository::open(sql, 1).await.unwrap())
}

impl World {
    /// On the memory repository.
    pub async fn new() -> World {
        World::with(config(), Arc::new(MemoryRepository::new())).await
    }

    pub async fn with(config: ConsoleConfig, repository: Arc<dyn PlanRepository>) -> World {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        World::on(dir, config, repository, Fake::with_prizes()).await
    }

    pub async fn on(
        dir: Arc<tempfile::TempDir>,
        config: ConsoleConfig,
        repository: Arc<dyn PlanRepository>,
        fake: Arc<Fake>,
    ) -> World {
        World::timed(dir, config, repository, fake, SystemClock::shared()).await
    }

    /// The same, by a clock of the test's, where what time brings must not depend on the machine.
    pub async fn timed(
        dir: Arc<tempfile::TempDir>,
        config: ConsoleConfig,
        repository: Arc<dyn PlanRepository>,
        fake: Arc<Fake>,
        clock: SharedClock,
    ) -> World {
        let path = dir.path().join(format!("operators-{}.toml", SystemClock.mono_ns()));
        let people = [
            ("vic", Role::Viewer),
            ("olga", Role::Operator),
            ("otto", Role::Operator),
            ("anna", Role::Approver),
            ("adam", Role::Admin),
        ];
        let tokens = people
            .into_iter()
            .map(|(name, role)| (name, Operators::add(&path, name, role).unwrap()))
            .collect();
        let (awards, stage) = (Arc::new(Awards::default()), Arc::new(Stage::default()));
        let seeds = Arc::new(SeedKey { id: 7, key: [9; 32] });
        let desk = Desk::new(repository, Policy::default(), seeds, fake.clone(), clock.clone());
        let deps = ConsoleDeps {
            desk: Arc::new(desk),
            operators: Arc::new(Operators::open(&path, clock.clone()).unwrap()),
            awards: awards.clone(),
            rehearse: Some(stage.clone()),
            clock,
        };
        let tasks = Tasks::new(Shutdown::new());
        let console = Console::new(config, deps, &tasks).unwrap();
        let listener = console.bind().await.unwrap().unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn("console", TaskKind::Service, async move { console.serve(listener).await });
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        World { url, tokens, fake, awards, stage, tasks, dir, client }
    }

    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let (headers, body) = (Vec::new(), Bytes::new());
        Ask { world: self, method, path: path.to_string(), headers, body, checked: true }
    }

    pub fn get(&self, who: &str, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path).by(&self.tokens[who])
    }

    pub fn post(&self, who: &str, path: &str, body: Value) -> Ask<'_> {
        self.ask(Method::POST, path).by(&self.tokens[who]).json(body)
    }

    pub fn file(&self, who: &str, path: &str, source: &str) -> Ask<'_> {
        let ask = self.ask(Method::POST, path).by(&self.tokens[who]);
        ask.header("content-type", "text/yaml").body(source.as_bytes().to_vec())
    }

    /// Puts the small campaign into force.
    pub async fn begin(&self) {
        let answer = self.file("olga", "/v1/campaigns?reason=first", SMALL).send().await;
        assert_eq!(
            (answer.status, &answer.json()["state"]),
            (201, &Value::from("active")),
            "{}",
            answer.text()
        );
    }

    pub async fn end(self) {
        let drained = self.tasks.drain(Duration::from_secs(60)).await;
        assert!(drained.failure.is_none() && drained.unfinished.is_empty(), "{drained:?}");
    }
}

pub struct Ask<'a> {
    world: &'a World,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    checked: bool,
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// A problem of a kind, and its detail.
    pub fn problem(&self, status: u16, word: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["type"], format!("urn:hongbao:problem:{word}"), "{}", self.text());
        assert_eq!(json["status"], status);
        assert!(json["instance"].as_str().unwrap().starts_with('/'));
        json["detail"].as_str().unwrap().to_string()
    }
}

impl Ask<'_> {
    pub fn by(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string().into_bytes())
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body.into();
        self
    }

    /// Without a look at the document: for what is asked wrongly on purpose.
    pub fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    /// As [`Ask::send`], where the answer may break off.
    pub async fn try_send(self) -> Result<Answer, String> {
        let mut request =
            Request::builder().method(&self.method).uri(format!("{}{}", self.world.url, self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(self.body.clone())).map_err(|e| e.to_string())?;
        let asking = async {
            let answer = self.world.client.request(request).await.map_err(|e| format!("{e:?}"))?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        let answer: Result<Answer, String> =
            tokio::time::timeout(Duration::from_secs(60), asking).await.expect("an answer in time");
        let answer = answer?;
        if self.checked && answer.status != StatusCode::METHOD_NOT_ALLOWED.as_u16() {
            let path = self.path.split('?').next().unwrap();
            crate::document::check(&self.method, path, &answer);
        }
        Ok(answer)
    }
}
