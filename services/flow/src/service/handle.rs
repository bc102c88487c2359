//! What others ask of flow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use campaign::{AwardId, UserId, VendorId};
use parking_lot::Mutex;
use protocol::calls::{AwardView, Awards, CallError};
use protocol::v1::AwardState;
use queue::{JOURNAL, LANE, TopicError};
use records::OrderKind;
use runtime::SharedClock;

use super::claims::Claims;
use super::live::{LiveStatistics, StatisticsSnapshot};
use super::orders::OrderSender;
use super::progress::{FlowProgress, FlowStatus};
use super::{FlowError, FlowParts, GROUP};
use crate::core::{AwardRecord, EtaLimits, PlanAnswer, PlanView, award_view, public_state};
use crate::limits::AWARDS_OF_MAX;
use crate::store::{AwardStore, StoreError};

/// How long an answer about backlogs is used again.
const BACKLOG_MEMORY_MS: u64 = 1_000;
/// An award that is not stored may be on its way through the lane for so long after it was won.
const FRESH_MS: u64 = 5_000;
/// How long a status waits for the queue.
const LAG_WITHIN: Duration = Duration::from_secs(1);
/// When to ask again for such an award.
const FRESH_RETRY_MS: u32 = 500;

/// Flow, for its callers. Cloning gives another handle.
#[derive(Clone)]
pub struct FlowHandle {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn AwardStore>,
    plans: Arc<dyn PlanView>,
    orders: OrderSender,
    clock: SharedClock,
    eta: EtaLimits,
    claims: Claims,
    backlog: Mutex<(u64, BTreeMap<VendorId, u64>)>,
    progress: Arc<FlowProgress>,
    live: Arc<LiveStatistics>,
    /// Groups of lanes and journal that were left when the queue was asked last.
    lags: Mutex<(u64, u64)>,
}

impl FlowHandle {
    /// A handle. [`super::start`] makes one; tests that step the loops themselves make their own.
    ///
    /// # Errors
    /// When there is no topic for orders.
    pub fn new(
        parts: &FlowParts,
        progress: Arc<FlowProgress>,
        live: Arc<LiveStatistics>,
    ) -> Result<FlowHandle, FlowError> {
        let shared = Shared {
            store: Arc::clone(&parts.store),
            plans: Arc::clone(&parts.plans),
            orders: OrderSender::new(Arc::clone(&parts.queue))?,
            clock: parts.clock.clone(),
            eta: parts.eta,
            claims: Claims::default(),
            backlog: Mutex::default(),
            progress,
            live,
            lags: Mutex::default(),
        };
        Ok(FlowHandle { shared: Arc::new(shared) })
    }

    /// The newest statistics.
    pub fn statistics(&self) -> Arc<StatisticsSnapshot> {
        self.shared.live.snapshot()
    }

    /// How far flow is. While the queue does not say how much is left, what it said last is told, but never that nothing is.
    ///
    /// # Errors
    /// When a topic is missing.
    pub async fn status(&self) -> Result<FlowStatus, TopicError> {
        let (shared, queue) = (&self.shared, self.shared.orders.queue());
        let asked =
            async { Ok::<_, TopicError>((queue.lag(LANE, GROUP).await?, queue.lag(JOURNAL, GROUP).await?)) };
        let lags = match tokio::time::timeout(LAG_WITHIN, asked).await {
            Ok(Ok(lags)) => {
                *shared.lags.lock() = lags;
                lags
            }
            Ok(Err(error)) if !matches!(error, TopicError::Unavailable { .. }) => return Err(error),
            _ => {
                let (lane, journal) = *shared.lags.lock();
                (lane.max(1), journal.max(1))
            }
        };
        Ok(shared.progress.status(lags.0, lags.1))
    }

    /// The store, for those who compare and count.
    pub fn store(&self) -> &Arc<dyn AwardStore> {
        &self.shared.store
    }
}

impl Shared {
    /// Since when a vendor's longest waiting prize has waited.
    async fn backlog_ms(&self, vendor: VendorId, now_ms: u64) -> Result<u64, StoreError> {
        let known = {
            let backlog = self.backlog.lock();
            let young = backlog.0 <= now_ms && now_ms - backlog.0 < BACKLOG_MEMORY_MS;
            young.then(|| backlog.1.get(&vendor).copied())
        };
        let since = match known {
            Some(since) => since,
            None => {
                let oldest: BTreeMap<VendorId, u64> = self.store.backlog().await?.into_iter().collect();
                let since = oldest.get(&vendor).copied();
                *self.backlog.lock() = (now_ms, oldest);
                since
            }
        };
        Ok(since.map_or(0, |since| now_ms.saturating_sub(since)))
    }

    fn state(&self, record: &AwardRecord, now_ms: u64) -> AwardState {
        match public_state(record, now_ms) {
            // Its event is on the way back.
            AwardState::Claimable if self.claims.was_sent(record.row.won.award, now_ms) => {
                AwardState::OnTheWay
            }
            state => state,
        }
    }

    async fn view(&self, record: &AwardRecord, now_ms: u64) -> Result<AwardView, StoreError> {
        let state = self.state(record, now_ms);
        let won = &record.row.won;
        let name = match self.plans.prize(won.campaign, won.round, won.prize, won.seq_no) {
            PlanAnswer::Prize(facts) => facts.name,
            PlanAnswer::NoSuchPrize | PlanAnswer::NoSuchPlan => "".into(),
        };
        let hours = match state {
            AwardState::OnTheWay | AwardState::Won => {
                self.eta.hours(self.backlog_ms(record.row.vendor, now_ms).await?)
            }
            _ => 0,
        };
        Ok(award_view(record, &name, state, hours))
    }

    /// An award of the user, or the right answer when there is none.
    async fn award_of(&self, user: UserId, award: AwardId, now_ms: u64) -> Result<AwardRecord, CallError> {
        let missing = || CallError::NotFound(format!("user {user} has no award {award}"));
        match self.store.award(award).await.map_err(unavailable)? {
            Some(record) if record.row.won.user == user => Ok(record),
            Some(_) => Err(missing()),
            None => {
                // Told to its player a moment ago and still in the lane, perhaps.
                let fresh = award.time_ms().saturating_add(FRESH_MS) > now_ms && award.time_ms() <= now_ms;
                let behind = self.orders.queue().lag(LANE, GROUP).await.is_ok_and(|lag| lag > 0);
                let coming = fresh || (behind && award.time_ms() <= now_ms);
                Err(if coming { CallError::Busy(FRESH_RETRY_MS) } else { missing() })
            }
        }
    }
}

pub(super) fn unavailable(error: StoreError) -> CallError {
    tracing::warn!(%error, "the award store can't answer");
    CallError::Unavailable("awards can't be looked up just now; ask again".to_owned())
}

#[async_trait]
impl Awards for FlowHandle {
    async fn prizes(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<(Vec<AwardView>, bool), CallError> {
        let (shared, limit) = (&self.shared, limit.clamp(1, AWARDS_OF_MAX));
        let now_ms = shared.clock.now_ms();
        let mut records = shared.store.awards_of(user, after, limit + 1).await.map_err(unavailable)?;
        let more = records.len() > limit;
        records.truncate(limit);
        let mut views = Vec::with_capacity(records.len());
        for record in &records {
            views.push(shared.view(record, now_ms).await.map_err(unavailable)?);
        }
        Ok((views, more))
    }

    async fn claim(&self, user: UserId, award: AwardId) -> Result<AwardView, CallError> {
        let shared = &self.shared;
        let now_ms = shared.clock.now_ms();
        let record = shared.award_of(user, award, now_ms).await?;
        match public_state(&record, now_ms) {
            AwardState::Lapsed => {
                let lapse_ms = record.row.lapse_ms;
                return Err(CallError::Refused(format!(
                    "award {award} was to be claimed before {lapse_ms} (ms UTC) and has lapsed"
                )));
            }
            AwardState::Claimable => {
                let Some(sent) = shared.claims.of(award, now_ms) else {
                    return Err(CallError::Busy(FRESH_RETRY_MS));
                };
                let order = record.row.order(OrderKind::Claim);
                let send = || async {
                    shared.orders.send(&[order]).await?;
                    shared.progress.claims.inc();
                    Ok::<(), queue::ProduceError>(())
                };
                if let Err(error) = sent.get_or_try_init(send).await {
                    tracing::warn!(%award, %error, "a claim could not be passed on");
                    return Err(CallError::Unavailable(
                        "the claim could not be stored; press again".to_owned(),
                    ));
                }
            }
            // At once, on its way, delivered, with a person: pressing changes nothing.
            _ => {}
        }
        shared.view(&record, now_ms).await.map_err(unavailable)
    }
}
