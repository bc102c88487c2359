//! Campaign files, read with a bound.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;

use crate::failure::Failure;

/// Whether standard input is meant.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What to call it in messages.
pub fn label(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Reads a campaign file, or standard input where it is `-`.
///
/// # Errors
/// When it can't be read, or is longer than a campaign file may be.
pub fn read(path: &Path) -> Result<Bytes, Failure> {
    let failed = |why: String| Failure::Refused(format!("{}: {why}", label(path)));
    // One byte more than may be, to tell a file that is too long.
    let bound = quota_config::FILE_BYTES_MAX as u64 + 1;
    let mut source = Vec::new();
    let read = if is_stdin(path) {
        std::io::stdin().lock().take(bound).read_to_end(&mut source)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(bound).read_to_end(&mut source))
    };
    read.map_err(|error| failed(error.to_string()))?;
    if source.len() as u64 == bound {
        let most = quota_config::FILE_BYTES_MAX >> 20;
        return Err(failed(format!(
            "longer than the {most} MiB that a campaign file may have; use `repeat` and prize sets"
        )));
    }
    Ok(source.into())
}
