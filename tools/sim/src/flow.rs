//! Flow on virtual time: its own loops, stepped one stage at a time, killed between any two of them.

use crate::cluster::LANES;
use crate::plan::mac_keys;
use crate::world::{Event, World, now};
use campaign::{AwardId, Plan, UserId};
use flow::core::{EtaLimits, PlanSet, PlanView, RepeatConfig};
use flow::service::events::EventsWorker;
use flow::service::handle::FlowHandle;
use flow::service::lane::LaneWorker;
use flow::service::live::LiveStatistics;
use flow::service::progress::FlowProgress;
use flow::service::repeat::RepeatWorker;
use flow::service::{FlowError, FlowParts, GROUP};
use flow::store::MemoryAwardStore;
use protocol::calls::{Awards as _, CallError};
use protocol::v1::AwardState;
use queue::memory::MemoryQueue;
use queue::{JOURNAL, LANE, ORDERS, TopicOptions};
use runtime::ManualClock;
use std::sync::Arc;

/// A step of flow.
pub(crate) enum FlowStep {
    /// A new process begins.
    Start,
    /// A stage of the lane's loop.
    Lane,
    /// A stage of the loop over delivery's journal.
    Events,
    /// A look for orders that delivery has not journalled.
    Repeat,
}

/// Flow, alive or not, and what survives it.
pub(crate) struct FlowSide {
    pub life: u32,
    pub queue: MemoryQueue,
    pub store: MemoryAwardStore,
    pub plans: Arc<PlanSet>,
    clock: Arc<ManualClock>,
    alive: Option<Alive>,
    /// It reads nothing of the lanes until then.
    pub rests_until: u64,
    #[cfg_attr(not(feature = "planted"), allow(dead_code))]
    accepts_ended: bool,
}

struct Alive {
    lane: LaneWorker,
    events: EventsWorker,
    repeat: RepeatWorker,
    handle: FlowHandle,
}

impl FlowSide {
    pub fn new(clock: Arc<ManualClock>, plan: &Plan, accepts_ended: bool) -> FlowSide {
        let topics = [
            TopicOptions::new(LANE).with_partitions(LANES),
            TopicOptions::new(ORDERS).with_partitions(3),
            TopicOptions::new(JOURNAL).with_partitions(2),
        ];
        // The names are constants that the queue takes.
        let queue = MemoryQueue::new(topics).unwrap_or_else(|e| unreachable!("{e}"));
        let plans = Arc::new(PlanSet::new());
        plans.insert(plan);
        let store = MemoryAwardStore::new();
        FlowSide { life: 0, queue, store, plans, clock, alive: None, rests_until: 0, accepts_ended }
    }

    /// There is somebody to ask.
    pub fn is_up(&self) -> bool {
        self.alive.is_some()
    }

    fn start(&self) -> Result<Alive, FlowError> {
        let parts = FlowParts {
            queue: Arc::new(self.queue.clone()),
            store: Arc::new(self.store.clone()),
            plans: Arc::clone(&self.plans) as Arc<dyn PlanView>,
            keys: mac_keys(),
            clock: self.clock.clone(),
            repeat: RepeatConfig { interval_ms: 2_000, grace_ms: 500 },
            eta: EtaLimits::default(),
        };
        let progress = Arc::new(FlowProgress::default());
        let live = Arc::new(LiveStatistics::new(now(parts.store.statistics())?, 0));
        #[cfg_attr(not(feature = "planted"), allow(unused_mut))]
        let mut lane = now(LaneWorker::new(&parts, Arc::clone(&progress), Arc::clone(&live)))?;
        #[cfg(feature = "planted")]
        if self.accepts_ended {
            lane.plant_accept_ended();
        }
        Ok(Alive {
            lane,
            events: now(EventsWorker::new(&parts, Arc::clone(&progress), Arc::clone(&live)))?,
            repeat: RepeatWorker::new(&parts, Arc::clone(&progress))?,
            handle: FlowHandle::new(&parts, progress, live)?,
        })
    }
}

impl World {
    fn flow_push(&mut self, in_ms: u64, step: FlowStep) {
        self.push(in_ms, Event::Flow(self.flow.life, step));
    }

    pub fn flow_restart(&mut self, in_ms: u64) {
        self.flow.life += 1;
        self.flow.alive = None;
        self.flow_push(in_ms, FlowStep::Start);
    }

    pub fn flow_kill(&mut self) {
        self.note(format_args!("flow is killed"));
        let wait = self.between(10, 1_000);
        self.flow_restart(wait);
    }

    pub fn flow_step(&mut self, life: u32, step: FlowStep) {
        if life != self.flow.life {
            return;
        }
        if self.trouble(800) {
            let (topic, queue) = (if self.rng.one_in(2) { LANE } else { JOURNAL }, self.flow.queue.clone());
            self.note(format_args!("the queue gives flow what it has not committed of {topic} again"));
            if let Err(error) = queue.redeliver(topic, GROUP) {
                self.problem(format!("redelivery: {error}"));
            }
        }
        match step {
            FlowStep::Start => self.flow_starts(),
            FlowStep::Lane if self.now_ms() < self.flow.rests_until => self.flow_push(50, FlowStep::Lane),
            FlowStep::Lane => self.flow_loop(true),
            FlowStep::Events => self.flow_loop(false),
            FlowStep::Repeat => {
                let Some(alive) = &mut self.flow.alive else { return };
                let done = now(alive.repeat.step());
                let wait = self.flow_went(done.map(|_| true)).unwrap_or(true);
                let pause = if wait { 200 } else { 50 };
                self.flow_push(pause, FlowStep::Repeat);
            }
        }
    }

    fn flow_starts(&mut self) {
        match self.flow.start() {
            Ok(alive) => {
                self.note(format_args!("flow begins"));
                self.flow.alive = Some(alive);
                for step in [FlowStep::Lane, FlowStep::Events, FlowStep::Repeat] {
                    self.flow_push(1, step);
                }
            }
            Err(error) => self.problem(format!("flow does not start: {error}")),
        }
    }

    fn flow_loop(&mut self, is_lane: bool) {
        let Some(alive) = &mut self.flow.alive else { return };
        let done = if is_lane { now(alive.lane.step()) } else { now(alive.events.step()) };
        let step = if is_lane { FlowStep::Lane } else { FlowStep::Events };
        let wait = match self.flow_went(done) {
            Some(true) => self.between(0, 8),
            Some(false) => self.between(10, 60),
            None => 50,
        };
        self.flow_push(wait, step);
    }

    fn flow_went(&mut self, done: Result<bool, FlowError>) -> Option<bool> {
        match done {
            Ok(more) => Some(more),
            Err(error) if error.is_retryable() => {
                self.note(format_args!("flow waits: {error}"));
                None
            }
            Err(error) => {
                self.problem(format!("flow stopped: {error}"));
                None
            }
        }
    }

    /// A claim: taken, refused, or to be tried again.
    pub fn flow_claim(&mut self, user: UserId, award: AwardId) -> Option<bool> {
        let alive = self.flow.alive.as_ref()?;
        match now(alive.handle.claim(user, award)) {
            Ok(view) => Some(view.state != AwardState::Lapsed as i32),
            // Not found: the node went down before it could ship its log, and has not come back for seconds.
            Err(CallError::Busy(_) | CallError::Unavailable(_) | CallError::NotFound(_)) => None,
            Err(_) => Some(false),
        }
    }

    pub fn flow_at_rest(&self) -> bool {
        let lag = |topic| self.flow.queue.lag(topic, GROUP).unwrap_or(u64::MAX);
        self.flow.alive.is_some() && lag(LANE) == 0 && lag(JOURNAL) == 0
    }
}
