//! Random histories of a node that is given up and comes back: what gets into its lane in any order that can be, and what
//! readers must make of it.

use super::{Log, ended};
use bytes::Bytes;
use proptest::prelude::*;
use queue::lanes::{LaneState, Place, Verdict, foreign_mark};
use std::collections::BTreeMap;

const NODE: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// The living process writes so many groups and ships what it has not shipped, all but so many.
    Work { groups: usize, keeps: usize },
    /// It repeats from so many groups back.
    Again { back: usize },
    /// A process that lost its epoch ships so many of what it has left.
    Zombie { which: usize, groups: usize },
    /// The living process ends its epoch and begins the next.
    EndsItself,
    /// Another one ends it; a new process begins, on the same disk or on a new one.
    IsEnded { new_disk: bool, twice: bool },
    /// A mark that somebody had sent long ago arrives.
    LateMark { back: u32 },
    /// An epoch that was begun and has shipped nothing is ended.
    Stillborn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..4, 0usize..3).prop_map(|(groups, keeps)| Step::Work { groups, keeps }),
        2 => (1usize..6).prop_map(|back| Step::Again { back }),
        3 => (0usize..4, 1usize..4).prop_map(|(which, groups)| Step::Zombie { which, groups }),
        1 => Just(Step::EndsItself),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(new_disk, twice)| Step::IsEnded { new_disk, twice }),
        2 => (1u32..4).prop_map(|back| Step::LateMark { back }),
        1 => Just(Step::Stillborn),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A process with its epoch's groups, and how many of them it has sent.
struct Process {
    log: Log,
    groups: Vec<Bytes>,
    sent: usize,
}

struct World {
    lane: Vec<Bytes>,
    state: LaneState,
    alive: Process,
    zombies: Vec<Process>,
    /// How many of an epoch's groups were in the lane when it ended, in order: those are the ones that count.
    counted: BTreeMap<u32, Vec<Bytes>>,
    ended: u32,
}

impl World {
    fn new() -> World {
        let alive = Process { log: Log::new(NODE, 1), groups: Vec::new(), sent: 0 };
        let (lane, zombies) = (Vec::new(), Vec::new());
        World { lane, state: LaneState::ORIGIN, alive, zombies, counted: BTreeMap::new(), ended: 0 }
    }

    fn put(&mut self, message: Bytes) {
        self.state.accept(NODE, &message).unwrap_or_else(|fault| panic!("{fault}"));
        self.lane.push(message);
    }

    fn ship(&mut self, count: usize) {
        let to = (self.alive.sent + count).min(self.alive.groups.len());
        for i in self.alive.sent..to {
            let group = self.alive.groups[i].clone();
            self.counted.entry(self.alive.log.epoch).or_default().push(group.clone());
            self.put(group);
        }
        self.alive.sent = to;
    }

    fn mark(&mut self, epoch: u32) {
        self.ended = self.ended.max(epoch);
        self.put(Bytes::from(foreign_mark(NODE, epoch, &ended(NODE, epoch), 0).unwrap()));
    }

    /// The next process, under the next epoch, when the lane has the end of the one before.
    fn next_process(&mut self, new_disk: bool, skipped: u32) {
        let mut log = self.alive.log.clone();
        let epoch = log.epoch + 1 + skipped;
        log.begin(epoch);
        log.next = if new_disk { self.state.next.0 } else { log.next.max(self.state.next.0) };
        let next = Process { log, groups: Vec::new(), sent: 0 };
        self.zombies.push(std::mem::replace(&mut self.alive, next));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Work { groups, keeps } => {
                let new = self.alive.log.groups(groups);
                self.alive.groups.extend(new);
                let waiting = self.alive.groups.len() - self.alive.sent;
                self.ship(waiting.saturating_sub(keeps));
            }
            Step::Again { back } => {
                for i in self.alive.sent.saturating_sub(back)..self.alive.sent {
                    self.put(self.alive.groups[i].clone());
                }
            }
            Step::Zombie { which, groups } => {
                let Some(zombie) = self.zombies.get_mut(which) else { return };
                let to = (zombie.sent + groups).min(zombie.groups.len());
                let late: Vec<Bytes> = zombie.groups[zombie.sent.saturating_sub(1)..to].to_vec();
                zombie.sent = to;
                late.into_iter().for_each(|m| self.put(m));
            }
            Step::EndsItself => {
                let end = self.alive.log.group(&[&ended(NODE, self.alive.log.epoch)]);
                self.alive.groups.push(end);
                self.ship(usize::MAX / 2);
                self.ended = self.alive.log.epoch;
                self.next_process(false, 0);
            }
            Step::IsEnded { new_disk, twice } => {
                let epoch = self.alive.log.epoch;
                (0..=usize::from(twice)).for_each(|_| self.mark(epoch));
                self.next_process(new_disk, 0);
            }
            Step::LateMark { back } => {
                if let Some(epoch) = self.ended.checked_sub(back - 1).filter(|e| *e > 0) {
                    self.mark(epoch);
                }
            }
            Step::Stillborn => {
                let epoch = self.alive.log.epoch;
                self.mark(epoch);
                self.mark(epoch + 1);
                self.next_process(false, 1);
            }
        }
    }
}

/// All that counts from a state on.
fn read(mut state: LaneState, messages: &[Bytes]) -> Vec<(Place, Bytes)> {
    let mut counts = Vec::new();
    for message in messages {
        if let Verdict::Accepted(place) = state.accept(NODE, message).unwrap() {
            counts.push((place, message.clone()));
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_was_there_before_its_end_counts_once_and_nothing_else(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        let all = read(LaneState::ORIGIN, &world.lane);
        let mut counted: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
        for (place, bytes) in all.iter().filter(|(place, _)| !place.is_mark) {
            counted.entry(place.epoch).or_default().push(bytes.clone());
        }
        prop_assert_eq!(&counted, &world.counted);
        let rise = all.windows(2).all(|w| w[0].0.position < w[1].0.position && w[0].0.epoch <= w[1].0.epoch);
        prop_assert!(rise);
        // A reader that begins anywhere, with what another one had written down there, sees the same.
        let mut state = LaneState::ORIGIN;
        for (i, message) in world.lane.iter().enumerate() {
            let kept = LaneState::from_text(&state.to_text()).unwrap();
            let rest: Vec<_> = all.iter().filter(|(place, _)| place.position >= state.next).cloned().collect();
            prop_assert_eq!(read(kept, &world.lane[i..]), rest);
            state.accept(NODE, message).unwrap();
        }
        prop_assert_eq!(state, world.state);
    }
}
