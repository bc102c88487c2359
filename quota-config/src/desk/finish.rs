//! What a process that ended in the middle of a change left half done, finished at the next start.
//!
//! A change that ended before the platform did anything is a gap in the history and nothing else; whoever made it has
//! heard no answer and will ask again. But what the ledger has done already must stand in a version: else the desk shows a
//! prize as running that is paused, or counts units as there that are gone, until somebody happens to ask the same
//! again. Found by holding the ledger against the active version, in the light of the numbers that were reserved last;
//! finished in the name of who began it. Of a lowering only what the ledger has taken is written down: a start never has
//! it take more. Also: the end of a grey version that has not reached the ledger's speeds, and
//! paces towards vendors, which delivery keeps in memory only.

use super::operations::PrizeStatus;
use super::prepare::Base;
use super::{Desk, DeskError};
use crate::adjust::{Adjustments, PrizeAt};
use crate::audit::AuditRow;
use crate::bounds::PAGE_MAX;
use crate::people::{By, Role};
use crate::repository::{Edit, Kind, State, Version, VersionInfo};
use campaign::{CampaignId, SeqNo, VendorId};
use std::collections::{BTreeMap, BTreeSet};

/// How far back reserved numbers are looked at: more than may be under way at once.
const LOOK_BACK: usize = 200;

/// What was found half done at a start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The campaign, if it is about one.
    pub campaign: Option<CampaignId>,
    /// What it was, in words.
    pub what: String,
    /// Why it could not be finished; it is tried again at the next start, and asking again is as good.
    pub error: Option<String>,
}

impl Desk {
    /// Finishes what an earlier process left half done. To be called once, before people are let in.
    ///
    /// # Errors
    /// When the history or the ledger can't be read; nothing of that is lost.
    pub async fn finish(&self) -> Result<Vec<Finished>, DeskError> {
        let mut found = self.vendor_limits().await?;
        for (campaign, active) in self.repository.heads().await? {
            match self.finish_campaign(campaign, active).await {
                Ok(more) => found.extend(more),
                // One campaign that is damaged keeps nothing back from the others.
                Err(error) => {
                    let (what, error) =
                        ("looking for changes that were cut off".to_string(), Some(error.to_string()));
                    found.push(Finished { campaign: Some(campaign), what, error });
                }
            }
        }
        Ok(found)
    }

    async fn finish_campaign(&self, campaign: CampaignId, active: SeqNo) -> Result<Vec<Finished>, DeskError> {
        let mut found = Vec::new();
        let all = self.repository.all(campaign).await?;
        let reserved: Vec<&VersionInfo> =
            all.iter().rev().take(LOOK_BACK).rev().filter(|info| info.state == State::Reserved).collect();
        // A number below the active version is past: nodes register that version, and what it says of pauses holds. A
        // pause of such a number, finished now, would undo whatever resumption came after it.
        let ahead =
            |info: &&&VersionInfo| matches!(info.kind, Kind::Pause | Kind::Stop) && info.seq_no > active;
        for info in reserved.iter().filter(ahead) {
            if let Some(edit) = self.half_done(info).await? {
                let done = self.change(campaign, edit, None, (&author(info), &info.reason)).await;
                found.push(finished(info, done.err()));
            }
        }
        let lowerings: Vec<&VersionInfo> = reserved.into_iter().filter(|i| i.kind == Kind::Lower).collect();
        for (info, prize, units) in self.unsaid(campaign, &lowerings).await? {
            let done = self.say_lowered(campaign, (prize, units), &author(info), &info.reason).await;
            found.push(finished(info, done.err()));
        }
        if let Some(row) = self.last_of(campaign).await?.filter(|row| row.action == "withdraw") {
            let what = format!("the end of grey SeqNo {} by {}", row.seq_no.unwrap_or(SeqNo(0)), row.who);
            let by = By::new(row.who, row.role.parse().unwrap_or(Role::Operator));
            let error = self.say_again(campaign, &by, &what).await.err().map(|e| e.to_string());
            found.push(Finished { campaign: Some(campaign), what, error });
        }
        Ok(found)
    }

    /// Units that the ledger has taken away and no version says, shared out among the lowerings that may have taken them.
    ///
    /// How many there are is the ledger's to say, never a reserved number's: a lowering that was cut off before it
    /// reached the ledger and was then asked for again has gone through under another number, and its own stays
    /// reserved for ever. Where several could have taken them the last ones count, since what came before a version in
    /// force is counted in it.
    async fn unsaid<'a>(
        &self,
        campaign: CampaignId,
        lowerings: &[&'a VersionInfo],
    ) -> Result<Vec<(&'a VersionInfo, PrizeAt, u64)>, DeskError> {
        let mut asked = Vec::new();
        for info in lowerings.iter().copied() {
            if let Some(Edit::Lower { prize, units }) = self.edit_of(info).await? {
                asked.push((info, prize, units));
            }
        }
        let (Some(base), false) = (self.base(campaign).await?, asked.is_empty()) else {
            return Ok(Vec::new());
        };
        let prizes: BTreeSet<PrizeAt> = asked.iter().map(|(_, prize, _)| *prize).collect();
        let rows = self.operations.prizes(campaign, &prizes.into_iter().collect::<Vec<_>>()).await?;
        let said = |prize| base.version.adjustments.lowered.get(prize).copied().unwrap_or(0);
        let mut missing: BTreeMap<PrizeAt, u64> =
            rows.iter().map(|row| (row.at, row.cancelled().saturating_sub(said(&row.at)))).collect();
        let mut shares = Vec::new();
        for (info, prize, units) in asked.into_iter().rev() {
            let Some(rest) = missing.get_mut(&prize) else { continue };
            let share = units.min(*rest);
            if share > 0 {
                *rest -= share;
                shares.push((info, prize, share));
            }
        }
        shares.reverse();
        Ok(shares)
    }

    /// What a reserved number was for.
    async fn edit_of(&self, info: &VersionInfo) -> Result<Option<Edit>, DeskError> {
        let Some(version) = self.repository.get(info.campaign, info.seq_no).await? else { return Ok(None) };
        let before = self.repository.get(info.campaign, info.after).await?;
        Ok(edit_of(&version, &before.map(|v| v.adjustments).unwrap_or_default()))
    }

    /// The pause or stop that a reserved number was for, if the ledger has done its part and no version says so.
    async fn half_done(&self, info: &VersionInfo) -> Result<Option<Edit>, DeskError> {
        let campaign = info.campaign;
        let (Some(edit), Some(base)) = (self.edit_of(info).await?, self.base(campaign).await?) else {
            return Ok(None);
        };
        let prizes = covered(&base, &edit);
        if prizes.is_empty() {
            return Ok(None);
        }
        let rows = self.operations.prizes(campaign, &prizes).await?;
        Ok(rows.iter().any(|row| is_ahead(row, &base)).then_some(edit))
    }

    /// The newest row about what is in force of a campaign, if it is among the last of the trail.
    async fn last_of(&self, campaign: CampaignId) -> Result<Option<AuditRow>, DeskError> {
        let head = self.repository.audit_head().await?;
        let rows = self.repository.audit(head.n.saturating_sub(PAGE_MAX as u64), PAGE_MAX).await?;
        let about = |row: &AuditRow| {
            row.campaign == Some(campaign) && matches!(&*row.action, "activate" | "grey" | "withdraw")
        };
        Ok(rows.into_iter().rev().find(about))
    }

    /// Sets the paces that people have set again: the last of each vendor.
    async fn vendor_limits(&self) -> Result<Vec<Finished>, DeskError> {
        let mut last: BTreeMap<VendorId, Option<u32>> = BTreeMap::new();
        let mut after = 0;
        loop {
            let rows = self.repository.audit(after, PAGE_MAX).await?;
            let Some(end) = rows.last() else { break };
            after = end.n;
            last.extend(rows.iter().filter(|row| row.action == "vendor-limit").filter_map(limit_of));
        }
        let mut found = Vec::new();
        for (vendor, limit) in last {
            let Some(per_second) = limit else { continue };
            let what = format!("the pace of vendor {vendor}, {per_second} a second");
            let error = match self.operations.set_vendor_limit(vendor, limit).await {
                Ok(true) => None,
                Ok(false) => Some("delivery knows it no more".to_string()),
                Err(error) => Some(error.to_string()),
            };
            found.push(Finished { campaign: None, what, error });
        }
        Ok(found)
    }
}

/// The edit that makes a version of the adjustments before.
fn edit_of(version: &Version, before: &Adjustments) -> Option<Edit> {
    let new = &version.adjustments;
    match version.info.kind {
        Kind::Pause => new.paused.difference(&before.paused).next().map(|t| Edit::Pause { target: *t }),
        Kind::Stop => new.stopped.difference(&before.stopped).next().map(|t| Edit::Stop { target: *t }),
        Kind::Lower => new.lowered.iter().find_map(|(prize, units)| {
            let more = units.saturating_sub(before.lowered.get(prize).copied().unwrap_or(0));
            (more > 0).then_some(Edit::Lower { prize: *prize, units: more })
        }),
        _ => None,
    }
}

/// The prizes that it is about, as the active plan has them.
fn covered(base: &Base, edit: &Edit) -> Vec<PrizeAt> {
    let target = match edit {
        Edit::Pause { target } | Edit::Stop { target } => *target,
        _ => return Vec::new(),
    };
    let rounds = base.plan.rounds.iter();
    let all = rounds.flat_map(|round| round.prizes.iter().map(move |prize| (round, prize)));
    let covered = all.filter(|(round, prize)| target.covers(round, prize));
    covered.map(|(round, prize)| PrizeAt { round: round.id, prize: prize.id }).collect()
}

/// Whether the ledger has a prize paused that the active version lets go on.
fn is_ahead(row: &PrizeStatus, base: &Base) -> bool {
    let round = base.plan.round(row.at.round);
    let planned = round.and_then(|r| r.prizes.iter().find(|p| p.id == row.at.prize));
    row.paused && planned.is_some_and(|p| !p.paused)
}

/// Who reserved a number.
fn author(info: &VersionInfo) -> By {
    By::new(info.author.clone(), info.role)
}

fn finished(info: &VersionInfo, error: Option<DeskError>) -> Finished {
    let (kind, author, reason) = (info.kind.name(), &info.author, &info.reason);
    let what = format!("SeqNo {}, {kind} of {author}: {reason}", info.seq_no);
    Finished { campaign: Some(info.campaign), what, error: error.map(|e| e.to_string()) }
}

/// What a row says of a vendor's pace; `None` within: the configured one.
fn limit_of(row: &AuditRow) -> Option<(VendorId, Option<u32>)> {
    let detail: serde_json::Value = serde_json::from_str(&row.detail).ok()?;
    let number = |key: &str| detail.get(key)?.as_u64().and_then(|n| u32::try_from(n).ok());
    Some((VendorId(number("vendor")?), number("per_second")))
}
