//! The operators' file: read whole, written whole under a lock, never readable by others.

use quota_config::{FILE_AUTHOR, Role};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What a token begins with, so that people and scanners for leaked secrets know one.
pub const TOKEN_PREFIX: &str = "hbo_";
/// Most operators of an installation.
const OPERATORS_MAX: usize = 1_000;
/// Largest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why operators can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorsError {
    /// Reading or writing.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others can read it.
    #[error("{} can be read by others (mode {mode:o}); make it 0600, or give everybody a new token", path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what it should be.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No name.
    #[error(
        "`{0}` is no name of an operator: write 1 to 64 small letters, digits and . _ - @, a letter first; `{FILE_AUTHOR}` \
         is what files beside the platform are put into force by"
    )]
    Name(String),
    /// The name is taken.
    #[error("there is an operator {name} already; revoke that token first, or take another name")]
    Taken {
        /// The name.
        name: String,
    },
    /// Nobody has that name.
    #[error("there is no operator {name}")]
    Nobody {
        /// The name.
        name: String,
    },
    /// Too many.
    #[error("there are {OPERATORS_MAX} operators already")]
    Full,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// One operator.
#[derive(Clone)]
pub(super) struct Entry {
    pub name: String,
    pub role: Role,
    pub token_sha256: [u8; 32],
}

/// What tells one state of the file from another.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    operator: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    role: Role,
    token_sha256: String,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> OperatorsError + '_ {
    move |error| OperatorsError::Io { path: path.to_path_buf(), error }
}

/// The present state of the file; `None` where there is none.
pub(super) fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(stamp_of(&meta))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn stamp_of(meta: &fs::Metadata) -> Stamp {
    Stamp { inode: meta.ino(), bytes: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) }
}

/// The operators, and the state of the file that they were read from.
pub(super) fn read(path: &Path) -> Result<(Vec<Entry>, Option<Stamp>), OperatorsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(io_at(path)(error)),
    };
    let meta = file.metadata().map_err(io_at(path))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OperatorsError::Mode { path: path.to_path_buf(), mode });
    }
    let wrong = |what: String| OperatorsError::Wrong { path: path.to_path_buf(), what };
    if meta.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = io::read_to_string(file).map_err(io_at(path))?;
    let contents: Contents = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let entries = entries(contents).map_err(wrong)?;
    Ok((entries, Some(stamp_of(&meta))))
}

fn entries(contents: Contents) -> Result<Vec<Entry>, String> {
    if contents.operator.len() > OPERATORS_MAX {
        return Err(format!("more than {OPERATORS_MAX} operators"));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(contents.operator.len());
    for line in contents.operator {
        if !is_name(&line.name) {
            return Err(OperatorsError::Name(line.name).to_string());
        }
        let mut token_sha256 = [0; 32];
        hex::decode_to_slice(&line.token_sha256, &mut token_sha256)
            .map_err(|_| format!("token_sha256 of {} is not a SHA-256 in 64 hex digits", line.name))?;
        if let Some(other) = entries.iter().find(|e| e.name == line.name || e.token_sha256 == token_sha256) {
            return Err(format!(
                "{} stands beside {}: each has a name and a token of his own",
                line.name, other.name
            ));
        }
        entries.push(Entry { name: line.name, role: line.role, token_sha256 });
    }
    Ok(entries)
}

/// Names are what tells two people apart, so a name has one way of writing.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-@".contains(&b);
    name != FILE_AUTHOR
        && name.len() <= 64
        && name.bytes().all(known)
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
}

pub(super) fn add(path: &Path, name: &str, role: Role) -> Result<String, OperatorsError> {
    if !is_name(name) {
        return Err(OperatorsError::Name(name.chars().take(80).collect()));
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| OperatorsError::Random(error.to_string()))?;
    let token = format!("{TOKEN_PREFIX}{}", hex::encode(random));
    let token_sha256 = Sha256::digest(token.as_bytes()).into();
    change(path, |entries| {
        if entries.iter().any(|entry| entry.name == name) {
            return Err(OperatorsError::Taken { name: name.to_string() });
        }
        if entries.len() >= OPERATORS_MAX {
            return Err(OperatorsError::Full);
        }
        entries.push(Entry { name: name.to_string(), role, token_sha256 });
        Ok(())
    })?;
    Ok(token)
}

pub(super) fn revoke(path: &Path, name: &str) -> Result<(), OperatorsError> {
    change(path, |entries| {
        let before = entries.len();
        entries.retain(|entry| entry.name != name);
        if entries.len() == before { Err(OperatorsError::Nobody { name: name.to_string() }) } else { Ok(()) }
    })
}

/// Reads, changes and writes under a lock, so that of two changes at once neither is lost. Readers see the old file
/// or the new one.
fn change(
    path: &Path,
    edit: impl FnOnce(&mut Vec<Entry>) -> Result<(), OperatorsError>,
) -> Result<(), OperatorsError> {
    let private =
        |path: &Path| OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let lock_path = path.with_extension("lock");
    let lock = private(&lock_path).map_err(io_at(&lock_path))?;
    lock.lock().map_err(io_at(&lock_path))?;
    let (mut entries, _) = read(path)?;
    edit(&mut entries)?;
    let line = |entry: Entry| Line {
        name: entry.name,
        role: entry.role,
        token_sha256: hex::encode(entry.token_sha256),
    };
    let contents = Contents { operator: entries.into_iter().map(line).collect() };
    let text = toml::to_string(&contents)
        .map_err(|error| OperatorsError::Wrong { path: path.to_path_buf(), what: error.to_string() })?;
    let new = path.with_extension("new");
    // What an interrupted change left behind is of no use.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&new)(error)),
        _ => {}
    }
    let mut file = private(&new).map_err(io_at(&new))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_at(&new))?;
    fs::rename(&new, path).map_err(io_at(path))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}
