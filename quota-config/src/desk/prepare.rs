//! What a change would make: the contents of a version, checked against what is active, and the preview of it.
//!
//! Nothing is written in here, so that a preview, a dry run and the change itself come from the same code.
//! Compiling happens on a thread for blocking work: whoever draws on the same runtime goes on meanwhile.

use super::effect::difference;
use super::{Desk, DeskError, Preview};
use crate::adjust::{Adjustments, PrizeAt, RateTarget, Target};
use crate::bounds::SPEED_MAX;
use crate::compile::{Compiled, campaign_of};
use crate::diff::Diff;
use crate::problem::Problems;
use crate::publish::{self, Place, compile_adjusted};
use crate::repository::{Approval, Edit, Kind, RepositoryError, Rollout, State, Version};
use crate::seeds::StoredCommitments;
use campaign::{CampaignId, Plan, Prize, RoundId, SeqNo};
use std::sync::Arc;

/// Runs work that keeps a processor busy beside the runtime.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// What is active: the version and its plan.
#[derive(Clone)]
pub(super) struct Base {
    pub version: Arc<Version>,
    pub plan: Arc<Plan>,
}

impl Base {
    pub fn seq_no(&self) -> SeqNo {
        self.version.info.seq_no
    }

    fn adjustments(&self) -> &Adjustments {
        &self.version.adjustments
    }
}

/// A version that could be made.
pub(super) struct Prepared {
    pub campaign: CampaignId,
    pub after: SeqNo,
    pub kind: Kind,
    pub of: Option<SeqNo>,
    pub source: Vec<u8>,
    pub adjustments: Adjustments,
    pub base_ms: u64,
    pub commitments: StoredCommitments,
    pub plan: Arc<Plan>,
    /// Approvals that it takes over from the grey version that it promotes.
    pub approvals: Vec<Approval>,
    pub rollout: Option<Rollout>,
    pub preview: Preview,
    /// It is what is active.
    pub unchanged: bool,
}

/// Contents before they have a preview.
struct Contents {
    kind: Kind,
    of: Option<SeqNo>,
    source: Vec<u8>,
    adjustments: Adjustments,
    compiled: Compiled,
    approvals: Vec<Approval>,
    rollout: Option<Rollout>,
    warnings: Vec<String>,
}

impl Desk {
    /// What is active of a campaign.
    pub(super) async fn base(&self, campaign: CampaignId) -> Result<Option<Base>, DeskError> {
        match self.repository.newest(campaign).await? {
            Some(version) => self.compiled(version).await.map(Some),
            None => Ok(None),
        }
    }

    /// A stored version with its plan.
    pub(super) async fn compiled(&self, version: Version) -> Result<Base, DeskError> {
        let version = Arc::new(version);
        let shared = Arc::clone(&version);
        let plan = aside(move || publish::recompile(&shared)).await?;
        Ok(Base { version, plan: Arc::new(plan) })
    }

    /// What a change would make of what is active now.
    pub(super) async fn prepare(
        &self,
        campaign: CampaignId,
        edit: &Edit,
        source: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Prepared, DeskError> {
        let base = self.base(campaign).await?;
        let grey = self.repository.grey(campaign).await?;
        if let Some((grey, _)) = grey.as_ref().filter(|_| *edit != Edit::Promote && !edit.kind().is_brake()) {
            return Err(RepositoryError::GreyOut { campaign, grey: grey.info.seq_no }.into());
        }
        let contents = match (edit, &base) {
            (Edit::File { rollout }, _) => {
                let source = source.unwrap_or_default();
                self.file(base.as_ref(), source, rollout.clone(), now_ms).await?
            }
            (_, None) => return Err(DeskError::NoCampaign(campaign)),
            (Edit::Rollback { to }, Some(base)) => self.rollback_to(base, *to, now_ms).await?,
            (Edit::Promote, Some(base)) => {
                let (grey, _) = grey.ok_or_else(|| {
                    DeskError::Refused(format!("campaign {campaign} has no grey version out"))
                })?;
                self.promoted(base, grey, now_ms).await?
            }
            (edit, Some(base)) => adjusted(base, edit).await?,
        };
        let mut prepared = self.previewed(campaign, base.as_ref(), contents, now_ms).await?;
        if let Edit::Lower { prize, units } = edit {
            // The plan has the units still: what is effective is the ledger's to say.
            prepared
                .preview
                .summary
                .push(format!("prize {prize}: {units} units less, as far as they are not granted"));
        }
        Ok(prepared)
    }

    /// Contents from a file.
    async fn file(
        &self,
        base: Option<&Base>,
        source: &[u8],
        rollout: Option<Rollout>,
        now_ms: u64,
    ) -> Result<Contents, DeskError> {
        if base.is_none() && rollout.is_some() {
            let what = "the first version of a campaign goes to all: there is no other plan for the rest";
            return Err(DeskError::Refused(what.to_string()));
        }
        let mut compiled = self.follow(base, source, now_ms).await?;
        let mut warnings = Vec::new();
        let mut adjustments = Adjustments::default();
        if let Some(base) = base {
            let dropped;
            (adjustments, dropped) = base.adjustments().under_new_file().fitted(&compiled.plan);
            warnings.extend(dropped);
            warnings.extend(by_hand(base.adjustments()));
        }
        adjustments.apply_to(&mut compiled.plan).map_err(DeskError::File)?;
        if let (Some(base), Some(_)) = (base, &rollout) {
            let fixed = Diff::between(Some(&base.plan), &compiled.plan).only_grey();
            fixed.map_err(|places| DeskError::Refused(places.join("\n")))?;
        }
        let (kind, source) = (Kind::File, source.to_vec());
        Ok(Contents {
            kind,
            of: None,
            source,
            adjustments,
            compiled,
            approvals: Vec::new(),
            rollout,
            warnings,
        })
    }

    /// Compiles a file on top of what is active.
    async fn follow(&self, base: Option<&Base>, source: &[u8], now_ms: u64) -> Result<Compiled, DeskError> {
        let compile = |gone: Vec<(RoundId, Prize)>| {
            let (seeds, base, source) = (Arc::clone(&self.seeds), base.cloned(), source.to_vec());
            aside(move || {
                let seq_no = SeqNo(base.as_ref().map_or(0, |b| b.seq_no().0) + 1);
                let base_ms = base.as_ref().map_or(now_ms, |b| b.version.info.base_ms);
                let place = Place { seq_no, base_ms, seeds: &*seeds, now_ms };
                let known = base.as_ref().map(|b| (&*b.plan, &b.version.commitments));
                publish::follow(&source, &place, known, &gone)
            })
        };
        let compiled = compile(Vec::new()).await.map_err(DeskError::File)?;
        let Some(base) = base else { return Ok(compiled) };
        let wanted = publish::wanted(&base.version, &base.plan, &compiled.plan);
        let gone = publish::gone(&*self.repository, &base.version, wanted).await?;
        if gone.is_empty() { Ok(compiled) } else { compile(gone).await.map_err(DeskError::File) }
    }

    /// Contents of an earlier version, with its weights and speeds and the present pauses, stops and lowerings.
    async fn rollback_to(&self, base: &Base, to: SeqNo, now_ms: u64) -> Result<Contents, DeskError> {
        let campaign = base.version.info.campaign;
        let old = self.repository.get(campaign, to).await?;
        let old = old.ok_or(RepositoryError::NotFound { campaign, seq_no: to })?;
        if old.info.state != State::Active {
            let state = old.info.state.name();
            let what = format!(
                "SeqNo {to} is {state}: it never was the plan of all; `history` lists those that were"
            );
            return Err(DeskError::Refused(what));
        }
        let old = self.compiled(old).await?;
        raised_since(base, &old)?;
        let (of, kind) = (Some(to), Kind::Rollback);
        let source = old.version.source.clone();
        let adjustments = old.adjustments().with_brakes_of(base.adjustments());
        let mut contents = self.over(base, source, adjustments, now_ms).await.map_err(|e| match e {
            DeskError::File(problems) => {
                let cure = "apply a file that says what you want and keeps what may not change";
                DeskError::Refused(format!("SeqNo {to} can't come back as it is; {cure}:\n{problems}"))
            }
            other => other,
        })?;
        (contents.kind, contents.of) = (kind, of);
        Ok(contents)
    }

    /// The contents of the grey version for all.
    async fn promoted(&self, base: &Base, grey: Version, now_ms: u64) -> Result<Contents, DeskError> {
        let adjustments = grey.adjustments.with_brakes_of(base.adjustments());
        let mut contents = self.over(base, grey.source, adjustments, now_ms).await?;
        (contents.kind, contents.of) = (Kind::Promote, Some(grey.info.seq_no));
        contents.approvals = grey.info.approvals;
        Ok(contents)
    }

    /// A stored file on top of what is active.
    async fn over(
        &self,
        base: &Base,
        source: Vec<u8>,
        adjustments: Adjustments,
        now_ms: u64,
    ) -> Result<Contents, DeskError> {
        let mut compiled = self.follow(Some(base), &source, now_ms).await?;
        let (adjustments, warnings) = adjustments.fitted(&compiled.plan);
        adjustments.apply_to(&mut compiled.plan).map_err(DeskError::File)?;
        let (kind, approvals) = (Kind::File, Vec::new());
        Ok(Contents { kind, of: None, source, adjustments, compiled, approvals, rollout: None, warnings })
    }

    async fn previewed(
        &self,
        campaign: CampaignId,
        base: Option<&Base>,
        contents: Contents,
        now_ms: u64,
    ) -> Result<Prepared, DeskError> {
        let Contents { kind, of, source, adjustments, compiled, approvals, rollout, mut warnings } = contents;
        let plan = Arc::new(compiled.plan);
        let (mut diff, note) = match base {
            // A brake must not wait for a forecast, nor for the ledger that it asks.
            Some(base) if !kind.is_brake() => self.explained(base, &plan, now_ms).await,
            _ => (difference(base, &plan).await, None),
        };
        warnings.extend(note);
        if let Some(base) = base {
            let lifted = base.adjustments().stopped.difference(&adjustments.stopped);
            diff.stops_lifted = lifted.map(Target::to_string).collect();
        }
        // Looks at a version that is on its way already repeat what its file was warned of then.
        if matches!(kind, Kind::File | Kind::Rollback | Kind::Promote) {
            warnings.extend(compiled.warnings.iter().map(ToString::to_string));
        }
        let two = !matches!(kind, Kind::Pause | Kind::Stop | Kind::Lower) && approvals.is_empty();
        let needs_two = if two { self.needs_two(&diff, base, &plan, now_ms).await? } else { Vec::new() };
        let commitments = StoredCommitments::of(&plan);
        let preview = Preview {
            campaign,
            base_seq_no: base.map_or(SeqNo(0), Base::seq_no),
            diff: diff.entries,
            diff_left_out: diff.entries_left_out,
            summary: diff.summary,
            exhaustion: diff.exhaustion,
            warnings,
            needs_two,
        };
        Ok(Prepared {
            campaign,
            after: preview.base_seq_no,
            kind,
            of,
            base_ms: base.map_or(now_ms, |b| b.version.info.base_ms),
            commitments: base.map_or(commitments.clone(), |b| commitments.with(&b.version.commitments)),
            // To roll back to what is active is to say it again, under a newer SeqNo.
            unchanged: kind != Kind::Rollback
                && base.is_some_and(|b| {
                    b.version.source == source && *b.adjustments() == adjustments && kind != Kind::Promote
                }),
            source,
            adjustments,
            plan,
            approvals,
            rollout,
            preview,
        })
    }
}

/// Weights and speeds that a new file sets aside, in words.
fn by_hand(old: &Adjustments) -> impl Iterator<Item = String> + '_ {
    let says = |what: String| format!("{what} was set by hand; the file counts again");
    let weights = old.weights.iter().map(move |(at, n)| says(format!("weight {n} of prize {at}")));
    let speeds = old.speeds.iter().map(move |(at, n)| says(format!("speed {n} of prize {at}")));
    let vendors = old.vendor_speeds.iter().map(move |(id, n)| says(format!("speed {n} of vendor {id}")));
    weights.chain(speeds).chain(vendors)
}

/// Units that were planned since stay for ever, so a version from before can't come back over them.
fn raised_since(base: &Base, old: &Base) -> Result<(), DeskError> {
    let mut raised = Vec::new();
    for round in &base.plan.rounds {
        let Some(before) = old.plan.round(round.id) else { continue };
        for prize in &round.prizes {
            let units = prize.units();
            let was = before.prizes.iter().find(|p| p.id == prize.id).map_or(units, Prize::units);
            if was < units {
                let at = PrizeAt { round: round.id, prize: prize.id };
                raised.push(format!("prize {at} has got {} units since", units - was));
            }
        }
    }
    if raised.is_empty() {
        return Ok(());
    }
    let more = raised.len().saturating_sub(20);
    raised.truncate(20);
    if more > 0 {
        raised.push(format!("{more} further prizes too"));
    }
    Err(DeskError::Refused(format!(
        "SeqNo {} can't come back: units once planned keep their numbers for ever, and {}. Take them away with \
         `lower`; for the rest apply the old file with the new tranches in it",
        old.seq_no(),
        raised.join(", ")
    )))
}

/// The active file under changed adjustments.
async fn adjusted(base: &Base, edit: &Edit) -> Result<Contents, DeskError> {
    let adjustments = edited(base, edit)?;
    let (version, changed) = (Arc::clone(&base.version), adjustments.clone());
    let compiled = aside(move || compile_adjusted(&version, &changed)).await;
    let compiled = compiled.map_err(|problems: Problems| DeskError::Stored {
        campaign: base.version.info.campaign,
        seq_no: base.seq_no(),
        problems,
    })?;
    Ok(Contents {
        kind: edit.kind(),
        of: None,
        source: base.version.source.clone(),
        adjustments,
        compiled,
        approvals: Vec::new(),
        rollout: None,
        warnings: Vec::new(),
    })
}

/// The adjustments that an edit makes of the active ones. A lowering is written down once the ledger has said
/// what it can take.
fn edited(base: &Base, edit: &Edit) -> Result<Adjustments, DeskError> {
    let mut new = base.adjustments().clone();
    let exists = |target: Target| {
        let (campaign, seq_no) = (base.version.info.campaign, base.seq_no());
        let missing = DeskError::NoTarget { campaign, seq_no, what: target.to_string() };
        if target.is_in(&base.plan) { Ok(()) } else { Err(missing) }
    };
    match *edit {
        Edit::Pause { target } => {
            exists(target)?;
            new.paused.insert(target);
        }
        Edit::Stop { target } => {
            exists(target)?;
            new.paused.insert(target);
            new.stopped.insert(target);
        }
        Edit::Resume { target } => {
            let paused = new.paused.remove(&target);
            if !(new.stopped.remove(&target) || paused) {
                exists(target)?;
                return Err(DeskError::NotPaused { target, because: because(base.adjustments()) });
            }
        }
        Edit::Lower { prize, units } => {
            exists(Target::Prize(prize))?;
            if units == 0 {
                return Err(DeskError::Refused("say how many units are to be taken away".to_string()));
            }
            let asked = new.lowered.entry(prize).or_default();
            *asked = asked.saturating_add(units);
        }
        Edit::Rate { target, per_second } => {
            if u64::from(per_second) > SPEED_MAX {
                let what = format!("{per_second} a second; at most {SPEED_MAX}, or 0 for no limit");
                return Err(DeskError::Refused(what));
            }
            match target {
                RateTarget::Prize(at) => {
                    exists(Target::Prize(at))?;
                    new.speeds.insert(at, per_second);
                }
                RateTarget::Vendor(id) => {
                    exists(Target::Vendor(id))?;
                    new.vendor_speeds.insert(id, per_second);
                }
            }
        }
        Edit::RateOfFile { target } => {
            let was = match target {
                RateTarget::Prize(at) => new.speeds.remove(&at).is_some(),
                RateTarget::Vendor(id) => new.vendor_speeds.remove(&id).is_some(),
            };
            if !was {
                exists(match target {
                    RateTarget::Prize(at) => Target::Prize(at),
                    RateTarget::Vendor(id) => Target::Vendor(id),
                })?;
            }
        }
        Edit::Weight { prize, weight } => {
            exists(Target::Prize(prize))?;
            new.weights.insert(prize, weight);
        }
        Edit::File { .. } | Edit::Rollback { .. } | Edit::Promote => {}
    }
    Ok(new)
}

/// What is paused, for whoever looks for it.
fn because(adjustments: &Adjustments) -> String {
    let paused: Vec<String> = adjustments.paused.iter().take(10).map(Target::to_string).collect();
    if paused.is_empty() { "; nothing is".to_string() } else { format!("; what is: {}", paused.join(", ")) }
}

/// The campaign that a file is about.
pub(super) fn campaign_in(source: &[u8], desk: &Desk) -> Result<CampaignId, DeskError> {
    campaign_of(source).ok_or_else(|| DeskError::File(publish::unreadable(source, &*desk.seeds)))
}
