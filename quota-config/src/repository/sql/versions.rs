//! Rows of versions.

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
use storage::{AnyRow, Arg, Database, DatabaseWrite, StoredRow as _};

const INFO: &str = "campaign, seq_no, after_seq, kind, of_seq, base_ms, sha256, author, role, reason, at_ms, \
                    proposal, approvals, summary, state";
const CONTENTS: &str = "source, adjustments, commitments, rollout";

pub(super) fn campaign_of(number: i64) -> CampaignId {
    CampaignId(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The key of a version, as values of a statement.
fn key(campaign: CampaignId, seq_no: SeqNo) -> [Arg<'static>; 2] {
    [Arg::Int(i64::from(campaign.0)), Arg::Int(seq_no.0.cast_signed())]
}

fn info(row: &AnyRow) -> Result<VersionInfo, RepositoryError> {
    let number = |column: &'static str| row.bits(column);
    let text = |column: &'static str| row.text(column).map(str::to_owned);
    let (campaign, seq_no) = (campaign_of(number("campaign")?.cast_signed()), SeqNo(number("seq_no")?));
    let damaged = |what| RepositoryError::Damaged { campaign, seq_no, what };
    let sha256 = row.bytes("sha256")?;
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
        proposal: row.text_or_null("proposal")?.map(str::to_owned),
        approvals: json(&text("approvals")?).ok_or_else(|| damaged("its approvals can't be read"))?,
        summary: json(&text("summary")?).ok_or_else(|| damaged("its summary can't be read"))?,
        state: State::from_name(&text("state")?).ok_or_else(|| damaged("its state is unknown"))?,
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn version(row: &AnyRow) -> Result<(Version, Rollout), RepositoryError> {
    let info = info(row)?;
    let damaged = |what| RepositoryError::Damaged { campaign: info.campaign, seq_no: info.seq_no, what };
    let text = |column: &'static str| row.text(column).map(str::to_owned);
    let source = row.bytes("source")?.to_vec();
    if <[u8; 32]>::from(Sha256::digest(&source)) != info.sha256 {
        return Err(damaged("its source does not have its SHA-256"));
    }
    let stored = row.bytes("commitments")?;
    let commitments =
        StoredCommitments::from_bytes(stored).ok_or_else(|| damaged("its seed commitments can't be read"))?;
    let adjustments = Adjustments::from_json(&text("adjustments")?);
    let adjustments = adjustments.map_err(|_| damaged("its adjustments can't be read"))?;
    let rollout = json(&text("rollout")?).ok_or_else(|| damaged("its rollout can't be read"))?;
    Ok((Version { info, source, adjustments, commitments }, rollout))
}

pub(super) async fn reserve(sql: &Database, draft: Draft) -> Result<SeqNo, RepositoryError> {
    let mut write = sql.write().await?;
    let last =
        "SELECT CAST(COALESCE(MAX(seq_no), 0) AS BIGINT) AS last FROM plan_version WHERE campaign = $1";
    let last = write.rows(last, &[Arg::Int(i64::from(draft.campaign.0))]).await?;
    let seq_no = SeqNo(last.first().map_or(Ok(0), |row| row.bits("last"))? + 1);
    let version = draft.into_version(seq_no);
    let entry = check::reserved(&version);
    check::entry(&entry)?;
    insert(&mut write, &version).await?;
    trail::append(&mut write, entry).await?;
    write.commit(sql).await?;
    Ok(seq_no)
}

async fn insert(write: &mut DatabaseWrite, version: &Version) -> Result<(), RepositoryError> {
    let info = &version.info;
    let text = |value: serde_json::Result<String>| value.unwrap_or_else(|_| unreachable!("lists are JSON"));
    write.execute("INSERT INTO plan_version (campaign, seq_no, after_seq, kind, of_seq, base_ms, source, sha256, adjustments, \
         commitments, author, role, reason, at_ms, proposal, approvals, summary, state, rollout) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 'reserved', '{}')", &[Arg::Int(i64::from(info.campaign.0)), Arg::Int(info.seq_no.0.cast_signed()), Arg::Int(info.after.0.cast_signed()), Arg::Text(info.kind.name()), Arg::Int(info.of.map_or(0, |of| of.0.cast_signed())), Arg::Int(info.base_ms.cast_signed()), Arg::Bytes(&version.source), Arg::Bytes(info.sha256.as_slice()), Arg::Text(&version.adjustments.to_json()), Arg::Bytes(&version.commitments.to_bytes()), Arg::Text(&info.author), Arg::Text(info.role.name()), Arg::Text(&info.reason), Arg::Int(info.at_ms.cast_signed()), Arg::TextOrNull(info.proposal.as_deref()), Arg::Text(&text(serde_json::to_string(&info.approvals))), Arg::Text(&text(serde_json::to_string(&info.summary)))]).await?;
    Ok(())
}

/// A version as it stands within a transaction that writes.
async fn locked(
    write: &mut DatabaseWrite,
    campaign: CampaignId,
    seq_no: SeqNo,
) -> Result<(Version, Rollout), RepositoryError> {
    let query = format!("SELECT {INFO}, {CONTENTS} FROM plan_version WHERE campaign = $1 AND seq_no = $2");
    let rows = write.rows(&query, &key(campaign, seq_no)).await?;
    version(rows.first().ok_or(RepositoryError::NotFound { campaign, seq_no })?)
}

async fn around(write: &mut DatabaseWrite, info: &VersionInfo) -> Result<Around, RepositoryError> {
    let of = [Arg::Int(i64::from(info.campaign.0))];
    let newest = "SELECT CAST(COALESCE(MAX(seq_no), 0) AS BIGINT) AS newest FROM plan_version \
                  WHERE campaign = $1 AND state = 'active'";
    let newest = write.rows(newest, &of).await?.first().map_or(Ok(0), |row| row.bits("newest"))?;
    let grey = "SELECT seq_no FROM plan_version WHERE campaign = $1 AND state = 'grey'";
    let grey = write.rows(grey, &of).await?.first().map(|row| row.bits("seq_no")).transpose()?;
    let mut proposal = None;
    if let Some(id) = &info.proposal {
        let found = write.rows("SELECT state FROM plan_proposal WHERE id = $1", &[Arg::Text(id)]).await?;
        let state = found.first().map(|row| row.text("state")).transpose()?;
        proposal = state.and_then(ProposalState::from_name);
    }
    Ok(Around { newest: SeqNo(newest), grey: grey.map(SeqNo), proposal })
}

async fn set_state(
    write: &mut DatabaseWrite,
    (campaign, seq_no): (CampaignId, SeqNo),
    state: State,
    rollout: &Rollout,
) -> Result<(), RepositoryError> {
    let rollout = serde_json::to_string(rollout).unwrap_or_else(|_| unreachable!("numbers are JSON"));
    write
        .execute(
            "UPDATE plan_version SET state = $3, rollout = $4 WHERE campaign = $1 AND seq_no = $2",
            &[
                Arg::Int(i64::from(campaign.0)),
                Arg::Int(seq_no.0.cast_signed()),
                Arg::Text(state.name()),
                Arg::Text(&rollout),
            ],
        )
        .await?;
    Ok(())
}

/// Settles the proposal that a version carries out.
async fn settle(write: &mut DatabaseWrite, version: &Version, at_ms: u64) -> Result<(), RepositoryError> {
    let Some(id) = &version.info.proposal else { return Ok(()) };
    let decision = check::approval(version, version.info.seq_no, at_ms);
    let decision = serde_json::to_string(&decision).unwrap_or_else(|_| unreachable!("texts are JSON"));
    write
        .execute(
            "UPDATE plan_proposal SET state = 'approved', decision = $2 WHERE id = $1",
            &[Arg::Text(id), Arg::Text(&decision)],
        )
        .await?;
    Ok(())
}

pub(super) async fn activate(
    sql: &Database,
    campaign: CampaignId,
    seq_no: SeqNo,
    at_ms: u64,
) -> Result<(), RepositoryError> {
    let mut write = sql.write().await?;
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
    write.commit(sql).await?;
    Ok(())
}

pub(super) async fn set_grey(
    sql: &Database,
    (campaign, seq_no): (CampaignId, SeqNo),
    rollout: &Rollout,
    entry: AuditEntry,
) -> Result<(), RepositoryError> {
    let mut write = sql.write().await?;
    let (version, standing) = locked(&mut write, campaign, seq_no).await?;
    let around = around(&mut write, &version.info).await?;
    check::may_be_grey(&version.info, &around)?;
    if version.info.state == State::Grey && standing == *rollout {
        return Ok(());
    }
    if let Some(of) = check::widened(&version.info) {
        let (_, standing) = locked(&mut write, campaign, of).await?;
        set_state(&mut write, (campaign, of), State::Withdrawn, &standing).await?;
    }
    set_state(&mut write, (campaign, seq_no), State::Grey, rollout).await?;
    if version.info.state == State::Reserved {
        settle(&mut write, &version, entry.at_ms).await?;
    }
    trail::append(&mut write, entry).await?;
    write.commit(sql).await?;
    Ok(())
}

pub(super) async fn end_grey(
    sql: &Database,
    (campaign, seq_no): (CampaignId, SeqNo),
    entry: AuditEntry,
) -> Result<(), RepositoryError> {
    let mut write = sql.write().await?;
    let (version, rollout) = locked(&mut write, campaign, seq_no).await?;
    match version.info.state {
        State::Grey => {}
        State::Withdrawn => return Ok(()),
        _ => return Err(RepositoryError::NotGrey { campaign, seq_no }),
    }
    set_state(&mut write, (campaign, seq_no), State::Withdrawn, &rollout).await?;
    trail::append(&mut write, entry).await?;
    write.commit(sql).await?;
    Ok(())
}

/// The newest version in a state.
pub(super) async fn newest(
    sql: &Database,
    campaign: CampaignId,
    state: State,
) -> Result<Option<(Version, Rollout)>, RepositoryError> {
    let query = format!(
        "SELECT {INFO}, {CONTENTS} FROM plan_version \
         WHERE campaign = $1 AND state = '{}' ORDER BY seq_no DESC LIMIT 1",
        state.name()
    );
    let rows = sql.rows(&query, &[Arg::Int(i64::from(campaign.0))]).await?;
    rows.first().map(version).transpose()
}

pub(super) async fn get(
    sql: &Database,
    campaign: CampaignId,
    seq_no: SeqNo,
) -> Result<Option<Version>, RepositoryError> {
    let query = format!("SELECT {INFO}, {CONTENTS} FROM plan_version WHERE campaign = $1 AND seq_no = $2");
    let rows = sql.rows(&query, &key(campaign, seq_no)).await?;
    Ok(rows.first().map(version).transpose()?.map(|v| v.0))
}

pub(super) async fn all(sql: &Database, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
    let query = format!(
        "SELECT {INFO} FROM plan_version WHERE campaign = $1 ORDER BY seq_no DESC LIMIT {HISTORY_MAX}"
    );
    let rows = sql.rows(&query, &[Arg::Int(i64::from(campaign.0))]).await?;
    rows.iter().rev().map(info).collect()
}

pub(super) async fn heads(sql: &Database) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
    let query = "SELECT campaign, MAX(seq_no) AS head FROM plan_version WHERE state = 'active' \
                 GROUP BY campaign ORDER BY campaign";
    let rows = sql.rows(query, &[]).await?;
    let head = |row: &AnyRow| Ok((campaign_of(row.number("campaign")?), SeqNo(row.bits("head")?)));
    rows.iter().map(head).collect()
}

pub(super) async fn greys(sql: &Database) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError> {
    let query = "SELECT campaign, seq_no, rollout FROM plan_version WHERE state = 'grey' ORDER BY campaign";
    let grey = |row: &AnyRow| {
        let (campaign, seq_no) = (campaign_of(row.number("campaign")?), SeqNo(row.bits("seq_no")?));
        let damaged = RepositoryError::Damaged { campaign, seq_no, what: "its rollout can't be read" };
        Ok((campaign, seq_no, json(row.text("rollout")?).ok_or(damaged)?))
    };
    sql.rows(query, &[]).await?.iter().map(grey).collect()
}
