//! Every change that can be made, as the admin API wants it.

use std::path::Path;

use serde_json::json;

use crate::api::{Ask, Body};
use crate::cli::words::{Pace, Speed, Target};
use crate::cli::{Apply, Decide, Lower, Named, Rollback, SetRate, SetWeight, Switch, VendorLimit};
use crate::failure::{Failure, OK};
use crate::out;
use crate::text::change as shown;

use super::change::Change;
use super::{Context, file};

/// `plan`.
pub async fn plan(context: &Context, path: &Path) -> Result<u8, Failure> {
    let source = file::read(path)?;
    let ask = Ask::post("/v1/campaigns/plan", Body::Yaml(source));
    let answer = context.api()?.ask(&ask, Some(&file::label(path))).await?;
    if context.common.json {
        context.as_it_is(&answer)?;
    } else {
        out::print(&shown::answer(&answer.json()?, context.paint).join("\n"))?;
    }
    Ok(OK)
}

/// `apply`.
pub async fn apply(context: &Context, args: &Apply) -> Result<u8, Failure> {
    let source = file::read(&args.file)?;
    let mut query = vec![("reason", args.why.reason.clone())];
    let mut whom = "for everybody".to_owned();
    if let Some(per_mille) = args.grey_users {
        query.push(("grey_users_per_mille", per_mille.to_string()));
        whom = format!("for {}.{} % of the users", per_mille / 10, per_mille % 10);
    }
    if !args.grey_nodes.is_empty() {
        let nodes = args.grey_nodes.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        whom = format!("on nodes {nodes}");
        query.push(("grey_nodes", nodes));
    }
    let label = file::label(&args.file);
    let change = Change {
        path: "/v1/campaigns".to_owned(),
        query,
        body: Body::Yaml(source),
        question: Some(format!("Put {label} into force {whom}?")),
        file: Some(label),
        stdin_used: file::is_stdin(&args.file),
    };
    change.make(context, &args.making).await
}

/// `approve` and `reject`.
pub async fn decide(context: &Context, args: &Decide, verb: &'static str) -> Result<u8, Failure> {
    let id = &args.id;
    let reason = args.reason.clone().unwrap_or_else(|| format!("{verb} {id}"));
    let question = (verb == "approve").then(|| format!("Approve proposal {id}?"));
    let path = format!("/v1/proposals/{id}/{verb}");
    Change::json(path, json!({ "reason": reason }), question).make(context, &args.making).await
}

/// `rollback`.
pub async fn rollback(context: &Context, args: &Rollback) -> Result<u8, Failure> {
    let (campaign, to) = (args.campaign, args.seq_no);
    // 64-bit numbers travel as strings.
    let body = json!({ "to": to.to_string(), "reason": args.why.reason });
    let question = format!("Put SeqNo {to} of campaign {campaign} into force again?");
    Change::json(format!("/v1/campaigns/{campaign}/rollback"), body, question)
        .make(context, &args.making)
        .await
}

/// `pause`, `resume`, `stop`.
pub async fn switch(context: &Context, args: &Switch, verb: &'static str) -> Result<u8, Failure> {
    let (campaign, target) = (args.campaign, args.target);
    let body = json!({ "target": target.to_string(), "reason": args.why.reason });
    let told = target.told(campaign);
    let question = match verb {
        "stop" => format!("STOP {told}? Only an approver can resume it."),
        "pause" => format!("Pause {told}?"),
        _ => format!("Resume {told}? It gives out prizes again."),
    };
    Change::json(format!("/v1/campaigns/{campaign}/{verb}"), body, question).make(context, &args.making).await
}

/// `lower`.
pub async fn lower(context: &Context, args: &Lower) -> Result<u8, Failure> {
    let Lower { campaign, prize, units, .. } = args;
    let body = json!({ "prize": prize.to_string(), "units": units.to_string(), "reason": args.why.reason });
    let question = format!(
        "Take {units} units of prize {prize} of campaign {campaign} away? They can only come back as a new tranche."
    );
    Change::json(format!("/v1/campaigns/{campaign}/lower"), body, question).make(context, &args.making).await
}

/// `set-rate`.
pub async fn set_rate(context: &Context, args: &SetRate) -> Result<u8, Failure> {
    let SetRate { campaign, target, speed, .. } = args;
    let per_second = match speed {
        Speed::PerSecond(number) => json!(number),
        Speed::None => json!("none"),
        Speed::File => json!("file"),
    };
    let body = json!({ "target": target.to_string(), "per_second": per_second, "reason": args.why.reason });
    let told = match target {
        Target::Vendor(_) => format!("{} together", target.told(*campaign)),
        _ => target.told(*campaign),
    };
    let question = match speed {
        Speed::None => format!("Take the speed limit off {told}?"),
        Speed::File => format!("Let {told} release as fast as the campaign file says?"),
        Speed::PerSecond(number) => format!("Let {told} release at most {number} units a second?"),
    };
    Change::json(format!("/v1/campaigns/{campaign}/rate"), body, question).make(context, &args.making).await
}

/// `set-weight`.
pub async fn set_weight(context: &Context, args: &SetWeight) -> Result<u8, Failure> {
    let SetWeight { campaign, prize, weight, .. } = args;
    let body = json!({ "prize": prize.to_string(), "weight": weight, "reason": args.why.reason });
    let question = format!("Give prize {prize} of campaign {campaign} the weight {weight}?");
    Change::json(format!("/v1/campaigns/{campaign}/weight"), body, question).make(context, &args.making).await
}

/// `promote` and `withdraw`.
pub async fn grey(context: &Context, args: &Named, verb: &'static str) -> Result<u8, Failure> {
    let campaign = args.campaign;
    let body = json!({ "reason": args.why.reason });
    let question = match verb {
        "promote" => format!("Give the grey version of campaign {campaign} to everybody?"),
        _ => format!("End the grey version of campaign {campaign}?"),
    };
    Change::json(format!("/v1/campaigns/{campaign}/grey/{verb}"), body, question)
        .make(context, &args.making)
        .await
}

/// `vendor-limit`.
pub async fn vendor_limit(context: &Context, args: &VendorLimit) -> Result<u8, Failure> {
    let VendorLimit { vendor, pace, .. } = args;
    let per_second = match pace {
        Pace::PerSecond(number) => json!(number),
        Pace::Configured => json!("configured"),
    };
    let body = json!({ "per_second": per_second, "reason": args.why.reason });
    let question = match pace {
        Pace::Configured => format!("Deliver to vendor {vendor} as fast as the platform is configured to?"),
        Pace::PerSecond(0) => format!("Deliver NOTHING to vendor {vendor} until its pace is set again?"),
        Pace::PerSecond(number) => format!("Deliver at most {number} awards a second to vendor {vendor}?"),
    };
    Change::json(format!("/v1/vendors/{vendor}/limit"), body, question).make(context, &args.making).await
}
