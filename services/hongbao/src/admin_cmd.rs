//! `hongbao admin`: what an operator asks of a running platform, over its admin port.

use crate::call::Http;
use crate::cli::print;
use crate::cluster_cmd::{self, Which};
use crate::keys::Keys;
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use runtime::exit;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Awards handed over in one call.
const REDO_BATCH: usize = 500;

/// What to ask.
#[derive(Subcommand)]
pub enum AdminCommand {
    /// How everything stands, as JSON.
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Hold all deliveries back, or let them go on.
    Hold {
        /// `on` or `off`.
        #[arg(value_parser = on_off)]
        hold: bool,
        #[command(flatten)]
        at: At,
    },
    /// Change a vendor's limit at once.
    Limit {
        /// The vendor.
        #[arg(long)]
        vendor: u32,
        /// Calls a second; 0 stops it.
        #[arg(long)]
        per_second: u32,
        #[command(flatten)]
        at: At,
    },
    /// Hand the awards of a `redo.csv` to delivery's state machine; doing it again is harmless.
    Redo {
        /// The file that `hongbao reconcile` has written.
        file: PathBuf,
        #[command(flatten)]
        at: At,
    },
    #[command(flatten)]
    Cluster(ClusterCommand),
}

/// What to ask of a cluster's servers.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Who is there: processes, and of each lottery node epoch, session, buckets, lane and open leases.
    Nodes {
        #[command(flatten)]
        which: Which,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// End the epoch of a dead lottery node by hand, with the checks that the others make.
    EndEpoch {
        /// The node's number.
        node: u16,
        #[command(flatten)]
        which: Which,
    },
    /// Copy the lanes to segment files, which `hongbao reconcile --archive` reads.
    Archive {
        /// Folder of the archive; what is there is continued.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        which: Which,
    },
}

/// Which platform.
#[derive(Args)]
pub struct At {
    /// Its HTTP address.
    #[arg(long, default_value = "127.0.0.1:7601")]
    at: String,
    /// Its data folder, for the admin token.
    #[arg(long, default_value = "data")]
    data: PathBuf,
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("say `on` or `off`".into()),
    }
}

impl At {
    async fn call(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        if !self.data.join("keys").exists() {
            bail!("{} is no data folder of a platform; name it with --data", self.data.display());
        }
        let token = Keys::open(&self.data)?.admin_token;
        Http::new().call(&format!("http://{}{path}", self.at), Some(&token), body).await
    }
}

/// Asks, and prints the answer.
pub async fn run(command: AdminCommand) -> anyhow::Result<u8> {
    match command {
        AdminCommand::Status { at } => show(&at.call("/admin/status", None).await?)?,
        AdminCommand::Hold { hold, at } => {
            show(&at.call("/admin/hold", Some(&json!({ "hold": hold }))).await?)?;
        }
        AdminCommand::Limit { vendor, per_second, at } => {
            let body = json!({ "vendor": vendor, "per_second": per_second });
            show(&at.call("/admin/limit", Some(&body)).await?)?;
        }
        AdminCommand::Redo { file, at } => {
            let awards = awards_in(&file)?;
            let mut done = serde_json::Map::new();
            for batch in awards.chunks(REDO_BATCH) {
                let answer = at.call("/admin/redo", Some(&json!({ "awards": batch }))).await?;
                if let Some(Value::Object(part)) = answer.get("awards").cloned() {
                    done.extend(part);
                }
            }
            show(&json!({ "awards": done }))?;
        }
        AdminCommand::Cluster(command) => return of_cluster(command).await,
    }
    Ok(exit::OK)
}

async fn of_cluster(command: ClusterCommand) -> anyhow::Result<u8> {
    match command {
        ClusterCommand::Nodes { which, json } => cluster_cmd::nodes(&which, json).await,
        ClusterCommand::EndEpoch { node, which } => cluster_cmd::end_epoch(&which, node).await,
        ClusterCommand::Archive { out, which } => cluster_cmd::archive(&which, &out).await,
    }
}

fn show(answer: &Value) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(answer)?);
    Ok(())
}

/// The first column of a `redo.csv`, checked before anything is sent.
fn awards_in(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut lines = text.lines().enumerate();
    match lines.next() {
        Some((_, head)) if head.split(',').next() == Some("award") => {}
        _ => bail!(
            "{}:1: the header must begin with `award`, as `hongbao reconcile` writes it",
            file.display()
        ),
    }
    let mut awards = Vec::new();
    for (n, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let award = line.split(',').next().unwrap_or_default();
        award
            .parse::<campaign::AwardId>()
            .with_context(|| format!("{}:{}: '{award}'", file.display(), n + 1))?;
        awards.push(award.to_owned());
    }
    Ok(awards)
}

#[cfg(test)]
mod tests {
    use super::awards_in;

    #[test]
    fn a_redo_file_is_checked_whole_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redo.csv");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("award,kind\n38G2C7W4Y00G00040000000001,missing_at_vendor\n");
        assert_eq!(awards_in(&path).unwrap(), ["38G2C7W4Y00G00040000000001"]);
        write("award,kind\n38G2C7W4Y00G00040000000001,x\nnonsense,x\n");
        let error = format!("{:#}", awards_in(&path).unwrap_err());
        assert!(error.contains("redo.csv:3"), "{error}");
        write("prize\n");
        assert!(awards_in(&path).is_err());
    }
}
