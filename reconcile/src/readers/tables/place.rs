//! Where tables stand.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use storage::sqlx::postgres::PgConnectOptions;

/// Where tables stand. Shown (also by `Debug`) without a password.
#[derive(Clone, PartialEq, Eq)]
pub enum TableSource {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, or what speaks its protocol: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    Postgres(String),
}

impl fmt::Display for TableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableSource::Sqlite(path) => write!(f, "{}", path.display()),
            TableSource::Postgres(url) => match PgConnectOptions::from_str(url) {
                Ok(options) => {
                    let database = options.get_database().unwrap_or(options.get_username());
                    let (user, host, port) =
                        (options.get_username(), options.get_host(), options.get_port());
                    write!(f, "PostgreSQL {user}@{host}:{port}/{database}")
                }
                Err(_) => write!(f, "PostgreSQL at a URL that can't be read"),
            },
        }
    }
}

impl fmt::Debug for TableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableSource({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::TableSource;

    #[test]
    fn a_source_is_shown_without_its_password() {
        let source = TableSource::Postgres("postgres://ann:s3cret@db.example:5433/books".into());
        assert_eq!(source.to_string(), "PostgreSQL ann@db.example:5433/books");
        assert_eq!(format!("{source:?}"), "TableSource(PostgreSQL ann@db.example:5433/books)");
        let broken = TableSource::Postgres("postgres://ann:s3cret@[/books".into());
        assert!(!format!("{broken} {broken:?}").contains("s3cret"));
        assert_eq!(TableSource::Sqlite("a/b.db".into()).to_string(), "a/b.db");
    }
}
