//! The operators' desk and the admin API around it: of one process that has everything, or of a cluster, where several
//! processes may serve the same desk on the same servers.

mod award_lists;
mod cluster;
mod embedded;
mod operations;
mod parts;
mod rates;
mod rehearsals;

pub use cluster::Shared;
pub use embedded::Embedded;
pub use operations::PlatformOperations;

use crate::config::Config;
use anyhow::Context as _;
use award_lists::AwardLists;
use campaign::SeedKey;
use console::{Console, ConsoleDeps, Operators};
use flow::store::AwardStore;
use quota_config::{Desk, Finished, PlanRepository, Seen};
use rehearsals::Rehearsals;
use runtime::{SharedClock, Shutdown, TaskKind, Tasks};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often a desk of several looks for what another one has left half done.
const LOOK: Duration = Duration::from_secs(10);

/// Whether this is the only desk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Desks {
    /// It is: what is half done at its start nobody else is at.
    One,
    /// There may be others, whose clocks may be so far from this one's, ms.
    Several {
        /// See above.
        clocks_ms: u64,
    },
}

/// What the desk is put together from.
pub struct DeskParts<'a> {
    /// All settings.
    pub config: &'a Config,
    /// The file of operators.
    pub operators: PathBuf,
    /// Key of the seeds of new rounds.
    pub seed: SeedKey,
    /// History of plans.
    pub plans: Arc<dyn PlanRepository>,
    /// Ledger, node and delivery.
    pub operations: PlatformOperations,
    /// Flow's store, for lists.
    pub awards: Arc<dyn AwardStore>,
    /// Time.
    pub clock: SharedClock,
    /// Whether there are others.
    pub desks: Desks,
}

/// Opens the admin API: its address, if it has one.
pub async fn open(parts: DeskParts<'_>, tasks: &Tasks) -> anyhow::Result<Option<SocketAddr>> {
    let DeskParts { config, operators, seed, plans, operations, awards, clock, desks } = parts;
    let (repository, operations) = (Arc::clone(&plans), Arc::new(operations));
    let desk = Arc::new(Desk::new(repository, config.policy, Arc::new(seed), operations, clock.clone()));
    match desks {
        Desks::One => finish(&desk, &mut Seen::default(), u64::MAX).await,
        Desks::Several { clocks_ms } => {
            // Twice as long as a change may take: its last step may still be on its way when it is given up.
            let left_ms = 2 * (config.console.change_ms + clocks_ms);
            let work = finish_again(Arc::clone(&desk), left_ms, clock.clone(), tasks.shutdown().clone());
            tasks.spawn("changes left half done", TaskKind::Service, work);
        }
    }
    let deps = ConsoleDeps {
        desk,
        operators: Arc::new(Operators::open(operators, clock.clone())?),
        awards: Arc::new(AwardLists::new(awards, plans, clock.clone())),
        rehearse: Some(Arc::new(Rehearsals)),
        clock,
    };
    let console = Console::new(config.console.clone(), deps, tasks)?;
    let at = config.console.http.map_or_else(String::new, |at| at.to_string());
    let bound = console.bind().await.with_context(|| format!("listening on {at} (console.http)"))?;
    let Some(listener) = bound else { return Ok(None) };
    let address = listener.local_addr()?;
    tasks.spawn("console", TaskKind::Service, async move { console.serve(listener).await });
    Ok(Some(address))
}

/// Finishes what was left half done `left_ms` ago and longer, again and again: a desk that dies leaves it to the others.
async fn finish_again(
    desk: Arc<Desk>,
    left_ms: u64,
    clock: SharedClock,
    stop: Shutdown,
) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    while !stop.is_requested() {
        finish(&desk, &mut seen, clock.now_ms().saturating_sub(left_ms)).await;
        tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = stop.wait() => {} }
    }
    Ok(())
}

/// Finishes what was left half done. What can't be finished now is said, and keeps nobody out: operators may be needed
/// the more.
async fn finish(desk: &Desk, seen: &mut Seen, before_ms: u64) {
    match desk.finish_left(seen, before_ms).await {
        Ok(found) => {
            for Finished { campaign, what, error } in found {
                match error {
                    None => tracing::warn!(?campaign, what, "finished a change that was left half done"),
                    Some(error) => {
                        tracing::error!(
                            ?campaign,
                            what,
                            error,
                            "a change that was left half done is not finished"
                        );
                    }
                }
            }
        }
        Err(error) => tracing::error!(%error, "could not look for changes that were left half done"),
    }
}
