//! A tracked set of tasks and threads: each has a name, says what its failure does to the process, and is waited
//! for at the end.
//!
//! A failure or panic of an [`TaskKind::Essential`] task requests shutdown of the whole set and becomes the
//! process's error; one of a [`TaskKind::BestEffort`] task is logged and counted. [`Tasks::drain`] asks everyone to
//! end, waits for a bounded time, and names those that did not. Tasks still running then are aborted; threads
//! can't be, and die with the process.
//!
//! A process that stops in order (first the doors, then what stands behind them) gives each stage a set of its own
//! with [`Tasks::stage`] and drains the stages one after the other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::Shutdown;

/// What the end of a task does to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// It has to run until shutdown: ending before that, even without an error, stops the process.
    Service,
    /// Its error or panic stops the process; ending well is an end like any other.
    Essential,
    /// Its error or panic is logged and counted, and nothing else happens.
    BestEffort,
}

/// The first failure that stopped a set of tasks.
#[derive(Debug, thiserror::Error)]
#[error("task {task} failed: {error:#}")]
pub struct TaskFailure {
    /// Name of the task.
    pub task: String,
    /// What it said, or its panic message.
    pub error: anyhow::Error,
}

/// What [`Tasks::drain`] found.
#[derive(Debug)]
#[must_use = "a task that failed or did not end should be reported"]
pub struct Drained {
    /// Names of tasks and threads that were still running when the time was up, sorted.
    pub unfinished: Vec<String>,
    /// The failure that stopped the set, if one did.
    pub failure: Option<TaskFailure>,
}

/// A set of tasks. Cloning gives another handle to the same set.
#[derive(Debug, Clone)]
pub struct Tasks {
    set: Arc<Set>,
}

#[derive(Debug)]
struct Set {
    shutdown: Shutdown,
    /// A failure in a stage is a failure of the set that it belongs to.
    parent: Option<Tasks>,
    runtime: Handle,
    running: Mutex<HashMap<u64, Running>>,
    running_count: watch::Sender<usize>,
    next_id: AtomicU64,
    failure: Mutex<Option<TaskFailure>>,
    best_effort_failures: AtomicU64,
}

#[derive(Debug)]
struct Running {
    name: Cow<'static, str>,
    /// Threads have none, and tasks none yet while they are being spawned.
    abort: Option<AbortHandle>,
    /// [`Tasks::drain`] has given it up.
    given_up: bool,
}

impl Tasks {
    /// An empty set whose tasks end when `shutdown` is requested.
    ///
    /// # Panics
    /// Outside of a tokio runtime: the set spawns on the runtime that it was made in.
    pub fn new(shutdown: Shutdown) -> Self {
        Self::with(shutdown, None, Handle::current())
    }

    /// A set with a shutdown of its own, to be drained in its turn. Essential failures in it also stop `self`;
    /// shutdown of `self` does not stop it by itself, so that the owner decides the order.
    pub fn stage(&self) -> Self {
        Self::with(Shutdown::new(), Some(self.clone()), self.set.runtime.clone())
    }

    /// The same, with its tasks on another runtime.
    pub fn stage_on(&self, runtime: Handle) -> Self {
        Self::with(Shutdown::new(), Some(self.clone()), runtime)
    }

    fn with(shutdown: Shutdown, parent: Option<Tasks>, runtime: Handle) -> Self {
        Self {
            set: Arc::new(Set {
                shutdown,
                parent,
                runtime,
                running: Mutex::new(HashMap::new()),
                running_count: watch::Sender::new(0),
                next_id: AtomicU64::new(0),
                failure: Mutex::new(None),
                best_effort_failures: AtomicU64::new(0),
            }),
        }
    }

    /// The shutdown that this set's tasks obey.
    pub fn shutdown(&self) -> &Shutdown {
        &self.set.shutdown
    }

    /// How many tasks and threads are running.
    pub fn running(&self) -> usize {
        *self.set.running_count.borrow()
    }

    /// How many best-effort tasks have failed since the set was made.
    pub fn best_effort_failures(&self) -> u64 {
        self.set.best_effort_failures.load(Ordering::Relaxed)
    }

    /// Runs a future until it ends. It should watch [`Tasks::shutdown`] and end soon after it is requested.
    #[allow(clippy::disallowed_methods)] // this is the tracked spawn that others are told to use
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, kind: TaskKind, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        let id = self.set.next_id.fetch_add(1, Ordering::Relaxed);
        // Made before the task is, so that it also ends one that is dropped without ever having been polled. The entry is
        // in by then, and the lock is free: a runtime that is shutting down drops the task right here.
        let guard = self.enter(id, name, kind);
        let handle = self.set.runtime.spawn(async move {
            let mut guard = guard;
            guard.outcome = Some(caught(future).await);
        });
        if let Some(running) = self.set.running.lock().get_mut(&id) {
            running.abort = Some(handle.abort_handle());
            if running.given_up {
                handle.abort();
            }
        }
    }

    /// Puts an entry on the list, to be taken off by the guard.
    fn enter(&self, id: u64, name: Cow<'static, str>, kind: TaskKind) -> EndGuard {
        let mut running = self.set.running.lock();
        running.insert(id, Running { name: name.clone(), abort: None, given_up: false });
        self.set.running_count.send_replace(running.len());
        EndGuard { tasks: self.clone(), id, name, kind, outcome: None }
    }

    /// Runs `body` on an operating-system thread of its own, for work that blocks (disk, a dedicated core).
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn spawn_thread<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: TaskKind,
        body: F,
    ) -> std::io::Result<()>
    where
        F: FnOnce() -> anyhow::Result<()> + Send + 'static,
    {
        let name = name.into();
        let id = self.set.next_id.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::Builder::new().name(name.to_string());
        let guard = self.enter(id, name, kind);
        thread.spawn(move || {
            let mut guard = guard;
            guard.outcome =
                Some(catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(told(&*panic))));
        })?;
        Ok(())
    }

    /// Asks the set to end on SIGTERM or SIGINT. A second signal is not special: what is durable survives
    /// `kill -9` anyway.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = {
            let _inside = self.set.runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let shutdown = self.set.shutdown.clone();
        self.spawn("signals", TaskKind::BestEffort, async move {
            let signal = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = shutdown.wait() => return Ok(()),
            };
            tracing::info!(signal, "shutting down");
            shutdown.request();
            Ok(())
        });
        Ok(())
    }

    /// Requests shutdown, waits at most `timeout` for everyone to end, and aborts the tasks that did not.
    pub async fn drain(&self, timeout: Duration) -> Drained {
        self.set.shutdown.request();
        let mut count = self.set.running_count.subscribe();
        let _ = tokio::time::timeout(timeout, count.wait_for(|count| *count == 0)).await;
        let mut unfinished = Vec::new();
        for running in self.set.running.lock().values_mut() {
            unfinished.push(running.name.to_string());
            running.given_up = true;
            if let Some(abort) = &running.abort {
                abort.abort();
            }
        }
        unfinished.sort();
        Drained { unfinished, failure: self.set.failure.lock().take() }
    }

    fn ended(&self, id: u64, name: &str, kind: TaskKind, outcome: anyhow::Result<()>) {
        match (kind, outcome) {
            (TaskKind::Service, Ok(())) if !self.set.shutdown.is_requested() => {
                self.failed(name, anyhow::anyhow!("ended although nobody asked it to"));
            }
            (_, Ok(())) => {}
            (TaskKind::BestEffort, Err(error)) => {
                self.set.best_effort_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(task = name, error = format!("{error:#}"), "task failed");
            }
            (TaskKind::Service | TaskKind::Essential, Err(error)) => self.failed(name, error),
        }
        let mut running = self.set.running.lock();
        running.remove(&id);
        self.set.running_count.send_replace(running.len());
    }

    fn failed(&self, name: &str, error: anyhow::Error) {
        tracing::error!(task = name, error = format!("{error:#}"), "essential task failed, shutting down");
        self.stop_with(name, error);
    }

    /// The failure is reported by the outermost set, whose owner reports for the process.
    fn stop_with(&self, name: &str, error: anyhow::Error) {
        self.set.shutdown.request();
        if let Some(parent) = &self.set.parent {
            parent.stop_with(name, error);
            return;
        }
        let mut failure = self.set.failure.lock();
        if failure.is_none() {
            *failure = Some(TaskFailure { task: name.to_owned(), error });
        }
    }
}

/// Takes the task off the list however it ends: normally, by a panic that was caught, or by being dropped, polled or not.
struct EndGuard {
    tasks: Tasks,
    id: u64,
    name: Cow<'static, str>,
    kind: TaskKind,
    outcome: Option<anyhow::Result<()>>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        // No outcome means that the task was aborted by `drain` or with its runtime: that is no failure of its own.
        match self.outcome.take() {
            Some(outcome) => self.tasks.ended(self.id, &self.name, self.kind, outcome),
            None => self.tasks.ended(self.id, &self.name, TaskKind::Essential, Ok(())),
        }
    }
}

async fn caught<F: Future<Output = anyhow::Result<()>>>(future: F) -> anyhow::Result<()> {
    let mut future = pin!(future);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(told(&*panic))))
    })
    .await
}

fn told(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    anyhow::anyhow!("panicked: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_essential_failure_stops_the_set_and_is_reported() {
        let tasks = Tasks::new(Shutdown::new());
        let stop = tasks.shutdown().clone();
        tasks.spawn("waits", TaskKind::Service, async move {
            stop.wait().await;
            Ok(())
        });
        tasks.spawn("fails", TaskKind::Essential, async { anyhow::bail!("disk gone") });
        tasks.shutdown().wait().await;
        let drained = tasks.drain(SOON).await;
        assert!(drained.unfinished.is_empty());
        let failure = drained.failure.unwrap();
        assert_eq!(failure.to_string(), "task fails failed: disk gone");
    }

    #[tokio::test]
    async fn a_best_effort_panic_is_counted_and_nothing_stops() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("panics", TaskKind::BestEffort, async { panic!("oh {}", 1) });
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.best_effort_failures(), 1);
        assert!(!tasks.shutdown().is_requested());
        assert!(tasks.drain(SOON).await.failure.is_none());
    }

    #[tokio::test]
    async fn a_service_must_not_end_early_even_well() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("accept", TaskKind::Service, async { Ok(()) });
        tasks.shutdown().wait().await;
        let failure = tasks.drain(SOON).await.failure.unwrap();
        assert_eq!(failure.task, "accept");
    }

    #[tokio::test]
    async fn drain_names_and_aborts_those_that_do_not_end() {
        let tasks = Tasks::new(Shutdown::new());
        let (dropped, was_dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stubborn", TaskKind::Essential, async move {
            let _held = dropped;
            std::future::pending::<()>().await;
            Ok(())
        });
        tasks.spawn("quick", TaskKind::Essential, async { Ok(()) });
        let drained = tasks.drain(Duration::from_millis(20)).await;
        assert_eq!(drained.unfinished, ["stubborn"]);
        assert!(drained.failure.is_none());
        // Aborted, so what it held is dropped.
        assert!(tokio::time::timeout(SOON, was_dropped).await.unwrap().is_err());
    }

    /// A task that is dropped before its first poll must not stand on the list for ever.
    #[tokio::test]
    async fn a_task_that_was_never_polled_leaves_the_list() {
        let tasks = Tasks::new(Shutdown::new());
        // This runtime has one thread, and it is here: nothing is polled before the next await.
        tasks.spawn("late", TaskKind::Service, std::future::pending());
        for running in tasks.set.running.lock().values() {
            running.abort.as_ref().unwrap().abort();
        }
        let mut count = tasks.set.running_count.subscribe();
        tokio::time::timeout(SOON, count.wait_for(|count| *count == 0)).await.unwrap().unwrap();
        let drained = tasks.drain(SOON).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none());
    }

    /// A runtime that is gone drops what it is given.
    #[test]
    fn a_task_for_a_runtime_that_is_gone_leaves_the_list() {
        let kept = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let tasks = kept.block_on(async { Tasks::new(Shutdown::new()) }).stage_on(other.handle().clone());
        drop(other);
        tasks.spawn("nowhere", TaskKind::BestEffort, std::future::pending());
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn threads_are_tracked_and_their_panics_stop_the_set() {
        let tasks = Tasks::new(Shutdown::new());
        let stop = tasks.shutdown().clone();
        tasks
            .spawn_thread("syncer", TaskKind::Service, move || {
                while !stop.sleep_blocking(Duration::from_secs(60)) {}
                Ok(())
            })
            .unwrap();
        tasks.spawn_thread("bad", TaskKind::Essential, || panic!("no disk")).unwrap();
        tasks.shutdown().wait().await;
        let drained = tasks.drain(SOON).await;
        assert!(drained.unfinished.is_empty());
        assert_eq!(drained.failure.unwrap().to_string(), "task bad failed: panicked: no disk");
    }

    #[tokio::test]
    async fn a_stage_stops_on_its_own_but_fails_together_with_its_parent() {
        let tasks = Tasks::new(Shutdown::new());
        let (doors, books) = (tasks.stage(), tasks.stage());
        let stop = books.shutdown().clone();
        books.spawn("book", TaskKind::Service, async move {
            stop.wait().await;
            Ok(())
        });
        assert!(doors.drain(SOON).await.failure.is_none());
        assert!(!books.shutdown().is_requested());
        assert!(!tasks.shutdown().is_requested());
        books.spawn("ledger", TaskKind::Essential, async { anyhow::bail!("full") });
        tasks.shutdown().wait().await;
        assert!(books.drain(SOON).await.unfinished.is_empty());
        assert_eq!(tasks.drain(SOON).await.failure.unwrap().task, "ledger");
    }

    #[tokio::test]
    async fn sigterm_requests_shutdown() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.stop_on_signals().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        tokio::time::timeout(SOON, tasks.shutdown().wait()).await.unwrap();
        assert!(tasks.drain(SOON).await.unfinished.is_empty());
    }
}
