//! The repository of plans, from its rows alone.
//!
//! A version holds the campaign file as it was written; the plan is compiled from it anew, so what is audited against is
//! what somebody accepted and not what a program made of it then.

use super::{Cells, TableError, Tables};
use campaign::{CampaignId, Plan, SeqNo};
use quota_config::{Adjustments, CompileOptions, StoredCommitments, compile};
use sha2::{Digest as _, Sha256};

const TABLE: &str = "plan_version";
/// Files are large, so a page has few.
const PAGE: i64 = 16;
const QUERY: &str = "SELECT campaign, seq_no, base_ms, source, sha256, adjustments, commitments FROM plan_version \
     WHERE state = 'active' AND (campaign > $1 OR (campaign = $1 AND seq_no > $2)) ORDER BY campaign, seq_no LIMIT $3";

/// Every plan of every campaign that was in force for all, by campaign and SeqNo.
///
/// # Errors
/// When the table can't be read, or a version is damaged or does not compile.
pub async fn read_plans(tables: &mut Tables) -> Result<Vec<Plan>, TableError> {
    let mut plans: Vec<Plan> = Vec::new();
    loop {
        let (campaign, seq_no) =
            plans.last().map_or((-1, 0), |plan| (i64::from(plan.campaign.0), plan.seq_no.0.cast_signed()));
        let rows = tables.rows("reading plans", QUERY, &[campaign, seq_no, PAGE]).await?;
        for row in &rows {
            let place = |column| row.signed(column).map_or_else(|what| what, |number| number.to_string());
            plans.push(plan(row).map_err(|what| {
                let row = format!("campaign {} SeqNo {}", place("campaign"), place("seq_no"));
                tables.wrong(TABLE, row, what)
            })?);
        }
        if (rows.len() as i64) < PAGE {
            return Ok(plans);
        }
    }
}

fn plan(row: &Cells) -> Result<Plan, String> {
    let campaign = CampaignId(row.number("campaign")?);
    let source = row.blob("source")?;
    if <[u8; 32]>::from(Sha256::digest(source)) != row.bytes::<32>("sha256")? {
        return Err("its source does not have its SHA-256".into());
    }
    let commitments = StoredCommitments::from_bytes(row.blob("commitments")?);
    let commitments = commitments.ok_or("its seed commitments can't be read")?;
    let adjustments = Adjustments::from_json(row.text("adjustments")?)?;
    let options = CompileOptions {
        seq_no: SeqNo(row.number("seq_no")?),
        base_ms: row.number("base_ms")?,
        seeds: &commitments,
        after: None,
    };
    let mut plan = compile(source, &options).map_err(|problems| problems.to_string())?.plan;
    adjustments.apply_to(&mut plan).map_err(|problems| problems.to_string())?;
    if plan.campaign != campaign {
        return Err(format!("its source is of campaign {}", plan.campaign));
    }
    Ok(plan)
}
