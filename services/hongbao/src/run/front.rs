//! The role access: the front door, with ways to the nodes of the other roles.

use super::base::Base;
use crate::config::Mistake;
use crate::up::plans::AccessPlans;
use access::gates::{AddressRates, RateBook, RedisRates, RedisRatesOptions};
use access::token::KeyCell;
use access::{AccessDeps, AccessServer, Router};
use ownership::members::Role;
use runtime::{Metrics, TaskKind, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;
use storage::redis::{Redis, RedisOptions};

/// How long a login may wait for the word of the shared limits, ms; this door's own word counts then.
const RATES_MS: u64 = 50;
/// How long connecting to Redis may take, ms.
const CONNECT_MS: u64 = 1_000;

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
        node: base.config.node.id,
        chat: None,
        nodes: None,
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
    let config = base.config.access.clone();
    let rates = shared_rates(base, AddressRates::from(&config.limits), tasks)?;
    let bound = AccessServer::bind_sharing(config, deps, rates)?;
    let addresses = (bound.tcp_address(), bound.http_address());
    bound.run(tasks)?;
    Ok(addresses)
}

/// Limits of logins and HTTP over all doors, where there is a Redis for them. Several addresses are those of a cluster.
fn shared_rates(
    base: &Base,
    rates: AddressRates,
    tasks: &Tasks,
) -> anyhow::Result<Option<Arc<dyn RateBook>>> {
    let cluster = &base.config.cluster;
    if cluster.redis.is_empty() {
        return Ok(None);
    }
    let options = RedisOptions {
        urls: cluster.redis.clone(),
        cluster: cluster.redis.len() > 1,
        connect_ms: CONNECT_MS,
        answer_ms: RATES_MS,
    };
    let redis = Redis::new(options).map_err(|error| Mistake(format!("cluster.redis: {error}")))?;
    let options = RedisRatesOptions { prefix: cluster.name.clone(), within_ms: RATES_MS };
    Ok(Some(RedisRates::start(redis, options, rates, base.clock.clone(), tasks)))
}
