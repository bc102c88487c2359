//! How much went on when: by round and its stretches, and for each node by the second.

use super::ground::Ground;
use super::part::SlotSum;
use campaign::SLOT_MS;
use campaign::plan::CURVE_TAIL_MS;

/// What went on in a round.
#[derive(Clone, Default)]
pub(super) struct RoundLoad {
    pub sum: SlotSum,
    /// Draws in the last three seconds.
    pub tail_entries: u64,
    /// (submits, draws, wins) of each stretch of the curves.
    pub bins: Vec<SlotSum>,
    /// The same by the minute.
    pub minutes: Vec<SlotSum>,
}

/// What a node had to do.
#[derive(Clone, Copy, Default)]
pub(super) struct NodeLoad {
    pub sum: SlotSum,
    /// Most submits of a second, and when it began.
    pub peak: u64,
    pub peak_ms: u64,
    second: u64,
    in_second: u64,
}

impl NodeLoad {
    fn add(&mut self, slot_ms: u64, slot: SlotSum) {
        self.sum.add(slot);
        let second = slot_ms / 1_000;
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second += slot.submits;
        if self.in_second > self.peak {
            (self.peak, self.peak_ms) = (self.in_second, second * 1_000);
        }
    }
}

impl SlotSum {
    pub fn add(&mut self, other: SlotSum) {
        self.submits += other.submits;
        self.draws += other.draws;
        self.wins += other.wins;
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Recorder {
    pub rounds: Vec<RoundLoad>,
    pub nodes: Vec<NodeLoad>,
    /// All nodes together.
    pub all: NodeLoad,
}

impl Recorder {
    pub fn new(ground: &Ground) -> Recorder {
        Recorder {
            rounds: vec![RoundLoad::default(); ground.plan.rounds.len()],
            nodes: vec![NodeLoad::default(); ground.setup.nodes],
            all: NodeLoad::default(),
        }
    }

    /// Everything until now.
    pub fn sum(&self) -> SlotSum {
        self.all.sum
    }

    /// Counts a slot of one part. A slot that two rounds share counts for the one that runs when it begins.
    pub fn slot(&mut self, ground: &Ground, part: usize, slot_ms: u64, slot: SlotSum) {
        if slot == SlotSum::default() {
            return;
        }
        let nodes = self.nodes.len();
        self.nodes[part % nodes].add(slot_ms, slot);
        self.all.add(slot_ms, slot);
        let index = ground.plan.rounds.partition_point(|r| r.close_ms <= slot_ms);
        let Some(round) = ground.plan.rounds.get(index).filter(|r| r.open_ms < slot_ms + SLOT_MS) else {
            return;
        };
        let (bins, minutes) = (&ground.bins[index], &ground.minutes[index]);
        let load = &mut self.rounds[index];
        if load.bins.is_empty() {
            load.bins = vec![SlotSum::default(); bins.count];
            load.minutes = vec![SlotSum::default(); minutes.count];
        }
        load.sum.add(slot);
        load.bins[bins.at(slot_ms)].add(slot);
        load.minutes[minutes.at(slot_ms)].add(slot);
        if slot_ms + CURVE_TAIL_MS >= round.close_ms {
            load.tail_entries += slot.draws;
        }
    }
}
