//! Pauses, stops and lowerings: reserve, ledger, activate, and never a second person.
//!
//! A pause or stop goes to the ledger for prizes of rounds that are open or open within a minute; later rounds are
//! paused by the plan, which nodes register long before. If the ledger does not answer, the version is put into
//! force all the same: it only takes away, and the nodes bring it to the ledger as soon as that is back.
//!
//! A lowering is put into force only with the ledger's answer. What it must take is counted from what the ledger
//! has taken already, not from what this call asks: so a repetition after a crash takes nothing twice, and of two
//! lowerings at once each takes its own.

use super::carry::{Asked, Step, TRIES_MAX, in_force, unchanged};
use super::operations::{OperationError, PrizeStatus};
use super::prepare::Prepared;
use super::{Change, Desk, DeskError, Effect};
use crate::adjust::{PrizeAt, Target};
use crate::people::By;
use crate::repository::Edit;
use campaign::{CampaignId, Plan, SeqNo};
use std::time::Duration;

/// Rounds that open later than this are left to the plan: nodes have it within a second.
const AHEAD_MS: u64 = 60_000;

/// How long a pause waits for the ledger before the version goes into force without it.
const LEDGER_MS: u64 = 1_000;

impl Desk {
    /// Pauses or stops; `None`: something came in between, prepare anew.
    pub(super) async fn pause_now(
        &self,
        prepared: Prepared,
        target: Target,
        asked: &Asked<'_>,
    ) -> Result<Option<Change>, DeskError> {
        let near = near(&prepared.plan, target, self.clock.now_ms());
        if prepared.unchanged && self.are_paused(prepared.campaign, &near).await {
            return Ok(Some(unchanged(prepared, Vec::new())));
        }
        let seq_no = self.repository.reserve(self.draft(&prepared, asked)).await?;
        let (mut effects, newer) = self.pause_all(prepared.campaign, &near, seq_no).await;
        if newer {
            return Ok(None);
        }
        let later = covered(&prepared.plan, target, self.clock.now_ms()).saturating_sub(near.len());
        if later > 0 {
            let prizes = if later == 1 {
                "1 prize of a round that opens later is"
            } else {
                &format!("{later} prizes of rounds that open later are")
            };
            let what = format!("{prizes} paused by SeqNo {seq_no}");
            effects.push(Effect { prize: None, what, effective_units: None, taken: None, done: true });
        }
        match self.put_into_force(&prepared, seq_no, asked).await? {
            Step::Done => Ok(Some(in_force(prepared, seq_no, asked, effects))),
            Step::Again => Ok(None),
        }
    }

    /// Whether the ledger has all of these that it knows paused.
    async fn are_paused(&self, campaign: CampaignId, prizes: &[PrizeAt]) -> bool {
        if prizes.is_empty() {
            return true;
        }
        match self.operations.prizes(campaign, prizes).await {
            Ok(rows) => rows.iter().all(|row| row.paused),
            Err(_) => false,
        }
    }

    /// Pauses prizes in the ledger; says whether it knows a newer SeqNo of one.
    async fn pause_all(
        &self,
        campaign: CampaignId,
        prizes: &[PrizeAt],
        seq_no: SeqNo,
    ) -> (Vec<Effect>, bool) {
        let mut effects = Vec::new();
        let mut away = None;
        for prize in prizes.iter().copied() {
            let (what, done) = match self.pause_one(campaign, prize, seq_no, away.take()).await {
                Ok(()) => ("paused in the ledger".to_string(), true),
                Err(OperationError::Newer(_)) => return (effects, true),
                Err(OperationError::Unknown(_)) => {
                    (format!("not in the ledger yet: SeqNo {seq_no} pauses it from the start"), true)
                }
                Err(OperationError::Failed(what)) => {
                    let said = format!(
                        "the ledger did not answer ({what}): SeqNo {seq_no} pauses it as soon as it does"
                    );
                    away = Some(what);
                    (said, false)
                }
            };
            effects.push(Effect { prize: Some(prize), what, effective_units: None, taken: None, done });
        }
        (effects, false)
    }

    /// `away`: why the ledger did not answer for the prize before; then it is not asked again.
    async fn pause_one(
        &self,
        campaign: CampaignId,
        prize: PrizeAt,
        seq_no: SeqNo,
        away: Option<String>,
    ) -> Result<(), OperationError> {
        if let Some(what) = away {
            return Err(OperationError::Failed(what));
        }
        let asked = self.operations.pause(campaign, prize, seq_no);
        match tokio::time::timeout(Duration::from_millis(LEDGER_MS), asked).await {
            Ok(answer) => answer,
            Err(_) => Err(OperationError::Failed(format!("no answer within {LEDGER_MS} ms"))),
        }
    }

    /// Takes units away; `None`: something came in between, prepare anew.
    pub(super) async fn lower_now(
        &self,
        mut prepared: Prepared,
        prize: PrizeAt,
        asked: &Asked<'_>,
    ) -> Result<Option<Change>, DeskError> {
        let campaign = prepared.campaign;
        let row = self.row(campaign, prize).await?;
        let asked_for = prepared.adjustments.lowered.get(&prize).copied().unwrap_or(0);
        let need = asked_for.saturating_sub(row.cancelled());
        let mut seq_no = self.repository.reserve(self.draft(&prepared, asked)).await?;
        let (mut effective, mut taken) = (row.budget, 0);
        if need > 0 {
            match self.operations.lower(campaign, prize, seq_no, need).await {
                Ok(lowered) => (effective, taken) = (lowered.effective_units, lowered.taken),
                Err(OperationError::Newer(_)) => return Ok(None),
                Err(error) => return Err(DeskError::Operation { seq_no, error }),
            }
        }
        let effect = Effect {
            prize: Some(prize),
            what: in_words(need, taken, effective),
            effective_units: Some(effective),
            taken: Some(taken),
            done: taken == need,
        };
        if taken < need {
            // What the ledger could not take is not kept as asked for: a later lowering would take it by surprise.
            // The number that it was tried under stays a gap, and the ledger has heard of it: the version behind it
            // goes into force even if nothing was taken, or nodes could not register what is active.
            let kept = asked_for - (need - taken);
            if kept == 0 {
                prepared.adjustments.lowered.remove(&prize);
            } else {
                prepared.adjustments.lowered.insert(prize, kept);
            }
            seq_no = self.repository.reserve(self.draft(&prepared, asked)).await?;
        }
        match self.put_into_force(&prepared, seq_no, asked).await? {
            Step::Done => Ok(Some(in_force(prepared, seq_no, asked, vec![effect]))),
            Step::Again => Ok(None),
        }
    }

    /// Puts into force that units of a prize are gone which the ledger has taken already. It is asked for nothing, so
    /// that whatever else is going on nothing can be taken twice.
    pub(super) async fn say_lowered(
        &self,
        campaign: CampaignId,
        (prize, units): (PrizeAt, u64),
        by: &By,
        reason: &str,
    ) -> Result<(), DeskError> {
        let asked = Asked { by, reason, second: None };
        for _ in 0..TRIES_MAX {
            let edit = Edit::Lower { prize, units };
            let prepared = self.prepare(campaign, &edit, None, self.clock.now_ms()).await?;
            let said = prepared.adjustments.lowered.get(&prize).copied().unwrap_or(0);
            if said > self.row(campaign, prize).await?.cancelled() {
                // Another lowering has counted them in meanwhile.
                return Ok(());
            }
            let seq_no = self.repository.reserve(self.draft(&prepared, &asked)).await?;
            if let Step::Done = self.put_into_force(&prepared, seq_no, &asked).await? {
                return Ok(());
            }
        }
        Err(DeskError::Contended(campaign))
    }

    async fn row(&self, campaign: CampaignId, prize: PrizeAt) -> Result<PrizeStatus, DeskError> {
        let rows = self.operations.prizes(campaign, &[prize]).await?;
        let row = rows.into_iter().find(|row| row.at == prize);
        Ok(row.ok_or(OperationError::Unknown(prize))?)
    }
}

fn in_words(need: u64, taken: u64, effective: u64) -> String {
    let now = format!("its budget is {effective} units now");
    match need - taken.min(need) {
        0 if need == 0 => format!("these units were taken away already; {now}"),
        0 => format!("{taken} units are taken away; {now}"),
        rest => format!(
            "{taken} units are taken away, {rest} are granted to nodes: what of them comes back unused can be \
             taken by asking again; {now}"
        ),
    }
}

/// Prizes of the target whose rounds are open or open soon, in the order of their rounds.
fn near(plan: &Plan, target: Target, now_ms: u64) -> Vec<PrizeAt> {
    let rounds = plan.rounds.iter().filter(|r| r.close_ms > now_ms && r.open_ms <= now_ms + AHEAD_MS);
    let prizes = rounds.flat_map(|round| {
        let covered = round.prizes.iter().filter(move |prize| target.covers(round, prize));
        covered.map(|prize| PrizeAt { round: round.id, prize: prize.id })
    });
    prizes.collect()
}

/// How many prizes of rounds that are not over the target has.
fn covered(plan: &Plan, target: Target, now_ms: u64) -> usize {
    let rounds = plan.rounds.iter().filter(|r| r.close_ms > now_ms);
    rounds.map(|round| round.prizes.iter().filter(|prize| target.covers(round, prize)).count()).sum()
}
