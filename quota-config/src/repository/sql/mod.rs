//! Versions in SQL: SQLite of the embedded platform, PostgreSQL of a cluster.

mod proposals;
mod reports;
mod schema;
mod trail;
mod versions;

use super::{
    Decision, Draft, NewProposal, NodeReport, PlanRepository, Proposal, ProposalState, Remembered,
    RepositoryError, Rollout, State, Verdict, Version, VersionInfo, check,
};
use crate::audit::{AuditEntry, AuditHead, AuditRow};
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};
use storage::pg::{CommitError, Pg};
use storage::{Database, MigrationError, Sql, SqlError};

/// A repository in a database.
pub struct SqlRepository {
    sql: Database,
}

impl From<CommitError> for RepositoryError {
    /// A commit that nobody heard of is not told from one that was not done: whoever repeats a call finds out. A SeqNo
    /// reserved without hearing of it is a gap in the history, which is allowed.
    fn from(error: CommitError) -> RepositoryError {
        match error {
            CommitError::NotDone(error) | CommitError::Unknown(error) => RepositoryError::Sql(error),
        }
    }
}

impl SqlRepository {
    /// The repository in an open database; makes or updates its tables. `now_ms` goes into the record of
    /// migrations.
    ///
    /// # Errors
    /// When the tables can't be made, or a newer program has written them.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlRepository, MigrationError> {
        SqlRepository::of(Database::Sqlite(sql), now_ms).await
    }

    /// The repository in PostgreSQL.
    ///
    /// # Errors
    /// As [`SqlRepository::open`].
    pub async fn open_postgres(pg: Pg, now_ms: u64) -> Result<SqlRepository, MigrationError> {
        SqlRepository::of(Database::Postgres(pg, schema::WRITERS_WAIT), now_ms).await
    }

    async fn of(sql: Database, now_ms: u64) -> Result<SqlRepository, MigrationError> {
        sql.migrate("quota-config", [schema::MIGRATIONS, schema::POSTGRES], now_ms).await?;
        Ok(SqlRepository { sql })
    }

    /// Runs an operation under the statement time limit.
    async fn within<T>(
        &self,
        what: &'static str,
        operation: impl Future<Output = Result<T, RepositoryError>>,
    ) -> Result<T, RepositoryError> {
        self.sql.within(what, async { Ok::<_, SqlError>(operation.await) }).await?
    }
}

#[async_trait]
impl PlanRepository for SqlRepository {
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError> {
        check::draft(&draft)?;
        let draft = Draft { summary: check::summary(draft.summary), ..draft };
        self.within("reserving a SeqNo", versions::reserve(&self.sql, draft)).await
    }

    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo, at_ms: u64) -> Result<(), RepositoryError> {
        self.within("activating a SeqNo", versions::activate(&self.sql, campaign, seq_no, at_ms)).await
    }

    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError> {
        let newest = versions::newest(&self.sql, campaign, State::Active);
        Ok(self.within("reading the newest plan", newest).await?.map(|v| v.0))
    }

    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError> {
        self.within("reading a plan", versions::get(&self.sql, campaign, seq_no)).await
    }

    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
        self.within("reading the history", versions::all(&self.sql, campaign)).await
    }

    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
        self.within("looking for new plans", versions::heads(&self.sql)).await
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
        let set = versions::set_grey(&self.sql, (campaign, seq_no), &rollout, entry);
        self.within("putting a plan out grey", set).await
    }

    async fn end_grey(
        &self,
        campaign: CampaignId,
        seq_no: SeqNo,
        entry: AuditEntry,
    ) -> Result<(), RepositoryError> {
        check::entry(&entry)?;
        let end = versions::end_grey(&self.sql, (campaign, seq_no), entry);
        self.within("taking a grey plan back", end).await
    }

    async fn grey(&self, campaign: CampaignId) -> Result<Option<(Version, Rollout)>, RepositoryError> {
        self.within("reading the grey plan", versions::newest(&self.sql, campaign, State::Grey)).await
    }

    async fn greys(&self) -> Result<Vec<(CampaignId, SeqNo, Rollout)>, RepositoryError> {
        self.within("looking for grey plans", versions::greys(&self.sql)).await
    }

    async fn propose(&self, proposal: NewProposal) -> Result<Proposal, RepositoryError> {
        check::proposal(&proposal)?;
        let proposal = NewProposal { summary: check::summary(proposal.summary), ..proposal };
        self.within("storing a proposal", proposals::propose(&self.sql, proposal)).await
    }

    async fn proposals(
        &self,
        campaign: Option<CampaignId>,
        state: Option<ProposalState>,
    ) -> Result<Vec<Proposal>, RepositoryError> {
        self.within("reading proposals", proposals::list(&self.sql, campaign, state)).await
    }

    async fn proposal(&self, id: &str) -> Result<Option<Proposal>, RepositoryError> {
        self.within("reading a proposal", proposals::get(&self.sql, id)).await
    }

    async fn decide(
        &self,
        id: &str,
        verdict: Verdict,
        decision: Decision,
    ) -> Result<Proposal, RepositoryError> {
        check::decision(&decision)?;
        self.within("settling a proposal", proposals::decide(&self.sql, id, verdict, decision)).await
    }

    async fn audit_append(&self, entry: AuditEntry) -> Result<u64, RepositoryError> {
        check::entry(&entry)?;
        let append = async {
            let mut write = self.sql.write().await?;
            let n = trail::append(&mut write, entry).await?;
            write.commit(&self.sql).await?;
            Ok(n)
        };
        self.within("writing an audit row", append).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError> {
        self.within("reading the audit trail", trail::rows(&self.sql, after, limit)).await
    }

    async fn audit_head(&self) -> Result<AuditHead, RepositoryError> {
        self.within("reading the head of the audit trail", trail::head(&self.sql)).await
    }

    async fn remembered(&self, key: &str) -> Result<Option<Remembered>, RepositoryError> {
        self.within("looking for an answer given before", proposals::remembered(&self.sql, key)).await
    }

    async fn remember(&self, answer: Remembered) -> Result<(), RepositoryError> {
        check::remembered(&answer)?;
        self.within("remembering an answer", proposals::remember(&self.sql, answer)).await
    }

    async fn report(&self, report: NodeReport) -> Result<(), RepositoryError> {
        let report = check::report(report);
        self.within("saying what a node runs", reports::report(&self.sql, &report)).await
    }

    async fn reports(&self) -> Result<Vec<NodeReport>, RepositoryError> {
        self.within("reading what nodes run", reports::all(&self.sql)).await
    }
}
