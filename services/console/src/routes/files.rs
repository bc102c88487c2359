//! Campaign files: checked, held against what runs, put into force.

use super::Refusals;
use crate::extract::{Operator, Query, Reason, Source, Viewer, quoted};
use crate::once::{Answer, Sought, once};
use crate::problem::{Place, Problem, places};
use crate::schema;
use crate::shared::Rooms;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use campaign::{CampaignId, RoundId, SeqNo};
use quota_config::{
    By, Change, ChangeState, CompileOptions, Edit, Jurisdiction, Preview, Rollout, SeedCommitment,
    SeedCommitments, campaign_of, compile_for, disclosure,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Validating {
    /// Whose law to hold it against.
    #[param(pattern = "^cn$")]
    jurisdiction: Option<String>,
}

/// What a check found.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verdict {
    /// Whether there is a plan.
    ok: bool,
    /// Errors and warnings by line.
    problems: Vec<Place>,
    /// The text that players are owed, where a jurisdiction was named.
    disclosure: Option<String>,
}

/// Commitments to nothing: a check needs no secret and shows none.
struct NoSeeds;

impl SeedCommitments for NoSeeds {
    fn commitment(&self, _: CampaignId, _: RoundId) -> Option<SeedCommitment> {
        Some(SeedCommitment { key_id: 0, sha256: [0; 32] })
    }
}

/// Checks a campaign file by itself; what runs is not looked at.
#[utoipa::path(post, path = "/v1/validate", tag = "files", params(Validating),
    request_body(content = String, content_type = "text/yaml"), responses(
    (status = 200, description = "What was found", body = Verdict), Refusals
))]
pub(super) async fn validate(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Query(query): Query<Validating>,
    source: Source,
) -> Result<axum::Json<Verdict>, Problem> {
    let jurisdiction = query.jurisdiction.as_deref().map(str::parse::<Jurisdiction>).transpose();
    let jurisdiction = jurisdiction.map_err(|e| Problem::malformed(format!("jurisdiction: {e}")))?;
    let turn = rooms.heavy().await?;
    let now_ms = rooms.clock.now_ms();
    let checked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let options = CompileOptions { seq_no: SeqNo(1), base_ms: now_ms, seeds: &NoSeeds, after: None };
        match compile_for(&source.bytes, &options, jurisdiction) {
            Ok(compiled) => {
                let text = |_| disclosure(&compiled.plan, &compiled.stated).text_zh;
                let (problems, disclosure) = (places(&compiled.warnings), jurisdiction.map(text));
                Verdict { ok: true, problems, disclosure }
            }
            Err(problems) => Verdict { ok: false, problems: places(&problems.0), disclosure: None },
        }
    });
    checked.await.map(axum::Json).map_err(|e| Problem::internal(e.to_string()))
}

/// What a file would change of what is active.
#[utoipa::path(post, path = "/v1/campaigns/plan", tag = "files",
    request_body(content = String, content_type = "text/yaml"), responses(
    (status = 200, description = "The difference", body = schema::Preview), Refusals
))]
pub(super) async fn plan(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    source: Source,
) -> Result<axum::Json<Preview>, Problem> {
    let _turn = rooms.heavy().await?;
    Ok(axum::Json(rooms.desk.preview(&source.bytes, None).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Applying {
    /// Why.
    #[param(value_type = schema::Reason)]
    reason: String,
    /// Put it out grey, to so many of a thousand users.
    #[param(minimum = 0, maximum = 1000)]
    grey_users_per_mille: Option<u16>,
    /// Put it out grey, on these nodes: numbers with commas between.
    #[param(pattern = "^[0-9]{1,5}(,[0-9]{1,5})*$")]
    grey_nodes: Option<String>,
    /// Nothing is done: the answer says what would be.
    #[serde(default)]
    dry_run: bool,
}

impl Applying {
    fn rollout(&self) -> Result<Option<Rollout>, Problem> {
        if self.grey_users_per_mille.is_none() && self.grey_nodes.is_none() {
            return Ok(None);
        }
        let mut rollout =
            Rollout { users_per_mille: self.grey_users_per_mille.unwrap_or(0), ..Rollout::default() };
        if rollout.users_per_mille > 1_000 {
            let n = rollout.users_per_mille;
            return Err(Problem::malformed(format!("grey_users_per_mille: {n} is not from 0 to 1000")));
        }
        for node in self.grey_nodes.iter().flat_map(|nodes| nodes.split(',')) {
            let number = node.trim().parse().map_err(|_| {
                Problem::malformed(format!("grey_nodes: {} is no number of a node; write 1,2", quoted(node)))
            })?;
            rollout.nodes.insert(number);
        }
        if rollout.users_per_mille == 0 && rollout.nodes.is_empty() {
            return Err(Problem::malformed("a grey release goes to users or nodes: name some"));
        }
        Ok(Some(rollout))
    }
}

/// Puts a file into force: for all, or grey. Above the policy's thresholds it waits for a second person.
#[utoipa::path(post, path = "/v1/campaigns", tag = "files", params(Applying, schema::IdempotencyKey),
    request_body(content = String, content_type = "text/yaml"), responses(
    (status = 200, description = "It is so already, or a dry run", body = schema::Change),
    (status = 201, description = "In force, or out grey", body = schema::Change),
    (status = 202, description = "It waits for a second person", body = schema::Change), Refusals
))]
pub(super) async fn apply(
    State(rooms): State<Rooms>,
    Operator(by): Operator,
    Query(query): Query<Applying>,
    source: Source,
) -> Result<Response, Problem> {
    let reason = Reason::of(&query.reason).map_err(Problem::malformed)?;
    let rollout = query.rollout()?;
    let Source { bytes, asked } = source;
    let turn = rooms.heavy().await?;
    if query.dry_run {
        return Ok(Answer::change(dry(&rooms, &bytes, rollout, &by).await?)?.into_response());
    }
    let campaign = {
        let source = bytes.clone();
        let found = tokio::task::spawn_blocking(move || campaign_of(&source)).await;
        found.map_err(|e| Problem::internal(e.to_string()))?
    };
    let sought = Sought::Edit {
        campaign,
        edit: Edit::File { rollout: rollout.clone() },
        sha256: Some(Sha256::digest(&bytes).into()),
        reason: reason.0.clone(),
    };
    let (desk, who) = (rooms.desk.clone(), by.clone());
    let work = async move {
        let _turn = turn;
        Answer::change(desk.apply(&bytes, rollout, &who, &reason.0).await?)
    };
    Ok(once(&rooms, &by, asked, sought, work).await)
}

/// What applying would do. The file of the grey version that is out gets another rollout.
async fn dry(rooms: &Rooms, source: &Bytes, rollout: Option<Rollout>, by: &By) -> Result<Change, Problem> {
    if let Some((rollout, campaign)) = rollout.as_ref().zip(campaign_of(source)) {
        let sha256: [u8; 32] = Sha256::digest(source).into();
        let grey = rooms.desk.repository().grey(campaign).await?;
        if let Some((version, standing)) = grey.filter(|(version, _)| version.info.sha256 == sha256) {
            let seq_no = version.info.seq_no;
            let what = format!("grey SeqNo {seq_no} would go to {rollout} instead of {standing}");
            let preview = Preview::of(campaign, version.info.after, vec![what]);
            let (state, seq_no) = (ChangeState::DryRun, Some(seq_no));
            return Ok(Change { state, campaign, seq_no, proposal: None, preview, effects: Vec::new() });
        }
    }
    Ok(rooms.desk.dry_run_file(source, rollout, by).await?)
}
