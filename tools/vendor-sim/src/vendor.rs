//! The running simulator's state: each vendor with its books, meters and settings, and the two lists of things to do later.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::book::{Book, Taken};
use crate::callbacks::CallbackJob;
use crate::clock::Clock;
use crate::config::{Config, Limits, Live, LiveError};
use crate::due::DueQueue;
use crate::faults::Dice;
use crate::journal::JournalError;
use crate::payout::Order;
use crate::rate::{ArrivalCounter, Capacity, StampChecker};
use crate::sign::Signer;
use crate::stats::{CallbackCounters, Counters};
use crate::wire::{Event, Refusal};

/// Statements of one vendor being read at the same time.
pub const STATEMENTS_MAX: usize = 4;

/// Why the state can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or its lock file.
    #[error("state_dir {path}: {source}")]
    Dir {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process holds it.
    #[error("state_dir {0} is in use by another vendor-sim; stop it or name another folder")]
    Locked(std::path::PathBuf),
    /// A journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Rates as measured.
#[derive(Debug)]
pub struct Meters {
    /// By the senders' stamps.
    pub stamps: StampChecker,
    /// By arrival.
    pub arrivals: ArrivalCounter,
    /// Of payouts.
    pub payouts: Capacity,
    /// Of queries.
    pub queries: Capacity,
}

/// One vendor.
#[derive(Debug)]
pub struct Vendor {
    /// Number in paths.
    pub id: u32,
    /// Name for people.
    pub name: String,
    /// Its key.
    pub signer: Signer,
    /// Its faults.
    pub dice: Dice,
    /// Its books.
    pub book: Arc<Mutex<Book>>,
    /// Its rates.
    pub meters: Mutex<Meters>,
    /// Counts since start.
    pub counters: Counters,
    /// Counts since start.
    pub callback_counters: CallbackCounters,
    /// Bounds statements.
    pub statements: Arc<Semaphore>,
    live: RwLock<Arc<Live>>,
}

impl Vendor {
    /// The settings of this moment.
    pub fn live(&self) -> Arc<Live> {
        self.live.read().clone()
    }

    /// Changes the keys named in a JSON object and returns all; on error, none is changed.
    pub fn change(&self, change: &serde_json::Value) -> Result<Arc<Live>, LiveError> {
        let mut live = self.live.write();
        let changed = Arc::new(live.changed(change)?);
        if changed.limit_per_second != live.limit_per_second {
            self.meters.lock().stamps.set_limit(changed.limit_per_second);
        }
        *live = changed.clone();
        Ok(changed)
    }
}

/// A payout that a lost request brings in later.
#[derive(Debug)]
pub struct LateAccept {
    /// Place of the vendor.
    pub vendor: usize,
    /// The body as it came.
    pub body: Bytes,
}

/// Everything.
#[derive(Debug)]
pub struct Sim {
    /// By place in the configuration.
    pub vendors: Vec<Vendor>,
    /// Time.
    pub clock: Clock,
    /// Bounds.
    pub limits: Limits,
    /// Callbacks to send.
    pub callbacks: DueQueue<CallbackJob>,
    /// Payouts to take.
    pub late_accepts: DueQueue<LateAccept>,
    /// Connections.
    pub connections_open: AtomicU64,
    /// Held as long as this lives: one process a folder.
    _lock: std::fs::File,
}

impl Sim {
    /// Locks the state folder, reads the journals, and puts callbacks back on the list that nobody confirmed.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let dir = config.state_dir;
        let io = |source| OpenError::Dir { path: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(io)?;
        let lock = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(dir)),
            Err(std::fs::TryLockError::Error(e)) => return Err(io(e)),
        }
        let mut vendors = Vec::with_capacity(config.vendors.len());
        for v in config.vendors {
            let book = Book::open(&dir, v.id, config.limits.payouts_max)?;
            let meters = Meters {
                stamps: StampChecker::new(v.live.limit_per_second),
                arrivals: ArrivalCounter::default(),
                payouts: Capacity::default(),
                queries: Capacity::default(),
            };
            vendors.push(Vendor {
                id: v.id,
                name: v.name,
                signer: v.signer,
                dice: Dice::new(config.seed, v.id),
                book: Arc::new(Mutex::new(book)),
                meters: Mutex::new(meters),
                counters: Counters::default(),
                callback_counters: CallbackCounters::default(),
                statements: Arc::new(Semaphore::new(STATEMENTS_MAX)),
                live: RwLock::new(Arc::new(v.live)),
            });
        }
        let sim = Self {
            vendors,
            clock: Clock::new(),
            limits: config.limits,
            callbacks: DueQueue::new(config.limits.callbacks_waiting_max),
            late_accepts: DueQueue::new(config.limits.late_accepts_max),
            connections_open: AtomicU64::new(0),
            _lock: lock,
        };
        sim.resume();
        Ok(sim)
    }

    /// Time since start, ms.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.clock.uptime().as_millis()).unwrap_or(u64::MAX)
    }

    /// The vendor with this number and its place.
    pub fn find(&self, id: u32) -> Result<(usize, &Vendor), Refusal> {
        self.vendors.iter().enumerate().find(|(_, v)| v.id == id).ok_or(Refusal::NoVendor)
    }

    /// Takes an order now, or finds it taken, and plans its callbacks. The answer's bytes are as of the same instant.
    pub fn take(&self, place: usize, order: Order, live: &Live) -> Result<(Taken, Vec<u8>), Refusal> {
        let vendor = &self.vendors[place];
        let mut book = vendor.book.lock();
        // Read under the lock: a statement with a cut at or before this instant must have seen an older book.
        let now_ms = self.clock.now_ms();
        let taken = book.take(order, now_ms, &vendor.dice, live)?;
        let payout = book.payout(taken.index);
        let unfamiliar = &live.unfamiliar_status;
        let answer =
            crate::wire::payout_answer(vendor.id, taken.index, payout, now_ms, unfamiliar, taken.duplicate);
        let plan = (!taken.duplicate && payout.plan.callbacks.is_some())
            .then(|| (payout.order.number, payout.plan.clone()));
        drop(book);
        if taken.duplicate {
            vendor.counters.duplicates.up();
        }
        if let Some((number, plan)) = plan {
            let copies = plan.callbacks.unwrap_or(0);
            if copies == 0 {
                vendor.callback_counters.lost.up();
            }
            for copy in 0..copies {
                let delay_ms = vendor.dice.callback_delay_ms(live, number.as_str(), copy);
                if copy > 0 {
                    vendor.callback_counters.duplicates.up();
                }
                self.schedule(place, taken.index, Event::Finish, plan.finish_ms + delay_ms);
                if let Some(at) = plan.reverse_ms {
                    self.schedule(place, taken.index, Event::Reverse, at + delay_ms);
                }
            }
        }
        Ok((taken, answer))
    }

    fn schedule(&self, vendor: usize, index: u32, event: Event, due_ms: u64) {
        let counters = &self.vendors[vendor].callback_counters;
        match self.callbacks.push(due_ms, CallbackJob { vendor, index, event, tries: 0 }) {
            Ok(()) => counters.scheduled.up(),
            Err(_) => counters.dropped.up(),
        }
    }

    fn resume(&self) {
        for (place, vendor) in self.vendors.iter().enumerate() {
            let live = vendor.live();
            let book = vendor.book.lock();
            for index in 0..book.len() {
                let payout = book.payout(index);
                self.clock.raise(payout.accepted_ms);
                if payout.plan.callbacks.unwrap_or(0) == 0 {
                    continue;
                }
                let delay_ms = vendor.dice.callback_delay_ms(&live, payout.order.number.as_str(), 0);
                if !payout.finish_told {
                    self.schedule(place, index, Event::Finish, payout.plan.finish_ms + delay_ms);
                }
                if let Some(at) = payout.plan.reverse_ms.filter(|_| !payout.reverse_told) {
                    self.schedule(place, index, Event::Reverse, at + delay_ms);
                }
            }
        }
    }
}
