//! What a node asks of others about the users of buckets that it took over: how far the award store is, and who has won
//! what before. A cache stands in front; it is shared, forgets, and gets entries late.

use super::ClusterStep;
use super::machine::MachineStep;
use crate::world::{Event, World, now};
use campaign::{CampaignId, NodeId, UserId};
use flow::store::AwardStore as _;
use lottery::core::Want;
use lottery::node::cluster::cache::{CacheKey, HistoryCache as _};
use lottery::node::cluster::histories::checked;
use protocol::calls::{CallError, PastWin};
use records::SnapshotWin;
use std::collections::BTreeMap;

/// How long a node waits for flow's answer, ms.
const PATIENCE_MS: u64 = 300;
/// Between two questions about the award store, ms.
const AGAIN_MS: u64 = 50;
/// Longer than any user's wins.
const WINS_MAX: usize = 1_000;

/// A question on its way to flow, and who asks.
pub(crate) struct Question {
    machine: usize,
    life: u32,
    what: Asked,
    back_ms: u64,
}

/// What is asked.
pub(crate) enum Asked {
    /// How far the store is in these lanes.
    Passed(Vec<u16>),
    /// Past wins of users.
    Wins(u64, Vec<(UserId, CampaignId)>),
}

/// Entries on their way into the cache.
pub(crate) type Entries = Vec<(CacheKey, Vec<SnapshotWin>)>;

impl Asked {
    fn failed(&self) -> MachineStep {
        let error = CallError::Unavailable("simulated: no answer".to_owned());
        match self {
            Asked::Passed(_) => MachineStep::Passed(Err(error)),
            Asked::Wins(id, _) => MachineStep::Wins(*id, Err(error)),
        }
    }
}

impl World {
    fn ask(&mut self, m: usize, what: Asked) {
        let life = self.cluster.machines[m].life;
        let (there, back_ms) = (self.between(1, 20), self.between(1, 20));
        if self.trouble(self.config.network_loss) {
            let failed = what.failed();
            return self.push(PATIENCE_MS, Event::Machine(m, life, failed));
        }
        let question = Question { machine: m, life, what, back_ms };
        self.push(there, Event::Cluster(ClusterStep::Asked(Box::new(question))));
    }

    /// Flow answers from what its store has now; if there is no flow, nobody does.
    pub fn flow_is_asked(&mut self, question: Question) {
        let Question { machine, life, what, back_ms } = question;
        let (answer, wait) = if self.flow.is_up() {
            let answer = match what {
                Asked::Passed(lanes) => MachineStep::Passed(Ok(self.store_passed(&lanes))),
                Asked::Wins(id, asked) => MachineStep::Wins(id, Ok(self.store_wins(&asked))),
            };
            (answer, back_ms)
        } else {
            (what.failed(), PATIENCE_MS)
        };
        self.push(wait, Event::Machine(machine, life, answer));
    }

    fn store_passed(&self, lanes: &[u16]) -> BTreeMap<u16, u64> {
        let all = now(self.flow.store.lanes()).unwrap_or_default();
        let next = |lane: u16| all.iter().find(|l| l.node == NodeId(lane)).map_or(0, |l| l.next);
        lanes.iter().map(|lane| (*lane, next(*lane))).collect()
    }

    fn store_wins(&self, asked: &[(UserId, CampaignId)]) -> Vec<Vec<PastWin>> {
        let of = |(user, campaign): &(UserId, CampaignId)| {
            let awards = now(self.flow.store.awards_of(*user, None, WINS_MAX)).unwrap_or_default();
            let wins = awards.into_iter().map(|a| a.row.won).filter(|won| won.campaign == *campaign);
            wins.map(|w| PastWin {
                award: w.award,
                user: w.user,
                campaign: w.campaign,
                round: w.round,
                day: w.day,
                counter: w.counter,
                prize: w.prize,
                unit: w.unit,
                fen: w.fen,
            })
            .collect()
        };
        asked.iter().map(of).collect()
    }

    /// Some bucket may have to wait for the award store.
    pub fn machine_asks_passed(&mut self, m: usize) {
        let Some(up) = self.up_at(m) else { return };
        let lanes: Vec<u16> = up.buckets.waits_for().into_iter().collect();
        if lanes.is_empty() || std::mem::replace(&mut up.asking_passed, true) {
            return;
        }
        self.ask(m, Asked::Passed(lanes));
    }

    pub fn machine_hears_passed(&mut self, m: usize, answer: Result<BTreeMap<u16, u64>, CallError>) {
        let node = self.cluster.machines[m].node;
        let Some(up) = self.up_at(m) else { return };
        up.asking_passed = false;
        let before = up.buckets.counts();
        if let Ok(positions) = answer {
            up.buckets.passed(&positions, &up.core);
        }
        let after = up.buckets.counts();
        if after != before {
            self.note(format_args!("node {node}: {} buckets are open, {} wait", after.open, after.waiting));
        }
        if after.waiting > 0 {
            self.machine_push(m, AGAIN_MS, MachineStep::AskPassed);
        }
    }

    /// Users came whom memory does not know: the cache is asked, and flow about those it does not have.
    pub fn machine_wants(&mut self, m: usize) {
        let Some(up) = self.up_at(m) else { return };
        if up.core.wants() {
            let wants = up.core.take_wanted(up.wanted.room());
            up.wanted.add(wants);
        }
        while let Some(ask) = self.up_at(m).and_then(|up| up.wanted.ask()) {
            let rest = self.read_cache(m, ask.wants);
            let asked = rest.iter().map(|want| (want.user, want.campaign)).collect();
            let Some(up) = self.up_at(m) else { return };
            if rest.is_empty() {
                up.wanted.done(ask.id);
            } else {
                up.asks.insert(ask.id, rest);
                self.ask(m, Asked::Wins(ask.id, asked));
            }
        }
    }

    fn key(&self, m: usize, want: Want) -> Option<CacheKey> {
        let machine = &self.cluster.machines[m];
        Some(CacheKey { want, node: machine.node, epoch: machine.up_ref()?.log.epoch() })
    }

    /// Restores users whom the cache has; the others.
    fn read_cache(&mut self, m: usize, wants: Vec<Want>) -> Vec<Want> {
        if self.trouble(8) {
            return wants;
        }
        let keys: Vec<CacheKey> = wants.iter().filter_map(|want| self.key(m, *want)).collect();
        let found = now(self.cluster.cache.get(&keys));
        let Some(up) = self.cluster.machines[m].up_ref() else { return wants };
        let mut rest = Vec::new();
        for (want, wins) in wants.into_iter().zip(found) {
            match wins {
                Some(wins) => {
                    up.core.restore(&want, wins);
                    self.counters.cache_hits += 1;
                }
                None => rest.push(want),
            }
        }
        rest
    }

    pub fn machine_hears_wins(&mut self, m: usize, id: u64, answer: Result<Vec<Vec<PastWin>>, CallError>) {
        let node = self.cluster.machines[m].node;
        let Some(up) = self.up_at(m) else { return };
        up.wanted.done(id);
        let Some(wants) = up.asks.remove(&id) else { return };
        let Ok(answer) = answer else { return };
        match checked(&wants, answer) {
            Ok(all) => {
                let mut entries = Vec::new();
                for (want, wins) in wants.into_iter().zip(all) {
                    if let Some(up) = self.cluster.machines[m].up_ref() {
                        up.core.restore(&want, wins.iter().copied());
                    }
                    entries.extend(self.key(m, want).map(|key| (key, wins)));
                }
                self.put_into_cache(entries);
            }
            Err(error) => self.problem(format!("node {node}: flow's answer about past wins: {error}")),
        }
    }

    /// Late, twice, or never.
    fn put_into_cache(&mut self, entries: Entries) {
        let copies = if self.trouble(6) { self.rng.below(3) } else { 1 };
        for _ in 0..copies {
            let wait = if self.trouble(6) { self.between(10, 4_000) } else { self.between(0, 10) };
            self.push(wait, Event::Cluster(ClusterStep::Cached(entries.clone())));
        }
    }

    /// Users who have not come for a moment are forgotten, as when memory is short: they are read again.
    pub fn machine_forgets(&mut self, m: usize) {
        let idle = self.between(50, 600);
        let machine = &self.cluster.machines[m];
        if let Some(up) = machine.up_ref() {
            use runtime::Clock as _;
            let now_ms = up.session.now(machine.clock.mono_ns()).ms;
            up.core.forget_idle(now_ms.saturating_sub(idle));
        }
        let wait = self.between(200, 2_000);
        self.machine_push(m, wait, MachineStep::Forget);
    }
}
