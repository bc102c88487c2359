//! Random schedules of what befalls a cluster, in virtual time: nodes die with and without their disks, sleep and wake, come
//! back before and after their epochs were ended; rings change; lanes, ledger and flow lose, repeat and delay.

use super::audit::{Told, audit, audit_end};
use super::flow::LaneFlow;
use super::node::{Node, Shared, late, now};
use crate::changes::world::{CAMPAIGN, OPEN_MS, seed_key};
use campaign::{Plan, RoundId};
use hashring::{Member, Ring, bucket_of};
use lottery::ledger::{MemoryLedger, QuotaLedger};
use proptest::prelude::*;
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use queue::lanes::memory::{MemoryLanes, Trouble};
use runtime::{Clock, ManualClock};
use std::collections::BTreeMap;
use std::sync::Arc;

const NODES: u16 = 3;
const ROUND_MS: u64 = 22_000;
/// So long before the end nothing befalls anybody any more.
const CALM_MS: u64 = 11_000;
const STEP_MS: u64 = 20;

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Kill {
        node: usize,
        keep: bool,
    },
    /// Killed, and not started before all is calm.
    Leave {
        node: usize,
    },
    Replace {
        node: usize,
    },
    Sleep {
        node: usize,
        ms: u64,
    },
    Weights([u32; NODES as usize]),
    LoseAnswer {
        node: usize,
    },
    Lane {
        node: u16,
        trouble: Trouble,
    },
    Land {
        node: u16,
        messages: usize,
    },
    HoldFlow(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NODES as usize;
    let lane = 0..NODES;
    let trouble = prop_oneof![
        (0usize..3).prop_map(|lands| Trouble::Unsure { lands }),
        Just(Trouble::Held),
        Just(Trouble::Twice),
    ];
    prop_oneof![
        6 => (1u64..60).prop_map(|n| Op::Wait(n * STEP_MS)),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, keep)| Op::Kill { node, keep }),
        1 => node.clone().prop_map(|node| Op::Leave { node }),
        1 => node.clone().prop_map(|node| Op::Replace { node }),
        2 => (node.clone(), 500u64..5_000).prop_map(|(node, ms)| Op::Sleep { node, ms }),
        3 => prop::array::uniform3(0u32..3).prop_map(Op::Weights),
        2 => node.prop_map(|node| Op::LoseAnswer { node }),
        4 => (lane.clone(), trouble).prop_map(|(node, trouble)| Op::Lane { node, trouble }),
        2 => (lane, 1usize..9).prop_map(|(node, messages)| Op::Land { node, messages }),
        1 => any::<bool>().prop_map(Op::HoldFlow),
    ]
}

fn plan() -> Plan {
    let mut plan = crate::world::plan(OPEN_MS, ROUND_MS, 90);
    plan.limits.wins_round = 2;
    plan.limits.interval_ms = 100;
    plan.limits.shakes_per_second = 5;
    plan.campaign = CAMPAIGN;
    // What is released while everybody is down must come out by the end.
    plan.rounds[0].prizes.iter_mut().for_each(|prize| prize.catch_up_percent = 800);
    plan.rounds[0].seed_commitment = seed_key().round_seed(CAMPAIGN, RoundId(1)).commitment();
    plan
}

struct World {
    shared: Shared,
    nodes: Vec<Node>,
    weights: [u32; NODES as usize],
    steps: u64,
    /// Counter of each player's next draw, as he was told.
    counters: BTreeMap<u64, u32>,
    told: Told,
    next_user: u64,
}

impl World {
    fn new() -> World {
        let clock = ManualClock::new(OPEN_MS - 1_500);
        let lanes = MemoryLanes::new(NODES);
        let shared = Shared {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            flow: Arc::new(LaneFlow::new(lanes.clone(), NODES)),
            clock,
            lanes,
            plan: Arc::new(plan()),
            inbox: Arc::new(Inbox::new()),
        };
        now(shared.ledger.register(&shared.plan)).unwrap();
        let nodes = (0..NODES).map(Node::new).collect();
        let mut world = World {
            shared,
            nodes,
            weights: [1; NODES as usize],
            steps: 0,
            counters: (1..40).map(|u| (u, 1)).collect(),
            told: Told::new(),
            next_user: 1_000,
        };
        world.wait(1_500);
        world
    }

    fn left_ms(&self) -> u64 {
        (OPEN_MS + ROUND_MS).saturating_sub(self.shared.clock.now_ms())
    }

    fn ring(&self) -> Ring {
        let member = |(node, &weight): (u16, &u32)| Member { node, weight };
        let members: Vec<Member> = (0..).zip(&self.weights).map(member).collect();
        Ring::new(&members, 1).unwrap_or_else(|_| Ring::new(&[Member { node: 0, weight: 1 }], 1).unwrap())
    }

    fn apply(&mut self, op: &Op) {
        if self.left_ms() < CALM_MS {
            return;
        }
        match *op {
            Op::Wait(ms) => self.wait(ms),
            Op::Kill { node, keep } => self.nodes[node].kill(keep),
            Op::Leave { node } => {
                self.nodes[node].kill(false);
                self.nodes[node].wanted_up = false;
            }
            Op::Replace { node } => self.nodes[node].replace(),
            Op::Sleep { node, ms } => self.nodes[node].asleep_until_ms = self.shared.clock.now_ms() + ms,
            Op::Weights(weights) => self.weights = weights,
            Op::LoseAnswer { node } => self.nodes[node].lose_answer = true,
            Op::Lane { node, trouble } => self.shared.lanes.trouble(node, trouble).unwrap(),
            Op::Land { node, messages } => drop(self.shared.lanes.land(node, messages).unwrap()),
            Op::HoldFlow(held) => self.shared.flow.hold_up(held),
        }
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(STEP_MS) {
            self.shared.clock.advance_ms(STEP_MS);
            self.steps += 1;
            let (ring, living): (Ring, Vec<u16>) = (self.ring(), (0..NODES).collect());
            let mut replies = Vec::new();
            for node in &mut self.nodes {
                replies.extend(node.step(self.steps, &ring, &living, &self.shared));
            }
            replies.extend(late(&self.shared));
            replies.extend(self.draw(&ring));
            replies.into_iter().for_each(|reply| self.hear(reply));
        }
    }

    /// A few come again and again, some once; most go where the ring says, some where it said before.
    fn draw(&mut self, ring: &Ring) -> Vec<SubmitReply> {
        let fresh = self.next_user..self.next_user + 6;
        self.next_user = fresh.end;
        self.counters.extend(fresh.map(|user| (user, 1)));
        let mut calls: Vec<Vec<SubmitCall>> = vec![Vec::new(); usize::from(NODES)];
        let recent = self.next_user.saturating_sub(60);
        let users = self.counters.range(1..40).chain(self.counters.range(recent..));
        for (&user, &counter) in users.filter(|(user, _)| (*user + self.steps).is_multiple_of(3)) {
            let call = SubmitCall {
                user,
                counter,
                campaign: CAMPAIGN.0,
                round: 1,
                shakes: 1,
                ..SubmitCall::default()
            };
            let stray = (user * 7 + self.steps).is_multiple_of(23);
            let node = if stray {
                (user + self.steps) % u64::from(NODES)
            } else {
                ring.owner(bucket_of(user)).into()
            };
            calls[node as usize].push(call);
        }
        let mut replies = Vec::new();
        for (node, calls) in self.nodes.iter_mut().zip(&calls) {
            replies.extend(node.submit(calls, &self.shared));
        }
        replies
    }

    fn hear(&mut self, reply: SubmitReply) {
        match reply.outcome {
            Outcome::Won => {
                let award = reply.award.unwrap().award;
                let before = self.told.insert((reply.user, reply.counter), award.clone());
                assert!(before.is_none_or(|b| b == award), "user {}: one draw id, two prizes", reply.user);
            }
            Outcome::Lost => {}
            _ => return,
        }
        let counter = self.counters.entry(reply.user).or_insert(1);
        *counter = (*counter).max(reply.next_counter);
    }

    fn audit(&self) -> Vec<super::flow::Awarded> {
        let seed = seed_key().round_seed(CAMPAIGN, RoundId(1));
        audit(&self.shared.lanes, NODES, &self.shared.plan, seed, &self.told)
    }

    /// All is calm until the round is over.
    fn finish(&mut self) {
        for node in &mut self.nodes {
            (node.wanted_up, node.lose_answer) = (true, false);
        }
        self.weights = [1, 2, 1];
        self.shared.flow.hold_up(false);
        let left_ms = self.left_ms();
        self.wait(left_ms.saturating_sub(3_000));
        (0..NODES).for_each(|node| drop(self.shared.lanes.land(node, usize::MAX)));
        self.audit();
        let serving: Vec<usize> = self.nodes.iter().map(Node::serving).collect();
        assert_eq!(serving.iter().sum::<usize>(), 4096, "every user can draw: {serving:?}");
        self.wait(3_000 + 2_000);
        let wins = self.audit();
        now(audit_end(&*self.shared.ledger, &wins, &self.shared.plan, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_laws_hold_whatever_befalls(ops in prop::collection::vec(op(), 5..45)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.audit();
        }
        world.finish();
    }
}
