//! Live statistics: one writer, many readers, who never wait for it.
//!
//! The loops add to a book behind a short lock; now and then a snapshot is built from it and put in place of the one
//! before. Readers take the snapshot that stands there and keep it as long as they like.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Serialize, Serializer};

use crate::core::{StatBook, StatDelta, StatKey, StatValue};

/// Sums over some lines. Money in fen; 64-bit numbers are text in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sums {
    /// Units awarded.
    #[serde(serialize_with = "text")]
    pub awarded_units: i64,
    /// Their money.
    #[serde(serialize_with = "text")]
    pub awarded_fen: i64,
    /// Units that their players have.
    #[serde(serialize_with = "text")]
    pub delivered_units: i64,
    /// Their money.
    #[serde(serialize_with = "text")]
    pub delivered_fen: i64,
    /// Units not claimed in time.
    #[serde(serialize_with = "text")]
    pub lapsed_units: i64,
    /// Their money.
    #[serde(serialize_with = "text")]
    pub lapsed_fen: i64,
    /// Units awarded and neither delivered nor lapsed.
    #[serde(serialize_with = "text")]
    pub open_units: i64,
    /// Their money.
    #[serde(serialize_with = "text")]
    pub open_fen: i64,
}

fn text<S: Serializer>(value: &i64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

impl From<StatValue> for Sums {
    fn from(v: StatValue) -> Sums {
        Sums {
            awarded_units: v.awarded_units,
            awarded_fen: v.awarded_fen.0,
            delivered_units: v.delivered_units,
            delivered_fen: v.delivered_fen.0,
            lapsed_units: v.lapsed_units,
            lapsed_fen: v.lapsed_fen.0,
            open_units: v.open_units(),
            open_fen: v.open_fen().0,
        }
    }
}

/// A line of a snapshot: what it is about, and the sums.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// The campaign.
    pub campaign: u32,
    /// The round; 0 in sums over rounds.
    pub round: u32,
    /// The prize; 0 in sums over prizes.
    pub prize: u32,
    /// The vendor; 0 in sums over vendors.
    pub vendor: u32,
    /// The district; 0 in sums over districts, and for players whose district is not known.
    pub district: u32,
    /// The sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// The statistics at an instant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct StatisticsSnapshot {
    /// When, ms UTC.
    pub at_ms: u64,
    /// By campaign, round and prize (with its vendor).
    pub prizes: Vec<Line>,
    /// By campaign and round.
    pub rounds: Vec<Line>,
    /// By campaign and vendor.
    pub vendors: Vec<Line>,
    /// By campaign and district.
    pub districts: Vec<Line>,
}

/// Statistics that change while they are read.
pub struct LiveStatistics {
    book: Mutex<(StatBook, bool)>,
    /// Others write the store too: it alone knows the sums.
    is_shared: bool,
    front: RwLock<Arc<StatisticsSnapshot>>,
}

impl LiveStatistics {
    /// Statistics that begin with these lines.
    pub fn new(lines: Vec<(StatKey, StatValue)>, now_ms: u64) -> LiveStatistics {
        LiveStatistics::begin(lines, now_ms, false)
    }

    /// Statistics of a store that several processes write: they change by [`LiveStatistics::replace`] alone, so that
    /// nothing is counted twice.
    pub fn shared(lines: Vec<(StatKey, StatValue)>, now_ms: u64) -> LiveStatistics {
        LiveStatistics::begin(lines, now_ms, true)
    }

    fn begin(lines: Vec<(StatKey, StatValue)>, now_ms: u64, is_shared: bool) -> LiveStatistics {
        let book = Mutex::new((StatBook::new(lines), true));
        let live = LiveStatistics { book, is_shared, front: RwLock::default() };
        live.publish(now_ms);
        live
    }

    /// Puts the lines that the store has in place of what was here.
    pub fn replace(&self, lines: Vec<(StatKey, StatValue)>) {
        *self.book.lock() = (StatBook::new(lines), true);
    }

    /// Takes changes in; readers see them after the next [`LiveStatistics::publish`].
    pub fn add(&self, delta: &StatDelta) {
        if !self.is_shared && !delta.is_empty() {
            let mut book = self.book.lock();
            book.0.apply(delta);
            book.1 = true;
        }
    }

    /// Puts a new snapshot in place, if anything has changed.
    pub fn publish(&self, now_ms: u64) {
        let lines: Vec<(StatKey, StatValue)> = {
            let mut book = self.book.lock();
            if !std::mem::take(&mut book.1) {
                return;
            }
            book.0.lines().map(|(k, v)| (*k, *v)).collect()
        };
        let none =
            StatKey { campaign: 0.into(), round: 0.into(), prize: 0.into(), vendor: 0.into(), district: 0 };
        let snapshot = StatisticsSnapshot {
            at_ms: now_ms,
            prizes: sums(&lines, |k| StatKey { district: 0, ..k }),
            rounds: sums(&lines, |k| StatKey { campaign: k.campaign, round: k.round, ..none }),
            vendors: sums(&lines, |k| StatKey { campaign: k.campaign, vendor: k.vendor, ..none }),
            districts: sums(&lines, |k| StatKey { campaign: k.campaign, district: k.district, ..none }),
        };
        *self.front.write() = Arc::new(snapshot);
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<StatisticsSnapshot> {
        Arc::clone(&self.front.read())
    }
}

fn sums(lines: &[(StatKey, StatValue)], by: impl Fn(StatKey) -> StatKey) -> Vec<Line> {
    let mut sums: BTreeMap<StatKey, StatValue> = BTreeMap::new();
    for (key, value) in lines {
        sums.entry(by(*key)).or_default().add(value);
    }
    sums.into_iter()
        .map(|(k, v)| Line {
            campaign: k.campaign.0,
            round: k.round.0,
            prize: k.prize.0,
            vendor: k.vendor.0,
            district: k.district,
            sums: v.into(),
        })
        .collect()
}
