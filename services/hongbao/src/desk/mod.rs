//! The operators' desk and the admin API around it.

use super::award_lists::AwardLists;
use super::operations::PlatformOperations;
use super::rehearsals::Rehearsals;
use crate::config::Config;
use crate::keys::operators_file;
use anyhow::Context as _;
use campaign::SeedKey;
use console::{Console, ConsoleDeps, Operators};
use flow::store::AwardStore;
use quota_config::{Desk, Finished, PlanRepository};
use runtime::{SharedClock, TaskKind, Tasks};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What the desk is put together from.
pub struct DeskParts<'a> {
    /// All settings.
    pub config: &'a Config,
    /// Folder of all data.
    pub data: &'a Path,
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
}

/// Opens the admin API: its address, if it has one.
pub async fn open(parts: DeskParts<'_>, tasks: &Tasks) -> anyhow::Result<Option<SocketAddr>> {
    let DeskParts { config, data, seed, plans, operations, awards, clock } = parts;
    let desk =
        Desk::new(Arc::clone(&plans), config.policy, Arc::new(seed), Arc::new(operations), clock.clone());
    finish(&desk).await;
    let deps = ConsoleDeps {
        desk: Arc::new(desk),
        operators: Arc::new(Operators::open(operators_file(data), clock.clone())?),
        awards: Arc::new(AwardLists::new(awards, plans, clock.clone())),
        rehearse: Some(Arc::new(Rehearsals)),
        clock,
    };
    let console = Console::new(config.console.clone(), deps, tasks)?;
    let Some(listener) = console.bind().await.context("opening the admin API (console.http)")? else {
        return Ok(None);
    };
    let address = listener.local_addr()?;
    tasks.spawn("console", TaskKind::Service, async move { console.serve(listener).await });
    Ok(Some(address))
}

/// Finishes what a process before this one left half done. What can't be finished now is said, and keeps nobody out:
/// operators may be needed the more.
async fn finish(desk: &Desk) {
    match desk.finish().await {
        Ok(found) => {
            for Finished { campaign, what, error } in found {
                match error {
                    None => tracing::warn!(
                        ?campaign,
                        what,
                        "finished a change that an earlier process left half done"
                    ),
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
