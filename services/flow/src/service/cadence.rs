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
