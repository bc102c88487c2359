//! One virtual node with its players: they come, submit, hear, wait and leave.

use super::books::{Books, LeaseSide, PartLog};
use super::ground::{Ground, chance};
use super::wheel::{Entry, Wheel};
use campaign::{MacKey, MacKeys, NodeEpoch, NodeId, SLOT_MS, UserId, seed};
use lottery::core::{BUCKETS, Core, CoreConfig, Now, PlanRefused, Tally};
use lottery::ledger::{Tick, TickAnswer};
use lottery::node::leases::{Leases, Progress};
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use std::sync::Arc;
use std::task::Waker;

/// Submits of a batch: two of those that the core fetches at once.
const BATCH: usize = 64;
/// A player who stays to the end.
const TO_THE_END: u32 = u32::MAX;
/// Shards of a virtual node: one thread works on it.
const SHARDS: usize = 4;

/// What happened in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SlotSum {
    pub submits: u64,
    pub draws: u64,
    pub wins: u64,
}

/// See the module.
pub(super) struct Part {
    ground: Arc<Ground>,
    core: Core,
    log: Arc<PartLog>,
    leases: Leases,
    wheel: Wheel,
    inbox: Arc<Inbox>,
    /// The first round that is not over; rounds stand by time.
    round: usize,
    /// Players who come in this slot: (ms, number from 0), by time.
    pub incoming: Vec<(u64, u32)>,
    entries: Vec<Entry>,
    calls: Vec<SubmitCall>,
    replies: Vec<SubmitReply>,
    seed: u64,
    submits: u64,
    answered: u64,
    is_waited_for: bool,
    before: SlotSum,
    /// What happened in the last slot.
    pub slot: SlotSum,
    /// Players who ever came.
    pub came: u64,
}

impl Part {
    /// A node with room for so many players.
    pub fn new(
        ground: &Arc<Ground>,
        books: &Arc<Books>,
        node: NodeId,
        epoch: NodeEpoch,
        users: u64,
    ) -> Result<Part, PlanRefused> {
        let log_ms = u64::from(ground.setup.log_ms);
        let log = Arc::new(PartLog::new(Arc::clone(books), ground.from_ms, log_ms));
        let mac = MacKey { id: 1, key: ground.seed_key.key };
        let config = CoreConfig {
            node,
            epoch,
            shards: SHARDS,
            // Shards are uneven.
            users_max: (users + users / 16) as usize + 1_000 * SHARDS,
            // There is a key.
            mac_keys: MacKeys::new(vec![mac]).unwrap_or_else(|| unreachable!()),
            seed_keys: vec![ground.seed_key.clone()],
        };
        let core = Core::new(config, Arc::clone(&log) as Arc<dyn lottery::core::WinLog>);
        (0..BUCKETS).for_each(|bucket| core.load(bucket, []));
        core.apply(Arc::clone(&ground.plan))?;
        Ok(Part {
            leases: Leases::new(node, epoch),
            wheel: Wheel::new(ground.from_ms),
            inbox: Arc::new(Inbox::new()),
            round: 0,
            incoming: Vec::new(),
            entries: Vec::with_capacity(BATCH),
            calls: Vec::with_capacity(BATCH),
            replies: Vec::with_capacity(BATCH),
            seed: chance(ground.setup.seed, 0x5ea_5091),
            submits: 0,
            answered: 0,
            is_waited_for: false,
            before: SlotSum::default(),
            slot: SlotSum::default(),
            came: 0,
            ground: Arc::clone(ground),
            core,
            log,
        })
    }

    /// Builds the node's tick, at the beginning of a slot.
    pub fn tick(&mut self, now_ms: u64) -> Tick {
        self.log.release(now_ms);
        let progress = Progress { acknowledged: lottery::core::WinLog::acknowledged(&*self.log) };
        self.leases.tick(&self.core, now_ms, progress, false, &mut LeaseSide(&self.log, now_ms))
    }

    /// Takes the ledger's answer in.
    pub fn answered(&mut self, now_ms: u64, tick: &Tick, answer: &TickAnswer) {
        self.leases.answered(&self.core, tick, answer, &mut LeaseSide(&self.log, now_ms));
    }

    /// Leases that are sealed and not closed, and closes that the ledger refused.
    pub fn leases(&self) -> (usize, u64) {
        (self.leases.closing(), self.leases.refused())
    }

    /// Nobody here does anything before this instant; `None`: nobody is here. `now_ms`: they are busy.
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        if self.is_waited_for || self.wheel.is_busy() { Some(now_ms) } else { self.wheel.next_ms() }
    }

    /// What was decided since the beginning.
    pub fn tally(&self) -> Tally {
        self.core.tally()
    }

    /// Submits made, and answers heard.
    pub fn calls(&self) -> (u64, u64) {
        (self.submits, self.answered)
    }

    /// The log.
    pub fn log(&self) -> &PartLog {
        &self.log
    }

    /// Plays a slot.
    pub fn play(&mut self, slot_ms: u64) {
        let mut incoming = std::mem::take(&mut self.incoming);
        self.came += incoming.len() as u64;
        self.wheel.go_on(slot_ms);
        let leaves = self.leaves(slot_ms);
        for (ms, player) in incoming.drain(..) {
            self.begin(ms, Entry { player, counter: 1, leaves });
        }
        self.incoming = incoming;
        if self.wheel.is_busy() || self.is_waited_for {
            (slot_ms..slot_ms + SLOT_MS).for_each(|ms| self.step(ms));
        }
        let tally = self.core.tally();
        let now = SlotSum { submits: self.submits, draws: tally.draws, wins: tally.wins };
        let since = |now: u64, before: u64| now - before;
        self.slot = SlotSum {
            submits: since(now.submits, self.before.submits),
            draws: since(now.draws, self.before.draws),
            wins: since(now.wins, self.before.wins),
        };
        self.before = now;
    }

    /// The slot in which those leave who come in this one.
    fn leaves(&self, slot_ms: u64) -> u32 {
        let Some(stay_ms) = self.ground.setup.behaviour.stay_ms else { return TO_THE_END };
        let slot = (slot_ms - self.ground.from_ms).saturating_add(stay_ms) / SLOT_MS;
        u32::try_from(slot).unwrap_or(TO_THE_END)
    }

    fn step(&mut self, ms: u64) {
        self.wheel.go_on(ms);
        if self.is_waited_for {
            self.is_waited_for = self.log.release(ms);
            let mut replies = std::mem::take(&mut self.replies);
            self.inbox.take(&mut replies, Waker::noop());
            replies.drain(..).for_each(|reply| self.heard(ms, &reply));
            self.replies = replies;
        }
        let mut entries = std::mem::take(&mut self.entries);
        while self.wheel.take(&mut entries) {
            for entry in entries.drain(..) {
                self.enter(ms, entry);
            }
        }
        self.entries = entries;
        self.submit(ms);
    }

    /// A player submits now.
    #[inline]
    fn enter(&mut self, ms: u64, entry: Entry) {
        let plan = &self.ground.plan;
        while plan.rounds.get(self.round).is_some_and(|r| r.close_ms <= ms) {
            self.round += 1;
        }
        let Some(round) = plan.rounds.get(self.round).filter(|r| r.open_ms <= ms) else {
            return self.begin(ms, entry);
        };
        self.calls.push(SubmitCall {
            tag: u64::from(entry.leaves),
            user: u64::from(entry.player) + 1,
            campaign: plan.campaign.0,
            round: round.id.0,
            counter: entry.counter,
            shakes: self.ground.setup.behaviour.shakes,
            district: self.ground.district_of(entry.player),
        });
        if self.calls.len() == BATCH {
            self.submit(ms);
        }
    }

    fn submit(&mut self, ms: u64) {
        if self.calls.is_empty() {
            return;
        }
        let mut replies = std::mem::take(&mut self.replies);
        self.core.submit(Now { ms, may_win: true }, &self.calls, &self.inbox, &mut replies);
        self.submits += self.calls.len() as u64;
        // Whoever has no answer yet waits for the log.
        self.is_waited_for |= replies.len() < self.calls.len();
        self.calls.clear();
        replies.drain(..).for_each(|reply| self.heard(ms, &reply));
        self.replies = replies;
    }

    /// A player hears what came of his submit, and decides when he comes again.
    #[inline]
    fn heard(&mut self, ms: u64, reply: &SubmitReply) {
        self.answered += 1;
        let player = (reply.user - 1) as u32;
        let entry = Entry { player, counter: reply.next_counter, leaves: reply.tag as u32 };
        match reply.outcome {
            Outcome::LimitReached | Outcome::NotOpen => {
                if reply.until_ms != 0 {
                    self.begin(reply.until_ms.max(ms + 1), entry);
                }
            }
            Outcome::UnknownCampaign => {}
            _ => {
                let wait = u64::from(reply.next_submit_ms.max(1)) + self.jitter(entry);
                self.again(ms + wait, entry);
            }
        }
    }

    fn jitter(&self, entry: Entry) -> u64 {
        let n = u64::from(entry.player) | u64::from(entry.counter) << 32;
        seed::below(chance(self.seed, n), u64::from(self.ground.setup.behaviour.jitter_ms) + 1)
    }

    /// The next submit, at an instant: in this round, or else at the beginning of the next one.
    #[inline]
    fn again(&mut self, at_ms: u64, entry: Entry) {
        let round = self.ground.plan.rounds.get(self.round);
        if round.is_some_and(|r| at_ms < r.close_ms && r.open_ms <= at_ms) {
            self.wait(at_ms, entry);
        } else {
            self.begin(at_ms, entry);
        }
    }

    /// The first submit of the round that runs at an instant, or of the next one. A player for whom there is none
    /// leaves.
    fn begin(&mut self, from_ms: u64, entry: Entry) {
        let plan = &self.ground.plan;
        let behaviour = &self.ground.setup.behaviour;
        let delay_ms = plan.stagger.delay_ms(UserId(u64::from(entry.player) + 1));
        let first = plan.rounds.partition_point(|r| r.close_ms <= from_ms);
        let start = |r: &campaign::Round| from_ms.max(r.open_ms + delay_ms);
        let later = plan.rounds.iter().enumerate().skip(first);
        let Some((index, round)) = later.into_iter().find(|(_, r)| start(r) < r.close_ms) else { return };
        let n = u64::from(entry.player) | u64::from(round.id.0) << 32;
        let late_ms = seed::below(chance(!self.seed, n), u64::from(behaviour.first_within_ms) + 1);
        let at_ms = (start(round) + late_ms).min(round.close_ms - 1);
        // Within a round the counter goes on; it is told with each answer.
        let is_same = index == self.round && round.open_ms <= from_ms;
        let counter = if is_same { entry.counter } else { 1 };
        self.wait(at_ms, Entry { counter, ..entry });
    }

    #[inline]
    fn wait(&mut self, at_ms: u64, entry: Entry) {
        let leaves_ms = self.ground.from_ms + u64::from(entry.leaves) * SLOT_MS;
        if entry.leaves == TO_THE_END || at_ms < leaves_ms {
            self.wheel.put(at_ms, entry);
        }
    }
}
