//! Changes that wait for a second person.

use super::campaigns::yaml;
use super::{Listed, Refusals};
use crate::extract::{Approver, Dry, Json, Operator, Path, Query, Reason, Viewer, limit, quoted};
use crate::once::{Answer, Sought, once};
use crate::problem::Problem;
use crate::schema;
use crate::shared::{Rooms, Shared};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use campaign::CampaignId;
use quota_config::{
    By, Change, ChangeState, DeskError, Edit, Preview, Proposal, ProposalState, RepositoryError, Role,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// In this state only.
    #[param(value_type = Option<schema::ProposalState>)]
    state: Option<ProposalState>,
    /// Of this campaign only.
    campaign: Option<u32>,
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
}

/// Proposals by time: of the newest 1,000.
#[utoipa::path(get, path = "/v1/proposals", tag = "proposals", params(Listing), responses(
    (status = 200, description = "By time, without files", body = schema::Proposals), Refusals
))]
pub(super) async fn list(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Query(query): Query<Listing>,
) -> Result<axum::Json<Listed<Proposal>>, Problem> {
    let limit = limit(query.limit)?;
    let mut items = rooms.desk.proposals(query.campaign.map(CampaignId), query.state).await?;
    if let Some(after) = &query.after {
        let at = items.iter().position(|p| p.id == *after).ok_or_else(|| {
            let shown = quoted(after);
            Problem::malformed(format!(
                "after: {shown} is not on this list any more; begin with the first page"
            ))
        })?;
        items.drain(..=at);
    }
    Ok(axum::Json(Listed::of(items, limit, |p| p.id.clone())))
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Showing {
    /// The proposed file itself instead, byte for byte.
    source: bool,
}

/// One proposal, or its file.
#[utoipa::path(get, path = "/v1/proposals/{id}", tag = "proposals",
    params(("id" = schema::ProposalId, Path), Showing), responses(
    (status = 200, description = "The proposal, or its file", content(
        (schema::Proposal = "application/json"), (String = "text/yaml")
    )), Refusals
))]
pub(super) async fn one(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path(id): Path<String>,
    Query(showing): Query<Showing>,
) -> Result<Response, Problem> {
    let proposal = rooms.desk.proposal(named(&id)?).await?;
    if !showing.source {
        return Ok(axum::Json(proposal).into_response());
    }
    let none = || Problem::not_found(format!("proposal {id} changes something beside the file; it has none"));
    proposal.source.map(yaml).ok_or_else(none)
}

/// The id, if it can be one: a database is not asked for anything else.
fn named(id: &str) -> Result<&str, Problem> {
    let digits = id.strip_prefix("p-").unwrap_or_default();
    let plain = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain { Ok(id) } else { Err(RepositoryError::NoProposal(quoted(id)).into()) }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Word {
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

/// Carries a proposal out, as its second person.
#[utoipa::path(post, path = "/v1/proposals/{id}/approve", tag = "proposals",
    params(("id" = schema::ProposalId, Path), Dry, schema::IdempotencyKey), request_body = Word, responses(
    (status = 200, description = "A dry run", body = schema::Change),
    (status = 201, description = "In force, or out grey", body = schema::Change), Refusals
))]
pub(super) async fn approve(
    State(rooms): State<Rooms>,
    Approver(by): Approver,
    Path(id): Path<String>,
    Query(dry): Query<Dry>,
    Json { body, asked }: Json<Word>,
) -> Result<Response, Problem> {
    let id = named(&id)?.to_string();
    let turn = rooms.heavy().await?;
    if dry.dry_run {
        let proposal = waiting(&rooms, &id).await?;
        if proposal.author == by.name {
            return Err(DeskError::SamePerson(by.name).into());
        }
        let mut change = match (&proposal.edit, &proposal.source) {
            (Edit::File { rollout }, Some(source)) => {
                rooms.desk.dry_run_file(source, rollout.clone(), &by).await?
            }
            (edit, _) => rooms.desk.dry_run(proposal.campaign, edit, &by).await?,
        };
        change.proposal = Some(id);
        return Ok(Answer::change(change)?.into_response());
    }
    let sought = Sought::Decision { id: id.clone(), state: ProposalState::Approved };
    let (desk, who) = (rooms.desk.clone(), by.clone());
    let work = async move {
        let _turn = turn;
        Answer::change(desk.approve(&id, &who, &body.reason.0).await?)
    };
    Ok(once(&rooms, &by, asked, sought, work).await)
}

/// Refuses a proposal; its author may take it back.
#[utoipa::path(post, path = "/v1/proposals/{id}/reject", tag = "proposals",
    params(("id" = schema::ProposalId, Path), Dry, schema::IdempotencyKey), request_body = Word, responses(
    (status = 200, description = "It is rejected, or a dry run", body = schema::Change), Refusals
))]
pub(super) async fn reject(
    State(rooms): State<Rooms>,
    Operator(by): Operator,
    Path(id): Path<String>,
    Query(dry): Query<Dry>,
    Json { body, asked }: Json<Word>,
) -> Result<Response, Problem> {
    let id = named(&id)?.to_string();
    if dry.dry_run {
        let proposal = waiting(&rooms, &id).await?;
        may_reject(&proposal, &by)?;
        let preview = Preview {
            needs_two: proposal.needs_two,
            ..Preview::of(proposal.campaign, proposal.after, proposal.summary)
        };
        let (state, campaign) = (ChangeState::DryRun, proposal.campaign);
        let change =
            Change { state, campaign, seq_no: None, proposal: Some(id), preview, effects: Vec::new() };
        return Ok(Answer::change(change)?.into_response());
    }
    let sought = Sought::Decision { id: id.clone(), state: ProposalState::Rejected };
    let (desk, who) = (rooms.desk.clone(), by.clone());
    let work = async move { Answer::change(desk.reject(&id, &who, &body.reason.0).await?) };
    Ok(once(&rooms, &by, asked, sought, work).await)
}

fn may_reject(proposal: &Proposal, by: &By) -> Result<(), Problem> {
    if proposal.author == by.name || by.role >= Role::Approver {
        return Ok(());
    }
    let (name, role) = (by.name.clone(), by.role);
    Err(DeskError::NotAllowed { name, role, needed: "rejecting takes an approver or admin" }.into())
}

async fn waiting(rooms: &Shared, id: &str) -> Result<Proposal, Problem> {
    let proposal = rooms.desk.proposal(id).await?;
    match proposal.state {
        ProposalState::Waiting => Ok(proposal),
        state => Err(DeskError::Decided { id: id.to_string(), state }.into()),
    }
}
