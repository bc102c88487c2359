//! Versions in memory: for tests, rehearsals and the simulation. Gone with the process.

use super::{Draft, PlanRepository, RepositoryError, State, Version, VersionInfo, check_draft};
use crate::bounds::HISTORY_MAX;
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// A repository in memory.
#[derive(Default)]
pub struct MemoryRepository {
    /// Versions of each campaign; SeqNo n stands at n - 1.
    campaigns: Mutex<BTreeMap<CampaignId, Vec<Version>>>,
}

impl MemoryRepository {
    /// An empty repository.
    pub fn new() -> MemoryRepository {
        MemoryRepository::default()
    }
}

fn newest(versions: &[Version]) -> Option<&Version> {
    versions.iter().rev().find(|v| v.info.state == State::Active)
}

fn position(seq_no: SeqNo) -> Option<usize> {
    seq_no.0.checked_sub(1).and_then(|i| usize::try_from(i).ok())
}

#[async_trait]
impl PlanRepository for MemoryRepository {
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError> {
        check_draft(&draft)?;
        let mut campaigns = self.campaigns.lock();
        let versions = campaigns.entry(draft.campaign).or_default();
        let seq_no = SeqNo(versions.len() as u64 + 1);
        let info = VersionInfo {
            campaign: draft.campaign,
            seq_no,
            after: draft.after,
            base_ms: draft.base_ms,
            sha256: Sha256::digest(&draft.source).into(),
            author: draft.author,
            reason: draft.reason,
            at_ms: draft.at_ms,
            state: State::Reserved,
        };
        versions.push(Version { info, source: draft.source, commitments: draft.commitments });
        Ok(seq_no)
    }

    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<(), RepositoryError> {
        let mut campaigns = self.campaigns.lock();
        let versions = campaigns.entry(campaign).or_default();
        let head = newest(versions).map_or(SeqNo(0), |v| v.info.seq_no);
        let version = position(seq_no).and_then(|i| versions.get_mut(i));
        let Some(version) = version else { return Err(RepositoryError::NotFound { campaign, seq_no }) };
        let after = version.info.after;
        match version.info.state {
            State::Active => Ok(()),
            State::Reserved if after != head => {
                Err(RepositoryError::Superseded { campaign, seq_no, after, newest: head })
            }
            State::Reserved => {
                version.info.state = State::Active;
                Ok(())
            }
        }
    }

    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError> {
        Ok(self.campaigns.lock().get(&campaign).and_then(|versions| newest(versions)).cloned())
    }

    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError> {
        let campaigns = self.campaigns.lock();
        Ok(campaigns.get(&campaign).zip(position(seq_no)).and_then(|(versions, i)| versions.get(i)).cloned())
    }

    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
        let campaigns = self.campaigns.lock();
        let versions = campaigns.get(&campaign).map_or(&[][..], Vec::as_slice);
        let skip = versions.len().saturating_sub(HISTORY_MAX);
        Ok(versions[skip..].iter().map(|v| v.info.clone()).collect())
    }

    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
        let campaigns = self.campaigns.lock();
        let head = |(id, versions): (&CampaignId, &Vec<Version>)| Some((*id, newest(versions)?.info.seq_no));
        Ok(campaigns.iter().filter_map(head).collect())
    }
}
