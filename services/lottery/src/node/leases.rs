//! The node's side of leases: what to ask for, what to give back, in which order things are written down.
//!
//! Pure: a tick is built from the pools and the log's progress, its answer is taken in, and what must be
//! logged goes through [`LeaseLog`]. The order that money rests on: `LeaseGot` is in the log before a unit of it
//! can be drawn; a lease is sealed, then `LeaseClosed` stands behind every `Won` of it, then that position is
//! acknowledged, and only then the ledger hears of it.

use crate::core::{Core, LEASES_PER_PRIZE, RoundPool, Sealed};
use crate::ledger::{CloseAsk, GrantAnswer, GrantAsk, PrizeKey, Tick, TickAnswer, port::TICK_LEASES_MAX};
use campaign::plan::CURVE_TAIL_MS;
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, Ranges, Round, RoundId, SLOT_MS};
use records::{LeaseClosed, LeaseGot};
use std::collections::{BTreeMap, BTreeSet};

/// Asking for a prize begins so long before its round opens.
const LEAD_MS: u64 = 1_000;

/// From so long before its close a round is asked for as much as there is.
const TAIL_MS: u64 = 4_000;

/// Least units asked for.
const ASK_MIN: u32 = 16;

/// Most units asked for.
const ASK_MAX: u32 = 1_000_000;

/// In a round's last seconds a node beside others asks for nothing of a prize that nobody has come for for so long (who
/// could win it: a prize may be limited to regions), and gives back what could have been won all that time.
const IDLE_MS: u64 = 400;

/// ... and one that somebody comes to asks again so soon: what others give back is for whoever has players.
const TAIL_PATIENCE_MS: u64 = 200;

/// Nothing is given back so shortly before the end: it would not reach anybody any more.
const LAST_BACK_MS: u64 = 700;

/// Longest that a node believes 'nothing before slot s', because a plan may change meanwhile.
const PATIENCE_MS: u64 = 500;

/// Where records about leases go: the flow log, in the class that may use the reserve.
pub trait LeaseLog {
    /// Appends; gives the position of the record's group. `None`: not taken now.
    fn got(&mut self, record: &LeaseGot) -> Option<u64>;
    /// Appends; gives the position of the record's group. `None`: not taken now.
    fn closed(&mut self, record: &LeaseClosed) -> Option<u64>;
}

/// How far the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Positions before this are acknowledged.
    pub acknowledged: u64,
}

struct Asked {
    lease: LeaseId,
    not_before_ms: u64,
    /// When it was asked for last.
    last_ms: u64,
}

struct Closing {
    record: LeaseClosed,
    got_at: u64,
    logged_at: Option<u64>,
}

#[derive(Default)]
struct Use {
    given: u64,
    /// Units a second, smoothed.
    rate: f64,
}

/// The leases of a node in one epoch.
pub struct Leases {
    node: NodeId,
    epoch: NodeEpoch,
    next: u64,
    asked: BTreeMap<PrizeKey, Asked>,
    got: Vec<LeaseGot>,
    closing: BTreeMap<LeaseId, Closing>,
    send_back: BTreeSet<LeaseId>,
    /// Open in the ledger under numbers whose grant never reached us: a late copy of a call got them.
    unheard: BTreeSet<LeaseId>,
    uses: BTreeMap<PrizeKey, Use>,
    last_tick_ms: u64,
    refused: u64,
    /// Other nodes draw from the same prizes.
    has_others: bool,
    /// A lease is closed before its wins are acknowledged: only ever true in the simulation.
    close_early: bool,
}

impl Leases {
    /// No lease yet in this epoch.
    pub fn new(node: NodeId, epoch: NodeEpoch) -> Leases {
        Leases {
            node,
            epoch,
            next: 1,
            asked: BTreeMap::new(),
            got: Vec::new(),
            closing: BTreeMap::new(),
            send_back: BTreeSet::new(),
            unheard: BTreeSet::new(),
            uses: BTreeMap::new(),
            last_tick_ms: 0,
            refused: 0,
            has_others: false,
            close_early: false,
        }
    }

    /// Other nodes draw from the same prizes: in a round's last seconds nothing stays where nobody comes.
    pub fn beside_others(self) -> Leases {
        Leases { has_others: true, ..self }
    }

    /// Plants a fault that the simulation must find: leases are closed in the ledger although their wins are
    /// not safe in the log yet.
    #[cfg(feature = "planted")]
    pub fn plant_close_early(&mut self) {
        self.close_early = true;
    }

    /// Closes that the ledger refused: a person must look.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Leases that are sealed and not yet closed in the ledger.
    pub fn closing(&self) -> usize {
        self.closing.len()
    }

    /// Seals what is used up, over or wanted back, and builds the next tick. With `stop`, everything is sealed
    /// and nothing asked for.
    pub fn tick(
        &mut self,
        core: &Core,
        now_ms: u64,
        progress: Progress,
        stop: bool,
        log: &mut impl LeaseLog,
    ) -> Tick {
        let campaigns = core.campaigns();
        let mut oldest = None::<u64>;
        let mut asks = Vec::new();
        let since_ms = now_ms.saturating_sub(self.last_tick_ms).max(1);
        for campaign in campaigns.iter() {
            for (round, at) in campaign.rounds() {
                if now_ms + LEAD_MS < round.open_ms {
                    continue;
                }
                let over = stop || now_ms >= round.close_ms;
                let in_tail = self.has_others && now_ms + CURVE_TAIL_MS >= round.close_ms;
                if in_tail && now_ms + LAST_BACK_MS < round.close_ms {
                    self.send_back.extend(at.pool.overdue(now_ms - IDLE_MS));
                }
                self.seal(campaign.plan.campaign, round.id, &at.pool, over);
                if !over {
                    self.ask(campaign.plan.campaign, round, &at.pool, (now_ms, since_ms), in_tail, &mut asks);
                }
                oldest = oldest.into_iter().chain(at.pool.oldest_got()).min();
            }
            for (round, pool) in campaign.gone() {
                self.seal(campaign.plan.campaign, round, pool, true);
            }
        }
        self.ask_for_unheard(&mut asks);
        self.last_tick_ms = now_ms;
        self.install(core, log);
        self.log_closed(log);
        let closes = self.closes(progress);
        let low_water = self.low_water(oldest, &closes, progress);
        Tick { node: self.node, epoch: self.epoch, asks, closes, low_water, ..Tick::default() }
    }

    fn seal(&mut self, campaign: CampaignId, round: RoundId, pool: &RoundPool, all: bool) {
        let send_back = &self.send_back;
        for Sealed { prize, lease, used, returned, got_at } in pool.seal(|l| all || send_back.contains(&l)) {
            let record = LeaseClosed { lease, campaign, round, prize, used, returned };
            self.closing.insert(lease, Closing { record, got_at, logged_at: None });
        }
    }

    /// Asks for a lease of each prize that has room for one.
    fn ask(
        &mut self,
        campaign: CampaignId,
        round: &Round,
        pool: &RoundPool,
        (now_ms, since_ms): (u64, u64),
        in_tail: bool,
        asks: &mut Vec<GrantAsk>,
    ) {
        for usage in pool.usage() {
            if in_tail && usage.came_ms + IDLE_MS <= now_ms {
                continue;
            }
            let prize = PrizeKey { campaign, round: round.id, prize: usage.prize };
            let units = self.units_wanted(prize, usage.given, since_ms, round.close_ms - now_ms);
            let closing = self.closing.values().filter(|c| key(&c.record) == prize).count();
            if usage.leases + closing >= LEASES_PER_PRIZE || asks.len() >= TICK_LEASES_MAX {
                continue;
            }
            let next = &mut self.next;
            let asked = self.asked.entry(prize).or_insert_with(|| {
                *next += 1;
                Asked { lease: LeaseId(*next - 1), not_before_ms: 0, last_ms: 0 }
            });
            let may_be_back = in_tail && now_ms >= asked.last_ms + TAIL_PATIENCE_MS;
            if now_ms >= asked.not_before_ms || may_be_back {
                asked.last_ms = now_ms;
                asks.push(GrantAsk { lease: asked.lease, prize, units });
            }
        }
    }

    /// Asks again for what the ledger has granted without our hearing of it, even when its round is over: only so
    /// we learn its units and can give them back.
    fn ask_for_unheard(&self, asks: &mut Vec<GrantAsk>) {
        for (&prize, asked) in &self.asked {
            let is_in = asks.iter().any(|a| a.lease == asked.lease);
            if self.unheard.contains(&asked.lease) && !is_in && asks.len() < TICK_LEASES_MAX {
                asks.push(GrantAsk { lease: asked.lease, prize, units: ASK_MIN });
            }
        }
    }

    /// About what the node will use of the prize in a second and a half; everything near the round's end.
    fn units_wanted(&mut self, prize: PrizeKey, given: u64, since_ms: u64, left_ms: u64) -> u32 {
        let used = self.uses.entry(prize).or_default();
        let now = (given - used.given.min(given)) as f64 * 1000.0 / since_ms as f64;
        used.given = given;
        used.rate = if now > used.rate { now } else { used.rate * 0.8 + now * 0.2 };
        if left_ms <= TAIL_MS {
            return ASK_MAX;
        }
        ((used.rate * 1.5) as u32).saturating_mul(2).clamp(ASK_MIN, ASK_MAX)
    }

    /// Leases that came with the last answer: logged, then drawn from. One that is not taken by the log now waits
    /// for the next tick; one that no pool wants goes back whole.
    fn install(&mut self, core: &Core, log: &mut impl LeaseLog) {
        let campaigns = core.campaigns();
        for got in std::mem::take(&mut self.got) {
            let Some(at) = log.got(&got) else {
                self.got.push(got);
                continue;
            };
            let pool = campaigns.get(got.campaign.0).and_then(|c| c.round(got.round)).map(|r| &r.pool);
            if !pool.is_some_and(|p| p.install(&got, at)) {
                let returned: Ranges = got.ranges.iter().flat_map(|r| r.units.first..r.units.end()).collect();
                let LeaseGot { lease, campaign, round, prize, .. } = got;
                let record = LeaseClosed { lease, campaign, round, prize, used: 0, returned };
                self.closing.insert(lease, Closing { record, got_at: at, logged_at: None });
            }
        }
    }

    fn log_closed(&mut self, log: &mut impl LeaseLog) {
        for closing in self.closing.values_mut().filter(|c| c.logged_at.is_none()) {
            closing.logged_at = log.closed(&closing.record);
        }
    }

    /// Closes whose `LeaseClosed`, and so every `Won` before it, is acknowledged.
    fn closes(&self, progress: Progress) -> Vec<CloseAsk> {
        let safe =
            |c: &&Closing| c.logged_at.is_some_and(|at| self.close_early || at < progress.acknowledged);
        let ask = |c: &Closing| CloseAsk {
            lease: c.record.lease,
            used: c.record.used,
            returned: c.record.returned.clone(),
        };
        self.closing.values().filter(safe).take(TICK_LEASES_MAX).map(ask).collect()
    }

    /// The position below which every lease is closed once these closes are done.
    fn low_water(&self, oldest_in_use: Option<u64>, closes: &[CloseAsk], progress: Progress) -> u64 {
        let in_call: BTreeSet<LeaseId> = closes.iter().map(|c| c.lease).collect();
        let waiting = self.closing.values().filter(|c| !in_call.contains(&c.record.lease)).map(|c| c.got_at);
        waiting.chain(oldest_in_use).min().unwrap_or(progress.acknowledged).min(progress.acknowledged)
    }

    /// Takes the answer in. Leases that were granted are logged and drawn from at once.
    pub fn answered(&mut self, core: &Core, tick: &Tick, answer: &TickAnswer, log: &mut impl LeaseLog) {
        for lease in &answer.closed {
            self.closing.remove(lease);
        }
        for (lease, why) in &answer.refused {
            tracing::error!(%lease, %why, "the ledger refused to close a lease; its units stay locked until a person looks");
            self.closing.remove(lease);
            self.refused += 1;
        }
        for (lease, grant) in &answer.grants {
            let Some(ask) = tick.asks.iter().find(|a| a.lease == *lease) else { continue };
            self.granted(ask, grant, answer.now_ms);
        }
        self.send_back = answer.send_back.iter().copied().collect();
        let waited_for: BTreeSet<LeaseId> = self.asked.values().map(|a| a.lease).collect();
        self.unheard = answer.open.iter().copied().filter(|l| waited_for.contains(l)).collect();
        self.install(core, log);
    }

    fn granted(&mut self, ask: &GrantAsk, grant: &GrantAnswer, now_ms: u64) {
        match grant {
            GrantAnswer::Granted { seq_no, ranges } => {
                let PrizeKey { campaign, round, prize } = ask.prize;
                let (lease, seq_no, ranges) = (ask.lease, *seq_no, ranges.clone());
                self.got.push(LeaseGot { lease, campaign, round, prize, seq_no, ranges });
                self.asked.remove(&ask.prize);
            }
            GrantAnswer::Nothing { again, .. } => {
                if let Some(asked) = self.asked.get_mut(&ask.prize) {
                    asked.not_before_ms =
                        again.start_ms().min(now_ms + PATIENCE_MS).max(now_ms + SLOT_MS / 2);
                }
            }
            GrantAnswer::Closed => {
                self.asked.remove(&ask.prize);
            }
        }
    }
}

fn key(record: &LeaseClosed) -> PrizeKey {
    PrizeKey { campaign: record.campaign, round: record.round, prize: record.prize }
}

#[cfg(test)]
mod tests {
    use super::{LeaseLog, Leases, Progress};
    use crate::core::tests_support::{core, plan};
    use crate::core::{Now, RoundPool};
    use crate::ledger::{MemoryLedger, QuotaLedger, Tick};
    use campaign::{DistrictRange, Limits, NodeEpoch, NodeId, PrizeId, Region, Regions};
    use protocol::calls::{Inbox, SubmitCall};
    use records::{LeaseClosed, LeaseGot};
    use runtime::{Clock, ManualClock};
    use std::sync::Arc;

    /// Everything is safe at once.
    struct Log;
    impl LeaseLog for Log {
        fn got(&mut self, _record: &LeaseGot) -> Option<u64> {
            Some(0)
        }
        fn closed(&mut self, _record: &LeaseClosed) -> Option<u64> {
            Some(0)
        }
    }

    /// A late copy of a call is granted what its first copy was not; the round ends; the units come back all the same.
    #[tokio::test]
    async fn what_a_late_copy_was_granted_comes_back() {
        let clock = ManualClock::new(99_500);
        let ledger = MemoryLedger::new(clock.clone());
        let plan = plan(Limits::default(), &[(1, 1, 5)]);
        ledger.register(&plan).await.unwrap();
        let (core, _log) = core(plan);
        let epoch = ledger.begin_epoch(NodeId(1), NodeEpoch(0)).await.unwrap();
        let mut leases = Leases::new(NodeId(1), epoch);
        let tick = async |at_ms: u64, leases: &mut Leases| -> Tick {
            clock.advance_ms(at_ms - clock.now_ms());
            let tick = leases.tick(&core, at_ms, Progress { acknowledged: 1 }, false, &mut Log);
            let answer = ledger.tick(&tick).await.unwrap();
            leases.answered(&core, &tick, &answer, &mut Log);
            tick
        };
        let early = tick(99_500, &mut leases).await;
        assert_eq!(early.asks.len(), 1, "asked for before the round opens, in vain");
        clock.advance_ms(50_000);
        assert_eq!(ledger.tick(&early).await.unwrap().open, [early.asks[0].lease], "the late copy");
        let mut leased = Vec::new();
        for at_ms in [160_000, 160_100, 160_200, 160_300] {
            tick(at_ms, &mut leases).await;
            leased.push(ledger.rows().prizes.values().map(|p| p.leased).sum::<u64>());
        }
        assert!(leased[0] > 0, "the copy was granted units");
        assert_eq!((leased[3], leases.closing()), (0, 0), "they are back: {leased:?}");
    }

    /// Two nodes hold the last units, and players come to one of them only: it gets those of the other too.
    #[tokio::test]
    async fn what_nobody_comes_for_goes_to_the_node_with_players() {
        let clock = ManualClock::new(150_000);
        let ledger = MemoryLedger::new(clock.clone());
        let plan = plan(Limits::default(), &[(1, 1, 8)]);
        ledger.register(&plan).await.unwrap();
        let mut nodes = Vec::new();
        for node in [NodeId(1), NodeId(2)] {
            let epoch = ledger.begin_epoch(node, NodeEpoch(0)).await.unwrap();
            nodes.push((core(plan.clone()).0, Leases::new(node, epoch).beside_others()));
        }
        let mut won = 0;
        for at_ms in (155_000..159_900).step_by(50) {
            clock.advance_ms(at_ms - clock.now_ms());
            for (i, (core, leases)) in nodes.iter_mut().enumerate() {
                let tick = leases.tick(core, at_ms, Progress { acknowledged: 1 }, false, &mut Log);
                let answer = ledger.tick(&tick).await.unwrap();
                leases.answered(core, &tick, &answer, &mut Log);
                // Nobody comes before the tail, and to the first node nobody ever does.
                if i == 1 && at_ms >= 157_200 {
                    let campaigns = core.campaigns();
                    let (_, round) = campaigns.get(1).unwrap().rounds().next().unwrap();
                    let (_, picks) = RoundPool::new(&plan.rounds[0], *round.pool.keys());
                    round.pool.came(at_ms);
                    won +=
                        u64::from(round.pool.draw((&picks, 0), |_, _| 0, 1, at_ms, |_| Some(())).is_some());
                }
            }
        }
        assert_eq!(won, 8, "{:?}", ledger.rows().prizes);
    }

    /// Players come to both nodes, but those for whom the prize is to the second one only.
    #[tokio::test]
    async fn what_nobody_of_its_region_comes_for_goes_to_the_node_where_they_are() {
        let clock = ManualClock::new(150_000);
        let ledger = MemoryLedger::new(clock.clone());
        let mut plan = plan(Limits::default(), &[(1, 1, 8), (2, 1, 1)]);
        plan.regions =
            vec![Region { name: "north".into(), districts: vec![DistrictRange { first: 7, last: 7 }] }];
        plan.rounds[0].prizes[0].regions = Regions(1);
        ledger.register(&plan).await.unwrap();
        let mut nodes = Vec::new();
        for node in [NodeId(1), NodeId(2)] {
            let epoch = ledger.begin_epoch(node, NodeEpoch(0)).await.unwrap();
            let (core, log) = core(plan.clone());
            nodes.push((core, log, Leases::new(node, epoch).beside_others()));
        }
        let inbox = Arc::new(Inbox::new());
        for at_ms in (155_000..159_900).step_by(50) {
            clock.advance_ms(at_ms - clock.now_ms());
            for (i, (core, _, leases)) in nodes.iter_mut().enumerate() {
                let tick = leases.tick(core, at_ms, Progress { acknowledged: 1 }, false, &mut Log);
                let answer = ledger.tick(&tick).await.unwrap();
                leases.answered(core, &tick, &answer, &mut Log);
                let district = if i == 1 && at_ms >= 157_200 { 7 } else { 6 };
                let user = at_ms + i as u64;
                let call = SubmitCall {
                    user,
                    campaign: 1,
                    round: 1,
                    counter: 1,
                    shakes: 1,
                    district,
                    ..SubmitCall::default()
                };
                core.submit(Now { ms: at_ms, may_win: true }, &[call], &inbox, &mut Vec::new());
            }
        }
        let won = |node: usize| {
            let wins = nodes[node].1.wins.lock();
            wins.iter().filter(|(won, _)| won.prize == PrizeId(1)).count()
        };
        assert_eq!((won(0), won(1)), (0, 8), "{:?}", ledger.rows().prizes);
    }
}
