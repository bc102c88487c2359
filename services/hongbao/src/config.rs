//! The configuration of the binary: the commented default file is what it loads, and everything else is laid over it.

use crate::run::ClusterSection;
use access::AccessConfig;
use chat::ChatOptions;
use console::ConsoleConfig;
use delivery::DeliveryConfig;
use quota_config::Policy;
use runtime::telemetry::LogConfig;
use runtime::{ConfigError, Layers, OneTable};
use serde::Deserialize;
use std::path::Path;

/// The default configuration; also its reference.
pub const DEFAULT: &str = include_str!("default.toml");

/// All settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// This process.
    pub node: NodeSection,
    /// The front door.
    pub access: AccessConfig,
    /// The draw.
    pub lottery: LotterySection,
    /// Topics between the services.
    pub queue: QueueSection,
    /// The memory of awards.
    pub flow: FlowSection,
    /// Vendors and their pace.
    pub delivery: DeliveryConfig,
    /// The chat service.
    pub chat: ChatSection,
    /// The page `/play`.
    pub play: PlaySection,
    /// The admin API.
    pub console: ConsoleConfig,
    /// Which changes take two people.
    pub policy: Policy,
    /// Servers of roles that run apart.
    pub cluster: ClusterSection,
    /// Logging.
    pub log: LogConfig,
}

/// This process.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeSection {
    /// Its number, 0 to 4095.
    pub id: u16,
    /// Threads for everything but the front door, and as many again for what works behind the answers.
    pub threads: usize,
    /// By how much the latter let others go first, 0 to 19.
    pub nice_behind: u8,
}

/// The draw.
#[derive(Clone, Debug, Deserialize)]
pub struct LotterySection {
    /// Shards of users.
    pub shards: usize,
    /// Most users in memory.
    pub users_max: usize,
    /// MiB of log between snapshots.
    pub snapshot_mib: u64,
}

/// Topics between the services.
#[derive(Clone, Debug, Deserialize)]
pub struct QueueSection {
    /// Partitions of each topic; fixed with the first start.
    pub partitions: u16,
}

/// The memory of awards.
#[derive(Clone, Debug, Deserialize)]
pub struct FlowSection {
    /// Least time between two rounds of repeating orders, ms.
    pub repeat_interval_ms: u64,
    /// How long after delivery has consumed an order its first step may take, ms.
    pub repeat_grace_ms: u64,
    /// Players are told '24 hours' when their vendor is so far behind, ms.
    pub eta_24h_ms: u64,
    /// Players are told '48 hours' when their vendor is so far behind, ms.
    pub eta_48h_ms: u64,
}

/// The page `/play` of `hongbao up`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct PlaySection {
    /// Whether it is served.
    pub page: bool,
    /// Whether it may mint test users' tokens; never done where the front door listens to other machines.
    pub tokens: bool,
}

/// The chat service.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "OneTable<ChatPlace, ChatOptions>")]
pub struct ChatSection {
    /// Whether there is one.
    pub enabled: bool,
    /// Where its node keeps conversations.
    pub store: ChatStore,
    /// Its settings.
    pub options: ChatOptions,
}

/// What of the section is not the service's own.
#[derive(Deserialize)]
struct ChatPlace {
    enabled: bool,
    store: ChatStore,
}

impl From<OneTable<ChatPlace, ChatOptions>> for ChatSection {
    fn from(OneTable(place, options): OneTable<ChatPlace, ChatOptions>) -> ChatSection {
        ChatSection { enabled: place.enabled, store: place.store, options }
    }
}

/// Where chat keeps conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum ChatStore {
    /// In a log of its node's own, with a database beside it: one node.
    #[serde(rename = "log")]
    Log,
    /// In the installation's PostgreSQL: as many nodes as one likes.
    #[serde(rename = "postgresql")]
    Postgresql,
}

/// Something that a person wrote and must correct before starting again can help: a setting that makes no sense, a
/// campaign file with mistakes, keys that others can read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// Loads the configuration: default, file, environment `HONGBAO__SECTION__KEY`, `--set`.
pub fn load(file: Option<&Path>, set: &[String]) -> anyhow::Result<Config> {
    let mut layers = Layers::new("default.toml", DEFAULT)?;
    if let Some(file) = file {
        layers = layers.file(file)?;
    }
    layers = layers.env("HONGBAO", std::env::vars())?;
    for assignment in set {
        layers = layers.set(assignment)?;
    }
    let config: Config = layers.build()?;
    check(&config, &layers)?;
    Ok(config)
}

fn check(config: &Config, layers: &Layers) -> Result<(), anyhow::Error> {
    let wrong = |key: &str, text: &str| -> Result<(), ConfigError> { Err(layers.wrong(key, text)) };
    if config.node.id > campaign::NodeId::MAX.0 {
        wrong("node.id", "node numbers go from 0 to 4095")?;
    }
    if config.node.nice_behind > 19 {
        wrong("node.nice_behind", "0 (not at all) to 19")?;
    }
    if !config.lottery.shards.is_power_of_two() || config.lottery.shards > 4096 {
        wrong("lottery.shards", "a power of two from 1 to 4096 is needed")?;
    }
    if config.lottery.users_max < 1_000 {
        wrong("lottery.users_max", "at least 1000")?;
    }
    if config.lottery.snapshot_mib == 0 {
        wrong("lottery.snapshot_mib", "at least 1")?;
    }
    if config.queue.partitions == 0 || config.queue.partitions > 256 {
        wrong("queue.partitions", "1 to 256")?;
    }
    if let Err(e) = config.chat.options.check() {
        wrong(&format!("chat.{}", e.field), &e.must)?;
    }
    config.delivery.check().map_err(|e| Mistake(format!("configuration: {e}")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::load;

    #[test]
    fn the_default_is_whole_and_mistakes_are_named() {
        let config = load(None, &[]).unwrap();
        assert_eq!(config.node.id, 1);
        let e = load(None, &["lottery.shards=3".into()]).unwrap_err().to_string();
        assert!(e.contains("power of two"), "{e}");
        let e = load(None, &["chat.store=postgres".into()]).unwrap_err().to_string();
        assert!(e.contains("chat.store") && e.contains("log, postgresql"), "{e}");
        let e = load(None, &["chat.checkpoint_bytes=6MB".into()]).unwrap_err().to_string();
        assert!(e.starts_with("--set chat.checkpoint_bytes=6MB: chat.checkpoint_bytes: "), "{e}");
        let e = load(None, &["chat.checkpoint_byte=6000".into()]).unwrap_err().to_string();
        assert!(e.contains("did you mean checkpoint_bytes?"), "{e}");
        let e = load(None, &["lottery.shard=4".into()]).unwrap_err().to_string();
        assert!(e.contains("shards"), "names the nearest key: {e}");
    }
}
