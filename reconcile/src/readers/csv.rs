//! Lines of CSV (RFC 4180) with a bound: one line, its fields, its number. Fields never hold a line break here.

use std::io::{self, BufRead, Read as _};

/// Longest line, bytes.
const LINE_MAX: usize = 16 * 1024;

/// A text file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct TextError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0: the file as a whole.
    pub line: u64,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Reads a file line by line.
pub struct Lines<R> {
    input: R,
    file: String,
    line: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`, called `file` in errors.
    pub fn new(input: R, file: &str) -> Lines<R> {
        Lines { input, file: file.to_owned(), line: 0, bytes: Vec::new() }
    }

    /// An error at the line that was read last.
    pub fn error(&self, what: impl Into<String>) -> TextError {
        TextError { file: self.file.clone(), line: self.line, what: what.into() }
    }

    /// The next line without its end; `None` at the end of the file.
    ///
    /// # Errors
    /// When it can't be read, is too long or is not UTF-8.
    pub fn next_line(&mut self) -> Result<Option<String>, TextError> {
        self.bytes.clear();
        self.line += 1;
        let limit = LINE_MAX as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.bytes);
        match read.map_err(|e: io::Error| self.error(format!("can't be read: {e}")))? {
            0 => return Ok(None),
            n if n > LINE_MAX => return Err(self.error(format!("the line is longer than {LINE_MAX} bytes"))),
            _ => {}
        }
        if self.bytes.last() == Some(&b'\n') {
            self.bytes.pop();
            if self.bytes.last() == Some(&b'\r') {
                self.bytes.pop();
            }
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.error("the line is not UTF-8")),
        }
    }

    /// Reads the header line, which must be exactly `header`.
    ///
    /// # Errors
    /// When it is another one.
    pub fn header(&mut self, header: &str) -> Result<(), TextError> {
        match self.next_line()?.as_deref() {
            Some(line) if line.trim_start_matches('\u{feff}') == header => Ok(()),
            Some(line) => Err(self.error(format!("the header is `{line}`; it must be `{header}`"))),
            None => Err(self.error(format!("the file is empty; its first line must be `{header}`"))),
        }
    }

    /// Splits a line into exactly `N` fields.
    ///
    /// # Errors
    /// When there are more or fewer, or a quote is wrong.
    pub fn fields<const N: usize>(&self, line: &str) -> Result<[String; N], TextError> {
        let fields = split(line)
            .ok_or_else(|| self.error("a quoted field does not end, or goes on behind its quote"))?;
        let count = fields.len();
        fields.try_into().map_err(|_| self.error(format!("the line has {count} fields; it must have {N}")))
    }

    /// Reads a field as a value.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse<T: std::str::FromStr>(&self, name: &str, text: &str) -> Result<T, TextError> {
        text.parse().map_err(|_| {
            self.error(format!("`{name}` is `{text}`, which is no {}", std::any::type_name::<T>()))
        })
    }
}

fn split(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            None => match rest.split_once(',') {
                Some((field, behind)) => (field.to_owned(), Some(behind)),
                None => (rest.to_owned(), None),
            },
            Some(quoted) => quoted_field(quoted)?,
        };
        fields.push(field);
        match behind {
            Some(behind) => rest = behind,
            None => return Some(fields),
        }
    }
}

fn quoted_field(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"')?;
        field.push_str(part);
        if let Some(more) = behind.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else if behind.is_empty() {
            return Some((field, None));
        } else {
            return Some((field, Some(behind.strip_prefix(',')?)));
        }
    }
}

/// A field as it stands in a CSV file. A field that a spreadsheet would take for a formula gets a quote mark in front.
pub fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::{Lines, quoted, split};
    use proptest::prelude::*;

    #[test]
    fn broken_quotes_and_long_lines_are_refused() {
        assert_eq!(split("\"a"), None);
        assert_eq!(split("\"a\"b,c"), None);
        let long = "x".repeat(20_000);
        assert!(
            Lines::new(long.as_bytes(), "f").next_line().unwrap_err().to_string().contains("longer than")
        );
        assert_eq!(quoted("=1+1"), "'=1+1");
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_split(fields in prop::collection::vec("[a-z0-9,\" ]{0,8}", 1..6)) {
            let line: Vec<String> = fields.iter().map(|f| quoted(f)).collect();
            prop_assert_eq!(split(&line.join(",")), Some(fields));
        }
    }
}
