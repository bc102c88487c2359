//! `hongbao up` as its users run it: the release binary with the configuration it ships with, in a process and a
//! folder of its own.

use super::ask::{ask, ask_json};
use super::campaign::Campaign;
use super::process::{Process, beside};
use anyhow::{Context, Result, bail};
use loadgen::token::TokenKey;
use runtime::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a start may take: a restart reads hundreds of MiB.
const START: Duration = Duration::from_secs(120);

/// What differs from the shipped configuration.
pub struct Setup {
    /// The campaign.
    pub campaign: Campaign,
    /// `KEY=VALUE`.
    pub set: Vec<String>,
    /// A configuration file's text, laid over the shipped one.
    pub config: String,
}

impl Setup {
    /// Nothing is sent to vendors; all else as shipped.
    pub fn held_back(campaign: Campaign) -> Setup {
        Setup { campaign, set: vec!["delivery.hold=true".to_owned()], config: String::new() }
    }
}

/// A platform; it ends with this value, and its folder too.
pub struct Platform {
    /// Where frames are spoken.
    pub frames: SocketAddr,
    /// Where HTTP is spoken.
    pub http: SocketAddr,
    /// Where operators are heard.
    pub console: SocketAddr,
    /// Signs players' tokens.
    pub key: TokenKey,
    process: Process,
    admin: String,
    gateway: String,
    set: Vec<String>,
    folder: TempDir,
}

#[derive(Deserialize)]
struct Ports {
    tcp: SocketAddr,
    http: SocketAddr,
    console: SocketAddr,
}

/// Counts of the core since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Draws made.
    pub draws: u64,
    /// Wins among them.
    pub wins: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Users in memory.
    pub users: u64,
}

impl Platform {
    /// Starts a new one under `scratch`.
    pub fn start(scratch: &Path, setup: Setup) -> Result<Platform> {
        let folder = tempfile::Builder::new().prefix("platform-").tempdir_in(scratch)?;
        let at = folder.path();
        std::fs::write(at.join("campaign.yaml"), setup.campaign.yaml())?;
        std::fs::write(at.join("config.toml"), &setup.config)?;
        let mut set = setup.set;
        set.push("log.format=json".to_owned());
        set.push("console.http=127.0.0.1:0".to_owned());
        let ports = ["access.tcp=127.0.0.1:0", "access.http=127.0.0.1:0"].map(str::to_owned);
        let mut process = spawn(at, &[&set[..], &ports].concat())?;
        let ports = process.ready(&at.join("ports"), START)?;
        let Ports { tcp, http, console } = serde_json::from_str(&ports).context("read the port file")?;
        // From now on the same ports, so that clients find it again after a restart.
        set.push(format!("access.tcp={tcp}"));
        set.push(format!("access.http={http}"));
        std::fs::write(at.join("key"), secret(at, "key")?)?;
        let key = TokenKey::from_file(&at.join("key"))?;
        let gateway = key.gateway("bench", SystemClock.now_ms());
        let admin = secret(at, "admin")?.trim().to_owned();
        Ok(Platform { frames: tcp, http, console, key, process, admin, gateway, set, folder })
    }

    /// The token of an admin among the operators.
    pub fn operator(&self) -> Result<String> {
        let text = secret(self.folder.path(), "operator --name bench --role admin")?;
        Ok(text.trim().to_owned())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same folder; returns as soon as the process is there, before it serves.
    pub fn start_again(&mut self) -> Result<()> {
        let _ = std::fs::remove_file(self.folder.path().join("ports"));
        self.process = spawn(self.folder.path(), &self.set)?;
        Ok(())
    }

    /// An error if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.must_run()
    }

    /// CPU time so far, in s.
    pub fn cpu_s(&self) -> Result<f64> {
        self.process.cpu_s()
    }

    /// Memory of its own, pages of files aside, in bytes.
    pub fn own_bytes(&self) -> Result<u64> {
        self.process.own_bytes()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with the key of players' tokens.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// Connections that are logged in, while no more have ended than asked for metrics.
    pub fn connected(&self) -> Result<u64> {
        let (_, text) = ask(self.http, "/metrics", "", "")?;
        let text = String::from_utf8_lossy(&text);
        let of = |name: &str| {
            let mut lines = text.lines().filter_map(|l| l.strip_prefix(name));
            lines.find_map(|n| n.trim().parse::<u64>().ok()).with_context(|| format!("no metric {name}"))
        };
        Ok(of("hongbao_access_logins_total ")?.min(of("hongbao_access_connections ")?))
    }

    /// `GET /admin/status`.
    pub fn status(&self) -> Result<Value> {
        ask_json(self.http, "/admin/status", &self.admin, "")
    }

    /// Counts of the core.
    pub fn counts(&self) -> Result<Counts> {
        let status = self.status()?;
        let of = |name: &str| status["node"][name].as_u64().unwrap_or(0);
        Ok(Counts { draws: of("draws"), wins: of("wins"), log_bytes: of("log_bytes"), users: of("users") })
    }

    /// Lets delivery send.
    pub fn release(&self) -> Result<()> {
        ask_json(self.http, "/admin/hold", &self.admin, r#"{"hold":false}"#).map(drop)
    }

    /// Wins that players were told, from the metrics: unlike the status it counts no rows.
    pub fn wins_told(&self) -> Result<u64> {
        let (_, text) = ask(self.http, "/metrics", "", "")?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|l| l.strip_prefix("hongbao_access_wins_total "));
        line.and_then(|n| n.trim().parse().ok()).context("the metrics name no wins")
    }

    /// A submit over HTTP, through a gateway's credential: status and answer.
    pub fn submit(&self, user: u64, counter: u32) -> Result<(u16, Value)> {
        let body = format!(r#"{{"user":"{user}","campaign":3,"round":1,"counter":{counter},"shakes":3}}"#);
        let (status, answer) = ask(self.http, "/v1/submit", &self.gateway, &body)?;
        Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }

    /// What a user has won.
    pub fn prizes(&self, user: u64) -> Result<(u16, Value)> {
        let (status, answer) =
            ask(self.http, &format!("/v1/prizes?user={user}&limit=50"), &self.gateway, "")?;
        Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }

    /// Lines of its log of which the message begins so, newest last.
    pub fn said(&self, message: &str) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.path().join("log"))?;
        let lines = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let begins = |l: &Value| l["fields"]["message"].as_str().is_some_and(|m| m.starts_with(message));
        Ok(lines.filter(begins).collect())
    }
}

fn spawn(at: &Path, set: &[String]) -> Result<Process> {
    let mut command = Command::new(beside("hongbao")?);
    command.arg("up").args(["--data".as_ref(), at.join("data").as_os_str()]);
    command.args(["--campaign".as_ref(), at.join("campaign.yaml").as_os_str()]);
    command.args(["--config".as_ref(), at.join("config.toml").as_os_str()]);
    command.args(["--port-file".as_ref(), at.join("ports").as_os_str()]);
    for one in set {
        command.args(["--set", one]);
    }
    // A developer's settings would be measured otherwise.
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("HONGBAO__") || n == "RUST_LOG") {
        command.env_remove(name);
    }
    Process::start("hongbao up", command, &at.join("log"))
}

/// `hongbao token WHAT`.
fn secret(at: &Path, what: &str) -> Result<String> {
    let hongbao: PathBuf = beside("hongbao")?;
    let output = Command::new(hongbao)
        .arg("token")
        .args(what.split(' '))
        .arg("--data")
        .arg(at.join("data"))
        .output()?;
    if !output.status.success() {
        bail!("hongbao token {what}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
