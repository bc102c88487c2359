//! The operator: pauses, resumes, lowers and raises prizes while rounds run.

use crate::node::{NodeState, NodeStep};
use crate::plan::{self, CAMPAIGN};
use crate::world::{Event, World, now};
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
        let (ledger, seq_no) = (Arc::clone(&self.ledger), self.next_seq_no());
        let units = 1 + self.rng.below(8);
        let (what, done) = match self.rng.below(6) {
            0 | 1 => ("pauses", now(ledger.pause(key, seq_no)).map(|c| c.cancelled)),
            2 => ("lowers", now(ledger.lower(key, seq_no, units)).map(|c| c.cancelled)),
            3 => return self.operator_raises(key, units),
            _ => ("resumes", now(ledger.resume(key, seq_no)).map(|c| c.cancelled)),
        };
        self.note(format_args!("operator {what} {key} as {seq_no}: {done:?}"));
        if what == "pauses" && done.is_ok() {
            self.operator_resumes_soon(key);
        }
    }

    /// A pause is short, so that rounds are not empty.
    fn operator_resumes_soon(&mut self, key: PrizeKey) {
        let wait = self.between(50, 900);
        self.push(wait, Event::Resume(key));
    }

    pub fn operator_resumes(&mut self, key: PrizeKey) {
        let (ledger, seq_no) = (Arc::clone(&self.ledger), self.next_seq_no());
        let done = now(ledger.resume(key, seq_no)).map(|c| c.paused);
        self.note(format_args!("operator resumes {key} as {seq_no}: {done:?}"));
    }

    /// A new plan with one more tranche: known to flow and the ledger at once, put into force by the node a little later.
    fn operator_raises(&mut self, key: PrizeKey, units: u64) {
        let mut next = (*self.plan()).clone();
        next.seq_no = campaign::SeqNo(self.seq_no);
        let prize = next.rounds.iter_mut().filter(|r| r.id == key.round).flat_map(|r| &mut r.prizes);
        for prize in prize.filter(|p| p.id == key.prize) {
            let first = prize.units();
            let tranche = plan::tranche(&mut self.rng, prize.kind, first, units);
            prize.tranches.push(tranche);
        }
        self.note(format_args!("operator raises {key} by {units} with plan {}", next.seq_no));
        self.flow.plans.insert(&next);
        let ledger = Arc::clone(&self.ledger);
        if let Err(error) = now(ledger.register(&next)) {
            self.problem(format!("the ledger refused a raise: {error}"));
        }
        self.plans.push(Arc::new(next));
        if matches!(self.node.state, NodeState::Up(_)) {
            let wait = self.between(0, 200);
            self.node_push(wait, NodeStep::Register);
        }
    }
}
