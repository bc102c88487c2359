//! Statements over many rows, with every value bound.
//!
//! A statement is sent to SQLite's thread once for up to [`ROWS_MAX`] rows, since each sending costs more than
//! several rows do; and its values are bound, since taking a row of many columns out of JSON costs more than storing it.
//! Any number of rows is cut into powers of two, so that a statement has few texts, each prepared once for a connection.

use std::sync::OnceLock;

use sqlx::Sqlite;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};

/// Most rows that go into one execution.
pub const ROWS_MAX: usize = 1 << (SIZES - 1);
const SIZES: usize = 9;
/// Most parameters of a statement that SQLite takes.
const PARAMETERS_MAX: usize = 32_766;

/// A query on its way, to which a row's values are bound in the order of the row's question marks.
pub type RowQuery = sqlx::query::Query<'static, Sqlite, SqliteArguments<'static>>;

/// A statement whose middle is repeated for each row.
///
/// ```
/// use storage::RowStatement;
/// static PUT: RowStatement =
///     RowStatement::new("INSERT INTO unit (number, award) VALUES ", "(?, ?)", " ON CONFLICT DO NOTHING");
/// ```
#[derive(Debug)]
pub struct RowStatement {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: OnceLock<[String; SIZES]>,
}

impl RowStatement {
    /// The statement `head`, `row` for each row with commas between, `tail`. The only question marks in it are those of
    /// `row`, at most 127.
    pub const fn new(head: &'static str, row: &'static str, tail: &'static str) -> RowStatement {
        let (mut at, mut marks) = (0, 0);
        while at < row.len() {
            if row.as_bytes()[at] == b'?' {
                marks += 1;
            }
            at += 1;
        }
        assert!(marks > 0 && marks * ROWS_MAX <= PARAMETERS_MAX, "too few or too many parameters in a row");
        RowStatement { head, row, tail, texts: OnceLock::new() }
    }

    /// The text for `1 << size` rows.
    fn text(&'static self, size: usize) -> &'static str {
        let texts = self.texts.get_or_init(|| {
            std::array::from_fn(|size| {
                let rows = vec![self.row; 1 << size].join(",");
                [self.head, &rows, self.tail].concat()
            })
        });
        &texts[size]
    }

    /// Runs it over all rows; `bind` is given each row with its index. How many rows it changed.
    ///
    /// # Errors
    /// What the database says; the caller's transaction then has a part of the rows.
    pub async fn execute<T>(
        &'static self,
        on: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(RowQuery, usize, &T) -> RowQuery,
    ) -> Result<u64, sqlx::Error> {
        let (mut done, mut changed) = (0, 0);
        while done < rows.len() {
            let (query, count) = self.bound(rows, done, &bind);
            changed += query.execute(&mut *on).await?.rows_affected();
            done += count;
        }
        Ok(changed)
    }

    /// Runs it over all rows as [`RowStatement::execute`] does, and returns what it returns.
    ///
    /// # Errors
    /// As [`RowStatement::execute`].
    pub async fn fetch<T>(
        &'static self,
        on: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(RowQuery, usize, &T) -> RowQuery,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let (mut done, mut found) = (0, Vec::new());
        while done < rows.len() {
            let (query, count) = self.bound(rows, done, &bind);
            found.extend(query.fetch_all(&mut *on).await?);
            done += count;
        }
        Ok(found)
    }

    /// The next execution behind `done` rows, and how many rows it takes.
    fn bound<T>(
        &'static self,
        rows: &[T],
        done: usize,
        bind: impl Fn(RowQuery, usize, &T) -> RowQuery,
    ) -> (RowQuery, usize) {
        // At least one row is left, so its logarithm exists.
        let size = ((rows.len() - done).ilog2() as usize).min(SIZES - 1);
        let mut query = sqlx::query(self.text(size));
        for (index, row) in (done..).zip(&rows[done..done + (1 << size)]) {
            query = bind(query, index, row);
        }
        (query, 1 << size)
    }
}
