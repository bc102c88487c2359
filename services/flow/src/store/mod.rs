//! The port for awards and their state, and its adapters.
//!
//! What is stored follows from the lane and from delivery's journal; a store that was lost is filled again from them.

mod decide;
mod memory;
pub mod pg;
pub mod sql;
mod tail;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use campaign::{AwardId, CampaignId, NodeId, PrizeId, RoundId, UserId, VendorId};
use records::{DeliveryEvent, Won};

pub use memory::MemoryAwardStore;
pub use pg::PgAwardStore;
pub use sql::{OpenStoreError, SqlAwardStore};

use crate::limits::AWARDS_OF_MAX;
pub use crate::limits::WINS_USERS_MAX;

use crate::core::{Alarm, AwardRecord, LaneBatch, LaneState, StatDelta, StatKey, StatValue};

/// What an apply did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Awards that were not there before.
    pub new_awards: u64,
    /// Alarms that were not there before.
    pub new_alarms: u64,
    /// Awards of the batch for which no order may be made, now or when they came first.
    pub refused: BTreeSet<AwardId>,
    /// How the statistics changed.
    pub delta: StatDelta,
}

/// What an apply of events did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventsApplied {
    /// Awards whose progress changed.
    pub changed: u64,
    /// How the statistics changed.
    pub delta: StatDelta,
}

/// An alarm with its place in the list of alarms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlarmRow {
    /// Rising, from 1.
    pub number: u64,
    /// The alarm.
    pub alarm: Alarm,
}

/// The store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Groups between what was applied and this batch are missing. Nothing was done.
    #[error("lane {node}: everything below group {stored} is stored, the batch begins at {from}")]
    Gap {
        /// The lane.
        node: NodeId,
        /// Position stored.
        stored: u64,
        /// Position of the batch.
        from: u64,
    },
    /// The database refused.
    #[error(transparent)]
    Sql(#[from] storage::SqlError),
    /// The database server can't be reached, or undid the work because of another's. Either nothing was done or, if it was
    /// lost while committing, perhaps everything; the same again sets that right.
    #[error("award store: {0}")]
    Away(String),
    /// What is stored can't be read.
    #[error("award store: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Nothing was done, and the same again may succeed. All of the store's writes are idempotent, so a time-out
    /// counts too.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Sql(storage::SqlError::TimedOut { .. } | storage::SqlError::Lost(_)) => true,
            StoreError::Sql(error) => error.is_retryable(),
            StoreError::Away(_) => true,
            StoreError::Gap { .. } | StoreError::Damaged(_) => false,
        }
    }
}

/// The state of each award.
///
/// **Durability.** What a call that writes has returned survives a crash; of a call that failed either everything or
/// nothing is there. **Order.** Batches of a lane are applied in the order of their positions, without a gap; lanes are
/// independent; an event that is older than what is known of its award changes nothing. An event may come before its
/// award. **Idempotency.** Applying the same batch or events again changes nothing, and a batch that was applied
/// earlier has the same `refused` again.
///
/// **Writers.** Several processes may share a store ([`AwardStore::has_other_writers`]). Batches of one lane are taken one
/// at a time, whoever brings them, so two that both believe they own a lane do no harm.
///
/// **Units.** A unit belongs to the award that was applied first, for ever. Another award of the same unit is stored
/// with a doubt and an alarm, and is refused an order.
#[async_trait]
pub trait AwardStore: Send + Sync + 'static {
    /// Stores what groups of a lane come to: units, then awards, then the position, in one transaction.
    async fn apply(&self, batch: &LaneBatch) -> Result<Applied, StoreError>;

    /// Stores steps of deliveries, in one transaction. Of several steps of an award the newest counts.
    async fn apply_events(&self, events: &[DeliveryEvent]) -> Result<EventsApplied, StoreError>;

    /// The lanes as far as they were applied, by node.
    async fn lanes(&self) -> Result<Vec<LaneState>, StoreError>;

    /// One lane as far as it was applied.
    async fn lane(&self, node: NodeId) -> Result<LaneState, StoreError> {
        let lanes = self.lanes().await?;
        Ok(lanes.into_iter().find(|lane| lane.node == node).unwrap_or_else(|| LaneState::new(node)))
    }

    /// For each of these lanes the position below which everything is here; 0 where nothing is.
    async fn passed(&self, lanes: &[NodeId]) -> Result<Vec<(NodeId, u64)>, StoreError> {
        let all: BTreeMap<NodeId, u64> = self.lanes().await?.into_iter().map(|l| (l.node, l.next)).collect();
        Ok(lanes.iter().map(|node| (*node, all.get(node).copied().unwrap_or(0))).collect())
    }

    /// An award.
    async fn award(&self, id: AwardId) -> Result<Option<AwardRecord>, StoreError>;

    /// A user's awards behind `after`, by id (so oldest first), at most `limit`.
    async fn awards_of(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRecord>, StoreError>;

    /// What each of these users has won in that campaign, oldest first, in the order asked; at most
    /// [`WINS_USERS_MAX`] a call. Awards with a doubt are among them: their players were told.
    async fn wins_of(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<Won>>, StoreError> {
        let mut all = Vec::with_capacity(asked.len());
        for (user, campaign) in asked {
            let (mut wins, mut after) = (Vec::new(), None);
            loop {
                let page = self.awards_of(*user, after, AWARDS_OF_MAX).await?;
                wins.extend(page.iter().map(|r| r.row.won).filter(|won| won.campaign == *campaign));
                match page.last() {
                    Some(last) if page.len() == AWARDS_OF_MAX => after = Some(last.row.won.award),
                    _ => break,
                }
            }
            all.push(wins);
        }
        Ok(all)
    }

    /// Units of a prize that were given to awards.
    async fn unit_count(
        &self,
        campaign: CampaignId,
        round: RoundId,
        prize: PrizeId,
    ) -> Result<u64, StoreError>;

    /// Alarms with a number above `after`, at most `limit`.
    async fn alarms(&self, after: u64, limit: usize) -> Result<Vec<AlarmRow>, StoreError>;

    /// All awards behind `after`, at most `limit`: for those who compare. In an order that is the same at every call and
    /// the adapter's own: by id, or spread.
    async fn scan(&self, after: Option<AwardId>, limit: usize) -> Result<Vec<AwardRecord>, StoreError>;

    /// Awards won before an instant, without a doubt, of which no step is known; at most `limit`.
    async fn orders_due(&self, won_before_ms: u64, limit: usize) -> Result<Vec<AwardRecord>, StoreError>;

    /// For each vendor with prizes on their way (or sent at once and not taken by delivery yet): since when the one
    /// that has waited longest has, ms UTC. By vendor.
    async fn backlog(&self) -> Result<Vec<(VendorId, u64)>, StoreError>;

    /// All lines of the statistics, by key.
    async fn statistics(&self) -> Result<Vec<(StatKey, StatValue)>, StoreError>;

    /// Moves users of at most `rows_max` awards from memory into the table; how many are left. Changes no answer.
    async fn index_users(&self, rows_max: usize) -> Result<usize, StoreError>;

    /// Whether other processes write here too: what this one has added up is then not all.
    fn has_other_writers(&self) -> bool {
        false
    }
}
