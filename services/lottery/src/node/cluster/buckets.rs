//! Which buckets of users this node draws for, and how they change hands. Pure.
//!
//! What comes in: the ring, the owners' table, how far lane and award store are, and the answers to ticks. What goes out:
//! what the next tick asks for, and how the core holds each bucket ([`Holder`]). A bucket goes this way:
//!
//! - the ring gives it to us, and it stands free in the table: it is claimed;
//! - claimed: nobody draws until the award store has passed every lane position that its owners left ([`State::Waiting`]);
//! - then it is open, until the ring gives it to somebody else, or the node is drained;
//! - then nobody draws, and when every win of it is acknowledged in the lane, it is sealed in the table and forgotten.
//!
//! The ring is a wish: who draws is decided by the answers to claims and seals, which name the bucket's term. What an
//! answer does not name as ours is not ours. A claim whose answer was lost is made again until one is heard, also when the
//! ring has changed its mind meanwhile: otherwise the bucket would stay ours in the table, and nobody would draw for it.

use crate::core::{BUCKETS, Core};
use crate::ledger::TickAnswer;
use hashring::{Bucket, Ring};
use ownership::{BucketRow, ClaimBucket, Claimed, LaneEnd, SealBucket};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most buckets claimed by one tick, and most given up: a tick stays short, and others follow it at once.
pub const MOVES_MAX: usize = 1_024;

/// Who holds the users. The decision core does; a test may.
pub trait Holder {
    /// Claimed under this term; nobody may draw yet.
    fn wait(&self, bucket: u16, term: u32);
    /// Ours under this term.
    fn open(&self, bucket: u16, term: u32);
    /// Nobody draws any more. The log position behind the bucket's last win; 0: none.
    fn seal(&self, bucket: u16) -> u64;
    /// Somebody else's: users are forgotten.
    fn release(&self, bucket: u16);
}

impl Holder for Core {
    fn wait(&self, bucket: u16, term: u32) {
        Core::wait(self, usize::from(bucket), term);
    }

    fn open(&self, bucket: u16, term: u32) {
        Core::open(self, usize::from(bucket), term);
    }

    fn seal(&self, bucket: u16) -> u64 {
        Core::seal(self, usize::from(bucket))
    }

    fn release(&self, bucket: u16) {
        Core::release(self, usize::from(bucket));
    }
}

/// Where a bucket is on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Not ours.
    Elsewhere,
    /// Ours; the award store has not passed these positions.
    Waiting {
        /// Our term.
        term: u32,
        /// What it has still to pass.
        wait_for: Vec<LaneEnd>,
    },
    /// Ours, and drawn for.
    Open {
        /// Our term.
        term: u32,
    },
    /// Being given up: not drawn for any more.
    Sealing {
        /// Our term.
        term: u32,
        /// Behind its last win in our lane.
        end: u64,
    },
}

struct Slot {
    state: State,
    /// The ring gives it to us.
    wanted: bool,
    /// The term under which it stands free in the table, as far as we know.
    free: Option<u32>,
    /// Claimed under this term, and no answer was heard: it may be ours.
    asked: Option<u32>,
}

/// Buckets by state, for people and programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BucketCounts {
    /// Drawn for.
    pub open: usize,
    /// Ours; the award store has not passed what their owners left.
    pub waiting: usize,
    /// Being given up.
    pub sealing: usize,
    /// The ring gives them to us, and somebody else has them.
    pub wanted: usize,
}

/// The buckets as one epoch of a node has them.
pub struct Buckets {
    node: u16,
    slots: Vec<Slot>,
    draining: bool,
    /// A bucket is drawn for before the award store has passed: only ever true in the simulation.
    open_early: bool,
}

impl Buckets {
    /// A node that has no bucket yet.
    pub fn new(node: u16) -> Buckets {
        let slot = || Slot { state: State::Elsewhere, wanted: false, free: None, asked: None };
        let slots = std::iter::repeat_with(slot).take(BUCKETS).collect();
        Buckets { node, slots, draining: false, open_early: false }
    }

    /// Plants a fault that the simulation must find: buckets are drawn for as soon as they are claimed.
    #[cfg(feature = "planted")]
    pub fn plant_open_early(&mut self) {
        self.open_early = true;
    }

    /// The ring as it is now.
    pub fn follow(&mut self, ring: &Ring) {
        for (bucket, slot) in Bucket::all().zip(&mut self.slots) {
            slot.wanted = !self.draining && ring.owner(bucket) == self.node;
        }
    }

    /// Everything is to be given up, whatever the ring says.
    pub fn drain(&mut self) {
        self.draining = true;
        self.slots.iter_mut().for_each(|slot| slot.wanted = false);
    }

    /// Lets nobody draw any more for buckets that are to be given up. Call it before [`Buckets::asks`].
    pub fn hold(&mut self, holder: &impl Holder) {
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            if let State::Waiting { term, .. } | State::Open { term } = slot.state
                && !slot.wanted
            {
                slot.state = State::Sealing { term, end: holder.seal(bucket) };
            }
        }
    }

    /// The ring has taken away a bucket that is still drawn for: [`Buckets::hold`] is due.
    pub fn gives_up(&self) -> bool {
        let ours = |s: &Slot| matches!(s.state, State::Waiting { .. } | State::Open { .. });
        self.slots.iter().any(|slot| !slot.wanted && ours(slot))
    }

    /// Somebody else has a bucket that the ring gives to us: look at the table.
    pub fn looks(&self) -> bool {
        self.slots.iter().any(|s| s.wanted && s.state == State::Elsewhere && s.free.is_none())
    }

    /// What stands in the table: every bucket that ever had an owner.
    pub fn rows(&mut self, rows: &[BucketRow]) {
        let mut free = vec![Some(0); BUCKETS];
        for row in rows {
            if let Some(place) = free.get_mut(usize::from(row.bucket)) {
                *place = row.is_free().then_some(row.term);
            }
        }
        self.slots.iter_mut().zip(free).for_each(|(slot, free)| slot.free = free);
    }

    /// What the next tick asks for, when everything in the lane below `acknowledged` is safe.
    pub fn asks(&mut self, acknowledged: u64) -> (Vec<SealBucket>, Vec<ClaimBucket>) {
        let (mut seals, mut claims) = (Vec::new(), Vec::new());
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            match slot.state {
                State::Sealing { term, end } if end <= acknowledged => {
                    seals.push(SealBucket { bucket, term, position: end });
                }
                State::Elsewhere if claims.len() < MOVES_MAX => {
                    slot.asked = slot.asked.or(slot.free.filter(|_| slot.wanted));
                    claims.extend(slot.asked.map(|term| ClaimBucket { bucket, term }));
                }
                _ => {}
            }
        }
        seals.truncate(MOVES_MAX);
        (seals, claims)
    }

    /// The answer to a tick that asked for these seals.
    pub fn answered(&mut self, seals: &[SealBucket], answer: &TickAnswer, holder: &impl Holder) {
        for seal in seals {
            // One that the answer doesn't name is somebody else's already; in either case it is not ours.
            let slot = &mut self.slots[usize::from(seal.bucket)];
            if slot.state == (State::Sealing { term: seal.term, end: seal.position }) {
                slot.state = State::Elsewhere;
                slot.free = None;
                holder.release(seal.bucket);
            }
        }
        for claimed in &answer.claimed {
            self.claimed(claimed, holder);
        }
        for refused in &answer.claims_refused {
            let slot = &mut self.slots[usize::from(refused.bucket)];
            (slot.free, slot.asked) = (refused.free.then_some(refused.term), None);
        }
    }

    fn claimed(&mut self, claimed: &Claimed, holder: &impl Holder) {
        let Claimed { bucket, term, wait_for } = claimed;
        let slot = &mut self.slots[usize::from(*bucket)];
        if slot.state != State::Elsewhere {
            return;
        }
        (slot.free, slot.asked) = (None, None);
        let wait_for: Vec<LaneEnd> = wait_for.iter().copied().filter(|w| w.position > 0).collect();
        if wait_for.is_empty() || self.open_early {
            slot.state = State::Open { term: *term };
            holder.open(*bucket, *term);
        } else {
            slot.state = State::Waiting { term: *term, wait_for };
            holder.wait(*bucket, *term);
        }
    }

    /// The lanes that some bucket waits for.
    pub fn waits_for(&self) -> BTreeSet<u16> {
        self.waits_until().into_keys().collect()
    }

    /// How far the award store must come until no bucket waits any more, by lane.
    pub fn waits_until(&self) -> BTreeMap<u16, u64> {
        let mut until = BTreeMap::new();
        for slot in &self.slots {
            let State::Waiting { wait_for, .. } = &slot.state else { continue };
            for end in wait_for {
                let highest = until.entry(end.lane).or_insert(0);
                *highest = end.position.max(*highest);
            }
        }
        until
    }

    /// How far the award store is, by lane. Buckets that need not wait any longer are opened.
    pub fn passed(&mut self, positions: &BTreeMap<u16, u64>, holder: &impl Holder) {
        for (bucket, slot) in (0u16..).zip(&mut self.slots) {
            let State::Waiting { term, wait_for } = &mut slot.state else { continue };
            wait_for.retain(|end| positions.get(&end.lane).is_none_or(|passed| *passed < end.position));
            if wait_for.is_empty() {
                let term = *term;
                slot.state = State::Open { term };
                holder.open(bucket, term);
            }
        }
    }

    /// Some bucket is drawn for.
    pub fn is_serving(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, State::Open { .. }))
    }

    /// No bucket is ours.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.state == State::Elsewhere)
    }

    /// Where a bucket is.
    pub fn state(&self, bucket: u16) -> &State {
        &self.slots[usize::from(bucket)].state
    }

    /// Buckets by state.
    pub fn counts(&self) -> BucketCounts {
        let mut counts = BucketCounts::default();
        for slot in &self.slots {
            match slot.state {
                State::Open { .. } => counts.open += 1,
                State::Waiting { .. } => counts.waiting += 1,
                State::Sealing { .. } => counts.sealing += 1,
                State::Elsewhere => counts.wanted += usize::from(slot.wanted),
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests;
