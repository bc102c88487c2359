//! Where tables stand.

use std::fmt;
use std::path::PathBuf;

/// Where tables stand. Shown (also by `Debug`) without a password.
#[derive(Clone, PartialEq, Eq)]
pub enum TableSource {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, or what speaks its protocol: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; several
    /// `HOST:PORT` may stand there, with commas between: the one that takes writes is read.
    Postgres(String),
}

impl fmt::Display for TableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableSource::Sqlite(path) => write!(f, "{}", path.display()),
            TableSource::Postgres(url) => match without_password(url) {
                Some(shown) => write!(f, "PostgreSQL {shown}"),
                None => write!(f, "PostgreSQL at an address that can't be read"),
            },
        }
    }
}

impl fmt::Debug for TableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableSource({self})")
    }
}

/// `user@hosts/database` of an address that has these parts in this order, and nothing of any other.
fn without_password(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, hosts) = rest.rsplit_once('@')?;
    let (hosts, database) = hosts.split_once('/').unwrap_or((hosts, ""));
    let (user, _) = user.split_once(':').unwrap_or((user, ""));
    let shown = format!("{user}@{hosts}/{database}");
    shown.chars().all(|c| c.is_ascii_alphanumeric() || "@/.,:-_[]%".contains(c)).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::TableSource;

    #[test]
    fn a_source_is_shown_without_its_password() {
        let shown = |url: &str| TableSource::Postgres(url.into()).to_string();
        assert_eq!(
            shown("postgres://ann:s3cret@db.example:5433/books"),
            "PostgreSQL ann@db.example:5433/books"
        );
        assert_eq!(shown("postgres://ann:s3@cret@a:1,b/books?x=s3cret"), "PostgreSQL ann@a:1,b/books");
        for url in ["postgres://ann:s3cret", "ann:s3cret@h/b", "postgres://ann:s3cret@h 1/b", "s3cret"] {
            let source = TableSource::Postgres(url.into());
            assert_eq!(format!("{source:?}"), "TableSource(PostgreSQL at an address that can't be read)");
        }
        assert_eq!(TableSource::Sqlite("a/b.db".into()).to_string(), "a/b.db");
    }
}
