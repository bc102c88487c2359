//! What a change does, or did: the difference against what runs, its effects, who has to agree.

use serde::Deserialize;
use serde_json::Value;

use super::outline;
use super::paint::{Paint, Style};
use super::value::{Word, clean, grouped, line, short};

/// What a change would do.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Preview {
    campaign: Word,
    /// What it was held against.
    pub base_seq_no: Word,
    diff: Vec<Difference>,
    diff_left_out: Word,
    summary: Vec<String>,
    warnings: Vec<Value>,
    needs_two: Vec<String>,
}

/// One entry that differs.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Difference {
    path: String,
    before: Value,
    after: Value,
    effect: Option<String>,
}

/// What became of a change.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Change {
    state: String,
    campaign: Word,
    seq_no: Word,
    proposal: Word,
    /// What it does.
    pub preview: Option<Preview>,
    effects: Vec<Value>,
}

/// What the platform did at once for one prize.
#[derive(Deserialize)]
struct Effect {
    #[serde(default)]
    prize: Option<String>,
    what: String,
    done: bool,
}

/// The lines of a preview.
pub fn preview(preview: &Preview, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    if !preview.campaign.0.is_empty() {
        let against = match preview.base_seq_no.0.as_str() {
            "" | "0" => "not published yet".to_owned(),
            base => format!("against SeqNo {base}, which runs"),
        };
        out.push(paint.style(Style::Bold, &format!("campaign {}, {against}", preview.campaign)));
    }
    if preview.diff.is_empty() && preview.summary.is_empty() {
        out.push("no difference".to_owned());
    }
    out.extend(preview.diff.iter().flat_map(|difference| lines_of(difference, paint)));
    if preview.diff_left_out.count() > 0 {
        out.push(format!("  and {} differences more", grouped(preview.diff_left_out.count())));
    }
    out.extend(preview.summary.iter().map(|text| format!("= {}", clean(text))));
    for warning in &preview.warnings {
        out.push(paint.style(Style::Warn, &format!("warning: {}", warning_text(warning))));
    }
    if !preview.needs_two.is_empty() {
        out.push(paint.style(Style::Warn, "needs a second person:"));
        out.extend(preview.needs_two.iter().map(|why| format!("  {}", clean(why))));
    }
    out
}

fn lines_of(difference: &Difference, paint: Paint) -> Vec<String> {
    let Difference { path, before, after, effect } = difference;
    let path = line(path);
    let first = match (before.is_null(), after.is_null()) {
        (true, true) => paint.style(Style::Warn, &format!("~ {path}")),
        (true, false) => paint.style(Style::Good, &format!("+ {path}: {}", short(after))),
        (false, true) => paint.style(Style::Bad, &format!("- {path}: {}", short(before))),
        (false, false) => {
            paint.style(Style::Warn, &format!("~ {path}: {} -> {}", short(before), short(after)))
        }
    };
    let effect = effect.as_deref().filter(|text| !text.is_empty());
    std::iter::once(first).chain(effect.map(|text| format!("    {}", line(text)))).collect()
}

/// A warning is a text, or a problem of the file with its place.
fn warning_text(warning: &Value) -> String {
    let Value::Object(fields) = warning else { return short(warning) };
    let text = |key: &str| fields.get(key).map(short).unwrap_or_default();
    if !fields.contains_key("what") {
        return short(warning);
    }
    format!("{}:{}: {}: {}; {}", text("line"), text("column"), text("path"), text("what"), text("cure"))
}

/// The lines of a change that was made, or that was only asked about.
pub fn change(change: &Change, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(shown) = &change.preview {
        out.extend(preview(shown, paint));
    }
    for effect in &change.effects {
        out.push(effect_line(effect, paint));
    }
    out.push(outcome(change, paint));
    out
}

fn effect_line(effect: &Value, paint: Paint) -> String {
    let Ok(Effect { prize, what, done }) = Effect::deserialize(effect) else {
        return format!("> {}", short(effect));
    };
    let text = prize.map_or(String::new(), |prize| format!("prize {}: ", line(&prize))) + &line(&what);
    if done { format!("> {text}") } else { paint.style(Style::Bad, &format!("> NOT DONE: {text}")) }
}

/// Whether the platform did all of a change at once. A kill switch that did not reach everything is a finding.
pub fn is_done(answer: &Value) -> bool {
    let effects = answer.get("effects").and_then(Value::as_array);
    effects.into_iter().flatten().all(|effect| effect.get("done") != Some(&Value::Bool(false)))
}

fn outcome(change: &Change, paint: Paint) -> String {
    let campaign = &change.campaign;
    let seq_no = match change.seq_no.0.as_str() {
        "" => String::new(),
        number => format!(", SeqNo {number}"),
    };
    match change.state.as_str() {
        "active" => paint.style(Style::Good, &format!("done: campaign {campaign}{seq_no} is active")),
        "grey" => paint.style(
            Style::Good,
            &format!(
                "done: campaign {campaign}{seq_no} runs for the share that was named; `quotactl promote {campaign}` \
                 gives it to all, `quotactl withdraw {campaign}` ends it"
            ),
        ),
        "waiting" => paint.style(
            Style::Warn,
            &format!(
                "waiting for a second person; nothing has changed yet: `quotactl approve {id}` by an approver who \
                 did not propose it",
                id = change.proposal
            ),
        ),
        "withdrawn" => format!("done: the grey version of campaign {campaign} is withdrawn{seq_no}"),
        "rejected" => format!("done: proposal {} of campaign {campaign} is rejected", change.proposal),
        "unchanged" => format!("unchanged: campaign {campaign}{seq_no} is as it was asked to be"),
        "dry_run" => "dry run: nothing was changed".to_owned(),
        other => format!("{}: campaign {campaign}{seq_no}", line(other)),
    }
}

/// Whatever the server said about a change. Answers without a state (a vendor's pace) are shown as an outline.
pub fn answer(answer: &Value, paint: Paint) -> Vec<String> {
    if answer.get("state").is_some()
        && let Ok(parsed) = Change::deserialize(answer)
    {
        return change(&parsed, paint);
    }
    if answer.get("diff").is_some()
        && let Ok(parsed) = Preview::deserialize(answer)
    {
        return preview(&parsed, paint);
    }
    outline::lines(answer, paint)
}

/// What a preview was held against, in the answer to a change or to a dry run of it.
pub fn base_of(answer: &Value) -> Option<String> {
    let preview = answer.get("preview").unwrap_or(answer);
    Word::deserialize(preview.get("base_seq_no")?).ok().map(|word| word.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_reads_from_the_difference_to_the_outcome() {
        let answered = json!({
            "state": "waiting", "campaign": 7, "seq_no": null, "proposal": "p-0123456789ab",
            "preview": {"campaign": 7, "base_seq_no": "12", "diff": [
                {"path": "round 2, prize 11, tranche 2", "before": null, "after": "200000 units of 1.00",
                 "effect": "cash +200,000 yuan, exhausted 21:14 instead of 21:03"},
                {"path": "limits.wins_per_day", "before": 3, "after": 5, "effect": null},
                {"path": "round 9", "before": "open", "after": null, "effect": ""}],
                "summary": ["budget +200,000.00 yuan"], "warnings": ["round 2 ends late"],
                "needs_two": ["budget up by 200,000.00 yuan"]},
            "effects": ["ledger: prize 2/11 has 400000 units", {"prize": "2/11", "taken": "0"},
                {"prize": "2/11", "what": "500 units are taken away", "effective_units": "9500", "taken": "500",
                 "done": true},
                {"prize": "2/12", "what": "the ledger did not answer", "effective_units": null, "taken": null,
                 "done": false}],
        });
        assert_eq!(
            answer(&answered, Paint::new(false)),
            [
                "campaign 7, against SeqNo 12, which runs",
                "+ round 2, prize 11, tranche 2: 200000 units of 1.00",
                "    cash +200,000 yuan, exhausted 21:14 instead of 21:03",
                "~ limits.wins_per_day: 3 -> 5",
                "- round 9: open",
                "= budget +200,000.00 yuan",
                "warning: round 2 ends late",
                "needs a second person:",
                "  budget up by 200,000.00 yuan",
                "> ledger: prize 2/11 has 400000 units",
                "> prize 2/11, taken 0",
                "> prize 2/11: 500 units are taken away",
                "> NOT DONE: prize 2/12: the ledger did not answer",
                "waiting for a second person; nothing has changed yet: `quotactl approve p-0123456789ab` by an \
                 approver who did not propose it",
            ]
        );
        assert!(!is_done(&answered) && is_done(&json!({})));
        assert_eq!(base_of(&answered).as_deref(), Some("12"));
    }

    #[test]
    fn an_answer_of_another_kind_is_shown_whole() {
        let lines = answer(&json!({"vendor": 3, "per_second": 20}), Paint::new(false));
        assert_eq!(lines, ["vendor: 3", "per second: 20"]);
    }
}
