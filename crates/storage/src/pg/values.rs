//! Rows as literals of a statement's text, for messages that carry several statements.
//!
//! The protocol binds values to one statement at a time; a message of several statements has its values in its text.
//! So this is for numbers, and for text that a program of ours made of digits, letters and a few signs; anything else
//! is refused, not escaped.

use std::fmt::Write as _;

use crate::SqlError;

/// Signs that may stand in text beside digits and letters of ASCII.
const SIGNS: &str = " ,.:;@/*+-_=";

/// Rows of literals.
#[derive(Debug, Default)]
pub struct ValueRows {
    text: String,
    /// The first character that may not stand there.
    wrong: Option<char>,
    first: bool,
}

impl ValueRows {
    /// No rows.
    pub fn new() -> ValueRows {
        ValueRows::default()
    }

    /// Adds a row; `fill` gives its values in the order of the columns.
    pub fn row(&mut self, fill: impl FnOnce(&mut ValueRow<'_>)) {
        self.text.push_str(if self.text.is_empty() { "(" } else { ",(" });
        self.first = true;
        fill(&mut ValueRow(self));
        self.text.push(')');
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// `(1,2),(3,4)`, for IN and VALUES.
    ///
    /// # Errors
    /// When a text had a character that may not stand there.
    pub fn list(self) -> Result<String, SqlError> {
        match self.wrong {
            None => Ok(self.text),
            Some(wrong) => Err(SqlError::Other(sqlx::Error::Encode(
                format!("the character {wrong:?} may not stand in a statement's text").into(),
            ))),
        }
    }

    /// The statement that adds these rows. One that is there already is a violated constraint.
    ///
    /// # Errors
    /// As [`ValueRows::list`].
    pub fn insert(self, table: &str, columns: &str) -> Result<String, SqlError> {
        Ok(format!("INSERT INTO {table} ({columns}) VALUES {}", self.list()?))
    }

    /// The statement that overwrites the rows with these keys.
    ///
    /// # Errors
    /// As [`ValueRows::list`].
    pub fn replace(self, table: &str, columns: &str, key: &str) -> Result<String, SqlError> {
        let keys: Vec<&str> = key.split(',').map(str::trim).collect();
        let names = columns.split(',').map(str::trim).filter(|name| !keys.contains(name));
        let sets: Vec<String> = names.map(|name| format!("{name} = excluded.{name}")).collect();
        let sets = sets.join(", ");
        Ok(format!("{} ON CONFLICT ({key}) DO UPDATE SET {sets}", self.insert(table, columns)?))
    }
}

/// A row that is being filled.
#[derive(Debug)]
pub struct ValueRow<'a>(&'a mut ValueRows);

impl ValueRow<'_> {
    /// A number.
    pub fn int(&mut self, value: i64) -> &mut Self {
        self.comma();
        // Writing into a string does not fail. The least number has no literal of its own: its digits do not fit before
        // the sign is looked at.
        let _ = match value {
            i64::MIN => write!(self.0.text, "(-9223372036854775807 - 1)"),
            value => write!(self.0.text, "{value}"),
        };
        self
    }

    /// A number, or nothing.
    pub fn int_or_null(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.int(value),
            None => {
                self.comma();
                self.0.text.push_str("NULL::bigint");
                self
            }
        }
    }

    /// Text of digits, letters and a few signs.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.comma();
        let wrong = value.chars().find(|c| !c.is_ascii_alphanumeric() && !SIGNS.contains(*c));
        if self.0.wrong.is_none() {
            self.0.wrong = wrong;
        }
        self.0.text.push('\'');
        self.0.text.push_str(value);
        self.0.text.push('\'');
        self
    }

    /// Text of that kind, or nothing.
    pub fn text_or_null(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => {
                self.comma();
                self.0.text.push_str("NULL::text");
                self
            }
        }
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.0.first) {
            self.0.text.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_statements() {
        let rows = || {
            let mut rows = ValueRows::new();
            rows.row(|row| {
                row.int(1).int_or_null(None).text("0-9@5/1*1,a:b");
            });
            rows.row(|row| {
                row.int(i64::MIN).int_or_null(Some(-1)).text_or_null(None);
            });
            rows
        };
        let list = "(1,NULL::bigint,'0-9@5/1*1,a:b'),((-9223372036854775807 - 1),-1,NULL::text)";
        assert_eq!(rows().list().unwrap(), list);
        let text = rows().replace("t", "a, b, c", "a").unwrap();
        assert_eq!(
            text,
            format!(
                "INSERT INTO t (a, b, c) VALUES {list} ON CONFLICT (a) DO UPDATE SET b = excluded.b, c = excluded.c"
            )
        );
    }

    #[test]
    fn what_could_end_a_literal_is_refused() {
        for text in ["it's", "a\\", "x\0", "é", "a\"b", "$1"] {
            let mut rows = ValueRows::new();
            rows.row(|row| {
                row.text(text);
            });
            assert!(rows.insert("t", "a").is_err(), "{text}");
        }
    }
}
