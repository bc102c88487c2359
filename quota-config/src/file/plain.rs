//! The plain part of YAML that campaign files are written in, read at the speed of a glance.
//!
//! A general parser of YAML spends most of the time of compiling a large file. Nearly all of such a file is blocks of
//! `key: value` and `- `, one-line `{...}` and `[...]`, and comments. This reader takes those, with the same tree and the
//! same marks as the general one, and gives up ([`None`]) on the first thing beyond: then the general parser reads the
//! file from its beginning, and says what is wrong if something is. So this one never reports and never guesses; a
//! property test holds the two against each other.

use super::yaml::{Data, Entry, Node};
use crate::bounds::{DEPTH_MAX, MAP_KEYS_MAX};
use crate::problem::Mark;
use std::borrow::Cow;

/// The tree of a plain file; `None`: it has something that is not plain.
pub(super) fn parse(text: &str) -> Option<Node<'_>> {
    // A part at a time, and all of it: so the machine looks at many bytes at once.
    let is_odd =
        |part: &[u8]| part.iter().fold(false, |odd, b| odd | ((*b < b' ') & (*b != b'\n')) | (*b == 0x7f));
    if text.as_bytes().chunks(4_096).any(is_odd) || odd_letters(text) {
        return None;
    }
    let mut reader =
        Reader { text, bytes: text.as_bytes(), at: 0, line: 0, begin: 0, next: 0, indent: None, depth: 0 };
    reader.advance()?;
    let indent = reader.indent?;
    let root = reader.map(indent)?;
    reader.indent.is_none().then_some(root)
}

/// Letters that are line breaks, byte order marks or control characters to YAML.
fn odd_letters(text: &str) -> bool {
    !text.is_ascii()
        && text.chars().any(|c| {
            matches!(
                c,
                '\u{80}'
                    ..='\u{9f}' | '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
            )
        })
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// The next byte to be read, within the present line.
    at: usize,
    /// The present line, from 1; its first byte; the first byte behind it.
    line: u32,
    begin: usize,
    next: usize,
    /// Spaces before the present line's contents; `None` at the end of the file.
    indent: Option<usize>,
    depth: usize,
}

/// Letters, digits, `_` and `-`: what keys are made of.
fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// What a plain scalar may begin with without being something else.
fn begins_plain(first: u8, second: u8) -> bool {
    let signed = matches!(first, b'+' | b'-' | b'.') && second.is_ascii_digit();
    first.is_ascii_alphanumeric() || first >= 0x80 || matches!(first, b'_' | b'(' | b'/') || signed
}

impl<'a> Reader<'a> {
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(b'\n')
    }

    /// Goes to the contents of the next line that has any.
    fn advance(&mut self) -> Option<()> {
        loop {
            if self.next >= self.bytes.len() {
                self.indent = None;
                return Some(());
            }
            self.begin = self.next;
            self.line += 1;
            let rest = &self.bytes[self.begin..];
            let length = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            self.next = self.begin + length + 1;
            let indent = rest[..length].iter().take_while(|b| **b == b' ').count();
            self.at = self.begin + indent;
            match self.byte(self.at) {
                b'\n' | b'#' => {}
                // Directives and the marks of documents.
                b'%' | b'.' if indent == 0 => return None,
                b'-' if indent == 0 && self.byte(self.at + 1) == b'-' => return None,
                _ => {
                    self.indent = Some(indent);
                    return Some(());
                }
            }
        }
    }

    fn mark(&self, at: usize) -> Mark {
        let before = &self.bytes[self.begin..at];
        // Columns are counted in letters: bytes that go on with one are none.
        let letters = before.iter().filter(|b| (**b & 0xc0) != 0x80).count();
        Mark { line: self.line, column: letters as u32 + 1 }
    }

    fn skip_spaces(&mut self) {
        while self.byte(self.at) == b' ' {
            self.at += 1;
        }
    }

    /// Whether nothing but a comment is left of the line. A comment has a space before it.
    fn line_is_done(&self) -> bool {
        match self.byte(self.at) {
            b'\n' => true,
            b'#' => self.at > self.begin && self.byte(self.at - 1) == b' ',
            _ => false,
        }
    }

    fn deeper(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }

    fn is_dash(&self) -> bool {
        self.byte(self.at) == b'-' && matches!(self.byte(self.at + 1), b' ' | b'\n')
    }

    /// The end of a key that stands here, if one does: its colon.
    fn key_end(&self) -> Option<usize> {
        let mut end = self.at;
        while is_word(self.byte(end)) {
            end += 1;
        }
        let is_key = end > self.at && self.byte(self.at) != b'-' && self.byte(end) == b':';
        (is_key && matches!(self.byte(end + 1), b' ' | b'\n')).then_some(end)
    }

    /// A map whose first key stands here; its keys stand in column `indent`.
    fn map(&mut self, indent: usize) -> Option<Node<'a>> {
        self.deeper()?;
        let mark = self.mark(self.at);
        let mut entries = Vec::with_capacity(12);
        loop {
            let end = self.key_end()?;
            let (key, mark) = (Cow::Borrowed(&self.text[self.at..end]), self.mark(self.at));
            self.at = end + 1;
            self.skip_spaces();
            let value = if self.line_is_done() {
                self.advance()?;
                match self.indent? {
                    below if below > indent => {
                        if self.is_dash() {
                            self.list(below, indent)?
                        } else {
                            self.map(below)?
                        }
                    }
                    same if same == indent && self.is_dash() => self.list(indent, indent)?,
                    _ => return None,
                }
            } else {
                self.inline()?
            };
            entries.push(Entry { key, mark, value });
            if entries.len() > MAP_KEYS_MAX {
                return None;
            }
            match self.indent {
                Some(next) if next > indent => return None,
                Some(next) if next == indent => {}
                _ => break,
            }
        }
        self.depth -= 1;
        Some(Node { mark, data: Data::Map(entries) })
    }

    /// A list whose first dash stands here, in column `indent`; its key stands in column `of`.
    fn list(&mut self, indent: usize, of: usize) -> Option<Node<'a>> {
        self.deeper()?;
        let mut mark = self.mark(self.at);
        let mut nodes = Vec::new();
        loop {
            self.at += 1;
            self.skip_spaces();
            if self.line_is_done() || self.is_dash() {
                return None;
            }
            if nodes.is_empty() && indent == of {
                // So the general parser says: a list that is not indented begins with its first entry.
                mark = self.mark(self.at);
            }
            if self.key_end().is_some() {
                let column = self.at - self.begin;
                nodes.push(self.map(column)?);
            } else {
                nodes.push(self.inline()?);
            }
            match self.indent {
                Some(next) if next > indent => return None,
                Some(next) if next == indent && self.is_dash() => {}
                _ => break,
            }
        }
        self.depth -= 1;
        Some(Node { mark, data: Data::List(nodes) })
    }

    /// A value that begins and ends in this line; the next line is looked at behind it. Whoever asked refuses one that is
    /// indented more than the value's key or dash: the value would go on there.
    fn inline(&mut self) -> Option<Node<'a>> {
        let node = match self.byte(self.at) {
            b'{' | b'[' => self.flow()?,
            b'"' | b'\'' => self.quoted()?,
            _ => self.plain(false)?,
        };
        self.skip_spaces();
        if !self.line_is_done() {
            return None;
        }
        self.advance()?;
        Some(node)
    }

    fn quoted(&mut self) -> Option<Node<'a>> {
        let (mark, quote) = (self.mark(self.at), self.byte(self.at));
        let begin = self.at + 1;
        let mut end = begin;
        loop {
            match self.byte(end) {
                b'\n' | b'\\' => return None,
                b if b == quote => break,
                _ => end += 1,
            }
        }
        // Two quotes are one within the text.
        if self.byte(end + 1) == quote {
            return None;
        }
        self.at = end + 1;
        Some(Node { mark, data: Data::Scalar { text: Cow::Borrowed(&self.text[begin..end]), plain: false } })
    }

    fn plain(&mut self, in_flow: bool) -> Option<Node<'a>> {
        if !begins_plain(self.byte(self.at), self.byte(self.at + 1)) {
            return None;
        }
        let (begin, mut end) = (self.at, self.at);
        loop {
            match self.byte(end) {
                b'\n' => break,
                b'#' if self.byte(end - 1) == b' ' => break,
                b':' if matches!(self.byte(end + 1), b' ' | b'\n' | b',' | b'}' | b']' | b'{' | b'[') => {
                    return None;
                }
                b',' | b'}' | b']' if in_flow => break,
                b'{' | b'[' | b'?' if in_flow => return None,
                _ => end += 1,
            }
        }
        let text = self.text[begin..end].trim_end_matches(' ');
        let mark = self.mark(begin);
        self.at = begin + text.len();
        Some(Node { mark, data: Data::Scalar { text: Cow::Borrowed(text), plain: true } })
    }

    /// `{...}` or `[...]` within one line.
    fn flow(&mut self) -> Option<Node<'a>> {
        self.deeper()?;
        let mark = self.mark(self.at);
        let is_map = self.byte(self.at) == b'{';
        let close = if is_map { b'}' } else { b']' };
        let (mut entries, mut nodes) = (Vec::new(), Vec::new());
        loop {
            self.at += 1;
            self.skip_spaces();
            if is_map {
                let end = self.key_end().filter(|end| self.byte(end + 1) == b' ')?;
                let (key, mark) = (Cow::Borrowed(&self.text[self.at..end]), self.mark(self.at));
                self.at = end + 1;
                self.skip_spaces();
                let value = self.in_flow()?;
                entries.push(Entry { key, mark, value });
            } else {
                nodes.push(self.in_flow()?);
            }
            self.skip_spaces();
            match self.byte(self.at) {
                b',' if entries.len() < MAP_KEYS_MAX => {}
                b if b == close => break,
                _ => return None,
            }
        }
        self.at += 1;
        self.depth -= 1;
        let data = if is_map { Data::Map(entries) } else { Data::List(nodes) };
        Some(Node { mark, data })
    }

    fn in_flow(&mut self) -> Option<Node<'a>> {
        match self.byte(self.at) {
            b'{' | b'[' => self.flow(),
            b'"' | b'\'' => self.quoted(),
            _ => self.plain(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::parse;
    use crate::problem::Sink;
    use proptest::prelude::*;

    /// What is read plainly is what the general parser reads.
    fn same(text: &str) -> bool {
        let Some(plain) = parse(text) else { return false };
        let mut sink = Sink::default();
        let general = yaml::parse_any(text, &mut sink);
        assert!(!sink.failed(), "{:?}\n{text}", sink.finish());
        assert_eq!(format!("{plain:?}"), format!("{:?}", general.unwrap()), "\n{text}");
        true
    }

    #[test]
    fn the_campaigns_of_the_repository_are_plain() {
        for file in ["bench", "lanterns", "new-years-eve", "tour"] {
            let path = testkit::package().join(format!("campaigns/{file}.yaml"));
            assert!(same(&std::fs::read_to_string(path).unwrap()), "{file}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_parser() {
        for text in [
            "a: &x 1",
            "a: *x",
            "a: !t 1",
            "a: |\n  b",
            "a: >\n  b",
            "a:",
            "a:\nb: 1",
            "a: ~",
            "a: b\n  c",
            "a: b: c",
            "a: b:",
            "a: \"b\\n\"",
            "a: 'b''c'",
            "a: \"b\n c\"",
            "- 1",
            "{a: 1}",
            "a:\t1",
            "a: 1\r\n",
            "---\na: 1",
            "a: 1\n...",
            "%YAML\na: 1",
            "a: {b: 1,\n c: 2}",
            "a: {b: 1, }",
            "a: {}",
            "a: []",
            "a: [b: 1]",
            "a: {b:1}",
            "a: {b}",
            "? a\n: 1",
            "a: - b",
            "- - 1",
            "a:\n  - 1\n b: 2",
            "a:\n    b: 1\n  c: 2",
            "\"a\": 1",
            "a: \u{feff}b",
            "a b: 1",
            "a: @b",
            "a: `b",
            "a: %b",
            "",
            "a: 1 #b\n#c\n  d",
            "a:\n- 1\n-",
            "a: {b: c: d}",
            "a: {b: c #d}",
            "a: 1}\n b",
            "a: ]",
            "a: ,b",
        ] {
            assert!(parse(text).is_none() || same(text), "{text}");
        }
        for text in [
            "a: 1",
            "a: 1 # b",
            "a: b#c",
            "a:\n  b: 1\n\n  # x\n  c: 2\nd: e f",
            "a:\n- 1\n- 2\nb: 3",
            "a:\n  - b: 1\n    c: 2\n  - d",
            "a: {b: 1, c: [x, y z, {d: e}]} # f",
            "a: \"b: c\"\nd: 'e # f'",
            "红: 1\nname: 红包 雨 # 红\nb: {c: 红, d: 2}",
            "  a: 1\n  b: 2",
            "a: +20s\nb: -5\nc: .5\nd: 20:00:01\ne: 2026-02-16T20:00+08:00",
            "a: b, c",
            "a: 1}",
            "a: b'c",
            "a:   x  \nb:  y",
        ] {
            assert!(same(text) || text.starts_with('红'), "{text}");
        }
    }

    fn scalar() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9+.:#'\"{},\\[\\]&*!|>%@`~? -]{0,8}",
            "[a-z]{1,6}( [a-z0-9:#,]{1,4}){0,2}",
            "[0-9]{1,4}(\\.[0-9]{1,2})?",
            "红[a-z包 ]{0,4}",
            "\"[a-z:# {,]{0,6}\"",
            "\\{[a-c]: [a-z0-9]{1,3}(, [d-f]: [a-z0-9 ]{1,4}){0,2}\\}",
            "\\[[a-z0-9]{1,3}(, ?[a-z0-9]{1,3}){0,2}\\]",
        ]
    }

    fn line() -> impl Strategy<Value = String> {
        let end = prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just(" # x"), 1 => Just("#")];
        let begin = prop_oneof![4 => Just(""), 2 => Just("- "), 1 => Just("-"), 1 => Just("# ")];
        let key = prop_oneof![6 => "[a-d]{1,2}: ?", 1 => Just(String::new())];
        (0..4usize, begin, key, scalar(), end).prop_map(|(depth, begin, key, value, end)| {
            format!("{}{begin}{key}{value}{end}", "  ".repeat(depth))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn plain_or_not_the_tree_is_the_same(lines in prop::collection::vec(line(), 1..8)) {
            same(&lines.join("\n"));
        }
    }
}
