//! The times in which what was acknowledged lay on one machine only, as whoever ran the servers wrote them down.

use super::csv::{Lines, TextError};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

const HEADER: &str = "server,from_ms,to_ms";

/// A time with one copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OneCopy {
    /// When it began, ms UTC.
    pub from_ms: u64,
    /// When there were several again, ms UTC; `None`: it goes on.
    pub to_ms: Option<u64>,
    /// Which server was alone.
    pub server: String,
}

impl fmt::Display for OneCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.server, instant(self.from_ms))?;
        match self.to_ms {
            Some(to_ms) => write!(f, " to {}", instant(to_ms)),
            None => write!(f, " on"),
        }
    }
}

/// An instant for people, in UTC.
fn instant(ms: u64) -> String {
    let known = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    known.map_or_else(|| format!("{ms} ms"), |instant| instant.to_string())
}

/// Reads times with one copy: CSV with the header `server,from_ms,to_ms`; `to_ms` is empty while it goes on.
///
/// # Errors
/// With the line that is wrong.
pub fn read_copies(path: &Path) -> Result<Vec<OneCopy>, TextError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| TextError {
        file: name.clone(),
        line: 0,
        what: format!("can't be opened: {e}"),
    })?;
    let mut lines = Lines::new(BufReader::new(file), &name);
    lines.header(HEADER)?;
    let mut copies = Vec::new();
    while let Some(line) = lines.next_line()? {
        let [server, from_ms, to_ms] = lines.fields(&line)?;
        let from_ms = lines.parse("from_ms", &from_ms)?;
        let to_ms = if to_ms.is_empty() { None } else { Some(lines.parse("to_ms", &to_ms)?) };
        if to_ms.is_some_and(|to_ms| to_ms < from_ms) {
            return Err(lines.error("`to_ms` is before `from_ms`"));
        }
        copies.push(OneCopy { from_ms, to_ms, server });
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::read_copies;

    #[test]
    fn times_are_read_and_shown_in_utc() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copies.csv");
        std::fs::write(
            &path,
            "server,from_ms,to_ms\npg-1,1767196800000,1767196860500\n\"pg, 2\",1767196800000,\n",
        )
        .unwrap();
        let shown: Vec<String> = read_copies(&path).unwrap().iter().map(ToString::to_string).collect();
        let want = [
            "pg-1 from 2025-12-31T16:00:00Z to 2025-12-31T16:01:00.5Z",
            "pg, 2 from 2025-12-31T16:00:00Z on",
        ];
        assert_eq!(shown, want);
        for (wrong, why) in [("a,5,4\n", "before"), ("a,5\n", "2 fields"), ("a,x,\n", "`from_ms` is `x`")] {
            std::fs::write(&path, format!("server,from_ms,to_ms\n{wrong}")).unwrap();
            let error = read_copies(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
