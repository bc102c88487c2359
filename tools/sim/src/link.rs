//! The way to the ledger: calls that fail, whose answers are lost, that come late or twice.

use crate::cluster::MachineStep;
use crate::log::SimLog;
use crate::single::NodeStep;
use crate::world::{DELICATE_ONE_IN, Event, World, now};
use campaign::{LeaseId, NodeId, Slot, UnitRange};
use lottery::core::{Core, WinLog as _};
use lottery::ledger::{GrantAnswer, PrizeKey, QuotaLedger as _, StoreError, Tick, TickAnswer, TickError};
use lottery::node::leases::Leases;
use records::{LeaseGot, LeaseRange};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who calls the ledger: a process in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// The node that stands for itself.
    Single(u32),
    /// One of several: which machine, and in which of its lives.
    Machine(usize, u32),
}

/// A tick on its way.
pub(crate) struct LedgerLetter {
    tick: Tick,
    /// Who waits for the answer, and the instant at which the call was sent, by his monotonic clock.
    reply_to: Option<(Caller, u64)>,
    answer_in_ms: u64,
}

/// A tick's answer on its way back.
pub(crate) struct Answer {
    /// When the call was sent, monotonic ns.
    pub sent_ns: u64,
    pub result: Result<TickAnswer, TickError>,
}

fn unknown() -> Result<TickAnswer, TickError> {
    Err(TickError::Store(StoreError::Unknown("simulated: no answer in time".to_owned())))
}

impl World {
    pub fn ledger_is_away(&self) -> bool {
        self.now_ms() < self.outage_until
    }

    /// A call of the start-up sequence. `None`: it failed, or its answer was lost; it may have been done.
    pub fn ledger_call<T>(&mut self, what: &str, call: impl Future<Output = T>) -> Option<T> {
        if self.ledger_is_away() {
            self.note(format_args!("ledger: {what} was not done"));
            return None;
        }
        if self.trouble(self.config.ledger_trouble * 2) {
            let done = self.rng.one_in(2);
            if done {
                drop(now(call));
            }
            self.note(format_args!("ledger: {what} got no answer (done: {done})"));
            return None;
        }
        Some(now(call))
    }

    /// Sends a tick; the node hears of it by [`NodeStep::Answer`].
    pub fn send_tick(&mut self, caller: Caller, sent_ns: u64, tick: Tick) {
        let (there, back) = (self.between(1, 15), self.between(1, 15));
        let letter =
            |tick, reply_to| Event::Ledger(Box::new(LedgerLetter { tick, reply_to, answer_in_ms: back }));
        if self.ledger_is_away() {
            let error = StoreError::NotDone("simulated: the ledger is away".to_owned());
            return self.answer(caller, there, Answer { sent_ns, result: Err(error.into()) });
        }
        if !self.trouble(self.config.ledger_trouble) {
            return self.push(there, letter(tick, Some((caller, sent_ns))));
        }
        self.counters.ledger_troubles += 1;
        let patience = self.between(50, 500);
        match self.rng.below(6) {
            0 => {
                self.note(format_args!("ledger: the next tick is not done"));
                let error = StoreError::NotDone("simulated".to_owned());
                self.answer(caller, there, Answer { sent_ns, result: Err(error.into()) });
            }
            1 => {
                self.note(format_args!("ledger: the next tick is lost on its way there"));
                self.answer(caller, patience, Answer { sent_ns, result: unknown() });
            }
            2 | 3 => {
                self.note(format_args!("ledger: the next tick's answer is lost"));
                self.push(there, letter(tick, None));
                self.answer(caller, patience, Answer { sent_ns, result: unknown() });
            }
            4 => {
                self.note(format_args!("ledger: the next tick comes late, behind its time-out"));
                let late = patience + self.between(1, 1_500);
                self.push(late, letter(tick, None));
                self.answer(caller, patience, Answer { sent_ns, result: unknown() });
            }
            _ => {
                self.note(format_args!("ledger: the next tick comes twice"));
                let again = there + self.between(1, 2_500);
                self.push(again, letter(tick.clone(), None));
                self.push(there, letter(tick, Some((caller, sent_ns))));
            }
        }
    }

    fn answer(&mut self, caller: Caller, in_ms: u64, answer: Answer) {
        let answer = Box::new(answer);
        let event = match caller {
            Caller::Single(life) => Event::Node(life, NodeStep::Answer(answer)),
            Caller::Machine(m, life) => Event::Machine(m, life, MachineStep::Answer(answer)),
        };
        self.push(in_ms, event);
    }

    /// Is the node in the middle of writing its log?
    fn is_writing(&self, node: NodeId) -> bool {
        if self.cluster.is_on() { self.cluster.is_writing(node) } else { self.node.is_writing() }
    }

    /// The ledger does what a tick asks for.
    pub fn ledger_takes(&mut self, letter: LedgerLetter) {
        let LedgerLetter { tick, reply_to, answer_in_ms } = letter;
        if !tick.closes.is_empty() {
            // The ledger knows of an end while the node is still writing: the worst moment of all.
            self.delicate = Some((if self.is_writing(tick.node) { 4 } else { DELICATE_ONE_IN }, tick.node));
        }
        let ledger = Arc::clone(&self.ledger);
        let result = now(ledger.tick(&tick));
        match &result {
            Ok(answer) => {
                let granted: Vec<String> = answer
                    .grants
                    .iter()
                    .filter_map(|(lease, grant)| match grant {
                        GrantAnswer::Granted { ranges, .. } => {
                            let units: u64 = ranges.iter().map(|r| r.units.count).sum();
                            let prize = tick.asks.iter().find(|a| a.lease == *lease).map(|a| a.prize.prize.0);
                            Some(format!("{lease} of prize {} ({units} units)", prize.unwrap_or(0)))
                        }
                        _ => None,
                    })
                    .collect();
                let closed: Vec<String> = tick
                    .closes
                    .iter()
                    .map(|c| format!("{} (used {}, back {})", c.lease, c.used, c.returned))
                    .collect();
                if !granted.is_empty() || !closed.is_empty() || reply_to.is_none() {
                    let copy = if reply_to.is_none() { ", nobody hears the answer" } else { "" };
                    self.note(format_args!(
                        "ledger: tick of node {}, epoch {}: granted [{}], closed [{}], low water {}{copy}",
                        tick.node,
                        tick.epoch,
                        granted.join(", "),
                        closed.join(", "),
                        answer.low_water
                    ));
                }
                for (lease, why) in &answer.refused {
                    self.problem(format!(
                        "the ledger refused to close lease {lease} of epoch {}: {why}",
                        tick.epoch
                    ));
                }
            }
            Err(error) => self.note(format_args!(
                "ledger: tick of node {}, epoch {} refused: {error}",
                tick.node, tick.epoch
            )),
        }
        if let Some((caller, sent_ns)) = reply_to {
            self.answer(caller, answer_in_ms, Answer { sent_ns, result });
        }
    }
}

/// The planted faults 'a lost answer is taken for not done': what the call asked for is asked for under new numbers, and,
/// with `reopen`, what it closed is drawn from again.
pub(crate) fn take_back(
    core: &Core,
    leases: &mut Leases,
    log: &SimLog,
    prizes: &BTreeMap<LeaseId, PrizeKey>,
    tick: &Tick,
    now_ms: u64,
    reopen: bool,
) {
    let forgotten = TickAnswer {
        now_ms,
        grants: tick.asks.iter().map(|a| (a.lease, GrantAnswer::Closed)).collect(),
        closed: if reopen { tick.closes.iter().map(|c| c.lease).collect() } else { Vec::new() },
        ..TickAnswer::default()
    };
    leases.answered(core, tick, &forgotten, &mut &*log);
    if !reopen {
        return;
    }
    let campaigns = core.campaigns();
    for close in tick.closes.iter().filter(|c| !c.returned.is_empty()) {
        let Some(key) = prizes.get(&close.lease) else { continue };
        let Some(campaign) = campaigns.get(key.campaign.0) else { continue };
        let Some(round) = campaign.round(key.round) else { continue };
        let range = |units: UnitRange| LeaseRange {
            units,
            first_slot: Slot::at(now_ms),
            per_slot: units.count as u32,
            every: 1,
        };
        let got = LeaseGot {
            lease: close.lease,
            campaign: key.campaign,
            round: key.round,
            prize: key.prize,
            seq_no: campaign.plan.seq_no,
            ranges: close.returned.iter().map(range).collect(),
        };
        round.pool.install(&got, log.acknowledged());
    }
}
