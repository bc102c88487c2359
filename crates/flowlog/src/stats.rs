//! Counters of a running log: kept by its thread, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the sync time buckets in microseconds; the last bucket takes everything above.
pub const SYNC_BUCKETS_US: [u64; 11] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// What a log has done since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    /// Groups written and synced.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them, headers included.
    pub bytes: u64,
    /// Time spent in syncs, in ns.
    pub sync_ns_sum: u64,
    /// The longest sync, in ns.
    pub sync_ns_max: u64,
    /// How many syncs took at most [`SYNC_BUCKETS_US`] (each bucket without the ones below it), and how many longer.
    pub sync_buckets: [u64; SYNC_BUCKETS_US.len() + 1],
    /// Bytes that records of class `Normal` could take right now.
    pub room_bytes: u64,
}

impl LogStats {
    /// Mean time of a sync in ns; 0 before the first.
    pub fn sync_ns_avg(&self) -> u64 {
        self.sync_ns_sum.checked_div(self.groups).unwrap_or(0)
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    groups: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    sync_ns_sum: AtomicU64,
    sync_ns_max: AtomicU64,
    sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
}

impl Counters {
    pub fn group(&self, records: u32, bytes: usize, sync_ns: u64) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(u64::from(records), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.sync_ns_sum.fetch_add(sync_ns, Ordering::Relaxed);
        self.sync_ns_max.fetch_max(sync_ns, Ordering::Relaxed);
        let bucket = SYNC_BUCKETS_US.partition_point(|limit| limit * 1_000 < sync_ns);
        self.sync_buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> LogStats {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        LogStats {
            groups: get(&self.groups),
            records: get(&self.records),
            bytes: get(&self.bytes),
            sync_ns_sum: get(&self.sync_ns_sum),
            sync_ns_max: get(&self.sync_ns_max),
            sync_buckets: std::array::from_fn(|i| get(&self.sync_buckets[i])),
            room_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_falls_into_the_bucket_of_its_time() {
        let counters = Counters::default();
        for ns in [50_000, 50_001, 200_000_000] {
            counters.group(2, 10, ns);
        }
        let stats = counters.read();
        assert_eq!((stats.groups, stats.records, stats.bytes), (3, 6, 30));
        assert_eq!((stats.sync_buckets[0], stats.sync_buckets[1], stats.sync_buckets[11]), (1, 1, 1));
        assert_eq!((stats.sync_ns_max, stats.sync_ns_avg()), (200_000_000, 66_700_000));
    }
}
