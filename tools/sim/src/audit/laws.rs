//! The laws that the log, the players and the deliveries show.

use super::{Audit, Award};
use crate::plan::{CAMPAIGN, seed_key};
use crate::vendor::Status;
use campaign::{AwardId, Fen, Limits, Plan, Prize, PrizeId, Round, RoundId, SeqNo, UserId};
use lottery::ledger::PrizeKey;
use records::{DeliveryState, OrderKind};
use std::collections::BTreeMap;

/// The last seconds of a round, ms: what was released before has been awarded by its end.
const TAIL_MS: u64 = 3_000;
/// Entries for each unit left that make players enough.
const ENTRIES_PER_UNIT: u64 = 10;

impl Audit<'_> {
    /// Laws 1 and 7: no unit twice, no unit that was never made, amounts as the seed says.
    pub fn budgets(&mut self) {
        let mut units: BTreeMap<(PrizeKey, u64), AwardId> = BTreeMap::new();
        let mut sums: BTreeMap<PrizeKey, (u64, Fen)> = BTreeMap::new();
        let mut broken = Vec::new();
        for award in self.log.awards.values() {
            let (won, key) = (&award.won, key_of(award.won.round, award.won.prize));
            if let Some(other) = units.insert((key, won.unit), won.award) {
                broken.push(format!(
                    "unit {} of {key} is in award {other} and in award {}",
                    won.unit, won.award
                ));
            }
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + 1, Fen(sum.1.0 + won.fen.0));
            match self.evidence.amount(key, won.unit) {
                Some(fen) if fen == won.fen => {}
                fen => {
                    broken.push(format!("award {} has {} fen, its unit has {fen:?}", won.award, won.fen.0))
                }
            }
        }
        for (key, (awarded, fen)) in sums {
            let Some(row) = self.evidence.ledger.prizes.get(&key) else {
                broken.push(format!("{key} has awards and no row in the ledger"));
                continue;
            };
            let budget = self.evidence.fen_of_budget(key);
            if awarded > row.budget() || fen > budget {
                let units = row.budget();
                broken.push(format!(
                    "{key}: {awarded} units, {} fen awarded of {units} units, {} fen",
                    fen.0, budget.0
                ));
            }
        }
        broken.into_iter().for_each(|what| self.broken(1, what));
        for alarm in self.evidence.alarms.clone() {
            self.broken(1, format!("flow's alarm: {:?}", alarm.alarm));
        }
    }

    /// Law 2: what a player heard stands in the log and with flow, and he never hears two things of one draw.
    pub fn told(&mut self) {
        let mut outcomes: BTreeMap<(UserId, RoundId, u32), AwardId> = BTreeMap::new();
        let mut broken = Vec::new();
        for told in self.evidence.told {
            let draw = (told.user, told.round, told.counter);
            let said = format!("user {}, round {}, draw {}", told.user, told.round, told.counter);
            let Some((id, prize, fen)) = told.won else {
                if let Some(id) = outcomes.get(&draw) {
                    broken.push(format!("{said}: was told of award {id}, and later that it lost"));
                }
                continue;
            };
            if outcomes.insert(draw, id).is_some_and(|before| before != id) {
                broken.push(format!("{said}: was told of two awards, {id} the later"));
            }
            let facts = (told.user, told.round, told.counter, prize, fen);
            match self.log.awards.get(&id).map(|a| &a.won) {
                None => broken.push(format!("{said}: was told of award {id}, which is not in the log")),
                Some(won) if (won.user, won.round, won.counter, won.prize, won.fen) != facts => {
                    broken.push(format!("{said}: was told something else of award {id} than the log has"));
                }
                Some(_) => {}
            }
            if self.evidence.stored.get(&id).is_none_or(|s| s.row.doubt != flow::core::Doubt::None) {
                broken.push(format!("{said}: was told of award {id}, which flow does not have, or doubts"));
            }
        }
        let unseen = self.log.awards.keys().filter(|id| !self.evidence.stored.contains_key(id));
        broken.extend(unseen.map(|id| format!("award {id} is in the log and not with flow")));
        broken.into_iter().for_each(|what| self.broken(2, what));
        let foreign: Vec<AwardId> =
            self.evidence.stored.keys().filter(|id| !self.log.awards.contains_key(id)).copied().collect();
        foreign
            .into_iter()
            .for_each(|id| self.broken(7, format!("award {id} is with flow and not in the log")));
    }

    /// Law 3: the vendors' books have at most one payment for an award.
    pub fn payments(&mut self) {
        let mut paid: BTreeMap<AwardId, Vec<&str>> = BTreeMap::new();
        for (number, payment) in self.evidence.payments.iter().filter(|(_, p)| p.pays()) {
            paid.entry(payment.award).or_default().push(number);
        }
        let mut broken = Vec::new();
        for (award, numbers) in &paid {
            if numbers.len() > 1 {
                broken.push((3, format!("award {award} was paid under {}", numbers.join(" and "))));
            }
            if !self.log.awards.contains_key(award) {
                broken.push((7, format!("award {award} was paid and is not in the log")));
            }
        }
        if self.evidence.mismatches > 0 {
            broken.push((3, format!("{} numbers came again with other data", self.evidence.mismatches)));
        }
        broken.into_iter().for_each(|(law, what)| self.broken(law, what));
    }

    /// Laws 4 and 7: every award is delivered, lapsed, or open with a reason; and the vendors' books agree.
    pub fn deliveries(&mut self) {
        use DeliveryState::{Delivered, Lapsed, Rejected, Reversed};
        let mut broken = Vec::new();
        for (id, award) in &self.log.awards {
            let Some(row) = self.evidence.orders.get(id) else {
                broken.push((4, format!("award {id} has no order")));
                continue;
            };
            if (row.fen, row.user, row.unit) != (award.won.fen, award.won.user, award.won.unit) {
                broken.push((7, format!("the order of award {id} has other facts than the log")));
            }
            let payment = self.evidence.payments.values().find(|p| p.award == *id && p.pays());
            let sound = match row.state {
                Delivered | Reversed => {
                    payment.is_some_and(|p| p.fen == row.fen && matches!(p.status, Status::Paid { .. }))
                }
                Lapsed => payment.is_none() && self.evidence.may_lapse(*id, row),
                Rejected => row.reason != delivery::core::Reason::None,
                _ => false,
            };
            if !sound {
                let (state, reason) = (row.state.name(), row.reason.name());
                let said = payment.map_or("nothing", |_| "a payment");
                broken.push((4, format!("award {id} is {state} ({reason}), the vendor's books have {said}")));
            }
        }
        let mut steps: BTreeMap<AwardId, u32> = BTreeMap::new();
        for line in &self.evidence.journal {
            let last = steps.entry(line.event.award).or_default();
            *last += 1;
            if line.event.step != *last {
                broken.push((
                    7,
                    format!("award {}: step {} where {last} must be", line.event.award, line.event.step),
                ));
            }
        }
        for (id, row) in &self.evidence.orders {
            if steps.get(id) != Some(&row.step) {
                broken.push((7, format!("award {id} is at step {}, its journal is not", row.step)));
            }
            let seen = self.evidence.stored.get(id).and_then(|s| s.progress).map(|p| (p.step, p.state));
            if seen != Some((row.step, row.state)) {
                broken.push((7, format!("award {id}: flow has {seen:?}, delivery is at step {}", row.step)));
            }
        }
        broken.into_iter().for_each(|(law, what)| self.broken(law, what));
    }

    /// Law 5: wins per round, day and campaign, each by the limits of the plan that it was drawn under; and a draw wins
    /// once.
    pub fn limits(&mut self) {
        let limits: BTreeMap<SeqNo, Limits> =
            self.evidence.versions().map(|p| (p.seq_no, p.limits)).collect();
        let mut counts: BTreeMap<(UserId, &str, u32), u64> = BTreeMap::new();
        let mut draws: BTreeMap<(UserId, RoundId, u32), AwardId> = BTreeMap::new();
        let mut broken = Vec::new();
        // In the order of time.
        for award in self.log.awards.values() {
            let won = &award.won;
            if let Some(other) = draws.insert((won.user, won.round, won.counter), won.award) {
                broken
                    .push(format!("draw {} of user {} won {other} and {}", won.counter, won.user, won.award));
            }
            let Some(l) = limits.get(&won.seq_no) else {
                broken.push(format!("award {} names SeqNo {}, which never was", won.award, won.seq_no));
                continue;
            };
            let scopes = [
                ("round", won.round.0, l.wins_round),
                ("day", won.day, l.wins_day),
                ("campaign", 0, l.wins_campaign),
            ];
            for (what, which, limit) in scopes {
                let count = counts.entry((won.user, what, which)).or_default();
                *count += 1;
                if limit != 0 && *count > u64::from(limit) {
                    let user = won.user;
                    broken.push(format!(
                        "user {user} won {count} times in {what} {which}, the limit is {limit}"
                    ));
                }
            }
        }
        broken.into_iter().for_each(|what| self.broken(5, what));
    }

    /// Law 1: nobody wins a prize outside of its regions, by the plan that he was drawn under.
    pub fn places(&mut self) {
        let plans: BTreeMap<SeqNo, &Plan> = self.evidence.versions().map(|p| (p.seq_no, p)).collect();
        let mut broken = Vec::new();
        for won in self.log.awards.values().map(|a| &a.won) {
            let Some(plan) = plans.get(&won.seq_no) else { continue };
            let prize = plan.round(won.round).and_then(|r| Some(&r.prizes[r.position(won.prize)?]));
            let district = self.evidence.districts.get(&won.user).copied().unwrap_or_default();
            if prize.is_some_and(|prize| !plan.can_be_won_in(prize, district)) {
                broken.push(format!(
                    "award {} was won in district {district}, outside of its regions",
                    won.award
                ));
            }
        }
        broken.into_iter().for_each(|what| self.broken(1, what));
    }

    /// Law 1: the record names the plan whose odds picked, and the pick follows from it.
    pub fn picks(&mut self) {
        let plans: BTreeMap<SeqNo, &Plan> = self.evidence.versions().map(|p| (p.seq_no, p)).collect();
        let mut broken = Vec::new();
        for won in self.log.awards.values().map(|a| &a.won) {
            let Some(round) = plans.get(&won.seq_no).and_then(|p| p.round(won.round)) else { continue };
            let Some(at) = round.position(won.prize) else { continue };
            let keys = seed_key().round_seed(CAMPAIGN, won.round).keys();
            let (n, start) =
                (round.prizes.len(), round.pick(keys.pick(won.user, won.counter, u32::from(won.try_no))));
            let passed = (0..n).map(|i| (start + i) % n).take_while(|p| *p != at);
            if passed.fold(0u64, |bits, p| bits | 1 << p) != won.held {
                let (award, seq_no) = (won.award, won.seq_no);
                broken.push(format!("award {award} was not picked by the weights of SeqNo {seq_no}"));
            }
        }
        broken.into_iter().for_each(|what| self.broken(1, what));
    }

    /// Law 6: nothing is locked in the end, and of a prize for which enough players came nothing is left. Gives the number
    /// of rounds with such a prize.
    pub fn stranded(&mut self) -> u64 {
        let (mut broken, mut full) = (Vec::new(), 0);
        for (key, row) in &self.evidence.ledger.prizes {
            if row.leased != 0 {
                broken.push(format!("{key}: {} units are locked in leases that nobody closes", row.leased));
            }
        }
        for round in &self.evidence.plan().rounds {
            let enough = self.prizes_with_players(round);
            full += u64::from(!enough.is_empty());
            for row in self.evidence.ledger.prizes.values().filter(|row| row.key.round == round.id) {
                let left = row.available();
                if left > 0 && !row.paused && enough.contains(&row.key.prize) {
                    let key = row.key;
                    broken.push(format!("{key}: {left} units are left, though enough players came"));
                }
            }
        }
        broken.into_iter().for_each(|what| self.broken(6, what));
        full
    }

    /// Was the end of the round calm, and did enough players come until its end for each of its prizes?
    pub fn is_full(&self, round: &Round) -> bool {
        self.prizes_with_players(round).len() == round.prizes.len()
    }

    /// Prizes of a round with a calm end for which enough players came until its end.
    fn prizes_with_players(&self, round: &Round) -> Vec<PrizeId> {
        if !self.evidence.calm_rounds.contains(&round.id) {
            return Vec::new();
        }
        let prizes = round.prizes.iter();
        let enough = |p: &&Prize| [TAIL_MS, 1_000].iter().all(|ms| self.enough_players(round, p, *ms));
        prizes.filter(enough).map(|p| p.id).collect()
    }

    /// Did so many entries that could have won the prize come in the last `tail_ms` of a round, for the units left then:
    /// its own, and of the others as many as those who came could have won instead?
    fn enough_players(&self, round: &Round, prize: &Prize, tail_ms: u64) -> bool {
        let from_ms = round.close_ms - tail_ms;
        let entries = self.entries(round.id);
        let in_tail = |at_ms: u64| (from_ms..round.close_ms).contains(&at_ms);
        let tail: Vec<UserId> =
            entries.iter().filter(|(_, at)| in_tail(**at)).map(|((user, _), _)| *user).collect();
        let plan = self.evidence.plan();
        let came = |prize: &Prize| {
            let district = |user: &UserId| self.evidence.districts.get(user).copied().unwrap_or_default();
            tail.iter().filter(|user| plan.can_be_won_in(prize, district(user))).count() as u64
        };
        let left = |prize: &Prize| {
            let row = self.evidence.ledger.prizes.get(&key_of(round.id, prize.id));
            let given =
                |a: &&Award| a.won.round == round.id && a.won.prize == prize.id && a.won.time_ms < from_ms;
            let given = self.log.awards.values().filter(given).count() as u64;
            row.filter(|row| !row.paused).map_or(0, |row| row.budget().saturating_sub(given))
        };
        let others = round.prizes.iter().filter(|other| other.id != prize.id);
        let units = left(prize) + others.map(|other| left(other).min(came(other))).sum::<u64>();
        came(prize) >= ENTRIES_PER_UNIT * units
    }

    /// When each draw of a round was made, ms UTC: a loss, when it was heard of first; a win says it itself. Whoever
    /// can win no more makes no draw, and one that is told again is one.
    fn entries(&self, round: RoundId) -> BTreeMap<(UserId, u32), u64> {
        let mut entries = BTreeMap::new();
        for told in self.evidence.told.iter().filter(|t| t.round == round) {
            let won = told.won.and_then(|(id, ..)| self.log.awards.get(&id));
            let at_ms = won.map_or(told.at_ms, |award| award.won.time_ms);
            entries.entry((told.user, told.counter)).or_insert(at_ms);
        }
        entries
    }
}

/// A prize of the campaign.
pub(super) fn key_of(round: RoundId, prize: PrizeId) -> PrizeKey {
    PrizeKey { campaign: CAMPAIGN, round, prize }
}

impl super::Evidence<'_> {
    /// May the award have lapsed: it waits for a claim, its term is over, and no claim was taken in time?
    fn may_lapse(&self, id: AwardId, row: &delivery::core::OrderRow) -> bool {
        let waits = self.stored.get(&id).is_some_and(|s| s.row.order == OrderKind::OnClaim);
        waits && row.lapse_ms != 0 && !self.claimed.contains_key(&id)
    }
}
