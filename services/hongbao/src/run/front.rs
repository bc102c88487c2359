//! The role access: the front door, with ways to the nodes of the other roles.

use super::base::Base;
use crate::up::plans::AccessPlans;
use access::token::KeyCell;
use access::{AccessDeps, AccessServer, Router};
use ownership::members::Role;
use runtime::{Metrics, TaskKind, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;

/// Opens the door: its addresses.
///
/// # Errors
/// When an address can't be had.
pub async fn open(
    base: &Base,
    plans: Arc<AccessPlans>,
    tasks: &Tasks,
) -> anyhow::Result<(Option<SocketAddr>, Option<SocketAddr>)> {
    let [lottery, flow, delivery] = [Role::Lottery, Role::Flow, Role::Delivery].map(|role| base.nodes(role));
    let mut router = Router::new(base.dialer.clone(), lottery, flow, delivery);
    router.step();
    let deps = AccessDeps {
        clock: base.clock.clone(),
        keys: KeyCell::new(base.keys.token.clone()),
        plans,
        routes: router.routes(),
        awards: Arc::new(router.awards()),
        accounts: Arc::new(router.accounts()),
        metrics: Metrics::new(),
        extra: None,
    };
    tasks.spawn("routes", TaskKind::Service, router.run(tasks.shutdown().clone()));
    let bound = AccessServer::bind(base.config.access.clone(), deps)?;
    let addresses = (bound.tcp_address(), bound.http_address());
    bound.run(tasks)?;
    Ok(addresses)
}
