//! Processes that a bench starts, and kills at its end however it ends.

use crate::measure::now_ns;
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often a file is looked for that a process writes when it is ready.
const LOOK: Duration = Duration::from_millis(1);

/// What is shown of a log when its process fails.
const TAIL_LINES: usize = 12;

/// A running process with its output in a file.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it says is appended to `log`.
    pub fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Process> {
        let out = OpenOptions::new().create(true).append(true).open(log);
        let out = out.with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| {
            let program = command.get_program().display();
            format!("start {program}; `make bench` builds it beside this program")
        })?;
        Ok(Process { name, child, log: log.to_owned() })
    }

    /// An error with its last words if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}). It said last:\n{}", self.name, self.tail()),
        }
    }

    /// Waits for a file that it writes when it is ready, and reads it.
    pub fn ready(&mut self, file: &Path, within: Duration) -> Result<String> {
        let end_ns = now_ns() + within.as_nanos() as u64;
        loop {
            if let Ok(text) = std::fs::read_to_string(file) {
                return Ok(text);
            }
            self.must_run()?;
            if now_ns() > end_ns {
                bail!("{} was not ready within {within:?}. It said last:\n{}", self.name, self.tail());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time of all its threads so far, in s.
    pub fn cpu_s(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The name in parentheses may hold anything; behind it, user and system time are numbers 12 and 13.
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: Vec<u64> =
            rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
        Ok(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Memory of its own, pages of files aside, in bytes.
    pub fn own_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        Ok(kib.with_context(|| format!("no RssAnon in {path}"))? << 10)
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that was built beside this one.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let path = own.with_file_name(name);
    if !path.exists() {
        bail!("{} is missing; `make bench` builds it", path.display());
    }
    Ok(path)
}
