//! What a process that ended in the middle of a change left half done, finished at the next start.
//!
//! A change that ended before the platform did anything is a gap in the history and nothing else; whoever made it has
//! heard no answer and will ask again. But what the ledger has done already must stand in a version: else the desk shows a
//! prize as running that is paused, or counts units as there that are gone, until somebody happens to ask the same
//! again. Found by holding the ledger against the active version, in the light of the numbers that were reserved last;
//! finished in the name of who began it. Of a lowering only what the ledger has taken is written down: a start never has
//! it take more. Also: the end of a grey version that has not reached the ledger's speeds, and
//! paces towards vendors that are in the trail and have not reached delivery.
//!
//! **Several desks.** On one repository there may be others, in the middle of changes. Their steps look like what was left
//! half done, so only what began before an instant is touched ([`Desk::finish_left`]): the caller names one that lies
//! longer ago than any change may take. Younger lowerings and pauses of a campaign also keep its older ones waiting, since
//! the ledger does not say which of them has done what; the next look comes soon. The ledger is read before the list of
//! numbers, so that no change that it shows can be missing there. Two desks that finish the same thing do no harm: the
//! second finds it done.

use super::operations::{LimitSet, PrizeStatus, VendorSetting};
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

/// Kinds that pause something in the ledger before a version says so.
const PAUSES: [Kind; 2] = [Kind::Pause, Kind::Stop];

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

/// What earlier looks have read of the trail.
#[derive(Default)]
pub struct Seen {
    read_to: u64,
    /// The last setting of each vendor that is not known to stand.
    limits: BTreeMap<VendorId, VendorSetting>,
}

impl Desk {
    /// Finishes what an earlier process left half done. To be called once, before people are let in, where there is no other
    /// desk on the repository.
    ///
    /// # Errors
    /// When the history or the ledger can't be read; nothing of that is lost.
    pub async fn finish(&self) -> Result<Vec<Finished>, DeskError> {
        self.finish_left(&mut Seen::default(), u64::MAX).await
    }

    /// The same where there may be other desks: only what began before an instant, ms UTC. To be called again and again
    /// with the same `seen`.
    ///
    /// # Errors
    /// As [`Desk::finish`].
    pub async fn finish_left(&self, seen: &mut Seen, before_ms: u64) -> Result<Vec<Finished>, DeskError> {
        let mut found = self.vendor_limits(seen, before_ms).await?;
        for (campaign, _) in self.repository.heads().await? {
            match self.finish_campaign(campaign, before_ms).await {
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

    async fn finish_campaign(
        &self,
        campaign: CampaignId,
        before_ms: u64,
    ) -> Result<Vec<Finished>, DeskError> {
        let mut found = Vec::new();
        let reserved = self.reserved(campaign).await?;
        let left = |kinds: &[Kind]| -> Vec<&VersionInfo> {
            reserved.iter().filter(|i| kinds.contains(&i.kind) && i.at_ms < before_ms).collect()
        };
        for info in left(&PAUSES) {
            if let Some(edit) = self.half_done(info, before_ms).await? {
                let done = self.change(campaign, edit, None, (&author(info), &info.reason)).await;
                found.push(finished(info, done.err()));
            }
        }
        for (info, prize, units) in self.unsaid(campaign, &left(&[Kind::Lower]), before_ms).await? {
            let done = self.say_lowered(campaign, (prize, units), &author(info), &info.reason).await;
            found.push(finished(info, done.err()));
        }
        let withdrawn = |row: &AuditRow| row.action == "withdraw" && row.at_ms < before_ms;
        if let Some(row) = self.last_of(campaign).await?.filter(withdrawn) {
            let what = format!("the end of grey SeqNo {} by {}", row.seq_no.unwrap_or(SeqNo(0)), row.who);
            let by = By::new(row.who, row.role.parse().unwrap_or(Role::Operator));
            let error = self.say_again(campaign, &by, &what).await.err().map(|e| e.to_string());
            found.push(Finished { campaign: Some(campaign), what, error });
        }
        Ok(found)
    }

    /// The last numbers that are reserved and no more.
    async fn reserved(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, DeskError> {
        let mut all = self.repository.all(campaign).await?;
        let last = all.split_off(all.len().saturating_sub(LOOK_BACK));
        Ok(last.into_iter().filter(|info| info.state == State::Reserved).collect())
    }

    /// Whether somebody may be in the middle of a change of these kinds.
    async fn is_under_way(
        &self,
        campaign: CampaignId,
        kinds: &[Kind],
        before_ms: u64,
    ) -> Result<bool, DeskError> {
        let reserved = self.reserved(campaign).await?;
        Ok(reserved.iter().any(|info| kinds.contains(&info.kind) && info.at_ms >= before_ms))
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
        before_ms: u64,
    ) -> Result<Vec<(&'a VersionInfo, PrizeAt, u64)>, DeskError> {
        let mut asked = Vec::new();
        for info in lowerings.iter().copied() {
            if let Some(Edit::Lower { prize, units }) = self.edit_of(info).await? {
                asked.push((info, prize, units));
            }
        }
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let prizes: BTreeSet<PrizeAt> = asked.iter().map(|(_, prize, _)| *prize).collect();
        let rows = self.operations.prizes(campaign, &prizes.into_iter().collect::<Vec<_>>()).await?;
        if self.is_under_way(campaign, &[Kind::Lower], before_ms).await? {
            return Ok(Vec::new());
        }
        let Some(base) = self.base(campaign).await? else { return Ok(Vec::new()) };
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
    async fn half_done(&self, info: &VersionInfo, before_ms: u64) -> Result<Option<Edit>, DeskError> {
        let campaign = info.campaign;
        let (Some(edit), Some(base)) = (self.edit_of(info).await?, self.base(campaign).await?) else {
            return Ok(None);
        };
        // A number below the active version is past: nodes register that version, and what it says of pauses holds. A
        // pause of such a number, finished now, would undo whatever resumption came after it.
        let prizes = covered(&base, &edit);
        if prizes.is_empty() || info.seq_no < base.version.info.seq_no {
            return Ok(None);
        }
        let rows = self.operations.prizes(campaign, &prizes).await?;
        if self.is_under_way(campaign, &PAUSES, before_ms).await? {
            return Ok(None);
        }
        let Some(base) = self.base(campaign).await?.filter(|base| base.version.info.seq_no < info.seq_no)
        else {
            return Ok(None);
        };
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

    /// Sets paces that are in the trail and have not reached delivery: of each vendor the last.
    async fn vendor_limits(&self, seen: &mut Seen, before_ms: u64) -> Result<Vec<Finished>, DeskError> {
        'all: loop {
            let rows = self.repository.audit(seen.read_to, PAGE_MAX).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                if row.at_ms >= before_ms {
                    break 'all;
                }
                seen.read_to = row.n;
                if row.action == "vendor-limit" {
                    seen.limits.extend(setting_of(&row).map(|setting| (setting.vendor, setting)));
                }
            }
        }
        let mut found = Vec::new();
        for (vendor, setting) in std::mem::take(&mut seen.limits) {
            let error = match self.operations.set_vendor_limit(&setting).await {
                Ok(LimitSet::Before) => continue,
                Ok(LimitSet::Now) => None,
                Ok(LimitSet::UnknownVendor) => Some("delivery knows it no more".to_string()),
                Err(error) => {
                    seen.limits.insert(vendor, setting.clone());
                    Some(error.to_string())
                }
            };
            let pace = setting.per_second.map_or("as configured".to_string(), |n| format!("{n} a second"));
            let what = format!("the pace of vendor {vendor}, {pace}, of {}", setting.who);
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

/// What a row says of a vendor's pace.
fn setting_of(row: &AuditRow) -> Option<VendorSetting> {
    let detail: serde_json::Value = serde_json::from_str(&row.detail).ok()?;
    let number = |key: &str| detail.get(key)?.as_u64().and_then(|n| u32::try_from(n).ok());
    let (vendor, per_second) = (VendorId(number("vendor")?), number("per_second"));
    Some(VendorSetting { vendor, per_second, number: row.n, who: row.who.clone(), at_ms: row.at_ms })
}
