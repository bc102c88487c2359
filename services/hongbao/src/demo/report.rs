//! The demonstration's verdict, for people and as `REPORT`.
//!
//! `REPORT` is `{"laws": [{"law", "holds", "detail"}], "prizes": [{"round", "prize", "budget_units", "budget_fen", ...}]}`
//! and nothing else. `holds` is true only for a law that was checked and holds.

use reconcile::Settlement;
use reconcile::laws::{Law, Verdict};
use reconcile::settlement::{COLUMNS, PrizeLine};
use serde_json::{Map, Value, json};

use super::told::ToldCheck;

/// What the demonstration saw besides, from the players' side and the vendors'.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// What players were told against the award store.
    pub told: ToldCheck,
    /// Awards that a player was told twice, differently.
    pub contradictions: u64,
    /// Payouts that a vendor took for an award that it had paid.
    pub double_payments: u64,
    /// Enough players came to every round: everything must have been given out.
    pub everything_goes: bool,
}

/// A settlement with what was seen besides worked into its laws.
pub(super) fn with_seen(mut settlement: Settlement, seen: &Seen) -> Settlement {
    let unissued = settlement.total(|totals| totals.unissued);
    for law in &mut settlement.laws {
        match law.law {
            2 => {
                law.detail = format!("{}; {}", law.detail, seen.told.text());
                if !seen.told.holds() {
                    law.verdict = Verdict::Broken;
                }
                if seen.contradictions > 0 {
                    let text = format!("{} awards told twice, differently", seen.contradictions);
                    broken(law, &text);
                }
            }
            3 if seen.double_payments > 0 => {
                let text = format!("{} awards paid twice by the vendors' own count", seen.double_payments);
                broken(law, &text);
            }
            6 if seen.everything_goes && unissued.units > 0 => {
                let text =
                    format!("{} units unissued, though enough players came to every round", unissued.units);
                broken(law, &text);
            }
            6 if seen.everything_goes => law.detail += "; nothing unissued",
            _ => {}
        }
    }
    settlement
}

fn broken(law: &mut Law, what: &str) {
    law.verdict = Verdict::Broken;
    law.detail = format!("{what}; {}", law.detail);
}

/// The settlement as `REPORT`.
pub(super) fn report(settlement: &Settlement) -> Value {
    json!({
        "laws": settlement.laws.iter().map(law).collect::<Vec<_>>(),
        "prizes": settlement.prizes.iter().map(prize).collect::<Vec<_>>(),
    })
}

fn law(law: &Law) -> Value {
    json!({
        "law": law.law,
        "holds": law.verdict == Verdict::Holds,
        "detail": format!("{}: {}", law.name, law.detail),
    })
}

fn prize(line: &PrizeLine) -> Value {
    let mut fields = Map::new();
    fields.insert("round".into(), line.key.round.0.into());
    fields.insert("prize".into(), line.key.prize.0.into());
    for (name, column) in COLUMNS {
        let sum = column(&line.totals);
        fields.insert(format!("{name}_units"), sum.units.into());
        fields.insert(format!("{name}_fen"), sum.fen.0.into());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::{Seen, report, with_seen};
    use crate::demo::told::ToldCheck;
    use campaign::Fen;
    use reconcile::laws::{Law, Verdict};
    use reconcile::matching::{Sum, Totals};
    use reconcile::rows::PrizeKey;
    use reconcile::settlement::{PrizeLine, Read, Settlement};
    use std::collections::BTreeSet;

    fn settlement() -> Settlement {
        let law = |law, verdict| Law { law, name: "a name", verdict, detail: "numbers".into() };
        let totals = Totals { budget: Sum { units: 7, fen: Fen(700) }, ..Totals::default() };
        Settlement {
            now_ms: 1,
            responsible: "me".into(),
            laws: vec![law(1, Verdict::Holds), law(2, Verdict::Holds), law(6, Verdict::NotChecked)],
            prizes: vec![PrizeLine {
                key: PrizeKey { campaign: 1.into(), round: 2.into(), prize: 3.into() },
                round_name: "r".into(),
                name: "p".into(),
                totals,
            }],
            breaks: vec![],
            counts: vec![],
            matched: 0,
            foreign: Sum::default(),
            read: Read::default(),
            notes: vec![],
        }
    }

    #[test]
    fn the_report_has_exactly_the_promised_keys() {
        let report = report(&settlement());
        let keys =
            |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(keys(&report), set(&["laws", "prizes"]));
        assert_eq!(keys(&report["laws"][0]), set(&["law", "holds", "detail"]));
        let mut wanted = set(&["round", "prize"]);
        for name in ["budget", "awarded", "delivered", "statement", "open", "lapsed", "unissued", "locked"] {
            wanted.insert(format!("{name}_units"));
            wanted.insert(format!("{name}_fen"));
        }
        assert_eq!(keys(&report["prizes"][0]), wanted);
        assert_eq!(report["prizes"][0]["budget_fen"], 700);
        assert_eq!(report["laws"][0]["holds"], true);
        assert_eq!(report["laws"][2]["holds"], false, "not checked is not held");
    }

    #[test]
    fn what_was_seen_besides_breaks_its_law_and_no_other() {
        let seen = Seen { told: ToldCheck { told: 5, stored: 5, ..ToldCheck::default() }, ..Seen::default() };
        let verdicts = |seen: &Seen| {
            let mut settlement = settlement();
            settlement.laws.push(Law { law: 3, ..settlement.laws[0].clone() });
            settlement.laws[2].verdict = Verdict::Holds;
            settlement.prizes[0].totals.unissued = Sum { units: 1, fen: Fen(1) };
            let laws = with_seen(settlement, seen).laws;
            let broken = laws.iter().filter(|law| law.verdict == Verdict::Broken);
            broken.map(|law| law.law).collect::<Vec<_>>()
        };
        assert!(verdicts(&seen).is_empty());
        let missing = ToldCheck { missing: 1, ..seen.told.clone() };
        assert_eq!(verdicts(&Seen { told: missing, ..seen.clone() }), [2]);
        assert_eq!(verdicts(&Seen { contradictions: 1, ..seen.clone() }), [2]);
        assert_eq!(verdicts(&Seen { double_payments: 1, ..seen.clone() }), [3]);
        assert_eq!(verdicts(&Seen { everything_goes: true, ..seen }), [6]);
    }
}
