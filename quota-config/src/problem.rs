//! What is wrong with a campaign file, where, and what would be right.
//!
//! Reading and compiling never stop at the first mistake: each lands in a [`Sink`], and the operator sees all of
//! them at once, in the order of the file.

use crate::bounds::PROBLEMS_MAX;
use serde::Serialize;
use std::fmt;

/// A place in a file: line and column counted from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
pub struct Mark {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no plan.
    Error,
    /// Legal, but looks like a mistake.
    Warning,
}

/// One mistake in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Problem {
    /// Where.
    #[serde(flatten)]
    pub mark: Mark,
    /// Error or warning.
    pub severity: Severity,
    /// Where in the document: `rounds[1].prizes[0].units`; empty for the document itself.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub cure: String,
}

/// `12:5: error: rounds[1].prizes[0].units: "many" is not a whole number; write digits from 1 to 1000`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: ", self.mark.line, self.mark.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.what, self.cure)
    }
}

/// Why a file gives no plan: all errors, and the warnings beside them, by line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problems(pub Vec<Problem>);

/// One problem a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where in the document a reader stands. Lives on the stack, and becomes text only when something is wrong.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The document.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A key of the map that stands here.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// An entry of the list that stands here.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Index(i) => write!(f, "[{i}]"),
            Step::Key(key) if self.parent.is_none_or(|p| matches!(p.step, Step::Root)) => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
        }
    }
}

/// Collects problems.
#[derive(Default)]
pub(crate) struct Sink {
    problems: Vec<Problem>,
    errors: usize,
}

impl Sink {
    /// Notes what makes a plan impossible.
    pub fn error(
        &mut self,
        mark: Mark,
        path: &dyn fmt::Display,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.errors += 1;
        self.push(Severity::Error, mark, path, what.into(), cure.into());
    }

    /// Notes what is legal but odd.
    pub fn warning(
        &mut self,
        mark: Mark,
        path: &dyn fmt::Display,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.push(Severity::Warning, mark, path, what.into(), cure.into());
    }

    fn push(&mut self, severity: Severity, mark: Mark, path: &dyn fmt::Display, what: String, cure: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { severity, mark, path: path.to_string(), what, cure });
        }
    }

    /// Whether any error was noted.
    pub fn failed(&self) -> bool {
        self.errors > 0
    }

    /// Everything noted, in the order of the file, each once.
    pub fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort();
        problems.dedup();
        problems
    }
}

/// The known word nearest to what was written, if it is near enough to be a slip of the hand.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 200 {
        return None;
    }
    let slack = (written.chars().count() / 3).clamp(1, 3);
    let near = known.into_iter().map(|k| (distance(written, k), k)).min()?;
    (near.0 <= slack).then_some(near.1)
}

/// Edits between two words, letters compared without case; neighbours swapped are one edit (optimal string
/// alignment, Damerau 1964).
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| word.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    let mut before = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            next[j] = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

/// A list of words for a message: `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, nearest, one_of};

    #[test]
    fn finds_slips_of_the_hand() {
        let keys = ["units", "weight", "vendor"];
        assert_eq!(nearest("unit", keys), Some("units"));
        assert_eq!(nearest("wieght", keys), Some("weight"));
        assert_eq!(nearest("Vendor", keys), Some("vendor"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(one_of(&keys), "units, weight or vendor");
    }

    #[test]
    fn paths_read_as_people_write_them() {
        let rounds = Path::ROOT.key("rounds");
        let second = rounds.index(1);
        let prizes = second.key("prizes");
        assert_eq!(prizes.index(0).to_string(), "rounds[1].prizes[0]");
    }
}
