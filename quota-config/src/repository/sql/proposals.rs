//! Rows of proposals, and of remembered answers.

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
use storage::{AnyRow, Arg, Database, DatabaseWrite, StoredRow as _};

const COLUMNS: &str =
    "id, campaign, after_seq, edit, author, role, reason, at_ms, needs_two, summary, state, decision";

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| unreachable!("texts and numbers are JSON"))
}

fn proposal(row: &AnyRow) -> Result<Proposal, RepositoryError> {
    let text = |column: &'static str| row.text(column).map(str::to_owned);
    let number = |column: &'static str| row.bits(column);
    let id = text("id")?;
    let damaged = |what| RepositoryError::DamagedProposal { id: id.clone(), what };
    let decision = row.text_or_null("decision")?;
    let decision = decision.map(|d| json(d).ok_or_else(|| damaged("its decision can't be read")));
    Ok(Proposal {
        campaign: campaign_of(number("campaign")?.cast_signed()),
        after: SeqNo(number("after_seq")?),
        edit: json(&text("edit")?).ok_or_else(|| damaged("its change can't be read"))?,
        source: row.bytes_or_null("source")?.map(<[u8]>::to_vec),
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

async fn locked(write: &mut DatabaseWrite, id: &str) -> Result<Option<Proposal>, RepositoryError> {
    let query = format!("SELECT {COLUMNS}, source FROM plan_proposal WHERE id = $1");
    write.rows(&query, &[Arg::Text(id)]).await?.first().map(proposal).transpose()
}

pub(super) async fn propose(sql: &Database, new: NewProposal) -> Result<Proposal, RepositoryError> {
    let entry = check::proposed(&new);
    check::entry(&entry)?;
    let mut write = sql.write().await?;
    if let Some(known) = locked(&mut write, &new.id).await? {
        return Ok(known);
    }
    let count = "SELECT CAST(COUNT(*) AS BIGINT) AS waiting FROM plan_proposal WHERE campaign = $1 AND state = 'waiting'";
    let waiting = write.rows(count, &[Arg::Int(i64::from(new.campaign.0))]).await?;
    let waiting = waiting.first().map_or(Ok(0), |row| row.number("waiting"))?;
    check::room_to_wait(usize::try_from(waiting).unwrap_or(usize::MAX))?;
    write
        .execute(
            "INSERT INTO plan_proposal (id, campaign, after_seq, edit, source, author, role, reason, at_ms, \
         needs_two, summary, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'waiting')",
            &[
                Arg::Text(&new.id),
                Arg::Int(i64::from(new.campaign.0)),
                Arg::Int(new.after.0.cast_signed()),
                Arg::Text(&to_json(&new.edit)),
                Arg::BytesOrNull(new.source.as_deref()),
                Arg::Text(&new.author),
                Arg::Text(new.role.name()),
                Arg::Text(&new.reason),
                Arg::Int(new.at_ms.cast_signed()),
                Arg::Text(&to_json(&new.needs_two)),
                Arg::Text(&to_json(&new.summary)),
            ],
        )
        .await?;
    trail::append(&mut write, entry).await?;
    write.commit(sql).await?;
    Ok(new.into_proposal())
}

pub(super) async fn list(
    sql: &Database,
    campaign: Option<CampaignId>,
    state: Option<ProposalState>,
) -> Result<Vec<Proposal>, RepositoryError> {
    let query = format!(
        "SELECT {COLUMNS}, NULL AS source FROM plan_proposal \
         WHERE ($1 < 0 OR campaign = $1) AND ($2 = '' OR state = $2) ORDER BY at_ms DESC, id DESC LIMIT {PAGE_MAX}"
    );
    let args =
        [Arg::Int(campaign.map_or(-1, |c| i64::from(c.0))), Arg::Text(state.map_or("", ProposalState::name))];
    let rows = sql.rows(&query, &args).await?;
    rows.iter().rev().map(proposal).collect()
}

pub(super) async fn get(sql: &Database, id: &str) -> Result<Option<Proposal>, RepositoryError> {
    let query = format!("SELECT {COLUMNS}, source FROM plan_proposal WHERE id = $1");
    sql.rows(&query, &[Arg::Text(id)]).await?.first().map(proposal).transpose()
}

pub(super) async fn decide(
    sql: &Database,
    id: &str,
    verdict: Verdict,
    decision: Decision,
) -> Result<Proposal, RepositoryError> {
    let mut write = sql.write().await?;
    let found = locked(&mut write, id).await?;
    let found = found.ok_or_else(|| RepositoryError::NoProposal(id.to_string()))?;
    let state = check::verdict_state(verdict);
    match found.state {
        ProposalState::Waiting => {}
        settled if settled == state => return Ok(found),
        settled => return Err(RepositoryError::Decided { id: id.to_string(), state: settled }),
    }
    write
        .execute(
            "UPDATE plan_proposal SET state = $2, decision = $3 WHERE id = $1",
            &[Arg::Text(id), Arg::Text(state.name()), Arg::Text(&to_json(&decision))],
        )
        .await?;
    trail::append(&mut write, check::decided(&found, verdict, &decision)).await?;
    write.commit(sql).await?;
    Ok(Proposal { state, decision: Some(decision), ..found })
}

pub(super) async fn remembered(sql: &Database, key: &str) -> Result<Option<Remembered>, RepositoryError> {
    let query = "SELECT * FROM plan_remembered WHERE answer_key = $1";
    let rows = sql.rows(query, &[Arg::Text(key)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let request = row.bytes("request")?;
    // What can't be read was not remembered.
    let Ok(request_sha256) = request.try_into() else { return Ok(None) };
    Ok(Some(Remembered {
        key: row.text("answer_key")?.to_owned(),
        request_sha256,
        status: u16::try_from(row.number("status")?).unwrap_or(500),
        content_type: row.text("content_type")?.to_owned(),
        body: row.bytes("body")?.to_vec(),
        at_ms: row.bits("at_ms")?,
    }))
}

pub(super) async fn remember(sql: &Database, answer: Remembered) -> Result<(), RepositoryError> {
    let mut write = sql.write().await?;
    let oldest = answer.at_ms.saturating_sub(REMEMBERED_MS).cast_signed();
    write.execute("DELETE FROM plan_remembered WHERE at_ms <= $1", &[Arg::Int(oldest)]).await?;
    write
        .execute(
            "INSERT INTO plan_remembered (answer_key, request, status, content_type, body, at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (answer_key) DO NOTHING",
            &[
                Arg::Text(&answer.key),
                Arg::Bytes(answer.request_sha256.as_slice()),
                Arg::Int(i64::from(answer.status)),
                Arg::Text(&answer.content_type),
                Arg::Bytes(&answer.body),
                Arg::Int(answer.at_ms.cast_signed()),
            ],
        )
        .await?;
    let kept = format!(
        "DELETE FROM plan_remembered WHERE answer_key IN (SELECT answer_key FROM plan_remembered \
         ORDER BY at_ms DESC, answer_key LIMIT 1000 OFFSET {REMEMBERED_MAX})"
    );
    write.execute(&kept, &[]).await?;
    write.commit(sql).await?;
    Ok(())
}
