//! `hongbao run --role ...`: some of the roles in this process, on servers that all of them share.
//!
//! What `hongbao up` composes around SQLite and local logs is composed here around PostgreSQL, Kafka, memcached and Redis;
//! the roles are the same, and the calls between them cross the network as frames. A process announces its roles in the table
//! of members, so that the others find it, and takes them out at the end.
//!
//! Put together from behind, taken apart from the front: see [`Process`].

mod base;
mod brokers;
mod chat;
mod desk;
mod ending;
mod front;
mod health;
mod lottery;
mod process;
mod section;
pub mod servers;

pub use brokers::TooOld;
pub use section::ClusterSection;

use crate::cli::RunArgs;
use crate::config;
use crate::keys::Keys;
use anyhow::Context as _;
use campaign::NodeId;
use flowlog::{DirLock, check_format_version};
use ownership::members::Role;
use process::Process;
use runtime::{Shutdown, SystemClock, Tasks, telemetry};
use std::path::Path;
use std::time::Duration;

/// Format of the data folder.
const DATA_FORMAT: u32 = 1;

/// Numbers that are drawn begin here; below are those of lottery and chat nodes.
const DRAWN_FROM: u16 = 1_024;

/// Runs until it is asked to stop.
pub fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let mut config = config::load(args.config.as_deref(), &args.set)?;
    telemetry::init(&config.log, std::env::var("RUST_LOG").ok().as_deref())?;
    if !args.roles.iter().any(|role| matches!(role, Role::Lottery | Role::Chat)) {
        config.node.id = drawn_number()?;
    }
    config.cluster.check(config.node.id, &args.roles)?;
    std::fs::create_dir_all(&args.data).with_context(|| format!("making {}", args.data.display()))?;
    let _lock = DirLock::acquire(&args.data)?;
    check_format_version(&args.data, DATA_FORMAT)?;
    let keys = Keys::open_shared(&config.cluster.keys)?;
    crate::memory::tend();
    let tokio = crate::up::threads_named("hongbao", config.node.threads.max(1)).build()?;
    tokio.block_on(async {
        let clock = SystemClock::shared();
        let tasks = Tasks::new(Shutdown::new());
        tasks.stop_on_signals()?;
        let process = tokio::select! {
            process = Process::start(args, config, keys, clock, &tasks) => process?,
            // Servers are waited for as long as it takes; whoever is waiting may be told not to.
            () = tasks.shutdown().wait() => {
                let failure = tasks.drain(Duration::from_secs(2)).await.failure;
                return failure.map_or(Ok(runtime::exit::OK), |failure| Err(failure.error));
            }
        };
        if let Some(path) = &args.port_file {
            process.write_ports(path)?;
        }
        process.serve(&tasks).await
    })
}

/// A number for a process without a lane and without conversations: others only have to tell it from its like. Two that draw the same are told apart by
/// the table of members, which refuses the second; started again, it draws another.
fn drawn_number() -> anyhow::Result<u16> {
    let mut bytes = [0u8; 2];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("the system gives no random numbers: {e}"))?;
    Ok(DRAWN_FROM + u16::from_le_bytes(bytes) % (NodeId::MAX.0 - DRAWN_FROM))
}

/// Makes the keys of an installation.
pub fn make_keys(dir: &Path) -> anyhow::Result<u8> {
    let keys = Keys::open(dir)?;
    anyhow::ensure!(
        !keys.calls.is_empty(),
        "{}: the keys there are from before roles could run apart",
        dir.display()
    );
    crate::cli::print(&format!("keys of the installation are in {}", dir.join("keys").display()));
    Ok(runtime::exit::OK)
}
