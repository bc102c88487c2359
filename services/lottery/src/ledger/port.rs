//! The port: what a lottery node, the operators' tools and the settlement ask of the ledger.

use async_trait::async_trait;
use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, Plan, Ranges, SeqNo, Slot, VendorId};
use ownership::{BucketRow, ClaimBucket, ClaimRefused, Claimed, EndReason, NodeRow, SealBucket};
use records::LeaseRange;
use std::collections::BTreeSet;

use super::rows::{LeaseKey, LeaseRow, PrizeKey};
use super::rules::epoch::unsettled;

pub use super::errors::{ChangeError, CloseRefused, EpochError, SettleError, StoreError, TickError};

/// Most leases one tick may ask for, and most it may close.
pub const TICK_LEASES_MAX: usize = 256;

/// Most rows that [`QuotaLedger::leases`] answers at once.
pub const EXPORT_MAX: usize = 10_000;

/// The quota ledger.
///
/// **Durability.** A call that returned `Ok` survives a crash of the process (embedded: any loss but that of the
/// disk itself). A call that failed with [`StoreError::NotDone`] changed nothing; after [`StoreError::Unknown`]
/// it may or may not have been done, and must be repeated as it was.
///
/// **Order.** Each call is one transaction; calls of all nodes happen as if one after the other. `now` is the
/// ledger's own clock. Within a tick: session, closes, low-water mark, seals, claims, grants.
///
/// **Idempotency.** The caller makes the ids (lease numbers, terms, SeqNos), and a call repeated under the same ids
/// changes nothing more and gives the same answer, with two exceptions: `begin_epoch` (after a lost answer, end the
/// open epoch and begin the next) and the instants in an answer. A copy of a call that arrives late does no harm: what
/// comes from an ended epoch, an old term or an old SeqNo is refused. After [`GrantAnswer::Nothing`] the node
/// asks for the same prize under the same lease number again, so that a late copy can't leave it a lease it does not
/// know of; [`TickAnswer::open`] shows what the ledger holds open for it.
#[async_trait]
pub trait QuotaLedger: Send + Sync {
    /// Makes or updates the rows of the plan's prizes and vendors. Only what is newer than a row changes it: terms,
    /// curve and pause from now on, and tranches above the highest number ever made raise the budget. Nothing is ever lowered by it.
    ///
    /// # Errors
    /// When the plan's tranches contradict the numbers already made; nothing was changed then.
    async fn register(&self, plan: &Plan) -> Result<Registered, ChangeError>;

    /// Lowers a prize's budget by up to `units`: cancels the highest numbers never granted, then the highest that came
    /// back. Never below what is granted and has not come back; what is out is asked back ([`TickAnswer::send_back`]) if
    /// that was not enough. Answers what is effective. Without effect unless `seq_no` is newer than the row's.
    ///
    /// # Errors
    /// When there is no such prize.
    async fn lower(&self, prize: PrizeKey, seq_no: SeqNo, units: u64) -> Result<Changed, ChangeError>;

    /// Stops a prize's curve and its grants, and asks its leases back. Without effect unless `seq_no` is newer.
    ///
    /// # Errors
    /// When there is no such prize.
    async fn pause(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError>;

    /// Lets a paused prize go on: the rest is spread over what is left of the curve. Without effect unless
    /// `seq_no` is newer.
    ///
    /// # Errors
    /// When there is no such prize.
    async fn resume(&self, prize: PrizeKey, seq_no: SeqNo) -> Result<Changed, ChangeError>;

    /// A node's one call: renews its session, closes leases, moves buckets, grants leases, all or nothing.
    ///
    /// # Errors
    /// [`TickError::Session`]: the node must stop and begin anew. Nothing was changed by any error but
    /// [`StoreError::Unknown`].
    async fn tick(&self, tick: &Tick) -> Result<TickAnswer, TickError>;

    /// Begins a new epoch of a node, above all of its epochs here and above `above` (the highest in its own log, 0: none).
    ///
    /// # Errors
    /// When an epoch of the node is open.
    async fn begin_epoch(&self, node: NodeId, above: NodeEpoch) -> Result<NodeEpoch, EpochError>;

    /// Ends an epoch: by the node itself, or by anyone once its session is dead. `false`: it had ended already.
    ///
    /// # Errors
    /// When the session is alive, or there is no such epoch.
    async fn end_epoch(&self, node: NodeId, epoch: NodeEpoch, reason: EndReason) -> Result<bool, EpochError>;

    /// Records the end of the node's lane up to and including the first `Ended` mark of the epoch, and frees the
    /// buckets that the node still owned under it or an earlier epoch. Answers the position that counts: the first recorded.
    ///
    /// # Errors
    /// When the epoch is open, or there is no such epoch.
    async fn record_end_position(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        position: u64,
    ) -> Result<u64, EpochError>;

    /// Closes a lease of an ended epoch. `used` are its units that became awards, read from the lane between low-water
    /// mark and `Ended` mark; the rest goes back and is answered. On a lease closed already, whoever closed it,
    /// nothing happens and what went back then is answered.
    ///
    /// # Errors
    /// When the epoch is open, no end position of it or a later epoch of the node is recorded, there is no such lease, or
    /// `used` names units that are not in it.
    async fn settle(&self, lease: LeaseKey, used: &Ranges) -> Result<Settled, SettleError>;

    /// A node's epochs, rising.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn epochs(&self, node: NodeId) -> Result<Vec<NodeRow>, StoreError>;

    /// Open epochs whose session is dead, rising by node: anyone may end them.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn dead_epochs(&self) -> Result<Vec<NodeRow>, StoreError>;

    /// Ended epochs that nobody has finished with: no end position of the epoch or a later one of its node is recorded,
    /// or a lease of it is open. Rising by node, then epoch. Whoever finds one finishes it.
    ///
    /// An adapter answers this with one question; without that, it is put together from the nodes that ever owned a bucket.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn unsettled(&self) -> Result<Vec<NodeRow>, StoreError> {
        let owners: BTreeSet<u16> =
            self.buckets(None).await?.iter().filter_map(|row| row.owner.map(|o| o.0)).collect();
        let mut rows = Vec::new();
        for node in owners.into_iter().map(NodeId) {
            rows.extend(unsettled(&self.epochs(node).await?, &self.open_leases(node).await?));
        }
        Ok(rows)
    }

    /// Open leases of a node, those of earlier epochs too, rising.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn open_leases(&self, node: NodeId) -> Result<Vec<LeaseRow>, StoreError>;

    /// Buckets that ever had an owner, rising; with `node`, those that it owns or owned last.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn buckets(&self, node: Option<NodeId>) -> Result<Vec<BucketRow>, StoreError>;

    /// Every prize of a campaign, rising, for settlement and reconcile.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn prizes(&self, campaign: CampaignId) -> Result<Vec<PrizeReport>, StoreError>;

    /// Leases of a campaign behind `after`, rising, at most `limit` and at most [`EXPORT_MAX`].
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn leases(
        &self,
        campaign: CampaignId,
        after: Option<LeaseKey>,
        limit: usize,
    ) -> Result<Vec<LeaseRow>, StoreError>;

    /// Drops closed leases whose round has been over for an hour; answers how many. Nothing else is ever dropped.
    ///
    /// # Errors
    /// When the ledger can't be written.
    async fn prune(&self) -> Result<u64, StoreError>;
}

/// A node's call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tick {
    /// The node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: NodeEpoch,
    /// Leases wanted; at most [`TICK_LEASES_MAX`].
    pub asks: Vec<GrantAsk>,
    /// Leases ended; at most [`TICK_LEASES_MAX`].
    pub closes: Vec<CloseAsk>,
    /// End of that part of the node's lane whose leases are all closed once `closes` are done; 0: as it was.
    pub low_water: u64,
    /// Buckets given up.
    pub seals: Vec<SealBucket>,
    /// Buckets wanted.
    pub claims: Vec<ClaimBucket>,
}

/// A lease wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantAsk {
    /// Its number: made by the node, rising within its epoch.
    pub lease: LeaseId,
    /// Of which prize.
    pub prize: PrizeKey,
    /// Units wanted; it may be fewer.
    pub units: u32,
}

/// A lease ended: nothing more is taken from it, and each of its wins is acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseAsk {
    /// The lease, of the calling epoch.
    pub lease: LeaseId,
    /// Units that became awards.
    pub used: u64,
    /// Units that go back. With `used` they are all units of the lease.
    pub returned: Ranges,
}

/// What a tick did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TickAnswer {
    /// The ledger's clock, ms UTC.
    pub now_ms: u64,
    /// For each ask, in its order.
    pub grants: Vec<(LeaseId, GrantAnswer)>,
    /// Leases that are closed now, by this call or before; a lease the ledger no longer remembers is among them.
    pub closed: Vec<LeaseId>,
    /// Closes that contradict the lease. Nothing was changed by them; a person must look.
    pub refused: Vec<(LeaseId, CloseRefused)>,
    /// The low-water mark now. Behind what was asked for while leases of earlier epochs are open.
    pub low_water: u64,
    /// Buckets that the caller has given up, by this call or before. One that was asked for and is not here is
    /// somebody else's already.
    pub sealed: Vec<u16>,
    /// Buckets that the caller owns.
    pub claimed: Vec<Claimed>,
    /// Buckets that it did not get.
    pub claims_refused: Vec<ClaimRefused>,
    /// The newest SeqNo named to the ledger, by campaign.
    pub seq_nos: Vec<(CampaignId, SeqNo)>,
    /// Every lease of the calling epoch that is open behind this call, rising.
    pub open: Vec<LeaseId>,
    /// Those of them that are wanted back: close them now.
    pub send_back: Vec<LeaseId>,
}

/// What became of an ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GrantAnswer {
    /// Granted, by this call or by an earlier copy of it.
    Granted {
        /// Plan under which it was granted.
        seq_no: SeqNo,
        /// The units with their slots; 1 to [`records::LEASE_RANGES_MAX`].
        ranges: Vec<LeaseRange>,
    },
    /// Not now.
    Nothing {
        /// Why.
        why: Nothing,
        /// Before this slot begins, asking again is in vain unless something changes meanwhile.
        again: Slot,
    },
    /// The lease of this number has been closed; this is an old copy of the call.
    Closed,
}

/// Why nothing was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nothing {
    /// There is no such prize in the ledger (yet).
    Unknown,
    /// The round has not opened.
    NotOpen,
    /// The round is over, or too nearly over.
    Over,
    /// The prize is paused.
    Paused,
    /// Every unit is out. Some may come back.
    Exhausted,
    /// Curve, speeds or the vendor's limit leave no room in the next slots.
    Paced,
    /// The node holds two leases of the prize already.
    TwoLeases,
}

/// What stands in the ledger for a prize after a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The prize.
    pub prize: PrizeKey,
    /// Numbers ever made.
    pub made: u64,
    /// The effective budget in units.
    pub units: u64,
    /// The call changed the row; `false`: the row was as new already.
    pub applied: bool,
}

/// What a registration did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// The newest SeqNo of the campaign.
    pub seq_no: SeqNo,
    /// For each prize of the plan, in its order. A plan older than the ledger's makes no rows; such prizes are missing.
    pub prizes: Vec<Budget>,
}

/// What a lowering, pause or resumption did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// What is effective now.
    pub budget: Budget,
    /// Units cancelled by this call.
    pub cancelled: u64,
    /// The prize is paused.
    pub paused: bool,
}

/// What a settlement of a lease did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Units that went back.
    pub returned: Ranges,
    /// The lease had been closed before; nothing was changed.
    pub already: bool,
}

/// A prize for reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrizeReport {
    /// The prize.
    pub prize: PrizeKey,
    /// Who delivers it.
    pub vendor: VendorId,
    /// Plan of the row.
    pub seq_no: SeqNo,
    /// First ms of the round.
    pub open_ms: u64,
    /// First ms behind the round.
    pub close_ms: u64,
    /// Paused.
    pub paused: bool,
    /// Numbers ever made.
    pub made: u64,
    /// The effective budget: made and not cancelled.
    pub budget: u64,
    /// Released by the curve until now.
    pub released: u64,
    /// Units ever granted: leased, used or come back.
    pub granted: u64,
    /// Units locked in open leases.
    pub leased: u64,
    /// Units that became awards.
    pub used: u64,
    /// Numbers never granted.
    pub fresh: Ranges,
    /// Numbers that came back.
    pub returned: Ranges,
    /// Numbers that were cancelled.
    pub cancelled: Ranges,
}
