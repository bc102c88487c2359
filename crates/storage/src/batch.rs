//! A whole batch as one parameter.
//!
//! SQLite spends most of a small statement on being called; a thousand rows in one JSON array, taken apart by
//! `json_each`, are one call. The same statement text serves every batch size, so it is prepared once.
//!
//! ```sql
//! INSERT INTO award (id, user_id, memo)
//! SELECT value->>0, value->>1, value->>2 FROM json_each($1)
//! ```
//!
//! A column of bytes is written as hex and read back with `unhex(value->>3)`. Integers are written as
//! they are: SQLite reads JSON integers of 64 bits exactly. An unsigned 64-bit id is stored as the signed
//! number with the same bits ([`signed`], [`unsigned`]), since JSON numbers above 2^63 would turn into floats.

use std::fmt::Write as _;

/// The number with the same bits that SQL can store.
pub const fn signed(id: u64) -> i64 {
    id.cast_signed()
}

/// The id that [`signed`] made.
pub const fn unsigned(stored: i64) -> u64 {
    stored.cast_unsigned()
}

/// The batch is as large as it may be; send it and begin another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch is full: {rows} rows, {bytes} bytes")]
pub struct BatchFull {
    /// Rows in it.
    pub rows: usize,
    /// Bytes in it.
    pub bytes: usize,
}

/// Rows on their way into one JSON array of arrays.
#[derive(Debug, Clone)]
pub struct Batch {
    json: String,
    rows: usize,
    rows_max: usize,
    bytes_max: usize,
}

impl Batch {
    /// An empty batch that takes at most `rows_max` rows and no further row once it has `bytes_max` bytes.
    pub fn new(rows_max: usize, bytes_max: usize) -> Self {
        Self { json: String::from("["), rows: 0, rows_max, bytes_max }
    }

    /// Adds a row; `fill` writes its columns in order.
    ///
    /// # Errors
    /// When the batch is full; the row is then not in it.
    pub fn row(&mut self, fill: impl FnOnce(&mut BatchRow<'_>)) -> Result<(), BatchFull> {
        if self.rows >= self.rows_max || self.json.len() >= self.bytes_max {
            return Err(BatchFull { rows: self.rows, bytes: self.json.len() });
        }
        self.json.push_str(if self.rows == 0 { "[" } else { ",[" });
        fill(&mut BatchRow { json: &mut self.json, empty: true });
        self.json.push(']');
        self.rows += 1;
        Ok(())
    }

    /// How many rows are in it.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.json.truncate(1);
        self.rows = 0;
    }

    /// The text to bind to the statement's parameter.
    pub fn to_json(&self) -> String {
        let mut text = String::with_capacity(self.json.len() + 1);
        text.push_str(&self.json);
        text.push(']');
        text
    }
}

/// The columns of one row.
#[derive(Debug)]
pub struct BatchRow<'a> {
    json: &'a mut String,
    empty: bool,
}

// Writing into a String can't fail.
impl BatchRow<'_> {
    fn next(&mut self) {
        if !self.empty {
            self.json.push(',');
        }
        self.empty = false;
    }

    /// An integer column.
    pub fn int(&mut self, value: i64) -> &mut Self {
        self.next();
        let _ = write!(self.json, "{value}");
        self
    }

    /// An integer column that may be NULL.
    pub fn int_or_null(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.int(value),
            None => self.null(),
        }
    }

    /// A text column.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.next();
        let _ = write!(self.json, "{}", serde_json::Value::from(value));
        self
    }

    /// A column of bytes, as hex; read it with `unhex(value->>n)`.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.next();
        self.json.push('"');
        for byte in value {
            let _ = write!(self.json, "{byte:02x}");
        }
        self.json.push('"');
        self
    }

    /// NULL.
    pub fn null(&mut self) -> &mut Self {
        self.next();
        self.json.push_str("null");
        self
    }
}
