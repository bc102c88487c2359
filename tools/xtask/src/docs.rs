//! Whether ARCHITECTURE.md names every crate, and documents point at what is there.

use std::path::Path;

use crate::{Findings, links, metadata};

/// Crates that the map does not name, and what documents point at and is not there.
pub fn check(root: &Path) -> Result<Findings, String> {
    let path = root.join("ARCHITECTURE.md");
    let map = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let workspace = metadata::load(root)?;
    let folders: Vec<&str> = workspace.ours().filter_map(|(_, package)| package.folder.as_deref()).collect();
    let (lost, documents) = links::errors(root)?;
    let unnamed = missing(&map, &folders)
        .into_iter()
        .map(|folder| format!("ARCHITECTURE.md does not name {folder}; say in a line what it is for"));
    let errors = unnamed.chain(lost).collect();
    let summary = format!(
        "ARCHITECTURE.md names all {} crates, and {documents} documents point at what is there",
        folders.len()
    );
    Ok(Findings { errors, warnings: Vec::new(), summary })
}

/// A crate is named by its folder (`crates/queue`) or, as in a tree of folders, by the folder's last part with a slash
/// (`queue/`) or in backticks.
fn missing<'a>(map: &str, folders: &[&'a str]) -> Vec<&'a str> {
    let is_named = |folder: &str| {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        let starts_word = |at: usize| !map[..at].ends_with(|c: char| c.is_alphanumeric() || "-_".contains(c));
        let with_slash = format!("{name}/");
        map.match_indices(&with_slash).any(|(at, _)| starts_word(at))
            || map.contains(&format!("`{name}`"))
            || map
                .match_indices(folder)
                .any(|(at, _)| folder.contains('/') && starts_word(at) && ends_word(map, at + folder.len()))
    };
    folders.iter().copied().filter(|folder| !is_named(folder)).collect()
}

fn ends_word(text: &str, at: usize) -> bool {
    !text[at..].starts_with(|c: char| c.is_alphanumeric() || "-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_words() {
        let map = "crates/\n  flowlog/  the log\nSee crates/queueing and `client`, crates/records.";
        let folders = [
            "crates/flowlog",
            "crates/queue",
            "crates/client",
            "crates/records",
            "services/flow",
            "crates/log",
        ];
        assert_eq!(missing(map, &folders), ["crates/queue", "services/flow", "crates/log"]);
    }
}
