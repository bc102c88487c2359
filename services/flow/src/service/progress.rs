//! How far flow is, for a status page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use runtime::{Counter, Gauge};
use serde::Serialize;

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct FlowProgress {
    /// Groups of lanes taken in.
    pub groups: Counter,
    /// Awards stored.
    pub awards: Counter,
    /// Awards ignored because their epoch had ended.
    pub ignored: Counter,
    /// Orders sent for new awards.
    pub orders: Counter,
    /// Orders repeated.
    pub repeated: Counter,
    /// Claims passed on.
    pub claims: Counter,
    /// Events taken in.
    pub events: Counter,
    /// Alarms raised.
    pub alarms: Counter,
    /// Awards whose users wait for the table.
    pub unindexed: Gauge,
    stalled: Mutex<BTreeMap<&'static str, String>>,
    /// Another flow node has the first lane, and does what one of them has to do.
    follows: AtomicBool,
}

/// [`FlowProgress`] at an instant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowStatus {
    /// Groups of lanes taken in.
    pub groups: u64,
    /// Awards stored.
    pub awards: u64,
    /// Awards ignored because their epoch had ended.
    pub ignored: u64,
    /// Orders sent for new awards.
    pub orders: u64,
    /// Orders repeated.
    pub repeated: u64,
    /// Claims passed on.
    pub claims: u64,
    /// Events taken in.
    pub events: u64,
    /// Alarms raised.
    pub alarms: u64,
    /// Groups of lanes not taken in yet.
    pub lane_lag: u64,
    /// Groups of the journal not taken in yet.
    pub journal_lag: u64,
    /// What stands still, with its reason.
    pub stalled: BTreeMap<String, String>,
}

impl FlowProgress {
    pub(super) fn stalled(&self, what: &'static str, why: String) {
        self.stalled.lock().insert(what, why);
    }

    /// Takes note whether this node is the one that has the first lane.
    pub(super) fn leads(&self, leads: bool) {
        self.follows.store(!leads, Relaxed);
    }

    /// Whether another node does what only one has to do.
    pub(super) fn follows(&self) -> bool {
        self.follows.load(Relaxed)
    }

    pub(super) fn went_on(&self, what: &'static str) {
        self.stalled.lock().remove(what);
    }

    pub(super) fn status(&self, lane_lag: u64, journal_lag: u64) -> FlowStatus {
        FlowStatus {
            groups: self.groups.get(),
            awards: self.awards.get(),
            ignored: self.ignored.get(),
            orders: self.orders.get(),
            repeated: self.repeated.get(),
            claims: self.claims.get(),
            events: self.events.get(),
            alarms: self.alarms.get(),
            lane_lag,
            journal_lag,
            stalled: self
                .stalled
                .lock()
                .iter()
                .map(|(what, why)| ((*what).to_owned(), why.clone()))
                .collect(),
        }
    }
}
