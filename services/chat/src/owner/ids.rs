//! Reserving message ids ahead of their time, so that no start gives one twice.

use super::OwnerNode;
use super::reign::Reign;
use super::steps::next_reign;
use runtime::{Backoff, BackoffPolicy, Shutdown};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether there are enough: much less than a reservation lasts.
const LOOK: Duration = Duration::from_millis(200);

const AGAIN: BackoffPolicy = BackoffPolicy { first_ms: 50, max_ms: 1_000, repeats: 2, spread_permille: 300 };

impl OwnerNode {
    pub(super) async fn run_ids(self: Arc<Self>, stop: Shutdown) -> anyhow::Result<()> {
        let mut reigns = self.reign.subscribe();
        while let Some(reign) = next_reign(&mut reigns, &stop).await {
            let mut backoff = Backoff::new(AGAIN);
            while !reign.over.is_requested() && !stop.is_requested() {
                let wait = match self.reserve(&reign).await {
                    Ok(()) => {
                        backoff.succeeded();
                        LOOK
                    }
                    Err(error) => {
                        let wait_ms = backoff.failed(self.clock.mono_ns());
                        if backoff.failures().is_power_of_two() {
                            tracing::warn!(%error, "chat can't reserve message ids");
                        }
                        Duration::from_millis(wait_ms)
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.wait() => {}
                    () = reign.over.wait() => {}
                }
            }
        }
        Ok(())
    }

    async fn reserve(&self, reign: &Reign) -> Result<(), crate::store::StoreError> {
        let wanted = reign.conversations.lock().state.ids.wants(self.clock.now_ms());
        let Some(until_ms) = wanted else { return Ok(()) };
        self.stores.shelf.reserve_ids(self.options.node, until_ms).await?;
        reign.conversations.lock().state.ids.reserved(until_ms);
        Ok(())
    }
}
