//! The jurisdiction's checks and the text that players are owed.

use crate::support::{EVENING_MS, KEY, SMALL, compile_text};
use campaign::{CampaignId, Fen, PrizeId, RoundId, SeqNo, VendorId};
use quota_config::{CompileOptions, Jurisdiction, compile_for, disclosure, retention};

fn cn(text: &str) -> Result<String, String> {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    match compile_for(text.as_bytes(), &options, Some(Jurisdiction::Cn)) {
        Ok(compiled) => Ok(compiled.warnings_text()),
        Err(problems) => Err(problems.to_string()),
    }
}

fn edited(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    SMALL.replacen(from, to, 1)
}

const RELEASE: &str = "18:3: warning: rounds: its prizes are released in 2 rounds, little by little while each is \
                       open; release over time must be disclosed: publish the disclosure text, which says so round \
                       by round";

#[test]
fn release_over_time_must_be_disclosed() {
    assert_eq!(cn(SMALL), Ok(RELEASE.to_string()));
    let told = cn(&edited("max: 20", "max: 20\n      curve: front-loaded")).unwrap();
    assert!(
        told.starts_with(
            "17:14: warning: prize_sets.cash[0].curve: prize 1 is released most of it in the first half of the \
             round; players' odds depend on when they come"
        ),
        "{told}"
    );
    assert_eq!("cn".parse(), Ok(Jurisdiction::Cn));
    assert!("us".parse::<Jurisdiction>().unwrap_err().to_string().contains("write cn"));
}

#[test]
fn the_highest_prize_has_a_bound() {
    assert_eq!(cn(&edited("max: 20", "max: 50000")), Ok(RELEASE.to_string()));
    assert_eq!(
        cn(&edited("max: 20", "max: 50000.01")),
        Err(format!(
            "16:12: error: prize_sets.cash[0].max: up to 50,000.01 yuan to one winner; the highest prize of a draw \
             is worth at most 50,000.00 yuan in China\n{RELEASE}"
        ))
    );
    assert!(compile_text(&edited("max: 20", "max: 50000.01")).is_ok(), "elsewhere it is legal");
    let raised = edited("max: 20", "max: 20\n      tranches: [{units: 1, each: 60000}]");
    assert!(
        cn(&raised)
            .unwrap_err()
            .contains("17:35: error: prize_sets.cash[0].tranches[0].each: up to 60,000.00")
    );
    let car = |value: &str| {
        let car = format!(
            "    - {{id: 2, name: Car, kind: goods, weight: 1, vendor: 1, units: 1{value}}}\nrounds:"
        );
        cn(&edited("rounds:", &car))
    };
    assert!(car(", value: 50000").is_ok());
    assert!(
        car(", value: 88000")
            .unwrap_err()
            .contains("17:78: error: prize_sets.cash[1].value: a prize worth 88,000.00 yuan")
    );
    assert!(
        car("")
            .unwrap()
            .contains("17:7: warning: prize_sets.cash[1]: the file does not say what a goods is worth")
    );
}

#[test]
fn a_file_states_what_prizes_are_worth_and_vendors_deliver() {
    let text = SMALL.replacen("name: Wallet}", "name: Wallet, deliver_per_second: 40}", 1).replacen(
        "rounds:",
        "    - {id: 2, name: Tea, kind: voucher, weight: 1, vendor: 1, units: 1, value: 12.50}\nrounds:",
        1,
    );
    let stated = compile_text(&text).unwrap().stated;
    let tea = |round| ((RoundId(round), PrizeId(2)), Fen(1_250));
    assert_eq!(stated.values.into_iter().collect::<Vec<_>>(), [tea(1), tea(2)]);
    assert_eq!(stated.deliver_per_second.into_iter().collect::<Vec<_>>(), [(VendorId(1), 40)]);
    let cash = compile_text(&edited("max: 20", "max: 20\n      value: 3")).unwrap_err().to_string();
    assert_eq!(cash, "17:7: error: prize_sets.cash[0].value: cash is worth its amount; leave it out");
}

const EVENING: &str = "\
campaign: 4
name: Evening
time_zone: Asia/Shanghai
vendors:
  - {id: 1, name: Wallet}
limits: {wins_per_round: 2, wins_per_day: 3, interval: 1s}
rounds:
  - id: 1
    name: One
    open: 2026-02-16 20:00
    duration: 1m
    prizes: &
  - {id: 2, name: Two, open: 2026-02-16 21:00, duration: 1m, prizes: all}
";

fn evening() -> String {
    let sets = "prize_sets:\n  all:\n    \
        - {id: 1, name: Lucky, kind: cash, weight: 3, vendor: 1, units: 9000, sum: 36000, min: 0.5, max: 200}\n    \
        - {id: 2, name: Tea, kind: voucher, weight: 1, vendor: 1, units: 50, value: 30, deliver: on_claim, term: 7d}\n    \
        - {id: 3, name: Hat, kind: goods, weight: 0, vendor: 1, units: 5, curve: [{at: 0s, share: 0%}, {at: 50%, share: 60%}, {at: end, share: 100%}]}\n\
        rounds:";
    EVENING.replacen("rounds:", sets, 1).replacen("prizes: &", "prizes: all", 1)
}

#[test]
fn the_disclosure_says_all_quantities_and_what_weights_are() {
    let compiled = compile_text(&evening()).unwrap();
    let told = disclosure(&compiled.plan, &compiled.stated);
    for line in [
        "Evening: prizes and rules of the draw",
        "Times are those of Asia/Shanghai. Amounts are in yuan.",
        "One player wins at most 2 times in a round, 3 times in a day.",
        "Round 1, One: 2026-02-16 20:00:00 to 20:01:00",
        "Round 2, Two: 2026-02-16 21:00:00 to 21:01:00",
        "In each of these rounds:",
        "- Lucky: cash, 9,000 amounts of 0.50 to 200.00 yuan, 36,000.00 yuan in all; weight 3 of 4: picked first by 75.00%",
        "- Tea: voucher, 50 of them, each worth 30.00 yuan; weight 1 of 4: picked first by 25.00%; lapses if it is not claimed within 7d",
        "- Hat: goods, 5 of them; weight 0: given only in place of others; released unevenly: 0.00% by 0 s, 60.00% by 28.500 s, 100.00% by 57 s",
    ] {
        assert!(told.text_en.lines().any(|l| l == line), "{line}\n{}", told.text_en);
    }
    assert!(told.text_en.contains("The weights are therefore not the chance to win"));
    for line in [
        "《Evening》奖品及抽奖规则公示",
        "每位用户每场最多中奖 2 次,每天最多中奖 3 次。",
        "第 1 场「One」:2026-02-16 20:00:00 至 20:01:00",
        "- 「Lucky」:现金红包,共 9,000 份,每份 0.50 至 200.00 元随机,合计 36,000.00 元;权重 3/4(首选比例 75.00%)",
        "- 「Tea」:卡券,共 50 份,每份价值 30.00 元;权重 1/4(首选比例 25.00%);中奖后 7 天 内未领取视为放弃",
        "- 「Hat」:虚拟商品,共 5 份;权重 0,仅在其他奖品顺延时发放;非匀速投放:开场后 0 秒累计 0.00%、开场后 28.500 秒累计 60.00%、开场后 57 秒累计 100.00%",
    ] {
        assert!(told.text_zh.lines().any(|l| l == line), "{line}\n{}", told.text_zh);
    }
    assert!(told.text_zh.contains("权重不等于中奖概率"));
    assert_eq!(told.rows.len(), 3);
    let lucky = serde_json::to_value(&told.rows[0]).unwrap();
    assert_eq!(
        (&lucky["rounds"], &lucky["units"], &lucky["fen"]),
        (&serde_json::json!([1, 2]), &"9000".into(), &"3600000".into())
    );
    // Every planned unit and fen stands in the rows.
    let units: u64 = told.rows.iter().map(|r| r.units * r.rounds.len() as u64).sum();
    assert_eq!(
        units,
        compiled.plan.rounds.iter().flat_map(|r| &r.prizes).map(campaign::Prize::units).sum::<u64>()
    );
}

#[test]
fn rounds_that_differ_have_sections_of_their_own() {
    let text = evening().replacen(
        "prizes: all}",
        "prizes: [{id: 1, name: Other, kind: goods, weight: 1, vendor: 1, units: 8}]}",
        1,
    );
    let compiled = compile_text(&text).unwrap();
    assert_eq!(compiled.plan.campaign, CampaignId(4));
    let told = disclosure(&compiled.plan, &compiled.stated);
    assert_eq!(told.rows.len(), 4);
    assert_eq!(told.rows[3].rounds, [RoundId(2)]);
    assert!(!told.text_en.contains("In each of these rounds"));
}

#[test]
fn records_are_kept_for_two_calendar_years() {
    let compiled = compile_text(&evening()).unwrap();
    let kept = retention(&compiled.plan, Jurisdiction::Cn);
    let until: Vec<&str> = kept.iter().map(|k| k.until.as_str()).collect();
    // The last claim ends seven days after the last close.
    let (claims, close) = ("2028-02-23 21:01:00", "2028-02-16 21:01:00");
    assert_eq!(until, [claims, claims, close, claims]);
    assert_eq!(kept[2].why, "2 years from the close of the last round, 2026-02-16 21:01:00");
    assert_eq!(kept[2].until_ms, 1_771_246_860_000 + 730 * 86_400_000);
}

#[test]
fn problems_are_shown_to_programs_too() {
    let problems = compile_text(&edited("units: 100", "units: many")).unwrap_err();
    assert_eq!(
        serde_json::to_value(&problems).unwrap()[0],
        serde_json::json!({
            "line": 13,
            "column": 14,
            "severity": "error",
            "path": "prize_sets.cash[0].units",
            "what": "`many` is not a whole number",
            "cure": "write a whole number from 1 to 1000000000000 in digits",
        })
    );
}
