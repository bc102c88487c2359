//! Roles in processes of their own, each as its users run it.

use super::servers::{Database, Servers};
use crate::front::ask::ask_json;
use crate::front::campaign::Campaign;
use crate::front::process::{Process, beside};
use crate::measure::now_ns;
use anyhow::{Context, Result, bail};
use loadgen::token::TokenKey;
use serde::Deserialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a process may take to get ready, and the nodes to divide the users.
const START: Duration = Duration::from_secs(60);

/// Buckets of users.
pub const BUCKETS: u64 = lottery::core::BUCKETS as u64;

#[derive(Deserialize)]
struct Ports {
    health: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
}

struct Member {
    role: &'static str,
    node: u16,
    process: Process,
    health: SocketAddr,
}

/// A platform of several processes; it ends with this value, and its folder and database too.
pub struct Fleet {
    /// Where access speaks frames.
    pub frames: SocketAddr,
    /// Signs players' tokens.
    pub key: TokenKey,
    admin: String,
    members: Vec<Member>,
    folder: TempDir,
    // Last: the processes use it.
    _database: Database,
}

/// A lottery node's own account, as far as the figures need it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Account {
    /// Ticks of the ledger.
    pub ticks: u64,
    /// Time that they took, us.
    pub tick_us: u64,
    /// Leases that they brought.
    pub leases: u64,
    /// Groups of the log that the lane does not have.
    pub unshipped: u64,
    /// Wins.
    pub wins: u64,
}

impl Fleet {
    /// One flow, one access and these lottery nodes; deliveries are nobody's business here.
    ///
    /// # Errors
    /// When a process does not get ready; with what it said last.
    pub fn start(servers: &Servers, scratch: &Path, campaign: Campaign, nodes: &[u16]) -> Result<Fleet> {
        let mut fleet = Fleet::nobody(servers, scratch, "")?;
        std::fs::write(fleet.folder.path().join("campaign.yaml"), campaign.yaml())?;
        fleet.add("flow", 11, false)?;
        for node in nodes {
            fleet.add("lottery", *node, false)?;
        }
        fleet.add("access", 31, false)?;
        // Last, so that the campaign begins when everybody is there.
        fleet.add("console", 41, true)?;
        fleet.wait_for_owners()?;
        // Everybody takes up the plan within half a second.
        std::thread::sleep(Duration::from_secs(2));
        Ok(fleet)
    }

    /// One access and these chat nodes, which share the conversations; nothing can be won.
    ///
    /// # Errors
    /// When a process does not get ready, or the nodes do not divide the buckets; with what it said last.
    pub fn talk(servers: &Servers, scratch: &Path, nodes: &[u16]) -> Result<Fleet> {
        let mut fleet = Fleet::nobody(servers, scratch, "[chat]\nstore = \"postgresql\"\n")?;
        for node in nodes {
            fleet.add("chat", *node, false)?;
        }
        fleet.add("access", 31, false)?;
        let end_ns = now_ns() + START.as_nanos() as u64;
        // All of them, and each its share: the last ones come to their own when the first ones have given it up.
        while fleet.chat_buckets()?.contains(&0) || fleet.chat_buckets()?.iter().sum::<u64>() < BUCKETS {
            if now_ns() > end_ns {
                bail!("the chat nodes did not divide the buckets within {START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(fleet)
    }

    /// An installation without processes; `more` stands behind its settings.
    fn nobody(servers: &Servers, scratch: &Path, more: &str) -> Result<Fleet> {
        let database = servers.database()?;
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir_in(scratch)?;
        let at = folder.path();
        std::fs::write(at.join("cluster.toml"), settings(servers, &database, at)? + more)?;
        run(Command::new(beside("hongbao")?).arg("keys").arg(at))?;
        std::fs::write(at.join("key"), token(at, "key")?)?;
        let key = TokenKey::from_file(&at.join("key"))?;
        let admin = token(at, "admin")?.trim().to_owned();
        Ok(Fleet {
            frames: SocketAddr::from(([127, 0, 0, 1], 0)),
            key,
            admin,
            members: Vec::new(),
            folder,
            _database: database,
        })
    }

    fn add(&mut self, role: &'static str, node: u16, publishes: bool) -> Result<()> {
        let at = self.folder.path();
        let port_file = at.join(format!("{role}-{node}.port"));
        let mut command = Command::new(beside("hongbao")?);
        command.args(["run", "--role", role, "--set", &format!("node.id={node}")]);
        command.arg("--config").arg(at.join("cluster.toml"));
        command.arg("--data").arg(at.join(format!("{role}-{node}"))).arg("--port-file").arg(&port_file);
        if publishes {
            command.arg("--campaign").arg(at.join("campaign.yaml"));
        }
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("HONGBAO__") || n == "RUST_LOG") {
            command.env_remove(name);
        }
        let mut process = Process::start("hongbao run", command, &at.join(format!("{role}-{node}.log")))?;
        let ports: Ports = serde_json::from_str(&process.ready(&port_file, START)?)?;
        if let Some(tcp) = ports.tcp {
            self.frames = tcp;
        }
        let health = ports.health.context("a process names no port for its status")?;
        self.members.push(Member { role, node, process, health });
        Ok(())
    }

    /// Waits until every bucket of users is drawn for.
    pub fn wait_for_owners(&self) -> Result<()> {
        let end_ns = now_ns() + START.as_nanos() as u64;
        while self.open_buckets()? < BUCKETS {
            if now_ns() > end_ns {
                bail!("the lottery nodes did not take all buckets within {START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn status(&self, member: &Member) -> Result<Value> {
        ask_json(member.health, "/admin/status", &self.admin, "")
    }

    fn of(&self, role: &'static str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role)
    }

    /// Buckets that are drawn for, over all lottery nodes.
    pub fn open_buckets(&self) -> Result<u64> {
        self.of("lottery").try_fold(0, |sum, member| {
            Ok(sum + self.status(member)?["node"]["buckets"]["open"].as_u64().unwrap_or(0))
        })
    }

    /// Buckets that each chat node has.
    fn chat_buckets(&self) -> Result<Vec<u64>> {
        let open = |member: &Member| -> Result<u64> {
            Ok(self.status(member)?["chat"]["buckets"]["open"].as_u64().unwrap_or(0))
        };
        self.of("chat").map(open).collect()
    }

    /// Of all chat nodes so far: transactions, and tries of transactions that failed.
    pub fn chat_steps(&self) -> Result<(u64, u64)> {
        self.of("chat").try_fold((0, 0), |(steps, failures), member| {
            let status = self.status(member)?;
            let of = |name: &str| status["chat"][name].as_u64().unwrap_or(0);
            Ok((steps + of("steps"), failures + of("step_failures")))
        })
    }

    /// CPU time of all processes of a role so far, in s.
    pub fn cpu_s(&self, role: &'static str) -> Result<f64> {
        self.of(role).try_fold(0.0, |sum, member| Ok(sum + member.process.cpu_s()?))
    }

    /// What the lottery nodes say, summed.
    pub fn account(&self) -> Result<Account> {
        self.of("lottery").try_fold(Account::default(), |sum, member| {
            let status = self.status(member)?;
            let of = |name: &str| status["node"][name].as_u64().unwrap_or(0);
            Ok(Account {
                ticks: sum.ticks + of("ticks"),
                tick_us: sum.tick_us + of("tick_us"),
                leases: sum.leases + of("leases"),
                unshipped: sum.unshipped + of("unshipped"),
                wins: sum.wins + of("wins"),
            })
        })
    }

    /// Awards that flow has stored.
    pub fn stored(&self) -> Result<u64> {
        let flow = self.of("flow").next().context("there is no flow node")?;
        Ok(self.status(flow)?["flow"]["awards"].as_u64().unwrap_or(0))
    }

    /// `kill -9` of a lottery node; it is not looked at any more.
    pub fn kill(&mut self, node: u16) {
        if let Some(i) = self.members.iter().position(|m| m.role == "lottery" && m.node == node) {
            self.members.remove(i).process.kill();
        }
    }

    /// An error if a process has ended by itself.
    pub fn must_run(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.process.must_run())
    }
}

fn settings(servers: &Servers, database: &Database, at: &Path) -> Result<String> {
    Ok(format!(
        "[access]\ntcp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[console]\nhttp = \"127.0.0.1:0\"\n\
         [cluster]\nname = \"{}\"\ncalls = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nkeys = \"{}\"\npostgres = \"{}\"\n\
         postgres_connections = 16\nlanes = 8\nkafka = [\"{}\"]\ndevelopment = true\n",
        database.name,
        at.display(),
        database.url,
        servers.kafka()?
    ))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_args(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn token(at: &Path, what: &str) -> Result<String> {
    run(Command::new(beside("hongbao")?).args(["token", what, "--data"]).arg(at))
}
