//! Rows of versions.

use super::engine::{self, Row, Store, Write};
use super::trail;
use crate::adjust::Adjustments;
use crate::audit::AuditEntry;
use crate::bounds::HISTORY_MAX;
use crate::people::Role;
use crate::repository::check::{self, Around};
use crate::repository::types::{Draft, Kind, Rollout, State, Version, VersionInfo};
use crate::repository::{ProposalState, RepositoryError};
use crate::seeds::StoredCommitments;
use campaign::{CampaignId, SeqNo};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use storage::SqlError;
use storage::sqlx::{self, Row as _};

const INFO: &str = "campaign, seq_no, after_seq, kind, of_seq, base_ms, sha256, author, role, reason, at_ms, \
                    proposal, approvals, summary, state";
const CONTENTS: &str = "source, adjustments, commitments, rollout";

pub(super) fn campaign_of(number: i64) -> CampaignId {
    CampaignId(u32::try_from(number).unwrap_or(u32::MAX))
}

fn info(row: &Row) -> Result<VersionInfo, RepositoryError> {
    let number = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(SqlError::from);
    let text = |column: &str| row.try_get::<String, _>(column).map_err(SqlError::from);
    let (campaign, seq_no) = (campaign_of(number("campaign")?.cast_signed()), SeqNo(number("seq_no")?));
    let damaged = |what| RepositoryError::Damaged { campaign, seq_no, what };
    let sha256: &[u8] = row.try_get("sha256").map_err(SqlError::from)?;
    Ok(VersionInfo {
        campaign,
        seq_no,
        after: SeqNo(number("after_seq")?),
        kind: Kind::from_name(&text("kind")?).ok_or_else(|| damaged("its kind is unknown"))?,
        of: Some(SeqNo(number("of_seq")?)).filter(|of| of.0 > 0),
        base_ms: number("base_ms")?,
        sha256: sha256.try_into().map_err(|_| damaged("its SHA-256 has not 32 bytes"))?,
        author: text("author")?,
        role: text("role")?.parse::<Role>().map_err(|_| damaged("its role is unknown"))?,
        reason: text("reason")?,
        at_ms: number("at_ms")?,
        proposal: row.try_get("proposal").map_err(SqlError::from)?,
        approvals: json(&text("approvals")?).ok_or_else(|| damaged("its approvals can't be read"))?,
        summary: json(&text("summary")?).ok_or_else(|| damaged("its summary can't be read"))?,
        state: State::from_name(&text("state")?).ok_or_else(|| damaged("its state is unknown"))?,
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn version(row: &Row) -> Result<(Version, Rollout), RepositoryError> {
    let info = info(row)?;
    let damaged = |what| RepositoryError::Damaged { campaign: info.campaign, seq_no: info.seq_no, what };
    let text = |column: &str| row.try_get::<String, _>(column).map_err(SqlError::from);
    let source: Vec<u8> = row.try_get("source").map_err(SqlError::from)?;
    if <[u8; 32]>::from(Sha256::digest(&source)) != info.sha256 {
        return Err(damaged("its source does not have its SHA-256"));
    }
    let stored: &[u8] = row.try_get("commitments").map_err(SqlError::from)?;
    let commitments =
        StoredCommitments::from_bytes(stored).ok_or_else(|| damaged("its seed commitments can't be read"))?;
    let adjustments = Adjustments::from_json(&text("adjustments")?);
    let adjustments = adjustments.map_err(|_| damaged("its adjustments can't be read"))?;
    let rollout = json(&text("rollout")?).ok_or_else(|| damaged("its rollout can't be read"))?;
    Ok((Version { info, source, adjustments, commitments }, rollout))
}

pub(super) async fn reserve(store: &Store, draft: Draft) -> Result<SeqNo, RepositoryError> {
    let mut write = engine::write(store).await?;
    let next: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(MAX(seq_no), 0) + 1 AS BIGINT) FROM plan_version WHERE campaign = $1",
    )
    .bind(i64::from(draft.campaign.0))
    .fetch_one(&mut *write)
    .await?;
    let seq_no = SeqNo(next.cast_unsigned());
    let version = draft.into_version(seq_no);
    let entry = check::reserved(&version);
    check::entry(&entry)?;
    insert(&mut write, &version).await?;
    trail::append(&mut write, entry).await?;
    engine::commit(store, write).await?;
    Ok(seq_no)
}

async fn insert(write: &mut Write, version: &Version) -> Result<(), RepositoryError> {
    let info = &version.info;
    let text = |value: serde_json::Result<String>| value.unwrap_or_else(|_| unreachable!("lists are JSON"));
    sqlx::query(
        "INSERT INTO plan_version (campaign, seq_no, after_seq, kind, of_seq, base_ms, source, sha256, adjustments, \
         commitments, author, role, reason, at_ms, proposal, approvals, summary, state, rollout) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 'reserved', '{}')",
    )
    .bind(i64::from(info.campaign.0))
    .bind(info.seq_no.0.cast_signed())
    .bind(info.after.0.cast_signed())
    .bind(info.kind.name())
    .bind(info.of.map_or(0, |of| of.0.cast_signed()))
    .bind(info.base_ms.cast_signed())
    .bind(&version.source)
    .bind(info.sha256.as_slice())
    .bind(version.adjustments.to_json())
    .bind(version.commitments.to_bytes())
    .bind(&info.author)
    .bind(info.role.name())
    .bind(&info.reason)
    .bind(info.at_ms.cast_signed())
    .bind(&info.proposal)
    .bind(text(serde_json::to_string(&info.approvals)))
    .bind(text(serde_json::to_string(&info.summary)))
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// A version as it stands within a transaction that writes.
async fn locked(
    write: &mut Write,
    campaign: CampaignId,
    seq_no: SeqNo,
) -> Result<(Version, Rollout), RepositoryError> {
    let query = format!("SELECT {INFO}, {CONTENTS} FROM plan_version WHERE campaign = $1 AND seq_no = $2");
    let query = sqlx::query(&query).bind(i64::from(campaign.0)).bind(seq_no.0.cast_signed());
    let row = query.fetch_optional(&mut **write).await?;
    version(&row.ok_or(RepositoryError::NotFound { campaign, seq_no })?)
}

async fn around(write: &mut Write, info: &VersionInfo) -> Result<Around, RepositoryError> {
    let newest: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(MAX(seq_no), 0) AS BIGINT) FROM plan_version \
         WHERE campaign = $1 AND state = 'active'",
    )
    .bind(i64::from(info.campaign.0))
    .fetch_one(&mut **write)
    .await?;
    let grey: Option<i64> =
        sqlx::query_scalar("SELECT seq_no FROM plan_version WHERE campaign = $1 AND state = 'grey'")
            .bind(i64::from(info.campaign.0))
            .fetch_optional(&mut **write)
            .await?;
    let mut proposal = None;
    if let Some(id) = &info.proposal {
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM plan_proposal WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut **write)
            .await?;
        proposal = state.as_deref().and_then(ProposalState::from_name);
    }
    let seq_no = |n: i64| SeqNo(n.cast_unsigned());
    Ok(Around { newest: seq_no(newest), grey: grey.map(seq_no), proposal })
}

async fn set_state(
    write: &mut Write,
    (campaign, seq_no): (CampaignId, SeqNo),
    state: State,
    rollout: &Rollout,
) -> Result<(), RepositoryError> {
    let rollout = serde_json::to_string(rollout).unwrap_or_else(|_| unreachable!("numbers are JSON"));
    sqlx::query("UPDATE plan_version SET state = $3, rollout = $4 WHERE campaign = $1 AND seq_no = $2")
        .bind(i64::from(campaign.0))
        .bind(seq_no.0.cast_signed())
        .bind(state.name())
        .bind(rollout)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Settles the proposal that a version carries out.
async fn settle(write: &mut Write, version: &Version, at_ms: u64) -> Result<(), RepositoryError> {
    let Some(id) = &version.info.proposal else { return Ok(()) };
    let decision = check::approval(version, version.info.seq_no, at_ms);
    let decision = serde_json::to_string(&decision).unwrap_or_else(|_| unreachable!("texts are JSON"));
    sqlx::query("UPDATE plan_proposal SET state = 'approved', decision = $2 WHERE id = $1")
        .bind(id)
        .bind(decision)
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(super) async fn activate(
    store: &Store,
    campaign: CampaignId,
    seq_no: SeqNo,
    at_ms: u64,
) -> Result<(), RepositoryError> {
    let mut write = engine::write(store).await?;
    let (version, rollout) = locked(&mut write, campaign, seq_no).await?;
    let around = around(&mut write, &version.info).await?;
    if !check::may_activate(&version.info, &around)? {
        return Ok(());
    }
    let entry = check::activated(&version, at_ms);
    check::entry(&entry)?;
    set_state(&mut write, (campaign, seq_no), State::Active, &rollout).await?;
    if let Some(of) = version.info.of.filter(|_| version.info.kind == Kind::Promote) {
        let (_, rollout) = locked(&mut write, campaign, of).await?;
        set_state(&mut write, (campaign, of), State::Promoted, &rollout).await?;
    }
    settle(&mut write, &version, at_ms).await?;
    trail::append(&mut write, entry).await?;
    engine::commit(store, write).await?;
    Ok(())
}

pub(super) async fn set_grey(
    store: &Store,
    (campaign, seq_no): (CampaignId, SeqNo),
    rollout: &Rollout,
    entry: AuditEntry,
) -> Result<(), RepositoryError> {
    let mut write = engine::write(store).await?;
    let (version, standing) = locked(&mut write, campaign, seq_no).await?;
    let around = around(&mut write, &version.info).await?;
    check::may_be_grey(&version.info, &around)?;
    if version.info.state == State::Grey && standing == *rollout {
        return Ok(());
    }
    set_state(&mut write, (campaign, seq_no), State::Grey, rollout).await?;
    if version.info.state == State::Reserved {
        settle(&mut write, &version, entry.at_ms).await?;
    }
    trail::append(&mut write, entry).await?;
    engine::commit(store, write).await?;
    Ok(())
}

pub(super) async fn end_grey(
    store: &Store,
    (campaign, seq_no): (CampaignId, SeqNo),
    entry: AuditEntry,
) -> Result<(), RepositoryError> {
    let mut write = engine::write(store).await?;
    let (version, rollout) = locked(&mut write, campaign, seq_no).await?;
    match version.info.state {
        State::Grey => {}
        State::Withdrawn => return Ok(()),
        _ => return Err(RepositoryError::NotGrey { campaign, seq_no }),
    }
    set_state(&mut write, (campaign, seq_no), State::Withdrawn, &rollout).await?;
    trail::append(&mut write, entry).await?;
    engine::commit(store, write).await?;
    Ok(())
}

/// The newest version in a state.
pub(super) async fn newest(
    store: &Store,
    campaign: CampaignId,
    state: State,
) -> Result<Option<(Version, Rollout)>, RepositoryError> {
    let query = format!(
        "SELECT {INFO}, {CONTENTS} FROM plan_version \
         WHERE campaign = $1 AND state = '{}' ORDER BY seq_no DESC LIMIT 1",
        state.name()
    );
    let mut read = engine::read(store).await?;
    let row = sqlx::query(&query).bind(i64::from(campaign.0)).fetch_optional(&mut *read).await?;
    row.as_ref().map(version).transpose()
}

pub(super) async fn get(
    store: &Store,
    campaign: CampaignId,
    seq_no: SeqNo,
) -> Result<Option<Version>, RepositoryError> {
    let query = format!("SELECT {INFO}, {CONTENTS} FROM plan_version WHERE campaign = $1 AND seq_no = $2");
    let query = sqlx::query(&query).bind(i64::from(campaign.0)).bind(seq_no.0.cast_signed());
    let mut read = engine::read(store).await?;
    let row = query.fetch_optional(&mut *read).await?;
    Ok(row.as_ref().map(version).transpose()?.map(|v| v.0))
}

pub(super) async fn all(store: &Store, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
    let query = format!(
        "SELECT {INFO} FROM plan_version WHERE campaign = $1 ORDER BY seq_no DESC LIMIT {HISTORY_MAX}"
    );
    let mut read = engine::read(store).await?;
    let rows = sqlx::query(&query).bind(i64::from(campaign.0)).fetch_all(&mut *read).await?;
    rows.iter().rev().map(info).collect()
}

pub(super) async fn heads(store: &Store) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
    let query = sqlx::query_as::<_, (i64, i64)>(
        "SELECT campaign, MAX(seq_no) FROM plan_version WHERE state = 'active' \
         GROUP BY campaign ORDER BY campaign",
    );
    let mut read = engine::read(store).await?;
    let rows = query.fetch_all(&mut *read).await?;
    let head = |(campaign, seq_no): (i64, i64)| (campaign_of(campaign), SeqNo(seq_no.cast_unsigned()));
    Ok(rows.into_iter().map(head).collect())
}

pub(super) async fn greys(store: &Store) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError> {
    let query = sqlx::query_as::<_, (i64, i64, String)>(
        "SELECT campaign, seq_no, rollout FROM plan_version WHERE state = 'grey' ORDER BY campaign",
    );
    let mut read = engine::read(store).await?;
    let rows = query.fetch_all(&mut *read).await?;
    let grey = |(campaign, seq_no, rollout): (i64, i64, String)| {
        let (campaign, seq_no) = (campaign_of(campaign), SeqNo(seq_no.cast_unsigned()));
        let damaged = RepositoryError::Damaged { campaign, seq_no, what: "its rollout can't be read" };
        Ok((campaign, seq_no, json(&rollout).ok_or(damaged)?))
    };
    rows.into_iter().map(grey).collect()
}
