//! Taking values out of the tree: known keys, wanted types, and a note for whatever is not so.

use super::yaml::{Data, Entry, Node};
use crate::bounds::NAME_CHARS_MAX;
use crate::problem::{Mark, Path, Sink, nearest, one_of};

/// What is wrong with a scalar's text, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub what: String,
    pub cure: String,
}

impl Wrong {
    pub fn new(what: impl Into<String>, cure: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), cure: cure.into() }
    }
}

/// A value and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<T> {
    pub value: T,
    pub mark: Mark,
}

/// A map whose keys have been checked.
pub(crate) struct Keys<'a> {
    pub mark: Mark,
    pub path: &'a Path<'a>,
    entries: &'a [Entry<'a>],
}

impl<'a> Keys<'a> {
    /// The map at a node. Notes keys that are unknown or stand there twice; `None` if it is no map.
    pub fn open(node: &'a Node<'a>, path: &'a Path<'a>, known: &[&str], sink: &mut Sink) -> Option<Keys<'a>> {
        let Data::Map(entries) = &node.data else {
            let cure = format!("write a map with the keys {}", known.join(", "));
            sink.error(node.mark, path, format!("{} where a map belongs", node.kind()), cure);
            return None;
        };
        // Which of the first 64 known keys stand there: each must be looked for only once, and mostly behind the one before.
        let (mut seen, mut from) = (0u64, 0);
        for (i, entry) in entries.iter().enumerate() {
            let is = |key: &&str| *key == entry.key;
            let ahead = known[from..].iter().position(is).map(|n| n + from);
            let at = ahead.or_else(|| known[..from].iter().position(is));
            if let Some(at) = at {
                from = at + 1;
            }
            if let Some(bit) = at.filter(|at| *at < 64).map(|at| 1u64 << at)
                && seen & bit == 0
            {
                seen |= bit;
                continue;
            }
            if at.is_none() {
                let cure = match nearest(&entry.key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                sink.error(entry.mark, &path.key(&entry.key), "unknown key", cure);
            }
            if let Some(first) = entries[..i].iter().find(|e| e.key == entry.key) {
                let what = format!("the key stands twice, first in line {}", first.mark.line);
                sink.error(entry.mark, &path.key(&entry.key), what, "keep one of them");
            }
        }
        Some(Keys { mark: node.mark, path, entries })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Node<'a>> {
        self.entries.iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// Reads a key if it is there.
    pub fn opt<T>(
        &self,
        key: &str,
        sink: &mut Sink,
        read: impl FnOnce(&Node<'_>, &Path<'_>, &mut Sink) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        read(node, &self.path.key(key), sink)
    }

    /// Reads a key that must be there.
    pub fn need<T>(
        &self,
        key: &str,
        cure: &str,
        sink: &mut Sink,
        read: impl FnOnce(&Node<'_>, &Path<'_>, &mut Sink) -> Option<T>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            sink.error(self.mark, self.path, format!("`{key}` is missing"), cure);
            return None;
        }
        self.opt(key, sink, read)
    }

    /// Notes each of these keys that is there, with the reason why it may not be.
    pub fn forbid(&self, keys: &[&str], what: &str, cure: &str, sink: &mut Sink) {
        for entry in self.entries.iter().filter(|e| keys.contains(&&*e.key)) {
            sink.error(entry.mark, &self.path.key(&entry.key), what, cure);
        }
    }
}

/// The entries of a list.
pub(crate) fn list<'a>(node: &'a Node<'a>, path: &Path<'_>, sink: &mut Sink) -> Option<&'a [Node<'a>]> {
    match &node.data {
        Data::List(nodes) => Some(nodes),
        _ => {
            let what = format!("{} where a list belongs", node.kind());
            sink.error(node.mark, path, what, "write one entry a line, each beginning with `- `");
            None
        }
    }
}

/// Reader of a scalar by a parser of its text.
pub(crate) fn scalar<T>(
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> impl FnOnce(&Node<'_>, &Path<'_>, &mut Sink) -> Option<T> {
    move |node, path, sink| {
        let text = match &node.data {
            Data::Scalar { text, .. } if node.kind() != "nothing" => &**text,
            _ => {
                let what = format!("{} where a single value belongs", node.kind());
                // What the parser says about an empty text tells what a right value looks like.
                let cure = parse("").err().map_or_else(|| "write a value".to_string(), |wrong| wrong.cure);
                sink.error(node.mark, path, what, cure);
                return None;
            }
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                sink.error(node.mark, path, wrong.what, wrong.cure);
                None
            }
        }
    }
}

/// Reader that keeps the place.
pub(crate) fn at<T>(
    read: impl FnOnce(&Node<'_>, &Path<'_>, &mut Sink) -> Option<T>,
) -> impl FnOnce(&Node<'_>, &Path<'_>, &mut Sink) -> Option<At<T>> {
    move |node, path, sink| read(node, path, sink).map(|value| At { value, mark: node.mark })
}

/// Parser of a word out of a few.
pub(crate) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, Wrong> {
    move |text| {
        if let Some((_, value)) = words.iter().find(|(w, _)| *w == text) {
            return Ok(*value);
        }
        let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let cure = match nearest(text, known.iter().copied()) {
            Some(near) if !text.is_empty() => format!("did you mean `{near}`?"),
            _ => format!("write {}", one_of(&known)),
        };
        Err(Wrong::new(format!("`{text}` is not known here"), cure))
    }
}

/// Parser of a name for people.
pub(crate) fn name(text: &str) -> Result<String, Wrong> {
    let chars = text.chars().count();
    let cure = || format!("write 1 to {NAME_CHARS_MAX} characters on one line");
    if text.trim().is_empty() {
        return Err(Wrong::new("an empty name", cure()));
    }
    if chars > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Wrong::new(format!("a name of {chars} characters, or one with line breaks"), cure()));
    }
    Ok(text.to_string())
}
