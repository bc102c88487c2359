//! Awards for the console's lists, read from flow's store page by page.

use async_trait::async_trait;
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId};
use console::{AwardError, AwardExport};
use flow::core::AwardRecord;
use flow::store::AwardStore;
use parking_lot::Mutex;
use protocol::v1::AwardState as Public;
use quota_config::{AwardRow, AwardState, PlanRepository, compile_version};
use runtime::SharedClock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Awards read from the store at once.
const READ: usize = 1_000;

/// Most awards of a campaign that are put in the order of their users: some 400 MB.
const SORTED_MAX: usize = 4_000_000;

/// Flow's store as the console reads it.
pub struct AwardLists {
    store: Arc<dyn AwardStore>,
    plans: Arc<dyn PlanRepository>,
    clock: SharedClock,
    /// The campaign that was sorted last. An export reads page after page: each must not sort anew.
    sorted: Mutex<Option<(CampaignId, Arc<Vec<AwardRow>>)>>,
}

impl AwardLists {
    /// Over flow's store; what prizes are worth is taken from the plans.
    pub fn new(store: Arc<dyn AwardStore>, plans: Arc<dyn PlanRepository>, clock: SharedClock) -> AwardLists {
        AwardLists { store, plans, clock, sorted: Mutex::new(None) }
    }

    async fn values(&self, campaign: CampaignId) -> Result<BTreeMap<(RoundId, PrizeId), Fen>, AwardError> {
        let version = self.plans.newest(campaign).await.map_err(failed)?;
        let compiled = version.map(|v| compile_version(&v)).transpose().map_err(failed)?;
        Ok(compiled.map(|c| c.stated.values).unwrap_or_default())
    }

    /// Awards of the campaign behind `after`, up to `limit`, in the order of their ids.
    async fn read(
        &self,
        campaign: CampaignId,
        mut after: Option<AwardId>,
        limit: usize,
        values: &BTreeMap<(RoundId, PrizeId), Fen>,
    ) -> Result<Vec<AwardRow>, AwardError> {
        let (mut rows, now_ms) = (Vec::new(), self.clock.now_ms());
        loop {
            let page = self.store.scan(after, READ).await.map_err(failed)?;
            let (last, whole) = (page.last().map(|r| r.row.won.award), page.len() == READ);
            let of = page.iter().filter(|r| r.row.won.campaign == campaign);
            for record in of {
                rows.push(row(record, values, now_ms));
                if rows.len() == limit {
                    return Ok(rows);
                }
            }
            if !whole {
                return Ok(rows);
            }
            after = last;
        }
    }

    async fn sort(&self, campaign: CampaignId) -> Result<Arc<Vec<AwardRow>>, AwardError> {
        let values = self.values(campaign).await?;
        let mut rows = self.read(campaign, None, SORTED_MAX + 1, &values).await?;
        if rows.len() > SORTED_MAX {
            return Err(AwardError(format!(
                "the campaign has more than {SORTED_MAX} awards, more than are sorted by user in memory; \
                 `hongbao reconcile` writes all of them as CSV, to be sorted outside"
            )));
        }
        rows.sort_unstable_by_key(|r| (r.user, r.award));
        let rows = Arc::new(rows);
        *self.sorted.lock() = Some((campaign, Arc::clone(&rows)));
        Ok(rows)
    }
}

fn failed(error: impl std::fmt::Display) -> AwardError {
    AwardError(error.to_string())
}

fn row(record: &AwardRecord, values: &BTreeMap<(RoundId, PrizeId), Fen>, now_ms: u64) -> AwardRow {
    let won = &record.row.won;
    AwardRow {
        award: won.award,
        user: won.user,
        round: won.round,
        prize: won.prize,
        kind: record.row.prize_kind,
        fen: won.fen,
        value: values.get(&(won.round, won.prize)).copied(),
        at_ms: won.time_ms,
        state: match flow::core::public_state(record, now_ms) {
            Public::Delivered => AwardState::Delivered,
            Public::Lapsed => AwardState::Lapsed,
            Public::InReview => AwardState::Failed,
            _ => AwardState::Won,
        },
    }
}

#[async_trait]
impl AwardExport for AwardLists {
    async fn by_award(
        &self,
        campaign: CampaignId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError> {
        let values = self.values(campaign).await?;
        self.read(campaign, after, limit, &values).await
    }

    async fn by_user(
        &self,
        campaign: CampaignId,
        after: Option<(UserId, AwardId)>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError> {
        let known = self.sorted.lock().clone().filter(|(c, _)| *c == campaign && after.is_some());
        let rows = match known {
            Some((_, rows)) => rows,
            None => self.sort(campaign).await?,
        };
        let from = after.map_or(0, |after| rows.partition_point(|r| (r.user, r.award) <= after));
        let page = rows[from..rows.len().min(from + limit)].to_vec();
        if page.len() < limit {
            *self.sorted.lock() = None;
        }
        Ok(page)
    }
}
