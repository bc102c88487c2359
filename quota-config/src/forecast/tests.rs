use super::{Demand, Live, Standing, explain, forecast, forecast_round};
use crate::diff::Diff;
use crate::{CompileOptions, compile};
use campaign::{Plan, PrizeId, SeedKey, SeqNo};
use proptest::prelude::*;

const KEY: SeedKey = SeedKey { id: 7, key: [9; 32] };
const FILE: &str = "\
campaign: 4
name: Evening
time_zone: Asia/Shanghai
vendors:
  - {id: 1, name: Wallet}
  - {id: 2, name: Tea house}
rounds:
  - id: 1
    name: One
    open: 2026-02-16 21:00
    duration: 30m
    prizes:
      - {id: 1, name: Cash, kind: cash, weight: 3, vendor: 1, units: 179700, each: 1}
      - {id: 2, name: Tea, kind: voucher, weight: 1, vendor: 2, units: 1797}
";
/// 21:00 in Shanghai.
const OPEN_MS: u64 = 1_771_246_800_000;

fn plan(text: &str) -> Plan {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: 0, seeds: &KEY, after: None };
    compile(text.as_bytes(), &options).unwrap().plan
}

fn edit(from: &str, to: &str) -> Plan {
    assert!(FILE.contains(from));
    plan(&FILE.replacen(from, to, 1))
}

fn ends(plan: &Plan, demand: &Demand) -> Vec<(u64, Option<u64>)> {
    let forecast = forecast_round(plan, &plan.rounds[0], demand, None);
    forecast.prizes.iter().map(|p| (p.awarded, p.exhausted_ms.map(|ms| (ms - OPEN_MS) / 1000))).collect()
}

#[test]
fn with_players_enough_prizes_end_with_their_curves() {
    assert_eq!(ends(&plan(FILE), &Demand::Unbounded), [(179_700, Some(1797)), (1_797, Some(1797))]);
    let early = edit(
        "units: 1797}",
        "units: 1797, curve: [{at: 0s, share: 0%}, {at: 50%, share: 100%}, {at: end, share: 100%}]}",
    );
    assert_eq!(ends(&early, &Demand::Unbounded)[1], (1_797, Some(898)));
}

#[test]
fn a_speed_limit_leaves_units_over() {
    // 50 a second for half the curve's speed; the last 300 ms grant nothing.
    let slow = edit("each: 1}", "each: 1, speed_max: 50}");
    let ends = ends(&slow, &Demand::Unbounded);
    assert_eq!(ends[0].1, None);
    assert!((89_900..=90_000).contains(&ends[0].0), "{}", ends[0].0);
}

#[test]
fn a_vendor_limit_is_shared_and_holds() {
    let tight = edit("name: Wallet}", "name: Wallet, release_per_second: 110}");
    assert_eq!(ends(&tight, &Demand::Unbounded)[0], (179_700, Some(1797)));
    let mut slower = tight;
    slower.vendors[0].release_per_second = 50;
    let awarded = ends(&slower, &Demand::Unbounded)[0].0;
    assert!((89_900..=90_000).contains(&awarded), "{awarded}");
}

#[test]
fn few_players_leave_units_over_and_each_entry_wins_one() {
    // 10 entries a second for 30 minutes: 18,000 wins, three quarters of them picked cash first.
    let ends = ends(&plan(FILE), &Demand::Entries(vec![(0, 10.0)]));
    let all: u64 = ends.iter().map(|e| e.0).sum();
    assert!((17_990..=18_000).contains(&all), "{all}");
    assert_eq!(ends[1].0, 1_797, "tea is picked more often than there is tea");
}

#[test]
fn those_who_come_late_catch_up() {
    let late = Demand::Entries(vec![(900_000, 1_000.0)]);
    let ends = ends(&plan(FILE), &late);
    // Half the round's units are behind; at twice the curve's speed they are caught up just at the end.
    assert_eq!(ends[0].0, 179_700);
    assert!(ends[0].1.unwrap() >= 1_700);
    let slow = edit("each: 1}", "each: 1, speed_max: 120}");
    let few = forecast_round(&slow, &slow.rounds[0], &late, None);
    assert!(few.prizes[0].exhausted_ms.is_none());
}

#[test]
fn a_running_round_goes_on_from_where_it_stands() {
    let plan = plan(FILE);
    let now_ms = OPEN_MS + 600_000;
    let standing = |awarded, budget| Standing { prize: PrizeId(1), awarded, budget, released: None };
    let with = |s| {
        forecast_round(&plan, &plan.rounds[0], &Demand::Unbounded, Some(&Live { now_ms, prizes: vec![s] }))
    };
    assert_eq!(with(standing(59_900, None)).prizes[0].exhausted_ms, Some(OPEN_MS + 1_797_000));
    // Lowered to what is won: exhausted now.
    let lowered = with(standing(60_000, Some(60_000)));
    assert_eq!((lowered.prizes[0].exhausted_ms, lowered.prizes[0].awarded), (Some(now_ms), 60_000));
    assert!(
        forecast(&plan, &Demand::Unbounded, Some(&Live { now_ms: OPEN_MS + 1_800_000, prizes: vec![] }))
            .is_empty()
    );
}

#[test]
fn a_difference_says_when_prizes_run_out() {
    let before = plan(FILE);
    let after = edit(
        "units: 1797}",
        "units: 1797, curve: [{at: 0s, share: 0%}, {at: 3m, share: 100%}, {at: end, share: 100%}]}",
    );
    let mut diff = Diff::between(Some(&before), &after);
    explain(&mut diff, &before, &after, &Demand::Unbounded, None);
    assert_eq!(diff.exhaustion.len(), 1);
    assert_eq!(diff.exhaustion[0].text, "exhausted 21:03:00 instead of 21:29:57");
    assert!(diff.summary.contains(&"round 1, Tea: exhausted 21:03:00 instead of 21:29:57".to_string()));

    // A budget raised in the middle of the round, with few players.
    let more = edit("each: 1}", "each: 1, tranches: [{units: 60000, each: 1}]}");
    let demand = Demand::Entries(vec![(0, 150.0)]);
    let standing = |prize, awarded| Standing { prize: PrizeId(prize), awarded, budget: None, released: None };
    let live = Live { now_ms: OPEN_MS + 600_000, prizes: vec![standing(1, 59_900), standing(2, 599)] };
    let mut diff = Diff::between(Some(&before), &more);
    explain(&mut diff, &before, &more, &demand, Some(&live));
    assert_eq!(
        diff.summary,
        ["round 1, Cash: +60,000.00 yuan, +60,000 units, \
             not exhausted instead of exhausted 21:29:57"]
    );
}

#[test]
fn long_rounds_are_reckoned_in_longer_steps() {
    let day = edit("duration: 30m", "duration: 24h");
    let forecast = forecast_round(&day, &day.rounds[0], &Demand::Unbounded, None);
    assert_eq!(forecast.step_ms, 24_000);
    assert_eq!(forecast.prizes[0].awarded, 179_700);
}

proptest! {
    /// However many come, nothing is given that was not there, and more players never leave more over.
    #[test]
    fn never_above_the_budget(rate in 0.0f64..400.0, more in 0.0f64..400.0, speed in 0u64..200, at in 0u64..1_700_000) {
        let mut plan = plan(FILE);
        plan.rounds[0].close_ms = OPEN_MS + 120_000;
        let end = 117_000;
        for prize in &mut plan.rounds[0].prizes {
            prize.curve = campaign::Curve::even(0, end);
            prize.tranches[0].units /= 15;
        }
        plan.rounds[0].prizes[0].speed_max = speed;
        let begin = at / 15;
        let total = |rate: f64| {
            let demand = Demand::Entries(vec![(begin, rate)]);
            let f = forecast_round(&plan, &plan.rounds[0], &demand, None);
            for p in &f.prizes {
                assert!(p.awarded <= p.units);
                assert_eq!(p.exhausted_ms.is_some(), p.awarded == p.units);
            }
            f.prizes.iter().map(|p| p.awarded).sum::<u64>()
        };
        let (few, many) = (total(rate), total(rate + more));
        // Fractions of units, one a prize, may fall either way.
        prop_assert!(few <= many + 4, "{few} with {rate}, {many} with {more} more");
        let entries = rate * ((120_000 - begin) as f64) / 1000.0;
        prop_assert!(few as f64 <= entries + 1.0);
    }
}
