//! From a file to a stored version, and from a stored version to the plan.
//!
//! Relative times are resolved when the campaign is first published; later versions keep that start, and every
//! compilation of a version takes it from the repository. So a node that starts tomorrow compiles the same plan.

use crate::adjust::Adjustments;
use crate::compile::{After, CompileOptions, Compiled, campaign_of, compile};
use crate::people::Role;
use crate::problem::{Problem, Problems};
use crate::repository::{Draft, Kind, PlanRepository, RepositoryError, Version};
use crate::seeds::{SeedCommitments, StoredCommitments};
use campaign::{CampaignId, Plan, Prize, PrizeId, RoundId, SeqNo};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Who puts files into force that lie beside the platform: no person, so that no operator may be named so.
pub const FILE_AUTHOR: &str = "file";

/// How often a version is made anew because another one came in between.
const TRIES_MAX: usize = 3;

/// Who publishes, why and when.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Now, ms UTC.
    pub now_ms: u64,
}

/// What came of publishing a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Published {
    /// The campaign.
    pub campaign: CampaignId,
    /// The SeqNo in force.
    pub seq_no: SeqNo,
    /// Whether the file made it; `false`: the same file was in force already.
    pub changed: bool,
    /// What looked odd in the file.
    pub warnings: Vec<Problem>,
}

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The file is wrong.
    #[error("{0}")]
    File(Problems),
    /// A stored version that was accepted once does not compile any more.
    #[error(
        "campaign {campaign}, SeqNo {seq_no}, which the file would follow, does not compile:\n{problems}"
    )]
    Before {
        /// The campaign.
        campaign: CampaignId,
        /// The version.
        seq_no: SeqNo,
        /// What is wrong.
        problems: Problems,
    },
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Compiles a stored version: its file, then its adjustments on top. Needs no secret; gives the same plan each
/// time.
///
/// # Errors
/// When the version is damaged, or this program reads files more strictly than the one that accepted it.
pub fn compile_version(version: &Version) -> Result<Compiled, Problems> {
    compile_adjusted(version, &version.adjustments)
}

/// Compiles the file of a stored version under other adjustments than its own.
pub(crate) fn compile_adjusted(version: &Version, adjustments: &Adjustments) -> Result<Compiled, Problems> {
    let options = CompileOptions {
        seq_no: version.info.seq_no,
        base_ms: version.info.base_ms,
        seeds: &version.commitments,
        after: None,
    };
    let mut compiled = compile(&version.source, &options)?;
    adjustments.apply_to(&mut compiled.plan)?;
    Ok(compiled)
}

/// Puts a file into force: as SeqNo n + 1 if its SHA-256 differs from that of the active SeqNo n, else it is n
/// already. The new version is held against the one before, and keeps its pauses, stops and lowerings. `seeds`
/// commits to rounds that are new.
///
/// For files that whoever runs the platform lays beside it. It asks nobody: changes that people make go over the
/// [`Desk`](crate::Desk).
///
/// # Errors
/// When the file is wrong or changes what may not change, or the repository refuses. Nothing is in force then
/// that was not before.
pub async fn publish_file(
    repository: &dyn PlanRepository,
    source: &[u8],
    publisher: &Publisher,
    seeds: &dyn SeedCommitments,
) -> Result<Published, PublishError> {
    let Some(campaign) = campaign_of(source) else {
        return Err(PublishError::File(unreadable(source, seeds)));
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let before = repository.newest(campaign).await?;
        let unchanged = |v: &&Version| v.info.sha256 == <[u8; 32]>::from(Sha256::digest(source));
        if let Some(same) = before.as_ref().filter(unchanged) {
            let seq_no = same.info.seq_no;
            let warnings = compile_version(same).map_err(|problems| PublishError::Before {
                campaign,
                seq_no,
                problems,
            })?;
            return Ok(Published { campaign, seq_no, changed: false, warnings: warnings.warnings });
        }
        let (draft, warnings) =
            draft(repository, campaign, before.as_ref(), source, publisher, seeds).await?;
        let seq_no = repository.reserve(draft).await?;
        match repository.activate(campaign, seq_no, publisher.now_ms).await {
            Ok(()) => return Ok(Published { campaign, seq_no, changed: true, warnings }),
            Err(RepositoryError::Superseded { .. }) if tries < TRIES_MAX => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The errors of a file that does not even name its campaign.
pub(crate) fn unreadable(source: &[u8], seeds: &dyn SeedCommitments) -> Problems {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: 0, seeds, after: None };
    match compile(source, &options) {
        Err(problems) => problems,
        Ok(_) => unreachable!("a file that compiles names its campaign"),
    }
}

async fn draft(
    repository: &dyn PlanRepository,
    campaign: CampaignId,
    before: Option<&Version>,
    source: &[u8],
    publisher: &Publisher,
    seeds: &dyn SeedCommitments,
) -> Result<(Draft, Vec<Problem>), PublishError> {
    let seq_before = before.map_or(SeqNo(0), |v| v.info.seq_no);
    let base_ms = before.map_or(publisher.now_ms, |v| v.info.base_ms);
    let place = Place { seq_no: SeqNo(seq_before.0 + 1), base_ms, seeds, now_ms: publisher.now_ms };
    let mut adjustments = Adjustments::default();
    let (compiled, commitments) = match before {
        None => {
            let compiled = follow(source, &place, None, &[]).map_err(PublishError::File)?;
            let commitments = StoredCommitments::of(&compiled.plan);
            (compiled, commitments)
        }
        Some(version) => {
            let plan = recompile(version)?;
            let known = Some((&plan, &version.commitments));
            let mut compiled = follow(source, &place, known, &[]).map_err(PublishError::File)?;
            let wanted = wanted(version, &plan, &compiled.plan);
            let gone = gone(repository, version, wanted).await?;
            if !gone.is_empty() {
                compiled = follow(source, &place, known, &gone).map_err(PublishError::File)?;
            }
            adjustments = version.adjustments.under_new_file().fitted(&compiled.plan).0;
            let commitments = StoredCommitments::of(&compiled.plan).with(&version.commitments);
            (compiled, commitments)
        }
    };
    let draft = Draft {
        campaign,
        after: seq_before,
        kind: Kind::File,
        of: None,
        source: source.to_vec(),
        adjustments,
        base_ms,
        commitments,
        author: publisher.author.clone(),
        role: Role::Operator,
        reason: publisher.reason.clone(),
        at_ms: publisher.now_ms,
        proposal: None,
        approvals: Vec::new(),
        summary: Vec::new(),
    };
    Ok((draft, compiled.warnings))
}

/// Where a new version comes to stand.
pub(crate) struct Place<'a> {
    /// Its number, as far as one can know.
    pub seq_no: SeqNo,
    /// What relative times count from.
    pub base_ms: u64,
    /// Commits to rounds that are new.
    pub seeds: &'a dyn SeedCommitments,
    /// Now, ms UTC.
    pub now_ms: u64,
}

/// Compiles a file, held against the plan and the commitments before it, and against prizes that were taken out
/// earlier.
pub(crate) fn follow(
    source: &[u8],
    place: &Place<'_>,
    before: Option<(&Plan, &StoredCommitments)>,
    gone: &[(RoundId, Prize)],
) -> Result<Compiled, Problems> {
    let after = before.map(|(plan, commitments)| After { plan, commitments, gone, now_ms: place.now_ms });
    let options = CompileOptions { seq_no: place.seq_no, base_ms: place.base_ms, seeds: place.seeds, after };
    compile(source, &options)
}

pub(crate) fn recompile(version: &Version) -> Result<Plan, PublishError> {
    let (campaign, seq_no) = (version.info.campaign, version.info.seq_no);
    match compile_version(version) {
        Ok(compiled) => Ok(compiled.plan),
        Err(problems) => Err(PublishError::Before { campaign, seq_no, problems }),
    }
}

/// Prizes that the new plan has, the one before has not, and an earlier one may have had: those that come into
/// rounds that are not new.
pub(crate) fn wanted(before: &Version, plan: &Plan, next: &Plan) -> BTreeSet<(RoundId, PrizeId)> {
    let campaign = before.info.campaign;
    let mut wanted = BTreeSet::new();
    for round in next.rounds.iter().filter(|r| before.commitments.commitment(campaign, r.id).is_some()) {
        let old = plan.round(round.id);
        let fresh = round.prizes.iter().filter(|p| old.is_none_or(|old| old.position(p.id).is_none()));
        wanted.extend(fresh.map(|p| (round.id, p.id)));
    }
    wanted
}

/// Wanted prizes as they were last. Looks through the history only where there are any, which is rare.
pub(crate) async fn gone(
    repository: &dyn PlanRepository,
    before: &Version,
    mut wanted: BTreeSet<(RoundId, PrizeId)>,
) -> Result<Vec<(RoundId, Prize)>, PublishError> {
    let campaign = before.info.campaign;
    let mut found = Vec::new();
    let mut seq_no = before.info.after;
    // Active versions form a chain that ends at 0; each step goes to a lower SeqNo.
    while !wanted.is_empty() && seq_no.0 > 0 {
        let Some(version) = repository.get(campaign, seq_no).await? else {
            return Err(RepositoryError::NotFound { campaign, seq_no }.into());
        };
        for round in recompile(&version)?.rounds {
            let (id, prizes) = (round.id, round.prizes);
            found.extend(prizes.into_iter().filter(|p| wanted.remove(&(id, p.id))).map(|p| (id, p)));
        }
        seq_no = version.info.after;
    }
    Ok(found)
}
