//! Bounds of what is stored, and the words of the audit trail: the same for every adapter.

use super::{
    Decision, Draft, Kind, NewProposal, NodeReport, Proposal, ProposalState, Remembered, RepositoryError,
    Rollout, State, Verdict, Version, VersionInfo,
};
use crate::audit::AuditEntry;
use crate::bounds::{
    ADJUSTMENTS_MAX, APPROVALS_MAX, AUDIT_DETAIL_BYTES_MAX, FILE_BYTES_MAX, PROPOSALS_WAITING_MAX,
    REASON_BYTES_MAX, REMEMBERED_BODY_BYTES_MAX, REMEMBERED_KEY_BYTES_MAX, REPORT_CHARS_MAX,
    REPORT_PLANS_MAX, ROLLOUT_NODES_MAX, SUMMARY_LINE_BYTES_MAX, SUMMARY_LINES_MAX,
};
use crate::wire::Hex;
use campaign::{NodeId, SeqNo};
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn refuse(what: String) -> Result<(), RepositoryError> {
    Err(RepositoryError::Draft(what))
}

fn person(author: &str, reason: &str) -> Result<(), RepositoryError> {
    if author.trim().is_empty() {
        return refuse("it names no author".to_string());
    }
    for (what, text) in [("author", author), ("reason", reason)] {
        if text.len() > REASON_BYTES_MAX {
            return refuse(format!("its {what} has {} bytes; at most {REASON_BYTES_MAX}", text.len()));
        }
    }
    Ok(())
}

fn time(ms: u64) -> Result<(), RepositoryError> {
    if i64::try_from(ms).is_err() { refuse("its times are out of range".to_string()) } else { Ok(()) }
}

fn file(source: &[u8]) -> Result<(), RepositoryError> {
    match source.len() {
        n if n > FILE_BYTES_MAX => refuse(format!("the file has {n} bytes; at most {FILE_BYTES_MAX}")),
        _ => Ok(()),
    }
}

pub(super) fn draft(draft: &Draft) -> Result<(), RepositoryError> {
    file(&draft.source)?;
    person(&draft.author, &draft.reason)?;
    time(draft.base_ms.max(draft.at_ms))?;
    let count = draft.adjustments.count();
    if count > ADJUSTMENTS_MAX {
        let cure = "apply a file that says the same, which drops weights and speeds";
        return refuse(format!("it has {count} adjustments, at most {ADJUSTMENTS_MAX}: {cure}"));
    }
    if draft.approvals.len() > APPROVALS_MAX {
        return refuse(format!("{} people approve it; at most {APPROVALS_MAX}", draft.approvals.len()));
    }
    draft.approvals.iter().try_for_each(|a| person(&a.name, &a.reason).and_then(|()| time(a.at_ms)))
}

pub(super) fn proposal(proposal: &NewProposal) -> Result<(), RepositoryError> {
    file(proposal.source.as_deref().unwrap_or_default())?;
    person(&proposal.author, &proposal.reason)?;
    time(proposal.at_ms)?;
    match proposal.id.len() {
        1..=64 => Ok(()),
        n => refuse(format!("its id has {n} bytes; write 1 to 64")),
    }
}

pub(super) fn decision(decision: &Decision) -> Result<(), RepositoryError> {
    person(&decision.name, &decision.reason)?;
    time(decision.at_ms)
}

pub(super) fn entry(entry: &AuditEntry) -> Result<(), RepositoryError> {
    person(&entry.who, "")?;
    time(entry.at_ms)?;
    match entry.detail.len() + entry.action.len() {
        n if n > AUDIT_DETAIL_BYTES_MAX => {
            refuse(format!("its detail has {n} bytes; at most {AUDIT_DETAIL_BYTES_MAX}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn rollout(rollout: &Rollout) -> Result<(), RepositoryError> {
    let Rollout { users_per_mille, nodes } = rollout;
    if *users_per_mille == 0 && nodes.is_empty() {
        return refuse("a grey version goes to some users or nodes; name a share or nodes".to_string());
    }
    if *users_per_mille > 1000 {
        return refuse(format!("{users_per_mille} of 1000 users; write 1 to 1000"));
    }
    if nodes.len() > ROLLOUT_NODES_MAX || nodes.iter().any(|n| *n > NodeId::MAX.0) {
        return refuse(format!("node numbers go up to {}", NodeId::MAX));
    }
    Ok(())
}

pub(super) fn remembered(answer: &Remembered) -> Result<(), RepositoryError> {
    time(answer.at_ms)?;
    if answer.key.len() > REMEMBERED_KEY_BYTES_MAX {
        return refuse(format!("a key of {} bytes; at most {REMEMBERED_KEY_BYTES_MAX}", answer.key.len()));
    }
    if answer.body.len() > REMEMBERED_BODY_BYTES_MAX {
        return refuse(format!(
            "an answer of {} bytes; at most {REMEMBERED_BODY_BYTES_MAX}",
            answer.body.len()
        ));
    }
    Ok(())
}

/// As many lines, and as much of each, as a version keeps.
pub(super) fn summary(lines: Vec<String>) -> Vec<String> {
    let cut = |mut line: String| {
        let mut end = line.len().min(SUMMARY_LINE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line
    };
    lines.into_iter().take(SUMMARY_LINES_MAX).map(cut).collect()
}

/// The row of a reservation. It pins down what was stored: hash of the file, and everything that is not in it.
pub(crate) fn reserved(version: &Version) -> AuditEntry {
    let info = &version.info;
    let detail = json!({
        "kind": info.kind,
        "after": info.after.to_string(),
        "of": info.of.map(|of| of.to_string()),
        "author": info.author,
        "reason": info.reason,
        "base_ms": info.base_ms.to_string(),
        "source_sha256": Hex(&info.sha256).to_string(),
        "commitments_sha256": Hex(&Sha256::digest(version.commitments.to_bytes())).to_string(),
        "adjustments_sha256": Hex(&Sha256::digest(version.adjustments.to_json())).to_string(),
        "proposal": info.proposal,
        "approvals": info.approvals,
    });
    of_version(version, "reserve", info.at_ms, detail)
}

/// The row of an activation.
pub(super) fn activated(version: &Version, at_ms: u64) -> AuditEntry {
    let info = &version.info;
    let detail = json!({"kind": info.kind, "after": info.after.to_string(), "proposal": info.proposal});
    of_version(version, "activate", at_ms, detail)
}

/// Whoever acts signs: the second person where a proposal is carried out. Approvals that were taken over from another
/// version make nobody act again.
fn of_version(version: &Version, action: &str, at_ms: u64, detail: serde_json::Value) -> AuditEntry {
    let info = &version.info;
    let second = info.approvals.last().filter(|_| info.proposal.is_some()).map(|a| (&a.name, a.role));
    let (who, role) = second.unwrap_or((&info.author, info.role));
    AuditEntry {
        at_ms,
        who: who.clone(),
        role,
        action: action.to_string(),
        campaign: Some(info.campaign),
        seq_no: Some(info.seq_no),
        detail: detail.to_string(),
    }
}

/// The row of a proposal.
pub(super) fn proposed(proposal: &NewProposal) -> AuditEntry {
    let source = proposal.source.as_deref().map(|s| Hex(&Sha256::digest(s)).to_string());
    let detail = json!({
        "proposal": proposal.id,
        "edit": proposal.edit,
        "after": proposal.after.to_string(),
        "reason": proposal.reason,
        "source_sha256": source,
    });
    AuditEntry {
        at_ms: proposal.at_ms,
        who: proposal.author.clone(),
        role: proposal.role,
        action: "propose".to_string(),
        campaign: Some(proposal.campaign),
        seq_no: None,
        detail: detail.to_string(),
    }
}

/// The row of a proposal that is settled without being put into force.
pub(super) fn decided(proposal: &Proposal, verdict: Verdict, decision: &Decision) -> AuditEntry {
    let action = match verdict {
        Verdict::Rejected => "reject",
        Verdict::Superseded => "supersede",
    };
    AuditEntry {
        at_ms: decision.at_ms,
        who: decision.name.clone(),
        role: decision.role,
        action: action.to_string(),
        campaign: Some(proposal.campaign),
        seq_no: None,
        detail: json!({"proposal": proposal.id, "reason": decision.reason}).to_string(),
    }
}

/// How putting a version into force settles its proposal.
pub(super) fn approval(version: &Version, seq_no: SeqNo, at_ms: u64) -> Decision {
    let info = &version.info;
    let (name, role, reason) = match info.approvals.last() {
        Some(a) => (a.name.clone(), a.role, a.reason.clone()),
        None => (info.author.clone(), info.role, info.reason.clone()),
    };
    Decision { name, role, reason, at_ms, seq_no: Some(seq_no) }
}

/// The state that a verdict leads to.
pub(super) fn verdict_state(verdict: Verdict) -> ProposalState {
    match verdict {
        Verdict::Rejected => ProposalState::Rejected,
        Verdict::Superseded => ProposalState::Superseded,
    }
}

/// What stands around a version that is to be put into force.
pub(super) struct Around {
    /// The newest active version; 0: none.
    pub newest: SeqNo,
    /// The grey version that is out.
    pub grey: Option<SeqNo>,
    /// The state of the proposal that it carries out; `None`: it carries out none.
    pub proposal: Option<ProposalState>,
}

/// Whether a version is to be activated now; `false`: it is active already.
pub(super) fn may_activate(info: &VersionInfo, around: &Around) -> Result<bool, RepositoryError> {
    let (campaign, seq_no) = (info.campaign, info.seq_no);
    match info.state {
        State::Active => return Ok(false),
        State::Reserved => {}
        state => return Err(RepositoryError::Unfit { campaign, seq_no, state, needed: "reserved" }),
    }
    on_top(info, around)?;
    match (info.kind, around.grey) {
        (Kind::Promote, grey) if grey.is_none() || grey != info.of => {
            let seq_no = info.of.unwrap_or(SeqNo(0));
            return Err(RepositoryError::NotGrey { campaign, seq_no });
        }
        (kind, Some(grey)) if kind != Kind::Promote && !kind.is_brake() => {
            return Err(RepositoryError::GreyOut { campaign, grey });
        }
        _ => {}
    }
    waits(info, around)?;
    Ok(true)
}

/// Whether a version may go out grey, or get another rollout.
pub(super) fn may_be_grey(info: &VersionInfo, around: &Around) -> Result<(), RepositoryError> {
    let (campaign, seq_no) = (info.campaign, info.seq_no);
    match (info.state, around.grey) {
        (State::Grey, _) => Ok(()),
        (State::Reserved, Some(_)) if info.kind == Kind::Widen && info.of == around.grey => {
            on_top(info, around)
        }
        (State::Reserved, _) if info.kind == Kind::Widen => {
            Err(RepositoryError::NotGrey { campaign, seq_no: info.of.unwrap_or(SeqNo(0)) })
        }
        (State::Reserved, Some(grey)) => Err(RepositoryError::GreyOut { campaign, grey }),
        (State::Reserved, None) => on_top(info, around).and_then(|()| waits(info, around)),
        (state, _) => Err(RepositoryError::Unfit { campaign, seq_no, state, needed: "reserved or grey" }),
    }
}

/// The grey version whose place a reserved one takes.
pub(super) fn widened(info: &VersionInfo) -> Option<SeqNo> {
    info.of.filter(|_| info.kind == Kind::Widen && info.state == State::Reserved)
}

fn on_top(info: &VersionInfo, around: &Around) -> Result<(), RepositoryError> {
    if around.newest == info.after {
        return Ok(());
    }
    let (campaign, seq_no, after, newest) = (info.campaign, info.seq_no, info.after, around.newest);
    Err(RepositoryError::Superseded { campaign, seq_no, after, newest })
}

/// A proposal is carried out only while it waits.
fn waits(info: &VersionInfo, around: &Around) -> Result<(), RepositoryError> {
    let Some(id) = &info.proposal else { return Ok(()) };
    match around.proposal {
        Some(ProposalState::Waiting) => Ok(()),
        Some(state) => Err(RepositoryError::Decided { id: id.clone(), state }),
        None => Err(RepositoryError::NoProposal(id.clone())),
    }
}

/// Whether one more proposal of a campaign may wait.
pub(super) fn room_to_wait(waiting: usize) -> Result<(), RepositoryError> {
    if waiting < PROPOSALS_WAITING_MAX {
        return Ok(());
    }
    refuse(format!("{waiting} proposals of this campaign wait already: approve or reject some first"))
}

/// A report cut to what is stored: it is looked at by people, and a node is not to fail by it.
pub(super) fn report(mut report: NodeReport) -> NodeReport {
    report.plans.truncate(REPORT_PLANS_MAX);
    for failure in report.plans.iter_mut().filter_map(|plan| plan.failure.as_mut()) {
        failure.what = failure.what.chars().filter(|c| *c != '\0').take(REPORT_CHARS_MAX).collect();
    }
    report
}
