//! Users whose past wins must be read before they can draw: each once, in the order in which they came, and no more of
//! them than can be read soon. Whoever finds no place asks again anyway.

use campaign::{CampaignId, UserId};
use std::collections::{HashSet, VecDeque};

/// Most users who wait to be asked for on a node.
pub const WANTED_MAX: usize = 65_536;

/// A user whose past wins in a campaign are wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Want {
    /// His bucket.
    pub bucket: u16,
    /// The term under which this node owns it: an answer counts under no other.
    pub term: u32,
    /// The user.
    pub user: UserId,
    /// The campaign.
    pub campaign: CampaignId,
}

/// A bounded queue without doubles.
pub(super) struct Wanted {
    queue: VecDeque<Want>,
    known: HashSet<Want>,
    max: usize,
}

impl Wanted {
    pub fn new(max: usize) -> Wanted {
        Wanted { queue: VecDeque::new(), known: HashSet::new(), max }
    }

    pub fn add(&mut self, bucket: u16, term: u32, user: u64, campaign: u32) {
        let want = Want { bucket, term, user: UserId(user), campaign: CampaignId(campaign) };
        if self.queue.len() < self.max && self.known.insert(want) {
            self.queue.push_back(want);
        }
    }

    /// Moves at most `max` to `out`.
    pub fn take(&mut self, max: usize, out: &mut Vec<Want>) {
        let n = max.min(self.queue.len());
        for want in self.queue.drain(..n) {
            self.known.remove(&want);
            out.push(want);
        }
    }
}
