//! Connected devices whose users are not this node's: their buckets are changing hands, or its epoch is.
//!
//! A front door tells of a device once, to whom it takes for the owner. Who is not (yet) keeps it until he is, or until the
//! device has not been heard of for as long as a silent one counts as online: by then the front door has told somebody else.

use hashring::bucket_of;
use protocol::calls::DeviceAt;
use std::collections::{BTreeMap, HashMap};

/// They wait.
pub(super) struct Arrivals {
    /// Until when each waits, ms on the node's clock.
    by_bucket: BTreeMap<u16, HashMap<DeviceAt, u64>>,
    len: usize,
    max: usize,
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
            Some(until) => *until = until_ms,
            None if self.len < self.max => {
                bucket.insert(device, until_ms);
                self.len += 1;
            }
            None => {}
        }
    }

    /// It does not wait any more.
    pub fn leave(&mut self, device: DeviceAt) {
        let number = bucket_of(device.user).get();
        let Some(bucket) = self.by_bucket.get_mut(&number) else { return };
        self.len -= usize::from(bucket.remove(&device).is_some());
        if bucket.is_empty() {
            self.by_bucket.remove(&number);
        }
    }

    /// Takes at most `count` devices out whose buckets are owned.
    pub fn take(&mut self, owned: impl Fn(u16) -> bool, count: usize) -> Vec<DeviceAt> {
        let mut taken: Vec<DeviceAt> = Vec::new();
        for (_, devices) in self.by_bucket.iter().filter(|(bucket, _)| owned(**bucket)) {
            taken.extend(devices.keys().take(count - taken.len()));
            if taken.len() >= count {
                break;
            }
        }
        taken.iter().for_each(|device| self.leave(*device));
        taken
    }

    /// Those whose time is over have gone elsewhere.
    pub fn expire(&mut self, now_ms: u64) {
        self.by_bucket.retain(|_, devices| {
            devices.retain(|_, until| *until > now_ms);
            !devices.is_empty()
        });
        self.len = self.by_bucket.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::Arrivals;
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
        assert_eq!(arrivals.take(|bucket| bucket == mine, 10), [device(3)]);
        arrivals.expire(49);
        assert_eq!((arrivals.len(), arrivals.take(|_| true, 0).len()), (1, 0));
        arrivals.expire(50);
        assert_eq!(arrivals.len(), 0);
    }
}
