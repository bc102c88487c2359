//! The log of a running node: many callers, one thread that writes.
//!
//! Callers copy records into the active buffer under a short lock and learn the position of the group that the buffer
//! will become. The thread takes the buffer as soon as there is something in it, writes and syncs it while the other
//! buffer fills, and publishes the durable end. Nothing waits for company: a lone record is synced at once, and under
//! load a group is whatever came during the sync before it.
//!
//! What the thread does stands in `worker`.
//!
//! A record is taken only if room for it is on hand already, so what was taken can't fail for want of room. If a write
//! or a sync fails all the same, the log is dead: `on_fatal` is told (it ends the process), and every later call fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use crate::disk::{Disk, RealDisk};
use crate::error::{AppendError, NotDurable, WriteError};
use crate::format::{GROUP_HEADER_LEN, Hash};
use crate::group::{GroupBuf, record_len};
use crate::options::{Class, LogOptions};
use crate::position::Position;
use crate::reader::LogReader;
use crate::stats::{Counters, LogStats};
use crate::trace::{GroupTrace, Slowest};
use crate::worker::{Worker, take_room};
use crate::writer::{LogWriter, fatal_io};

/// The two clocks that the log reads a few times a group, at its stations; never once a record.
pub trait LogClock: Send + Sync + 'static {
    /// Milliseconds since 1970, UTC.
    fn unix_ms(&self) -> u64;
    /// Nanoseconds on a clock that never goes back; the start does not matter.
    fn mono_ns(&self) -> u64;
}

/// Most owners have the process's clock: `Arc::new(clock)`, with a [`runtime::SharedClock`].
impl LogClock for runtime::SharedClock {
    fn unix_ms(&self) -> u64 {
        self.now_ms()
    }
    fn mono_ns(&self) -> u64 {
        runtime::Clock::mono_ns(&**self)
    }
}

/// What the log tells its owner. All are called on the log's thread: be short, never wait for the log in them, and hold
/// no handle to it (it would never be dropped then). A hook that panics ends the log like a failed write.
#[derive(Default)]
pub struct Hooks {
    /// After each sync, with the new durable end.
    pub on_durable: Option<OnDurable>,
    /// Once, when the log has failed. In production it ends the process.
    pub on_fatal: Option<OnFatal>,
}

/// Called with each new durable end.
pub type OnDurable = Box<dyn FnMut(Position) + Send>;
/// Called with the error that ended the log.
pub type OnFatal = Box<dyn FnOnce(&WriteError) + Send>;

/// A handle to the log of a running node; clones share it. The thread ends with [`FlowLog::close`], or when the last
/// handle is dropped.
pub struct FlowLog<D: Disk = RealDisk> {
    handle: Arc<Handle<D>>,
}

impl<D: Disk> Clone for FlowLog<D> {
    fn clone(&self) -> Self {
        FlowLog { handle: Arc::clone(&self.handle) }
    }
}

struct Handle<D: Disk> {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    disk: D,
    dir: PathBuf,
    options: LogOptions,
}

pub(crate) struct Shared {
    pub state: Mutex<State>,
    /// Wakes the thread.
    pub work: Condvar,
    /// Wakes threads in `wait_durable_blocking`.
    pub synced: Condvar,
    pub durable: AtomicU64,
    /// The durable end for async waiters, and whether it will still move.
    pub watch: watch::Sender<Progress>,
    pub counters: Counters,
    pub slowest: Slowest,
    pub clock: Arc<dyn LogClock>,
}

#[derive(Clone, Copy)]
pub(crate) struct Progress {
    pub durable: Position,
    pub ended: bool,
}

pub(crate) struct State {
    pub active: GroupBuf,
    /// When the first record came into `active`, on the clock of nanoseconds.
    pub first_ns: u64,
    /// The position of the group that `active` will become. Changes only when the buffer is taken.
    pub position: Position,
    /// Bytes that the active group may have in all, header included, by class.
    room_normal: u64,
    room_ending: u64,
    /// Somebody was refused for want of room: look whether there is some.
    pub starved: bool,
    /// The thread sleeps until it is notified.
    pub idle: bool,
    /// The thread beside it has something to hand in.
    pub chore_done: bool,
    pub remove_before: Option<Position>,
    pub head: Option<(u32, u64, Hash)>,
    pub end: End,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Closing,
    Closed,
    Failed(String),
}

impl<D: Disk> FlowLog<D> {
    /// Starts the thread for a writer whose epoch has begun. Fails if the writer can't be used or there is no room at
    /// all, so that a node doesn't start with a log that takes nothing.
    pub fn start(
        mut writer: LogWriter<D>,
        disk: D,
        clock: Arc<dyn LogClock>,
        hooks: Hooks,
    ) -> Result<FlowLog<D>, WriteError> {
        if writer.head().is_none() {
            return Err(WriteError::NoEpoch);
        }
        let durable = writer.sync()?;
        let options = writer.options().clone();
        let dir = writer.dir().to_owned();
        let mut state = State {
            active: GroupBuf::new(),
            first_ns: 0,
            position: durable,
            room_normal: 0,
            room_ending: 0,
            starved: false,
            idle: false,
            chore_done: false,
            remove_before: None,
            head: writer.head(),
            end: End::Open,
        };
        take_room(&mut writer)?;
        state.set_room(&writer, 0);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            synced: Condvar::new(),
            durable: AtomicU64::new(durable.0),
            watch: watch::Sender::new(Progress { durable, ended: false }),
            counters: Counters::default(),
            slowest: Slowest::default(),
            clock,
        });
        let worker = Worker::new(writer, Arc::clone(&shared), hooks)?;
        let thread = std::thread::Builder::new()
            .name(format!("log-{}", options.node))
            .spawn(move || worker.run())
            .map_err(|source| fatal_io("start the thread for", &dir, source))?;
        let handle = Handle { shared, thread: Mutex::new(Some(thread)), disk, dir, options };
        Ok(FlowLog { handle: Arc::new(handle) })
    }

    /// Takes a record; the position of the group that it will be in. It is durable once [`Self::durable`] is above that.
    pub fn append(&self, record: &[u8], class: Class) -> Result<Position, AppendError> {
        self.append_many(&[record], class)
    }

    /// Takes several records, all into the same group, or none.
    pub fn append_many<R: AsRef<[u8]>>(&self, records: &[R], class: Class) -> Result<Position, AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        let len: usize = records.iter().map(|r| record_len(r.as_ref())).sum();
        let max = self.handle.options.group_bytes_max;
        if len > max {
            return Err(AppendError::TooLarge { len, max });
        }
        let shared = &*self.handle.shared;
        let mut state = shared.state.lock();
        let was_starved = state.starved;
        if let Err(refused) = state.admit(len, max, class) {
            // The first refusal sets the thread looking for room; the others must not disturb it.
            if state.starved && !was_starved {
                wake(shared, &mut state);
            }
            return Err(refused);
        }
        if state.active.is_empty() {
            state.first_ns = shared.clock.mono_ns();
        }
        for record in records {
            state.active.push(record.as_ref());
        }
        let position = state.position;
        wake(shared, &mut state);
        Ok(position)
    }

    /// The durable end: every group below it is on the disk.
    pub fn durable(&self) -> Position {
        Position(self.handle.shared.durable.load(Ordering::Acquire))
    }

    /// Waits until the group at `position` is durable.
    pub async fn wait_durable(&self, position: Position) -> Result<(), NotDurable> {
        let mut progress = self.handle.shared.watch.subscribe();
        // The sender lives as long as this handle, so waiting only ends with a value that fits.
        match progress.wait_for(|p| p.durable > position || p.ended).await {
            Ok(p) if p.durable > position => Ok(()),
            _ => Err(NotDurable { wanted: position, durable: self.durable() }),
        }
    }

    /// The same for a thread that may block.
    pub fn wait_durable_blocking(&self, position: Position) -> Result<(), NotDurable> {
        let shared = &*self.handle.shared;
        let mut state = shared.state.lock();
        loop {
            let durable = self.durable();
            if durable > position {
                return Ok(());
            }
            if matches!(state.end, End::Closed | End::Failed(_)) {
                return Err(NotDurable { wanted: position, durable });
            }
            shared.synced.wait(&mut state);
        }
    }

    /// A reader from `from` on. Give it [`Self::durable`] as its limit.
    pub fn reader(&self, from: Position) -> LogReader<D> {
        LogReader::new(self.handle.disk.clone(), &self.handle.dir, &self.handle.options, from)
    }

    /// Asks the thread to remove the segments that lie wholly below `position`; it does so between two groups.
    pub fn remove_before(&self, position: Position) {
        let shared = &*self.handle.shared;
        let mut state = shared.state.lock();
        state.remove_before = state.remove_before.max(Some(position));
        wake(shared, &mut state);
    }

    /// Epoch, number in it of the next group to be synced, and the hash of the last synced one.
    pub fn head(&self) -> Option<(u32, u64, Hash)> {
        self.handle.shared.state.lock().head
    }

    /// What the log has done so far.
    pub fn stats(&self) -> LogStats {
        let mut stats = self.handle.shared.counters.read();
        stats.room_bytes = self.handle.shared.state.lock().room_normal;
        stats
    }

    /// The slowest groups since this was last asked (a few, slowest first), and where their time went.
    pub fn slowest(&self) -> Vec<GroupTrace> {
        self.handle.shared.slowest.take()
    }

    /// Why the log failed, if it did.
    pub fn failure(&self) -> Option<String> {
        match &self.handle.shared.state.lock().end {
            End::Failed(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Takes nothing more, makes everything taken durable and ends the thread; the durable end. Blocks for one or two
    /// syncs. Must not be called from a hook.
    pub fn close(&self) -> Result<Position, AppendError> {
        self.handle.close();
        match &self.handle.shared.state.lock().end {
            End::Failed(why) => Err(AppendError::Failed(why.clone())),
            _ => Ok(self.durable()),
        }
    }
}

impl<D: Disk> Handle<D> {
    fn close(&self) {
        {
            let mut state = self.shared.state.lock();
            if state.end == End::Open {
                state.end = End::Closing;
            }
            // It may be letting a group fill, and then no record wakes it.
            state.idle = false;
            self.shared.work.notify_one();
        }
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

impl<D: Disk> Drop for Handle<D> {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Whether `len` more bytes of records may go into the active group.
    fn admit(&mut self, len: usize, max: usize, class: Class) -> Result<(), AppendError> {
        match &self.end {
            End::Open => {}
            End::Closing | End::Closed => return Err(AppendError::Closed),
            End::Failed(why) => return Err(AppendError::Failed(why.clone())),
        }
        if self.active.body_len() + len > max {
            return Err(AppendError::Busy);
        }
        let room = match class {
            Class::Normal => self.room_normal,
            Class::Ending => self.room_ending,
        };
        let taken = self.active.group_len() as u64;
        if taken + len as u64 > room {
            self.starved = true;
            let need = (GROUP_HEADER_LEN + len) as u64;
            return Err(AppendError::Full { need, free: room.saturating_sub(taken) });
        }
        Ok(())
    }

    /// Sets what the active group may take, when `in_flight` bytes of the writer's room are spoken for.
    pub fn set_room<D: Disk>(&mut self, writer: &LogWriter<D>, in_flight: u64) {
        self.room_normal = writer.room(Class::Normal).saturating_sub(in_flight);
        self.room_ending = writer.room(Class::Ending).saturating_sub(in_flight);
    }
}

/// Wakes the thread if it sleeps; a system call only then.
pub(crate) fn wake(shared: &Shared, state: &mut MutexGuard<'_, State>) {
    if state.idle {
        state.idle = false;
        shared.work.notify_one();
    }
}
