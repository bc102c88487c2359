//! The role access: the front door, with ways to the nodes of the other roles.

use super::base::Base;
use crate::config::Mistake;
use crate::up::plans::AccessPlans;
use access::gates::{AddressRates, RateBook, RedisRates, RedisRatesOptions};
use access::token::KeyCell;
use access::{AccessControl, AccessDeps, AccessServer, ChatWays, Router};
use ownership::members::Role;
use protocol::calls::Chat;
use runtime::{Metrics, TaskKind, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;
use storage::redis::{Redis, RedisOptions};

/// How long a login may wait for the word of the shared limits, ms; this door's own word counts then.
const RATES_MS: u64 = 50;
/// How long connecting to Redis may take, ms.
const CONNECT_MS: u64 = 1_000;

/// A door that is open.
pub struct Front {
    /// Where it speaks frames.
    pub tcp: Option<SocketAddr>,
    /// Where it speaks HTTP.
    pub http: Option<SocketAddr>,
    /// For operators.
    pub control: AccessControl,
    /// The ways to chat, if players may chat.
    pub chat: Option<Arc<ChatWays>>,
}

/// Opens the door.
///
/// # Errors
/// When an address can't be had.
pub async fn open(base: &Base, plans: Arc<AccessPlans>, tasks: &Tasks) -> anyhow::Result<Front> {
    let [lottery, flow, delivery] = [Role::Lottery, Role::Flow, Role::Delivery].map(|role| base.nodes(role));
    let mut router = Router::new(base.dialer.clone(), lottery, flow, delivery);
    let chat = base.config.chat.enabled.then(|| ChatWays::new(base.config.node.id));
    if let Some(chat) = &chat {
        router = router.with_chat(base.nodes(Role::Chat), Arc::clone(chat));
    }
    router.step();
    let deps = AccessDeps {
        node: base.config.node.id,
        chat: chat.clone().map(|ways| ways as Arc<dyn Chat>),
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
    let open = Front { tcp: bound.tcp_address(), http: bound.http_address(), control: bound.control(), chat };
    if let Some(chat) = &open.chat {
        chat.attach(Arc::new(bound.pushes()));
    }
    bound.run(tasks)?;
    Ok(open)
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
