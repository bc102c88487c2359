//! What is legal and looks wrong: each with its place, its reason and its cure.

use crate::support::{SMALL, compile_text};

/// All warnings of SMALL with parts replaced.
fn told(edits: &[(&str, &str)]) -> String {
    let mut text = SMALL.to_string();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    match compile_text(&text) {
        Ok(compiled) => compiled.warnings_text(),
        Err(problems) => panic!("refused:\n{problems}"),
    }
}

#[test]
fn the_smallest_coin() {
    assert_eq!(
        told(&[("min: 0.50", "min: 0.01")]),
        "15:12: warning: prize_sets.cash[0].min: a player may win 0.01 yuan; many wallets pay nothing so small, \
         and players are not pleased: write 0.10 or more"
    );
}

#[test]
fn ranges_that_are_none() {
    for (sum, word, amount) in [("50", "smallest", "0.50"), ("2000", "largest", "20.00")] {
        assert_eq!(
            told(&[("sum: 400", &format!("sum: {sum}"))]),
            format!(
                "14:12: warning: prize_sets.cash[0].sum: the sum makes every unit the {word} amount, {amount} \
                 yuan; write `each` for a fixed amount, or change the sum"
            )
        );
    }
    assert_eq!(told(&[("units: 100", "units: 1"), ("sum: 400", "sum: 20")]), "", "one unit has one amount");
}

#[test]
fn odds_that_nobody_can_hit() {
    // 100 wins in the round; weight 1 of 201 is picked less than once.
    let rare = "    - {id: 2, name: Car, kind: goods, weight: 1, vendor: 1, units: 1, value: 30000}\nrounds:";
    assert_eq!(
        told(&[("weight: 1", "weight: 200"), ("rounds:", rare)]),
        "17:7: warning: prize_sets.cash[1].weight: weight 1 of 201 in all: with 101 units to win in the round, \
         less than one win is expected to pick it; it would go out by falling through only: write weight 0 if \
         that is meant, or at least 2"
    );
    assert_eq!(told(&[("weight: 1", "weight: 100"), ("rounds:", rare)]), "", "one win in expectation");
    let never = rare.replace("weight: 1", "weight: 0");
    assert_eq!(told(&[("weight: 1", "weight: 200"), ("rounds:", &never)]), "", "nothing is promised");
}

#[test]
fn a_vendor_that_needs_hours() {
    let slow = |speed: u64| format!("name: Wallet, deliver_per_second: {speed}}}");
    let many = [("units: 100", "units: 100000"), ("sum: 400", "sum: 400000")];
    let with = |speed| told(&[("name: Wallet}", &slow(speed)), many[0], many[1]]);
    // Round 1: 100,000 less a minute's 300; four minutes more; round 2 the same: 198,200 units at 5 a second.
    assert_eq!(
        with(5),
        "5:47: warning: vendors[0].deliver_per_second: vendor 1 delivers 5 a second: 198,200 units are still to \
         deliver when round 2 closes, 11.1 hours of work; agree on a higher speed, release more slowly, or tell \
         players that they will wait"
    );
    assert_eq!(with(1_000), "");
    // What is claimed comes when players like.
    let claimed = [
        ("name: Wallet}", "name: Wallet, deliver_per_second: 5}"),
        ("max: 20", "max: 20\n      deliver: on_claim\n      term: 1h"),
    ];
    assert_eq!(told(&[claimed[0], many[0], many[1], claimed[1]]), "");
}

#[test]
fn rounds_while_people_sleep() {
    assert_eq!(
        told(&[("open: +0s", "open: 2026-02-16 03:00")]),
        "18:30: warning: rounds[0]: round 1 opens at 2026-02-16 03:00:00: in the small hours; few people play \
         then: check the time and the zone, Asia/Shanghai"
    );
    for good in ["open: 2026-02-16 00:00", "open: 2026-02-16 20:00", "open: 2026-02-16T12:00+00:00"] {
        assert_eq!(told(&[("open: +0s", good)]), "", "{good}");
    }
    let repeat = "repeat: {from: 2026-02-17, to: 2026-02-18, first: 00:00, last: 06:00}";
    let told = told(&[("open: +0s", repeat), ("id: 2, name: Two", "id: 200, name: Two")]);
    assert!(
        told.contains("round 1 opens at 2026-02-17 01:00:00, and 9 more of its openings: in the"),
        "{told}"
    );
}

#[test]
fn limits_that_nobody_reaches() {
    let limits = |l: &str| told(&[("prize_sets:", &format!("limits: {{{l}}}\nprize_sets:"))]);
    assert_eq!(
        limits("interval: 30s, wins_per_round: 3"),
        "6:9: warning: limits.wins_per_round: no player can win 3 times: only 2 entries of one player fit into a \
         round; shorten `interval`, lengthen the rounds, or write what you mean"
    );
    assert!(
        limits("wins_per_round: 3, wins_per_day: 7").contains("only 6 wins of one player fit into a day")
    );
    assert!(limits("wins_per_round: 3, wins_per_campaign: 7").contains("limits.wins_per_campaign"));
    assert_eq!(limits("wins_per_round: 3, wins_per_day: 6, wins_per_campaign: 6"), "");
    assert!(limits("wins_per_round: 3, participation: 4s").contains("only 2 entries"));
}

#[test]
fn prizes_for_which_nobody_is_left() {
    let limits = ("prize_sets:", "limits: {participation: 10s}\nstagger: {groups: 3, step: 5s}\nprize_sets:");
    let late = |at: &str| {
        let curve = format!(
            "max: 20\n      curve: [{{at: 0s, share: 0%}}, {{at: {at}, share: 0%}}, {{at: end, share: 100%}}]"
        );
        told(&[limits, ("max: 20", &curve)])
    };
    assert_eq!(
        late("20s"),
        "19:14: warning: prize_sets.cash[0].curve: its first unit comes 20s after the opening, when those who \
         began with the round take part no more; release it earlier, or lengthen `limits.participation` (10s now)"
    );
    assert_eq!(late("19s"), "");
}
