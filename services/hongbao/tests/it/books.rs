//! What the records of a stopped platform say, read without it: the laws that players can't check.

use crate::platform::{CAMPAIGN, Place};
use crate::players::{Draw, Won};
use crate::vendor::Vendor;
use campaign::CampaignId;
use flowlog::{LogKind, LogOptions, LogReader, Position, RealDisk};
use lottery::ledger::{QuotaLedger, SqlLedger};
use records::{Record, RecordKind, kind_of};
use runtime::SystemClock;
use std::collections::{BTreeMap, BTreeSet};
use storage::{Sql, SqlOptions};

/// The node's number in the default configuration.
const NODE: u16 = 1;

/// `wins_per_round` of the crowd's campaign.
const WINS_MAX: usize = 150;

/// Every win in the flow log, by draw.
fn wins(place: &Place) -> BTreeMap<Draw, records::Won> {
    let dir = place.data().join("lottery/log");
    let options = LogOptions::new(LogKind::FLOW, NODE);
    let mut reader = LogReader::new(RealDisk, &dir, &options, Position::ZERO);
    let (mut wins, mut last_epoch) = (BTreeMap::new(), 0);
    while let Some(group) = reader.next_group(Position::MAX).unwrap() {
        assert!(group.epoch() >= last_epoch, "epochs only rise");
        last_epoch = group.epoch();
        for record in group.records() {
            if kind_of(record).unwrap() == RecordKind::Won {
                let won = records::Won::decode(record).unwrap();
                let draw = (won.user.0, won.counter);
                let before = wins.insert(draw, won);
                assert!(before.is_none(), "draw {draw:?} won twice: {before:?}");
            }
        }
    }
    wins
}

/// Checks the laws on what a stopped platform has left behind.
#[track_caller]
pub fn check(place: &Place, told: &BTreeMap<Draw, Won>, vendor: &Vendor) {
    check_within(place, told, vendor, WINS_MAX);
}

/// As [`check`], with another limit of wins for each user.
#[track_caller]
pub fn check_within(place: &Place, told: &BTreeMap<Draw, Won>, vendor: &Vendor, wins_max: usize) {
    let wins = wins(place);
    for (draw, said) in told {
        let Some(won) = wins.get(draw) else { panic!("{draw:?} was told {said:?}; the log has nothing") };
        let logged = Won { award: won.award.to_string(), prize: won.prize.0.into(), fen: won.fen.0 };
        assert_eq!(&logged, said, "{draw:?}");
    }
    let units: BTreeSet<_> = wins.values().map(|w| (w.round, w.prize, w.unit)).collect();
    assert_eq!(units.len(), wins.len(), "a unit was given twice");
    let awards: BTreeMap<String, i64> = wins.values().map(|w| (w.award.to_string(), w.fen.0)).collect();
    assert_eq!(awards.len(), wins.len(), "an award id was given twice");
    for (award, fen) in vendor.paid() {
        assert_eq!(awards.get(&award), Some(&fen), "{award} was paid");
    }
    vendor.check();
    let mut each: BTreeMap<u64, usize> = BTreeMap::new();
    wins.keys().for_each(|(user, _)| *each.entry(*user).or_default() += 1);
    assert!(each.values().all(|n| *n <= wins_max), "over a limit: {each:?}");
    check_ledger(place, &wins);
}

/// The ledger counts what the log holds, and a stopped node holds nothing.
#[track_caller]
fn check_ledger(place: &Place, wins: &BTreeMap<Draw, records::Won>) {
    let path = place.data().join("ledger.db");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prizes = tokio.block_on(async {
        let sql = Sql::open(&path, SqlOptions::patient()).await.unwrap();
        let ledger = SqlLedger::open(sql, SystemClock::shared()).await.unwrap();
        ledger.prizes(CampaignId(CAMPAIGN)).await.unwrap()
    });
    assert!(!prizes.is_empty());
    for report in prizes {
        let (round, prize) = (report.prize.round, report.prize.prize);
        let awarded = wins.values().filter(|w| (w.round, w.prize) == (round, prize)).count() as u64;
        assert_eq!((report.used, report.leased), (awarded, 0), "{}", report.prize);
        assert!(awarded <= report.released, "{}: more than was released", report.prize);
    }
}
