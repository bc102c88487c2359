//! YAML text to a small tree in which every node knows its place.
//!
//! Campaign files are plain data: anchors, aliases, tags and several documents are refused, so that what an
//! operator reads is what runs and no file can unfold into something larger than itself. A syntax error ends the
//! reading, for behind it nothing can be trusted.

use super::plain;
use crate::bounds::{DEPTH_MAX, FILE_BYTES_MAX, MAP_KEYS_MAX};
use crate::problem::{Mark, Path, Sink};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::borrow::Cow;

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub mark: Mark,
    pub data: Data<'a>,
}

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    /// Text as written; `plain` if it stands without quotes.
    Scalar { text: Cow<'a, str>, plain: bool },
    /// Entries in order.
    List(Vec<Node<'a>>),
    /// Keys in order, as written: a key may stand there twice.
    Map(Vec<Entry<'a>>),
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub key: Cow<'a, str>,
    pub mark: Mark,
    pub value: Node<'a>,
}

impl Node<'_> {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::Scalar { text, plain: true } if text.is_empty() || text == "~" || text == "null" => {
                "nothing"
            }
            Data::Scalar { .. } => "a single value",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }
}

/// The tree of a document; `None` when the text is not YAML, or uses what is refused.
pub(crate) fn parse<'a>(source: &'a [u8], sink: &mut Sink) -> Option<Node<'a>> {
    let first = Mark { line: 1, column: 1 };
    if source.len() > FILE_BYTES_MAX {
        let what = format!("the file has {} bytes", source.len());
        let cure = format!(
            "at most {FILE_BYTES_MAX} are read: share prizes among rounds with prize_sets, rounds with repeat"
        );
        sink.error(first, &Path::ROOT, what, cure);
        return None;
    }
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(e) => {
            let good = String::from_utf8_lossy(&source[..e.valid_up_to()]);
            let line = good.matches('\n').count() as u32 + 1;
            let column = good.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
            sink.error(
                Mark { line, column },
                &Path::ROOT,
                "a byte that is not UTF-8",
                "save the file as UTF-8",
            );
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    plain::parse(text).or_else(|| parse_any(text, sink))
}

/// The tree of any YAML that may be in a campaign file.
pub(super) fn parse_any<'a>(text: &'a str, sink: &mut Sink) -> Option<Node<'a>> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder { sink, open: Vec::new(), root: None, documents: 0 };
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(e) => {
                let what = format!("not valid YAML: {}", e.info());
                let cure = "check indentation, colons and quotes here and in the line before";
                builder.sink.error(place(e.marker()), &Path::ROOT, what, cure);
                return None;
            }
        };
        if builder.take(event, span).is_err() {
            return None;
        }
    }
    let root = builder.root;
    if root.is_none() {
        let first = Mark { line: 1, column: 1 };
        sink.error(first, &Path::ROOT, "the file is empty", "a campaign file begins with `campaign: 1`");
    }
    root
}

fn place(marker: &saphyr_parser::Marker) -> Mark {
    Mark { line: (marker.line() as u32).max(1), column: marker.col() as u32 + 1 }
}

/// A list or map that is still being read.
enum Open<'a> {
    List { mark: Mark, nodes: Vec<Node<'a>> },
    Map { mark: Mark, entries: Vec<Entry<'a>>, key: Option<(Cow<'a, str>, Mark)> },
}

struct Builder<'s, 'a> {
    sink: &'s mut Sink,
    open: Vec<Open<'a>>,
    root: Option<Node<'a>>,
    documents: usize,
}

/// The text can't be read on; the reason is in the sink.
struct Stop;

impl<'a> Builder<'_, 'a> {
    fn take(&mut self, event: Event<'a>, span: Span) -> Result<(), Stop> {
        let mark = place(&span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.refuse(mark, "a second document", "write one campaign a file");
                }
                Ok(())
            }
            Event::Alias(_) => self.refuse(mark, "an alias (`*name`)", "share prizes by prize_sets"),
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_data(mark, anchor, tag.is_some())?;
                let plain = style == ScalarStyle::Plain;
                self.put(Node { mark, data: Data::Scalar { text, plain } })
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_data(mark, anchor, tag.is_some())?;
                self.begin(mark, Open::List { mark, nodes: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_data(mark, anchor, tag.is_some())?;
                self.begin(mark, Open::Map { mark, entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { mark, nodes }) => self.put(Node { mark, data: Data::List(nodes) }),
                Some(Open::Map { mark, entries, .. }) => self.put(Node { mark, data: Data::Map(entries) }),
                None => Ok(()),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn plain_data(&mut self, mark: Mark, anchor: usize, tagged: bool) -> Result<(), Stop> {
        if anchor != 0 {
            return self.refuse(mark, "an anchor (`&name`)", "share prizes by prize_sets");
        }
        if tagged {
            return self.refuse(mark, "a tag (`!name`)", "leave it out: values have the type of their key");
        }
        Ok(())
    }

    fn refuse(&mut self, mark: Mark, what: &str, cure: &str) -> Result<(), Stop> {
        self.sink.error(mark, &Path::ROOT, format!("{what} is not part of a campaign file"), cure);
        Err(Stop)
    }

    fn begin(&mut self, mark: Mark, open: Open<'a>) -> Result<(), Stop> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return self.refuse(mark, "a list or map as a key", "write `key: value` with a word as key");
        }
        if self.open.len() >= DEPTH_MAX {
            return self.refuse(mark, "nesting this deep", "check the indentation");
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, node: Node<'a>) -> Result<(), Stop> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { nodes, .. }) => nodes.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => {
                    if entries.len() >= MAP_KEYS_MAX {
                        return self.refuse(node.mark, "a map of this many keys", "check the indentation");
                    }
                    if let Data::Scalar { text, .. } = node.data {
                        *key = Some((text, node.mark));
                    }
                }
                Some((name, mark)) => entries.push(Entry { key: name, mark, value: node }),
            },
        }
        Ok(())
    }
}
