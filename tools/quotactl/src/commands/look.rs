//! Everything that only reads.

use serde::Deserialize;
use serde_json::Value;

use crate::api::Ask;
use crate::api::address::with_query;
use crate::cli::{Disclosure, History, Lang, Page, ProposalState, Proposals, Show};
use crate::failure::{Failure, OK};
use crate::out;
use crate::text::outline;
use crate::text::paint::{Paint, Style};
use crate::text::table::{Side, Table};
use crate::text::value::{Word, clean, line, short, time};

use super::Context;

/// `proposals`.
pub async fn proposals(context: &Context, args: &Proposals) -> Result<u8, Failure> {
    let state = match args.state {
        ProposalState::Waiting => Some("waiting"),
        ProposalState::Approved => Some("approved"),
        ProposalState::Rejected => Some("rejected"),
        ProposalState::Superseded => Some("superseded"),
        ProposalState::All => None,
    };
    let mut query = paged(&args.page);
    query.extend(state.map(|state| ("state", state.to_owned())));
    listed(context, "/v1/proposals", query, "there are no proposals of that state").await
}

/// `campaigns`.
pub async fn campaigns(context: &Context, page: &Page) -> Result<u8, Failure> {
    listed(context, "/v1/campaigns", paged(page), "there are no campaigns yet").await
}

/// `whoami`.
pub async fn whoami(context: &Context) -> Result<u8, Failure> {
    context.look(&Ask::get("/v1/whoami"), |value, paint| Ok(outline::lines(value, paint))).await?;
    Ok(OK)
}

/// The query of a page.
pub fn paged(page: &Page) -> Vec<(&'static str, String)> {
    let limit = page.limit.map(|limit| ("limit", limit.to_string()));
    limit.into_iter().chain(page.after.clone().map(|after| ("after", after))).collect()
}

/// A page of anything: a block for each item, and where it goes on.
async fn listed(
    context: &Context,
    path: &str,
    query: Vec<(&'static str, String)>,
    none: &str,
) -> Result<u8, Failure> {
    let ask = Ask::get(with_query(path, &query));
    let lines = |value: &Value, paint: Paint| {
        let items = value.get("items").cloned().unwrap_or_default();
        let mut lines = outline::lines(&items, paint);
        if lines.is_empty() {
            lines.push(none.to_owned());
        }
        lines.extend(more(value, paint));
        Ok(lines)
    };
    context.look(&ask, lines).await?;
    Ok(OK)
}

/// Where a list goes on.
pub fn more(value: &Value, paint: Paint) -> Option<String> {
    let next = value.get("next").filter(|next| !next.is_null())?;
    Some(paint.style(Style::Dim, &format!("more: --after {}", short(next))))
}

/// A version in the history.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Row {
    seq_no: Word,
    author: String,
    role: Word,
    reason: String,
    at_ms: Word,
    state: String,
    kind: Word,
    approvals: Vec<Approval>,
    summary: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Approval {
    name: String,
}

/// `history`.
pub async fn history(context: &Context, args: &History) -> Result<u8, Failure> {
    let path = format!("/v1/campaigns/{}/versions", args.campaign);
    let ask = Ask::get(with_query(&path, &paged(&args.page)));
    context.look(&ask, history_lines).await?;
    Ok(OK)
}

fn history_lines(value: &Value, paint: Paint) -> Result<Vec<String>, Failure> {
    let items = value.get("items").cloned().unwrap_or_default();
    let rows: Vec<Row> = serde_json::from_value(items).map_err(|error| {
        Failure::Refused(format!(
            "the history is not what this version of quotactl knows ({error}); use --json"
        ))
    })?;
    if rows.is_empty() {
        return Ok(vec!["there are no versions".to_owned()]);
    }
    let mut table = Table::new(&[
        ("SEQNO", Side::Right),
        ("WHEN", Side::Left),
        ("STATE", Side::Left),
        ("KIND", Side::Left),
        ("BY", Side::Left),
        ("APPROVED BY", Side::Left),
        ("REASON", Side::Left),
    ]);
    for row in &rows {
        let style = match row.state.as_str() {
            "active" => Style::Good,
            "grey" => Style::Warn,
            _ => Style::Plain,
        };
        let names: Vec<String> = row.approvals.iter().map(|approval| line(&approval.name)).collect();
        let author = if row.role.0.is_empty() {
            line(&row.author)
        } else {
            format!("{} ({})", line(&row.author), row.role)
        };
        let plain = |text: String| (text, Style::Plain);
        table.row(vec![
            plain(row.seq_no.0.clone()),
            plain(time(&row.at_ms)),
            (line(&row.state), style),
            plain(row.kind.0.clone()),
            plain(author),
            plain(names.join(", ")),
            plain(line(&row.reason)),
        ]);
    }
    let mut lines = Vec::new();
    let mut of_table = table.lines(paint).into_iter();
    lines.extend(of_table.next());
    for (of_row, row) in of_table.zip(&rows) {
        lines.push(of_row);
        let summary = match &row.summary {
            Value::Array(texts) => texts.iter().map(short).collect(),
            Value::String(text) if !text.is_empty() => clean(text).lines().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        lines.extend(summary.iter().map(|text| paint.style(Style::Dim, &format!("       {text}"))));
    }
    lines.extend(more(value, paint));
    Ok(lines)
}

/// `show`.
pub async fn show(context: &Context, args: &Show) -> Result<u8, Failure> {
    let campaign = format!("/v1/campaigns/{}", args.campaign);
    let version = |seq_no: &str| format!("{campaign}/versions/{seq_no}");
    if args.source {
        let api = context.api()?;
        let seq_no = match args.seq_no {
            Some(seq_no) => seq_no.to_string(),
            None => {
                let running = api.ask(&Ask::get(campaign.as_str()), None).await?.json()?;
                let seq_no = running.get("seq_no").and_then(|value| Word::deserialize(value).ok());
                seq_no.filter(|word| word.number().is_some()).map(|word| word.0).ok_or_else(|| {
                    Failure::Refused("no version runs; name one: `quotactl history` lists them".into())
                })?
            }
        };
        let path = with_query(&version(&seq_no), &[("source", "true".to_owned())]);
        context.as_it_is(&api.ask(&Ask::get(path), None).await?)?;
        return Ok(OK);
    }
    let path = args.seq_no.map_or(campaign.clone(), |seq_no| version(&seq_no.to_string()));
    context.look(&Ask::get(path), |value, paint| Ok(outline::lines(value, paint))).await?;
    Ok(OK)
}

/// `disclosure`.
pub async fn disclosure(context: &Context, args: &Disclosure) -> Result<u8, Failure> {
    let ask = Ask::get(format!("/v1/campaigns/{}/disclosure", args.campaign));
    let lines = |value: &Value, _: Paint| {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(clean);
        let wanted = [
            text("text_zh").filter(|_| args.lang != Some(Lang::En)),
            text("text_en").filter(|_| args.lang != Some(Lang::Zh)),
        ];
        let texts: Vec<String> =
            wanted.into_iter().flatten().map(|text| text.trim_end().to_owned()).collect();
        if texts.is_empty() {
            return Err(Failure::Refused("the answer has no text; `--json` shows it as it is".into()));
        }
        Ok(vec![texts.join("\n\n")])
    };
    context.look(&ask, lines).await?;
    Ok(OK)
}

/// An answer with its outline, for commands that add to it.
pub fn outlined(value: &Value, paint: Paint) -> Result<(), Failure> {
    out::print(&outline::lines(value, paint).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_history_is_a_table_with_summaries() {
        let page = json!({"items": [
            {"seq_no": "13", "author": "李雷", "role": "operator", "reason": "more cash", "at_ms": "", "state": "active",
             "kind": "file", "approvals": [{"name": "韩梅", "at_ms": "1"}], "summary": ["budget +200,000.00 yuan"]},
            {"seq_no": 9, "author": "a", "reason": "first", "state": "active", "kind": "file", "summary": ""},
        ], "next": "9"});
        assert_eq!(
            history_lines(&page, Paint::new(false)).unwrap(),
            [
                "SEQNO  WHEN  STATE   KIND  BY               APPROVED BY  REASON",
                "   13        active  file  李雷 (operator)  韩梅         more cash",
                "       budget +200,000.00 yuan",
                "    9        active  file  a                             first",
                "more: --after 9",
            ]
        );
    }
}
