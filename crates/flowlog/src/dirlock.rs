//! One process per data directory.
//!
//! An exclusive flock on the file `LOCK` in the directory. The kernel drops it with the process, however that ends, so a
//! file left behind means nothing. The holder's pid stands in the file, for the message to whoever comes second.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const LOCK_FILE: &str = "LOCK";

/// The directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum DirLockError {
    /// Another process has it.
    #[error("{dir} is in use by process {holder}; stop that one, or give this one another data directory", dir = dir.display())]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// The pid that the holder wrote into the file, or 'unknown'.
        holder: String,
    },
    /// The disk refused.
    #[error("lock {path}: {source}", path = path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Holds a data directory until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks a directory, which must exist.
    pub fn acquire(dir: &Path) -> Result<DirLock, DirLockError> {
        let path = dir.join(LOCK_FILE);
        let io = |source| DirLockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The holder may be about to write its pid; then it is unknown.
                let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut holder);
                let pid = holder.trim();
                let holder = if pid.is_empty() { "unknown" } else { pid }.to_owned();
                return Err(DirLockError::Held { dir: dir.to_owned(), holder });
            }
            Err(e) => return Err(io(e.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(DirLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        match DirLock::acquire(dir.path()) {
            Err(DirLockError::Held { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }
}
