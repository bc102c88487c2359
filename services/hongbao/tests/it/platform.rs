//! One run of the real binary, in a folder of its own, killed when the test lets go of it.

use crate::http::Client;
use std::fs::File;
use std::net::SocketAddr;
#[cfg(feature = "faults")]
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_hongbao");

/// Longest wait for anything that a process must do by itself.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A campaign for crowds: open at once and for longer than any test, prizes paid at once and on claim, intervals of 10 ms.
pub const CROWD: &str = "
campaign: 7
name: A crowd
time_zone: UTC
vendors:
  - {id: 1, name: Wallet}
limits: {wins_per_round: 150, interval: 10ms, shakes_per_second: 100}
client: {submit_min: 10ms, submit_max: 3s}
rounds:
  - id: 1
    name: Now
    open: +0s
    duration: 1200s
    prizes:
      - {id: 1, name: Cash, kind: cash, weight: 3, vendor: 1, units: 60000, sum: 120000, min: 0.50, max: 20}
      - {id: 2, name: Cup, kind: voucher, weight: 1, vendor: 1, units: 20000, deliver: on_claim, term: 1h}
  - id: 2
    name: Later
    open: +2h
    duration: 60s
    prizes:
      - {id: 1, name: Cash, kind: cash, weight: 1, vendor: 1, units: 10, each: 1.00}
";

/// Exit code of a process whose address is taken.
pub const CANNOT_LISTEN: i32 = 68;

/// Number of that campaign.
pub const CAMPAIGN: u32 = 7;

/// A place for a platform: its data, its campaign file, what its processes have said.
pub struct Place {
    folder: Option<tempfile::TempDir>,
    root: PathBuf,
    extra: Vec<String>,
    runs: std::cell::Cell<u32>,
}

/// A running process.
pub struct Platform {
    child: Child,
    stderr: PathBuf,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
    /// Where it speaks frames.
    pub tcp: SocketAddr,
    /// Where operators reach it.
    pub console: SocketAddr,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Ended {
    /// It ended with this exit code, and said all of this.
    #[track_caller]
    pub fn expect(&self, code: i32, said: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        for part in said {
            assert!(self.stderr.contains(part), "{part:?} is missing in:\n{}", self.stderr);
        }
    }
}

impl Place {
    /// A fresh one, with a campaign file.
    pub fn new(campaign: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let mut place = Place::at(&root);
        place.folder = Some(folder);
        std::fs::write(place.campaign(), campaign).unwrap();
        place
    }

    /// One whose folder is somebody else's.
    pub fn at(root: &Path) -> Place {
        Place { folder: None, root: root.to_owned(), extra: Vec::new(), runs: Default::default() }
    }

    /// With a configuration file.
    pub fn with_config(mut self, text: &str) -> Place {
        let path = self.root.join("config.toml");
        std::fs::write(&path, text).unwrap();
        self.extra.extend(["--config".into(), path.display().to_string()]);
        self
    }

    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub fn campaign(&self) -> PathBuf {
        self.root.join("campaign.yaml")
    }

    /// Begins a process. `fault` is where it is to die, with the feature `faults`.
    pub fn spawn(&self, fault: Option<&str>, more: &[&str]) -> Spawned {
        let n = self.runs.get() + 1;
        self.runs.set(n);
        let ports = self.root.join(format!("ports{n}"));
        let stderr = self.root.join(format!("stderr{n}"));
        let mut command = Command::new(BINARY);
        command.arg("up").arg("--data").arg(self.data()).arg("--campaign").arg(self.campaign());
        command.args(["--set", "access.http=127.0.0.1:0", "--set", "access.tcp=127.0.0.1:0"]);
        command.args(["--set", "console.http=127.0.0.1:0"]);
        command.arg("--port-file").arg(&ports).args(&self.extra).args(more).env_remove("RUST_LOG");
        match fault {
            Some(fault) => command.env("HONGBAO_FAULT", fault),
            None => command.env_remove("HONGBAO_FAULT"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
        Spawned { child: Some(command.spawn().unwrap()), stderr, ports, since: Instant::now() }
    }

    /// Starts a process that must serve.
    #[track_caller]
    pub fn start(&self) -> Platform {
        self.spawn(None, &[]).serving().unwrap_or_else(|ended| panic!("does not serve: {ended:?}"))
    }

    /// Starts a process that must serve at an address which one before it has had. Meanwhile somebody else may have it for a
    /// moment, as the near end of a connection.
    #[track_caller]
    pub fn start_again(&self, more: &[&str]) -> Platform {
        let since = Instant::now();
        loop {
            match self.spawn(None, more).serving() {
                Ok(platform) => return platform,
                Err(ended) if ended.status.code() == Some(CANNOT_LISTEN) && since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(ended) => panic!("does not serve: {ended:?}"),
            }
        }
    }

    /// Starts a process that must refuse to.
    #[track_caller]
    pub fn refused(&self, more: &[&str]) -> Ended {
        match self.spawn(None, more).serving() {
            Ok(platform) => panic!("it serves: {}", std::fs::read_to_string(&platform.stderr).unwrap()),
            Err(ended) => ended,
        }
    }

    /// What a command prints.
    pub fn print(&self, args: &[&str]) -> String {
        print(&self.data(), args)
    }

    pub fn user_token(&self, user: u64) -> String {
        self.print(&["token", "user", "--user", &user.to_string()])
    }

    pub fn gateway_token(&self) -> String {
        self.print(&["token", "gateway", "--name", "test"])
    }

    pub fn admin_token(&self) -> String {
        self.print(&["token", "admin"])
    }
}

/// What a command about a data folder prints.
pub fn print(data: &Path, args: &[&str]) -> String {
    let out = Command::new(BINARY).args(args).arg("--data").arg(data).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Drop for Place {
    /// What the processes said is the only witness of a failed test.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for n in 1..=self.runs.get() {
            let text = std::fs::read_to_string(self.root.join(format!("stderr{n}"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(12)..];
            eprintln!("--- run {n} of {}, its end:\n{}", self.root.display(), tail.join("\n"));
        }
        if std::env::var_os("HONGBAO_TEST_KEEP").is_some()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept: {}", folder.keep().display());
        }
    }
}

/// A process that has begun and does not serve yet.
pub struct Spawned {
    child: Option<Child>,
    stderr: PathBuf,
    ports: PathBuf,
    since: Instant,
}

impl Spawned {
    /// Waits until it serves or ends.
    pub fn serving(mut self) -> Result<Platform, Ended> {
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.ports) {
                let ports: serde_json::Value = serde_json::from_str(&text).unwrap();
                let at = |name: &str| ports[name].as_str().unwrap().parse().unwrap();
                let child = self.child.take().unwrap();
                let stderr = std::mem::take(&mut self.stderr);
                return Ok(Platform {
                    child,
                    stderr,
                    http: at("http"),
                    tcp: at("tcp"),
                    console: at("console"),
                });
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Err(Ended { status, stderr: std::fs::read_to_string(&self.stderr).unwrap() });
            }
            assert!(self.since.elapsed() < PATIENCE, "neither serves nor ends");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, wherever it is.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        end(self.child.as_mut());
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        end(Some(&mut self.child));
    }
}

/// It may have ended before: nothing is left to do then.
fn end(child: Option<&mut Child>) {
    if let Some(child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Platform {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection with a token.
    pub fn client(&self, token: &str) -> Client {
        Client::new(self.http, token)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop; it must, with exit code 0.
    #[track_caller]
    pub fn stop(self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = self.ended();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended { status, stderr: std::fs::read_to_string(&self.stderr).unwrap() };
            }
            assert!(since.elapsed() < PATIENCE, "does not end: {:?}", std::fs::read_to_string(&self.stderr));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// It has ended already?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Ended {
    /// It died at the fault point that it was given, and of nothing else.
    #[track_caller]
    #[cfg(feature = "faults")]
    pub fn expect_fault(&self, point: &str) {
        assert_eq!(self.status.signal(), Some(6), "{point}: {:?} {}", self.status, self.stderr);
        assert!(self.stderr.contains("killed at a fault point"), "{point}: {}", self.stderr);
    }
}
