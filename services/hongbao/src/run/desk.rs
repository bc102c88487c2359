//! The role console: the operators' desk and the admin API, on the servers of the cluster. Several processes may have it.
//!
//! Operators stand beside the installation's keys (`hongbao token operator --data FOLDER_OF_KEYS`), so the folder is
//! copied to wherever the role runs, as it is anyway.

use super::base::{Base, CLOCK_MS_MAX};
use crate::desk::{self, DeskParts, Desks, PlatformOperations, Shared};
use crate::keys::operators_file;
use ownership::members::Role;
use quota_config::{PlanCell, PlanRepository};
use runtime::Tasks;
use std::net::SocketAddr;
use std::sync::Arc;

/// Opens the admin API: its address, if it has one.
///
/// # Errors
/// When a table can't be used, the operators' file is wrong, or the address can't be had.
pub async fn open(
    base: &Base,
    (plans, cell): (&Arc<dyn PlanRepository>, &Arc<PlanCell>),
    tasks: &Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    let (config, ledger, awards) = (&base.config, base.ledger().await?, base.award_store().await?);
    let around = Shared {
        ledger: Arc::clone(&ledger),
        repository: Arc::clone(plans),
        members: base.members.members(Role::Lottery),
        awards: Arc::clone(&awards),
        book: base.delivery_book().await?,
        limits: base.limits().await?,
        vendors: config.delivery.vendors.clone(),
    };
    let clock = base.clock.clone();
    let parts = DeskParts {
        config,
        operators: operators_file(&config.cluster.keys),
        seed: base.keys.newest_seed().clone(),
        plans: Arc::clone(plans),
        operations: PlatformOperations::new(ledger, Arc::new(around), Arc::clone(cell), clock.clone()),
        awards,
        clock,
        desks: Desks::Several { clocks_ms: CLOCK_MS_MAX },
    };
    desk::open(parts, tasks).await
}
