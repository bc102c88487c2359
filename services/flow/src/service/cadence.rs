//! The loop around a worker that takes batches, and its cadence.
//!
//! A transaction costs a sync, the outer pages of each table and a few positions, whatever is in it; at thousands of awards
//! a second a loop that takes what is there would pay that for every hundred. So batches that were not full are kept apart by a
//! bounded time, in which the next one grows. What comes after a rest is taken at once, and a full batch is followed by the
//! next one at once.

use std::sync::Arc;
use std::time::Duration;

use runtime::{TaskKind, Tasks};
use tokio::time::Instant;

use super::progress::FlowProgress;
use super::{FlowError, Patience};

/// Takes batches, one stage at a time.
pub(super) trait Worker: Send + 'static {
    /// Does one stage; false when there is nothing to do.
    fn step(&mut self) -> impl Future<Output = Result<bool, FlowError>> + Send;
    /// Returns when there may be something to do.
    fn ready(&mut self) -> impl Future<Output = ()> + Send;
    /// What was taken is done, and the next stage takes something new.
    fn is_between_batches(&self) -> bool;
    /// The last batch was so large that a wait would not make the next one much cheaper.
    fn was_full(&self) -> bool;
}

/// Runs a worker until shutdown, with at least `every_ms` from one batch that was not full to the next.
pub(super) fn spawn<W: Worker>(
    tasks: &Tasks,
    name: &'static str,
    what: &'static str,
    every_ms: u64,
    mut worker: W,
    progress: Arc<FlowProgress>,
) {
    let stop = tasks.shutdown().clone();
    let every = Duration::from_millis(every_ms);
    tasks.spawn(name, TaskKind::Service, async move {
        let mut patience = Patience::new(what);
        let mut next = Instant::now();
        while !stop.is_requested() {
            let takes = worker.is_between_batches();
            if takes && !worker.was_full() {
                tokio::select! { () = tokio::time::sleep_until(next) => {}, () = stop.wait() => break }
            }
            let began = Instant::now();
            match worker.step().await {
                Ok(true) => {
                    if takes {
                        next = began + every;
                    }
                    patience.well(&progress);
                }
                Ok(false) => {
                    tokio::select! { () = worker.ready() => {}, () = stop.wait() => break }
                }
                Err(error) => {
                    tokio::select! { r = patience.after(error, &progress) => r?, () = stop.wait() => break }
                }
            }
        }
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use super::{FlowError, FlowProgress, Worker, spawn};
    use runtime::{Shutdown, Tasks};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    /// Always finds a batch of two stages.
    struct Always {
        steps: Arc<AtomicU64>,
        full: bool,
    }

    impl Worker for Always {
        async fn step(&mut self) -> Result<bool, FlowError> {
            self.steps.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            Ok(true)
        }
        async fn ready(&mut self) {}
        fn is_between_batches(&self) -> bool {
            self.steps.load(Relaxed).is_multiple_of(2)
        }
        fn was_full(&self) -> bool {
            self.full
        }
    }

    fn start(full: bool, every_ms: u64) -> (Tasks, Arc<AtomicU64>) {
        let (tasks, steps) = (Tasks::new(Shutdown::new()), Arc::<AtomicU64>::default());
        let worker = Always { steps: Arc::clone(&steps), full };
        spawn(&tasks, "test", "test", every_ms, worker, Arc::<FlowProgress>::default());
        (tasks, steps)
    }

    #[tokio::test]
    async fn small_batches_are_kept_apart_and_the_first_one_is_not_kept_waiting() {
        let (tasks, steps) = start(false, 60_000);
        while steps.load(Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // All of the first batch, and then the loop rests; asked to end, it does not wait for the rest's end.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(steps.load(Relaxed), 2);
        tasks.shutdown().request();
        let drained = tasks.drain(Duration::from_secs(60)).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
    }

    #[tokio::test]
    async fn full_batches_follow_each_other_at_once() {
        let (tasks, steps) = start(true, 60_000);
        while steps.load(Relaxed) < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tasks.shutdown().request();
        let drained = tasks.drain(Duration::from_secs(60)).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
    }
}
