//! The files of the workspace.

use std::path::{Path, PathBuf};

/// All files below `folder`, sorted; build output and hidden folders are left out.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !entry.file_type().map_err(unreadable)?.is_dir() {
            found.push(entry.path());
        } else if !name.starts_with('.') && name != "target" {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}
