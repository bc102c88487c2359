//! Processes that are killed and begin anew at the same addresses with the same folder.

use super::{Cluster, PATIENCE, Process, port};
use crate::http::Client;
use crate::platform::CANNOT_LISTEN;
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A process that begins anew where it was.
pub struct Member {
    role: &'static str,
    data: String,
    more: Vec<String>,
    process: Option<Process>,
    ports: Value,
}

impl Member {
    /// Starts roles under a node number. They share a folder that is named after both.
    pub fn start(cluster: &Cluster, role: &'static str, number: u16) -> Member {
        Member::start_with(cluster, role, number, &[])
    }

    /// The same, with settings of its own.
    pub fn start_with(cluster: &Cluster, role: &'static str, number: u16, set: &[String]) -> Member {
        let more = [vec![format!("node.id={number}")], set.to_vec()].concat();
        let data = format!("{role}-{number}");
        let mut member = Member { role, data, more, process: None, ports: Value::Null };
        member.again(cluster);
        // From now on it is found where it was found first.
        let names = [
            ("cluster.calls", "calls"),
            ("cluster.http", "health"),
            ("access.tcp", "tcp"),
            ("access.http", "http"),
        ];
        for (key, name) in names {
            if let Some(address) = member.ports[name].as_str() {
                member.more.push(format!("{key}={address}"));
            }
        }
        member
    }

    /// Starts it once more. Its addresses may be somebody else's for a moment, as the near end of a connection.
    pub fn again(&mut self, cluster: &Cluster) {
        let more: Vec<&str> = self.more.iter().flat_map(|more| ["--set", more]).collect();
        let since = Instant::now();
        loop {
            let mut process = cluster.spawn(self.role, &self.data, &more);
            match process.serves() {
                Ok(ports) => {
                    (self.ports, self.process) = (ports, Some(process));
                    return;
                }
                Err(ended) if ended.status.code() == Some(CANNOT_LISTEN) && since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(ended) => panic!("it ended: {ended:?}"),
            }
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        process.ended();
    }

    /// Stops it, or has it go on.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// SIGTERM: it must end well.
    pub fn stop(mut self) {
        self.process.take().unwrap().stop();
    }

    /// One of its addresses.
    pub fn port(&self, name: &str) -> SocketAddr {
        port(&self.ports, name)
    }

    /// What it says of itself; nothing while it does not answer.
    pub fn status(&self, admin: &str) -> Value {
        let answer = Client::new(port(&self.ports, "health"), admin).get("/admin/status");
        answer.map_or(Value::Null, |answer| answer.body)
    }
}

/// Looks again and again.
#[track_caller]
pub fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
