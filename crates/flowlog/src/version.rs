//! The format of a data directory as a whole.
//!
//! The file `FORMAT` names the number of the layout. A program refuses a directory with a higher number than it knows,
//! before it opens anything in it, so that going back to an older version can't damage what a newer one wrote.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const FORMAT_FILE: &str = "FORMAT";
const PREFIX: &str = "hongbao-data ";

/// The directory's format doesn't fit.
#[derive(Debug, thiserror::Error)]
pub enum FormatVersionError {
    /// A later version of the program wrote the directory.
    #[error(
        "{dir} is the data directory of a newer version: format {found}, this program knows up to {supported}; start \
         that version or a later one",
        dir = dir.display()
    )]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// The number in the file.
        found: u32,
        /// The highest that this program knows.
        supported: u32,
    },
    /// The file holds something else.
    #[error("{path} holds {found:?}, expected \"hongbao-data NUMBER\"; is this a data directory?", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The beginning of what it holds.
        found: String,
    },
    /// The disk refused.
    #[error("format file {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Checks the format number of a directory, which must exist, and writes `supported` into a new one. Returns the number
/// found, which is lower than `supported` in an older directory: migrating it is the caller's business.
pub fn check_format_version(dir: &Path, supported: u32) -> Result<u32, FormatVersionError> {
    let path = dir.join(FORMAT_FILE);
    let io = |source| FormatVersionError::Io { path: path.clone(), source };
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned(),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            write_format(dir, &path, supported).map_err(io)?;
            return Ok(supported);
        }
        Err(e) => return Err(io(e)),
    };
    let number = text.trim_end().strip_prefix(PREFIX).and_then(|n| n.parse::<u32>().ok());
    match number {
        Some(found) if found > supported => {
            Err(FormatVersionError::Newer { dir: dir.to_owned(), found, supported })
        }
        Some(found) => Ok(found),
        None => Err(FormatVersionError::Unreadable { path: path.clone(), found: text }),
    }
}

/// Written under another name and renamed, so that a crash leaves the whole file or none.
fn write_format(dir: &Path, path: &Path, version: u32) -> io::Result<()> {
    let temporary = dir.join("FORMAT.tmp");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{PREFIX}{version}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_directory_is_refused_and_an_older_one_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_format_version(dir.path(), 3).unwrap(), 3);
        assert_eq!(check_format_version(dir.path(), 4).unwrap(), 3);
        let error = check_format_version(dir.path(), 2).unwrap_err();
        assert!(matches!(error, FormatVersionError::Newer { found: 3, supported: 2, .. }), "{error}");
        std::fs::write(dir.path().join(FORMAT_FILE), "something else").unwrap();
        let error = check_format_version(dir.path(), 3).unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
    }
}
