//! Virtual time: slot after slot of 100 ms. At the beginning of each the nodes' ticks go to the ledger, one after the
//! other; then all parts play the slot side by side and wait for each other.
//!
//! Nothing that happens within a slot depends on which thread was faster: parts share no lease and no player, and
//! what they add to the common books is added in any order. Time in which nobody does anything is skipped.

use super::books::Books;
use super::ground::Ground;
use super::part::Part;
use super::record::Recorder;
use super::{Progress, RehearseError};
use campaign::{NodeEpoch, NodeId, SLOT_MS};
use futures_util::FutureExt as _;
use hashring::{BUCKET_COUNT, Member, Ring};
use lottery::ledger::{MemoryLedger, PrizeReport, QuotaLedger as _};
use parking_lot::Mutex;
use runtime::ManualClock;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

/// Time is skipped after so many slots in which nobody submitted: by then leases have come to rest.
const QUIET_SLOTS: u32 = 30;
/// Nodes tick for so long before somebody comes, ms.
const WARM_UP_MS: u64 = 2_000;
/// Closed leases are dropped so often, ms.
const PRUNE_MS: u64 = 3_600_000;
/// Slots between two calls of the observer.
const TELL_SLOTS: u64 = 5;

/// A future of the ledger in memory, which never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match future.now_or_never() {
        Some(done) => done,
        None => unreachable!("the ledger in memory never waits"),
    }
}

fn ledger_error(error: impl std::fmt::Display) -> RehearseError {
    RehearseError::Ledger(error.to_string())
}

/// Everything there is.
pub(super) struct World {
    pub ground: Arc<Ground>,
    pub books: Arc<Books>,
    pub recorder: Recorder,
    parts: Vec<Mutex<Part>>,
    clock: Arc<ManualClock>,
    ledger: MemoryLedger,
    /// Part of each bucket of users.
    owners: Vec<u16>,
    /// Players that have come.
    come: u64,
    /// Slots in which nobody submitted, until now.
    quiet: u32,
    /// Close of a round in which leases were asked for and that no tick has seen over yet.
    edge_ms: Option<u64>,
    pruned_ms: u64,
    slots: u64,
}

/// What the threads of a rehearsal wait for.
struct Crew {
    barrier: Barrier,
    slot_ms: AtomicU64,
    is_over: AtomicBool,
    has_failed: AtomicBool,
}

/// Sends the threads home, also when the rehearsal ends otherwise than expected.
struct Leader<'a>(&'a Crew);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        self.0.barrier.wait();
    }
}

impl World {
    pub fn new(ground: Arc<Ground>) -> Result<World, RehearseError> {
        let count = ground.setup.parts();
        let members: Vec<Member> = (0..count).map(|i| Member { node: i as u16, weight: 1 }).collect();
        let ring = Ring::new(&members, 1).map_err(ledger_error)?;
        let bucket = |b: usize| hashring::Bucket::new(b as u16).map_or(0, |b| ring.owner(b));
        let owners: Vec<u16> = (0..BUCKET_COUNT).map(bucket).collect();
        let mut users = vec![0u64; count];
        for user in 1..=ground.setup.players {
            users[usize::from(owners[usize::from(hashring::bucket_of(user).get())])] += 1;
        }
        let clock = ManualClock::new(ground.from_ms);
        let ledger = MemoryLedger::new(clock.clone());
        now(ledger.register(&ground.plan)).map_err(ledger_error)?;
        let books = Arc::new(Books::new(Arc::clone(&ground)));
        let mut parts = Vec::with_capacity(count);
        for (i, users) in users.into_iter().enumerate() {
            let node = NodeId(i as u16 + 1);
            let epoch = now(ledger.begin_epoch(node, NodeEpoch(0))).map_err(ledger_error)?;
            parts.push(Mutex::new(Part::new(&ground, &books, node, epoch, users)?));
        }
        Ok(World {
            recorder: Recorder::new(&ground),
            pruned_ms: ground.from_ms,
            ground,
            books,
            parts,
            clock,
            ledger,
            owners,
            come: 0,
            quiet: 0,
            edge_ms: None,
            slots: 0,
        })
    }

    /// Plays the whole campaign.
    pub fn run(
        &mut self,
        observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), RehearseError> {
        let parts = std::mem::take(&mut self.parts);
        let threads = self.ground.setup.threads.min(parts.len());
        let crew = Crew {
            barrier: Barrier::new(threads),
            slot_ms: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        };
        let done = std::thread::scope(|scope| {
            for thread in 1..threads {
                let (crew, parts) = (&crew, &parts);
                scope.spawn(move || {
                    loop {
                        crew.barrier.wait();
                        if crew.is_over.load(Ordering::SeqCst) {
                            return;
                        }
                        crew.play(parts, thread, threads);
                        crew.barrier.wait();
                    }
                });
            }
            let leader = Leader(&crew);
            self.lead(leader.0, &parts, threads, observe)
        });
        self.parts = parts;
        done
    }

    fn lead(
        &mut self,
        crew: &Crew,
        parts: &[Mutex<Part>],
        threads: usize,
        observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), RehearseError> {
        let mut slot_ms = self.ground.from_ms;
        loop {
            self.ticks(parts, slot_ms)?;
            self.hand_out(parts, slot_ms);
            crew.slot_ms.store(slot_ms, Ordering::SeqCst);
            crew.barrier.wait();
            crew.play(parts, 0, threads);
            crew.barrier.wait();
            if crew.has_failed.load(Ordering::SeqCst) {
                return Err(RehearseError::Broken);
            }
            self.look(parts, slot_ms);
            self.slots += 1;
            if self.slots.is_multiple_of(TELL_SLOTS) && observe(&self.progress(slot_ms)).is_break() {
                return Err(RehearseError::Cancelled);
            }
            match self.next_slot(parts, slot_ms) {
                Some(next) => slot_ms = next,
                None => return Ok(()),
            }
        }
    }

    /// Each node's call to the ledger.
    fn ticks(&mut self, parts: &[Mutex<Part>], slot_ms: u64) -> Result<(), RehearseError> {
        use runtime::Clock as _;
        self.clock.advance_ms(slot_ms - self.clock.now_ms());
        for part in parts {
            let mut part = part.lock();
            let tick = part.tick(slot_ms);
            let answer = now(self.ledger.tick(&tick)).map_err(ledger_error)?;
            part.answered(slot_ms, &tick, &answer);
        }
        if self.edge_ms.is_some_and(|edge| edge <= slot_ms) {
            self.edge_ms = None;
        }
        let rounds = &self.ground.plan.rounds;
        let round = rounds.get(rounds.partition_point(|r| r.close_ms <= slot_ms));
        if let Some(round) = round.filter(|r| r.open_ms <= slot_ms + WARM_UP_MS) {
            self.edge_ms = Some(round.close_ms);
        }
        if slot_ms - self.pruned_ms >= PRUNE_MS {
            self.pruned_ms = slot_ms;
            now(self.ledger.prune()).map_err(ledger_error)?;
        }
        Ok(())
    }

    /// Gives each part the players that come to it in this slot.
    fn hand_out(&mut self, parts: &[Mutex<Part>], slot_ms: u64) {
        let come = self.ground.come_by(slot_ms + SLOT_MS);
        let count = come - self.come;
        if count == 0 {
            return;
        }
        let mut incoming: Vec<_> = parts.iter().map(|p| p.lock()).collect();
        for k in self.come..come {
            let bucket = hashring::bucket_of(k + 1).get();
            let ms = slot_ms + (k - self.come) * SLOT_MS / count;
            incoming[usize::from(self.owners[usize::from(bucket)])].incoming.push((ms, k as u32));
        }
        self.come = come;
    }

    fn look(&mut self, parts: &[Mutex<Part>], slot_ms: u64) {
        let mut submits = 0;
        for (i, part) in parts.iter().enumerate() {
            let slot = part.lock().slot;
            submits += slot.submits;
            self.recorder.slot(&self.ground, i, slot_ms, slot);
        }
        self.quiet = if submits > 0 { 0 } else { self.quiet + 1 };
    }

    /// The next slot in which something can happen; `None`: everybody has left, and all leases are closed.
    fn next_slot(&self, parts: &[Mutex<Part>], slot_ms: u64) -> Option<u64> {
        let next = slot_ms + SLOT_MS;
        let mut due = self.edge_ms;
        let mut earlier = |at: Option<u64>| due = due.into_iter().chain(at).min();
        let mut is_closing = false;
        for part in parts {
            let part = part.lock();
            earlier(part.next_ms(next));
            is_closing |= part.leases().0 > 0;
        }
        earlier(self.ground.next_arrival_ms(self.come));
        if is_closing {
            return Some(next);
        }
        let due = due?;
        if self.quiet < QUIET_SLOTS || due < next + WARM_UP_MS + SLOT_MS {
            return Some(next);
        }
        Some((due - WARM_UP_MS) / SLOT_MS * SLOT_MS)
    }

    fn progress(&self, slot_ms: u64) -> Progress {
        let last_ms = self.ground.plan.rounds.last().map_or(slot_ms, |r| r.close_ms);
        let (from_ms, sum) = (self.ground.from_ms, self.recorder.sum());
        let permille = (slot_ms - from_ms).min(last_ms - from_ms) * 1_000 / (last_ms - from_ms).max(1);
        let (submits, draws, wins) = (sum.submits, sum.draws, sum.wins);
        Progress { at_ms: slot_ms, permille: permille as u32, come: self.come, submits, draws, wins }
    }

    /// The parts, once all is over.
    pub fn parts(&mut self) -> Vec<&mut Part> {
        self.parts.iter_mut().map(Mutex::get_mut).collect()
    }

    /// Players that came.
    pub fn come(&self) -> u64 {
        self.come
    }

    /// The ledger's prizes, once all is over.
    pub fn ledger(&self) -> Result<Vec<PrizeReport>, RehearseError> {
        now(self.ledger.prizes(self.ground.plan.campaign)).map_err(ledger_error)
    }
}

impl Crew {
    /// Plays the slot for this thread's parts. What breaks down here must not leave the others waiting.
    fn play(&self, parts: &[Mutex<Part>], thread: usize, threads: usize) {
        let slot_ms = self.slot_ms.load(Ordering::SeqCst);
        let mine = parts.iter().skip(thread).step_by(threads);
        let play = || mine.for_each(|part| part.lock().play(slot_ms));
        if catch_unwind(AssertUnwindSafe(play)).is_err() {
            self.has_failed.store(true, Ordering::SeqCst);
        }
    }
}
