//! Versions in memory: for tests, rehearsals and the simulation. Gone with the process.

use super::check::{self, Around};
use super::{
    Decision, Draft, Kind, NewProposal, NodeReport, PlanRepository, Proposal, ProposalState, Remembered,
    RepositoryError, Rollout, State, Verdict, Version, VersionInfo,
};
use crate::audit::{AuditEntry, AuditHead, AuditRow};
use crate::bounds::{HISTORY_MAX, PAGE_MAX, PROPOSALS_WAITING_MAX, REMEMBERED_MAX, REMEMBERED_MS};
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// A repository in memory.
#[derive(Default)]
pub struct MemoryRepository {
    store: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    /// Versions of each campaign with their rollouts; SeqNo n stands at n - 1.
    campaigns: BTreeMap<CampaignId, Vec<(Version, Rollout)>>,
    /// By time.
    proposals: Vec<Proposal>,
    audit: Vec<AuditRow>,
    remembered: Vec<Remembered>,
    reports: BTreeMap<u16, NodeReport>,
}

impl MemoryRepository {
    /// An empty repository.
    pub fn new() -> MemoryRepository {
        MemoryRepository::default()
    }
}

impl Store {
    fn versions(&self, campaign: CampaignId) -> &[(Version, Rollout)] {
        self.campaigns.get(&campaign).map_or(&[], Vec::as_slice)
    }

    fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Option<&(Version, Rollout)> {
        let at = seq_no.0.checked_sub(1).and_then(|i| usize::try_from(i).ok())?;
        self.versions(campaign).get(at)
    }

    fn with(&mut self, campaign: CampaignId, seq_no: SeqNo) -> Option<&mut (Version, Rollout)> {
        let at = seq_no.0.checked_sub(1).and_then(|i| usize::try_from(i).ok())?;
        self.campaigns.get_mut(&campaign)?.get_mut(at)
    }

    fn last(&self, campaign: CampaignId, state: State) -> Option<&(Version, Rollout)> {
        self.versions(campaign).iter().rev().find(|v| v.0.info.state == state)
    }

    fn around(&self, info: &VersionInfo) -> Around {
        let seq_no = |state| self.last(info.campaign, state).map(|v| v.0.info.seq_no);
        let proposal = |id: &String| Some(self.proposals.iter().find(|p| p.id == *id)?.state);
        Around {
            newest: seq_no(State::Active).unwrap_or(SeqNo(0)),
            grey: seq_no(State::Grey),
            proposal: info.proposal.as_ref().and_then(proposal),
        }
    }

    fn head(&self) -> AuditHead {
        self.audit.last().map_or(AuditHead::default(), AuditRow::head)
    }

    fn write(&mut self, entry: AuditEntry) -> u64 {
        let row = self.head().next(entry);
        self.audit.push(row);
        self.audit.len() as u64
    }

    /// Settles the proposal that a version carries out.
    fn settle(&mut self, version: &Version, at_ms: u64) {
        let Some(id) = &version.info.proposal else { return };
        if let Some(proposal) = self.proposals.iter_mut().find(|p| p.id == *id) {
            proposal.state = ProposalState::Approved;
            proposal.decision = Some(check::approval(version, version.info.seq_no, at_ms));
        }
    }
}

fn listed(proposal: &Proposal) -> Proposal {
    Proposal { source: None, ..proposal.clone() }
}

#[async_trait]
impl PlanRepository for MemoryRepository {
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError> {
        check::draft(&draft)?;
        let draft = Draft { summary: check::summary(draft.summary), ..draft };
        let mut store = self.store.lock();
        let campaign = draft.campaign;
        let seq_no = SeqNo(store.versions(campaign).len() as u64 + 1);
        let version = draft.into_version(seq_no);
        let entry = check::reserved(&version);
        check::entry(&entry)?;
        store.campaigns.entry(campaign).or_default().push((version, Rollout::default()));
        store.write(entry);
        Ok(seq_no)
    }

    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo, at_ms: u64) -> Result<(), RepositoryError> {
        let mut store = self.store.lock();
        let missing = RepositoryError::NotFound { campaign, seq_no };
        let version = store.get(campaign, seq_no).ok_or(missing)?.0.clone();
        if !check::may_activate(&version.info, &store.around(&version.info))? {
            return Ok(());
        }
        let entry = check::activated(&version, at_ms);
        check::entry(&entry)?;
        if let Some((version, _)) = store.with(campaign, seq_no) {
            version.info.state = State::Active;
        }
        let promoted = version.info.of.filter(|_| version.info.kind == Kind::Promote);
        if let Some((grey, _)) = promoted.and_then(|of| store.with(campaign, of)) {
            grey.info.state = State::Promoted;
        }
        store.settle(&version, at_ms);
        store.write(entry);
        Ok(())
    }

    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError> {
        Ok(self.store.lock().last(campaign, State::Active).map(|v| v.0.clone()))
    }

    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError> {
        Ok(self.store.lock().get(campaign, seq_no).map(|v| v.0.clone()))
    }

    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
        let store = self.store.lock();
        let versions = store.versions(campaign);
        let skip = versions.len().saturating_sub(HISTORY_MAX);
        Ok(versions[skip..].iter().map(|v| v.0.info.clone()).collect())
    }

    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
        let store = self.store.lock();
        let head = |id: &CampaignId| Some((*id, store.last(*id, State::Active)?.0.info.seq_no));
        Ok(store.campaigns.keys().filter_map(head).collect())
    }

    async fn set_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        rollout: Rollout,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError> {
        check::rollout(&rollout)?;
        check::entry(&entry)?;
        let mut store = self.store.lock();
        let missing = RepositoryError::NotFound { campaign, seq_no };
        let (version, standing) = store.get(campaign, seq_no).ok_or(missing)?.clone();
        check::may_be_grey(&version.info, &store.around(&version.info))?;
        if version.info.state == State::Grey && standing == rollout {
            return Ok(());
        }
        let widened = check::widened(&version.info);
        if let Some((before, _)) = widened.and_then(|of| store.with(campaign, of)) {
            before.info.state = State::Withdrawn;
        }
        if let Some((version, standing)) = store.with(campaign, seq_no) {
            (version.info.state, *standing) = (State::Grey, rollout);
        }
        if version.info.state == State::Reserved {
            store.settle(&version, entry.at_ms);
        }
        store.write(entry);
        Ok(())
    }

    async fn end_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError> {
        check::entry(&entry)?;
        let mut store = self.store.lock();
        let version = store.with(campaign, seq_no);
        let (version, _) = version.ok_or(RepositoryError::NotFound { campaign, seq_no })?;
        match version.info.state {
            State::Grey => version.info.state = State::Withdrawn,
            State::Withdrawn => return Ok(()),
            _ => return Err(RepositoryError::NotGrey { campaign, seq_no }),
        }
        store.write(entry);
        Ok(())
    }

    async fn grey(&self, campaign: CampaignId) -> Result<Option<(Version, Rollout)>, RepositoryError> {
        Ok(self.store.lock().last(campaign, State::Grey).cloned())
    }

    async fn greys(&self) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError> {
        let store = self.store.lock();
        let grey = |id: &CampaignId| {
            let (version, rollout) = store.last(*id, State::Grey)?;
            Some((*id, version.info.seq_no, rollout.clone()))
        };
        Ok(store.campaigns.keys().filter_map(grey).collect())
    }

    async fn propose(&self, new: NewProposal) -> Result<Proposal, RepositoryError> {
        check::proposal(&new)?;
        let new = NewProposal { summary: check::summary(new.summary), ..new };
        let entry = check::proposed(&new);
        check::entry(&entry)?;
        let mut store = self.store.lock();
        if let Some(known) = store.proposals.iter().find(|p| p.id == new.id) {
            return Ok(known.clone());
        }
        let waiting = |p: &&Proposal| p.campaign == new.campaign && p.state == ProposalState::Waiting;
        check::room_to_wait(store.proposals.iter().filter(waiting).count())?;
        let proposal = new.into_proposal();
        store.proposals.push(proposal.clone());
        store.write(entry);
        Ok(proposal)
    }

    async fn proposals(
        &self,
        campaign: Option<CampaignId>,
        state: Option<ProposalState>,
    ) -> Result<Vec<Proposal>, RepositoryError> {
        let store = self.store.lock();
        let meant =
            |p: &&Proposal| campaign.is_none_or(|c| p.campaign == c) && state.is_none_or(|s| p.state == s);
        let mut newest: Vec<_> =
            store.proposals.iter().rev().filter(meant).take(PAGE_MAX).map(listed).collect();
        newest.reverse();
        Ok(newest)
    }

    async fn proposal(&self, id: &str) -> Result<Option<Proposal>, RepositoryError> {
        Ok(self.store.lock().proposals.iter().find(|p| p.id == id).cloned())
    }

    async fn decide(
        &self,
        id: &str,
        verdict: Verdict,
        decision: Decision,
    ) -> Result<Proposal, RepositoryError> {
        check::decision(&decision)?;
        let mut store = self.store.lock();
        let found = store.proposals.iter_mut().find(|p| p.id == id);
        let proposal = found.ok_or_else(|| RepositoryError::NoProposal(id.to_string()))?;
        let state = check::verdict_state(verdict);
        match proposal.state {
            ProposalState::Waiting => {}
            settled if settled == state => return Ok(proposal.clone()),
            settled => return Err(RepositoryError::Decided { id: id.to_string(), state: settled }),
        }
        let entry = check::decided(proposal, verdict, &decision);
        (proposal.state, proposal.decision) = (state, Some(decision));
        let proposal = proposal.clone();
        store.write(entry);
        Ok(proposal)
    }

    async fn audit_append(&self, entry: AuditEntry) -> Result<u64, RepositoryError> {
        check::entry(&entry)?;
        Ok(self.store.lock().write(entry))
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError> {
        let store = self.store.lock();
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(store.audit.iter().skip(skip).take(limit.min(PAGE_MAX)).cloned().collect())
    }

    async fn audit_head(&self) -> Result<AuditHead, RepositoryError> {
        Ok(self.store.lock().head())
    }

    async fn remembered(&self, key: &str) -> Result<Option<Remembered>, RepositoryError> {
        Ok(self.store.lock().remembered.iter().find(|r| r.key == key).cloned())
    }

    async fn remember(&self, answer: Remembered) -> Result<(), RepositoryError> {
        check::remembered(&answer)?;
        let mut store = self.store.lock();
        store.remembered.retain(|r| r.at_ms.saturating_add(REMEMBERED_MS) > answer.at_ms);
        if store.remembered.iter().all(|r| r.key != answer.key) {
            store.remembered.push(answer);
        }
        let over = store.remembered.len().saturating_sub(REMEMBERED_MAX);
        store.remembered.drain(..over);
        Ok(())
    }

    async fn report(&self, report: NodeReport) -> Result<(), RepositoryError> {
        let report = check::report(report);
        self.store.lock().reports.insert(report.node, report);
        Ok(())
    }

    async fn reports(&self) -> Result<Vec<NodeReport>, RepositoryError> {
        Ok(self.store.lock().reports.values().cloned().collect())
    }
}

const _: () = assert!(PROPOSALS_WAITING_MAX <= PAGE_MAX);
