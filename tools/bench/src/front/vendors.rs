//! The vendor simulator, without faults, and the platform's configuration that goes with it.

use super::campaign::{COVERS, VOUCHERS, WALLET};
use super::process::{Process, beside};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// What each vendor takes a second: more than the platform sends.
const PER_SECOND: u32 = 100_000;

/// The simulator; it ends with this value.
pub struct Vendors {
    /// What the platform has to know of it.
    pub config: String,
    _process: Process,
    _folder: TempDir,
}

impl Vendors {
    /// Starts it on a free port.
    pub fn start(scratch: &Path) -> Result<Vendors> {
        let folder = tempfile::Builder::new().prefix("vendors-").tempdir_in(scratch)?;
        let (at, program) = (folder.path(), beside("vendor-sim")?);
        let secret = Command::new(&program).arg("make-secret").output().context("make a secret")?;
        if !secret.status.success() {
            bail!("vendor-sim make-secret: {}", String::from_utf8_lossy(&secret.stderr));
        }
        let secret = String::from_utf8(secret.stdout)?.trim().to_owned();
        let mut sim = String::new();
        for id in [WALLET, VOUCHERS, COVERS] {
            // Writing to a string can't fail.
            let _ = write!(
                sim,
                "[[vendor]]\nid = {id}\nsecret = \"{secret}\"\nlimit_per_second = {PER_SECOND}\ncapacity_per_second = {PER_SECOND}\nquery_capacity_per_second = {PER_SECOND}\n"
            );
        }
        std::fs::write(at.join("vendors.toml"), sim)?;
        let mut command = Command::new(program);
        command.args(["run", "--listen", "127.0.0.1:0"]);
        command.args(["--config".as_ref(), at.join("vendors.toml").as_os_str()]);
        command.args(["--state-dir".as_ref(), at.join("state").as_os_str()]);
        command.args(["--port-file".as_ref(), at.join("port").as_os_str()]);
        let mut process = Process::start("vendor-sim", command, &at.join("log"))?;
        let port = process.ready(&at.join("port"), Duration::from_secs(20))?;
        let config = platform_config(port.trim(), &secret);
        Ok(Vendors { config, _process: process, _folder: folder })
    }
}

fn platform_config(port: &str, secret: &str) -> String {
    let mut out = String::new();
    for (id, kind) in [(WALLET, "fast"), (VOUCHERS, "slow"), (COVERS, "slow")] {
        // Writing to a string can't fail.
        let _ = write!(
            out,
            "[[delivery.vendors]]\nid = {id}\nname = \"vendor {id}\"\nbase_url = \"http://127.0.0.1:{port}\"\nsecret = \"{secret}\"\nmerchant_account = \"bench\"\ncapacity_per_second = {PER_SECOND}\naccount = \"user_id\"\nkind = \"{kind}\"\n"
        );
    }
    out
}
