//! The audit trail: its rows, and whether it is whole.

use serde::Deserialize;
use serde_json::Value;

use crate::api::Ask;
use crate::api::address::with_query;
use crate::cli::Page;
use crate::failure::{Failure, OK, REFUSED};
use crate::text::paint::{Paint, Style};
use crate::text::table::{Side, Table};
use crate::text::value::{Word, line, short, time};

use super::Context;
use super::look::{more, paged};

/// Longest detail that is shown; `--json` has all of it.
const DETAIL_CHARS: usize = 120;

/// A row of the trail, without its hashes.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Row {
    n: Word,
    at_ms: Word,
    who: String,
    role: String,
    action: String,
    campaign: Word,
    seq_no: Word,
    detail: String,
}

/// `audit`.
pub async fn rows(context: &Context, page: &Page) -> Result<u8, Failure> {
    let ask = Ask::get(with_query("/v1/audit", &paged(page)));
    context.look(&ask, lines).await?;
    Ok(OK)
}

fn lines(value: &Value, paint: Paint) -> Result<Vec<String>, Failure> {
    let items = value.get("items").cloned().unwrap_or_default();
    let rows: Vec<Row> = serde_json::from_value(items).map_err(|error| {
        Failure::Refused(format!(
            "the trail is not what this version of quotactl knows ({error}); use --json"
        ))
    })?;
    if rows.is_empty() {
        return Ok(vec!["nothing is behind that in the audit trail".to_owned()]);
    }
    let columns = ["N", "WHEN", "WHO", "DID", "CAMPAIGN:SEQNO", "DETAIL"];
    let side = |name: &&'static str| (*name, if *name == "N" { Side::Right } else { Side::Left });
    let mut table = Table::new(&columns.iter().map(side).collect::<Vec<_>>());
    for row in &rows {
        let about = match (row.campaign.0.as_str(), row.seq_no.0.as_str()) {
            ("", _) => String::new(),
            (campaign, "") => campaign.to_owned(),
            (campaign, seq_no) => format!("{campaign}:{seq_no}"),
        };
        let cells = [
            row.n.0.clone(),
            time(&row.at_ms),
            format!("{} ({})", line(&row.who), line(&row.role)),
            line(&row.action),
            about,
            told(&row.detail),
        ];
        table.row(cells.into_iter().map(|text| (text, Style::Plain)).collect());
    }
    let mut lines = table.lines(paint);
    lines.extend(more(value, paint));
    Ok(lines)
}

/// What a row says, in short: its own words, without the hashes that a program looks at.
fn told(detail: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(detail) else { return line(detail) };
    let shown = fields.iter().filter(|(key, value)| !key.ends_with("sha256") && !value.is_null());
    let mut text: String = shown
        .filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()))
        .map(|(key, value)| format!("{}={} ", line(key), short(value)))
        .collect::<String>()
        .trim_end()
        .to_owned();
    if text.chars().count() > DETAIL_CHARS {
        text = text.chars().take(DETAIL_CHARS - 1).chain(['…']).collect();
    }
    text
}

/// `verify-audit`.
pub async fn verify_audit(context: &Context) -> Result<u8, Failure> {
    let mut ask = Ask::get("/v1/audit/verify");
    // The whole trail is read and hashed.
    ask.patience = Some(std::time::Duration::from_secs(120));
    let value = context.look(&ask, |value, paint| Ok(vec![verdict(value, paint)])).await?;
    Ok(if value.get("ok") == Some(&Value::Bool(true)) { OK } else { REFUSED })
}

fn verdict(value: &Value, paint: Paint) -> String {
    let text = |key: &str| value.get(key).map(short).unwrap_or_else(|| "?".to_owned());
    if value.get("ok") == Some(&Value::Bool(true)) {
        return paint.style(
            Style::Good,
            &format!(
                "the audit trail is whole: {} rows, {} versions as they were written, head {}{}",
                text("rows"),
                text("versions"),
                text("head"),
                match text("before_trail").as_str() {
                    "0" | "?" => String::new(),
                    older =>
                        format!("; {older} versions are older than the trail, and nothing vouches for them"),
                }
            ),
        );
    }
    paint.style(
        Style::Bad,
        &format!(
            "THE AUDIT TRAIL IS BROKEN at row {} of {}: {}; keep the database as it is and have it compared with a \
             backup",
            text("broken_at"),
            text("rows"),
            text("why")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_told_without_their_hashes() {
        let page = json!({"items": [
            {"n": "4", "at_ms": "", "who": "li", "role": "operator", "action": "reserve", "campaign": 7, "seq_no": "2",
             "detail": "{\"kind\":\"pause\",\"of\":null,\"approvals\":[],\"reason\":\"wait\",\"source_sha256\":\"00\"}",
             "prev": "00", "sha256": "01"},
            {"n": "5", "at_ms": "", "who": "li", "role": "operator", "action": "vendor-limit", "campaign": null,
             "seq_no": null, "detail": "{\"vendor\":3}"}], "next": "5"});
        assert_eq!(
            lines(&page, Paint::new(false)).unwrap(),
            [
                "N  WHEN  WHO            DID           CAMPAIGN:SEQNO  DETAIL",
                "4        li (operator)  reserve       7:2             kind=pause reason=wait",
                "5        li (operator)  vendor-limit                  vendor=3",
                "more: --after 5",
            ]
        );
    }

    #[test]
    fn a_broken_trail_is_told_loudly() {
        let broken =
            json!({"ok": false, "rows": "9", "head": null, "broken_at": "4", "why": "its hash differs"});
        let told = verdict(&broken, Paint::new(false));
        assert!(told.contains("BROKEN at row 4 of 9: its hash differs"), "{told}");
    }
}
