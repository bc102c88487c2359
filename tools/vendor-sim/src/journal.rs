//! The file from which a vendor's books come back after a kill: JSON lines, the first naming version and vendor.
//!
//! A line is handed to the operating system before its payout is answered, and not synced: the death of the process loses
//! nothing, that of the machine may. A last line without its end was never answered and is cut off; any other line that
//! can't be read stops the start, with its number.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::payout::{Id, Payout};
use crate::wire::Event;

const VERSION: u32 = 1;
/// Longest line read: several times what the longest payout takes.
const LINE_MAX: u64 = 16 * 1024;

/// One thing to remember.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Journal {
        /// Of the format.
        version: u32,
        /// Whose books.
        vendor: u32,
    },
    /// Taken.
    Payout(Box<Payout>),
    /// Registered.
    Account {
        /// Who.
        payee: String,
    },
    /// A callback was answered with 2xx.
    Told {
        /// Of which payout.
        number: Id,
        /// Of what.
        event: Event,
    },
}

/// Why a journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file can't be opened, read or cut.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is damaged, or not for us. The simulator would forget payouts if it went on.
    #[error("{path}, line {line}: {message}. Restore the file, or move it away to start with empty books")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

/// An open journal, written at its end.
#[derive(Debug)]
pub struct Journal {
    file: File,
    len: u64,
    buffer: Vec<u8>,
    broken: bool,
}

impl Journal {
    /// Opens or creates the file and hands each line to `each`, which may refuse it with a reason.
    pub fn open(
        path: &Path,
        vendor: u32,
        mut each: impl FnMut(Line) -> Result<(), String>,
    ) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let (mut len, mut line, mut buffer) = (0u64, 0u64, Vec::new());
        loop {
            buffer.clear();
            line += 1;
            let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut buffer).map_err(io)?;
            let bad = |message: String| JournalError::Line { path: path.to_owned(), line, message };
            if buffer.last() != Some(&b'\n') {
                if read as u64 == LINE_MAX {
                    return Err(bad("longer than any line of a journal".into()));
                }
                break;
            }
            let one: Line = serde_json::from_slice(&buffer).map_err(|e| bad(e.to_string()))?;
            match one {
                Line::Journal { version: VERSION, vendor: whose } if line == 1 && whose == vendor => {}
                Line::Journal { version, vendor: whose } => {
                    return Err(bad(format!(
                        "version {version} of vendor {whose}; this is version {VERSION} of vendor {vendor}"
                    )));
                }
                _ if line == 1 => return Err(bad("the first line does not name version and vendor".into())),
                one => each(one).map_err(bad)?,
            }
            len += read as u64;
        }
        if !buffer.is_empty() {
            tracing::warn!(path = %path.display(), bytes = buffer.len(), "cut an unfinished last line off the journal");
        }
        file.set_len(len).map_err(io)?;
        (&file).seek(SeekFrom::Start(len)).map_err(io)?;
        let mut journal = Self { file, len, buffer, broken: false };
        if len == 0 {
            journal.write(&Line::Journal { version: VERSION, vendor }).map_err(io)?;
        }
        Ok(journal)
    }

    /// Writes one line; returns when the operating system has it. After a failure that could not be undone, every later
    /// write fails too.
    pub fn write(&mut self, line: &Line) -> std::io::Result<()> {
        if self.broken {
            return Err(std::io::Error::other("an earlier write left a torn line that could not be cut off"));
        }
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, line)?;
        self.buffer.push(b'\n');
        if let Err(error) = self.file.write_all(&self.buffer) {
            let undone = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
            self.broken = undone.is_err();
            return Err(error);
        }
        self.len += self.buffer.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::payout;

    fn lines() -> Vec<Line> {
        vec![
            Line::Payout(Box::new(payout("N1", "A1", 100))),
            Line::Account { payee: "me".into() },
            Line::Told { number: Id::parse("N1").unwrap(), event: Event::Finish },
        ]
    }

    fn written(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, 1, |_| Err("empty".into())).unwrap();
        lines().iter().for_each(|line| journal.write(line).unwrap());
        path
    }

    fn read(path: &Path) -> Result<Vec<Line>, JournalError> {
        let mut all = Vec::new();
        Journal::open(path, 1, |line| {
            all.push(line);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn what_was_written_comes_back_cut_at_any_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(&dir);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let whole_lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            let all = read(&path).unwrap();
            assert_eq!(all, lines()[..whole_lines.saturating_sub(1)], "cut at {cut}");
            // And it can be written on behind the cut.
            assert_eq!(read(&path).unwrap(), all);
        }
    }

    #[test]
    fn damage_in_the_middle_and_a_strange_file_stop_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(&dir);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replace("accepted_ms", "accepted_mz")).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("accepted_m"), "{error}");
        std::fs::write(&path, whole.replace("\"vendor\":1", "\"vendor\":2")).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }
}
