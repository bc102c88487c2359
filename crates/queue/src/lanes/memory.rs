//! Lanes in memory, for the simulation and for tests.
//!
//! Deterministic: nothing waits; what goes wrong is what was asked for ([`MemoryLanes::trouble`]), and messages that are
//! held back come when they are let go ([`MemoryLanes::land`]). [`MemoryLanes`] is what survives: clone it. Every
//! call has a form that is not async, for callers on virtual time.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flowlog::format::GroupHeader;
use parking_lot::Mutex;

use super::state::{LaneFault, LaneState, Place, Skip, Verdict};
use super::{LaneError, LaneRead, Lanes, RawGroup, check_shipped, foreign_mark};
use crate::memory::MemoryQueue;
use crate::{LANE, Position};

/// What befalls the next call that writes into a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The first so many messages get into the lane, the others never; the answer is `Unsure`.
    Unsure {
        /// How many get there.
        lands: usize,
    },
    /// None gets there now: all are held until [`MemoryLanes::land`]; the answer is `Unsure`.
    Held,
    /// All get there and are acknowledged, and stand in the lane twice.
    Twice,
}

/// Lanes in memory. Cloning gives another handle.
#[derive(Clone)]
pub struct MemoryLanes {
    lanes: Arc<Vec<Mutex<Lane>>>,
    queue: Option<MemoryQueue>,
}

#[derive(Default)]
struct Lane {
    messages: Vec<Bytes>,
    state: LaneState,
    accepted: Vec<RawGroup>,
    fault: Option<LaneFault>,
    troubles: VecDeque<Trouble>,
    held: VecDeque<Bytes>,
    /// Groups of ended epochs are taken in all the same: only ever true in the simulation.
    accepts_ended: bool,
}

impl Lane {
    /// With the planted fault: a group of an ended epoch, accepted behind the epoch's end.
    fn behind_end(&mut self, verdict: Verdict, message: &Bytes) -> Verdict {
        if !self.accepts_ended || verdict != Verdict::Skipped(Skip::Ended) {
            return verdict;
        }
        let Ok(header) = GroupHeader::decode(message) else { return verdict };
        let place = Place { position: self.state.next, epoch: header.epoch, is_mark: false };
        self.state.next = self.state.next.next();
        Verdict::Accepted(place)
    }
}

impl MemoryLanes {
    /// Empty lanes for the nodes `0..lanes`.
    pub fn new(lanes: u16) -> MemoryLanes {
        let lanes = (0..lanes).map(|_| Mutex::default()).collect();
        MemoryLanes { lanes: Arc::new(lanes), queue: None }
    }

    /// The same, and consumers of the queue's topic [`LANE`] (which must have as many partitions) read them.
    #[must_use]
    pub fn feeding(mut self, queue: &MemoryQueue) -> MemoryLanes {
        self.queue = Some(queue.clone());
        self
    }

    /// Plants a fault that the simulation must find: what a node ships behind the end of its epoch is taken in.
    ///
    /// # Errors
    /// When there is no such lane.
    #[cfg(feature = "planted")]
    pub fn plant_accept_ended(&self, node: u16) -> Result<(), LaneError> {
        self.lane(node)?.lock().accepts_ended = true;
        Ok(())
    }

    /// What befalls the next writing call for the lane that nothing was planned for yet.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn trouble(&self, node: u16, trouble: Trouble) -> Result<(), LaneError> {
        self.lane(node)?.lock().troubles.push_back(trouble);
        Ok(())
    }

    /// Lets the first so many messages that are held get into the lane; how many those were.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn land(&self, node: u16, messages: usize) -> Result<usize, LaneError> {
        let mut lane = self.lane(node)?.lock();
        let count = messages.min(lane.held.len());
        let landing: Vec<Bytes> = lane.held.drain(..count).collect();
        for message in landing {
            self.put(node, &mut lane, message);
        }
        Ok(count)
    }

    /// Repeats messages of the lane, as a writer does that has not heard of them: from the `back`-th from the end on, so
    /// many.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn repeat(&self, node: u16, back: usize, count: usize) -> Result<(), LaneError> {
        let mut lane = self.lane(node)?.lock();
        let from = lane.messages.len().saturating_sub(back);
        let again: Vec<Bytes> = lane.messages[from..].iter().take(count).cloned().collect();
        for message in again {
            self.put(node, &mut lane, message);
        }
        Ok(())
    }

    /// All messages of the lane, those that don't count too.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn messages(&self, node: u16) -> Result<Vec<Bytes>, LaneError> {
        Ok(self.lane(node)?.lock().messages.clone())
    }

    /// As [`Lanes::end`].
    ///
    /// # Errors
    /// As there.
    pub fn end_now(&self, node: u16) -> Result<LaneState, LaneError> {
        let lane = self.lane(node)?.lock();
        match &lane.fault {
            Some(fault) => Err(LaneError::Fault(fault.clone())),
            None => Ok(lane.state),
        }
    }

    /// As [`Lanes::ship`].
    ///
    /// # Errors
    /// As there.
    pub fn ship_now(&self, node: u16, groups: Vec<Bytes>) -> Result<(), LaneError> {
        check_shipped(node, &groups)?;
        self.write(node, groups)
    }

    /// As [`Lanes::mark_ended`]. The mark is dated 0.
    ///
    /// # Errors
    /// As there.
    pub fn mark_ended_now(&self, node: u16, epoch: u32, record: &[u8]) -> Result<(), LaneError> {
        self.write(node, vec![Bytes::from(foreign_mark(node, epoch, record, 0)?)])
    }

    /// As [`Lanes::read_raw`].
    ///
    /// # Errors
    /// As there.
    pub fn read_raw_now(
        &self,
        node: u16,
        from: Position,
        max_groups: usize,
    ) -> Result<LaneRead<RawGroup>, LaneError> {
        let lane = self.lane(node)?.lock();
        let first = lane.accepted.partition_point(|g| g.place.position < from);
        let rest = &lane.accepted[first..];
        let groups: Vec<RawGroup> = rest.iter().take(max_groups).cloned().collect();
        match &lane.fault {
            // A reader that had enough before it does not see it.
            Some(fault) if rest.len() < max_groups => Err(LaneError::Fault(fault.clone())),
            _ => Ok(LaneRead { at_end: groups.len() == rest.len() && lane.fault.is_none(), groups }),
        }
    }

    fn lane(&self, node: u16) -> Result<&Mutex<Lane>, LaneError> {
        let lanes = self.lanes.len() as u16;
        self.lanes.get(usize::from(node)).ok_or(LaneError::UnknownLane { node, lanes })
    }

    fn write(&self, node: u16, messages: Vec<Bytes>) -> Result<(), LaneError> {
        let mut lane = self.lane(node)?.lock();
        let unsure = |why: &str| Err(LaneError::Unsure(why.to_owned()));
        match lane.troubles.pop_front() {
            None => {
                messages.into_iter().for_each(|m| self.put(node, &mut lane, m));
                Ok(())
            }
            Some(Trouble::Unsure { lands }) => {
                messages.into_iter().take(lands).for_each(|m| self.put(node, &mut lane, m));
                unsure("the answer was lost")
            }
            Some(Trouble::Held) => {
                lane.held.extend(messages);
                unsure("nobody answered in time")
            }
            Some(Trouble::Twice) => {
                messages.iter().chain(&messages).for_each(|m| self.put(node, &mut lane, m.clone()));
                Ok(())
            }
        }
    }

    /// A message has got there: it is judged, as every reader will judge it.
    fn put(&self, node: u16, lane: &mut Lane, message: Bytes) {
        lane.messages.push(message.clone());
        if lane.fault.is_some() {
            return;
        }
        let judged = lane.state.accept(node, &message).map(|verdict| lane.behind_end(verdict, &message));
        match judged {
            Ok(Verdict::Skipped(_)) => {}
            Ok(Verdict::Accepted(place)) => {
                let raw = RawGroup { place, bytes: message };
                if let Some(queue) = &self.queue
                    && let Err(error) = queue.place(LANE, node, raw.group())
                {
                    tracing::error!(node, %error, "the queue has no partition for this lane");
                }
                lane.accepted.push(raw);
            }
            Err(fault) => lane.fault = Some(fault),
        }
    }
}

#[async_trait]
impl Lanes for MemoryLanes {
    async fn end(&self, node: u16) -> Result<LaneState, LaneError> {
        self.end_now(node)
    }

    async fn ship(&self, node: u16, groups: Vec<Bytes>) -> Result<(), LaneError> {
        self.ship_now(node, groups)
    }

    async fn mark_ended(&self, node: u16, epoch: u32, record: &[u8]) -> Result<(), LaneError> {
        self.mark_ended_now(node, epoch, record)
    }

    async fn read_raw(
        &self,
        node: u16,
        from: Position,
        max_groups: usize,
    ) -> Result<LaneRead<RawGroup>, LaneError> {
        self.read_raw_now(node, from, max_groups)
    }
}
