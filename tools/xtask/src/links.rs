//! Whether what documents point at is there: other documents, their headings, and source files that they name.
//!
//! It exists because files are moved and split while a document that names them stays as it is. Two things are looked at:
//! links, `[text](path#heading)`, and names in backticks that can only mean a file of ours (they end in `.rs` or `.proto`, or
//! begin with a folder that only this repository has). A name may leave out the folders in front: `core/submit.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::tree;

/// What a name in backticks ends with if it is a file of ours.
const ENDINGS: [&str; 2] = [".rs", ".proto"];
/// What it begins with.
const BEGINNINGS: [&str; 4] = ["crates/", "services/", "tools/", "docs/"];

/// What the documents below `root` point at and is not there, and how many documents there are.
pub fn errors(root: &Path) -> Result<(Vec<String>, usize), String> {
    let mut places = Places::default();
    let mut documents = Vec::new();
    for path in tree::files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if name.ends_with(".md") {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            documents.push((name.clone(), text));
        }
        places.add(&name);
    }
    let errors = documents.iter().flat_map(|(name, text)| missing(name, text, &places, &documents)).collect();
    Ok((errors, documents.len()))
}

/// Files and folders.
#[derive(Default)]
struct Places {
    whole: BTreeSet<String>,
    /// Each with some of the folders in front left out.
    ends: BTreeSet<String>,
}

impl Places {
    /// A file, with the folders that it is in.
    fn add(&mut self, file: &str) {
        let slashes = file.match_indices('/').map(|(at, _)| at);
        for whole in slashes.map(|at| &file[..at]).chain([file]) {
            if !self.whole.insert(whole.to_owned()) {
                continue;
            }
            self.ends.insert(whole.to_owned());
            self.ends.extend(whole.match_indices('/').map(|(at, _)| whole[at + 1..].to_owned()));
        }
    }
}

fn missing(name: &str, text: &str, places: &Places, documents: &[(String, String)]) -> Vec<String> {
    let mut errors = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let at = format!("{name}:{}", n + 1);
        for link in between(line, "](", ")") {
            errors.extend(wrong_link(name, link, places, documents).map(|why| format!("{at}: {why}")));
        }
        for named in between(line, "`", "`").flat_map(alternatives).filter(|named| is_ours(named)) {
            if !places.ends.contains(named.trim_end_matches('/')) {
                errors.push(format!("{at}: there is no {named}; name the file that it has become"));
            }
        }
    }
    errors
}

/// What stands between the marks, from left to right.
fn between<'a>(line: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(open)?;
        let (found, behind) = behind.split_once(close)?;
        rest = behind;
        Some(found)
    })
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`. What follows a blank is no part of a name.
fn alternatives(named: &str) -> Vec<String> {
    let named = named.split(' ').next().unwrap_or_default();
    let parts = named.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    match parts {
        None => vec![named.to_owned()],
        Some((head, (names, tail))) => names.split(',').map(|name| format!("{head}{name}{tail}")).collect(),
    }
}

fn is_ours(named: &str) -> bool {
    let is_pattern = named.contains(['*', '<', ':', '(']);
    let ours = ENDINGS.iter().any(|end| named.len() > end.len() && named.ends_with(end))
        || BEGINNINGS.iter().any(|begin| named.starts_with(begin));
    ours && !is_pattern
}

fn wrong_link(from: &str, link: &str, places: &Places, documents: &[(String, String)]) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let to = if path.is_empty() { from.to_owned() } else { resolved(from, path) };
    if !to.is_empty() && !places.whole.contains(&to) {
        return Some(format!("the link {link} leads to {to}, which is not there"));
    }
    let heading = heading?;
    let (_, text) = documents.iter().find(|(name, _)| *name == to)?;
    let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
    (!headings.any(|found| found == heading)).then(|| format!("the link {link}: {to} has no such heading"))
}

/// Where a link leads, from the workspace's folder on.
fn resolved(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_line() {
        let mut places = Places::default();
        for file in ["docs/a.md", "docs/b.md", "crates/x/src/core/one.rs", "README.md"] {
            places.add(file);
        }
        let a = "[b](b.md#chat-over-http) [up](../README.md) [far](https://example.com/c.md) [folder](../crates/x)\n\
                 `core/one.rs` `crates/x/src/core/` `src/core/{one,two}.rs` `cargo run`\n\
                 [b](b.md#nothing) [c](c.md) `three.rs` `crates/x/src/*.rs` `x::y.rs`\n";
        let documents = [("docs/a.md", a), ("docs/b.md", "# B\n## Chat over `HTTP`\n")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()));
        let found = missing("docs/a.md", a, &places, &documents);
        let begins = [
            "docs/a.md:2: there is no src/core/two.rs",
            "docs/a.md:3: the link b.md#nothing: docs/b.md has no such heading",
            "docs/a.md:3: the link c.md leads to docs/c.md",
            "docs/a.md:3: there is no three.rs",
        ];
        assert_eq!(found.len(), begins.len(), "{found:?}");
        for (found, begin) in found.iter().zip(begins) {
            assert!(found.starts_with(begin), "{found}");
        }
    }

    #[test]
    fn the_documents_of_the_repository_point_at_what_is_there() {
        let root = crate::root();
        let (errors, documents) = errors(&root).unwrap();
        assert_eq!(errors, Vec::<String>::new());
        assert!(documents > 10, "{documents} documents");
    }
}
