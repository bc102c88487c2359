//! The tree of values, each with the place it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// A text that settings come from.
#[derive(Debug)]
struct Source {
    name: String,
    /// Byte offset of the start of each line; empty for sources without lines.
    line_starts: Vec<usize>,
    text: String,
}

/// Where a key or value stands.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    source: Arc<Source>,
    offset: usize,
}

impl Origin {
    /// A source without lines, such as an environment variable.
    pub(super) fn named(name: &str) -> Self {
        let source = Source { name: name.to_owned(), line_starts: Vec::new(), text: String::new() };
        Self { source: Arc::new(source), offset: 0 }
    }

    fn at(&self, offset: usize) -> Self {
        Self { source: Arc::clone(&self.source), offset }
    }

    /// `name:line:column`, both counted from 1, the column in characters.
    pub(super) fn place(&self) -> String {
        let source = &*self.source;
        if source.line_starts.is_empty() {
            return source.name.clone();
        }
        let line = source.line_starts.partition_point(|start| *start <= self.offset).max(1);
        let start = source.line_starts[line - 1];
        let column = source.text.get(start..self.offset).map_or(0, |before| before.chars().count()) + 1;
        format!("{}:{line}:{column}", source.name)
    }

    pub(super) fn wrong(&self, key: &str, message: String) -> ConfigError {
        ConfigError::Wrong { place: self.place(), key: key.to_owned(), message }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) origin: Origin,
}

/// A table's entry: the key has a place too, for a key that nobody knows.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key_origin: Origin,
    pub(super) value: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    String(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(BTreeMap<String, Entry>),
    /// Text from the environment or the command line: what it means depends on the type that it is read into.
    Untyped(String),
}

impl Node {
    pub(super) fn table_of_one(key: &str, value: Node, origin: Origin) -> Self {
        let entry = Entry { key_origin: origin.clone(), value };
        Self { kind: Kind::Table(BTreeMap::from([(key.to_owned(), entry)])), origin }
    }

    /// Lays `over` over this: tables merge, everything else is replaced.
    pub(super) fn merge(&mut self, over: Node) {
        match (&mut self.kind, over.kind) {
            (Kind::Table(ours), Kind::Table(theirs)) => {
                for (key, entry) in theirs {
                    match ours.get_mut(&key) {
                        Some(present) => present.value.merge(entry.value),
                        None => {
                            ours.insert(key, entry);
                        }
                    }
                }
            }
            (_, kind) => *self = Node { kind, origin: over.origin },
        }
    }
}

/// Parses a whole TOML document.
pub(super) fn parse(name: &str, text: &str) -> Result<Node, ConfigError> {
    let mut line_starts = vec![0];
    line_starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
    let source = Source { name: name.to_owned(), line_starts, text: text.to_owned() };
    let start = Origin { source: Arc::new(source), offset: 0 };
    let table = DeTable::parse(text).map_err(|error| not_toml(&start, &error))?;
    table_node(table.get_ref(), &start, start.clone())
}

/// Reads text from the environment or the command line as a TOML value, for types that are no plain scalar.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Result<Node, ConfigError> {
    let value = DeValue::parse(text).map_err(|error| not_toml(origin, &error))?;
    value_node(value.get_ref(), origin, origin.clone())
}

fn not_toml(start: &Origin, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    start.at(offset).wrong("", format!("this is not TOML: {}", error.message()))
}

fn value_node(value: &DeValue<'_>, start: &Origin, origin: Origin) -> Result<Node, ConfigError> {
    let kind = match value {
        DeValue::String(text) => Kind::String(text.clone().into_owned()),
        DeValue::Integer(digits) => match i128::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Kind::Integer(number),
            Err(_) => {
                return Err(origin.wrong("", format!("{digits} is not a number that fits into 64 bits")));
            }
        },
        DeValue::Float(digits) => match digits.as_str().parse() {
            Ok(number) => Kind::Float(number),
            Err(_) => return Err(origin.wrong("", format!("{digits} is not a number"))),
        },
        DeValue::Boolean(value) => Kind::Boolean(*value),
        // Times are read from strings by the types that need them; TOML's own form gives the same text.
        DeValue::Datetime(time) => Kind::String(time.to_string()),
        DeValue::Array(items) => {
            let items =
                items.iter().map(|item| value_node(item.get_ref(), start, start.at(item.span().start)));
            Kind::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return table_node(table, start, origin),
    };
    Ok(Node { kind, origin })
}

fn table_node(table: &DeTable<'_>, start: &Origin, origin: Origin) -> Result<Node, ConfigError> {
    let mut entries = BTreeMap::new();
    for (key, value) in table {
        let key_origin = start.at(key.span().start);
        // A table's own span can be that of a header elsewhere; its key is what people look for.
        let value_origin = match value.get_ref() {
            DeValue::Table(_) => key_origin.clone(),
            _ => start.at(value.span().start),
        };
        let value = value_node(value.get_ref(), start, value_origin)?;
        entries.insert(key.get_ref().clone().into_owned(), Entry { key_origin, value });
    }
    Ok(Node { kind: Kind::Table(entries), origin })
}
