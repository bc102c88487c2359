//! Roles apart, as processes on the real servers: an installation of a test's own, with a database and topics that nobody else
//! uses.

mod accounts;
mod chatless;
mod chats;
mod desk;
mod member;
mod refusals;
mod talkers;
mod zombie;

use crate::platform::{Ended, print};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::cell::Cell;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::servers::{self, FreshDatabase};

const BINARY: &str = env!("CARGO_BIN_EXE_hongbao");

/// Longest wait for anything that several processes and servers must do by themselves.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// An installation.
pub struct Cluster {
    folder: tempfile::TempDir,
    /// What it is called: no other has this name.
    pub name: String,
    /// Its own database; gone with it.
    pub database: FreshDatabase,
    runs: Cell<u32>,
}

/// A process of it.
pub struct Process {
    child: Child,
    stderr: PathBuf,
    ports: PathBuf,
    since: Instant,
}

impl Cluster {
    /// A fresh one, with keys, a campaign file and a configuration to which `more` is added; `None` without servers.
    pub fn new(campaign: &str, more: &str) -> Option<Cluster> {
        let (database, kafka) = (FreshDatabase::new()?, servers::kafka()?);
        let folder = tempfile::tempdir().unwrap();
        let name = format!("t{}", servers::unique());
        let cluster = Cluster { folder, name, database, runs: Cell::new(0) };
        let keys = cluster.path("keys");
        let made = Command::new(BINARY).arg("keys").arg(&keys).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(cluster.path("campaign.yaml"), campaign).unwrap();
        let memcached = servers::memcached().map_or_else(String::new, |at| format!("{at:?}"));
        let redis = servers::redis().map_or_else(String::new, |at| format!("{at:?}"));
        let (name, url) = (&cluster.name, cluster.database.url().to_owned());
        let config = format!(
            "[access]\ntcp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[console]\nhttp = \"127.0.0.1:0\"\n\
             [cluster]\nname = \"{name}\"\ncalls = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nkeys = {keys:?}\n\
             postgres = \"{url}\"\nkafka = [\"{kafka}\"]\nmemcached = [{memcached}]\nredis = [{redis}]\nlanes = 4\n\
             development = true\n{more}"
        );
        std::fs::write(cluster.config(), config).unwrap();
        Some(cluster)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("cluster.toml")
    }

    /// The folder of its keys and operators, as commands take it.
    pub fn keys(&self) -> PathBuf {
        self.path("keys")
    }

    pub fn print(&self, args: &[&str]) -> String {
        print(&self.keys(), args)
    }

    /// Begins a process with a data folder of this name.
    pub fn spawn(&self, roles: &str, data: &str, more: &[&str]) -> Process {
        let n = self.runs.get() + 1;
        self.runs.set(n);
        let (stderr, ports) = (self.path(&format!("stderr{n}")), self.path(&format!("ports{n}")));
        let mut command = Command::new(BINARY);
        command.args(["run", "--role", roles, "--config"]).arg(self.config());
        command.arg("--data").arg(self.path(data)).arg("--port-file").arg(&ports).args(more);
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&stderr).unwrap()).spawn().unwrap();
        Process { child, stderr, ports, since: Instant::now() }
    }

    /// Starts a process that must serve, with its campaign file.
    #[track_caller]
    pub fn start(&self, roles: &str, data: &str, more: &[&str]) -> (Process, Value) {
        let campaign = self.path("campaign.yaml");
        let mut args = vec!["--campaign", campaign.to_str().unwrap()];
        args.extend(more);
        let mut process = self.spawn(roles, data, &args);
        let ports = process.serving();
        (process, ports)
    }

    /// A command about it: exit code and what it printed, on both outputs.
    pub fn command(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(BINARY);
        command.args(args).arg("--config").arg(self.config()).env_remove("RUST_LOG");
        let out = command.current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
    }
}

impl Drop for Cluster {
    /// What the processes said is the only witness of a failed test.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        for n in (1..=self.runs.get()).filter(|_| std::thread::panicking()) {
            let text = said(&self.path(&format!("stderr{n}")));
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- process {n}, its end:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}

/// An address among ports.
#[track_caller]
pub fn port(ports: &Value, name: &str) -> SocketAddr {
    ports[name].as_str().unwrap_or_else(|| panic!("no {name} in {ports}")).parse().unwrap()
}

fn said(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

impl Process {
    /// Waits until it serves: its ports.
    #[track_caller]
    pub fn serving(&mut self) -> Value {
        self.serves().unwrap_or_else(|ended| panic!("it ended: {ended:?}"))
    }

    /// Waits until it serves, or has ended.
    #[track_caller]
    pub fn serves(&mut self) -> Result<Value, Ended> {
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.ports) {
                return Ok(serde_json::from_str(&text).unwrap());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(Ended { status, stderr: said(&self.stderr) });
            }
            assert!(self.since.elapsed() < PATIENCE, "it does not serve: {}", said(&self.stderr));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> Ended {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended { status, stderr: said(&self.stderr) };
            }
            assert!(since.elapsed() < PATIENCE, "it does not end: {}", said(&self.stderr));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has said all of these in one line.
    #[track_caller]
    pub fn says(&mut self, parts: &[&str]) {
        let since = Instant::now();
        while !said(&self.stderr).lines().any(|line| parts.iter().all(|part| line.contains(part))) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < PATIENCE, "{parts:?}: {}", said(&self.stderr));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop; it must, with exit code 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        self.ended().expect(0, &[]);
    }

    /// It has ended already?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    /// It may have ended before: nothing is left to do then.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
