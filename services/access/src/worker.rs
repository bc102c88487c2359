//! A thread with its own runtime, and the connections that live on it.
//!
//! A connection stays on the worker it was given to: what it touches is this thread's alone. The lock around the
//! worker's state is therefore never waited for; it is there because tasks must be `Send`, and is never held across an
//! await. Connections are polled by the runtime; once a second the worker looks through the table for those that are
//! silent, stuck or out of time, marks them and wakes them, so that no connection owns a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use runtime::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::accept::Incoming;
use crate::connection::Connection;
use crate::counters::Count;
use crate::desk::Desk;
use crate::gates::AddressRates;
use crate::http;
use crate::limits::{BEAT_MS, READ_BYTES, REQUEST_FRAME_MAX};
use crate::load::TICK_MS;
use crate::pending::Pending;
use crate::shared::Shared;
use crate::slots::Slots;
use crate::stream::Stream;

/// Ticks from one look through the connections to the next.
const SWEEP_TICKS: u32 = 10;

/// Ticks from one report to chat to the next.
const BEAT_TICKS: u32 = (BEAT_MS / TICK_MS) as u32;

/// Places beyond a worker's share of the connections.
const SPARE_PLACES: usize = 1_024;

/// Places for which a worker has room from the beginning, at most.
const ROOM_MAX: usize = 1 << 18;

/// What waking a connection and writing to its socket takes, about.
const PUSH_WRITE: Duration = Duration::from_micros(6);

/// For less than this pushes are not gathered: a timer, which can't be set finer than a ms, would take longer, and what goes to
/// so few connections is for a different one each time.
const PUSH_REST_MIN: Duration = Duration::from_millis(2);

/// Pushes are gathered for so long at most.
const PUSH_REST_MAX: Duration = Duration::from_millis(20);

pub(crate) struct Worker {
    pub state: Mutex<State>,
    pub shared: Arc<Shared>,
    pub number: usize,
    /// Connections end as soon as nothing is under way on them.
    draining: AtomicBool,
    /// Connections are asked to go elsewhere, and HTTP connections end.
    leaving: AtomicBool,
}

/// A connection's place in the worker's table, given back when this is dropped.
pub(crate) struct Place {
    worker: Arc<Worker>,
    place: u32,
    kept: bool,
}

pub(crate) struct State {
    /// What a read brings; behind what was left of the read before.
    pub read: Box<[u8]>,
    pub desk: Desk,
    pub slots: Slots,
    pub pending: Pending,
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        number: usize,
        token_mark_key: (u64, u64),
        first_generation: u32,
    ) -> Arc<Self> {
        // New ones go to the worker that has the fewest.
        let share = shared.limits.connections_max as usize / (shared.faces.len() - 1).max(1);
        let room = (share + SPARE_PLACES).min(ROOM_MAX);
        let state = State {
            read: vec![0; REQUEST_FRAME_MAX + 4 + READ_BYTES].into_boxed_slice(),
            desk: Desk::new(Arc::clone(&shared), number, token_mark_key),
            slots: Slots::new(first_generation, room),
            pending: Pending::new(),
        };
        let (draining, leaving) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { state: Mutex::new(state), shared, number, draining, leaving })
    }

    /// A place for a connection that must have logged in, or be heard of, in time.
    pub fn place(self: &Arc<Self>, within_ms: u32, late: Count) -> Place {
        let deadline_ms = self.shared.mono_ms() + u64::from(within_ms);
        let place = self.state.lock().slots.open(deadline_ms, late);
        Place { worker: Arc::clone(self), place, kept: false }
    }

    pub fn count(&self, count: Count, by: u64) {
        self.shared.faces[self.number].counters.add(count, by);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether HTTP connections are to end.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// A connection has ended.
    pub fn closed(&self, place: u32) {
        let mut state = self.state.lock();
        let State { slots, pending, .. } = &mut *state;
        pending.clear(&mut slots.of(place).line);
        slots.close(place);
        drop(state);
        self.count(Count::Closed, 1);
        self.shared.faces[self.number].connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Runs on the calling thread until shutdown, and then until its connections are gone or their time is up.
    pub fn run(
        self: Arc<Self>,
        incoming: mpsc::Receiver<Incoming>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .on_thread_park(runtime::spare::rest)
            .build()?;
        runtime.block_on(self.serve(incoming, shutdown));
        Ok(())
    }

    async fn serve(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>, shutdown: &Shutdown) {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut meter = Meter::new(self.shared.clock.mono_ns());
        let mut ticks = 0u32;
        let mut told_plan = 0;
        let mut mail_from = None;
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
                    self.tell_to_move(&mut told_plan);
                    if ticks.is_multiple_of(BEAT_TICKS) {
                        self.beat();
                    }
                }
                () = self.mail_from(mail_from) => mail_from = rest_after(self.sort_mail()),
                () = self.shared.faces[self.number].mail.knocked() => {
                    // Answers don't wait, and what is pushed to the same connections may share their writes.
                    if mail_from.is_none_or(|from| Instant::now() >= from) {
                        mail_from = rest_after(self.sort_mail());
                    }
                    self.hear_knocks();
                }
                () = &mut ended => break,
            }
        }
        self.drain(incoming).await;
    }

    /// Waits for pushes, but for none before an instant, if there is one.
    async fn mail_from(&self, from: Option<Instant>) {
        if let Some(from) = from {
            tokio::time::sleep_until(from).await;
        }
        self.shared.faces[self.number].mail.rung().await;
    }

    /// Pushes go to the lines of their connections; gives how many runs of them there were.
    fn sort_mail(&self) -> usize {
        let face = &self.shared.faces[self.number];
        let (parcels, dropped) = face.mail.take();
        face.counters.add(Count::PushesDropped, dropped);
        let runs = parcels.iter().map(|parcel| parcel.runs.len()).sum();
        let mono_ms = self.shared.mono_ms();
        let mut state = self.state.lock();
        let State { slots, pending, .. } = &mut *state;
        pending.sort(slots, parcels, mono_ms, &face.counters);
        runs
    }

    /// Connections that have late answers write them.
    fn hear_knocks(&self) {
        let knocks = self.shared.faces[self.number].mail.knocks();
        let state = self.state.lock();
        knocks.into_iter().for_each(|place| state.slots.wake(place));
    }

    /// Tells chat who has been heard of, every few seconds.
    fn beat(&self) {
        let Some(chat) = &self.shared.desks.chat else { return };
        let mono_ms = self.shared.mono_ms();
        let mut state = self.state.lock();
        let State { slots, desk, .. } = &mut *state;
        let own = slots.beats(self.shared.node, self.number);
        let silence_ms = self.shared.limits.silence_ms.into();
        desk.chat.beat(&**chat, own, mono_ms, mono_ms.saturating_sub(BEAT_MS), silence_ms);
    }

    /// Tells connections to move, as many as the pace allows.
    fn tell_to_move(&self, told_plan: &mut u64) {
        let connections = self.shared.faces[self.number].connections.load(Ordering::Relaxed) as usize;
        let Some(allotted) = self.shared.moves.allot(connections, self.shared.mono_ms()) else { return };
        let mut state = self.state.lock();
        if std::mem::replace(told_plan, allotted.number) != allotted.number {
            state.slots.forget_moves();
        }
        let told = state.slots.tell_to_move(allotted.count);
        drop(state);
        self.shared.moves.told(told);
    }

    /// Starts a connection's task on this thread's runtime. The table of slots tracks it: a bare spawn is not lost.
    fn welcome(self: &Arc<Self>, incoming: Incoming) {
        self.count(Count::Connections, 1);
        let (stream, peer, frames) = match incoming {
            Incoming::Frames(stream, peer) => (stream, peer, true),
            Incoming::Http(stream, peer) => (stream, peer, false),
        };
        let stream = match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return self.not_taken(&error),
        };
        let limits = &self.shared.limits;
        let place = match frames {
            true => self.place(limits.login_ms, Count::LoginLate),
            false => self.place(limits.silence_ms, Count::Silent),
        };
        let runtime = tokio::runtime::Handle::current();
        match (self.shared.tls.acceptor(frames), frames) {
            (None, true) => drop(runtime.spawn(Connection::new(place, Stream::Plain(stream), peer))),
            (None, false) => drop(runtime.spawn(http::serve(place, Stream::Plain(stream), peer))),
            (Some(acceptor), _) => drop(runtime.spawn(async move {
                let within = Duration::from_millis(place.worker().shared.limits.login_ms.into());
                let Ok(Ok(stream)) = tokio::time::timeout(within, acceptor.accept(stream)).await else {
                    place.worker().count(Count::TlsFailed, 1);
                    return;
                };
                let stream = Stream::Tls(Box::new(stream));
                match frames {
                    true => Connection::new(place, stream, peer).await,
                    false => http::serve(place, stream, peer).await,
                }
            })),
        }
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
        self.leaving.store(true, Ordering::Relaxed);
        self.state.lock().slots.wake_all();
        self.move_all().await;
        self.draining.store(true, Ordering::Relaxed);
        self.state.lock().slots.wake_all();
        self.serve_until_empty(self.shared.limits.drain_ms, TICK_MS / 20, || ()).await;
    }

    /// Has everybody go elsewhere, where there is another node. Who has not gone in time is said goodbye to.
    async fn move_all(&self) {
        let shared = &self.shared;
        let connections = u64::from(shared.connections());
        // All are told within the first half of the time, whatever the usual pace is.
        let least = connections * 2_000 / u64::from(shared.limits.move_ms.max(1)) + 1;
        let per_second = shared.limits.moves_per_second.max(u32::try_from(least).unwrap_or(u32::MAX));
        // The first worker that gets here begins; an operator's drain goes on as it is.
        if !shared.moves.is_draining() && !shared.moves.drain(None, per_second, shared.mono_ms()) {
            return;
        }
        let mut told_plan = 0;
        self.serve_until_empty(shared.limits.move_ms, TICK_MS / 4, || self.tell_to_move(&mut told_plan))
            .await;
    }

    /// Lets connections be served until they are gone or the time is up; `each` is done every `step_ms`.
    async fn serve_until_empty(&self, within_ms: u32, step_ms: u64, mut each: impl FnMut()) {
        let face = &self.shared.faces[self.number];
        let until_ms = self.shared.mono_ms() + u64::from(within_ms);
        while face.connections.load(Ordering::Relaxed) > 0 && self.shared.mono_ms() < until_ms {
            each();
            tokio::select! {
                () = face.mail.rung() => {
                    self.sort_mail();
                }
                () = face.mail.knocked() => self.hear_knocks(),
                () = tokio::time::sleep(Duration::from_millis(step_ms)) => {}
            }
        }
    }
}

impl Place {
    /// Whose place it is.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Its number in the table.
    pub fn number(&self) -> u32 {
        self.place
    }

    /// The place, which from here on is the caller's to give back.
    pub fn keep(mut self) -> (Arc<Worker>, u32) {
        self.kept = true;
        (Arc::clone(&self.worker), self.place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.worker.closed(self.place);
        }
    }
}

/// From when on pushes are taken again, after so many connections were pushed to. A write costs far more than what is in it,
/// so that writes are kept to a third of the thread's time: the more there are, the more goes into each. None: at once.
fn rest_after(runs: usize) -> Option<Instant> {
    let rest = PUSH_WRITE.saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX)).saturating_mul(3);
    (rest >= PUSH_REST_MIN).then(|| Instant::now() + rest.min(PUSH_REST_MAX))
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
