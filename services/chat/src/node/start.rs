//! Starting: recovering the log, reading it from the last checkpoint on, and setting everything going.

use super::applier::Signal;
use super::desk::Desk;
use super::{ChatNode, Counters};
use crate::core::{Ids, Key, Logged, Misfit, NoRisk, Pushing, Risk, State, Words, WordsError};
use crate::options::{ChatOptions, OptionsError};
use crate::store::{Mark, OpenShelfError, Shelf, SqlShelf, StoreError};
use flowlog::{
    Class, Disk, FlowLog, Hooks, LogError, LogKind, LogOptions, LogReader, LogWriter, Position, RealDisk,
    WriteError,
};
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use protocol::v1::change::What;
use protocol::v1::{Change, MessageKind};
use records::{ChatFact, ChatMessage, DecodeError, Record, RecordKind, kind_of};
use runtime::{SharedClock, Shutdown, TaskKind, Tasks};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The only epoch of an embedded message log.
const EPOCH: u32 = 1;
/// While many write, a group of the message log is let fill for so long: every sync wakes the applying thread and all front
/// doors, and that costs more than the wait.
const GATHER: Duration = Duration::from_millis(2);
/// Records that are read before what they need is brought in.
const REPLAY_RECORDS: usize = 4_096;

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Sensitive words.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// The folder.
    #[error("{path}: {error}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A record of the log can't be read.
    #[error("message log, group {position}: {error}")]
    Record {
        /// Its group.
        position: u64,
        /// What is wrong.
        error: DecodeError,
    },
    /// The log does not fit the store.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The database.
    #[error(transparent)]
    Shelf(#[from] OpenShelfError),
    /// Reading the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread.
    #[error("no thread for applying messages: {0}")]
    Thread(std::io::Error),
}

/// Where a node keeps its log.
pub struct ChatDisk<D: Disk> {
    /// The disk.
    pub disk: D,
    /// The log's folder.
    pub log_dir: PathBuf,
    /// Its sizes; none: those of [`LogOptions::new`].
    pub log: Option<LogOptions>,
    /// The store behind it.
    pub shelf: Arc<dyn Shelf>,
}

impl ChatNode {
    /// Recovers and starts the node of a folder: the message log in `log`, the database `chat.db` beside it. Its threads
    /// and tasks belong to `tasks` and end with it. A log that fails ends the process through `tasks`.
    ///
    /// # Errors
    /// When something in the folder can't be used.
    pub async fn open(
        options: ChatOptions,
        dir: &Path,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Result<Arc<ChatNode>, StartError> {
        let folder = |error| StartError::Folder { path: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let shelf = SqlShelf::open(&dir.join("chat.db"), clock.now_ms()).await?;
        let disk = ChatDisk { disk: RealDisk, log_dir: dir.join("log"), log: None, shelf: Arc::new(shelf) };
        ChatNode::start(options, disk, Box::new(NoRisk), clock, tasks).await
    }
}

impl<D: Disk> ChatNode<D> {
    /// The same on any disk and store, with a risk service.
    ///
    /// # Errors
    /// When something there can't be used.
    pub async fn start(
        options: ChatOptions,
        disk: ChatDisk<D>,
        risk: Box<dyn Risk>,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Result<Arc<ChatNode<D>>, StartError> {
        options.check()?;
        let words = Words::default();
        words.set(&options.words)?;
        let ChatDisk { disk, log_dir, log, shelf } = disk;
        let log_options = log
            .unwrap_or_else(|| LogOptions { gather: GATHER, ..LogOptions::new(LogKind::CHAT, options.node) });
        let mark = shelf.mark().await?;
        let known = Position(mark.at.position + u64::from(mark.at.index > 0));
        let (mut writer, report) =
            LogWriter::open(disk.clone(), &log_dir, log_options.clone(), Some(known), None)?;
        let state = State::new(options.clone(), mark.at, mark.cursor, mark.ids_reserved_ms);
        let mut replay = Replay { state, shelf: Arc::clone(&shelf), now_ms: clock.now_ms() };
        let reader = LogReader::new(disk.clone(), &log_dir, &log_options, Position(mark.at.position));
        let records = replay.read(reader, report.end, mark).await?;
        let mut state = replay.state;
        tracing::info!(records, cursor = state.cursor, from = mark.at.position, "read the message log");

        writer.begin_epoch(EPOCH)?;
        state.ids = Ids::new(options.node, state.ids.reserved_ms());
        reserve_ids(&mut writer, &mut state, &clock)?;
        let signal: Arc<Signal> = Arc::default();
        let told = Arc::clone(&signal);
        let stop = tasks.clone();
        let hooks = Hooks {
            on_durable: Some(Box::new(move |end| told.durable(end.0))),
            on_fatal: Some(Box::new(move |error| {
                let error = anyhow::anyhow!("chat's message log failed: {error}");
                stop.spawn("chat-log", TaskKind::Essential, async move { Err(error) });
            })),
        };
        let log = FlowLog::start(writer, disk, Arc::new(clock.clone()), hooks)?;
        let node = Arc::new(ChatNode {
            options,
            desk: Mutex::new(Desk::new(state)),
            log,
            shelf,
            clock,
            signal,
            doors: RwLock::default(),
            words,
            risk,
            wanted: Notify::new(),
            loads: watch::Sender::new((0, false)),
            drained: Shutdown::new(),
            counters: Counters::default(),
        });
        node.set_going(tasks)?;
        Ok(node)
    }

    fn set_going(self: &Arc<Self>, tasks: &Tasks) -> Result<(), StartError> {
        let (node, shutdown) = (Arc::clone(self), tasks.shutdown().clone());
        let apply = move || {
            let applied = node.apply_all(&shutdown);
            // Also when it failed: nobody waits for ever.
            node.desk.lock().stopped = true;
            node.drained.request();
            applied
        };
        tasks.spawn_thread("chat-apply", TaskKind::Service, apply).map_err(StartError::Thread)?;
        let (node, shutdown) = (Arc::clone(self), tasks.shutdown().clone());
        tasks.spawn("chat-load", TaskKind::Service, node.load_all(shutdown));
        let node = Arc::clone(self);
        tasks
            .spawn_thread("chat-fill", TaskKind::Service, move || node.fill_thread())
            .map_err(StartError::Thread)?;
        let (node, shutdown) = (Arc::clone(self), tasks.shutdown().clone());
        // The applying thread sleeps on its signal.
        tasks.spawn("chat-stop", TaskKind::Service, async move {
            shutdown.wait().await;
            node.signal.wake();
            Ok(())
        });
        Ok(())
    }
}

/// Reserves ids for the first seconds, if the disk has room: otherwise sends wait until it has.
fn reserve_ids<D: Disk>(
    writer: &mut LogWriter<D>,
    state: &mut State,
    clock: &SharedClock,
) -> Result<(), StartError> {
    let now_ms = clock.now_ms();
    let Some(reserve) = state.wanted_ids(now_ms) else { return Ok(()) };
    let Logged::Fact(fact) = &reserve else { return Ok(()) };
    match writer.append_group(&[fact.encode()], now_ms, Class::Ending) {
        Ok(position) => {
            writer.sync()?;
            (state.at.position, state.at.index) = (position.0, 0);
            state.take(&reserve, now_ms);
            state.apply(&reserve, now_ms, &mut Pushing::default())?;
            Ok(())
        }
        Err(WriteError::Full { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the log into the state.
struct Replay {
    state: State,
    shelf: Arc<dyn Shelf>,
    now_ms: u64,
}

impl Replay {
    async fn read<D: Disk>(
        &mut self,
        mut reader: LogReader<D>,
        end: Position,
        mark: Mark,
    ) -> Result<usize, StartError> {
        let (mut batch, mut count) = (Vec::new(), 0);
        while let Some(group) = reader.next_group(end)? {
            let position = group.position().0;
            let skip = if position == mark.at.position { mark.at.index as usize } else { 0 };
            for record in group.records().skip(skip) {
                let logged = decode(record).map_err(|error| StartError::Record { position, error })?;
                batch.push((position, logged));
            }
            if batch.len() >= REPLAY_RECORDS {
                count += batch.len();
                self.apply(std::mem::take(&mut batch)).await?;
            }
        }
        count += batch.len();
        self.apply(batch).await?;
        Ok(count)
    }

    async fn apply(&mut self, batch: Vec<(u64, Logged)>) -> Result<(), StartError> {
        let mut keys = HashSet::new();
        batch.iter().for_each(|(_, logged)| needs(logged, &mut keys));
        self.bring(&keys).await?;
        let mut out = Pushing::default();
        for (position, logged) in batch {
            if self.state.at.position != position {
                (self.state.at.position, self.state.at.index) = (position, 0);
            }
            self.state.take(&logged, self.now_ms);
            self.state.apply(&logged, self.now_ms, &mut out)?;
        }
        Ok(())
    }

    async fn bring(&mut self, keys: &HashSet<Key>) -> Result<(), StoreError> {
        let (mut users, mut conversations) = (Vec::new(), Vec::new());
        for key in keys {
            match key {
                Key::User(user) if self.state.loaded(*user).is_err() => users.push(*user),
                Key::Conversation(id) if !self.state.conversations.contains_key(id) => {
                    conversations.push(*id)
                }
                _ => {}
            }
        }
        for ids in conversations.chunks(256) {
            for found in self.shelf.conversations(ids).await? {
                self.state.install_conversation(found, self.now_ms);
            }
        }
        for ids in users.chunks(256) {
            for found in self.shelf.users(ids).await? {
                // Nothing leaves memory here, so what the store says is never too old.
                self.state.install_user(found, self.now_ms);
            }
        }
        Ok(())
    }
}

/// A record of the message log.
fn decode(record: &[u8]) -> Result<Logged, DecodeError> {
    match kind_of(record)? {
        RecordKind::ChatMessage => Ok(Logged::Message(Arc::new(ChatMessage::decode(record)?))),
        RecordKind::ChatFact => Ok(Logged::Fact(ChatFact::decode(record)?)),
        other => Err(DecodeError::UnknownTag(other as u8)),
    }
}

/// What must be in memory to apply a record.
fn needs(logged: &Logged, keys: &mut HashSet<Key>) {
    match logged {
        Logged::Message(message) => {
            keys.insert(Key::Conversation(message.conversation));
            if message.seq == 1
                && i32::from(message.kind) == MessageKind::Change as i32
                && let Ok(Change { by, what: Some(What::Made(_)) }) = Change::decode(&*message.body)
            {
                keys.insert(Key::User(by));
            }
        }
        Logged::Fact(fact) => match fact {
            ChatFact::PairMade { .. } | ChatFact::IdsReserved { .. } => {}
            ChatFact::Read { conversation, .. }
            | ChatFact::Cleared { conversation, .. }
            | ChatFact::Deleted { conversation, .. }
            | ChatFact::Quiet { conversation, .. } => {
                keys.insert(Key::Conversation(*conversation));
            }
            ChatFact::Friend { conversation, user, other, .. } => {
                keys.extend([Key::Conversation(*conversation), Key::User(*user), Key::User(*other)]);
            }
            ChatFact::Profile { user, .. }
            | ChatFact::DeviceKnown { user, .. }
            | ChatFact::DeviceForgotten { user, .. }
            | ChatFact::Confirmed { user, .. } => {
                keys.insert(Key::User(*user));
            }
        },
    }
}
