//! The folder of a demonstration: fresh, and gone afterwards unless somebody wants to look at it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use runtime::{Clock as _, SystemClock};

/// A folder; removed when it is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// The folder that was asked for (and is kept), or a fresh one in the build folder.
    ///
    /// # Errors
    /// When it is not empty or can't be made.
    pub fn open(wanted: Option<&Path>) -> anyhow::Result<Folder> {
        let path = wanted.map_or_else(fresh, Path::to_owned);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        // Children are started with paths of ours; they must not depend on where anybody stands.
        let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
        let mut there = std::fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            there.next().is_none(),
            "{} is not empty; the demonstration needs a folder of its own",
            path.display()
        );
        Ok(Folder { path, kept: wanted.is_some() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It stays.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

fn fresh() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let name = format!("run-{}-{}", SystemClock.now_ms() / 1_000, std::process::id());
    target.join("demo").join(name)
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Folder;

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_one_that_was_asked_for_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("b");
        drop(Folder::open(Some(&path)).unwrap());
        assert!(path.is_dir());
        std::fs::write(path.join("x"), "").unwrap();
        assert!(Folder::open(Some(&path)).unwrap_err().to_string().contains("not empty"));
    }
}
