use crate::core::lease::tests::got;
use crate::core::tests_support::{TestLog, core, plan, seed_key};
use crate::core::{Core, NoWin, Now};
use crate::grey::{GreyRefused, takes};
use campaign::{
    CampaignId, DistrictRange, Fen, Limits, MacKey, MacKeys, Plan, PrizeId, Region, Regions, SeqNo, UserId,
};
use proptest::prelude::*;
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use records::Won;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

const LIMITS: Limits = Limits {
    wins_round: 2,
    wins_day: 0,
    wins_campaign: 0,
    participation_ms: 0,
    interval_ms: 1_000,
    shakes_per_second: 3,
};

struct World {
    core: Core,
    log: Arc<TestLog>,
    inbox: Arc<Inbox>,
}

impl World {
    fn new(plan: Plan) -> World {
        let (core, log) = core(plan);
        World { core, log, inbox: Arc::new(Inbox::new()) }
    }

    fn lease(&self, lease: u64, prize: u32, first: u64, count: u64) {
        let pool = self.core.campaigns().get(1).unwrap().round(campaign::RoundId(1)).unwrap().pool.clone();
        assert!(pool.install(&got(lease, prize, &[(first, count, 1000, count as u32, 1)]), 0));
    }

    fn submit(&self, ms: u64, user: u64, counter: u32) -> Option<SubmitReply> {
        self.submit_from(ms, user, counter, 4)
    }

    fn submit_from(&self, ms: u64, user: u64, counter: u32, district: u32) -> Option<SubmitReply> {
        let call = SubmitCall { tag: 9, user, campaign: 1, round: 1, counter, shakes: 3, district };
        let mut out = Vec::new();
        self.core.submit(Now { ms, may_win: true }, &[call], &self.inbox, &mut out);
        out.pop()
    }

    fn told(&self) -> Vec<SubmitReply> {
        let mut out = Vec::new();
        self.inbox.take(&mut out, Waker::noop());
        out
    }
}

#[test]
fn a_win_is_told_when_it_is_durable_and_a_resend_hears_the_same() {
    let w = World::new(plan(LIMITS, &[(5, 1, 10)]));
    w.lease(1, 5, 3, 1);
    assert_eq!(w.submit(100_200, 42, 1), None, "nothing is said before the log is durable");
    assert_eq!(w.submit(100_201, 42, 1).unwrap().outcome, Outcome::Pending);
    assert!(w.told().is_empty());
    w.log.acknowledge_all();
    let told = w.told();
    assert_eq!((told.len(), told[0].outcome, told[0].counter, told[0].next_counter), (1, Outcome::Won, 1, 2));
    let again = w.submit(100_300, 42, 1).unwrap();
    assert_eq!((again.outcome, again.award), (Outcome::Won, told[0].award.clone()));
    let (won, _) = &w.log.wins.lock()[0];
    assert_eq!((won.unit, won.fen, won.district, won.day, won.try_no, won.held), (3, Fen(100), 4, 0, 1, 0));
    let keys = MacKeys::new(vec![MacKey { id: 1, key: [2; 32] }]).unwrap();
    assert!(keys.verify(won.mac_key, &won.facts(), &won.mac));
    assert_eq!(w.submit(101_200, 42, 2).unwrap().outcome, Outcome::Lost, "nothing is left");
    assert_eq!(w.submit(101_201, 42, 2).unwrap().outcome, Outcome::Lost);
    assert_eq!(w.submit(101_201, 42, 3).unwrap().outcome, Outcome::TooEarly);
    assert_eq!(w.submit(101_201, 42, 9).unwrap().outcome, Outcome::BadCounter);
    assert_eq!(w.submit(161_000, 42, 1).unwrap().outcome, Outcome::Won, "told behind the round's end too");
    let late = w.submit(161_000, 42, 2).unwrap();
    assert_eq!((late.outcome, late.until_ms), (Outcome::NotOpen, 0));
}

#[test]
fn a_full_disk_refuses_wins_and_uses_nothing_up() {
    let w = World::new(plan(LIMITS, &[(5, 1, 10)]));
    w.lease(1, 5, 0, 2);
    *w.log.refuse.lock() = Some(NoWin::Full);
    let r = w.submit(100_200, 7, 1).unwrap();
    assert_eq!((r.outcome, r.next_counter), (Outcome::Unavailable, 1));
    *w.log.refuse.lock() = Some(NoWin::TooManyPending);
    assert_eq!(w.submit(100_200, 8, 1).unwrap().outcome, Outcome::Lost);
    *w.log.refuse.lock() = None;
    assert_eq!(w.submit(100_200, 7, 1), None, "the same counter, and the unit is still there");
    assert_eq!((w.core.tally().wins, w.log.wins.lock().len()), (1, 1));
}

#[test]
fn who_may_not_win_does_not() {
    let w = World::new(plan(LIMITS, &[(5, 1, 10)]));
    w.lease(1, 5, 0, 9);
    let call = SubmitCall { user: 1, campaign: 1, round: 1, counter: 1, shakes: 1, ..SubmitCall::default() };
    let mut out = Vec::new();
    w.core.submit(Now { ms: 100_500, may_win: false }, &[call], &w.inbox, &mut out);
    w.core.submit(
        Now { ms: 100_500, may_win: true },
        &[SubmitCall { campaign: 9, ..call }],
        &w.inbox,
        &mut out,
    );
    w.core.submit(Now { ms: 99_000, may_win: true }, &[call], &w.inbox, &mut out);
    let outcomes: Vec<_> = out.iter().map(|r| (r.outcome, r.until_ms)).collect();
    assert_eq!(outcomes, [(Outcome::Lost, 0), (Outcome::UnknownCampaign, 0), (Outcome::NotOpen, 100_000)]);
    w.core.begin_loading(hashring::bucket_of(1).index());
    assert_eq!(w.submit(105_000, 1, 2).unwrap().outcome, Outcome::Pending);
}

#[test]
fn what_was_read_back_holds_limits_and_resends() {
    let w = World::new(plan(LIMITS, &[(5, 1, 10)]));
    w.lease(1, 5, 0, 9);
    assert_eq!(w.submit(100_200, 77, 1), None);
    assert_eq!(w.submit(101_200, 77, 2), None);
    w.log.acknowledge_all();
    let bucket = hashring::bucket_of(77).index();
    let (wins, newest) = w.core.wins(bucket).unwrap();
    assert_eq!((wins.len(), newest), (2, 2));
    let (again, _log) = core(plan(LIMITS, &[(5, 1, 10)]));
    again.load(bucket, wins.iter().rev().chain(&wins).copied());
    let w2 = World { core: again, log: w.log.clone(), inbox: w.inbox.clone() };
    assert_eq!(w2.submit(103_200, 77, 3).unwrap().outcome, Outcome::LimitReached);
    assert_eq!(w2.submit(103_200, 77, 1).unwrap().award, w.told()[0].award);
    assert_eq!(w2.submit(103_200, 77, 2).unwrap().outcome, Outcome::Won);
}

/// A plan beside the active one: its users draw under its odds and limits from the same leases, and say so.
#[test]
fn a_grey_plan_is_for_its_users_alone() {
    let active = plan(LIMITS, &[(1, 1, 400), (2, 0, 400)]);
    let mut grey = plan(Limits { wins_round: 1, ..LIMITS }, &[(1, 0, 400), (2, 1, 400)]);
    grey.seq_no = SeqNo(2);
    let w = World::new(active.clone());
    w.lease(1, 1, 0, 300);
    w.lease(2, 2, 0, 300);
    let id = CampaignId(1);
    assert_eq!(w.core.apply_grey(None, CampaignId(7), 0), Err(GreyRefused::NoActive(CampaignId(7))));
    let grey = Arc::new(grey);
    assert_eq!(w.core.apply_grey(Some(grey.clone()), id, 1001), Err(GreyRefused::Share(1001)));
    assert_eq!(w.core.apply_grey(Some(grey.clone()), id, 300), Ok(true));
    assert_eq!(w.core.apply_grey(Some(grey.clone()), id, 300), Ok(false));
    (1..200).for_each(|user| assert_eq!(w.submit(100_200, user, 1), None));
    (1..200).for_each(|user| {
        let limited = w.submit(101_300, user, 2).map(|r| r.outcome) == Some(Outcome::LimitReached);
        assert_eq!(limited, takes(user, id, 300), "user {user}");
    });
    let told = |won: &Won| (won.seq_no, won.prize);
    for (won, _) in w.log.wins.lock().iter() {
        let tried = takes(won.user.0, id, 300);
        let want = if tried { (SeqNo(2), PrizeId(2)) } else { (SeqNo(1), PrizeId(1)) };
        assert_eq!(told(won), want, "user {}", won.user);
        assert_eq!(won.held, 0);
    }
    // A pause takes the grey plan along, a raise ends it.
    let mut next = active.clone();
    next.seq_no = SeqNo(3);
    next.rounds[0].prizes[0].paused = true;
    assert_eq!(w.core.apply(Arc::new(next.clone())), Ok(true));
    let out = |w: &World| w.core.campaigns().get(1).unwrap().grey().map(|(plan, users)| (plan.seq_no, users));
    assert_eq!(out(&w), Some((SeqNo(2), 300)));
    assert_eq!(w.core.apply_grey(Some(grey.clone()), id, 0), Ok(true));
    assert_eq!(out(&w), None);
    assert_eq!(w.core.apply_grey(Some(grey), id, 1000), Ok(true));
    let mut more = next.rounds[0].prizes[0].tranches[0];
    (more.first, next.seq_no) = (400, SeqNo(4));
    next.rounds[0].prizes[0].tranches.push(more);
    assert_eq!(w.core.apply(Arc::new(next)), Ok(true));
    assert_eq!(out(&w), None);
    w.submit(105_000, 500, 1);
    assert_eq!(w.log.wins.lock().last().map(|(won, _)| won.seq_no), Some(SeqNo(4)));
}

/// Plans come one after the other while threads draw: no unit twice, and each win is of a plan that had its unit.
#[test]
fn plans_change_while_threads_draw() {
    let w = World::new(plan(LIMITS, &[(1, 1, 3_000), (2, 1, 3_000)]));
    w.lease(1, 1, 0, 1_000);
    w.lease(2, 2, 0, 1_000);
    std::thread::scope(|scope| {
        for t in 0..2u64 {
            let w = &w;
            scope.spawn(move || (1..4_000).for_each(|user| drop(w.submit(100_200, user * 2 + t, 1))));
        }
        for n in 2..40 {
            let mut next = plan(LIMITS, &[(2, n % 5, 3_000), (1, 1 + n % 3, 3_000)]);
            next.seq_no = SeqNo(u64::from(n));
            if n.is_multiple_of(2) {
                next.rounds[0].prizes.reverse();
            }
            assert_eq!(w.core.apply(Arc::new(next)), Ok(true));
            std::thread::yield_now();
        }
    });
    let wins = w.log.wins.lock();
    let units: BTreeSet<_> = wins.iter().map(|(x, _)| (x.prize, x.unit)).collect();
    assert_eq!((units.len(), wins.len()), (2_000, 2_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whoever asks what, in whatever order, with resends: no unit twice, no limit passed, one outcome a draw
    /// id, and the pick follows from the seed.
    #[test]
    fn laws_of_the_draw(calls in prop::collection::vec((1u64..12, 0u32..6, 0u64..1500), 1..300), weights in prop::collection::vec(0u32..5, 3)) {
        let w = World::new(plan(LIMITS, &[(1, weights[0], 20), (2, weights[1], 20), (3, weights[2], 20)]));
        for p in 1..=3 { w.lease(u64::from(p), p, 0, 4); }
        let (mut ms, mut outcomes) = (100_100, BTreeMap::new());
        for (n, (user, counter, dt)) in calls.into_iter().enumerate() {
            ms += dt / 4;
            let reply = w.submit(ms, user, counter);
            if n % 3 == 0 { w.log.acknowledge_all(); }
            match reply.map(|r| (r.outcome, r.award)) {
                Some((Outcome::Lost, _)) => { let before = outcomes.entry((user, counter)).or_insert(None::<String>).clone(); prop_assert_eq!(before, None); }
                Some((Outcome::Won, award)) => {
                    let id = award.map(|a| a.award);
                    let before = outcomes.entry((user, counter)).or_insert(id.clone()).clone();
                    prop_assert_eq!(before, id);
                }
                _ => {}
            }
        }
        w.log.acknowledge_all();
        let wins = w.log.wins.lock();
        let units: BTreeSet<_> = wins.iter().map(|(x, _)| (x.prize, x.unit)).collect();
        prop_assert_eq!(units.len(), wins.len());
        let ids: BTreeSet<_> = wins.iter().map(|(x, _)| (x.user, x.counter)).collect();
        prop_assert_eq!(ids.len(), wins.len());
        let campaigns = w.core.campaigns();
        let round = &campaigns.get(1).unwrap().plan.rounds[0];
        let keys = seed_key().round_seed(campaign::CampaignId(1), campaign::RoundId(1)).keys();
        for user in 1..12 {
            prop_assert!(wins.iter().filter(|(x, _)| x.user == UserId(user)).count() <= 2);
        }
        for (x, _) in wins.iter() {
            let start = round.pick(keys.pick(x.user, x.counter, u32::from(x.try_no)));
            let at = round.position(x.prize).unwrap();
            let passed = (0..3).map(|i| (start + i) % 3).take_while(|p| *p != at).fold(0u64, |b, p| b | 1 << p);
            prop_assert_eq!(x.held, passed);
        }
    }
}

/// Prize 1 only in districts 10 to 19, prize 2 everywhere; or prize 1 alone.
fn limited(prizes: &[(u32, u32, u64)]) -> Plan {
    let mut plan = plan(LIMITS, prizes);
    let districts = vec![DistrictRange { first: 10, last: 19 }];
    plan.regions = vec![Region { name: "north".into(), districts }];
    plan.rounds[0].prizes[0].regions = Regions(1);
    plan
}

#[test]
fn whoever_is_elsewhere_loses_and_may_try_again() {
    let w = World::new(limited(&[(1, 1, 10)]));
    w.lease(1, 1, 0, 3);
    for (i, district) in [0, 9, 20, u32::MAX].into_iter().enumerate() {
        let told = w.submit_from(100_200 + 1_000 * i as u64, 42, i as u32 + 1, district).unwrap();
        // An entry as any other: not a limit, of which others would conclude that he can win no more.
        assert_eq!((told.outcome, told.until_ms, told.next_counter), (Outcome::Lost, 0, i as u32 + 2));
    }
    assert_eq!(w.submit_from(104_200, 42, 5, 15), None, "he came home and won");
    let (won, _) = w.log.wins.lock()[0];
    assert_eq!((won.district, won.prize, won.held), (15, PrizeId(1), 0));
    assert_eq!(w.core.tally().draws, 5);
}

#[test]
fn regions_change_with_the_plan_and_a_grey_plan_has_its_own() {
    let w = World::new(limited(&[(1, 1, 10)]));
    w.lease(1, 1, 0, 5);
    let mut grey = limited(&[(1, 1, 10)]);
    grey.seq_no = SeqNo(2);
    grey.regions[0].districts[0] = DistrictRange { first: 30, last: 39 };
    w.core.apply_grey(Some(Arc::new(grey)), CampaignId(1), 500).unwrap();
    let (tries, stays) = (
        (1..).find(|u| takes(*u, CampaignId(1), 500)).unwrap(),
        (1..).find(|u| !takes(*u, CampaignId(1), 500)).unwrap(),
    );
    let lost = |told: Option<SubmitReply>| told.is_some_and(|r| r.outcome == Outcome::Lost);
    assert!(lost(w.submit_from(100_200, tries, 1, 10)) && w.submit_from(101_200, tries, 2, 30).is_none());
    assert!(lost(w.submit_from(100_200, stays, 1, 30)) && w.submit_from(101_200, stays, 2, 10).is_none());
    let mut wider = plan(LIMITS, &[(1, 1, 10)]);
    wider.seq_no = SeqNo(3);
    w.core.apply_grey(None, CampaignId(1), 0).unwrap();
    assert!(w.core.apply(Arc::new(wider)).unwrap());
    assert!(w.submit_from(102_200, stays, 3, 0).is_none(), "everywhere now");
}

proptest! {
    /// Nobody wins what is for elsewhere; the record says what was passed over, so that each win can be drawn again
    /// from the seed; and with everybody in the regions all units go out.
    #[test]
    fn prizes_stay_in_their_regions(
        prizes in prop::collection::vec((0u32..4, 1u64..12, 0u64..16), 1..6),
        regions in prop::collection::vec(prop::collection::vec((1u32..12, 0u32..4), 0..3), 4..=4),
        entries in prop::collection::vec((1u64..30, 0u32..16), 1..150),
    ) {
        let rows: Vec<_> = prizes.iter().enumerate().map(|(i, (w, n, _))| (i as u32 + 1, *w, *n)).collect();
        let free = Limits { interval_ms: 1, ..Limits::default() };
        let mut plan = plan(free, &rows);
        let range = |(first, more): &(u32, u32)| DistrictRange { first: *first, last: first + more };
        let region = |ranges: &Vec<_>| Region { name: "r".into(), districts: ranges.iter().map(range).collect() };
        plan.regions = regions.iter().map(region).collect();
        for (prize, (_, _, limited)) in plan.rounds[0].prizes.iter_mut().zip(&prizes) {
            prize.regions = Regions(*limited);
        }
        let w = World::new(plan.clone());
        for (i, (_, units, _)) in prizes.iter().enumerate() {
            w.lease(i as u64 + 1, i as u32 + 1, 0, *units);
        }
        let round = &plan.rounds[0];
        let mut counters: BTreeMap<u64, u32> = BTreeMap::new();
        let mut submit = |user: u64, district: u32, step: usize| {
            let counter = counters.entry(user).or_insert(0);
            *counter += 1;
            w.submit_from(101_000 + 10 * step as u64, user, *counter, district)
        };
        let left = |wins: &[Won], at: usize| round.prizes[at].units() - wins.iter().filter(|w| w.prize == round.prizes[at].id).count() as u64;
        for (step, (user, district)) in entries.iter().enumerate() {
            let before: Vec<Won> = w.log.wins.lock().iter().map(|(won, _)| *won).collect();
            let told = submit(*user, *district, step);
            let open = |at: usize| plan.can_be_won_in(&round.prizes[at], *district) && left(&before, at) > 0;
            let any = (0..round.prizes.len()).any(open);
            prop_assert_eq!(told.is_none(), any, "whoever can win something that is there wins");
        }
        let keys = seed_key().round_seed(CampaignId(1), round.id).keys();
        let wins: Vec<Won> = w.log.wins.lock().iter().map(|(won, _)| *won).collect();
        for (i, won) in wins.iter().enumerate() {
            let (at, count) = (round.position(won.prize).unwrap(), round.prizes.len());
            prop_assert!(plan.can_be_won_in(&round.prizes[at], won.district));
            let start = round.pick(keys.pick(won.user, won.counter, u32::from(won.try_no)));
            let passed: Vec<usize> = (0..count).map(|n| (start + n) % count).take_while(|p| *p != at).collect();
            prop_assert_eq!(won.held, passed.iter().fold(0u64, |bits, p| bits | 1 << p));
            for p in passed {
                let elsewhere = !plan.can_be_won_in(&round.prizes[p], won.district);
                prop_assert!(elsewhere || left(&wins[..i], p) == 0, "held back for no reason");
            }
        }
        // Somebody from every district that a prize is for comes often enough: nothing that can be won stays.
        let total: u64 = prizes.iter().map(|p| p.1).sum();
        for n in 0..total * 16 {
            submit(1_000 + n, (n % 16) as u32, 200 + n as usize);
        }
        let wins: Vec<Won> = w.log.wins.lock().iter().map(|(won, _)| *won).collect();
        for (at, prize) in round.prizes.iter().enumerate() {
            let can = (0..16).any(|district| plan.can_be_won_in(prize, district));
            prop_assert_eq!(left(&wins, at), if can { 0 } else { prize.units() });
        }
    }
}
