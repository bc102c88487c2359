//! Delivery at work: a keeper and a sender for each vendor, the consumer of orders, the publisher of the journal, and
//! the calls that others make.
//!
//! Each vendor has its own loop, concurrency and pace, so that none waits for another (they share the book's writer, in
//! turns of one batch each). After a crash nothing has to be recovered: every row says what comes next and when, and
//! whoever finds it due goes on from there.
//!
//! Several nodes may share one book: each works on the shards that its assignment of the order topic gives it, and on each
//! vendor with the part of its pace that goes with them. Callbacks, accounts and redo are taken by any node for any
//! award, as the book's fence decides.

mod apply;
mod keeper;
mod orders;
mod publisher;
mod sender;
mod shards;
mod status;

pub use orders::ORDERS_GROUP;
pub use status::{Eta, Status, VendorStatus, backlog};

use crate::account::{Account, AccountBook, RegisterError, check};
use crate::book::{BookError, DeliveryBook};
use crate::config::{ConfigMistake, DeliveryConfig, VendorConfig};
use crate::core::{Input, OrderRow, Refused, VendorPolicy};
use crate::limits::NodeVendor;
use crate::pace::{Allotment, BreakerState, Outcome, PaceOptions, Pacer, Part};
use crate::vendor::Vendor;
use crate::vendor::http::{HttpVendor, HttpVendorError, vendor_named_by};
use crate::vendor::sign::{Secret, SecretError};
use apply::apply;
use campaign::{AwardId, MacKeys, UserId, VendorId};
use http::{HeaderMap, StatusCode};
use keeper::{FactMessage, Keeper};
use parking_lot::Mutex;
use queue::{Queue, TopicError};
use runtime::{SharedClock, Shutdown, TaskKind, Tasks};
use sender::Sender;
use shards::Shards;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::{Notify, mpsc, oneshot};

/// Callbacks that wait to be written down, for each vendor; beyond it the vendor is asked to come again.
const FACTS_MAX: usize = 8_192;
/// Longest callback body, bytes.
const CALLBACK_MAX: usize = 16 * 1024;

/// What delivery stands on.
pub struct DeliveryParts {
    /// Settings; checked here.
    pub config: DeliveryConfig,
    /// The book.
    pub book: Arc<dyn DeliveryBook>,
    /// The accounts.
    pub accounts: Arc<dyn AccountBook>,
    /// Adapters by vendor. A configured vendor without one gets the signed HTTP adapter.
    pub vendors: BTreeMap<VendorId, Arc<dyn Vendor>>,
    /// Limits that people have set in place of the configured ones, calls a second.
    pub limits: BTreeMap<VendorId, u32>,
    /// Keys that orders are checked with.
    pub mac_keys: MacKeys,
    /// Where orders come from, and where the journal's copy goes.
    pub queue: Arc<dyn Queue>,
    /// Time.
    pub clock: SharedClock,
    /// Seed of the spread of delays.
    pub seed: u64,
}

/// Why delivery did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that make no sense.
    #[error(transparent)]
    Config(#[from] ConfigMistake),
    /// A vendor's secret is none.
    #[error("vendor {0}: {1}")]
    Secret(u32, SecretError),
    /// A vendor's address is none.
    #[error("vendor {0}: {1}")]
    Address(u32, HttpVendorError),
    /// There is no topic for orders.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Book and topic are divided differently.
    #[error(
        "the delivery book has {shards} shards and topic orders {partitions} partitions; they must be as many, or the book \
         must have one shard. Neither ever changes: make the topic with {shards} partitions"
    )]
    Divided {
        /// Shards of the book.
        shards: u16,
        /// Partitions of the topic.
        partitions: usize,
    },
}

/// One vendor at work.
pub(crate) struct VendorRoom {
    pub config: VendorConfig,
    pub policy: VendorPolicy,
    pub vendor: Arc<dyn Vendor>,
    /// The vendor's limit among all nodes.
    pub allotment: Mutex<Allotment>,
    /// What of it is this node's.
    part: Mutex<Arc<Part>>,
    /// The pace of that part.
    pub pacer: Mutex<Pacer>,
    /// Payouts written down and not yet begun.
    pub queued: AtomicUsize,
    /// Payouts on the wire.
    pub calling: AtomicUsize,
    /// Questions on the wire.
    pub asking: AtomicUsize,
    /// Delivered since the start.
    pub delivered: AtomicU64,
    /// Calls that failed since the start.
    pub failed: AtomicU64,
    /// More is due than was taken last time.
    pub backlog: AtomicBool,
    /// Work has come.
    pub kick: Notify,
    facts: mpsc::Sender<FactMessage>,
}

impl VendorRoom {
    /// Questions at once, at most: a share of their own, so that neither kind starves the other.
    pub fn asks_max(&self) -> usize {
        (self.config.concurrency / 2).max(2)
    }

    pub fn heard(&self, outcome: Outcome, now_ns: u64) {
        if outcome != Outcome::Good {
            self.failed.fetch_add(1, Relaxed);
        }
        self.pacer.lock().record(outcome, now_ns);
    }
}

/// What all rooms of delivery share.
pub(crate) struct Shared {
    pub config: DeliveryConfig,
    pub book: Arc<dyn DeliveryBook>,
    pub accounts: Arc<dyn AccountBook>,
    pub vendors: BTreeMap<VendorId, Arc<VendorRoom>>,
    pub mac_keys: MacKeys,
    pub queue: Arc<dyn Queue>,
    pub clock: SharedClock,
    pub shutdown: Shutdown,
    pub shards: Shards,
    hold: AtomicBool,
    random: AtomicU64,
}

impl Shared {
    /// Is delivery held back?
    pub fn is_held_back(&self) -> bool {
        self.hold.load(Relaxed)
    }

    /// The next number of a SplitMix64 sequence (Steele, Lea and Flood, 2014): for spread, not for secrets.
    pub fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Tells a vendor's keeper that there is work.
    pub fn kick(&self, vendor: VendorId) {
        if let Some(room) = self.vendors.get(&vendor) {
            room.kick.notify_one();
        }
    }
}

/// What became of a redo of one award.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redone {
    /// It will be asked about, and sent again where that is safe.
    Accepted,
    /// The book has no such order.
    NotKnown,
    /// It is on its way already, or must not be touched; see the reason.
    Refused(Refused),
}

/// Delivery at work. Cloning gives another handle.
#[derive(Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
}

impl Delivery {
    /// Builds delivery and starts its tasks on `tasks`; they end with its shutdown, after their calls under way.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn start(parts: DeliveryParts, tasks: &Tasks) -> Result<Delivery, StartError> {
        parts.config.check()?;
        let (shards, partitions) = (parts.book.shards(), parts.queue.partitions(queue::ORDERS)?.len());
        if shards != 1 && usize::from(shards) != partitions {
            return Err(StartError::Divided { shards, partitions });
        }
        let (mut vendors, mut starting) = (BTreeMap::new(), Vec::new());
        for config in &parts.config.vendors {
            let given = parts.vendors.get(&config.vendor()).cloned();
            let vendor = given.map_or_else(|| http_vendor(config), Ok)?;
            let (facts, facts_in) = mpsc::channel(FACTS_MAX);
            let limit = parts.limits.get(&config.vendor()).copied().unwrap_or(config.capacity_per_second);
            let room = Arc::new(VendorRoom {
                policy: config.policy(),
                vendor,
                allotment: Mutex::new(Allotment::new(config.id, shards, limit)),
                part: Mutex::default(),
                // Stands still until the shards are known.
                pacer: Mutex::new(Pacer::new(PaceOptions { limit_per_second: 0, ..config.pace() })),
                queued: AtomicUsize::new(0),
                calling: AtomicUsize::new(0),
                asking: AtomicUsize::new(0),
                delivered: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                backlog: AtomicBool::new(false),
                kick: Notify::new(),
                facts,
                config: config.clone(),
            });
            vendors.insert(config.vendor(), room.clone());
            starting.push((room, facts_in));
        }
        let shared = Arc::new(Shared {
            hold: AtomicBool::new(parts.config.hold),
            config: parts.config,
            book: parts.book,
            accounts: parts.accounts,
            vendors,
            mac_keys: parts.mac_keys,
            queue: parts.queue,
            clock: parts.clock,
            shutdown: tasks.shutdown().clone(),
            shards: Shards::new(shards),
            random: AtomicU64::new(parts.seed),
        });
        for (room, facts) in starting {
            spawn_vendor(&shared, room, facts, tasks);
        }
        tasks.spawn("delivery orders", TaskKind::Service, orders::run(shared.clone()));
        tasks.spawn("delivery journal", TaskKind::Service, publisher::run(shared.clone()));
        Ok(Delivery { shared })
    }

    /// Takes a vendor's callback. Verify nothing before: it is checked here, against the secret of the vendor that it
    /// names, and repeating it is harmless. 200 is answered once it is durable.
    pub async fn handle_callback(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        if body.len() > CALLBACK_MAX {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let Some(vendor) = vendor_named_by(body) else { return StatusCode::BAD_REQUEST };
        let Some(room) = self.shared.vendors.get(&VendorId(vendor)) else { return StatusCode::NOT_FOUND };
        let believed = match room.vendor.callback(headers, body, self.shared.clock.now_ms()) {
            Ok(believed) => believed,
            Err(crate::vendor::CallbackError::Signature(error)) => {
                tracing::warn!(vendor, %error, "callback not believed");
                return StatusCode::UNAUTHORIZED;
            }
            Err(error) => {
                tracing::warn!(vendor, %error, "callback refused");
                return StatusCode::BAD_REQUEST;
            }
        };
        let (reply, replied) = oneshot::channel();
        let message = FactMessage { award: believed.award, fact: believed.fact, reply };
        if room.facts.try_send(message).is_err() {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        room.kick.notify_one();
        match replied.await {
            Ok(Ok(())) => StatusCode::OK,
            Ok(Err(None)) => StatusCode::NOT_FOUND,
            // Believed, and contradicting what stands here: an alarm is raised, and repeating would not help.
            Ok(Err(Some(_))) => StatusCode::CONFLICT,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Registers a user's account at a vendor and wakes what was held for it.
    ///
    /// # Errors
    /// A malformed account, an unknown vendor, or the book's failure; repeat it then.
    pub async fn register_account(
        &self,
        user: UserId,
        vendor: VendorId,
        account: &str,
    ) -> Result<Account, RegisterError> {
        check(account)?;
        if !self.shared.vendors.contains_key(&vendor) {
            return Err(RegisterError::UnknownVendor(vendor));
        }
        let now_ms = self.shared.clock.now_ms();
        let registered = self.shared.accounts.register(user, vendor, account, now_ms).await?;
        loop {
            let held = self.shared.book.held(user, vendor, 1_000).await?;
            if held.is_empty() {
                break;
            }
            let input = Input::AccountRegistered { account: account.to_owned() };
            apply(&self.shared, held.into_iter().map(|row| (row, input.clone())).collect()).await?;
        }
        self.shared.kick(vendor);
        Ok(registered)
    }

    /// Hands awards back to the state machine: what was called is asked about first, what never was is sent. At most
    /// [`crate::book::BATCH_MAX`]; doing it again changes nothing that is on its way.
    ///
    /// # Errors
    /// The book's failure; repeat it then.
    pub async fn redo(&self, awards: &[AwardId]) -> Result<Vec<(AwardId, Redone)>, BookError> {
        let mut unique = awards.to_vec();
        unique.sort();
        unique.dedup();
        let rows = self.shared.book.rows(&unique).await?;
        let (known, vendors): (Vec<AwardId>, Vec<VendorId>) =
            rows.iter().map(|row| (row.award, row.vendor)).unzip();
        let steps = apply(&self.shared, rows.into_iter().map(|row| (row, Input::Redo)).collect()).await?;
        let outcomes: HashMap<AwardId, Redone> = known
            .into_iter()
            .zip(steps)
            .map(|(award, step)| (award, step.map_or_else(Redone::Refused, |_| Redone::Accepted)))
            .collect();
        vendors.into_iter().for_each(|vendor| self.shared.kick(vendor));
        Ok(awards
            .iter()
            .map(|award| (*award, outcomes.get(award).copied().unwrap_or(Redone::NotKnown)))
            .collect())
    }

    /// Where an award's delivery stands; `None` if no order has come.
    ///
    /// # Errors
    /// The book's failure.
    pub async fn order(&self, award: AwardId) -> Result<Option<OrderRow>, BookError> {
        Ok(self.shared.book.rows(&[award]).await?.pop())
    }

    /// Holds all sending and asking back, or lets it go on.
    pub fn set_hold(&self, hold: bool) {
        self.shared.hold.store(hold, Relaxed);
        self.shared.vendors.keys().for_each(|vendor| self.shared.kick(*vendor));
    }

    /// Changes a vendor's limit (calls a second; 0 stops it), at once. It is the limit of all nodes together: tell each of
    /// them, within [`crate::pace::REDIVIDE_NS`]. False for an unknown vendor.
    pub fn set_limit(&self, vendor: VendorId, limit_per_second: u32) -> bool {
        let Some(room) = self.shared.vendors.get(&vendor) else { return false };
        let now_ns = self.shared.clock.mono_ns();
        room.allotment.lock().set_limit(limit_per_second, now_ns);
        self.shared.divide(room, now_ns);
        room.kick.notify_one();
        true
    }

    /// The limit that a vendor is configured to.
    pub fn configured_limit(&self, vendor: VendorId) -> Option<u32> {
        self.shared.vendors.get(&vendor).map(|room| room.config.capacity_per_second)
    }

    /// What this node does for each vendor, under its number.
    pub fn vendors(&self, node: u16) -> Vec<NodeVendor> {
        let now_ns = self.shared.clock.mono_ns();
        let doing = |(vendor, room): (&VendorId, &Arc<VendorRoom>)| NodeVendor {
            node,
            vendor: *vendor,
            limit_per_second: room.allotment.lock().limit(),
            cut_off: room.pacer.lock().breaker(now_ns) != BreakerState::Closed,
        };
        self.shared.vendors.iter().map(doing).collect()
    }

    /// A picture of all vendors.
    ///
    /// # Errors
    /// The book's failure.
    pub async fn status(&self) -> Result<Status, BookError> {
        status::status(&self.shared).await
    }
}

fn http_vendor(config: &VendorConfig) -> Result<Arc<dyn Vendor>, StartError> {
    let secret = Secret::parse(&config.secret).map_err(|error| StartError::Secret(config.id, error))?;
    let connections = config.concurrency + config.concurrency / 2 + 2;
    let vendor = HttpVendor::new(config.vendor(), &config.base_url, secret, connections);
    Ok(Arc::new(vendor.map_err(|error| StartError::Address(config.id, error))?))
}

fn spawn_vendor(
    shared: &Arc<Shared>,
    room: Arc<VendorRoom>,
    facts: mpsc::Receiver<FactMessage>,
    tasks: &Tasks,
) {
    // Room for everything that can be outstanding, so that neither side ever waits for the other with full hands.
    let outstanding = 4 * room.config.concurrency + 4_096;
    let (jobs, jobs_in) = mpsc::channel(outstanding);
    let (done, done_in) = mpsc::channel(outstanding);
    let id = room.config.id;
    let sender = Sender { shared: shared.clone(), room: room.clone(), jobs: jobs_in, done };
    tasks.spawn(format!("vendor {id} sender"), TaskKind::Essential, sender.run());
    let in_hand = Default::default();
    let keeper = Keeper { shared: shared.clone(), room, jobs, done: done_in, facts, in_hand };
    tasks.spawn(format!("vendor {id} keeper"), TaskKind::Service, keeper.run());
}
