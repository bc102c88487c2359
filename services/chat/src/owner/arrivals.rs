//! Connected devices whose users are not this node's: their buckets are changing hands, or its epoch is.
//!
//! A front door tells of a device once, to whom it takes for the owner. Who is not (yet) keeps it until he is, or until the
//! device has not been heard of for as long as a silent one counts as online: by then the front door has told somebody else.

use crate::cluster::Moved;
use hashring::bucket_of;
use protocol::calls::DeviceAt;
use std::collections::{BTreeMap, HashMap};

/// They wait.
pub(super) struct Arrivals {
    by_bucket: BTreeMap<u16, HashMap<DeviceAt, Waiting>>,
    len: usize,
    max: usize,
}

#[derive(Default)]
struct Waiting {
    /// Until when, ms on the node's clock.
    until_ms: u64,
    /// Whose presence it watches, and goes on to.
    watching: Vec<u64>,
}

impl Arrivals {
    /// Nobody waits. More than `max` are not kept: a later beat brings them.
    pub fn new(max: usize) -> Arrivals {
        Arrivals { by_bucket: BTreeMap::new(), len: 0, max }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A device waits until a time, or longer than it did.
    pub fn wait(&mut self, device: DeviceAt, until_ms: u64) {
        let bucket = self.by_bucket.entry(bucket_of(device.user).get()).or_default();
        match bucket.get_mut(&device) {
            Some(waiting) => waiting.until_ms = until_ms,
            None if self.len < self.max => {
                bucket.insert(device, Waiting { until_ms, watching: Vec::new() });
                self.len += 1;
            }
            None => {}
        }
    }

    /// A device whose user has gone waits.
    pub fn wait_moved(&mut self, moved: Moved, until_ms: u64) {
        self.wait(moved.device, until_ms);
        if !moved.watching.is_empty() {
            self.watch(moved.device, moved.watching);
        }
    }

    /// A device that waits goes on watching these when its time has come.
    pub fn watch(&mut self, device: DeviceAt, users: Vec<u64>) {
        let bucket = self.by_bucket.get_mut(&bucket_of(device.user).get());
        if let Some(waiting) = bucket.and_then(|bucket| bucket.get_mut(&device)) {
            waiting.watching = users;
        }
    }

    /// It does not wait any more; whom it watches.
    pub fn leave(&mut self, device: DeviceAt) -> Vec<u64> {
        let number = bucket_of(device.user).get();
        let Some(bucket) = self.by_bucket.get_mut(&number) else { return Vec::new() };
        let gone = bucket.remove(&device);
        self.len -= usize::from(gone.is_some());
        if bucket.is_empty() {
            self.by_bucket.remove(&number);
        }
        gone.map(|waiting| waiting.watching).unwrap_or_default()
    }

    /// Takes at most `count` devices out whose buckets are owned, with those whom they watch.
    pub fn take(&mut self, owned: impl Fn(u16) -> bool, count: usize) -> Vec<Moved> {
        let mut taken: Vec<DeviceAt> = Vec::new();
        for (_, devices) in self.by_bucket.iter().filter(|(bucket, _)| owned(**bucket)) {
            taken.extend(devices.keys().take(count - taken.len()));
            if taken.len() >= count {
                break;
            }
        }
        taken.into_iter().map(|device| Moved { device, watching: self.leave(device) }).collect()
    }

    /// Those whose time is over have gone elsewhere.
    pub fn expire(&mut self, now_ms: u64) {
        self.by_bucket.retain(|_, devices| {
            devices.retain(|_, waiting| waiting.until_ms > now_ms);
            !devices.is_empty()
        });
        self.len = self.by_bucket.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Moved};
    use hashring::bucket_of;
    use protocol::calls::{ConnectionAt, DeviceAt};

    fn device(user: u64) -> DeviceAt {
        DeviceAt { user, device: 1, at: ConnectionAt { access: 1, connection: user } }
    }

    #[test]
    fn they_wait_for_their_bucket_and_not_for_ever() {
        let mut arrivals = Arrivals::new(3);
        (1..=4).for_each(|user| arrivals.wait(device(user), 10 * user));
        assert_eq!(arrivals.len(), 3, "there is no room for the fourth");
        arrivals.wait(device(1), 50);
        arrivals.leave(device(2));
        arrivals.leave(device(2));
        assert!(arrivals.take(|_| false, 10).is_empty());
        let mine = bucket_of(3).get();
        arrivals.watch(device(3), vec![7]);
        arrivals.watch(device(9), vec![7]);
        arrivals.wait(device(3), 30);
        let taken = arrivals.take(|bucket| bucket == mine, 10);
        assert_eq!(taken, [Moved { device: device(3), watching: vec![7] }]);
        arrivals.expire(49);
        assert_eq!((arrivals.len(), arrivals.take(|_| true, 0).len()), (1, 0));
        arrivals.expire(50);
        assert_eq!(arrivals.len(), 0);
    }
}
