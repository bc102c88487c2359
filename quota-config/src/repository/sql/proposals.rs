//! Rows of proposals, and of remembered answers.

use super::engine::{self, Row, Store, Write};
use super::trail;
use super::versions::campaign_of;
use crate::bounds::{PAGE_MAX, REMEMBERED_MAX, REMEMBERED_MS};
use crate::people::Role;
use crate::repository::check;
use crate::repository::{
    Decision, NewProposal, Proposal, ProposalState, Remembered, RepositoryError, Verdict,
};
use campaign::{CampaignId, SeqNo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage::SqlError;
use storage::sqlx::{self, Row as _};

const COLUMNS: &str =
    "id, campaign, after_seq, edit, author, role, reason, at_ms, needs_two, summary, state, decision";

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| unreachable!("texts and numbers are JSON"))
}

fn proposal(row: &Row) -> Result<Proposal, RepositoryError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(SqlError::from);
    let number = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(SqlError::from);
    let id = text("id")?;
    let damaged = |what| RepositoryError::DamagedProposal { id: id.clone(), what };
    let decision: Option<String> = row.try_get("decision").map_err(SqlError::from)?;
    let decision = decision.map(|d| json(&d).ok_or_else(|| damaged("its decision can't be read")));
    Ok(Proposal {
        campaign: campaign_of(number("campaign")?.cast_signed()),
        after: SeqNo(number("after_seq")?),
        edit: json(&text("edit")?).ok_or_else(|| damaged("its change can't be read"))?,
        source: row.try_get("source").map_err(SqlError::from)?,
        author: text("author")?,
        role: text("role")?.parse::<Role>().map_err(|_| damaged("its role is unknown"))?,
        reason: text("reason")?,
        at_ms: number("at_ms")?,
        needs_two: json(&text("needs_two")?).ok_or_else(|| damaged("its reasons can't be read"))?,
        summary: json(&text("summary")?).ok_or_else(|| damaged("its summary can't be read"))?,
        state: ProposalState::from_name(&text("state")?).ok_or_else(|| damaged("its state is unknown"))?,
        decision: decision.transpose()?,
        id,
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

async fn locked(write: &mut Write, id: &str) -> Result<Option<Proposal>, RepositoryError> {
    let query = format!("SELECT {COLUMNS}, source FROM plan_proposal WHERE id = $1");
    let row = sqlx::query(&query).bind(id).fetch_optional(&mut **write).await?;
    row.as_ref().map(proposal).transpose()
}

pub(super) async fn propose(store: &Store, new: NewProposal) -> Result<Proposal, RepositoryError> {
    let entry = check::proposed(&new);
    check::entry(&entry)?;
    let mut write = engine::write(store).await?;
    if let Some(known) = locked(&mut write, &new.id).await? {
        return Ok(known);
    }
    let waiting: i64 = sqlx::query_scalar(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM plan_proposal WHERE campaign = $1 AND state = 'waiting'",
    )
    .bind(i64::from(new.campaign.0))
    .fetch_one(&mut *write)
    .await?;
    check::room_to_wait(usize::try_from(waiting).unwrap_or(usize::MAX))?;
    sqlx::query(
        "INSERT INTO plan_proposal (id, campaign, after_seq, edit, source, author, role, reason, at_ms, \
         needs_two, summary, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'waiting')",
    )
    .bind(&new.id)
    .bind(i64::from(new.campaign.0))
    .bind(new.after.0.cast_signed())
    .bind(to_json(&new.edit))
    .bind(&new.source)
    .bind(&new.author)
    .bind(new.role.name())
    .bind(&new.reason)
    .bind(new.at_ms.cast_signed())
    .bind(to_json(&new.needs_two))
    .bind(to_json(&new.summary))
    .execute(&mut *write)
    .await?;
    trail::append(&mut write, entry).await?;
    engine::commit(store, write).await?;
    Ok(new.into_proposal())
}

pub(super) async fn list(
    store: &Store,
    campaign: Option<CampaignId>,
    state: Option<ProposalState>,
) -> Result<Vec<Proposal>, RepositoryError> {
    let query = format!(
        "SELECT {COLUMNS}, NULL AS source FROM plan_proposal \
         WHERE ($1 < 0 OR campaign = $1) AND ($2 = '' OR state = $2) ORDER BY at_ms DESC, id DESC LIMIT {PAGE_MAX}"
    );
    let query = sqlx::query(&query)
        .bind(campaign.map_or(-1, |c| i64::from(c.0)))
        .bind(state.map_or("", ProposalState::name));
    let mut read = engine::read(store).await?;
    let rows = query.fetch_all(&mut *read).await?;
    rows.iter().rev().map(proposal).collect()
}

pub(super) async fn get(store: &Store, id: &str) -> Result<Option<Proposal>, RepositoryError> {
    let query = format!("SELECT {COLUMNS}, source FROM plan_proposal WHERE id = $1");
    let mut read = engine::read(store).await?;
    let row = sqlx::query(&query).bind(id).fetch_optional(&mut *read).await?;
    row.as_ref().map(proposal).transpose()
}

pub(super) async fn decide(
    store: &Store,
    id: &str,
    verdict: Verdict,
    decision: Decision,
) -> Result<Proposal, RepositoryError> {
    let mut write = engine::write(store).await?;
    let found = locked(&mut write, id).await?;
    let found = found.ok_or_else(|| RepositoryError::NoProposal(id.to_string()))?;
    let state = check::verdict_state(verdict);
    match found.state {
        ProposalState::Waiting => {}
        settled if settled == state => return Ok(found),
        settled => return Err(RepositoryError::Decided { id: id.to_string(), state: settled }),
    }
    sqlx::query("UPDATE plan_proposal SET state = $2, decision = $3 WHERE id = $1")
        .bind(id)
        .bind(state.name())
        .bind(to_json(&decision))
        .execute(&mut *write)
        .await?;
    trail::append(&mut write, check::decided(&found, verdict, &decision)).await?;
    engine::commit(store, write).await?;
    Ok(Proposal { state, decision: Some(decision), ..found })
}

pub(super) async fn remembered(store: &Store, key: &str) -> Result<Option<Remembered>, RepositoryError> {
    let query = sqlx::query("SELECT * FROM plan_remembered WHERE answer_key = $1").bind(key);
    let mut read = engine::read(store).await?;
    let Some(row) = query.fetch_optional(&mut *read).await? else { return Ok(None) };
    let request: &[u8] = row.try_get("request")?;
    // What can't be read was not remembered.
    let Ok(request_sha256) = request.try_into() else { return Ok(None) };
    Ok(Some(Remembered {
        key: row.try_get("answer_key")?,
        request_sha256,
        status: u16::try_from(row.try_get::<i64, _>("status")?).unwrap_or(500),
        content_type: row.try_get("content_type")?,
        body: row.try_get("body")?,
        at_ms: row.try_get::<i64, _>("at_ms")?.cast_unsigned(),
    }))
}

pub(super) async fn remember(store: &Store, answer: Remembered) -> Result<(), RepositoryError> {
    let mut write = engine::write(store).await?;
    let oldest = answer.at_ms.saturating_sub(REMEMBERED_MS).cast_signed();
    sqlx::query("DELETE FROM plan_remembered WHERE at_ms <= $1").bind(oldest).execute(&mut *write).await?;
    sqlx::query(
        "INSERT INTO plan_remembered (answer_key, request, status, content_type, body, at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (answer_key) DO NOTHING",
    )
    .bind(&answer.key)
    .bind(answer.request_sha256.as_slice())
    .bind(i64::from(answer.status))
    .bind(&answer.content_type)
    .bind(&answer.body)
    .bind(answer.at_ms.cast_signed())
    .execute(&mut *write)
    .await?;
    let kept = format!(
        "DELETE FROM plan_remembered WHERE answer_key IN (SELECT answer_key FROM plan_remembered \
         ORDER BY at_ms DESC, answer_key LIMIT 1000 OFFSET {REMEMBERED_MAX})"
    );
    sqlx::query(&kept).execute(&mut *write).await?;
    engine::commit(store, write).await?;
    Ok(())
}
