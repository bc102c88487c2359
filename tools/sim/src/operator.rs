//! The operator: pauses, resumes, stops, lowers and raises prizes, changes odds, speeds and limits, and tries plans on
//! some of the players, while rounds run. Each change is a version with a SeqNo of its own.

use crate::plan::{self, CAMPAIGN};
use crate::single::NodeStep;
use crate::world::{Event, World, now};
use campaign::{Limits, Plan, Prize, SeqNo};
use lottery::grey::{Grey, blended, check};
use lottery::ledger::{PrizeKey, QuotaLedger as _};
use std::sync::Arc;

impl World {
    pub fn operator_acts(&mut self) {
        if self.draining {
            return;
        }
        if self.may_go_wrong() && !self.ledger_is_away() {
            self.operator_changes();
        }
        let wait = self.between(200, 2_500);
        self.push(wait, Event::Operator);
    }

    fn operator_changes(&mut self) {
        let (plan, now_ms) = (self.plan(), self.now_ms());
        let Some(round) = plan.rounds.iter().find(|r| now_ms < r.close_ms) else { return };
        let prize = &round.prizes[self.rng.below(round.prizes.len() as u64) as usize];
        let key = PrizeKey { campaign: CAMPAIGN, round: round.id, prize: prize.id };
        match self.rng.below(15) {
            0..3 => self.operator_pauses(key, true),
            3 => self.operator_pauses(key, self.seq_no.is_multiple_of(2)),
            4 | 5 => self.operator_lowers(key),
            6 | 7 => self.operator_raises(key),
            8 => self.operator_weighs(key),
            9 => self.operator_slows(key),
            10 => self.operator_limits(),
            11 | 12 => self.operator_tries(key),
            13 => self.operator_ends_trial(),
            _ => self.operator_resumes(key),
        }
    }

    /// Stops a prize: the ledger hears of it first. A pause is short, so that rounds are not empty.
    fn operator_pauses(&mut self, key: PrizeKey, for_a_while: bool) {
        let (ledger, seq_no) = (Arc::clone(&self.ledger), self.next_seq_no());
        let done = now(ledger.pause(key, seq_no)).map(|c| c.paused);
        self.note(format_args!("operator pauses {key} as {seq_no}: {done:?}"));
        self.activate(seq_no, |p| edit(p, key, |prize| prize.paused = true));
        if for_a_while {
            let wait = self.between(50, 900);
            self.push(wait, Event::Resume(key));
        }
    }

    /// Ends a pause, and a limit of speed.
    pub fn operator_resumes(&mut self, key: PrizeKey) {
        let seq_no = self.next_seq_no();
        self.note(format_args!("operator resumes {key} as {seq_no}"));
        self.activate(seq_no, |p| edit(p, key, |prize| (prize.paused, prize.speed_max) = (false, 0)));
    }

    fn operator_lowers(&mut self, key: PrizeKey) {
        let (units, seq_no) = (1 + self.rng.below(8), self.next_seq_no());
        let done = now(self.ledger.lower(key, seq_no, units)).map(|c| c.cancelled);
        self.note(format_args!("operator lowers {key} as {seq_no}: {done:?}"));
        self.activate(seq_no, |_| {});
    }

    /// One more tranche.
    fn operator_raises(&mut self, key: PrizeKey) {
        let (units, seq_no) = (1 + self.rng.below(8), self.next_seq_no());
        self.note(format_args!("operator raises {key} by {units} with plan {seq_no}"));
        let prizes = self.plan().round(key.round).map_or_else(Vec::new, |r| r.prizes.clone());
        let Some(prize) = prizes.iter().find(|p| p.id == key.prize) else { return };
        let tranche = plan::tranche(&mut self.rng, prize.kind, prize.units(), units);
        self.activate(seq_no, |p| edit(p, key, |prize| prize.tranches.push(tranche)));
    }

    fn operator_weighs(&mut self, key: PrizeKey) {
        let (weight, seq_no) = (self.rng.below(9) as u32, self.next_seq_no());
        self.note(format_args!("operator gives {key} the weight {weight} as {seq_no}"));
        self.activate(seq_no, |p| edit(p, key, |prize| prize.weight = weight));
    }

    /// A slow prize is not slow for long: what it could not release by the end would be left over by right.
    fn operator_slows(&mut self, key: PrizeKey) {
        let (speed, seq_no) = (1 + self.rng.below(12), self.next_seq_no());
        self.note(format_args!("operator slows {key} to {speed}/s as {seq_no}"));
        self.activate(seq_no, |p| edit(p, key, |prize| prize.speed_max = speed));
        let wait = self.between(100, 1_200);
        self.push(wait, Event::Resume(key));
    }

    fn operator_limits(&mut self) {
        let (limits, seq_no) = (self.other_limits(), self.next_seq_no());
        self.note(format_args!("operator changes limits as {seq_no}"));
        self.activate(seq_no, |p| p.limits = limits);
    }

    fn other_limits(&mut self) -> Limits {
        let (round, day) = (1 + self.rng.below(3) as u16, 2 + self.rng.below(3) as u16);
        Limits { wins_round: round, wins_day: day, wins_campaign: day + 1, ..self.plan().limits }
    }

    /// A plan with other odds and limits, for some of the players.
    fn operator_tries(&mut self, key: PrizeKey) {
        let (weight, limits) = (self.rng.below(9) as u32, self.other_limits());
        let (share, seq_no) = (1 + self.rng.below(1_000) as u16, self.next_seq_no());
        let mut tried = (*self.plan()).clone();
        tried.seq_no = seq_no;
        tried.limits = limits;
        edit(&mut tried, key, |prize| prize.weight = weight);
        self.note(format_args!("operator tries {seq_no} on {share} of 1000 players"));
        let tried = Arc::new(tried);
        self.flow.plans.insert(&tried);
        self.greys.push(Arc::clone(&tried));
        self.grey = Some(Grey::to_users(tried, share));
        self.spread();
    }

    /// Puts the tried plan into force for all, or takes it back: a new version of the active plan in both cases.
    fn operator_ends_trial(&mut self) {
        let Some(grey) = self.grey.take() else { return };
        let (for_all, seq_no) = (self.rng.one_in(2), self.next_seq_no());
        self.note(format_args!("operator ends the trial as {seq_no}, for all: {for_all}"));
        self.activate(seq_no, |p| {
            if for_all {
                p.limits = grey.plan.limits;
                let tried = grey.plan.rounds.iter().flat_map(|r| &r.prizes);
                p.rounds
                    .iter_mut()
                    .flat_map(|r| &mut r.prizes)
                    .zip(tried)
                    .for_each(|(p, t)| p.weight = t.weight);
            }
        });
    }

    /// A new active version. A tried plan that can't stand beside it ends.
    fn activate(&mut self, seq_no: SeqNo, change: impl FnOnce(&mut Plan)) {
        let mut next = (*self.plan()).clone();
        next.seq_no = seq_no;
        change(&mut next);
        self.flow.plans.insert(&next);
        self.grey.take_if(|grey| check(&next, &grey.plan).is_err());
        self.plans.push(Arc::new(next));
        self.spread();
    }

    /// What the ledger is told of the plans in force.
    pub fn told(&self) -> Arc<Plan> {
        match &self.grey {
            Some(grey) => Arc::new(blended(&self.plan(), &grey.plan, grey.speeds_per_mille)),
            None => self.plan(),
        }
    }

    /// A new version is known to flow and the ledger at once; the node puts it into force a little later.
    fn spread(&mut self) {
        if let Err(error) = now(self.ledger.register(&self.told())) {
            self.problem(format!("the ledger refused a plan: {error}"));
        }
        if self.cluster.is_on() {
            self.cluster_plans();
        } else if self.node.is_up() {
            let wait = self.between(0, 200);
            self.node_push(wait, NodeStep::Register);
        }
    }
}

/// Changes one prize of a plan.
fn edit(plan: &mut Plan, key: PrizeKey, change: impl FnOnce(&mut Prize)) {
    let mut prizes = plan.rounds.iter_mut().filter(|r| r.id == key.round).flat_map(|r| &mut r.prizes);
    if let Some(prize) = prizes.find(|p| p.id == key.prize) {
        change(prize);
    }
}
