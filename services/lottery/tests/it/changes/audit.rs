//! The auditor: lanes, ledger and plans, and the laws between them.

use super::node::Node;
use super::world::{CAMPAIGN, World, district_of, key, seed_key};
use campaign::{Fen, Plan, RoundId, SeqNo, UnitAmounts};
use lottery::grey::takes;
use records::{Ended, Record, RecordKind, Won, kind_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The awards of a lane: a `Won` in front of the end mark of its epoch or a later one.
fn awards(node: &Node) -> Vec<Won> {
    let (mut ended, mut awards) = (0, Vec::new());
    for (epoch, record) in node.records() {
        match kind_of(&record).unwrap() {
            RecordKind::Won if epoch > ended => awards.push(Won::decode(&record).unwrap()),
            RecordKind::Ended => ended = ended.max(Ended::decode(&record).unwrap().epoch.0),
            _ => {}
        }
    }
    awards
}

impl World {
    fn awards(&self) -> Vec<Won> {
        self.nodes.iter().flat_map(awards).collect()
    }

    /// Everything that was ever planned.
    fn newest(&self) -> &Arc<Plan> {
        self.versions
            .values()
            .max_by_key(|p| p.rounds[0].prizes.iter().map(|p| p.units()).sum::<u64>())
            .unwrap()
    }

    /// Laws 1 and 7, at any moment.
    pub async fn audit(&self) {
        let wins = self.awards();
        let keys = seed_key().round_seed(CAMPAIGN, RoundId(1)).keys();
        let newest = self.newest();
        for prize in &newest.rounds[0].prizes {
            let report = self.report(prize.id.0).await;
            let stopped = self.active.rounds[0].prizes.iter().any(|p| p.id == prize.id && p.paused);
            assert!(report.paused || !stopped, "prize {} was stopped and runs", prize.id);
            let mine: Vec<&Won> = wins.iter().filter(|w| w.prize == prize.id).collect();
            let units: BTreeSet<u64> = mine.iter().map(|w| w.unit).collect();
            assert_eq!(units.len(), mine.len(), "a unit of prize {} was given twice", prize.id);
            assert!(mine.len() as u64 <= report.budget, "{} of {} units", mine.len(), report.budget);
            assert!(report.leased + report.used <= report.budget, "granted above the budget");
            for unit in &units {
                let free = [&report.fresh, &report.returned, &report.cancelled];
                assert!(!free.iter().any(|set| set.contains(*unit)), "unit {unit} was awarded and is free");
                assert!(*unit < report.made);
            }
            let mut amounts = UnitAmounts::new(prize.id.0, prize.tranches.clone());
            let mut amount = |unit: u64| amounts.amount(&keys, unit).expect("a unit of the newest plan");
            let awarded: Fen = mine.iter().map(|w| w.fen).sum();
            assert!(mine.iter().all(|w| amount(w.unit) == w.fen));
            let budget: Fen = (0..report.made).filter(|u| !report.cancelled.contains(*u)).map(amount).sum();
            assert!(awarded <= budget, "prize {}: {awarded:?} of {budget:?}", prize.id);
        }
    }

    /// Laws 2, 5, 6 and 7 when the round is over; and that each win can be drawn again from its record.
    pub async fn audit_end(&self) {
        let wins = self.awards();
        for prize in 1..4 {
            let r = self.report(prize).await;
            let used = wins.iter().filter(|w| w.prize == r.prize.prize).count() as u64;
            assert_eq!((r.leased, r.used), (0, used), "nothing is locked, and what was used was awarded");
            assert_eq!(r.budget, r.used + r.fresh.len() + r.returned.len());
            let planned = &self.active.rounds[0].prizes[prize as usize - 1];
            assert_eq!(
                (r.made, r.paused),
                (planned.units(), planned.paused),
                "the ledger is as the newest version"
            );
            assert!(r.paused || r.used == r.budget, "prize {prize}: {} of {} given out", r.used, r.budget);
        }
        for node in &self.nodes {
            assert_eq!(self.ledger.open_leases(node.id).await.unwrap(), []);
            for (draw, award) in &node.told {
                let stands =
                    wins.iter().any(|w| (w.user.0, w.counter) == *draw && w.award.to_string() == *award);
                assert!(stands, "draw {draw:?} was told {award}, which is not in the lane");
            }
        }
        self.limits(&wins);
        wins.iter().for_each(|won| self.draw_again(won));
    }

    /// No win above the limit of the plan that it was drawn under.
    fn limits(&self, wins: &[Won]) {
        let mut of_user: BTreeMap<u64, Vec<&Won>> = BTreeMap::new();
        wins.iter().for_each(|w| of_user.entry(w.user.0).or_default().push(w));
        for (user, mut wins) in of_user {
            wins.sort_by_key(|w| w.counter);
            for (before, won) in wins.iter().enumerate() {
                let limit = self.plan(won.seq_no).limits.wins_round;
                assert!(before < usize::from(limit), "user {user} had {before} wins, the limit was {limit}");
                assert!(before == 0 || wins[before - 1].counter < won.counter, "a draw won twice");
            }
        }
    }

    fn plan(&self, seq_no: SeqNo) -> &Plan {
        &self.versions[&seq_no]
    }

    /// The record names the plan whose weights picked, and the pick follows from it; its regions let the win be.
    fn draw_again(&self, won: &Won) {
        let plan = self.plan(won.seq_no);
        let round = &plan.rounds[0];
        let keys = seed_key().round_seed(CAMPAIGN, RoundId(1)).keys();
        let start = round.pick(keys.pick(won.user, won.counter, u32::from(won.try_no)));
        let at = round.position(won.prize).unwrap();
        let passed = (0..3).map(|i| (start + i) % 3).take_while(|p| *p != at).fold(0u64, |b, p| b | 1 << p);
        assert_eq!(won.held, passed, "the pick of {won:?}");
        assert_eq!(won.district, district_of(won.user.0));
        assert!(plan.can_be_won_in(&round.prizes[at], won.district), "won outside of its regions: {won:?}");
        assert!(won.unit < round.prizes[at].units(), "a unit that the plan of the win does not have");
        if let Some(share) = self.greys.get(&won.seq_no) {
            assert!(takes(won.user.0, CAMPAIGN, *share), "user {} drew under a grey plan", won.user);
        }
        assert_eq!(key(won.prize.0).round, won.round);
    }
}
