//! Each mistake: line, column, path, what is wrong, what would be right.

use crate::support::{SMALL, compile_text};

/// The messages of SMALL with a part replaced.
fn edited(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    told(&SMALL.replacen(from, to, 1))
}

fn told(text: &str) -> String {
    match compile_text(text) {
        Ok(compiled) => compiled.warnings_text(),
        Err(problems) => {
            let errors = problems.0.iter().filter(|p| p.severity == quota_config::Severity::Error);
            assert!(errors.count() > 0);
            problems.to_string()
        }
    }
}

#[test]
fn the_small_campaign_is_right() {
    assert_eq!(told(SMALL), "");
}

/// (replace this, by that, all that is then said)
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "units: 100",
        "unit: 100",
        "8:7: error: prize_sets.cash[0]: `units` is missing; say how many there are\n\
      13:7: error: prize_sets.cash[0].unit: unknown key; did you mean `units`?",
    ),
    (
        "units: 100",
        "units: many",
        "13:14: error: prize_sets.cash[0].units: `many` is not a whole number; write a whole number from 1 to 1000000000000 in digits",
    ),
    (
        "units: 100",
        "units:",
        "13:12: error: prize_sets.cash[0].units: nothing where a single value belongs; write a whole number from 1 to 1000000000000 in digits",
    ),
    (
        "units: 100",
        "units: [100]",
        "13:14: error: prize_sets.cash[0].units: a list where a single value belongs; write a whole number from 1 to 1000000000000 in digits",
    ),
    (
        "units: 100",
        "units: 100\n      units: 200",
        "14:7: error: prize_sets.cash[0].units: the key stands twice, first in line 13; keep one of them",
    ),
    (
        "sum: 400",
        "sum: 400.005",
        "14:12: error: prize_sets.cash[0].sum: 400.005 yuan has more than two decimals; write yuan with at most two decimals, as in 8.88",
    ),
    (
        "sum: 400",
        "sum: 40",
        "14:12: error: prize_sets.cash[0].sum: 100 units of 0.50 to 20.00 yuan are 50.00 to 2000.00 yuan in all, not 40.00; change sum, units or range so that they fit",
    ),
    (
        "max: 20",
        "max: 0.10",
        "14:12: error: prize_sets.cash[0].sum: amounts go from 0.50 to 0.10 yuan: the first must be at least 0 and not above the second; change sum, units or range so that they fit",
    ),
    (
        "sum: 400\n      min: 0.50\n      max: 20",
        "each: 0",
        "14:13: error: prize_sets.cash[0].each: an amount of 0; write at least 0.01",
    ),
    (
        "sum: 400\n      min: 0.50\n      max: 20",
        "curve: even",
        "8:7: error: prize_sets.cash[0]: a cash prize without an amount; write `each: 8.88` for fixed amounts, or `sum`, `min` and `max` for random ones",
    ),
    (
        "sum: 400",
        "each: 4",
        "15:7: error: prize_sets.cash[0].min: a fixed amount has no range; keep `each`, or `sum`, `min` and `max`\n\
      16:7: error: prize_sets.cash[0].max: a fixed amount has no range; keep `each`, or `sum`, `min` and `max`",
    ),
    (
        "kind: cash",
        "kind: voucher",
        "14:7: error: prize_sets.cash[0].sum: only cash has an amount; leave it out, or write `kind: cash`\n\
      15:7: error: prize_sets.cash[0].min: only cash has an amount; leave it out, or write `kind: cash`\n\
      16:7: error: prize_sets.cash[0].max: only cash has an amount; leave it out, or write `kind: cash`",
    ),
    (
        "kind: cash",
        "kind: vouchr",
        "10:13: error: prize_sets.cash[0].kind: `vouchr` is not known here; did you mean `voucher`?",
    ),
    (
        "vendor: 1\n",
        "vendor: 2\n",
        "12:15: error: prize_sets.cash[0].vendor: vendor 2 is not under `vendors`; listed there: 1",
    ),
    (
        "max: 20",
        "max: 20\n      deliver: on_claim",
        "8:7: error: prize_sets.cash[0]: `term` is missing; say how long the player may wait with the claim, as in `term: 24h`",
    ),
    (
        "max: 20",
        "max: 20\n      term: 24h",
        "17:7: error: prize_sets.cash[0].term: a term belongs to `deliver: on_claim`; leave it out, or deliver on claim",
    ),
    (
        "max: 20",
        "max: 20\n      catch_up: 50%",
        "17:17: error: prize_sets.cash[0].catch_up: `50%` is not a catch-up speed; write 100% to 10000%, as in 200%",
    ),
    (
        "max: 20",
        "max: 20\n      curve: evn",
        "17:14: error: prize_sets.cash[0].curve: `evn` is not known here; did you mean `even`?, or a list of points",
    ),
    (
        "max: 20",
        "max: 20\n      curve:\n        - {at: 0s, share: 0%}\n        - {at: 58s, share: 100%}",
        "19:16: error: prize_sets.cash[0].curve[1].at: the point lies at 58s, but curves end 3s before the round does: at 57s of 1m; move it forward, or write `end`",
    ),
    (
        "max: 20",
        "max: 20\n      curve: [{at: 0s, share: 0%}, {at: 9s, share: 50%}, {at: 8s, share: 100%}]",
        "17:63: error: prize_sets.cash[0].curve[2]: point 2 of the release curve is not later than the one before, or releases less; each point is later than the one before and releases no less",
    ),
    (
        "max: 20",
        "max: 20\n      curve: [{at: 0s, share: 0%}, {at: end, share: 90%}]",
        "17:14: error: prize_sets.cash[0].curve: a release curve goes from 0 to the whole; this one goes from 0 to 900000000 ppb; begin with share 0% and end with 100%",
    ),
    (
        "max: 20",
        "max: 20\n      curve: [{at: 0s, share: 0%}]",
        "17:14: error: prize_sets.cash[0].curve: 1 points; a curve has 2 to 256, from 0% to 100%",
    ),
    (
        "max: 20",
        "max: 20\n      tranches: [{units: 5, each: 1}, {units: 0, each: 1}]",
        "17:47: error: prize_sets.cash[0].tranches[1].units: 0 is out of range; write a whole number from 1 to 1000000000000 in digits",
    ),
    (
        "max: 20",
        "max: 20\n      speed_max: 1",
        "17:18: warning: prize_sets.cash[0].speed_max: at 1 a second only about 57 of 100 units can be released in a round of 1m; the rest stays unissued: allow at least 10",
    ),
    (
        "max: 20",
        "max: 20\n      curve: front-loaded\n      speed_max: 30\n      tranches: [{units: 700, each: 1}]",
        "18:18: warning: prize_sets.cash[0].speed_max: at 30 a second the prize can't follow its curve: it is behind 11400ms after the opening; raise it or flatten the curve; what is behind is caught up later",
    ),
    (
        "weight: 1",
        "weight: 0",
        "8:5: warning: prize_sets.cash: no prize has a weight; players then get them in the order of the file: give at least one a weight",
    ),
    (
        "name: Wallet}",
        "name: Wallet, release_per_second: 1}",
        "5:47: error: vendors[0].release_per_second: vendor 1 releases at most 1 a second, 56 units in the 57s before the curves of round 1 end, but its prizes have 100 to release there: the rest would be stranded; allow at least 10 a second, or plan fewer units",
    ),
    (
        "- {id: 1, name: Wallet}",
        "- {id: 1, name: Wallet}\n  - {id: 1, name: Other}",
        "6:10: error: vendors[1].id: vendor 1 stands twice; each vendor has a number of its own",
    ),
    (
        "campaign: 4",
        "campaign: 4294967296",
        "1:11: error: campaign: 4294967296 is out of range; write a whole number from 1 to 4294967295 in digits",
    ),
    ("campaign: 4\n", "", "1:1: error: `campaign` is missing; give the campaign's number: `campaign: 1`"),
    (
        "Asia/Shanghai",
        "Asia/Shanghia",
        "3:12: error: time_zone: there is no time zone `Asia/Shanghia`; did you mean `Asia/Shanghai`?",
    ),
    (
        "open: +5m",
        "open: +30s",
        "19:30: error: rounds[1]: round 2 opens at 2026-02-16 20:00:30, before round 1 (line 18) closes at 2026-02-16 20:01:00; rounds follow one another: open it later, or shorten the one before",
    ),
    (
        "open: +5m",
        "open: 2026-02-16",
        "19:30: error: rounds[1].open: `2026-02-16` is a date without a time; write a local time (2026-02-16 20:00), one with its offset (2026-02-16T20:00+08:00), or a time behind the start (+20s)",
    ),
    (
        "duration: 1m",
        "duration: 4s",
        "18:45: error: rounds[0].duration: 4s is out of range; write 5s to 3653d",
    ),
    (
        "duration: 1m",
        "duration: 60",
        "18:45: error: rounds[0].duration: `60` is not a duration; write a number with its unit (ms, s, m, h or d), as in 1500ms, 30s or 1h30m",
    ),
    (
        "{id: 2,",
        "{id: 1,",
        "19:5: error: rounds[1]: round 1 stands twice, first in line 18; each round has a number of its own; `repeat` counts up",
    ),
    (
        "prizes: cash",
        "prizes: cahs",
        "18:57: error: rounds[0].prizes: there is no prize set `cahs`; did you mean `cash`?",
    ),
    (
        "rounds:\n",
        "start: +5s\nrounds:\n",
        "17:8: error: start: `+5s` counts from the start itself; write `now` (the moment of publishing) or a time as in 2026-02-16 20:00",
    ),
    (
        "rounds:\n",
        "limits: {interval: 0s, wins_per_round: 0}\nrounds:\n",
        "17:20: error: limits.interval: 0s is out of range; write 1ms to 1h\n\
      17:40: error: limits.wins_per_round: 0 is out of range; write a whole number from 1 to 65535 in digits; leave the key out for no such limit",
    ),
    (
        "rounds:\n",
        "limits: {interval: 5s, participation: 3s}\nrounds:\n",
        "17:39: warning: limits.participation: participation of 3s is shorter than the interval of 5s; each player has one entry a round: lengthen it",
    ),
    (
        "rounds:\n",
        "limits: {wins_per_round: 5, wins_per_day: 3}\nrounds:\n",
        "17:26: warning: limits.wins_per_round: wins_per_round allows 5 wins, but wins_per_day only 3; the lower one holds: write the same number in both",
    ),
    (
        "rounds:\n",
        "client: {submit_min: 3s, submit_max: 2s}\nrounds:\n",
        "17:38: error: client.submit_max: submit_max is below submit_min, 3s; write at least that",
    ),
    (
        "rounds:\n",
        "stagger: {groups: 61, step: 1s}\nrounds:\n",
        "17:10: error: stagger: the last group would begin 1m after the opening, but round 1 lasts 1m; take fewer groups or a smaller step",
    ),
    (
        "name: Small",
        "name: &a Small",
        "2:7: error: an anchor (`&name`) is not part of a campaign file; share prizes by prize_sets",
    ),
    (
        "name: Small",
        "name: !!str Small",
        "2:7: error: a tag (`!name`) is not part of a campaign file; leave it out: values have the type of their key",
    ),
    (
        "campaign: 4",
        "- 4",
        "2:1: error: not valid YAML: while parsing a block collection, did not find expected '-' indicator; check indentation, colons and quotes here and in the line before",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_cure() {
    let mut wrong = Vec::new();
    for (from, to, expected) in MISTAKES {
        let told = edited(from, to);
        if told != *expected {
            wrong.push(format!("--- {to:?}\nexpected:\n{expected}\ntold:\n{told}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_come_at_once_in_order() {
    let text = SMALL
        .replace("units: 100", "units: lots")
        .replace("name: Small", "nmae: Small")
        .replace("open: +5m", "open: later")
        .replace("weight: 1", "weight: -1");
    let lines: Vec<u32> = compile_text(&text).unwrap_err().0.iter().map(|p| p.mark.line).collect();
    assert_eq!(lines, [1, 2, 11, 13, 19]);
}

#[test]
fn what_is_no_campaign_file_is_refused() {
    assert_eq!(told(""), "1:1: error: the file is empty; a campaign file begins with `campaign: 1`");
    assert!(told("just text").starts_with("1:1: error: a single value where a map belongs; write a map"));
    assert!(told("a: 1\n---\nb: 2\n").contains("a second document is not part"));
    assert!(told(&"[".repeat(30)).contains("nesting this deep"));
    assert!(told(&"[".repeat(10_000)).contains("recursion limit exceeded"));
    assert!(told(&"k: {".repeat(10_000)).contains("error"));
    assert!(told(&"#".repeat(quota_config::FILE_BYTES_MAX + 1)).contains("the file has 16777217 bytes"));
    let many: String = (0..2_000).map(|i| format!("k{i}: 1\n")).collect();
    assert!(told(&many).contains("a map of this many keys"));
    let options = quota_config::CompileOptions {
        seq_no: campaign::SeqNo(1),
        base_ms: 0,
        seeds: &crate::support::KEY,
        after: None,
    };
    let problems = quota_config::compile(b"campaign: 1\nname: \"\xff\"\n", &options).unwrap_err();
    assert_eq!(problems.to_string(), "2:8: error: a byte that is not UTF-8; save the file as UTF-8");
}

#[test]
fn a_round_has_at_most_64_prizes() {
    let prize =
        |i: usize| format!("      - {{id: {i}, name: P, kind: goods, weight: 1, vendor: 1, units: 9}}\n");
    let text = |n: usize| {
        let prizes: String = (1..=n).map(prize).collect();
        format!(
            "campaign: 1\nname: N\ntime_zone: UTC\nvendors: [{{id: 1, name: V}}]\nrounds:\n  \
             - id: 1\n    name: R\n    open: +1s\n    duration: 10s\n    prizes:\n{prizes}"
        )
    };
    assert_eq!(told(&text(64)), "");
    assert_eq!(told(&text(65)), "11:7: error: rounds[0].prizes: 65 prizes; a round has at most 64");
    let twice = text(2).replace("{id: 2,", "{id: 1,");
    assert!(told(&twice).contains("prize 1 stands twice, first in line 11"));
}

#[test]
fn a_vendor_must_be_fast_enough_where_the_curve_is_steep() {
    let slow = SMALL.replacen("name: Wallet}", "name: Wallet, release_per_second: 10}", 1);
    let curve = |curve: &str| told(&slow.replacen("max: 20", &format!("max: 20\n      curve: {curve}"), 1));
    // What is due early may wait; what is due late can't.
    assert_eq!(curve("front-loaded"), "");
    assert_eq!(
        curve("[{at: 0s, share: 0%}, {at: 50s, share: 10%}, {at: end, share: 100%}]"),
        "5:47: error: vendors[0].release_per_second: vendor 1 releases at most 10 a second, 69 units in the 7s before \
         the curves of round 1 end, but its prizes have 90 to release there: the rest would be stranded; \
         allow at least 20 a second, or plan fewer units"
    );
}

#[test]
fn every_overlap_is_told() {
    let text = SMALL.replacen("duration: 1m", "duration: 1h", 1)
        + "  - {id: 3, name: Three, open: +10m, duration: 1m, prizes: cash}\n";
    let said: Vec<String> =
        told(&text).lines().map(|l| l[..l.find(", before").unwrap()].to_string()).collect();
    assert_eq!(
        said,
        [
            "19:30: error: rounds[1]: round 2 opens at 2026-02-16 20:05:00",
            "20:32: error: rounds[2]: round 3 opens at 2026-02-16 20:10:00",
        ]
    );
}
