//! The report for programs.
//!
//! `{"laws": [{"law", "name", "holds", "detail"}], "prizes": [{"campaign", "round", "prize", "name", "budget_units", "budget_fen",
//! ...}], "breaks": [...], "break_counts": {kind: count}, ...}`. `holds` is true, false, or null where a law could not be
//! checked. Money is whole fen. Ids of users and awards are strings, since they need not fit a double.

use crate::breaks::Break;
use crate::laws::Verdict;
use crate::settlement::{COLUMNS, PrizeLine, Settlement};
use serde_json::{Map, Value, json};

/// The report as JSON, with a line feed at its end.
pub fn json(settlement: &Settlement) -> String {
    let laws: Vec<Value> = settlement
        .laws
        .iter()
        .map(|law| {
            let holds = match law.verdict {
                Verdict::Holds => Value::Bool(true),
                Verdict::Broken => Value::Bool(false),
                Verdict::NotChecked => Value::Null,
            };
            json!({ "law": law.law, "name": law.name, "holds": holds, "detail": law.detail })
        })
        .collect();
    let counts: Map<String, Value> = settlement
        .counts
        .iter()
        .map(|(kind, count)| (kind.name().to_string(), Value::from(*count)))
        .collect();
    let report = json!({
        "laws": laws,
        "prizes": settlement.prizes.iter().map(prize).collect::<Vec<_>>(),
        "breaks": settlement.breaks.iter().map(|b| found(b, settlement.now_ms)).collect::<Vec<_>>(),
        "break_counts": counts,
        "breaks_total": settlement.break_count(),
        "matched": settlement.matched,
        "now_ms": settlement.now_ms,
        "responsible": settlement.responsible,
        "unknown_payments_units": settlement.foreign.units,
        "unknown_payments_fen": settlement.foreign.fen.0,
        "read": {
            "groups": settlement.read.groups, "awards": settlement.read.awards, "journal_steps": settlement.read.steps,
            "statement_rows": settlement.read.statement_rows, "told": settlement.read.told,
        },
        "notes": settlement.notes,
    });
    // A Value of ours has string keys and finite numbers, so it always has a text.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn prize(line: &PrizeLine) -> Value {
    let mut fields = Map::new();
    fields.insert("campaign".into(), line.key.campaign.0.into());
    fields.insert("round".into(), line.key.round.0.into());
    fields.insert("prize".into(), line.key.prize.0.into());
    fields.insert("name".into(), line.name.clone().into());
    for (name, column) in COLUMNS {
        let sum = column(&line.totals);
        fields.insert(format!("{name}_units"), sum.units.into());
        fields.insert(format!("{name}_fen"), sum.fen.0.into());
    }
    Value::Object(fields)
}

fn found(b: &Break, now_ms: u64) -> Value {
    json!({
        "id": b.id(), "class": b.kind.class().name(), "kind": b.kind.name(), "subject": b.subject,
        "campaign": b.campaign.0, "round": b.round.0, "prize": b.prize.0, "user": b.user.0.to_string(),
        "vendor": b.vendor.0, "expected_fen": b.expected.0, "found_fen": b.found.0, "since_ms": b.since_ms,
        "age_ms": b.age_ms(now_ms), "detail": b.detail, "action": b.kind.action(),
    })
}
