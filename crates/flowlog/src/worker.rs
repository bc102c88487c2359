//! The thread of a running log, and the one beside it.
//!
//! The first writes groups, each as soon as the one before is durable. The second does one chore of the writer at a
//! time (see `aside`) and ends before the first does, so that nothing of a closed log touches its folder.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::aside::{Chore, ChoreDone};
use crate::disk::Disk;
use crate::error::WriteError;
use crate::flow::{End, Hooks, LogClock, Shared, wake};
use crate::format::GROUP_HEADER_LEN;
use crate::group::GroupBuf;
use crate::options::Class;
use crate::position::Position;
use crate::trace::Stations;
use crate::writer::{LogWriter, fatal_io};

/// How often a full log looks whether the disk has room again.
const ROOM_RETRY: Duration = Duration::from_millis(500);

/// Between two pieces of a chore the disk is left to the groups for so many times as long as the piece took: they keep four
/// fifths of it, on fast disks and slow ones.
const PAUSE_TIMES: u32 = 4;

/// The same at most: a piece that waited for something else must not put the spare segment off.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Records of a group from which on the next one is let fill (see [`crate::LogOptions::gather`]).
const CROWD: u32 = 16;

/// Takes room for two whole groups: the one being written and the one that fills meanwhile.
pub(crate) fn take_room<D: Disk>(writer: &mut LogWriter<D>) -> Result<(), WriteError> {
    let group = (writer.options().group_bytes_max + GROUP_HEADER_LEN) as u64;
    match writer.make_room(2 * group) {
        // Less room is no failure: records are then refused one by one.
        Err(WriteError::Full { .. }) => Ok(()),
        other => other,
    }
}

/// The thread of a log and what it owns.
pub(crate) struct Worker<D: Disk> {
    writer: LogWriter<D>,
    shared: Arc<Shared>,
    hooks: Hooks,
    helper: Option<Helper<D>>,
    /// Times of the group under way.
    stations: Stations,
    segment: Option<Position>,
    /// Records of the last group.
    crowd: u32,
}

/// What the thread found to do.
enum Work {
    Write,
    Room,
    Remove(Position),
    /// Only to look what the helper has done.
    Look,
    End,
}

impl<D: Disk> Worker<D> {
    /// Starts the helper, if the options ask for one.
    pub fn new(mut writer: LogWriter<D>, shared: Arc<Shared>, hooks: Hooks) -> Result<Self, WriteError> {
        let helper = if writer.options().spare_segment {
            let started = Helper::start(writer.options().node, Arc::clone(&shared));
            let helper =
                started.map_err(|source| fatal_io("start the second thread for", writer.dir(), source))?;
            writer.work_aside();
            Some(helper)
        } else {
            None
        };
        let segment = writer.last_segment();
        Ok(Worker { writer, shared, hooks, helper, stations: Stations::default(), segment, crowd: 0 })
    }

    pub fn run(mut self) {
        if self.writer.options().prompt {
            runtime::sched::run_promptly();
        }
        let mut spare = GroupBuf::new();
        let mut result = loop {
            if let Err(e) = self.chores() {
                break Err(e);
            }
            self.stations.ready = self.shared.clock.mono_ns();
            let step = match self.next_work(&mut spare) {
                Work::Write => self.write(&mut spare),
                Work::Room => self.make_room(),
                Work::Remove(position) => self.writer.remove_before(position).map(|removed| {
                    tracing::info!(removed, below = position.0, "removed log segments");
                }),
                Work::Look => Ok(()),
                Work::End => break Ok(()),
            };
            if let Err(e) = step {
                break Err(e);
            }
        };
        // The helper may own files of the log until it is gone.
        let left = self.helper.take().map(Helper::end);
        if result.is_ok() {
            result = match left.flatten() {
                Some(done) => self.writer.chore_done(done),
                None => Ok(()),
            };
            result = result.and_then(|()| self.writer.end_aside());
        }
        self.end(result);
    }

    /// Takes in what the helper has done, and gives it more.
    fn chores(&mut self) -> Result<(), WriteError> {
        let Some(helper) = &self.helper else { return Ok(()) };
        let panicked = || WriteError::Poisoned("the thread beside the log's panicked".to_owned());
        match helper.done.try_recv() {
            Ok(done) => self.writer.chore_done(done)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(panicked()),
        }
        match self.writer.chore() {
            // One is out at most, so there is room in the channel.
            Some(chore) => helper.chores.try_send(chore).map_err(|_| panicked()),
            None => Ok(()),
        }
    }

    /// Sleeps until there is something to do. For a write, `spare` has been exchanged for the active buffer.
    fn next_work(&mut self, spare: &mut GroupBuf) -> Work {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(position) = state.remove_before.take() {
                return Work::Remove(position);
            }
            if !state.active.is_empty() {
                if let Some(left) = self.gathers(&state.active) {
                    // Nobody wakes it: it is not idle.
                    self.shared.work.wait_for(&mut state, left);
                }
                self.stations.first = state.first_ns;
                std::mem::swap(&mut state.active, spare);
                state.position = state.position.next();
                state.set_room(&self.writer, spare.group_len() as u64);
                return Work::Write;
            }
            if state.end != End::Open {
                return Work::End;
            }
            if std::mem::take(&mut state.chore_done) {
                return Work::Look;
            }
            state.idle = true;
            if state.starved {
                // Appends keep failing until there is room: look now and then, not at each of them.
                let result = self.shared.work.wait_for(&mut state, ROOM_RETRY);
                state.idle = false;
                if result.timed_out() {
                    state.starved = false;
                    return Work::Room;
                }
            } else {
                self.shared.work.wait(&mut state);
                state.idle = false;
            }
        }
    }

    /// How long the group that fills may go on filling.
    fn gathers(&self, active: &GroupBuf) -> Option<Duration> {
        let options = self.writer.options();
        if options.gather.is_zero() || self.crowd < CROWD || active.group_len() > options.group_bytes_max / 4
        {
            return None;
        }
        let since = self.shared.clock.mono_ns().saturating_sub(self.stations.taken);
        options.gather.checked_sub(Duration::from_nanos(since)).filter(|left| !left.is_zero())
    }

    fn write(&mut self, group: &mut GroupBuf) -> Result<(), WriteError> {
        let (records, bytes) = (group.records(), group.group_len());
        self.crowd = records;
        let clock = Arc::clone(&self.shared.clock);
        let segment = self.writer.last_segment();
        let rolled = std::mem::replace(&mut self.segment, segment) != segment;
        self.stations.taken = clock.mono_ns();
        // Room was checked record by record, each by its own class; the group as a whole may use all of it.
        let position = self.writer.append_buf(group, clock.unix_ms(), Class::Ending)?;
        self.stations.written = clock.mono_ns();
        let durable = self.writer.sync()?;
        self.stations.synced = clock.mono_ns();
        let trace = self.stations.trace(position, bytes as u64, rolled);
        self.shared.counters.group(records, bytes, trace.sync_ns);
        self.shared.slowest.add(trace);
        group.clear();
        self.publish(durable);
        self.stations.told_before = clock.mono_ns();
        self.make_room()?;
        self.writer.zero_ahead(bytes as u64)
    }

    /// Tells everybody about the new durable end.
    fn publish(&mut self, durable: Position) {
        {
            let mut state = self.shared.state.lock();
            state.head = self.writer.head();
            self.shared.durable.store(durable.0, Ordering::Release);
        }
        self.shared.synced.notify_all();
        if let Some(on_durable) = &mut self.hooks.on_durable {
            on_durable(durable);
        }
        self.shared.watch.send_if_modified(|p| {
            p.durable = durable;
            true
        });
    }

    fn make_room(&mut self) -> Result<(), WriteError> {
        take_room(&mut self.writer)?;
        self.shared.state.lock().set_room(&self.writer, 0);
        Ok(())
    }

    fn end(&mut self, result: Result<(), WriteError>) {
        {
            let mut state = self.shared.state.lock();
            state.end = match &result {
                Ok(()) => End::Closed,
                Err(e) => End::Failed(e.to_string()),
            };
        }
        if let Err(error) = &result {
            tracing::error!(%error, "the log failed");
            if let Some(on_fatal) = self.hooks.on_fatal.take() {
                on_fatal(error);
            }
        }
        self.shared.synced.notify_all();
        self.shared.watch.send_modify(|p| p.ended = true);
    }
}

impl<D: Disk> Drop for Worker<D> {
    fn drop(&mut self) {
        if let Some(helper) = self.helper.take() {
            helper.end();
        }
        // Whoever waits must hear of it when the thread unwinds; no lock of the log is held while hooks run.
        if std::thread::panicking() {
            self.end(Err(WriteError::Poisoned("the log's thread panicked".to_owned())));
        }
    }
}

/// Leaves the disk to the groups between two pieces of a chore.
struct Pace<'a> {
    clock: &'a dyn LogClock,
    stop: &'a AtomicBool,
    /// When the last piece began.
    resumed_ns: Cell<Option<u64>>,
}

impl Pace<'_> {
    /// Before a piece: waits, and says whether to go on at all.
    fn go_on(&self) -> bool {
        if let Some(began_ns) = self.resumed_ns.get() {
            let took = Duration::from_nanos(self.clock.mono_ns().saturating_sub(began_ns));
            std::thread::sleep((took * PAUSE_TIMES).min(PAUSE_MAX));
        }
        self.resumed_ns.set(Some(self.clock.mono_ns()));
        !self.stop.load(Ordering::Relaxed)
    }
}

/// The thread that runs the chores.
struct Helper<D: Disk> {
    chores: SyncSender<Chore<D>>,
    done: Receiver<ChoreDone<D>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl<D: Disk> Helper<D> {
    fn start(node: u16, shared: Arc<Shared>) -> io::Result<Self> {
        let (chores, next) = sync_channel::<Chore<D>>(1);
        let (hand_in, done) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            while let Ok(chore) = next.recv() {
                let pace = Pace { clock: &*shared.clock, stop: &stopped, resumed_ns: Cell::new(None) };
                if hand_in.send(chore.run(&|| pace.go_on())).is_err() {
                    return;
                }
                let mut state = shared.state.lock();
                state.chore_done = true;
                wake(&shared, &mut state);
            }
        };
        let thread = std::thread::Builder::new().name(format!("log-{node}-aside")).spawn(run)?;
        Ok(Helper { chores, done, stop, thread })
    }

    /// Ends the thread and waits for it; what it did last, if it wasn't taken yet.
    fn end(self) -> Option<ChoreDone<D>> {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.chores);
        if self.thread.join().is_err() {
            tracing::error!("the thread beside the log's panicked");
        }
        self.done.try_recv().ok()
    }
}
