//! The secrets of an installation: made at the first start, readable by their owner only, each with an id so that
//! it can be rotated (the last of a kind makes new things, all of them check).

use crate::config::Mistake;
use access::token::{TokenKey, TokenKeys};
use anyhow::{Context as _, bail};
use campaign::{MacKey, MacKeys, SeedKey};
use protocol::calls::CallKey;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mac: Vec<Secret>,
    seed: Vec<Secret>,
    token: Vec<Secret>,
    /// Since roles can run apart; files from before have none.
    #[serde(default)]
    call: Vec<Secret>,
    admin_token: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    id: u32,
    /// 32 bytes in hex.
    key: String,
}

/// Where the names, roles and token hashes of operators are.
pub fn operators_file(data: &Path) -> PathBuf {
    data.join("keys").join("operators.toml")
}

/// All keys of an installation.
pub struct Keys {
    /// Keys of award MACs.
    pub mac: MacKeys,
    /// Keys of round seeds; new campaigns use the last.
    pub seeds: Vec<SeedKey>,
    /// Keys of user tokens and gateway credentials.
    pub token: TokenKeys,
    /// Keys by which the processes of a cluster know each other; may be empty where nothing runs apart.
    pub calls: Vec<CallKey>,
    /// What operators send as bearer token.
    pub admin_token: String,
    /// The newest token key as tools take it: id and secret in hex.
    pub token_key: String,
}

impl Keys {
    /// Opens the keys under the data folder; makes them when there are none.
    pub fn open(data: &Path) -> anyhow::Result<Keys> {
        let dir = data.join("keys");
        let path = dir.join("keys.toml");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        if !path.exists() {
            write_new(&dir, &path)?;
        }
        Keys::read(&path)
    }

    /// Opens the keys of an installation whose roles run apart. They are made once, by `hongbao keys`: a process that
    /// made its own would understand nobody.
    ///
    /// # Errors
    /// When there are none, or none for calls.
    pub fn open_shared(dir: &Path) -> anyhow::Result<Keys> {
        let path = dir.join("keys").join("keys.toml");
        if !path.is_file() {
            let text = format!(
                "{}: there are no keys; make them once with `hongbao keys {}` and copy them to every node",
                path.display(),
                dir.display()
            );
            return Err(Mistake(text).into());
        }
        let keys = Keys::read(&path)?;
        if keys.calls.is_empty() {
            let text = format!(
                "{}: there is no key of kind `call`, by which processes know each other; add one: [[call]] id = 1, key = 64 hexadecimal digits",
                path.display()
            );
            return Err(Mistake(text).into());
        }
        Ok(keys)
    }

    fn read(path: &Path) -> anyhow::Result<Keys> {
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let shown = path.display();
            let text =
                format!("{shown} can be read by others (mode {mode:o}); make it 0600, or replace the keys");
            return Err(Mistake(text).into());
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        Keys::of(&file).with_context(|| format!("in {}", path.display()))
    }

    fn of(file: &File) -> anyhow::Result<Keys> {
        let mac = file.mac.iter().map(|s| Ok(MacKey { id: s.id, key: s.bytes()? }));
        let seeds = file.seed.iter().map(|s| Ok(SeedKey { id: s.id, key: s.bytes()? }));
        let token = file.token.iter().map(|s| Ok(TokenKey::new(s.id.to_string(), &s.bytes()?)?));
        let calls = file.call.iter().map(|s| Ok(CallKey::new(s.id.to_string(), &s.bytes()?)?));
        let seeds = seeds.collect::<anyhow::Result<Vec<_>>>()?;
        if seeds.is_empty() {
            bail!("there is no seed key; at least one is needed");
        }
        Ok(Keys {
            mac: MacKeys::new(mac.collect::<anyhow::Result<_>>()?)
                .context("there is no MAC key; at least one is needed")?,
            seeds,
            token: TokenKeys::new(token.collect::<anyhow::Result<_>>()?)?,
            calls: calls.collect::<anyhow::Result<_>>()?,
            admin_token: file.admin_token.clone(),
            token_key: file.token.last().map(|s| format!("{} {}", s.id, s.key)).unwrap_or_default(),
        })
    }

    /// The key that new rounds get their seeds from.
    pub fn newest_seed(&self) -> &SeedKey {
        // `of` refuses an empty list.
        &self.seeds[self.seeds.len() - 1]
    }
}

impl Secret {
    fn new(id: u32) -> anyhow::Result<Secret> {
        Ok(Secret { id, key: random_hex()? })
    }

    fn bytes(&self) -> anyhow::Result<[u8; 32]> {
        let bytes = hex::decode(&self.key).with_context(|| format!("key {} is not hex", self.id))?;
        let n = bytes.len();
        bytes.try_into().map_err(|_| anyhow::anyhow!("key {} has {n} bytes, 32 are needed", self.id))
    }
}

fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("the system gives no random numbers: {e}"))?;
    Ok(hex::encode(bytes))
}

/// Writes fresh keys: whole and synced before they get their name, so that a crash leaves no half of them.
fn write_new(dir: &Path, path: &Path) -> anyhow::Result<()> {
    let one = || Ok::<_, anyhow::Error>(vec![Secret::new(1)?]);
    let file = File { mac: one()?, seed: one()?, token: one()?, call: one()?, admin_token: random_hex()? };
    let temporary = dir.join("keys.tmp");
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    out.write_all(b"# Secrets of this installation. Whoever has them can forge tokens and awards.\n")?;
    out.write_all(toml::to_string(&file)?.as_bytes())?;
    out.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path()).unwrap();
        let again = Keys::open(dir.path()).unwrap();
        assert_eq!(first.admin_token, again.admin_token);
        assert_eq!(first.newest_seed().key, again.newest_seed().key);
        let path = dir.path().join("keys/keys.toml");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Keys::open(dir.path()).is_err_and(|e| e.to_string().contains("0600")));
    }
}
