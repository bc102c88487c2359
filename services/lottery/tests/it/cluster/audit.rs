//! The auditor of a cluster: lanes, ledger and what players were told, and the laws between them.

use super::flow::{Awarded, awards};
use campaign::{CampaignId, Plan, RoundSeed, UnitAmounts};
use lottery::ledger::QuotaLedger;
use queue::lanes::memory::MemoryLanes;
use std::collections::{BTreeMap, BTreeSet};

/// What players heard: (user, counter) -> award.
pub type Told = BTreeMap<(u64, u32), String>;

/// Laws 1, 2 and 5, at any moment, and that no draw id won twice.
pub fn audit(lanes: &MemoryLanes, nodes: u16, plan: &Plan, seed: RoundSeed, told: &Told) -> Vec<Awarded> {
    let wins = awards(lanes, nodes);
    let keys = seed.keys();
    for prize in &plan.rounds[0].prizes {
        let of: Vec<&Awarded> = wins.iter().filter(|w| w.won.prize == prize.id).collect();
        let units: BTreeSet<u64> = of.iter().map(|w| w.won.unit).collect();
        assert_eq!(units.len(), of.len(), "a unit of prize {} was given twice", prize.id.0);
        assert!(of.len() as u64 <= prize.units(), "law 1: prize {}", prize.id.0);
        let mut amounts = UnitAmounts::new(prize.id.0, prize.tranches.clone());
        let fen: i64 = of.iter().map(|w| w.won.fen.0).sum();
        assert!(fen <= prize.tranches.iter().map(|t| t.fen.0).sum(), "law 1: prize {}", prize.id.0);
        for win in of {
            assert_eq!(amounts.amount(&keys, win.won.unit), Some(win.won.fen));
        }
    }
    let mut by_draw: BTreeMap<(u64, u32), &Awarded> = BTreeMap::new();
    let mut by_user: BTreeMap<u64, u16> = BTreeMap::new();
    for win in &wins {
        let draw = (win.won.user.0, win.won.counter);
        if let Some(other) = by_draw.insert(draw, win) {
            panic!("draw {draw:?} won twice: {other:?} and {win:?}");
        }
        let writer = (win.won.award.node().0, win.won.award.epoch().0);
        assert_eq!(writer, (win.node, win.epoch), "an award's id says who decided it");
        *by_user.entry(win.won.user.0).or_default() += 1;
    }
    let limit = plan.limits.wins_round;
    if let Some((user, count)) = by_user.iter().find(|(_, count)| **count > limit) {
        let own: Vec<&Awarded> = wins.iter().filter(|w| w.won.user.0 == *user).collect();
        panic!("law 5: user {user} won {count} times, at most {limit}: {own:#?}");
    }
    for (draw, award) in told {
        let win = by_draw
            .get(draw)
            .unwrap_or_else(|| panic!("law 2: draw {draw:?} was told {award}, and no lane has it"));
        assert_eq!(&win.won.award.to_string(), award, "law 2: draw {draw:?}");
    }
    wins
}

/// Laws 6 and 7, when nothing moves any more: nothing is locked, the ledger counts what the lanes have, and what is neither
/// is unissued.
pub async fn audit_end(ledger: &dyn QuotaLedger, wins: &[Awarded], plan: &Plan, all_out: bool) {
    for report in ledger.prizes(CampaignId(plan.campaign.0)).await.unwrap() {
        let used = wins.iter().filter(|w| w.won.prize == report.prize.prize).count() as u64;
        assert_eq!(report.leased, 0, "{}: something is locked", report.prize);
        assert_eq!(report.used, used, "{}: the ledger counts what the lanes have", report.prize);
        assert_eq!(
            report.budget,
            report.used + report.fresh.len() + report.returned.len(),
            "{}",
            report.prize
        );
        assert!(
            !all_out || used == report.budget,
            "law 6: {}: {used} of {} given out",
            report.prize,
            report.budget
        );
    }
    assert_eq!(ledger.unsettled().await.unwrap(), vec![], "every epoch that ended is finished with");
}
