//! The processes that the demonstration starts: each in a process group of its own, with its output in a file, and gone
//! when the demonstration is gone, however that ends.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::de::DeserializeOwned;

use super::last_wish;

/// How often a child that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a child's output that are shown when it fails.
const TAIL_LINES: usize = 15;
/// Bytes from the end of a child's output that are looked at for them.
const TAIL_BYTES: usize = 16 * 1024;

/// A running process. Dropping it kills it with everything that it started.
#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: Process,
    pid: Pid,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts a process; what it says is appended to `log`.
    ///
    /// # Errors
    /// When there is no such program or the file can't be written.
    pub fn start(name: &'static str, mut command: Command, log: &Path) -> anyhow::Result<Child> {
        let out = OpenOptions::new().create(true).append(true).open(log);
        let out = out.with_context(|| format!("opening {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        last_wish::die_with_us(&mut command);
        let process =
            command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        let pid = Pid::from_child(&process);
        Ok(Child { name, process, pid, log: log.to_owned(), ended: None })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().with_context(|| format!("watching {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// What it said last.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}). It said last:\n{}", self.name, self.tail()),
        }
    }

    /// Waits until a file appears that it writes when it is ready, and reads it.
    ///
    /// # Errors
    /// When it ends, does not get ready in time, or the file is something else.
    pub async fn ready<T: DeserializeOwned>(&mut self, file: &Path, patience: Duration) -> anyhow::Result<T> {
        let mut left = patience;
        loop {
            self.must_run()?;
            if let Ok(text) = std::fs::read_to_string(file) {
                return serde_json::from_str(&text)
                    .with_context(|| format!("{} is not as it should be", file.display()));
            }
            let Some(less) = left.checked_sub(LOOK) else {
                bail!(
                    "{} was not ready after {} s. It said last:\n{}",
                    self.name,
                    patience.as_secs(),
                    self.tail()
                );
            };
            left = less;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGKILL, to everything in its group. Returns when it is gone.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // Not waited for yet, so its number can't be another's.
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.ended = self.process.wait().ok();
        }
    }

    /// SIGTERM, without waiting for the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ask(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => kill_process(self.pid, Signal::TERM).with_context(|| format!("stopping {}", self.name)),
            Some(_) => Ok(()),
        }
    }

    /// SIGTERM; kills it when it takes longer than `patience`, and returns no status then.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
        self.ask()?;
        let mut left = patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            let Some(less) = left.checked_sub(LOOK) else {
                self.kill();
                return Ok(None);
            };
            left = less;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What it said last.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::Child;
    use rustix::process::test_kill_process;
    use std::process::Command;
    use std::time::Duration;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_child_is_waited_for_stopped_and_killed_with_its_own_children() {
        let dir = tempfile::tempdir().unwrap();
        let (log, file) = (dir.path().join("log"), dir.path().join("ready"));
        let script =
            format!("echo begun; sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let mut child = Child::start("test", shell(&script), &log).unwrap();
        let grandchild: i32 = child.ready(&file, Duration::from_secs(60)).await.unwrap();
        let grandchild = rustix::process::Pid::from_raw(grandchild).unwrap();
        child.must_run().unwrap();
        test_kill_process(grandchild).unwrap();
        drop(child);
        for _ in 0..6_000 {
            // It is a zombie until the system's first process takes it.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", grandchild.as_raw_nonzero()));
            if !stat.is_ok_and(|stat| !stat.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the grandchild lives");
    }

    #[tokio::test]
    async fn a_child_that_fails_is_quoted_and_one_that_is_asked_ends() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = Child::start("test", shell("echo no port free >&2; exit 3"), &log).unwrap();
        let error = child.ready::<u16>(&dir.path().join("none"), Duration::from_secs(60)).await.unwrap_err();
        assert!(error.to_string().contains("no port free") && error.to_string().contains('3'), "{error}");

        // It says when it has learned what to do with the signal.
        let trapping = |what: &str, file: &std::path::Path| {
            let file = file.display();
            shell(&format!(
                "trap '{what}' TERM; echo 1 > {file}.new; mv {file}.new {file}; while :; do sleep 0.01; done"
            ))
        };
        let (obeys, ignores) = (dir.path().join("obeys"), dir.path().join("ignores"));
        let mut child = Child::start("test", trapping("exit 0", &obeys), &log).unwrap();
        child.ready::<u16>(&obeys, Duration::from_secs(60)).await.unwrap();
        assert!(child.stop(Duration::from_secs(60)).await.unwrap().unwrap().success());
        let mut deaf = Child::start("test", trapping("", &ignores), &log).unwrap();
        deaf.ready::<u16>(&ignores, Duration::from_secs(60)).await.unwrap();
        assert_eq!(deaf.stop(Duration::from_millis(50)).await.unwrap(), None);
    }
}
