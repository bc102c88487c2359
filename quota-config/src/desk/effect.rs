//! What a change does: when prizes will run out, and whether it takes a second person.
//!
//! The forecast of a round that runs goes on from what the ledger says of it. A ledger that does not answer within half a
//! second makes the forecast coarser, and the preview says so; it never holds a change up.
//!
//! Raises of one person add up over a window ([`Policy::window_hours`](crate::Policy)): the new plan is also held
//! against the one that ran before the first of them. What two people agreed to, and what a file beside the platform
//! brought, begins a new count.

use super::prepare::{Base, aside};
use super::{Desk, DeskError};
use crate::adjust::PrizeAt;
use crate::diff::Diff;
use crate::forecast::{self, Demand, Live, Standing};
use crate::publish::FILE_AUTHOR;
use crate::repository::{RepositoryError, VersionInfo};
use campaign::{CampaignId, Plan, SeqNo};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a preview waits for the ledger.
const LEDGER_MS: u64 = 500;

/// What a plan changes of the one before, reckoned beside the runtime.
pub(super) async fn difference(base: Option<&Base>, plan: &Arc<Plan>) -> Diff {
    let (old, new) = (base.map(|b| Arc::clone(&b.plan)), Arc::clone(plan));
    aside(move || Diff::between(old.as_deref(), &new)).await
}

impl Desk {
    /// The difference with the times at which prizes run out, and what is to be known about those times.
    pub(super) async fn explained(
        &self,
        base: &Base,
        plan: &Arc<Plan>,
        now_ms: u64,
    ) -> (Diff, Option<String>) {
        let (live, note) = self.live(&base.plan, now_ms).await;
        let (old, new) = (Arc::clone(&base.plan), Arc::clone(plan));
        let diff = aside(move || {
            let mut diff = Diff::between(Some(&old), &new);
            forecast::explain(&mut diff, &old, &new, &Demand::Unbounded, Some(&live));
            diff
        })
        .await;
        // Nobody needs to hear how exact times are that no line tells.
        let note = note.filter(|_| !diff.exhaustion.is_empty());
        (diff, note)
    }

    /// How the round that is open stands.
    async fn live(&self, plan: &Plan, now_ms: u64) -> (Live, Option<String>) {
        let mut live = Live { now_ms, prizes: Vec::new() };
        let Some(round) = plan.round_at(now_ms) else { return (live, None) };
        let prizes: Vec<_> = round.prizes.iter().map(|p| PrizeAt { round: round.id, prize: p.id }).collect();
        let asked = self.operations.prizes(plan.campaign, &prizes);
        let why = match tokio::time::timeout(Duration::from_millis(LEDGER_MS), asked).await {
            Ok(Ok(rows)) => {
                let of = |row: &super::PrizeStatus| Standing {
                    prize: row.at.prize,
                    awarded: row.awarded,
                    budget: Some(row.budget),
                    released: None,
                };
                live.prizes = rows.iter().map(of).collect();
                return (live, None);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {LEDGER_MS} ms"),
        };
        let round = round.id;
        (
            live,
            Some(format!(
                "how round {round} stands is not known ({why}): its times are reckoned as if nothing of it had been won or lowered"
            )),
        )
    }

    /// Why a change takes a second person; empty: one suffices.
    pub(super) async fn needs_two(
        &self,
        diff: &Diff,
        base: Option<&Base>,
        plan: &Arc<Plan>,
        now_ms: u64,
    ) -> Result<Vec<String>, DeskError> {
        let alone = match base {
            Some(base) if self.policy.adds_up(diff) => self.since_two(base, plan, now_ms).await?,
            _ => None,
        };
        Ok(self.policy.needs_two(diff, alone.as_ref()))
    }

    /// What one person alone would have changed within the window, this change among it; `None`: nothing but this.
    async fn since_two(&self, base: &Base, plan: &Arc<Plan>, now_ms: u64) -> Result<Option<Diff>, DeskError> {
        let campaign = plan.campaign;
        let from_ms = now_ms.saturating_sub(u64::from(self.policy.window_hours) * 3_600_000);
        let counts = |info: &VersionInfo| {
            info.at_ms > from_ms && info.approvals.is_empty() && info.author != FILE_AUTHOR
        };
        if self.policy.window_hours == 0 || !counts(&base.version.info) {
            return Ok(None);
        }
        let all = self.repository.all(campaign).await?;
        let by_number: BTreeMap<SeqNo, &VersionInfo> = all.iter().map(|info| (info.seq_no, info)).collect();
        let mut at = base.seq_no();
        while let Some(info) = by_number.get(&at).filter(|info| counts(info)) {
            at = info.after;
        }
        let before = match at {
            SeqNo(0) => None,
            at => Some(self.stored(campaign, at).await?),
        };
        Ok(Some(difference(before.as_ref(), plan).await))
    }

    async fn stored(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Base, DeskError> {
        let version = self.repository.get(campaign, seq_no).await?;
        self.compiled(version.ok_or(RepositoryError::NotFound { campaign, seq_no })?).await
    }
}
