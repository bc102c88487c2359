//! What every role stands on: the servers, who else is there, and the way to them.
//!
//! A server that does not answer at the start is waited for, and it is said which and what was tried; one that refuses
//! (credentials, an old version, a topic with the wrong number of partitions) ends the start.

use super::servers;
use crate::config::{Config, Mistake};
use crate::keys::Keys;
use access::Nodes;
use delivery::account::PgAccounts;
use delivery::book::PgBook;
use delivery::limits::{LimitBook, PgLimits};
use delivery::{AccountBook, DeliveryBook};
use flow::store::{AwardStore, PgAwardStore};
use lottery::ledger::{PgLedger, QuotaLedger};
use ownership::Members as _;
use ownership::members::{Announcement, MemberState, PgMembers, Poller, Role};
use protocol::calls::client::{CallOptions, Dialer, Peers, RemoteHistories, Target};
use protocol::calls::{Cluster, Histories, ServiceSet};
use queue::Queue;
use queue::kafka::{Kafka, KafkaLanes, KafkaQueue};
use quota_config::{PlanRepository, SqlRepository};
use runtime::{SharedClock, TaskKind, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use storage::pg::{Pg, migrate};
use storage::redis::{Redis, RedisOptions};

/// How often lists of members are looked at by those who only call others.
pub const LOOK: Duration = Duration::from_millis(100);

/// How long connecting to Redis may take, ms.
const REDIS_CONNECT_MS: u64 = 1_000;

/// Limits of the ledger's calls: a node lives 2 s without an answer, and must have time for a second try.
pub const LEDGER_MS: u64 = 900;

/// Clocks of a machine and of the database may differ by so much; more is a mistake of a time zone, a dead battery, or a
/// machine that asks nobody for the time. Two consoles count on it (see `crate::desk`).
pub const CLOCK_MS_MAX: u64 = 10_000;

/// Servers, members, keys.
#[derive(Clone)]
pub struct Base {
    /// Settings.
    pub config: Arc<Config>,
    /// Secrets.
    pub keys: Arc<Keys>,
    /// Time.
    pub clock: SharedClock,
    /// PostgreSQL.
    pub pg: Pg,
    /// Kafka.
    pub kafka: Kafka,
    /// Who is alive.
    pub members: Arc<Poller>,
    /// Proof of belonging.
    pub cluster: Cluster,
    /// The way to others.
    pub dialer: Dialer,
}

/// What is announced: the roles of a process, at one address.
fn announcements(config: &Config, roles: &[Role], address: &str) -> Vec<Announcement> {
    let announcement = |role: &Role| Announcement {
        role: *role,
        node: config.node.id,
        address: address.to_owned(),
        weight: config.cluster.weight,
        state: MemberState::Serving,
    };
    roles.iter().map(announcement).collect()
}

impl Base {
    /// Reaches the servers. `calls`: where this process takes calls, as others reach it.
    ///
    /// # Errors
    /// What waiting does not put right.
    pub async fn open(
        config: Config,
        keys: Keys,
        clock: SharedClock,
        (roles, calls): (&[Role], SocketAddr),
        tasks: &Tasks,
    ) -> anyhow::Result<Base> {
        let cluster = Cluster::new(config.cluster.name.clone(), keys.calls.clone())?;
        let pg = servers::postgres(&config, config.cluster.postgres_connections, None).await?;
        check_clock(&pg, &clock).await?;
        let kafka = servers::kafka(&config, &clock).await?;
        migrate(&pg, ownership::members::SERVICE, ownership::members::MIGRATIONS, clock.now_ms()).await?;
        let address = match config.cluster.advertise.as_str() {
            "" => calls.to_string(),
            told => told.to_owned(),
        };
        let mine = announcements(&config, roles, &address);
        let members = Arc::new(Poller::new(Arc::new(PgMembers::new(pg.clone())), mine));
        let from = format!("{} {}", roles.first().map_or("", |role| role.name()), config.node.id);
        let options = CallOptions::default();
        let dialer = Dialer::new(cluster.clone(), &from, options, clock.clone(), tasks.clone());
        let (config, keys) = (Arc::new(config), Arc::new(keys));
        Ok(Base { config, keys, clock, pg, kafka, members, cluster, dialer })
    }

    /// The queue.
    ///
    /// # Errors
    /// When the client library refuses its settings.
    pub fn queue(&self) -> anyhow::Result<Arc<dyn Queue>> {
        Ok(Arc::new(KafkaQueue::new(&self.kafka)?))
    }

    /// The lanes.
    ///
    /// # Errors
    /// When the client library refuses its settings.
    pub fn lanes(&self) -> anyhow::Result<KafkaLanes> {
        Ok(KafkaLanes::new(&self.kafka)?)
    }

    /// The quota ledger, on connections of its own with short limits.
    ///
    /// # Errors
    /// When its tables can't be used.
    pub async fn ledger(&self) -> anyhow::Result<Arc<dyn QuotaLedger>> {
        let pg = servers::postgres(&self.config, 3, Some(LEDGER_MS)).await?;
        Ok(Arc::new(PgLedger::open(pg, self.clock.now_ms()).await?))
    }

    /// Awards.
    ///
    /// # Errors
    /// When the tables can't be used.
    pub async fn award_store(&self) -> anyhow::Result<Arc<dyn AwardStore>> {
        Ok(Arc::new(PgAwardStore::open(self.pg.clone(), self.clock.now_ms()).await?))
    }

    /// Orders and their journal: a shard for each partition.
    ///
    /// # Errors
    /// When the tables can't be used.
    pub async fn delivery_book(&self) -> anyhow::Result<Arc<dyn DeliveryBook>> {
        let shards = self.config.queue.partitions;
        Ok(Arc::new(PgBook::open(self.pg.clone(), shards, self.clock.now_ms()).await?))
    }

    /// Paces towards vendors that people have set.
    ///
    /// # Errors
    /// When the tables can't be used.
    pub async fn limits(&self) -> anyhow::Result<Arc<dyn LimitBook>> {
        Ok(Arc::new(PgLimits::open(self.pg.clone(), self.clock.now_ms()).await?))
    }

    /// Accounts of users at vendors.
    ///
    /// # Errors
    /// When the tables can't be used.
    pub async fn account_book(&self) -> anyhow::Result<Arc<dyn AccountBook>> {
        Ok(Arc::new(PgAccounts::open(self.pg.clone(), self.clock.now_ms()).await?))
    }

    /// Plans with their history.
    ///
    /// # Errors
    /// When the tables can't be used.
    pub async fn repository(&self) -> anyhow::Result<Arc<dyn PlanRepository>> {
        Ok(Arc::new(SqlRepository::open_postgres(self.pg.clone(), self.clock.now_ms()).await?))
    }

    /// Redis, if the installation has one; several addresses are those of a cluster. `answer_ms`: how long an answer may
    /// take.
    ///
    /// # Errors
    /// When an address is none.
    pub fn redis(&self, answer_ms: u64) -> anyhow::Result<Option<Redis>> {
        let urls = self.config.cluster.redis.clone();
        if urls.is_empty() {
            return Ok(None);
        }
        let cluster = urls.len() > 1;
        let redis = Redis::new(RedisOptions { urls, cluster, connect_ms: REDIS_CONNECT_MS, answer_ms });
        Ok(Some(redis.map_err(|error| Mistake(format!("cluster.redis: {error}")))?))
    }

    /// The nodes of a role, for whoever routes to them.
    pub fn nodes(&self, role: Role) -> Nodes {
        let members = self.members.members(role);
        let addresses = Arc::clone(&members);
        Nodes::new(members, move |node| addresses.address(node))
    }

    /// Flow's memory of wins, at whichever flow node.
    pub fn histories(&self, tasks: &Tasks) -> Arc<dyn Histories> {
        let peers = Peers::new("flow");
        let (members, following) = (self.members.members(Role::Flow), Arc::clone(&peers));
        let (dialer, stop) = (self.dialer.clone(), tasks.shutdown().clone());
        tasks.spawn("ways to flow", TaskKind::Service, async move {
            let mut seen = 0;
            while !stop.is_requested() {
                let list = members.current();
                if list.epoch != seen {
                    seen = list.epoch;
                    let target = |node| Some(Target { node, address: members.address(node)?.to_string() });
                    let serving = list.members.iter().filter(|member| member.weight > 0);
                    let targets: Vec<Target> = serving.filter_map(|member| target(member.node)).collect();
                    following.follow(&dialer, ServiceSet::HISTORIES, targets);
                }
                tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = stop.wait() => {} }
            }
            Ok(())
        });
        Arc::new(RemoteHistories::new(peers))
    }
}

/// Everything is dated by the ledger's clock; a machine whose own is far off is one that nobody looks after.
async fn check_clock(pg: &Pg, clock: &SharedClock) -> anyhow::Result<()> {
    let text = format!("SELECT {} AS now_ms", ownership::pg::NOW_MS);
    let mut connection = pg.connection().await?;
    let theirs: i64 = storage::sqlx::query_scalar(&text).fetch_one(&mut *connection).await?;
    let (theirs, ours) = (theirs.unsigned_abs(), clock.now_ms());
    let apart = theirs.abs_diff(ours);
    if apart <= CLOCK_MS_MAX {
        return Ok(());
    }
    let which = if ours > theirs { "ahead of" } else { "behind" };
    Err(Mistake(format!(
        "this machine's clock says {}, that of PostgreSQL at {} says {}: it is {} s {which} it, and at most {} s are taken. \
         Set it right (chrony, systemd-timesyncd; a wrong time zone of the hardware clock makes whole hours), and start again",
        in_words(ours),
        pg.at(),
        in_words(theirs),
        apart / 1_000,
        CLOCK_MS_MAX / 1_000
    ))
    .into())
}

/// An instant for people, UTC.
fn in_words(ms: u64) -> String {
    let instant = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(|| format!("{ms} ms"), |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::check_clock;
    use runtime::{Clock as _, ManualClock, SystemClock};
    use storage::pg::{Pg, PgOptions};
    use testkit::servers::FreshDatabase;

    const HOUR_MS: u64 = 3_600_000;

    #[tokio::test]
    async fn a_clock_that_is_an_hour_off_is_refused_with_both() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
        let now_ms = SystemClock.now_ms();
        check_clock(&pg, &SystemClock::shared()).await.unwrap();
        for (ours, which) in [(now_ms + HOUR_MS, "ahead of"), (now_ms - HOUR_MS, "behind")] {
            let clock: runtime::SharedClock = ManualClock::new(ours);
            let error = check_clock(&pg, &clock).await.unwrap_err().to_string();
            let said = jiff::Timestamp::from_millisecond(ours as i64).unwrap().to_string();
            assert!(error.contains(&said) && error.contains(which) && error.contains(&pg.at()), "{error}");
            let seconds = error.split("it is ").nth(1).and_then(|t| t.split(' ').next()).unwrap();
            assert!((3_500..3_700).contains(&seconds.parse::<u64>().unwrap()), "{error}");
        }
    }
}
