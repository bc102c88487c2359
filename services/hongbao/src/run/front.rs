//! The role access: the front door, with ways to the nodes of the other roles.

use super::base::Base;
use crate::up::plans::AccessPlans;
use access::gates::{AddressRates, RateBook, RedisRates, RedisRatesOptions};
use access::token::KeyCell;
use access::{AccessControl, AccessDeps, AccessServer, ChatWays, Router};
use ownership::members::Role;
use protocol::calls::Chat;
use runtime::{Metrics, TaskKind, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;

/// How long a login may wait for the word of the shared limits, ms; this door's own word counts then.
const RATES_MS: u64 = 50;

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

/// Limits of logins and HTTP over all doors, where there is a Redis for them.
fn shared_rates(
    base: &Base,
    rates: AddressRates,
    tasks: &Tasks,
) -> anyhow::Result<Option<Arc<dyn RateBook>>> {
    let Some(redis) = base.redis(RATES_MS)? else { return Ok(None) };
    let options = RedisRatesOptions { prefix: base.config.cluster.name.clone(), within_ms: RATES_MS };
    Ok(Some(RedisRates::start(redis, options, rates, base.clock.clone(), tasks)))
}
