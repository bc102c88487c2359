//! Flow as the nodes see it, made from the lanes: what it has read of them counts, and it can be held up.

use async_trait::async_trait;
use campaign::{CampaignId, UserId};
use parking_lot::Mutex;
use protocol::calls::{CallError, Histories, PastWin};
use queue::Position;
use queue::lanes::memory::MemoryLanes;
use records::{Ended, Record, RecordKind, Won, kind_of};
use std::collections::BTreeMap;

/// A win as it stands in a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awarded {
    pub node: u16,
    pub epoch: u32,
    pub won: Won,
}

/// One lane read to some position.
#[derive(Clone, Default)]
struct Reading {
    next: u64,
    ended: u32,
}

/// The wins that count of a lane, from a position on; `reading` moves on.
fn read_on(lanes: &MemoryLanes, node: u16, reading: &mut Reading, out: &mut Vec<Awarded>) {
    let read = lanes.read_raw_now(node, Position(reading.next), usize::MAX).expect("the lane is whole");
    for raw in read.groups {
        let group = raw.group();
        for record in group.records() {
            match kind_of(record).unwrap() {
                RecordKind::Won if group.epoch > reading.ended => {
                    out.push(Awarded { node, epoch: group.epoch, won: Won::decode(record).unwrap() })
                }
                RecordKind::Ended => {
                    reading.ended = reading.ended.max(Ended::decode(record).unwrap().epoch.0)
                }
                _ => {}
            }
        }
        reading.next = group.position.0 + 1;
    }
}

/// Every win that counts, of all lanes.
pub fn awards(lanes: &MemoryLanes, nodes: u16) -> Vec<Awarded> {
    let mut all = Vec::new();
    (0..nodes).for_each(|node| read_on(lanes, node, &mut Reading::default(), &mut all));
    all
}

/// An award store that follows the lanes.
pub struct LaneFlow {
    lanes: MemoryLanes,
    nodes: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    readings: BTreeMap<u16, Reading>,
    wins: BTreeMap<(u64, u32), Vec<PastWin>>,
    held_up: bool,
    /// Calls for users' wins.
    calls: u64,
}

impl LaneFlow {
    pub fn new(lanes: MemoryLanes, nodes: u16) -> LaneFlow {
        LaneFlow { lanes, nodes, state: Mutex::default() }
    }

    /// It reads nothing more until it is let go.
    pub fn hold_up(&self, held_up: bool) {
        self.state.lock().held_up = held_up;
    }

    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    fn read(&self, state: &mut State) {
        if state.held_up {
            return;
        }
        let mut fresh = Vec::new();
        for node in 0..self.nodes {
            read_on(&self.lanes, node, state.readings.entry(node).or_default(), &mut fresh);
        }
        for Awarded { won, .. } in fresh {
            let Won { award, user, campaign, round, day, counter, prize, unit, fen, .. } = won;
            let win = PastWin { award, user, campaign, round, day, counter, prize, unit, fen };
            state.wins.entry((user.0, campaign.0)).or_default().push(win);
        }
    }

    pub fn passed_now(&self, lanes: &[u16]) -> Vec<(u16, u64)> {
        let mut state = self.state.lock();
        self.read(&mut state);
        lanes.iter().map(|lane| (*lane, state.readings.get(lane).map_or(0, |r| r.next))).collect()
    }

    pub fn wins_now(&self, asked: &[(UserId, CampaignId)]) -> Vec<Vec<PastWin>> {
        let mut state = self.state.lock();
        state.calls += 1;
        asked
            .iter()
            .map(|(user, campaign)| state.wins.get(&(user.0, campaign.0)).cloned().unwrap_or_default())
            .collect()
    }
}

#[async_trait]
impl Histories for LaneFlow {
    async fn passed(&self, lanes: &[u16]) -> Result<Vec<(u16, u64)>, CallError> {
        Ok(self.passed_now(lanes))
    }

    async fn wins(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<PastWin>>, CallError> {
        Ok(self.wins_now(asked))
    }
}
