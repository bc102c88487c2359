//! Time, operators and players of the world.

use super::node::Node;
use campaign::curve::Curve;
use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    CampaignId, Delivery, DistrictRange, Fen, Limits, MacKey, MacKeys, Plan, Prize, PrizeId, PrizeKind,
    Region, Regions, Round, RoundId, SeedKey, SeqNo, Tranche, Vendor, VendorId,
};
use lottery::grey::{Grey, blended, check};
use lottery::ledger::{PrizeKey, PrizeReport, QuotaLedger, Tick};
use runtime::{Clock, ManualClock};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const OPEN_MS: u64 = 1_700_000_000_000;
pub const CAMPAIGN: CampaignId = CampaignId(1);
const ROUND_MS: u64 = 16_000;
/// So long before the end nothing is changed or killed any more.
const CALM_MS: u64 = 5_500;
const STEP_MS: u64 = 20;

/// What happens.
#[derive(Clone, Debug)]
pub enum Op {
    Wait(u64),
    /// A node looks at the repository and follows it.
    Notice(usize),
    /// A node looks at the repository, and what it then tells the ledger is long on its way.
    Fetch,
    Kill {
        node: usize,
        keep: u64,
    },
    /// An old call arrives at the ledger.
    Late(proptest::sample::Index),
    LoseAnswer {
        node: usize,
    },
    Raise {
        prize: u32,
        units: u64,
    },
    Lower {
        prize: u32,
        units: u64,
    },
    /// `gap`: the ledger is told, and then the version is never activated.
    Pause {
        prize: u32,
        gap: bool,
    },
    Resume {
        prize: u32,
    },
    StopAll,
    Weights([u32; 3]),
    Speeds {
        prize: u32,
        speed: u64,
        vendor: u64,
    },
    Limit(u16),
    /// Where each prize can be won, and up to which district the second region goes.
    Regions([u64; 3], u32),
    Grey {
        share: u16,
        weights: [u32; 3],
        regions: [u64; 3],
        limit: u16,
        speed: u64,
    },
    Share(u16),
    Promote,
    Withdraw,
}

/// A call that may arrive again.
enum Call {
    Tick(Tick),
    /// `true`: it has arrived before.
    Register(Arc<Plan>, bool),
    Lower(PrizeKey, SeqNo, u64),
    Pause(PrizeKey, SeqNo),
}

pub fn seed_key() -> SeedKey {
    SeedKey { id: 1, key: [6; 32] }
}

pub fn mac_keys() -> MacKeys {
    MacKeys::new(vec![MacKey { id: 1, key: [4; 32] }]).unwrap()
}

pub fn key(prize: u32) -> PrizeKey {
    PrizeKey { campaign: CAMPAIGN, round: RoundId(1), prize: PrizeId(prize) }
}

/// Districts that players come from; those who come once are in one of them for ever.
pub fn district_of(user: u64) -> u32 {
    (user % 5) as u32
}

/// Two regions: districts 1 and 2, and 2 to `last`.
fn regions(last: u32) -> Vec<Region> {
    let region = |(name, first, last): (&str, u32, u32)| Region {
        name: name.into(),
        districts: vec![DistrictRange { first, last }],
    };
    [("north", 1, 2), ("south", 2, last)].map(region).into()
}

fn limit(plan: &mut Plan, regions: &[u64; 3]) {
    plan.rounds[0].prizes.iter_mut().zip(regions).for_each(|(p, bits)| p.regions = Regions(*bits));
}

fn tranche(first: u64, units: u64) -> Tranche {
    Tranche { first, units, fen: Fen(180 * units as i64), min: Fen(50), max: Fen(900) }
}

fn first_plan() -> Plan {
    let prize = |(id, units): (u32, u64)| Prize {
        id: PrizeId(id),
        name: format!("prize {id}"),
        kind: PrizeKind::Cash,
        weight: id,
        vendor: VendorId(1),
        delivery: Delivery::AtOnce,
        curve: Curve::even(0, ROUND_MS - 3_000),
        speed_max: 0,
        catch_up_percent: 200,
        regions: Regions::EVERYWHERE,
        paused: false,
        tranches: vec![tranche(0, units)],
    };
    Plan {
        campaign: CAMPAIGN,
        seq_no: SeqNo(1),
        name: "test".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![(0, 0)],
        limits: Limits { wins_round: 2, interval_ms: 100, shakes_per_second: 5, ..Limits::default() },
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 100, submit_max_ms: 300 },
        rounds: vec![Round {
            id: RoundId(1),
            name: "one".into(),
            open_ms: OPEN_MS,
            close_ms: OPEN_MS + ROUND_MS,
            seed_key_id: 1,
            seed_commitment: seed_key().round_seed(CAMPAIGN, RoundId(1)).commitment(),
            prizes: [(1, 60), (2, 40), (3, 5)].map(prize).into(),
        }],
        regions: regions(3),
        vendors: vec![Vendor { id: VendorId(1), name: "wallet".into(), release_per_second: 0 }],
    }
}

pub struct World {
    pub clock: Arc<ManualClock>,
    pub ledger: Arc<dyn QuotaLedger>,
    pub nodes: [Node; 2],
    /// Every version there was, by SeqNo; what the repository has.
    pub versions: BTreeMap<SeqNo, Arc<Plan>>,
    /// Grey versions, and the largest share each had.
    pub greys: BTreeMap<SeqNo, u16>,
    pub active: Arc<Plan>,
    grey: Option<Grey>,
    seq_no: u64,
    calls: Vec<Call>,
    next_user: u64,
    since_tick_ms: u64,
}

impl World {
    pub async fn new(clock: Arc<ManualClock>, ledger: Arc<dyn QuotaLedger>) -> World {
        let active = Arc::new(first_plan());
        let mut world = World {
            clock,
            ledger,
            nodes: [Node::new(1), Node::new(2)],
            versions: BTreeMap::from([(SeqNo(1), Arc::clone(&active))]),
            greys: BTreeMap::new(),
            active,
            grey: None,
            seq_no: 1,
            calls: Vec::new(),
            next_user: 1_000,
            since_tick_ms: 0,
        };
        for node in 0..2 {
            world.nodes[node].start(&*world.ledger).await;
            world.notice(node).await;
        }
        world.wait(700).await;
        world
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn next_seq_no(&mut self) -> SeqNo {
        self.seq_no += 1;
        SeqNo(self.seq_no)
    }

    /// A new active version. A grey one that can't stand beside it ends, as every node decides alike.
    fn activate(&mut self, seq_no: SeqNo, edit: impl FnOnce(&mut Plan)) {
        let mut plan = (*self.active).clone();
        plan.seq_no = seq_no;
        edit(&mut plan);
        self.active = Arc::new(plan);
        self.versions.insert(seq_no, Arc::clone(&self.active));
        self.grey.take_if(|grey| check(&self.active, &grey.plan).is_err());
    }

    fn try_grey(&mut self, share: u16, edit: impl FnOnce(&mut Plan)) {
        let seq_no = self.next_seq_no();
        let mut plan = (*self.active).clone();
        plan.seq_no = seq_no;
        edit(&mut plan);
        let plan = Arc::new(plan);
        self.versions.insert(seq_no, Arc::clone(&plan));
        self.greys.insert(seq_no, share);
        self.grey = Some(Grey::to_users(plan, share));
    }

    pub async fn apply(&mut self, op: &Op) {
        if self.now_ms() + CALM_MS > OPEN_MS + ROUND_MS {
            return;
        }
        match op {
            Op::Wait(ms) => self.wait(*ms).await,
            Op::Notice(node) => self.notice(*node).await,
            Op::Fetch => {
                let told = self.told();
                self.calls.push(Call::Register(told, false));
            }
            Op::Kill { node, keep } => {
                self.nodes[*node].kill(*keep);
                self.nodes[*node].start(&*self.ledger).await;
                self.notice(*node).await;
            }
            Op::Late(which) => self.late(which).await,
            Op::LoseAnswer { node } => self.nodes[*node].lose_answer = true,
            Op::Raise { prize, units } => {
                let (seq_no, at) = (self.next_seq_no(), *prize as usize - 1);
                self.activate(seq_no, |p| {
                    let prize = &mut p.rounds[0].prizes[at];
                    prize.tranches.push(tranche(prize.units(), *units));
                });
            }
            Op::Lower { prize, units } => self.lower(*prize, *units).await,
            Op::Pause { prize, gap } => {
                let seq_no = self.next_seq_no();
                self.pause(*prize, seq_no).await;
                if !gap {
                    self.activate(seq_no, |p| p.rounds[0].prizes[*prize as usize - 1].paused = true);
                }
            }
            Op::StopAll => {
                let seq_no = self.next_seq_no();
                for prize in 1..4 {
                    self.pause(prize, seq_no).await;
                }
                self.activate(seq_no, |p| p.rounds[0].prizes.iter_mut().for_each(|p| p.paused = true));
            }
            change => self.version(change),
        }
    }

    /// Changes that are a version and nothing else.
    fn version(&mut self, op: &Op) {
        let weigh = |plan: &mut Plan, weights: &[u32; 3]| {
            plan.rounds[0].prizes.iter_mut().zip(weights).for_each(|(p, w)| p.weight = *w);
        };
        match op {
            Op::Grey { share, weights, regions, limit: wins, speed } => self.try_grey(*share, |p| {
                weigh(p, weights);
                limit(p, regions);
                p.limits.wins_round = *wins;
                p.rounds[0].prizes[0].speed_max = *speed;
            }),
            Op::Share(share) => {
                let Some(grey) = self.grey.clone() else { return };
                // Pauses of the active version since then are taken over.
                let paused: Vec<bool> = self.active.rounds[0].prizes.iter().map(|p| p.paused).collect();
                self.try_grey(*share, |p| {
                    let seq_no = p.seq_no;
                    *p = (*grey.plan).clone();
                    p.seq_no = seq_no;
                    p.rounds[0].prizes.iter_mut().zip(paused).for_each(|(p, paused)| p.paused = paused);
                });
            }
            Op::Promote => {
                let Some(grey) = self.grey.take() else { return };
                let seq_no = self.next_seq_no();
                self.activate(seq_no, |p| {
                    p.limits = grey.plan.limits;
                    for (p, g) in p.rounds[0].prizes.iter_mut().zip(&grey.plan.rounds[0].prizes) {
                        (p.weight, p.speed_max, p.regions) = (g.weight, g.speed_max, g.regions);
                    }
                    p.regions.clone_from(&grey.plan.regions);
                });
            }
            Op::Withdraw => {
                self.grey = None;
                let seq_no = self.next_seq_no();
                self.activate(seq_no, |_| {});
            }
            other => {
                let seq_no = self.next_seq_no();
                self.activate(seq_no, |p| match other {
                    Op::Resume { prize } => p.rounds[0].prizes[*prize as usize - 1].paused = false,
                    Op::Weights(weights) => weigh(p, weights),
                    Op::Speeds { prize, speed, vendor } => {
                        p.rounds[0].prizes[*prize as usize - 1].speed_max = *speed;
                        p.vendors[0].release_per_second = *vendor;
                    }
                    Op::Limit(wins) => p.limits.wins_round = *wins,
                    Op::Regions(bits, last) => {
                        p.regions = regions(*last);
                        limit(p, bits);
                    }
                    op => unreachable!("{op:?} is handled before"),
                });
            }
        }
    }

    async fn lower(&mut self, prize: u32, units: u64) {
        let seq_no = self.next_seq_no();
        let before = self.report(prize).await;
        let done = self.ledger.lower(key(prize), seq_no, units).await.unwrap();
        assert_eq!(done.budget.units + done.cancelled, before.budget, "what was taken away, and no more");
        let out = before.leased + before.used;
        assert!(done.budget.units >= out, "{} units are left, {out} are out", done.budget.units);
        assert!(done.cancelled == units || done.budget.units == out, "as much as there was");
        self.calls.push(Call::Lower(key(prize), seq_no, units));
        self.activate(seq_no, |_| {});
    }

    async fn pause(&mut self, prize: u32, seq_no: SeqNo) {
        assert!(self.ledger.pause(key(prize), seq_no).await.unwrap().paused);
        self.calls.push(Call::Pause(key(prize), seq_no));
    }

    /// What a node that looks at the repository now tells the ledger.
    fn told(&self) -> Arc<Plan> {
        match &self.grey {
            Some(grey) => Arc::new(blended(&self.active, &grey.plan, grey.speeds_per_mille)),
            None => Arc::clone(&self.active),
        }
    }

    /// A node follows the repository, as its `apply_grey` does.
    async fn notice(&mut self, node: usize) {
        let (active, grey, told) = (Arc::clone(&self.active), self.grey.clone(), self.told());
        self.ledger.register(&told).await.unwrap();
        self.calls.push(Call::Register(told, true));
        let core = self.nodes[node].core();
        core.apply(active).unwrap();
        let users = grey.as_ref().map_or(0, |g| g.users_per_mille);
        core.apply_grey(grey.map(|g| g.plan), CAMPAIGN, users).unwrap();
    }

    /// An old call arrives, for the first time or again. A copy may change nothing that counts.
    async fn late(&mut self, which: &proptest::sample::Index) {
        if self.calls.is_empty() {
            return;
        }
        let before = self.ledger.prizes(CAMPAIGN).await.unwrap();
        let at = which.index(self.calls.len());
        let again = match &mut self.calls[at] {
            Call::Tick(tick) => {
                drop(self.ledger.tick(tick).await);
                true
            }
            Call::Register(plan, again) => {
                self.ledger.register(plan).await.unwrap();
                std::mem::replace(again, true)
            }
            Call::Lower(prize, seq_no, units) => self.ledger.lower(*prize, *seq_no, *units).await.is_ok(),
            Call::Pause(prize, seq_no) => self.ledger.pause(*prize, *seq_no).await.is_ok(),
        };
        let after = self.ledger.prizes(CAMPAIGN).await.unwrap();
        for (b, a) in before.iter().zip(&after).filter(|_| again) {
            assert_eq!(
                (b.made, b.budget, b.used, b.paused),
                (a.made, a.budget, a.used, a.paused),
                "a late copy"
            );
        }
    }

    pub async fn report(&self, prize: u32) -> PrizeReport {
        let all = self.ledger.prizes(CAMPAIGN).await.unwrap();
        all.into_iter().find(|r| r.prize == key(prize)).unwrap()
    }

    /// Time passes: nodes tick and sync, players draw.
    pub async fn wait(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(STEP_MS) {
            self.clock.advance_ms(STEP_MS);
            let now_ms = self.now_ms();
            self.since_tick_ms += STEP_MS;
            let ticks = self.since_tick_ms >= 100;
            for node in &mut self.nodes {
                if ticks && let Some(call) = node.tick(&*self.ledger, now_ms).await {
                    self.calls.push(Call::Tick(call));
                }
            }
            if ticks {
                self.since_tick_ms = 0;
            }
            // A few who come again and again, and some who come once.
            let fresh = self.next_user..self.next_user + 8;
            self.next_user = fresh.end;
            for node in &mut self.nodes {
                node.draw((1..40).filter(|u| (u + now_ms / STEP_MS).is_multiple_of(3)), now_ms);
                node.draw(fresh.clone(), now_ms);
                if !(now_ms / STEP_MS).is_multiple_of(4) {
                    node.sync(now_ms);
                }
            }
        }
        let excess = self.calls.len().saturating_sub(400);
        self.calls.drain(..excess);
    }

    /// The round comes to its end without further trouble: limits of speed are lifted, prizes can be won everywhere, all
    /// nodes follow.
    pub async fn finish(&mut self) {
        self.grey = None;
        let seq_no = self.next_seq_no();
        self.activate(seq_no, |p| {
            p.rounds[0].prizes.iter_mut().for_each(|p| p.speed_max = 0);
            p.vendors[0].release_per_second = 0;
            limit(p, &[0; 3]);
        });
        for node in 0..2 {
            self.nodes[node].lose_answer = false;
            self.notice(node).await;
        }
        let left_ms = OPEN_MS + ROUND_MS - self.now_ms();
        self.wait(left_ms + 1_500).await;
        self.nodes.iter_mut().for_each(|n| n.sync(0));
        self.wait(400).await;
        self.audit().await;
        self.audit_end().await;
    }
}
