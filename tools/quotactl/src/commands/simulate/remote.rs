//! A rehearsal on a server: started once, asked for until it is done, its report fetched.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Ask, Body, new_key};
use crate::cli::Simulate;
use crate::failure::{Failure, OK};
use crate::out;
use crate::text::value::{clean, short};

use super::arrivals;
use crate::commands::{Context, export, file, look};

/// How often it is asked for.
const POLL: Duration = Duration::from_millis(500);
/// Longest file of arrivals.
const ARRIVALS_BYTES_MAX: u64 = 32 << 20;
/// Longest table of districts.
const DISTRICTS_BYTES_MAX: u64 = 4 << 20;

pub async fn run(context: &Context, args: &Simulate) -> Result<u8, Failure> {
    if !args.more.is_empty() {
        return Err(Failure::Usage(
            "arguments behind `--` are for `hongbao rehearse` here; a server takes none".into(),
        ));
    }
    let source = file::read(&args.file)?;
    let source = String::from_utf8(source.to_vec())
        .map_err(|_| Failure::Refused(format!("{}: this is not UTF-8", args.file.display())))?;
    let mut body = json!({ "source": source, "players": args.players.to_string(), "arrivals": rows(args)? });
    if let Some(path) = &args.districts {
        body["districts"] = table(path, DISTRICTS_BYTES_MAX, "join small districts")?.into();
    }
    let api = context.api()?;
    // Started once, though the answer may be lost.
    let mut ask = Ask::post("/v1/rehearsals", Body::Json(body));
    ask.key = Some(new_key()?);
    let started = api.ask(&ask, Some(&file::label(&args.file))).await?.json()?;
    let id = started
        .get("id")
        .map(short)
        .filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let id =
        id.ok_or_else(|| Failure::Refused("the server started a rehearsal and gave no id for it".into()))?;
    let progress = std::io::stderr().is_terminal();
    let poll = Ask::get(format!("/v1/rehearsals/{id}"));
    let (answer, value) = loop {
        let answer = api.ask(&poll, None).await?;
        let value = answer.json()?;
        let state = value.get("state").map(short).unwrap_or_default();
        match state.as_str() {
            "done" | "finished" => break (answer, value),
            "failed" | "refused" | "cancelled" => {
                let why = ["error", "why", "detail", "summary"].iter().find_map(|key| value.get(*key));
                let why = why.filter(|why| !why.is_null()).map_or(state, short);
                return Err(Failure::Refused(format!("rehearsal {id}: {}", clean(&why))));
            }
            _ => {}
        }
        if progress {
            out::prompt(&format!("\r{}", bar(&value)));
        }
        tokio::time::sleep(POLL).await;
    };
    if progress {
        out::prompt("\r\x1b[K");
    }
    if context.common.json {
        context.as_it_is(&answer)?;
    } else {
        look::outlined(value.get("summary").unwrap_or(&Value::Null), context.paint)?;
    }
    if let Some(html) = &args.html {
        let bytes =
            export::to_file(context, &Ask::get(format!("/v1/rehearsals/{id}/report.html")), html).await?;
        out::tell(&format!("{}: {bytes} bytes", html.display()));
    }
    Ok(OK)
}

fn rows(args: &Simulate) -> Result<Vec<Value>, Failure> {
    let text = table(&args.arrivals, ARRIVALS_BYTES_MAX, "take longer steps")?;
    arrivals::read(&text, &args.arrivals.display().to_string())
}

/// The text of a table, if it is not too long.
fn table(path: &Path, bytes_max: u64, shorter: &str) -> Result<String, Failure> {
    let failed = |why: String| Failure::Refused(format!("{}: {why}", path.display()));
    let meta = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if meta.len() > bytes_max {
        return Err(failed(format!("longer than {bytes_max} bytes; {shorter}")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

/// `[=====     ]  50 %`; the progress is a share from 0 to 1.
fn bar(value: &Value) -> String {
    let share = match value.get("progress") {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(0.0),
        Some(Value::String(text)) => text.parse().unwrap_or(0.0),
        _ => 0.0,
    };
    let percent = (share.clamp(0.0, 1.0) * 100.0) as usize;
    format!("rehearsing [{:<40}] {percent:3} %", "=".repeat(percent * 40 / 100))
}

#[cfg(test)]
mod tests {
    use super::bar;
    use serde_json::json;

    #[test]
    fn progress_is_a_bar() {
        assert_eq!(
            bar(&json!({"progress": 0.5})),
            format!("rehearsing [{}{}]  50 %", "=".repeat(20), " ".repeat(20))
        );
        assert!(bar(&json!({"progress": "7"})).ends_with("100 %"));
    }
}
