//! What goes wrong: networks, nodes and the store, and the end of all trouble.

use super::{Event, World};
use chat::cluster::Batch;

impl World {
    /// When the break is over, if there is one now.
    pub fn pauses_until(&self) -> Option<u64> {
        self.pause.filter(|(from, to)| (*from..*to).contains(&self.now_ms)).map(|(_, to)| to)
    }

    /// One in `n`, while things go wrong.
    pub fn trouble(&mut self, n: u64) -> bool {
        n > 0 && self.rng.one_in(n) && !self.is_calm
    }

    /// Sends something over the network: it may be lost, doubled, late.
    pub fn post(&mut self, make: impl Fn() -> Event) -> bool {
        let n = self.config.network_trouble;
        if self.trouble(n) {
            match self.rng.below(3) {
                0 => return true,
                1 => {
                    let wait = self.between(1, 400);
                    self.push(wait, make());
                }
                _ => {
                    let wait = self.between(500, 6_000);
                    self.push(wait, make());
                    return true;
                }
            }
        }
        let wait = self.between(1, 15);
        self.push(wait, make());
        false
    }

    /// Whether something in a batch is such that the store refuses all of it.
    pub(super) fn refuses(&self, batch: &Batch) -> bool {
        let step = &batch.step;
        let ids = step.conversations.iter().map(|c| c.rows.id).chain(step.timelines.iter().map(|t| t.user));
        let mut ids = ids.chain(step.fanned.iter().map(|(id, _)| *id));
        ids.any(|id| self.refuses.get(&id).is_some_and(|until_ms| self.now_ms < *until_ms))
    }

    /// The store refuses a conversation or a user for a while.
    fn damage(&mut self) {
        let ids: Vec<u64> = match self.rng.one_in(2) {
            true => self.store.tables.conversations.keys().copied().collect(),
            false => self.users.iter().map(|user| user.id).collect(),
        };
        if !ids.is_empty() {
            let id = ids[self.rng.below(ids.len() as u64) as usize];
            let until_ms = self.now_ms + self.between(500, 12_000);
            self.refuses.insert(id, until_ms);
            self.say(format_args!("the store refuses {id}"));
        }
    }

    /// Something goes wrong.
    pub(super) fn upset(&mut self) {
        if self.is_calm || self.upsets == 0 {
            return;
        }
        if let Some(until_ms) = self.pauses_until() {
            // What is not idle does not leave memory.
            let wait = until_ms - self.now_ms + self.between(0, 1_000);
            return self.push(wait, Event::Upset);
        }
        self.upsets -= 1;
        let n = self.rng.below(self.nodes.len() as u64) as usize;
        match self.rng.below(8) {
            6 | 7 => self.damage(),
            0 | 1 => {
                let wait = self.between(50, 3_000);
                self.kill(n, wait);
            }
            2 | 3 => {
                self.counters.freezes += 1;
                let wait = self.between(500, 6_000);
                self.nodes[n].frozen_until = self.now_ms + wait;
                self.say(format_args!("node {} stands still", n + 1));
                self.push(wait, Event::Wakes(n));
            }
            4 => {
                let is_draining = &mut self.nodes[n].is_draining;
                *is_draining = !*is_draining;
                let is_draining = *is_draining;
                self.say(format_args!("node {} gives its buckets up: {is_draining}", n + 1));
            }
            _ => {
                self.outage_until = self.now_ms + self.between(200, 1_500);
                self.say(format_args!("the store can't be reached"));
            }
        }
        let wait = self.between(300, 2_500);
        self.push(wait, Event::Upset);
    }

    /// A node is gone, and comes back.
    pub fn kill(&mut self, n: usize, back_ms: u64) {
        self.counters.kills += u64::from(self.nodes[n].up.is_some());
        self.nodes[n].life += 1;
        self.nodes[n].up = None;
        self.nodes[n].frozen_until = 0;
        self.say(format_args!("node {} is gone", n + 1));
        self.push(back_ms, Event::Begin(n));
    }

    /// Everything is repaired.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.outage_until = 0;
        self.refuses.clear();
        self.say(format_args!("everything is repaired"));
        for node in &mut self.nodes {
            node.frozen_until = 0;
            node.is_draining = false;
        }
    }
}
