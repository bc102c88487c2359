use crate::world::{CAMPAIGN, Late, World, at_some_pace, config, district_of, plan, play, timely};
use campaign::{CampaignId, DistrictRange, Region, Regions, RoundId, RoundSeed, SeedKey, SeqNo, UnitAmounts};
use flowlog::{LogReader, Position, RealDisk};
use lottery::grey::{Grey, takes};
use lottery::ledger::QuotaLedger;
use records::{Record, RecordKind, Won, kind_of};
use runtime::{Clock, SystemClock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Every win in the log, by draw id.
fn wins_in_log(dir: &Path) -> BTreeMap<(u64, u32), Won> {
    let config = config(dir);
    let mut reader = LogReader::new(RealDisk, &config.dir.join("log"), &config.log.unwrap(), Position::ZERO);
    let mut wins = BTreeMap::new();
    while let Some(group) = reader.next_group(Position::MAX).unwrap() {
        for record in group.records() {
            if kind_of(record).unwrap() == RecordKind::Won {
                let won = Won::decode(record).unwrap();
                assert!(wins.insert((won.user.0, won.counter), won).is_none(), "a draw id won twice");
            }
        }
    }
    wins
}

/// Checks the laws; whether everything was given out.
async fn check_books(dir: &Path, ledger: &Arc<dyn QuotaLedger>, units: u64) -> bool {
    let wins = wins_in_log(dir);
    let given: BTreeSet<_> = wins.values().map(|w| (w.prize, w.unit)).collect();
    assert_eq!(given.len(), wins.len(), "a unit was given twice");
    let plan = plan(0, 10_000, units);
    let keys = RoundSeed(
        campaign::SeedKey { id: 1, key: [3; 32] }.round_seed(CampaignId(1), campaign::RoundId(1)).0,
    )
    .keys();
    for prize in &plan.rounds[0].prizes {
        let mut amounts = UnitAmounts::new(prize.id.0, prize.tranches.clone());
        for won in wins.values().filter(|w| w.prize == prize.id) {
            assert_eq!(amounts.amount(&keys, won.unit), Some(won.fen));
        }
    }
    let mut all_out = true;
    for report in ledger.prizes(CampaignId(CAMPAIGN)).await.unwrap() {
        let used = wins.values().filter(|w| w.prize == report.prize.prize).count() as u64;
        assert_eq!(report.leased, 0, "nothing is locked");
        assert_eq!(report.used, used, "{} in the ledger as in the log", report.prize);
        all_out &= used == units;
    }
    all_out
}

/// The whole life of a node: players win, it is killed in the middle, goes on under a new epoch, and at the end
/// everything has been given out, once, and what players were told is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_goes_on_where_it_was() {
    at_some_pace(a_life).await;
}

async fn a_life(pace: u64) -> Result<(), Late> {
    let dir = tempfile::tempdir().unwrap();
    let (open, units) = (SystemClock.now_ms() + 200 * pace, 300);
    let plan = Arc::new(plan(open, 7_000 * pace, units));

    let world = World::start(dir.path()).await.unwrap();
    assert_eq!(world.recovered.epoch, 1);
    assert!(world.node.apply(plan.clone()).await.unwrap());
    let mut told = play(&world.node, 1..400, open + 2_000 * pace).await;
    let first = told.len();
    world.kill().await;
    timely(first > 20, || format!("players win while the curve runs: {first}"))?;

    let world = World::start(dir.path()).await.unwrap();
    assert_eq!(world.recovered.epoch, 2);
    let settled = world.recovered.settled;
    assert!(world.node.apply(plan.clone()).await.unwrap());
    told.extend(play(&world.node, 1..400, open + 3_000 * pace).await);
    world.stop().await;
    timely(settled > 0, || "open leases of the old epoch were settled".to_owned())?;

    let world = World::start(dir.path()).await.unwrap();
    assert_eq!(
        (world.recovered.epoch, world.recovered.settled),
        (3, 0),
        "a stopped node leaves nothing open"
    );
    let recovered = world.recovered;
    assert!(world.node.apply(plan).await.unwrap());
    told.extend(play(&world.node, 1..400, open + 7_000 * pace).await);
    tokio::time::sleep(std::time::Duration::from_millis(600 * pace)).await;
    let ledger = world.ledger.clone();
    world.stop().await;

    let wins = wins_in_log(dir.path());
    for (draw, award) in &told {
        assert_eq!(&wins[draw].award.to_string(), award, "what a player was told stands in the log");
    }
    for user in 1..400 {
        assert!(wins.keys().filter(|(u, _)| *u == user).count() <= 3, "user {user} won too often");
    }
    let all_out = check_books(dir.path(), &ledger, units).await;
    timely(recovered.snapshot_wins > 0 && recovered.records < 2_000, || format!("{recovered:?}"))?;
    timely(told.len() > first, || format!("{first} before the kill, {} in all", told.len()))?;
    timely(all_out, || format!("{} of {} given out", wins.len(), 2 * units))
}

/// The SeqNos that the log's wins name.
fn seq_nos(dir: &Path) -> BTreeSet<u64> {
    wins_in_log(dir).values().map(|w| w.seq_no.0).collect()
}

/// A grey release on a running node: some draw under it, it goes on over a pause of the active plan, and is withdrawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grey_release_comes_and_goes() {
    at_some_pace(a_release).await;
}

async fn a_release(pace: u64) -> Result<(), Late> {
    let dir = tempfile::tempdir().unwrap();
    let open = SystemClock.now_ms() + 100 * pace;
    let world = World::start(dir.path()).await.unwrap();
    let active = plan(open, 7_000 * pace, 500);
    let version = |seq_no: u64, edit: fn(&mut campaign::Plan)| {
        let mut plan = active.clone();
        plan.seq_no = SeqNo(seq_no);
        edit(&mut plan);
        Arc::new(plan)
    };
    assert!(world.node.apply(Arc::new(active.clone())).await.unwrap());
    let grey = version(2, |p| p.rounds[0].prizes[0].weight = 90);
    let out = Grey::to_users(grey.clone(), 500);
    assert!(world.node.apply_grey(Arc::new(active.clone()), Some(out.clone())).await.unwrap());
    assert!(!world.node.apply_grey(Arc::new(active.clone()), Some(out)).await.unwrap(), "as it was");
    let wrong = version(3, |p| p.rounds[0].prizes[0].catch_up_percent = 500);
    let refused = world.node.apply_grey(Arc::new(active.clone()), Some(Grey::to_users(wrong, 10))).await;
    assert!(refused.unwrap_err().to_string().contains("round 1, prize 1: another catch-up speed"));
    play(&world.node, 1..300, open + 1_500 * pace).await;
    let stopped = version(3, |p| p.rounds[0].prizes[1].paused = true);
    assert!(world.node.apply(stopped.clone()).await.unwrap());
    let grey_seq_no = || {
        let campaigns = world.node.core().campaigns();
        campaigns.get(CAMPAIGN).and_then(|c| c.grey().map(|(plan, _)| plan.seq_no))
    };
    assert_eq!(grey_seq_no(), Some(SeqNo(2)), "a pause takes it along");
    let paused = world.ledger.prizes(CampaignId(CAMPAIGN)).await.unwrap()[1].paused;
    assert!(paused, "the ledger was told the pause with the blended speeds");
    play(&world.node, 300..600, open + 2_500 * pace).await;
    let seen = seq_nos(dir.path());
    let withdrawn = version(4, |_| {});
    assert!(world.node.apply_grey(withdrawn, None).await.unwrap());
    assert_eq!(grey_seq_no(), None);
    play(&world.node, 600..900, open + 3_500 * pace).await;
    world.stop().await;
    let wins = wins_in_log(dir.path());
    let last: BTreeSet<u64> = wins.values().filter(|w| w.user.0 >= 600).map(|w| w.seq_no.0).collect();
    assert!(last.iter().all(|n| *n == 4), "nobody draws under it any more: {last:?}");
    for won in wins.values().filter(|w| w.user.0 < 600) {
        assert_eq!(won.seq_no == SeqNo(2), takes(won.user.0, CampaignId(CAMPAIGN), 500), "user {}", won.user);
    }
    timely(seen == BTreeSet::from([1, 2, 3]) && !last.is_empty(), || format!("{seen:?}, and then {last:?}"))
}

/// A prize for some regions on a whole node: only those who are there win it, all others win what is for everybody, and
/// the log shows both to whoever draws again from the seed. Then its regions change while the round runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prize_for_some_regions_stays_there() {
    let dir = tempfile::tempdir().unwrap();
    let (open, units, length_ms) = (SystemClock.now_ms() + 100, 3_000, 60_000);
    let world = World::start(dir.path()).await.unwrap();
    let limited = |seq_no: u64, first: u32, last: u32| {
        let mut plan = plan(open, length_ms, units);
        plan.seq_no = SeqNo(seq_no);
        plan.regions = vec![Region { name: "north".into(), districts: vec![DistrictRange { first, last }] }];
        plan.rounds[0].prizes[0].regions = Regions(1);
        Arc::new(plan)
    };
    let plans = [limited(1, 1, 2), limited(2, 3, 9)];
    let mut next_user = 1;
    for plan in &plans {
        assert!(world.node.apply(plan.clone()).await.unwrap());
        // Until somebody has won the prize, and somebody from elsewhere another one that he got in its place.
        loop {
            let wins = wins_in_log(dir.path());
            let mine = || wins.values().filter(|w| w.seq_no == plan.seq_no);
            let cash = &plan.rounds[0].prizes[0];
            let elsewhere = |w: &Won| w.held == 1 && !plan.can_be_won_in(cash, w.district);
            if mine().any(|w| w.prize == cash.id) && mine().any(elsewhere) {
                break;
            }
            assert!(SystemClock.now_ms() < open + length_ms - 3_000, "nobody won: {}", wins.len());
            play(&world.node, next_user..next_user + 200, SystemClock.now_ms() + 300).await;
            next_user += 200;
        }
    }
    let ledger = world.ledger.clone();
    world.stop().await;

    let keys = SeedKey { id: 1, key: [3; 32] }.round_seed(CampaignId(CAMPAIGN), RoundId(1)).keys();
    for won in wins_in_log(dir.path()).values() {
        let plan = &plans[won.seq_no.0 as usize - 1];
        let round = &plan.rounds[0];
        let at = round.position(won.prize).unwrap();
        assert_eq!(won.district, district_of(won.user.0));
        assert!(plan.can_be_won_in(&round.prizes[at], won.district), "{won:?}");
        // One pick of two prizes: what was passed is the other one, or nothing.
        let start = round.pick(keys.pick(won.user, won.counter, u32::from(won.try_no)));
        assert_eq!(won.held, if start == at { 0 } else { 1 << start });
    }
    check_books(dir.path(), &ledger, units).await;
}
