//! What right files become.

use crate::support::{EVENING_MS, KEY, SMALL, compile_text};
use campaign::curve::{Curve, WHOLE};
use campaign::plan::{CURVE_TAIL_MS, ClientPacing, Stagger};
use campaign::{Delivery, Fen, Limits, PrizeId, PrizeKind, RoundId, SeqNo, UnitAmounts, VendorId};
use proptest::prelude::*;
use quota_config::{CompileOptions, StoredCommitments, compile};

fn shipped(name: &str) -> Vec<u8> {
    std::fs::read(testkit::package().join("campaigns").join(name)).unwrap()
}

#[test]
fn the_demo_campaign_is_what_it_says() {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    let compiled = compile(&shipped("new-years-eve.yaml"), &options).unwrap();
    assert_eq!(compiled.warnings_text(), "");
    let plan = compiled.plan;
    assert_eq!((plan.campaign.0, plan.rounds.len(), plan.vendors.len()), (1, 3, 5));
    assert_eq!(plan.limits.wins_round, 3);
    assert_eq!(plan.stagger, Stagger { groups: 4, step_ms: 250 });
    let opens: Vec<u64> = plan.rounds.iter().map(|r| r.open_ms - EVENING_MS).collect();
    assert_eq!(opens, [6_000, 25_000, 44_000]);
    for round in &plan.rounds {
        assert_eq!(round.close_ms - round.open_ms, 14_000);
        let seed = KEY.round_seed(plan.campaign, round.id);
        assert_eq!((round.seed_key_id, round.seed_commitment), (KEY.id, seed.commitment()));
        let cash = &round.prizes[0];
        let expected = (PrizeKind::Cash, VendorId(1), 9_000, Fen(3_600_000), Delivery::AtOnce);
        assert_eq!((cash.kind, cash.vendor, cash.units(), cash.fen(), cash.delivery), expected);
        let mut amounts = UnitAmounts::new(cash.id.0, cash.tranches.clone());
        let keys = seed.keys();
        let all: Vec<Fen> = (0..9_000).map(|unit| amounts.amount(&keys, unit).unwrap()).collect();
        assert!(all.iter().all(|a| (Fen(50)..=Fen(20_000)).contains(a)));
        assert_eq!(all.into_iter().sum::<Fen>(), cash.fen());
        assert_eq!(round.prizes[3].delivery, Delivery::OnClaim { term_ms: 20_000 });
        // Enough players take everything: 20,000 of them may win three times each.
        let units: u64 = round.prizes.iter().map(campaign::Prize::units).sum();
        assert!((15_000..=20_000).contains(&units));
        assert!(round.prizes.iter().all(|p| p.curve.end_ms() + CURVE_TAIL_MS <= 14_000));
    }
    assert_eq!(plan.rounds[0].prizes[4].curve.share(5_500), WHOLE * 6 / 10);
}

#[test]
fn the_other_campaigns_compile_without_a_warning() {
    for (name, id, units) in [("tour.yaml", 2, 4_320_000), ("bench.yaml", 3, 717_120_000)] {
        let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
        let compiled = compile(&shipped(name), &options).unwrap();
        assert_eq!(compiled.warnings_text(), "");
        let plan = compiled.plan;
        assert_eq!(plan.campaign.0, id);
        assert_eq!((plan.rounds[0].open_ms, plan.rounds[0].close_ms), (EVENING_MS, EVENING_MS + 86_400_000));
        assert_eq!(plan.rounds[0].prizes.iter().map(campaign::Prize::units).sum::<u64>(), units);
        // A day from eight in the evening is two local days.
        assert_eq!(plan.days.len(), 2);
        assert_eq!(plan.day_at(EVENING_MS + 4 * 3_600_000), plan.day_at(EVENING_MS) + 1);
    }
}

#[test]
fn the_campaign_with_regions_compiles_without_a_warning() {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    let compiled = compile(&shipped("lanterns.yaml"), &options).unwrap();
    assert_eq!(compiled.warnings_text(), "");
    let plan = compiled.plan;
    // Shanghai, Nanjing, elsewhere in Jiangsu, Beijing, not known: which prizes can be won.
    for (district, can) in [
        (310_101, vec![1, 4, 5]),
        (320_104, vec![1, 2, 3, 4, 5]),
        (321_000, vec![1, 3, 4, 5]),
        (110_101, vec![1, 5]),
        (0, vec![1, 5]),
    ] {
        let prizes = plan.rounds[0].prizes.iter().filter(|p| plan.can_be_won_in(p, district));
        assert_eq!(prizes.map(|p| p.id.0).collect::<Vec<_>>(), can, "{district}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = compile_text(SMALL).unwrap().plan;
    assert_eq!(plan.limits, Limits { interval_ms: 2_000, shakes_per_second: 5, ..Limits::default() });
    assert_eq!(plan.pacing, ClientPacing { submit_min_ms: 2_000, submit_max_ms: 3_000 });
    let prize = &plan.rounds[1].prizes[0];
    assert_eq!(prize.curve, Curve::even(0, 57_000));
    assert_eq!((prize.speed_max, prize.catch_up_percent), (0, 200));
    assert_eq!((plan.seq_no, plan.time_zone.as_str()), (SeqNo(1), "Asia/Shanghai"));
    assert_eq!(plan.round_at(EVENING_MS + 300_000).unwrap().id, RoundId(2));
}

#[test]
fn tranches_count_on_where_the_one_before_ends() {
    let text = SMALL.replacen(
        "max: 20",
        "max: 20\n      tranches: [{units: 5, each: 8.88}, {units: 7, each: 1}]",
        1,
    );
    let prize = compile_text(&text).unwrap().plan.rounds[0].prizes[0].clone();
    let firsts: Vec<(u64, u64)> = prize.tranches.iter().map(|t| (t.first, t.units)).collect();
    assert_eq!(firsts, [(0, 100), (100, 5), (105, 7)]);
    assert_eq!(prize.fen(), Fen(40_000 + 5 * 888 + 700));
}

#[test]
fn rounds_repeat_within_dates_and_keep_their_numbers() {
    let repeat = |to: &str| {
        let text = format!(
            "campaign: 1\nname: N\ntime_zone: Europe/Berlin\nvendors: [{{id: 1, name: V}}]\n\
             prize_sets:\n  s: [{{id: 3, name: P, kind: goods, weight: 1, vendor: 1, units: 9}}]\n\
             rounds:\n  - id: 100\n    name: Hourly\n    duration: 10m\n    prizes: s\n    \
             repeat: {{from: 2026-03-28, to: {to}, first: 10:00, last: 22:00, every: 1h}}\n"
        );
        compile_text(&text).unwrap().plan
    };
    let plan = repeat("2026-03-30");
    assert_eq!(plan.rounds.len(), 39);
    assert_eq!((plan.rounds[0].id, plan.rounds[38].id), (RoundId(100), RoundId(138)));
    assert_eq!(plan.rounds[13].name, "Hourly 03-29 10:00");
    // The clocks go forward in the night of the 29th: that day's rounds are an hour earlier by UTC.
    assert_eq!(plan.rounds[13].open_ms - plan.rounds[0].open_ms, 23 * 3_600_000);
    assert_eq!(plan.days.len(), 3);
    let longer = repeat("2026-04-02");
    let times = |plan: &campaign::Plan| plan.rounds.iter().map(|r| (r.id, r.open_ms)).collect::<Vec<_>>();
    assert_eq!(times(&longer)[..39], times(&plan));
}

#[test]
fn a_plan_compiles_again_without_the_secret() {
    let plan = compile_text(SMALL).unwrap().plan;
    let stored = StoredCommitments::from_bytes(&StoredCommitments::of(&plan).to_bytes()).unwrap();
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &stored, after: None };
    assert_eq!(compile(SMALL.as_bytes(), &options).unwrap().plan, plan);
    let none = StoredCommitments::default();
    let problems = compile(SMALL.as_bytes(), &CompileOptions { seeds: &none, ..options }).unwrap_err();
    assert!(problems.to_string().contains("no seed commitment for round 1"), "{problems}");
    assert_eq!(StoredCommitments::from_bytes(&[0; 41]), None);
    assert_eq!(StoredCommitments::from_bytes(&[0; 80]), None);
}

#[derive(Debug, Clone)]
struct PrizeDraft {
    kind: usize,
    weight: u32,
    units: u64,
    min: i64,
    spread: i64,
    fill: u32,
    curve: usize,
    claim: bool,
}

fn prize() -> impl Strategy<Value = PrizeDraft> {
    let money = (1i64..5_000, 0i64..100_000, 0u32..=1_000);
    (0usize..4, 0u32..100, 1u64..1_000_000, money, 0usize..4, any::<bool>()).prop_map(
        |(kind, weight, units, (min, spread, fill), curve, claim)| PrizeDraft {
            kind,
            weight,
            units,
            min,
            spread,
            fill,
            curve,
            claim,
        },
    )
}

fn prize_text(id: usize, p: &PrizeDraft) -> (String, Fen) {
    let kind = ["cash", "voucher", "goods", "cover"][p.kind];
    let mut fen = Fen::ZERO;
    let money = if p.kind == 0 {
        let max = p.min + p.spread;
        fen = Fen(p.units as i64 * p.min + p.units as i64 * p.spread / 1_000 * i64::from(p.fill));
        format!(", sum: {fen}, min: {}, max: {}", Fen(p.min), Fen(max))
    } else {
        String::new()
    };
    let curve = [
        "",
        ", curve: even",
        ", curve: front-loaded",
        ", curve: [{at: 0s, share: 0%}, {at: end, share: 100%}]",
    ];
    let deliver = if p.claim { ", deliver: on_claim, term: 90m" } else { "" };
    let text = format!(
        "      - {{id: {id}, name: P{id}, kind: {kind}, weight: {}, vendor: 1, units: {}{money}{}{deliver}}}\n",
        p.weight, p.units, curve[p.curve]
    );
    (text, fen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is planned within the rules compiles, twice to the same, and every fen is in a tranche.
    #[test]
    fn right_files_compile(
        rounds in prop::collection::vec((prop::collection::vec(prize(), 1..6), 0u64..1_000, 5u64..5_000), 1..6),
    ) {
        let mut text = String::from("campaign: 9\nname: Random\ntime_zone: Asia/Shanghai\nvendors: [{id: 1, name: V}]\nrounds:\n");
        let (mut at, mut sums) = (0, Vec::new());
        for (i, (prizes, gap, duration)) in rounds.iter().enumerate() {
            at += gap;
            text += &format!("  - id: {}\n    name: R\n    open: +{at}s\n    duration: {duration}s\n    prizes:\n", i + 1);
            at += duration;
            for (j, prize) in prizes.iter().enumerate() {
                let (line, fen) = prize_text(j + 1, prize);
                text += &line;
                sums.push((prize.units, fen));
            }
        }
        let plan = compile_text(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?.plan;
        prop_assert_eq!(&compile_text(&text).unwrap().plan, &plan);
        let planned: Vec<(u64, Fen)> =
            plan.rounds.iter().flat_map(|r| &r.prizes).map(|p| (p.units(), p.fen())).collect();
        prop_assert_eq!(planned, sums);
        for round in &plan.rounds {
            prop_assert!(round.prizes.iter().all(|p| p.tranches.iter().all(|t| t.check().is_ok())));
            prop_assert!(round.prizes.iter().all(|p| p.curve.end_ms() + CURVE_TAIL_MS <= round.close_ms - round.open_ms));
            prop_assert_eq!(round.position(PrizeId(1)), Some(0));
        }
        prop_assert!(plan.rounds.windows(2).all(|w| w[0].close_ms <= w[1].open_ms));
        prop_assert!(plan.days.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
    }

    /// No text brings the reader down.
    #[test]
    fn any_text_gets_an_answer(text in "[ a-z0-9:{}\\[\\]\\-,&*!|>#%@'\"\\n\\t.+~?]{0,200}") {
        let _ = compile_text(&text);
    }

    /// Nor does a right file with some of its text replaced.
    #[test]
    fn any_damage_gets_an_answer(at in 0usize..400, len in 0usize..12, put in "[ a-z0-9:{}\\[\\],\\n%+.-]{0,12}") {
        let at = at.min(SMALL.len());
        let end = (at + len).min(SMALL.len());
        let _ = compile_text(&format!("{}{put}{}", &SMALL[..at], &SMALL[end..]));
    }
}

/// A thousand rounds share a set of fifty prizes.
#[test]
fn large_campaigns_compile() {
    let mut text = String::from(
        "campaign: 9\nname: Big\ntime_zone: Asia/Shanghai\nvendors: [{id: 1, name: V}]\nprize_sets:\n  s:\n",
    );
    for i in 1..=50 {
        text += &format!(
            "    - {{id: {i}, name: P, kind: cash, weight: 3, vendor: 1, units: 9000, sum: 36000, min: 0.50, max: 200}}\n"
        );
    }
    text += "rounds:\n";
    for i in 1..=1_000 {
        text += &format!("  - {{id: {i}, name: R{i}, open: +{}m, duration: 5m, prizes: s}}\n", i * 5);
    }
    let plan = compile_text(&text).unwrap().plan;
    assert_eq!((plan.rounds.len(), plan.rounds[999].prizes.len()), (1_000, 50));
    assert_eq!(plan.rounds[999].prizes[49], plan.rounds[0].prizes[49]);
    let more: String = (1_001..=4_001)
        .map(|i| format!("  - {{id: {i}, name: R, open: +{}m, duration: 5m, prizes: s}}\n", i * 5))
        .collect();
    let problems = compile_text(&(text + &more)).unwrap_err();
    assert!(problems.to_string().contains("4001 rounds with 200050 prizes in all"), "{problems}");
}
