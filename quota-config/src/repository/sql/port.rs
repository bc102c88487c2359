//! The port over the statements of this folder, whichever engine runs them.

use super::engine::{self, Store};
use super::{Repository, proposals, trail, versions};
use crate::audit::{AuditEntry, AuditHead, AuditRow};
use crate::repository::{
    Decision, Draft, NewProposal, PlanRepository, Proposal, ProposalState, Remembered, RepositoryError,
    Rollout, State, Verdict, Version, VersionInfo, check,
};
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};
use storage::SqlError;

impl Repository {
    fn store(&self) -> &Store {
        &self.store
    }

    /// Runs an operation under the statement time limit.
    async fn within<T>(
        &self,
        what: &'static str,
        operation: impl Future<Output = Result<T, RepositoryError>>,
    ) -> Result<T, RepositoryError> {
        self.store.within(what, async { Ok::<_, SqlError>(operation.await) }).await?
    }
}

#[async_trait]
impl PlanRepository for Repository {
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError> {
        check::draft(&draft)?;
        let draft = Draft { summary: check::summary(draft.summary), ..draft };
        self.within("reserving a SeqNo", versions::reserve(self.store(), draft)).await
    }

    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo, at_ms: u64) -> Result<(), RepositoryError> {
        self.within("activating a SeqNo", versions::activate(self.store(), campaign, seq_no, at_ms)).await
    }

    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError> {
        let newest = versions::newest(self.store(), campaign, State::Active);
        Ok(self.within("reading the newest plan", newest).await?.map(|v| v.0))
    }

    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError> {
        self.within("reading a plan", versions::get(self.store(), campaign, seq_no)).await
    }

    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
        self.within("reading the history", versions::all(self.store(), campaign)).await
    }

    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
        self.within("looking for new plans", versions::heads(self.store())).await
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
        let set = versions::set_grey(self.store(), (campaign, seq_no), &rollout, entry);
        self.within("putting a plan out grey", set).await
    }

    async fn end_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError> {
        check::entry(&entry)?;
        let end = versions::end_grey(self.store(), (campaign, seq_no), entry);
        self.within("taking a grey plan back", end).await
    }

    async fn grey(&self, campaign: CampaignId) -> Result<Option<(Version, Rollout)>, RepositoryError> {
        self.within("reading the grey plan", versions::newest(self.store(), campaign, State::Grey)).await
    }

    async fn greys(&self) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError> {
        self.within("looking for grey plans", versions::greys(self.store())).await
    }

    async fn propose(&self, proposal: NewProposal) -> Result<Proposal, RepositoryError> {
        check::proposal(&proposal)?;
        let proposal = NewProposal { summary: check::summary(proposal.summary), ..proposal };
        self.within("storing a proposal", proposals::propose(self.store(), proposal)).await
    }

    async fn proposals(
        &self,
        campaign: Option<CampaignId>,
        state: Option<ProposalState>,
    ) -> Result<Vec<Proposal>, RepositoryError> {
        self.within("reading proposals", proposals::list(self.store(), campaign, state)).await
    }

    async fn proposal(&self, id: &str) -> Result<Option<Proposal>, RepositoryError> {
        self.within("reading a proposal", proposals::get(self.store(), id)).await
    }

    async fn decide(
        &self,
        id: &str,
        verdict: Verdict,
        decision: Decision,
    ) -> Result<Proposal, RepositoryError> {
        check::decision(&decision)?;
        self.within("settling a proposal", proposals::decide(self.store(), id, verdict, decision)).await
    }

    async fn audit_append(&self, entry: AuditEntry) -> Result<u64, RepositoryError> {
        check::entry(&entry)?;
        let append = async {
            let mut write = engine::write(self.store()).await?;
            let n = trail::append(&mut write, entry).await?;
            engine::commit(self.store(), write).await?;
            Ok(n)
        };
        self.within("writing an audit row", append).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError> {
        self.within("reading the audit trail", trail::rows(self.store(), after, limit)).await
    }

    async fn audit_head(&self) -> Result<AuditHead, RepositoryError> {
        self.within("reading the head of the audit trail", trail::head(self.store())).await
    }

    async fn remembered(&self, key: &str) -> Result<Option<Remembered>, RepositoryError> {
        self.within("looking for an answer given before", proposals::remembered(self.store(), key)).await
    }

    async fn remember(&self, answer: Remembered) -> Result<(), RepositoryError> {
        check::remembered(&answer)?;
        self.within("remembering an answer", proposals::remember(self.store(), answer)).await
    }
}
