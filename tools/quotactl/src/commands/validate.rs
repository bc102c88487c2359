//! `validate`: a campaign file checked on this machine, with the compiler that the platform uses.
//!
//! Nobody is asked, so it works before there is a platform. What only the platform knows (the plan before, and so what
//! may still change) is `plan`'s to say. Where a server is named on the command line, that server checks the file.

use campaign::SeqNo;
use quota_config::{
    CompileOptions, Compiled, Mark, Problem, Problems, SeedCommitment, SeedCommitments, Severity,
};
use runtime::SystemClock;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::address::with_query;
use crate::api::problem::FileError;
use crate::api::{Ask, Body};
use crate::cli::{Jurisdiction, Validate};
use crate::failure::{Failure, OK, REFUSED};
use crate::out;
use crate::text::paint::Style;
use crate::text::value::{clean, grouped};

use super::{Context, file};

/// `validate`.
pub fn run(context: &Context, args: &Validate) -> Result<u8, Failure> {
    let source = file::read(&args.file)?;
    let label = file::label(&args.file);
    let jurisdiction = args.jurisdiction;
    if context.common.server.is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Refused(format!("starting: {error}")))?;
        return runtime.block_on(on_server(context, source, &label, jurisdiction));
    }
    let checked = check(&source, jurisdiction);
    let told = checked.as_ref().ok().filter(|_| jurisdiction.is_some());
    let told = told.map(|compiled| quota_config::disclosure(&compiled.plan, &compiled.stated).text_zh);
    if context.common.json {
        out::print(&as_json(&checked, told.as_deref()))?;
    } else {
        here(context, &checked, &label)?;
        out::print(&told.map_or(String::new(), |text| clean(&text)))?;
    }
    Ok(if checked.is_ok() { OK } else { REFUSED })
}

/// Compiles as the platform would, for the first version of a campaign.
fn check(source: &[u8], jurisdiction: Option<Jurisdiction>) -> Result<Compiled, Problems> {
    // Without a plan before, neither the SeqNo nor the moment of publishing decides whether a file is right.
    let options = CompileOptions {
        seq_no: SeqNo(1),
        base_ms: SystemClock::shared().now_ms(),
        seeds: &NoSeeds,
        after: None,
    };
    let jurisdiction = jurisdiction.map(|Jurisdiction::Cn| quota_config::Jurisdiction::Cn);
    quota_config::compile_for(source, &options, jurisdiction)
}

/// Commitments to nothing: a check needs no secret, and shows no commitment.
struct NoSeeds;

impl SeedCommitments for NoSeeds {
    fn commitment(&self, _: campaign::CampaignId, _: campaign::RoundId) -> Option<SeedCommitment> {
        Some(SeedCommitment { key_id: 0, sha256: [0; 32] })
    }
}

fn problems(checked: &Result<Compiled, Problems>) -> &[Problem] {
    match checked {
        Ok(compiled) => &compiled.warnings,
        Err(problems) => &problems.0,
    }
}

fn here(context: &Context, checked: &Result<Compiled, Problems>, label: &str) -> Result<(), Failure> {
    let paint = context.paint;
    let mut lines: Vec<String> = Vec::new();
    for problem in problems(checked) {
        let style = if problem.severity == Severity::Error { Style::Bad } else { Style::Warn };
        lines.push(paint.style(style, &clean(&format!("{label}:{problem}"))));
    }
    let count = |severity| problems(checked).iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let warned = if warnings == 0 { String::new() } else { format!(", {}", counted(warnings, "warning")) };
    lines.push(match checked {
        Ok(compiled) => {
            let plan = &compiled.plan;
            let units: u64 =
                plan.rounds.iter().flat_map(|round| &round.prizes).map(campaign::Prize::units).sum();
            let what = format!(
                "{label}: campaign {} '{}', {}, {} units: good{warned}",
                plan.campaign,
                plan.name,
                counted(plan.rounds.len(), "round"),
                grouped(units)
            );
            paint.style(Style::Good, &clean(&what))
        }
        Err(_) => paint.style(Style::Bad, &format!("{label}: {}{warned}", counted(errors, "error"))),
    });
    out::print(&lines.join("\n"))
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The answer that the API gives for the same file.
fn as_json(checked: &Result<Compiled, Problems>, disclosure: Option<&str>) -> String {
    let problems: Vec<Value> = problems(checked).iter().map(problem_json).collect();
    json!({ "ok": checked.is_ok(), "problems": problems, "disclosure": disclosure }).to_string()
}

fn problem_json(problem: &Problem) -> Value {
    let Problem { mark: Mark { line, column }, severity, path, what, cure } = problem;
    let severity = if *severity == Severity::Error { "error" } else { "warning" };
    json!({ "severity": severity, "line": line, "column": column, "path": path, "what": what, "cure": cure })
}

/// What a server says about a file.
#[derive(Deserialize)]
struct Verdict {
    ok: bool,
    #[serde(default)]
    problems: Vec<FileError>,
    #[serde(default)]
    disclosure: Option<String>,
}

async fn on_server(
    context: &Context,
    source: bytes::Bytes,
    label: &str,
    jurisdiction: Option<Jurisdiction>,
) -> Result<u8, Failure> {
    let query: Vec<_> =
        jurisdiction.map(|Jurisdiction::Cn| ("jurisdiction", "cn".to_owned())).into_iter().collect();
    let ask = Ask::post(with_query("/v1/validate", &query), Body::Yaml(source));
    let answer = context.api()?.ask(&ask, Some(label)).await?;
    let verdict: Verdict = answer.read()?;
    if context.common.json {
        context.as_it_is(&answer)?;
    } else {
        let mut lines: Vec<String> =
            verdict.problems.iter().map(|problem| problem.text(Some(label))).collect();
        if let Some(text) = &verdict.disclosure {
            lines.push(clean(text).trim_end().to_owned());
        }
        lines.push(match verdict.ok {
            true => context.paint.style(Style::Good, &format!("{label}: good")),
            false => context.paint.style(Style::Bad, &format!("{label}: not good")),
        });
        out::print(&lines.join("\n"))?;
    }
    Ok(if verdict.ok { OK } else { REFUSED })
}
