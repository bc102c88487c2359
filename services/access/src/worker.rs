//! A thread with its own runtime, and the connections that live on it.
//!
//! A connection stays on the worker it was given to: what it touches is this thread's alone. The lock around the
//! worker's state is therefore never waited for; it is there because tasks must be `Send`, and is never held across an
//! await. Connections are polled by the runtime; once a second the worker looks through the table for those that are
//! silent, stuck or out of time, marks them and wakes them, so that no connection owns a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::Shutdown;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::accept::Incoming;
use crate::connection::Connection;
use crate::counters::Count;
use crate::desk::Desk;
use crate::gates::AddressRates;
use crate::http;
use crate::limits::{READ_BYTES, REQUEST_FRAME_MAX};
use crate::load::TICK_MS;
use crate::shared::Shared;

/// Ticks from one look through the connections to the next.
const SWEEP_TICKS: u32 = 10;

pub(crate) struct Worker {
    pub state: Mutex<State>,
    pub shared: Arc<Shared>,
    pub number: usize,
    draining: AtomicBool,
}

pub(crate) struct State {
    /// What a read brings; behind what was left of the read before.
    pub read: Box<[u8]>,
    pub desk: Desk,
    pub slots: Slots,
}

/// A connection, as its worker sees it.
#[derive(Default)]
pub(crate) struct Slot {
    waker: Option<Waker>,
    /// Cut when nothing has come by then (monotonic ms).
    deadline_ms: u64,
    /// What it is counted as then.
    late: Option<Count>,
    /// Second at which its token expires.
    expires_s: u64,
    /// Since when answers have been waiting without any being taken (monotonic ms); 0: none do.
    unsent_since_ms: u64,
    cut: Option<Count>,
    used: bool,
}

/// The table of connections.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// A place for a new connection that must have logged in by `deadline_ms`.
    pub fn open(&mut self, deadline_ms: u64, late: Count) -> u32 {
        let slot = Slot { deadline_ms, late: Some(late), expires_s: u64::MAX, used: true, ..Slot::default() };
        match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    pub fn close(&mut self, place: u32) {
        self.slots[place as usize] = Slot::default();
        self.free.push(place);
    }

    /// Something came.
    #[inline]
    pub fn heard(&mut self, place: u32, deadline_ms: u64, expires_s: u64) {
        let slot = &mut self.slots[place as usize];
        (slot.deadline_ms, slot.late, slot.expires_s) = (deadline_ms, Some(Count::Silent), expires_s);
    }

    /// Answers wait since this instant, or none do (0).
    #[inline]
    pub fn unsent(&mut self, place: u32, since_ms: u64) {
        self.slots[place as usize].unsent_since_ms = since_ms;
    }

    /// Whether the worker wants the connection gone.
    #[inline]
    pub fn is_cut(&self, place: u32) -> Option<Count> {
        self.slots[place as usize].cut
    }

    /// Whom to wake for a cut or a farewell.
    #[inline]
    pub fn wake_with(&mut self, place: u32, waker: &Waker) {
        match &mut self.slots[place as usize].waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn sweep(&mut self, mono_ms: u64, now_s: u64, unsent_ms: u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used && slot.cut.is_none()) {
            let stuck = slot.unsent_since_ms != 0 && mono_ms >= slot.unsent_since_ms + unsent_ms;
            slot.cut = if stuck {
                Some(Count::SlowReader)
            } else if mono_ms >= slot.deadline_ms {
                slot.late
            } else if now_s >= slot.expires_s {
                Some(Count::Expired)
            } else {
                None
            };
            if let (Some(_), Some(waker)) = (slot.cut, slot.waker.as_ref()) {
                waker.wake_by_ref();
            }
        }
    }

    fn wake_all(&self) {
        self.slots.iter().filter_map(|slot| slot.waker.as_ref()).for_each(Waker::wake_by_ref);
    }
}

impl Worker {
    pub fn new(shared: Arc<Shared>, number: usize, token_mark_key: (u64, u64)) -> Arc<Self> {
        let state = State {
            read: vec![0; REQUEST_FRAME_MAX + 4 + READ_BYTES].into_boxed_slice(),
            desk: Desk::new(Arc::clone(&shared), number, token_mark_key),
            slots: Slots::default(),
        };
        Arc::new(Self { state: Mutex::new(state), shared, number, draining: AtomicBool::new(false) })
    }

    pub fn count(&self, count: Count, by: u64) {
        self.shared.faces[self.number].counters.add(count, by);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A connection has ended.
    pub fn closed(&self, place: u32) {
        self.state.lock().slots.close(place);
        self.count(Count::Closed, 1);
        self.shared.faces[self.number].connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Runs on the calling thread until shutdown, and then until its connections are gone or their time is up.
    pub fn run(
        self: Arc<Self>,
        incoming: mpsc::Receiver<Incoming>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        runtime.block_on(self.serve(incoming, shutdown));
        Ok(())
    }

    async fn serve(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>, shutdown: &Shutdown) {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut meter = Meter::new(self.shared.clock.mono_ns());
        let mut ticks = 0u32;
        let ended = shutdown.wait();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                next = incoming.recv() => match next {
                    Some(next) => self.welcome(next),
                    None => break,
                },
                _ = tick.tick() => {
                    ticks += 1;
                    self.tick(&mut meter, ticks);
                }
                () = &mut ended => break,
            }
        }
        self.drain(incoming).await;
    }

    /// Starts a connection's task on this thread's runtime. The table of slots tracks it: a bare spawn is not lost.
    fn welcome(self: &Arc<Self>, incoming: Incoming) {
        let runtime = tokio::runtime::Handle::current();
        match incoming {
            Incoming::Frames(stream, peer) => match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => drop(runtime.spawn(Connection::new(self, stream, peer))),
                Err(error) => self.not_taken(&error),
            },
            Incoming::Http(stream, peer) => match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => drop(runtime.spawn(http::serve(self, stream, peer))),
                Err(error) => self.not_taken(&error),
            },
        }
        self.count(Count::Connections, 1);
    }

    fn not_taken(&self, error: &std::io::Error) {
        tracing::warn!(%error, "a new connection could not be taken");
        self.count(Count::Closed, 1);
        self.shared.faces[self.number].connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn tick(&self, meter: &mut Meter, ticks: u32) {
        let (ran_ns, passed_ns) = meter.read(self.shared.clock.mono_ns());
        let mut state = self.state.lock();
        state.desk.gauge.observe(ran_ns, passed_ns);
        let load = state.desk.gauge.load();
        self.shared.faces[self.number].load.store(load, Ordering::Relaxed);
        if !ticks.is_multiple_of(SWEEP_TICKS) {
            return;
        }
        let now_s = self.shared.clock.now_ms() / 1000;
        state.slots.sweep(self.shared.mono_ms(), now_s, self.shared.limits.unsent_ms.into());
        drop(state);
        if self.number == 0 {
            self.shared.rates.sweep(AddressRates::from(&self.shared.live));
        }
    }

    async fn drain(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>) {
        incoming.close();
        while let Some(late) = incoming.recv().await {
            // Accepted, not yet served: closing it is all there is to say.
            drop(late);
            self.shared.faces[self.number].connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.draining.store(true, Ordering::Relaxed);
        self.state.lock().slots.wake_all();
        let until_ms = self.shared.mono_ms() + u64::from(self.shared.limits.drain_ms);
        while self.shared.faces[self.number].connections.load(Ordering::Relaxed) > 0
            && self.shared.mono_ms() < until_ms
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How long this thread ran, from reading to reading.
struct Meter {
    ran_ns: u64,
    at_ns: u64,
}

impl Meter {
    fn new(mono_ns: u64) -> Self {
        Self { ran_ns: thread_ns(), at_ns: mono_ns }
    }

    fn read(&mut self, mono_ns: u64) -> (u64, u64) {
        let ran_ns = thread_ns();
        let read = (ran_ns.saturating_sub(self.ran_ns), mono_ns.saturating_sub(self.at_ns));
        (self.ran_ns, self.at_ns) = (ran_ns, mono_ns);
        read
    }
}

/// CPU time of the calling thread, in ns.
fn thread_ns() -> u64 {
    let ran = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    ran.tv_sec.unsigned_abs() * 1_000_000_000 + ran.tv_nsec.unsigned_abs()
}
