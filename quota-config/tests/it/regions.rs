//! Prizes for some regions: what a file says, what is wrong with it, what a change of it is, what players are told.

use crate::support::{EVENING_MS, KEY, SMALL, compile_text};
use campaign::{DistrictRange, Plan, Regions, SeqNo};
use proptest::prelude::*;
use quota_config::{CompileOptions, Diff, Jurisdiction, Policy, Severity, compile_for, disclosure};

/// SMALL with regions in line 6 and the prize's list of them behind line 17.
fn file(regions: &str, prize: &str) -> String {
    SMALL.replacen("prize_sets:", &format!("regions: {regions}\nprize_sets:"), 1).replacen(
        "max: 20",
        &format!("max: 20\n      regions: {prize}"),
        1,
    )
}

/// With a second prize that everybody can win.
fn open_file(regions: &str, prize: &str) -> String {
    let more = "    - {id: 2, name: Tea, kind: voucher, weight: 1, vendor: 1, units: 100}\nrounds:";
    file(regions, prize).replacen("rounds:", more, 1)
}

fn plan(text: &str) -> Plan {
    compile_text(text).unwrap_or_else(|problems| panic!("{problems}\n{text}")).plan
}

fn errors(text: &str) -> String {
    let problems = compile_text(text).expect_err(text).0;
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string);
    errors.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plan_has_regions_by_name_and_prizes_have_their_bits() {
    let plan = plan(&open_file("{south: [500-600, 440100], north: [\"100 - 200\", 1]}", "[south, north]"));
    let ranges = |r: &campaign::Region| r.districts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let regions: Vec<_> = plan.regions.iter().map(|r| (r.name.as_str(), ranges(r))).collect();
    let want = [("north", vec!["1", "100 to 200"]), ("south", vec!["500 to 600", "440100"])];
    assert_eq!(regions, want.map(|(n, r)| (n, r.into_iter().map(str::to_string).collect::<Vec<_>>())));
    let [cash, tea] = &plan.rounds[1].prizes[..] else { panic!("two prizes") };
    assert_eq!((cash.regions, tea.regions), (Regions(0b11), Regions::EVERYWHERE));
    for (district, can) in
        [(0, false), (1, true), (2, false), (200, true), (440_100, true), (u32::MAX, false)]
    {
        assert_eq!(plan.can_be_won_in(cash, district), can, "{district}");
        assert!(plan.can_be_won_in(tea, district));
    }
}

/// (regions, regions of the prize, all errors)
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "{north: [1-9]}",
        "[nroth]",
        "18:17: error: prize_sets.cash[0].regions[0]: there is no region `nroth`; did you mean `north`?",
    ),
    (
        "{north: [1-9], south: [10]}",
        "[elsewhere]",
        "18:17: error: prize_sets.cash[0].regions[0]: there is no region `elsewhere`; known are north, south",
    ),
    (
        "{}",
        "[north]",
        "18:17: error: prize_sets.cash[0].regions[0]: there is no region `north`; add it under `regions` of the \
         campaign, with its districts",
    ),
    (
        "{north: [1-9]}",
        "[north, north]",
        "18:24: error: prize_sets.cash[0].regions[1]: the prize names this region twice, first in line 18; keep one \
         of them",
    ),
    (
        "{north: [1-9]}",
        "[]",
        "18:16: error: prize_sets.cash[0].regions: a prize that can be won in no region; name at least one, or leave \
         the key out: then the prize can be won everywhere",
    ),
    (
        "{north: [1-9]}",
        "north",
        "18:16: error: prize_sets.cash[0].regions: a single value where a list belongs; write one entry a line, each \
         beginning with `- `",
    ),
    (
        "{north: []}",
        "[north]",
        "6:18: error: regions.north: a region without districts; list at least one district or range, as in [110101, \
         310000-319999]",
    ),
    ("{north: [9-1]}", "[north]", "6:19: error: regions.north[0]: `9-1` ends before it begins; write 1-9"),
    (
        "{north: [0-9]}",
        "[north]",
        "6:19: error: regions.north[0]: 0 stands for a district that is not known, and is in no region; begin with 1 or \
         more; a prize for everybody has no `regions`",
    ),
    (
        "{north: [0]}",
        "[north]",
        "6:19: error: regions.north[0]: 0 stands for a district that is not known, and is in no region; begin with 1 or \
         more; a prize for everybody has no `regions`",
    ),
    (
        "{north: [beijing]}",
        "[north]",
        "6:19: error: regions.north[0]: `beijing` is no district and no range of them; write a district's number, as in \
         110101, or a range, as in 310000-319999",
    ),
    (
        "{north: [1-4294967296]}",
        "[north]",
        "6:19: error: regions.north[0]: `1-4294967296` is no district and no range of them; write a district's number, \
         as in 110101, or a range, as in 310000-319999",
    ),
    (
        "{north: [5-9, 1-5]}",
        "[north]",
        "6:24: error: regions.north[1]: 1 to 5 overlaps 5 to 9 of the same region (line 6); join the two, or take one out",
    ),
    (
        "{north: [1-99, 5, 7]}",
        "[north]",
        "6:25: error: regions.north[1]: 5 overlaps 1 to 99 of the same region (line 6); join the two, or take one out\n\
         6:28: error: regions.north[2]: 7 overlaps 1 to 99 of the same region (line 6); join the two, or take one out",
    ),
    (
        "{north: [5, 5]}",
        "[north]",
        "6:22: error: regions.north[1]: 5 stands twice, first in line 6; join the two, or take one out",
    ),
    (
        "{north: [5], north: [6]}",
        "[north]",
        "6:23: error: regions.north: the region stands twice, first in line 6; keep one of them",
    ),
    (
        "[north]",
        "[north]",
        "6:10: error: regions: a list where a map belongs; write `name:` and behind it a list of districts\n\
         18:17: error: prize_sets.cash[0].regions[0]: there is no region `north`; add it under `regions` of the \
         campaign, with its districts",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_cure() {
    let mut wrong = Vec::new();
    for (regions, prize, expected) in MISTAKES {
        let told = errors(&file(regions, prize));
        if told != *expected {
            wrong.push(format!("--- {regions} {prize}\nexpected:\n{expected}\ntold:\n{told}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn counts_are_bounded() {
    let regions = |n: usize| (0..n).map(|i| format!("r{i}: [{}]", i + 1)).collect::<Vec<_>>().join(", ");
    let names = |n: usize| (0..n).map(|i| format!("r{i}")).collect::<Vec<_>>().join(", ");
    let of = |n: usize| file(&format!("{{{}}}", regions(n)), &format!("[{}]", names(n)));
    assert_eq!(plan(&of(64)).rounds[0].prizes[0].regions, Regions(u64::MAX));
    assert_eq!(errors(&of(65)), "6:10: error: regions: 65 regions; a campaign has at most 64");
    let ranges = |n: u32| {
        let list: Vec<String> = (1..=n).map(|i| (i * 2).to_string()).collect();
        file(&format!("{{a: [{}], b: [1]}}", list.join(", ")), "[a, b]")
    };
    assert_eq!(plan(&ranges(999)).regions[0].districts.len(), 999);
    assert_eq!(
        errors(&ranges(1_000)),
        "6:10: error: regions: 1001 districts and ranges in all regions together; write at most 1000: join neighbours \
         into ranges"
    );
}

#[test]
fn what_looks_wrong_is_warned_of() {
    let told = |text: String| compile_text(&text).unwrap().warnings_text();
    assert_eq!(told(open_file("{north: [1-9]}", "[north]")), "");
    assert_eq!(
        told(open_file("{north: [1-9], south: [10-20]}", "[north]")),
        "6:25: warning: regions.south: no prize is limited to region south; name it under `regions` of a prize, or \
         take it out"
    );
    assert_eq!(
        told(file("{north: [1-9]}", "[north]")),
        "9:5: warning: prize_sets.cash: every prize is limited to regions: whoever is in none of them, or in a district \
         that is not known, can win nothing; add a prize without `regions`, or tell players who can win"
    );
    assert!(told(file("{north: [1-9], south: [5-20]}", "[north]")).contains(
        "9:5: warning: prize_sets.cash: every prize is limited to regions, and districts 10 to 20 (south) can win \
         nothing, as whoever is in no region;"
    ));
    let many = |n: &str| open_file("{town: [7]}", "[town]").replacen("units: 100", &format!("units: {n}"), 1);
    let many = |n: &str| {
        many(n).replacen("sum: 400", "each: 4", 1).replacen("min: 0.50\n      max: 20", "speed_max: 900", 1)
    };
    assert_eq!(
        told(many("1001")),
        "17:16: warning: prize_sets.cash[0].regions: 1,001 units for 1 district may not all be given out: at up to 1 of \
         them to one player in a round, 1,001 players of its regions have to win; what is left there goes to nobody \
         else: plan fewer units, or widen its regions"
    );
    assert_eq!(told(many("1000")), "");
    let twice = many("1001").replacen("prize_sets:", "limits: {wins_per_round: 2}\nprize_sets:", 1);
    assert_eq!(told(twice), "", "two for each");
}

#[test]
fn a_change_of_regions_is_a_change_of_odds() {
    let before = plan(&open_file("{north: [1-9], south: [20-29]}", "[north]"));
    let diff = |after: &str| Diff::between(Some(&before), &plan(after));
    let entry = |diff: &Diff| {
        let [e] = &diff.entries[..] else { panic!("{:?}", diff.entries) };
        let value = |v: &Option<String>| v.clone().unwrap_or("-".into());
        format!("{}: {} > {} ({})", e.path, value(&e.before), value(&e.after), e.effect)
    };
    // A region in front moves the places of all others and changes nothing of a prize.
    let moved = diff(&open_file("{east: [70], north: [1-9], south: [20-29]}", "[north]"));
    assert_eq!(entry(&moved), "region:east: - > 70 (added)");
    let same_place = diff(&open_file("{east: [70], south: [20-29]}", "[east]"));
    let paths: Vec<&str> = same_place.entries.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["region:north", "region:east", "prize:1/1.regions", "prize:2/1.regions"]);
    let wider = diff(&open_file("{north: [1-4, 7-12], south: [20-29]}", "[north]"));
    assert_eq!(entry(&wider), "region:north.districts: 1 to 9 > 1 to 4, 7 to 12 (3 districts more, 2 less)");
    let other = diff(&open_file("{north: [1-9], south: [20-29]}", "[north, south]"));
    assert_eq!(other.entries[0].path, "prize:1/1.regions");
    assert_eq!(
        (other.entries[0].after.as_deref(), other.entries[0].effect.as_str()),
        (Some("north, south"), "10 districts more")
    );
    let everywhere = diff(&open_file("{north: [1-9], south: [20-29]}", "[north]").replacen(
        "\n      regions: [north]",
        "",
        1,
    ));
    assert_eq!(everywhere.entries[1].after.as_deref(), Some("everywhere"));
    assert_eq!(everywhere.summary[0], "prize:1/1.regions: everywhere instead of north");
    for diff in [moved, same_place, wider, other, everywhere] {
        assert_eq!(diff.only_grey(), Ok(()), "may be tried on some users");
        assert_eq!(Policy::default().needs_two(&diff, None), Vec::<String>::new());
    }
    let first = Diff::between(None, &before);
    let cash = first.entries.iter().find(|e| e.path == "prize:1/1").unwrap();
    assert!(cash.after.as_deref().unwrap().ends_with("weight 1, only in north"), "{cash:?}");
}

#[test]
fn regions_may_change_while_a_round_runs() {
    let before = plan(&open_file("{north: [1-9]}", "[north]"));
    let commitments = quota_config::StoredCommitments::of(&before);
    let after = quota_config::After {
        plan: &before,
        commitments: &commitments,
        gone: &[],
        now_ms: EVENING_MS + 1_000,
    };
    let options = CompileOptions { seq_no: SeqNo(2), base_ms: EVENING_MS, seeds: &KEY, after: Some(after) };
    let text = open_file("{north: [4-30]}", "[north]");
    let plan = quota_config::compile(text.as_bytes(), &options).unwrap().plan;
    assert_eq!(plan.regions[0].districts, [DistrictRange { first: 4, last: 30 }]);
}

#[test]
fn players_are_told_where_prizes_can_be_won() {
    let text = open_file("{北方: [1-9, 12], south: [20]}", "[北方]");
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    let compiled = compile_for(text.as_bytes(), &options, Some(Jurisdiction::Cn)).unwrap();
    let warnings = compiled.warnings_text();
    assert!(
        warnings.contains(
            "18:16: warning: prize_sets.cash[0].regions: prize 1 can be won in 北方 only; release by region must be \
             disclosed: publish the disclosure text, which names the regions"
        ),
        "{warnings}"
    );
    let told = disclosure(&compiled.plan, &compiled.stated);
    assert!(told.text_en.contains("picked first by 50.00%; can be won in 北方 only\n"), "{}", told.text_en);
    assert!(told.text_en.ends_with("- 北方: districts 1 to 9, 12\n"), "{}", told.text_en);
    assert!(told.text_zh.contains(";仅限以下地区:北方\n"), "{}", told.text_zh);
    assert!(told.text_zh.ends_with("- 北方:区域编号 1 至 9、12\n"), "{}", told.text_zh);
    assert_eq!(
        told.rows.iter().map(|r| r.regions.clone()).collect::<Vec<_>>(),
        [vec!["北方".to_string()], vec![]]
    );
    let none = disclosure(&plan(SMALL), &compile_text(SMALL).unwrap().stated);
    assert!(!none.text_en.contains("region") && !none.text_zh.contains("地区"));
}

proptest! {
    /// Whatever ranges a file has: they are refused exactly when two of them meet, and else the plan has them all.
    #[test]
    fn overlaps_are_found_wherever_they_stand(ranges in prop::collection::vec((1u32..300, 0u32..20), 1..12)) {
        let list: Vec<String> = ranges.iter().map(|(a, n)| format!("{a}-{}", a + n)).collect();
        let meet = ranges.iter().enumerate().any(|(i, (a, n))| ranges[..i].iter().any(|(b, m)| *a <= b + m && *b <= a + n));
        let text = open_file(&format!("{{r: [{}]}}", list.join(", ")), "[r]");
        match compile_text(&text) {
            Ok(compiled) => {
                prop_assert!(!meet);
                for district in 0..330 {
                    let has = ranges.iter().any(|(a, n)| (*a..=a + n).contains(&district));
                    prop_assert_eq!(compiled.plan.places().regions_of(district) == 1, has);
                }
            }
            Err(problems) => {
                prop_assert!(meet, "{}", problems);
                prop_assert!(problems.to_string().contains("regions.r["));
            }
        }
    }
}
