//! Looking at campaigns: the list, the plan that runs, history, versions, disclosure.

use super::{Listed, Refusals};
use crate::config::PAGE_MAX;
use crate::extract::{Page, Path, Query, Viewer, campaign, limit};
use crate::problem::Problem;
use crate::schema;
use crate::shared::{Rooms, Shared};
use crate::view::PlanView;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use campaign::{CampaignId, SeqNo};
use http::header;
use quota_config::{
    Adjustments, CampaignInfo, Compiled, DeskError, DiffEntry, Disclosure, RepositoryError, VersionInfo,
    compile_version,
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Campaigns that have a version in force.
#[utoipa::path(get, path = "/v1/campaigns", tag = "campaigns", params(Page), responses(
    (status = 200, description = "By number", body = schema::Campaigns), Refusals
))]
pub(super) async fn list(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Query(page): Query<Page>,
) -> Result<axum::Json<Listed<CampaignInfo>>, Problem> {
    let (limit, after) = (page.limit()?, page.after_number()?);
    let _turn = rooms.heavy().await?;
    let mut items = rooms.desk.campaigns().await?;
    items.retain(|info| u64::from(info.campaign.0) > after);
    Ok(axum::Json(Listed::of(items, limit, |info| info.campaign.to_string())))
}

/// The plan that runs, with what operators changed beside the file. Rounds come in pages.
#[utoipa::path(get, path = "/v1/campaigns/{campaign}", tag = "campaigns",
    params(("campaign" = u32, Path), Page), responses(
    (status = 200, description = "The plan", body = PlanView), Refusals
))]
pub(super) async fn one(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path(number): Path<u32>,
    Query(page): Query<Page>,
) -> Result<axum::Json<PlanView>, Problem> {
    let (limit, after) = (limit(page.limit.or(Some(PAGE_MAX)))?, page.after_number()?);
    let _turn = rooms.heavy().await?;
    let shown = rooms.desk.active(campaign(number)).await?;
    let grey = rooms.desk.grey_out(campaign(number)).await?;
    Ok(axum::Json(PlanView::of(&shown, grey, after, limit)))
}

/// The history: every version, those that never came into force among them.
#[utoipa::path(get, path = "/v1/campaigns/{campaign}/versions", tag = "campaigns",
    params(("campaign" = u32, Path), Page), responses(
    (status = 200, description = "By SeqNo", body = schema::Versions), Refusals
))]
pub(super) async fn versions(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path(number): Path<u32>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Listed<VersionInfo>>, Problem> {
    let (limit, after) = (page.limit()?, SeqNo(page.after_number()?));
    let items = rooms.desk.history(campaign(number), after, limit.saturating_add(1)).await?;
    // A history gives at most a page at once; a full one may have more behind it.
    let full = items.len() == PAGE_MAX && limit == PAGE_MAX;
    let last = items.last().map(|info| info.seq_no.to_string());
    let mut listed = Listed::of(items, limit, |info| info.seq_no.to_string());
    if full {
        listed.next = last;
    }
    Ok(axum::Json(listed))
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Showing {
    /// The file itself instead, byte for byte.
    source: bool,
}

/// A version with what it changes.
#[derive(Serialize)]
pub(crate) struct VersionView {
    #[serde(flatten)]
    info: VersionInfo,
    adjustments: Adjustments,
    diff: Vec<DiffEntry>,
    diff_left_out: String,
}

/// One version with what it changes of the one that it was made after; or its file.
#[utoipa::path(get, path = "/v1/campaigns/{campaign}/versions/{seq_no}", tag = "campaigns",
    params(("campaign" = u32, Path), ("seq_no" = u64, Path), Showing), responses(
    (status = 200, description = "The version, or its file", content(
        (schema::VersionView = "application/json"), (String = "text/yaml")
    )), Refusals
))]
pub(super) async fn version(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path((number, seq_no)): Path<(u32, u64)>,
    Query(showing): Query<Showing>,
) -> Result<Response, Problem> {
    let (campaign, seq_no) = (campaign(number), SeqNo(seq_no));
    if seq_no.0 > i64::MAX as u64 {
        // No repository counts that far.
        return Err(RepositoryError::NotFound { campaign, seq_no }.into());
    }
    if showing.source {
        let version = rooms.desk.repository().get(campaign, seq_no).await?;
        let version = version.ok_or(RepositoryError::NotFound { campaign, seq_no })?;
        return Ok(yaml(version.source));
    }
    let _turn = rooms.heavy().await?;
    let shown = rooms.desk.show(campaign, seq_no).await?;
    let view = VersionView {
        info: shown.info,
        adjustments: shown.adjustments,
        diff: shown.preview.diff,
        diff_left_out: shown.preview.diff_left_out.to_string(),
    };
    Ok(axum::Json(view).into_response())
}

/// A campaign file as an answer.
pub(super) fn yaml(source: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "text/yaml; charset=utf-8")], source).into_response()
}

/// What players are owed to be told of the plan that runs, in Chinese and in English.
#[utoipa::path(get, path = "/v1/campaigns/{campaign}/disclosure", tag = "compliance",
    params(("campaign" = u32, Path)), responses(
    (status = 200, description = "Texts and their numbers", body = schema::Disclosure), Refusals
))]
pub(super) async fn disclosure(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path(number): Path<u32>,
) -> Result<axum::Json<Disclosure>, Problem> {
    let _turn = rooms.heavy().await?;
    let compiled = compiled(&rooms, campaign(number)).await?;
    let text =
        tokio::task::spawn_blocking(move || quota_config::disclosure(&compiled.plan, &compiled.stated));
    text.await.map(axum::Json).map_err(|e| Problem::internal(e.to_string()))
}

/// The version in force with what its file states beside the plan.
pub(super) async fn compiled(rooms: &Shared, campaign: CampaignId) -> Result<Compiled, Problem> {
    let version = rooms.desk.repository().newest(campaign).await?;
    let version = version.ok_or(DeskError::NoCampaign(campaign))?;
    let seq_no = version.info.seq_no;
    let compiled = tokio::task::spawn_blocking(move || compile_version(&version)).await;
    let compiled = compiled.map_err(|e| Problem::internal(e.to_string()))?;
    compiled.map_err(|problems| DeskError::Stored { campaign, seq_no, problems }.into())
}
