//! Reading a row's columns, whichever engine it comes from.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::SqlError;

/// A row whose columns are numbers and text, so that one reader does for every engine.
pub trait StoredRow {
    /// A number.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else.
    fn number(&self, column: &'static str) -> Result<i64, SqlError>;

    /// A number, or nothing.
    ///
    /// # Errors
    /// As [`StoredRow::number`].
    fn number_or_null(&self, column: &'static str) -> Result<Option<i64>, SqlError>;

    /// Text.
    ///
    /// # Errors
    /// As [`StoredRow::number`].
    fn text(&self, column: &'static str) -> Result<&str, SqlError>;

    /// A number of a smaller type.
    ///
    /// # Errors
    /// When it does not fit: no program of ours wrote it.
    fn int<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, SqlError> {
        let value = self.number(column)?;
        T::try_from(value).map_err(|_| impossible(column, &value.to_string()))
    }

    /// A number of a smaller type, or nothing.
    ///
    /// # Errors
    /// As [`StoredRow::int`].
    fn int_or_null<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, SqlError> {
        let value = self.number_or_null(column)?;
        value.map(|value| T::try_from(value).map_err(|_| impossible(column, &value.to_string()))).transpose()
    }

    /// An unsigned number, stored as the signed one with the same bits.
    ///
    /// # Errors
    /// As [`StoredRow::number`].
    fn bits(&self, column: &'static str) -> Result<u64, SqlError> {
        Ok(self.number(column)?.cast_unsigned())
    }

    /// Text in a form of ours.
    ///
    /// # Errors
    /// When `read` does not understand it.
    fn parsed<T>(&self, column: &'static str, read: fn(&str) -> Option<T>) -> Result<T, SqlError> {
        let value = self.text(column)?;
        read(value).ok_or_else(|| impossible(column, value))
    }
}

/// A stored value that no program of ours can have written.
pub fn impossible(column: &str, value: &str) -> SqlError {
    let shown: String = value.chars().take(100).collect();
    SqlError::Other(sqlx::Error::Decode(
        format!("column {column} holds {shown:?}, which is impossible there").into(),
    ))
}

macro_rules! stored_row {
    ($row:ty) => {
        impl StoredRow for $row {
            fn number(&self, column: &'static str) -> Result<i64, SqlError> {
                Ok(self.try_get(column)?)
            }

            fn number_or_null(&self, column: &'static str) -> Result<Option<i64>, SqlError> {
                Ok(self.try_get(column)?)
            }

            fn text(&self, column: &'static str) -> Result<&str, SqlError> {
                Ok(self.try_get(column)?)
            }
        }
    };
}

stored_row!(SqliteRow);
stored_row!(PgRow);
