//! Rows as arrays in a statement's text, one array a column, for messages that carry several statements.
//!
//! As [`ValueRows`](super::ValueRows), and cheaper for hundreds of rows: the server reads one literal a column instead
//! of parsing an expression a value, and the plan does not grow with the rows. Bytes go as hexadecimal digits; nothing
//! that a caller hands in is written as it is, so nothing has to be refused or escaped.

use std::fmt::Write as _;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArrayKind {
    /// Numbers.
    Int,
    /// Yes or no.
    Flag,
    /// Bytes. They come as text: `decode(column, 'hex')` in the statement.
    Bytes,
}

/// Rows in columns.
#[derive(Debug)]
pub struct ArrayRows {
    columns: Vec<(ArrayKind, String)>,
    rows: usize,
}

impl ArrayRows {
    /// No rows, with such columns.
    pub fn new(kinds: &[ArrayKind]) -> ArrayRows {
        ArrayRows { columns: kinds.iter().map(|kind| (*kind, String::new())).collect(), rows: 0 }
    }

    /// Adds a row; `fill` gives its values in the order of the columns, one for each.
    ///
    /// # Panics
    /// When a value has no column, or a column of another kind, or none is given for one: a mistake of the program.
    pub fn row(&mut self, fill: impl FnOnce(&mut ArrayRow<'_>)) {
        let mut row = ArrayRow { of: self, at: 0 };
        fill(&mut row);
        let given = row.at;
        assert_eq!(given, self.columns.len(), "a row has a value for each column");
        self.rows += 1;
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows as a source of FROM: `unnest(...) AS alias(names)`.
    pub fn source(&self, alias: &str, names: &str) -> String {
        let mut text = String::from("unnest(");
        for (number, (kind, column)) in self.columns.iter().enumerate() {
            let kind = match kind {
                ArrayKind::Int => "bigint",
                ArrayKind::Flag => "boolean",
                ArrayKind::Bytes => "text",
            };
            let comma = if number == 0 { "" } else { "," };
            // Writing into a string does not fail.
            let _ = write!(text, "{comma}'{{{column}}}'::{kind}[]");
        }
        let _ = write!(text, ") AS {alias}({names})");
        text
    }
}

/// A row that is being filled.
#[derive(Debug)]
pub struct ArrayRow<'a> {
    of: &'a mut ArrayRows,
    at: usize,
}

impl ArrayRow<'_> {
    /// A number.
    pub fn int(&mut self, value: i64) -> &mut Self {
        let _ = write!(self.next(ArrayKind::Int), "{value}");
        self
    }

    /// An unsigned number, as the signed one with the same bits.
    pub fn bits(&mut self, value: u64) -> &mut Self {
        self.int(value.cast_signed())
    }

    /// Yes or no.
    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.next(ArrayKind::Flag).push(if value { 't' } else { 'f' });
        self
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let text = self.next(ArrayKind::Bytes);
        // Without quotes nothing at all would be no element.
        text.push('"');
        text.reserve(2 * value.len() + 1);
        for byte in value {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text.push('"');
        self
    }

    fn next(&mut self, kind: ArrayKind) -> &mut String {
        let first = self.of.rows == 0;
        let column = self.of.columns.get_mut(self.at);
        let (is, text) = match column {
            Some(column) => (column.0, &mut column.1),
            None => panic!("a row has {} columns and no more", self.at),
        };
        assert_eq!(is, kind, "column {} of a row", self.at);
        self.at += 1;
        if !first {
            text.push(',');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let mut rows = ArrayRows::new(&[ArrayKind::Int, ArrayKind::Bytes, ArrayKind::Flag]);
        rows.row(|row| {
            row.int(i64::MIN).bytes(b"").flag(true);
        });
        rows.row(|row| {
            row.bits(u64::MAX).bytes(b"'\\\"\0\xff").flag(false);
        });
        assert_eq!(
            rows.source("r", "a,b,c"),
            "unnest('{-9223372036854775808,-1}'::bigint[],'{\"\",\"275c2200ff\"}'::text[],'{t,f}'::boolean[]) AS r(a,b,c)"
        );
        assert_eq!((rows.len(), rows.is_empty()), (2, false));
    }

    #[test]
    #[should_panic(expected = "a value for each column")]
    fn a_row_that_is_too_short_is_a_mistake() {
        ArrayRows::new(&[ArrayKind::Int, ArrayKind::Int]).row(|row| {
            row.int(1);
        });
    }
}
