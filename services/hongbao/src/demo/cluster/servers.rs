//! The replicated servers that `deploy/local/services up --replicated` has started, and what befalls them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

/// How long a server may take to answer a line.
const ANSWER: Duration = Duration::from_secs(3);
/// How long the standby may take to become the primary.
const PROMOTE: Duration = Duration::from_secs(20);

/// Addresses and process ids, as the script that started the servers wrote them down.
pub(super) struct Servers {
    env: BTreeMap<String, String>,
    script: PathBuf,
}

impl Servers {
    /// Reads the script's file.
    ///
    /// # Errors
    /// When there is no such file, which means that the servers were not started.
    pub fn read(env: &Path, script: &Path) -> anyhow::Result<Servers> {
        let text = std::fs::read_to_string(env).with_context(|| {
            format!(
                "reading {}; start the servers first: {} up --replicated",
                env.display(),
                script.display()
            )
        })?;
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Servers { env: text.lines().filter_map(pair).collect(), script: script.to_owned() })
    }

    fn get(&self, key: &str) -> anyhow::Result<&str> {
        self.env.get(key).map(String::as_str).with_context(|| format!("the servers' file does not say {key}"))
    }

    /// URL of PostgreSQL, with all of its servers.
    ///
    /// # Errors
    /// When there is none.
    pub fn postgres(&self) -> anyhow::Result<&str> {
        self.get("HONGBAO_TEST_POSTGRES")
    }

    /// Several addresses of a kind: KAFKA, REDIS, MEMCACHED.
    ///
    /// # Errors
    /// When there are none.
    pub fn addresses(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.get(&format!("HONGBAO_TEST_{kind}"))?.split(',').map(str::to_owned).collect())
    }

    /// SIGKILL to a server, by its name in the file: KAFKA_2, POSTGRES_PRIMARY.
    ///
    /// # Errors
    /// When there is no such server, or it is not running.
    pub fn kill(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.get(&format!("{name}_PID"))?.parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{name} has no process id"))?;
        kill_process(pid, Signal::KILL).with_context(|| format!("killing {name}"))
    }

    /// Makes PostgreSQL's standby the primary.
    ///
    /// # Errors
    /// What the script says.
    pub async fn promote(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.script);
        command.arg("promote").stdin(Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(PROMOTE, command.output());
        let done = done.await.context("the standby was not promoted in time")??;
        ensure!(
            done.status.success(),
            "promoting the standby failed: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    /// Empties memcached and every master of the Redis Cluster.
    ///
    /// # Errors
    /// When one can't be reached.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let [memcached] =
            self.addresses("MEMCACHED")?.try_into().map_err(|_| anyhow::anyhow!("one memcached"))?;
        ask(&memcached, "flush_all\r\n", &["OK"]).await?;
        for address in self.addresses("REDIS")? {
            let address = address.trim_start_matches("redis://").trim_end_matches('/').to_owned();
            // A replica refuses; its master does it for both.
            ask(&address, "FLUSHALL\r\n", &["+OK", "-READONLY"]).await?;
        }
        Ok(())
    }
}

/// Sends a line and checks how the answer begins.
async fn ask(address: &str, line: &str, good: &[&str]) -> anyhow::Result<()> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(line.as_bytes()).await?;
        let mut answer = vec![0; 256];
        let read = stream.read(&mut answer).await?;
        answer.truncate(read);
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(ANSWER, talk).await.with_context(|| format!("{address} is silent"))?;
    let answer = answer.with_context(|| format!("asking {address}"))?;
    if good.iter().any(|good| answer.starts_with(good)) { Ok(()) } else { bail!("{address} says {answer:?}") }
}

#[cfg(test)]
mod tests {
    use super::Servers;
    use std::path::Path;

    #[test]
    fn the_file_is_read_and_what_is_missing_named() {
        let dir = tempfile::tempdir().unwrap();
        let (env, script) = (dir.path().join("env"), Path::new("services"));
        let error = format!("{:#}", Servers::read(&env, script).err().unwrap());
        assert!(error.contains("services up --replicated"), "{error}");
        std::fs::write(&env, "HONGBAO_TEST_KAFKA=a:1,b:2\nKAFKA_1_PID=x\n").unwrap();
        let servers = Servers::read(&env, script).unwrap();
        assert_eq!(servers.addresses("KAFKA").unwrap(), ["a:1", "b:2"]);
        assert!(servers.postgres().unwrap_err().to_string().contains("HONGBAO_TEST_POSTGRES"));
        assert!(servers.kill("KAFKA_1").unwrap_err().to_string().contains("KAFKA_1"));
    }
}
