use super::{Diff, yuan};
use crate::policy::Policy;
use crate::{CompileOptions, compile};
use campaign::{DistrictRange, Plan, Region, Regions, SeedKey, SeqNo};

const KEY: SeedKey = SeedKey { id: 7, key: [9; 32] };
const FILE: &str = "\
campaign: 4
name: Small
time_zone: Asia/Shanghai
vendors:
  - {id: 1, name: Wallet, release_per_second: 1000}
limits: {wins_per_round: 3, interval: 1s}
prize_sets:
  both:
    - {id: 1, name: Cash, kind: cash, weight: 3, vendor: 1, units: 100, sum: 400, min: 0.50, max: 20}
    - {id: 2, name: Tea, kind: voucher, weight: 1, vendor: 1, units: 50, speed_max: 100}
rounds:
  - {id: 1, name: One, open: 2026-02-16 20:00, duration: 1m, prizes: both}
  - {id: 2, name: Two, open: 2026-02-16 20:05, duration: 1m, prizes: both}
";

fn plan(text: &str) -> Plan {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: 0, seeds: &KEY, after: None };
    compile(text.as_bytes(), &options).unwrap().plan
}

fn change(from: &str, to: &str) -> Diff {
    assert!(FILE.contains(from));
    Diff::between(Some(&plan(FILE)), &plan(&FILE.replacen(from, to, 1)))
}

#[test]
fn the_same_plan_is_no_difference() {
    let diff = change("campaign: 4", "# a remark\ncampaign: 4");
    assert!(diff.is_empty() && diff.summary.is_empty());
    assert_eq!(diff.only_grey(), Ok(()));
    assert_eq!(Policy::default().needs_two(&diff, None), Vec::<String>::new());
}

#[test]
fn a_first_plan_is_all_new() {
    let diff = Diff::between(None, &plan(FILE));
    assert_eq!((diff.budget.units, diff.budget.fen), (300, 80_000));
    assert_eq!(diff.summary[0], "Small: 2 rounds, 800.00 yuan and 300 units in all");
    assert!(diff.only_grey().is_err());
    assert!(Policy::default().needs_two(&diff, None).is_empty(), "800 yuan are below the threshold");
    let policy = Policy { budget_up_fen: 79_999, budget_up_units: 299, ..Policy::default() };
    assert_eq!(
        policy.needs_two(&diff, None),
        ["800.00 yuan are added; one person may add 799.99", "300 units are added; one person may add 299"]
    );
}

#[test]
fn a_raised_budget_reads_as_people_say_it() {
    let more = "max: 20, tranches: [{units: 2000, each: 100}]}";
    let diff = change("max: 20}", more);
    assert_eq!(
        diff.summary,
        [
            "rounds 1 and 2, Cash: +200,000.00 yuan, +2,000 units in each",
            "in all: +400,000.00 yuan, +4,000 units"
        ]
    );
    assert_eq!((diff.budget.fen_up, diff.budget.units_up), (40_000_000, 4_000));
    let reasons = Policy::default().needs_two(&diff, None);
    assert_eq!(reasons, ["400,000.00 yuan are added; one person may add 10,000.00"]);
    assert_eq!(diff.only_grey().unwrap_err().len(), 2);
    let entry = &diff.entries[0];
    assert_eq!(entry.path, "prize:1/1.tranches");
    assert_eq!(entry.before.as_deref(), Some("100 of 0.50 to 20.00, 400.00 yuan in all"));
    assert!(entry.after.as_deref().unwrap().ends_with(" + 2,000 x 100.00 yuan"));
}

#[test]
fn money_that_moves_is_money_given() {
    let without = FILE.replacen("  - {id: 2, name: Two", "  - {id: 3, name: Two", 1);
    let diff = Diff::between(Some(&plan(FILE)), &plan(&without));
    assert_eq!((diff.budget.fen, diff.budget.fen_up, diff.budget.units_up), (0, 40_000, 150));
    assert_eq!((diff.rounds_added[0].0, diff.rounds_removed[0].0), (3, 2));
    assert!(diff.summary.contains(&"added: round 3".to_string()));
    assert!(diff.only_grey().is_err());
}

#[test]
fn raised_limits_need_two_and_lowered_ones_do_not() {
    let needs = |diff: &Diff| Policy::default().needs_two(diff, None);
    let up = change("wins_per_round: 3", "wins_per_round: 4");
    assert_eq!(needs(&up), ["limits.wins_per_round is raised from 3 to 4"]);
    assert_eq!(up.summary, ["wins per round: 3 to 4"]);
    assert_eq!(up.only_grey(), Ok(()));
    let gone = change("wins_per_round: 3, ", "");
    assert_eq!(needs(&gone), ["limits.wins_per_round is raised from 3 to no limit"]);
    for lower in [change("wins_per_round: 3", "wins_per_round: 2"), change("interval: 1s", "wins_per_day: 3")]
    {
        assert_eq!(needs(&lower), Vec::<String>::new());
        assert!(!lower.is_empty());
    }
    let lax = Policy { limit_up: false, ..Policy::default() };
    assert!(lax.needs_two(&up, None).is_empty());
}

#[test]
fn speeds_need_two_from_the_threshold_on() {
    let needs = |diff: &Diff| Policy::default().needs_two(diff, None);
    assert!(needs(&change("speed_max: 100", "speed_max: 120")).is_empty());
    assert!(needs(&change("speed_max: 100", "speed_max: 50")).is_empty());
    // A change by the least bit above the threshold is above it: percentages round up.
    let vendor = change("release_per_second: 1000", "release_per_second: 1201");
    assert_eq!(
        needs(&vendor),
        ["vendor:1.release_per_second is raised by 21%; one person may raise it by 20%"]
    );
    assert_eq!(vendor.only_grey(), Ok(()));
    let gone = change(", release_per_second: 1000", "");
    assert_eq!(gone.speeds_raised[0].percent, None);
    assert_eq!(needs(&gone), ["vendor:1.release_per_second is taken away: there is no limit any more"]);
}

#[test]
fn weights_go_out_grey_and_curves_do_not() {
    let weight = change("weight: 3", "weight: 1");
    assert_eq!(weight.only_grey(), Ok(()));
    assert_eq!(
        weight.summary,
        ["rounds 1 and 2, Cash: weight 1 instead of 3 (50.00% of picks instead of 75.00%)"]
    );
    assert_eq!(weight.entries[0].effect, "picked first by 50.00% instead of 75.00%");
    for (from, to) in [
        ("max: 20", "max: 20, curve: front-loaded"),
        ("max: 20", "max: 20, catch_up: 300%"),
        ("name: Tea", "name: Green tea"),
        ("20:05", "20:06"),
        ("name: Wallet", "name: Purse"),
        ("prize_sets:", "stagger: {groups: 2, step: 1s}\ntime_zone_: 1\nprize_sets:"),
    ] {
        if to.contains("time_zone_") {
            continue;
        }
        let diff = change(from, to);
        assert!(diff.only_grey().is_err(), "{to}");
        assert!(!diff.summary.is_empty(), "{to}");
    }
    assert_eq!(change("prize_sets:", "stagger: {groups: 2, step: 1s}\nprize_sets:").only_grey(), Ok(()));
}

#[test]
fn pauses_are_seen_and_lifted_stops_need_two() {
    let before = plan(FILE);
    let mut after = before.clone();
    after.rounds[1].prizes[0].paused = true;
    let mut diff = Diff::between(Some(&before), &after);
    assert_eq!(
        (diff.paused.as_slice(), diff.summary.as_slice()),
        (&["2/1".to_string()][..], &["paused: 2/1".to_string()][..])
    );
    assert!(Policy::default().needs_two(&diff, None).is_empty());
    assert!(diff.only_grey().is_err());
    diff = Diff::between(Some(&after), &before);
    assert_eq!(diff.resumed, ["2/1"]);
    assert!(Policy::default().needs_two(&diff, None).is_empty(), "a pause is lifted by one");
    diff.stops_lifted.push("prize:2/1".into());
    assert_eq!(Policy::default().needs_two(&diff, None), ["the stop of prize:2/1 is lifted"]);
}

#[test]
fn json_carries_large_numbers_as_text() {
    let json = serde_json::to_value(change("max: 20}", "max: 20, tranches: [{units: 9, each: 1}]}")).unwrap();
    assert_eq!(json["budget"]["fen"], "1800");
    assert_eq!(json["prizes"][0]["round"], 1);
    assert_eq!(json["prizes"][0]["kind"], "cash");
    assert_eq!(yuan(-123_456_789), "-1,234,567.89");
}

#[test]
fn a_huge_difference_is_cut_and_still_counted() {
    let before = plan(FILE);
    let mut after = before.clone();
    let round = after.rounds[1].clone();
    for id in 3..3_000 {
        after.rounds.push(campaign::Round { id: campaign::RoundId(id), ..round.clone() });
    }
    let diff = Diff::between(Some(&before), &after);
    assert_eq!(diff.entries.len(), super::ENTRIES_MAX);
    assert!(diff.entries_left_out > 0 && diff.summary.len() <= super::SUMMARY_MAX);
    assert_eq!(diff.budget.units, 2_997 * 150);
    assert_eq!(diff.summary[0], "rounds 3 to 2999, Cash: +400.00 yuan, +100 units in each");
}

/// (field, whether a grey release may change it, the change)
type Edit = (&'static str, bool, fn(&mut Plan));

/// Every field of a plan that an edit of a file can move; days follow from rounds and zone.
const EDITS: &[Edit] = &[
    ("regions", true, |p| {
        p.regions =
            vec![Region { name: "north".into(), districts: vec![DistrictRange { first: 1, last: 9 }] }];
    }),
    ("where a prize can be won", true, |p| {
        p.regions =
            vec![Region { name: "north".into(), districts: vec![DistrictRange { first: 1, last: 9 }] }];
        p.rounds[0].prizes[0].regions = Regions(1);
    }),
    ("name", false, |p| p.name += "!"),
    ("time_zone", false, |p| p.time_zone = "UTC".into()),
    ("limits.wins_round", true, |p| p.limits.wins_round += 1),
    ("limits.wins_day", true, |p| p.limits.wins_day += 1),
    ("limits.wins_campaign", true, |p| p.limits.wins_campaign += 1),
    ("limits.participation", true, |p| p.limits.participation_ms += 1),
    ("limits.interval", true, |p| p.limits.interval_ms += 1),
    ("limits.shakes", true, |p| p.limits.shakes_per_second += 1),
    ("stagger.groups", true, |p| p.stagger.groups += 5),
    ("pacing.min", true, |p| p.pacing.submit_min_ms += 1),
    ("pacing.max", true, |p| p.pacing.submit_max_ms += 1),
    ("vendor.name", false, |p| p.vendors[0].name += "!"),
    ("vendor.speed", true, |p| p.vendors[0].release_per_second += 1),
    ("vendor gone", false, |p| p.vendors.clear()),
    ("vendor new", false, |p| {
        p.vendors.push(campaign::Vendor {
            id: campaign::VendorId(9),
            name: "New".into(),
            release_per_second: 0,
        })
    }),
    ("round.name", false, |p| p.rounds[1].name += "!"),
    ("round.open", false, |p| p.rounds[1].open_ms += 1_000),
    ("round.close", false, |p| p.rounds[1].close_ms += 1_000),
    ("round.seed", false, |p| p.rounds[1].seed_key_id += 1),
    ("round gone", false, |p| drop(p.rounds.pop())),
    ("prize gone", false, |p| drop(p.rounds[1].prizes.pop())),
    ("prize order", false, |p| p.rounds[1].prizes.reverse()),
    ("prize.name", false, |p| p.rounds[1].prizes[0].name += "!"),
    ("prize.kind", false, |p| p.rounds[1].prizes[1].kind = campaign::PrizeKind::Goods),
    ("prize.weight", true, |p| p.rounds[1].prizes[0].weight += 1),
    ("prize.vendor", false, |p| p.rounds[1].prizes[0].vendor.0 += 1),
    ("prize.delivery", false, |p| {
        p.rounds[1].prizes[0].delivery = campaign::Delivery::OnClaim { term_ms: 1_000 }
    }),
    ("prize.curve", false, |p| p.rounds[1].prizes[0].curve = campaign::Curve::even(1_000, 57_000)),
    ("prize.speed_max", true, |p| p.rounds[1].prizes[1].speed_max += 1),
    ("prize.catch_up", false, |p| p.rounds[1].prizes[0].catch_up_percent += 1),
    ("prize.paused", false, |p| p.rounds[1].prizes[0].paused = true),
    ("tranche.units", false, |p| p.rounds[1].prizes[0].tranches[0].units += 1),
    ("tranche.fen", false, |p| p.rounds[1].prizes[0].tranches[0].fen.0 += 1),
    ("tranche.min", false, |p| p.rounds[1].prizes[0].tranches[0].min.0 += 1),
    ("tranche.max", false, |p| p.rounds[1].prizes[0].tranches[0].max.0 += 1),
];

#[test]
fn no_field_changes_unseen_and_only_some_go_out_grey() {
    let before = plan(FILE);
    for (field, grey, edit) in EDITS {
        let mut after = before.clone();
        edit(&mut after);
        for diff in [Diff::between(Some(&before), &after), Diff::between(Some(&after), &before)] {
            assert!(!diff.is_empty() && !diff.summary.is_empty(), "{field}: {diff:?}");
            assert_eq!(diff.only_grey().is_ok(), *grey, "{field}: {:?}", diff.fixed);
        }
    }
}

proptest::proptest! {
    /// Budgets add up, whatever is edited together; and there and back is nothing in all.
    #[test]
    fn budget_changes_add_up(edits in proptest::collection::vec(0..EDITS.len(), 1..8)) {
        let before = plan(FILE);
        let mut after = before.clone();
        for edit in edits {
            // Two of the same kind may leave nothing to edit.
            if after.rounds.len() > 1 && after.rounds[1].prizes.len() > 1 && !after.vendors.is_empty() {
                EDITS[edit].2(&mut after);
            }
        }
        let total = |plan: &Plan| {
            let prizes = || plan.rounds.iter().flat_map(|r| &r.prizes);
            (prizes().map(|p| i128::from(p.units())).sum::<i128>(), prizes().map(|p| i128::from(p.fen().0)).sum::<i128>())
        };
        let there = Diff::between(Some(&before), &after).budget;
        let back = Diff::between(Some(&after), &before).budget;
        let (was, is) = (total(&before), total(&after));
        proptest::prop_assert_eq!((there.units, there.fen), (is.0 - was.0, is.1 - was.1));
        proptest::prop_assert_eq!((there.units, there.fen), (-back.units, -back.fen));
        proptest::prop_assert!(there.units_up >= 0 && there.units_up >= there.units && there.fen_up >= there.fen);
    }
}
