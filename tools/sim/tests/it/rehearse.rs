//! Small rehearsals: the same seed, the same result; nothing lost, nothing made; what is told is what was counted.

use quota_config::{CompileOptions, compile};
use sim::rehearse::{
    Arrivals, Behaviour, Districts, Rehearsal, RehearseError, START_MS, Setup, VendorSetup, compile_key,
    html, rehearse, text,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;

const EXAMPLE: &str = include_str!("../../../../quota-config/campaigns/new-years-eve.yaml");
const BENCH: &str = include_str!("../../../../quota-config/campaigns/bench.yaml");

fn plan(source: &str) -> campaign::Plan {
    let key = compile_key();
    let options = CompileOptions { seq_no: campaign::SeqNo(1), base_ms: START_MS, seeds: &key, after: None };
    compile(source.as_bytes(), &options).unwrap().plan
}

fn play(source: &str, setup: &Setup) -> Rehearsal {
    let rehearsal = rehearse(&plan(source), setup, |_| ControlFlow::Continue(())).unwrap();
    assert!(rehearsal.holds(), "{:?}", rehearsal.laws);
    rehearsal
}

/// The example as it was made for: twenty thousand players.
fn example() -> &'static Rehearsal {
    static EXAMPLE_PLAYED: OnceLock<Rehearsal> = OnceLock::new();
    EXAMPLE_PLAYED.get_or_init(|| play(EXAMPLE, &Setup::new(20_000)))
}

/// A round of half a minute with one prize; 100 units a second are released.
fn small(units: u64, limits: &str, prize: &str) -> String {
    format!(
        "campaign: 7\nname: Small\ntime_zone: Asia/Shanghai\nvendors:\n  - {{id: 1, name: Wallet}}\nlimits: {{interval: 1s{limits}}}\n\
         rounds:\n  - id: 1\n    name: One\n    open: +10s\n    duration: 30s\n    prizes:\n      - {{id: 1, name: Cash, kind: cash, weight: 1, vendor: 1, units: {units}, sum: {units}, min: 0.50, max: 20{prize}}}\n"
    )
}

fn seconds(ms: u64) -> u64 {
    (ms - START_MS) / 1_000
}

#[test]
fn the_same_seed_gives_the_same_rehearsal() {
    let setup = Setup { seed: 5, nodes: 3, ..Setup::new(4_000) };
    let one = play(EXAMPLE, &setup);
    assert_eq!(one, play(EXAMPLE, &setup));
    assert_eq!(
        one.json(),
        play(EXAMPLE, &Setup { threads: 3, ..setup.clone() }).json(),
        "threads only share the work"
    );
    assert_ne!(one, play(EXAMPLE, &Setup { seed: 6, ..setup }));
}

#[test]
fn the_example_is_given_out_whole() {
    let r = example();
    assert_eq!(r.rounds.len(), 3);
    for round in &r.rounds {
        assert_eq!((round.unissued, round.wins, round.fen_won), (0, round.units, round.fen));
        assert_eq!(round.wins_by_step.iter().sum::<u64>(), round.wins);
        assert_eq!(round.draws_by_step.iter().sum::<u64>(), round.draws);
        assert_eq!(round.minutes.iter().map(|m| m.draws).sum::<u64>(), round.draws);
        for prize in &round.prizes {
            let gone = prize.exhausted_ms.unwrap();
            assert!(prize.first_ms.unwrap() >= round.open_ms && gone < round.close_ms);
            assert_eq!(prize.won_by.last(), Some(&prize.units));
            assert!(prize.won_by.is_sorted() && prize.released.is_sorted());
            // Nothing is won before its slot: at most the units of one slot ahead of the curve.
            let slot = prize.units * 2 / 100 + 2;
            assert!(prize.won_by.iter().zip(&prize.released).all(|(w, r)| *w <= r + slot), "{prize:?}");
        }
    }
    let t = &r.totals;
    assert_eq!(
        (t.players, t.units, t.wins, t.fen, t.fen_won),
        (20_000, 54_900, 54_900, 10_800_000, 10_800_000)
    );
    let counted: u64 = r.wins_per_player.iter().map(|l| l.players * l.wins as u64).sum();
    assert_eq!((counted, r.wins_per_player.iter().map(|l| l.players).sum()), (t.wins, 20_000));
    assert!(r.wins_per_player.len() <= 10, "nine wins are the limit of the campaign");
    let orders: u64 = r.vendors.iter().map(|v| v.orders).sum();
    assert_eq!((orders, r.vendors.iter().map(|v| v.delivered).sum()), (t.wins, t.wins));
}

#[test]
fn too_few_players_leave_units_and_it_is_said() {
    let r = play(&small(2_700, "", ""), &Setup::new(20));
    let prize = &r.rounds[0].prizes[0];
    assert!(prize.exhausted_ms.is_none() && prize.unissued > 1_000 && prize.behind_max > 1_000);
    assert_eq!(prize.won + prize.unissued, 2_700);
    // Twenty players at one submit a second and a bit: 27 or 28 draws each, and all of them win.
    assert!((500..=600).contains(&r.totals.draws), "{}", r.totals.draws);
    let codes: Vec<&str> = r.warnings.iter().map(|w| w.code).collect();
    assert!(codes.contains(&"unissued") && codes.contains(&"tail"), "{codes:?}");
}

#[test]
fn nobody_wins_more_than_he_may_and_whoever_has_his_stops() {
    let r = play(&small(2_700, ", wins_per_round: 2", ""), &Setup::new(200));
    assert_eq!(r.totals.wins, 400);
    let lines: BTreeMap<usize, u64> = r.wins_per_player.iter().map(|l| (l.wins, l.players)).collect();
    assert_eq!(lines.get(&2), Some(&200));
    assert!(r.totals.limited <= 200, "told once, he does not ask again: {}", r.totals.limited);
}

#[test]
fn players_come_stay_and_leave_as_they_are_told() {
    let arrivals = Arrivals::parse("second,players\n0,100\n10,200\n20,0\n", 300).unwrap();
    let behaviour =
        Behaviour { stay_ms: Some(5_000), jitter_ms: 0, first_within_ms: 0, ..Behaviour::default() };
    let r = play(&small(2_700, "", ""), &Setup { arrivals, behaviour, ..Setup::new(300) });
    // Each stays for five seconds and submits at once and then every second, winners a ms later.
    assert_eq!((r.totals.players, r.totals.draws), (300, 1_500));
    let by_second = |from: u64, to: u64| -> u64 {
        let step = r.rounds[0].step_ms;
        let at = |i: usize| i as u64 * step / 1_000;
        let steps = r.rounds[0].draws_by_step.iter().enumerate();
        steps.filter(|(i, _)| (from..to).contains(&at(*i))).map(|(_, n)| n).sum()
    };
    assert_eq!(by_second(25, 30), 0, "everybody has left");
    assert!(by_second(0, 10) < by_second(10, 20));
    let second = r.totals.peak_ms / 1_000 - START_MS / 1_000 - 10;
    assert!((10..=20).contains(&second) && (95..=105).contains(&r.totals.peak_per_second), "{:?}", r.totals);
}

#[test]
fn a_slow_vendor_needs_as_long_as_arithmetic_says() {
    let vendors = vec![VendorSetup::new(1, 20, 100)];
    let r = play(&small(1_350, "", ""), &Setup { vendors, ..Setup::new(2_000) });
    let vendor = &r.vendors[0];
    assert_eq!((vendor.orders, vendor.delivered), (1_350, 1_350));
    // 1,350 units in 27 s are 50 a second; 20 of them go out: 30 wait more each second, and 67.5 s are needed.
    let first = r.rounds[0].prizes[0].first_ms.unwrap();
    let took = vendor.done_ms.unwrap() - first;
    assert!((66_000..=70_000).contains(&took), "{took}");
    assert!((780..=850).contains(&vendor.backlog_max), "{}", vendor.backlog_max);
    assert!((39_000..=42_000).contains(&vendor.wait_max_ms), "{}", vendor.wait_max_ms);
    assert!((18_000..=22_000).contains(&vendor.wait_p50_ms), "{}", vendor.wait_p50_ms);
    assert_eq!(vendor.backlog.last(), Some(&0));
}

#[test]
fn prizes_to_claim_are_claimed_in_their_term_or_not_at_all() {
    let source = small(1_350, "", ", deliver: on_claim, term: 20s");
    let behaviour = Behaviour { claims_percent: 60, ..Behaviour::default() };
    let r = play(&source, &Setup { behaviour, ..Setup::new(2_000) });
    let vendor = &r.vendors[0];
    assert_eq!(vendor.orders + vendor.unclaimed, 1_350);
    assert!((740..=880).contains(&vendor.orders), "{}", vendor.orders);
    let last_win = r.rounds[0].prizes[0].exhausted_ms.unwrap();
    assert!(vendor.last_order_ms.unwrap() > last_win && vendor.last_order_ms.unwrap() < last_win + 20_000);
}

#[test]
fn idle_hours_cost_nothing() {
    let one = small(2_700, "", "");
    let (head, round) = one.split_once("rounds:\n").unwrap();
    let second = round.replace("id: 1\n    name: One", "id: 2\n    name: Two").replace("+10s", "+23h");
    let r = play(&format!("{head}rounds:\n{round}{second}"), &Setup::new(2_000));
    assert_eq!(r.rounds.iter().map(|r| r.wins).collect::<Vec<_>>(), [2_700, 2_700]);
    assert_eq!(r.rounds[1].open_ms, START_MS + 23 * 3_600_000);
    // A day-long round in which players stay for a minute.
    let behaviour = Behaviour { stay_ms: Some(60_000), ..Behaviour::default() };
    let arrivals = Arrivals::evenly(2_000, 0, 60_000);
    let r = play(BENCH, &Setup { behaviour, arrivals, ..Setup::new(2_000) });
    assert!(r.totals.draws > 100_000 && r.rounds[0].unissued > 700_000_000, "{:?}", r.totals);
}

#[test]
fn a_paused_prize_gives_nothing_and_others_go_on() {
    let mut plan = plan(EXAMPLE);
    plan.rounds[1].prizes[0].paused = true;
    let r = rehearse(&plan, &Setup::new(20_000), |_| ControlFlow::Continue(())).unwrap();
    assert!(r.holds(), "{:?}", r.laws);
    let round = &r.rounds[1];
    assert_eq!((round.prizes[0].won, round.unissued), (0, 9_000));
    assert!(round.prizes[1..].iter().all(|p| p.exhausted_ms.is_some()));
    assert!(r.warnings.iter().any(|w| w.code == "paused" && w.text.contains("2/1")));
}

#[test]
fn several_nodes_give_out_everything_too() {
    for (nodes, threads) in [(1, 1), (4, 2)] {
        let r = play(EXAMPLE, &Setup { nodes, threads, ..Setup::new(20_000) });
        assert_eq!((r.totals.wins, r.nodes.len()), (54_900, nodes));
        assert_eq!(r.nodes.iter().map(|n| n.draws).sum::<u64>(), r.totals.draws);
    }
}

#[test]
fn the_observer_may_end_it_and_a_wrong_setup_is_refused() {
    let plan = plan(EXAMPLE);
    let mut told = 0;
    let ended = rehearse(&plan, &Setup::new(2_000), |p| {
        told += 1;
        assert!(p.draws <= p.submits && p.permille <= 1_000);
        if told == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(ended, Err(RehearseError::Cancelled)) && told == 3);
    let refused =
        |setup: Setup| rehearse(&plan, &setup, |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(
        refused(Setup { vendors: vec![VendorSetup::new(99, 1, 1)], ..Setup::new(5) })
            .contains("1, 11, 12, 13, 21")
    );
    assert!(refused(Setup { nodes: 0, ..Setup::new(5) }).contains("0 nodes"));
    assert!(refused(Setup { arrivals: Arrivals::evenly(9, 0, 1), ..Setup::new(5) }).contains("1 to 5"));
}

#[test]
fn shows_what_it_found() {
    let r = example();
    let shown = text(r);
    for part in ["20,000 players", "108,000.00", "Lucky cash", "Tea house", "Laws: all 5 hold.", "20:00:"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let page = html(r);
    for part in
        ["<svg", "polyline", "预演", "供应商", "Third round", "prefers-color-scheme:dark", "@media print"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        !page.contains("http") && !page.contains("<script") && !page.contains("url("),
        "nothing is fetched"
    );
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    let json: serde_json::Value = serde_json::from_str(&r.json()).unwrap();
    assert_eq!(json["totals"]["wins"], "54900");
    assert!(json["rounds"][0]["prizes"][0]["won_by"][0].is_string());
    assert_eq!(seconds(r.rounds[0].open_ms), 6);
}

/// A prize for one district and one for everybody.
fn regional() -> String {
    small(900, ", wins_per_round: 5", ", regions: [north]").replacen(
        "vendors:",
        "regions: {north: [100-199]}\nvendors:",
        1,
    ) + "      - {id: 2, name: Tea, kind: voucher, weight: 1, vendor: 1, units: 900}\n"
}

#[test]
fn regional_prizes_are_won_by_those_who_are_there() {
    let at = |table: &str| Setup { districts: Some(Districts::parse(table).unwrap()), ..Setup::new(4_000) };
    let r = play(&regional(), &at("district,share\n0,40%\n150,40%\n200,20%\n"));
    assert_eq!(r.rounds[0].unissued, 0, "{:?}", r.warnings);
    assert!(r.warnings.iter().all(|w| w.code != "regions"), "{:?}", r.warnings);
    let setup = at("district,share\n0,40%\n150,40%\n200,20%\n");
    assert_eq!(r, play(&regional(), &setup), "the same seed, the same districts");
}

#[test]
fn where_nobody_is_said_to_be_regional_prizes_stay_and_it_is_said() {
    for (districts, told) in [
        (None, "none of the 1 prizes that are limited to regions is won"),
        (Some("district,players\n99,1\n"), "prize 1/1 (Cash): no player is in its regions"),
    ] {
        let districts = districts.map(|table| Districts::parse(table).unwrap());
        let r = play(&regional(), &Setup { districts, ..Setup::new(4_000) });
        let prizes = &r.rounds[0].prizes;
        assert_eq!((prizes[0].won, prizes[1].unissued), (0, 0));
        assert!(r.warnings.iter().any(|w| w.code == "regions" && w.text.contains(told)), "{:?}", r.warnings);
        assert!(text(&r).contains(told));
    }
}
