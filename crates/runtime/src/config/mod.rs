//! Layered configuration.
//!
//! The lowest layer is the commented default file that a program carries inside itself; over it lie a file,
//! environment variables (`HONGBAO__ACCESS__LISTEN=...`) and `--set access.listen=...`, later ones winning key by key.
//! Tables merge; any other value replaces what was there.
//!
//! Every value remembers where it came from, so a mistake is reported with source, line and column, and an unknown key
//! with the known key nearest to it. Nothing is guessed: a key that no setting has is an error, not a silent
//! default.

mod de;
mod node;
mod one_table;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use node::{Kind, Node, Origin};

pub use one_table::OneTable;

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A value is wrong, or a key unknown.
    #[error("{place}: {}{message}", KeyPrefix(key))]
    Wrong {
        /// Source, line and column, as in `hongbao.toml:12:5`.
        place: String,
        /// The key in dotted form; empty when the whole text does not parse.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

struct KeyPrefix<'a>(&'a str);

impl fmt::Display for KeyPrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// Configuration under construction: layers are added, then read into a type.
#[derive(Debug, Clone)]
pub struct Layers {
    root: Node,
}

impl Layers {
    /// Starts with the default configuration, TOML text that the program carries; `name` is shown in errors.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn new(name: &str, text: &str) -> Result<Self, ConfigError> {
        Ok(Self { root: node::parse(name, text)? })
    }

    /// Lays TOML text over what is there.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn text(mut self, name: &str, text: &str) -> Result<Self, ConfigError> {
        self.root.merge(node::parse(name, text)?);
        Ok(self)
    }

    /// Lays a TOML file over what is there.
    ///
    /// # Errors
    /// When the file can't be read or is not TOML.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        self.text(&path.display().to_string(), &text)
    }

    /// Lays environment variables over what is there: `PREFIX__SECTION__KEY` sets `section.key`. Others are ignored.
    ///
    /// # Errors
    /// When a variable with the prefix names no key, like `HONGBAO__` alone.
    pub fn env(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Sorted, because the order in which a process sees its environment is no order at all.
        let mut ours: Vec<(String, String)> = variables
            .into_iter()
            .filter(|(name, _)| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("__")))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let path: Vec<String> = name.split("__").skip(1).map(str::to_ascii_lowercase).collect();
            self.root.merge(assigned(&path, value, Origin::named(&format!("environment variable {name}")))?);
        }
        Ok(self)
    }

    /// Lays one `key.in.dots=value` from the command line over what is there.
    ///
    /// # Errors
    /// When the text has no `=` or an empty key.
    pub fn set(mut self, assignment: &str) -> Result<Self, ConfigError> {
        let origin = Origin::named(&format!("--set {assignment}"));
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(
                origin.wrong("", "has no '='; it should look like --set section.key=value".to_owned())
            );
        };
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        self.root.merge(assigned(&path, value.to_owned(), origin)?);
        Ok(self)
    }

    /// Reads everything into `T`.
    ///
    /// # Errors
    /// When a key is unknown or missing or a value does not fit: the first such mistake, with its place.
    pub fn build<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        de::read(&self.root)
    }

    /// An error about the value that `key` (dotted) has now, placed where that value was set. For checks that a type
    /// can't express, such as relations between two settings.
    pub fn wrong(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let mut at = &self.root;
        for part in key.split('.') {
            match &at.kind {
                Kind::Table(entries) if entries.contains_key(part) => at = &entries[part].value,
                _ => break,
            }
        }
        at.origin.wrong(key, message.into())
    }
}

/// A tree that holds one value at `path`.
fn assigned(path: &[String], value: String, origin: Origin) -> Result<Node, ConfigError> {
    if path.iter().any(String::is_empty) {
        return Err(
            origin.wrong("", "names no key; every part between the separators needs a name".to_owned())
        );
    }
    let leaf = Node { kind: Kind::Untyped(value), origin: origin.clone() };
    Ok(path.iter().rev().fold(leaf, |inner, key| Node::table_of_one(key, inner, origin.clone())))
}

#[cfg(test)]
mod tests;
