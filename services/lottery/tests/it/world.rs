//! A node with its ledger in a folder, and players who draw from it.

use campaign::curve::Curve;
use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    CampaignId, Delivery, Fen, Limits, MacKey, MacKeys, NodeId, Plan, Prize, PrizeId, PrizeKind, Regions,
    Round, RoundId, SeedKey, SeqNo, Tranche, Vendor, VendorId,
};
use flowlog::{LogKind, LogOptions};
use lottery::ledger::{QuotaLedger, SqlLedger};
use lottery::node::{Node, NodeConfig, Recovered, StartError, start};
use protocol::calls::{Draws, Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use runtime::{Clock, Shutdown, SystemClock};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use storage::{Sql, SqlOptions};

pub const CAMPAIGN: u32 = 1;

fn seed_key() -> SeedKey {
    SeedKey { id: 1, key: [3; 32] }
}

/// A plan with one round that began just now and lasts `ms`, with a fixed and a lucky cash prize.
pub fn plan(open_ms: u64, ms: u64, units: u64) -> Plan {
    let id = RoundId(1);
    let prize = |n: u32, fen: i64, min: i64, max: i64| Prize {
        id: PrizeId(n),
        name: format!("cash {n}"),
        kind: PrizeKind::Cash,
        weight: n,
        vendor: VendorId(1),
        delivery: Delivery::AtOnce,
        curve: Curve::even(0, ms - 3_000),
        speed_max: 0,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: vec![Tranche {
            first: 0,
            units,
            fen: Fen(fen * units as i64),
            min: Fen(min),
            max: Fen(max),
        }],
    };
    Plan {
        campaign: CampaignId(CAMPAIGN),
        seq_no: SeqNo(1),
        name: "test".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![(0, 0)],
        limits: Limits { wins_round: 3, interval_ms: 1, shakes_per_second: 10, ..Limits::default() },
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1, submit_max_ms: 10 },
        rounds: vec![Round {
            id,
            name: "one".into(),
            open_ms,
            close_ms: open_ms + ms,
            seed_key_id: 1,
            seed_commitment: seed_key().round_seed(CampaignId(CAMPAIGN), id).commitment(),
            prizes: vec![prize(1, 100, 100, 100), prize(2, 300, 50, 20_000)],
        }],
        regions: Vec::new(),
        vendors: vec![Vendor { id: VendorId(1), name: "wallet".into(), release_per_second: 0 }],
    }
}

/// Districts that players submit from: every fourth does not say.
pub fn district_of(user: u64) -> u32 {
    (user % 4) as u32
}

pub struct World {
    pub node: Arc<Node>,
    pub ledger: Arc<dyn QuotaLedger>,
    pub recovered: Recovered,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

pub fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        node: NodeId(5),
        dir: dir.join("lottery"),
        log: Some(LogOptions { segment_bytes: 1 << 20, ..LogOptions::new(LogKind::FLOW, 5) }),
        shards: 4,
        users_max: 100_000,
        snapshot_bytes: 40_000,
        mac_keys: MacKeys::new(vec![MacKey { id: 1, key: [4; 32] }]).unwrap(),
        seed_keys: vec![seed_key()],
        known: None,
    }
}

impl World {
    #[allow(clippy::disallowed_methods)] // a test's own task
    pub async fn start(dir: &Path) -> Result<World, StartError> {
        let clock = SystemClock::shared();
        let sql = Sql::open(&dir.join("ledger.db"), SqlOptions::default()).await.unwrap();
        let ledger: Arc<dyn QuotaLedger> = Arc::new(SqlLedger::open(sql, clock.clone()).await.unwrap());
        let (node, recovered) = start(config(dir), ledger.clone(), clock, |e| panic!("{e}")).await?;
        let shutdown = Shutdown::new();
        let task = tokio::spawn(node.clone().run(shutdown.clone()));
        let world = World { node, ledger, recovered, shutdown, task };
        for _ in 0..6_000 {
            if world.node.status().session && world.node.status().buckets == 4096 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(world)
    }

    /// Ends it as a kill would: nothing is given back.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn stop(self) {
        self.shutdown.request();
        self.task.await.unwrap().unwrap();
    }
}

/// Something took so long on this machine that the rest of its story would not be what it is about.
#[derive(Debug)]
pub struct Late(String);

/// Goes on only when something that takes its time has come by now.
pub fn timely(holds: bool, what: impl FnOnce() -> String) -> Result<(), Late> {
    if holds { Ok(()) } else { Err(Late(what())) }
}

/// Tells a story whose steps have their times within a round, and again at a slower pace where the machine, which has other
/// things to do, did not get that far in time. What must hold at any pace is asserted; what needs its time is asked for with
/// [`timely`], and in the end at a pace that no machine misses.
pub async fn at_some_pace(story: impl AsyncFn(u64) -> Result<(), Late>) {
    let mut late = String::new();
    for pace in [1, 4, 16] {
        match story(pace).await {
            Ok(()) => return,
            Err(Late(why)) => late = why,
        }
    }
    panic!("at no pace: {late}");
}

/// Users who submit one draw after the other until `until_ms`, and what they were told: (user, counter) -> award.
pub async fn play(node: &Node, users: std::ops::Range<u64>, until_ms: u64) -> BTreeMap<(u64, u32), String> {
    let inbox = Arc::new(Inbox::new());
    let mut counters: BTreeMap<u64, u32> = users.map(|u| (u, 1)).collect();
    let (mut told, mut out): (BTreeMap<_, _>, Vec<SubmitReply>) = Default::default();
    while SystemClock.now_ms() < until_ms && !counters.is_empty() {
        let calls: Vec<SubmitCall> = counters
            .iter()
            .map(|(&user, &counter)| SubmitCall {
                user,
                counter,
                campaign: CAMPAIGN,
                round: 1,
                shakes: 2,
                district: district_of(user),
                ..SubmitCall::default()
            })
            .collect();
        node.submit(&calls, &inbox, &mut out);
        tokio::time::sleep(Duration::from_millis(2)).await;
        inbox.take(&mut out, Waker::noop());
        for reply in out.drain(..) {
            match reply.outcome {
                Outcome::Won => {
                    told.insert((reply.user, reply.counter), reply.award.unwrap().award);
                    counters.insert(reply.user, reply.next_counter);
                }
                Outcome::Lost => {
                    counters.insert(reply.user, reply.next_counter);
                }
                Outcome::LimitReached => {
                    counters.remove(&reply.user);
                }
                _ => {}
            }
        }
    }
    told
}
