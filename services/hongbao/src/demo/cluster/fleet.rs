//! The processes of the platform: which there are, how they are started, how they all stand together.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Http;
use crate::demo::children::Child;

/// How long a process may take to get ready: servers may be electing leaders.
const START: Duration = Duration::from_secs(40);

/// How long a quick look at the lottery nodes may take.
const LOOK: Duration = Duration::from_millis(300);

/// What a process writes when it serves.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ports {
    pub health: Option<String>,
    pub tcp: Option<String>,
    pub http: Option<String>,
}

/// A process of the platform.
pub(super) struct Member {
    /// Its role.
    pub role: &'static str,
    /// Its node number, and the name of its folder.
    pub node: u16,
    pub child: Child,
    pub ports: Ports,
    /// Killed or drained, so that its end is no failure.
    pub gone: bool,
}

impl Member {
    /// For people.
    pub fn name(&self) -> String {
        format!("{} {}", self.role, self.node)
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Fleet {
    pub members: Vec<Member>,
}

impl Fleet {
    /// Starts a process and waits until it serves.
    ///
    /// # Errors
    /// What it said last, when it does not get ready.
    pub async fn start(
        &mut self,
        folder: &Path,
        role: &'static str,
        node: u16,
        campaign: Option<&Path>,
    ) -> anyhow::Result<()> {
        let name = format!("{role}-{node}");
        let port_file = folder.join(format!("{name}.port"));
        let mut command = Command::new("/proc/self/exe");
        command.arg0("hongbao").args(["run", "--role", role]);
        command.arg("--config").arg(folder.join("cluster.toml")).arg("--data").arg(folder.join(&name));
        command.arg("--port-file").arg(&port_file);
        command.args(["--set", &format!("node.id={node}")]);
        if let Some(campaign) = campaign {
            command.arg("--campaign").arg(campaign);
        }
        let mut child = Child::start(role, command, &folder.join(format!("{name}.log")))?;
        let ports: Ports = child.ready(&port_file, START).await?;
        self.members.push(Member { role, node, child, ports, gone: false });
        Ok(())
    }

    /// Those of a role that are not gone.
    pub fn of(&self, role: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role && !member.gone)
    }

    /// A process by role and number.
    pub fn find(&mut self, role: &str, node: u16) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.role == role && member.node == node)
    }

    /// An error if one has ended that should not have.
    ///
    /// # Errors
    /// What it said last.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        self.members
            .iter_mut()
            .filter(|member| !member.gone)
            .try_for_each(|member| member.child.must_run().map_err(|error| error.context(member.name())))
    }

    /// How the platform stands, in the form of one process's status: draws are summed over the lottery nodes, awards and
    /// deliveries stand in stores that their nodes share. None while somebody does not answer.
    pub async fn status(&self, http: &Http, token: &str) -> Option<Value> {
        let (mut draws, mut users) = (0, 0);
        for node in self.of("lottery") {
            let status = ask(http, token, node).await?;
            draws += status["node"]["draws"].as_u64().unwrap_or(0);
            users += status["node"]["users"].as_u64().unwrap_or(0);
        }
        let flow = ask(http, token, self.of("flow").next()?).await?;
        let delivery = ask(http, token, self.of("delivery").next()?).await?;
        Some(json!({
            "node": { "draws": draws, "users": users },
            "flow": flow["flow"],
            "statistics": flow["statistics"],
            "delivery": delivery["delivery"],
        }))
    }
}

impl Fleet {
    /// What each lottery node says of itself. None while one does not answer.
    pub async fn lottery(&self, http: &Http, token: &str) -> Option<Vec<Value>> {
        let asking = async {
            let mut told = Vec::new();
            for node in self.of("lottery") {
                told.push(ask(http, token, node).await?);
            }
            Some(told)
        };
        tokio::time::timeout(LOOK, asking).await.ok()?
    }
}

async fn ask(http: &Http, token: &str, member: &Member) -> Option<Value> {
    let url = format!("http://{}/admin/status", member.ports.health.as_deref()?);
    http.call(&url, Some(token), None).await.ok()
}
