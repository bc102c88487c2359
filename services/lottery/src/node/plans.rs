//! Plans on their way into a node: the ledger hears of their prizes and speeds first, then the core draws under them.

use crate::core::{Core, PlanRefused};
use crate::grey::{Grey, GreyRefused, WHOLE, blended, check, speeds};
use crate::ledger::{ChangeError, QuotaLedger};
use campaign::{CampaignId, Plan, SeqNo};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plans of a node.
pub struct Plans {
    core: Arc<Core>,
    ledger: Arc<dyn QuotaLedger>,
    /// Grey releases that are out. Held while plans change, so that ledger and core hear of them in one order.
    greys: tokio::sync::Mutex<BTreeMap<CampaignId, Grey>>,
}

/// Why a plan was not put into force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The ledger refused it.
    #[error(transparent)]
    Ledger(#[from] ChangeError),
    /// It can't be drawn from.
    #[error(transparent)]
    Plan(#[from] PlanRefused),
    /// The grey plan may not stand beside the active one.
    #[error(transparent)]
    Grey(#[from] GreyRefused),
}

/// Works with whole plans on a thread for that: thousands of rounds take milliseconds, in which no connection of the
/// runtime should wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nobody cancels it, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn version(grey: &Grey) -> (SeqNo, u16, u16) {
    (grey.plan.seq_no, grey.users_per_mille, grey.speeds_per_mille)
}

/// Says so when the ledger will keep the speeds that it has, because the change brings no newer SeqNo.
fn warn_if_speeds_stay(was: &Grey, active: &Plan, grey: Option<&Grey>) {
    let newest = |grey: Option<&Grey>| grey.map_or(active.seq_no, |g| active.seq_no.max(g.plan.seq_no));
    if newest(grey) <= newest(Some(was)) && speeds(active, Some(was)) != speeds(active, grey) {
        tracing::warn!(
            campaign = %active.campaign, seq_no = %newest(grey),
            "a grey release changed without a SeqNo of its own: the ledger keeps the speeds it was told before"
        );
    }
}

impl Plans {
    /// The plans of a node that has none yet.
    pub fn new(core: Arc<Core>, ledger: Arc<dyn QuotaLedger>) -> Plans {
        Plans { core, ledger, greys: tokio::sync::Mutex::default() }
    }

    /// Registers a plan's prizes in the ledger and puts it into force. False: it is not newer. A grey release that is out
    /// goes on beside it if it may, its speeds among what the ledger is told, and ends if not.
    pub async fn apply(&self, plan: Arc<Plan>) -> Result<bool, ApplyError> {
        let mut greys = self.greys.lock().await;
        let campaign = plan.campaign;
        let grey = greys.get(&campaign).filter(|g| check(&plan, &g.plan).is_ok()).cloned();
        self.register(&plan, grey.as_ref()).await?;
        let core = Arc::clone(&self.core);
        let done = aside(move || core.apply(plan)).await?;
        if grey.is_none() && done {
            greys.remove(&campaign);
        }
        Ok(done)
    }

    /// Puts a campaign's plans into force as the repository has them: the active one, and a grey one beside it or none.
    /// False: all of it was so already, and the ledger was not asked; it may be called at each look at the repository.
    ///
    /// The ledger is told one set of speeds ([`blended`]) under the newer of the two SeqNos, and takes only what is newer
    /// than what it has. So whatever changes speeds needs a SeqNo that was not used yet: a wider share is a further
    /// version of the grey plan, and to withdraw or promote one makes a further version of the active plan. Where that
    /// was forgotten the draws follow all the same, the speeds stay, and the log says so.
    ///
    /// # Errors
    /// When the ledger does not take the speeds, or the grey plan may not stand beside the active one; the plans before
    /// go on then.
    pub async fn apply_grey(&self, active: Arc<Plan>, grey: Option<Grey>) -> Result<bool, ApplyError> {
        let mut greys = self.greys.lock().await;
        let campaign = active.campaign;
        if let Some(grey) = &grey {
            check(&active, &grey.plan)?;
            let share = grey.users_per_mille.max(grey.speeds_per_mille);
            if share > WHOLE {
                return Err(GreyRefused::Share(share).into());
            }
        }
        let was = greys.get(&campaign);
        let runs = self.core.campaigns().get(campaign.0).is_some_and(|c| c.plan.seq_no == active.seq_no);
        if runs && was.map(version) == grey.as_ref().map(version) {
            return Ok(false);
        }
        if let Some(was) = was {
            warn_if_speeds_stay(was, &active, grey.as_ref());
        }
        self.register(&active, grey.as_ref()).await?;
        let (core, beside) = (Arc::clone(&self.core), grey.clone());
        let changed = aside(move || {
            let newer = core.apply(active)?;
            let users = beside.as_ref().map_or(0, |g| g.users_per_mille);
            Ok::<_, ApplyError>(core.apply_grey(beside.map(|g| g.plan), campaign, users)? || newer)
        })
        .await?;
        match grey {
            Some(grey) => drop(greys.insert(campaign, grey)),
            None => drop(greys.remove(&campaign)),
        }
        Ok(changed)
    }

    async fn register(&self, active: &Arc<Plan>, grey: Option<&Grey>) -> Result<(), ChangeError> {
        let told = match grey.cloned() {
            None => Arc::clone(active),
            Some(g) => {
                let active = Arc::clone(active);
                aside(move || Arc::new(blended(&active, &g.plan, g.speeds_per_mille))).await
            }
        };
        self.ledger.register(&told).await?;
        Ok(())
    }
}
