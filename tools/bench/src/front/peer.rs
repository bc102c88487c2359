//! The bare servers, each in a process of its own as the platform is: this program, started again.
//!
//! The child says its address in a line, and serves until its standard input ends, which it does when the bench is
//! gone, however it went.

use anyhow::{Context, Result};
use clap::ValueEnum;
use loadgen::echo::{FrameEcho, HttpEcho};
use runtime::SystemClock;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// What a bare server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Speaks {
    /// Frames.
    Frames,
    /// HTTP with JSON.
    Http,
}

/// A bare server; it ends with this value.
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Peer {
    /// Starts one, with a thread for each core, as the front door has.
    pub fn start(speaks: Speaks) -> Result<Peer> {
        let name = if speaks == Speaks::Frames { "frames" } else { "http" };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve-echo", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the bare server")?;
        let mut line = String::new();
        let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        said.context("the bare server has no output")??;
        let address = line.trim().parse().with_context(|| format!("the bare server said {line:?}"))?;
        Ok(Peer { address, child })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side.
pub fn serve(speaks: Speaks) -> Result<()> {
    let clock = SystemClock::shared();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut frames, mut http) = (None, None);
    let address = match speaks {
        Speaks::Frames => frames.insert(FrameEcho::start(threads, clock)?).address(),
        Speaks::Http => http.insert(HttpEcho::start(threads, clock)?).address(),
    };
    writeln!(std::io::stdout(), "{address}")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop((frames, http));
    Ok(())
}
