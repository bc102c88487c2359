//! Checks of a message that need no state: what it is, what stands in it, what the risk service thinks of its sender.

use crate::limits;
use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use parking_lot::RwLock;
use protocol::v1::{MessageKind, Send};
use std::sync::Arc;

/// Sensitive words, to be swapped while messages go on. ASCII letters match in both cases.
#[derive(Default)]
pub struct Words {
    finder: RwLock<Option<Arc<AhoCorasick>>>,
}

/// A list of words that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// An entry that would match everywhere.
    #[error("line {line}: a sensitive word must not be empty")]
    Empty {
        /// From 1.
        line: usize,
    },
    /// Too much.
    #[error("{words} sensitive words, at most {max} are taken")]
    Many {
        /// How many.
        words: usize,
        /// How many are taken.
        max: usize,
    },
    /// The automaton can't be built.
    #[error("the list of sensitive words can't be used: {0}")]
    Build(#[from] BuildError),
}

impl Words {
    /// Looks for these from now on, in place of those before. Text under way is judged by the list it began with.
    ///
    /// # Errors
    /// When the list can't be used; the one before stays.
    pub fn set<S: AsRef<str>>(&self, words: &[S]) -> Result<(), WordsError> {
        if words.len() > limits::WORDS_MAX {
            return Err(WordsError::Many { words: words.len(), max: limits::WORDS_MAX });
        }
        if let Some(at) = words.iter().position(|w| w.as_ref().trim().is_empty()) {
            return Err(WordsError::Empty { line: at + 1 });
        }
        let words = words.iter().map(|w| w.as_ref().trim());
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(words)?;
        let finder = (finder.patterns_len() > 0).then(|| Arc::new(finder));
        *self.finder.write() = finder;
        Ok(())
    }

    /// Whether one of them stands in a body.
    pub fn found_in(&self, body: &[u8]) -> bool {
        let finder = self.finder.read().clone();
        finder.is_some_and(|finder| finder.is_match(body))
    }
}

/// What the risk service thinks of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing against it.
    Fine,
    /// It is refused; the text goes to the sender.
    Refused(String),
}

/// Judges senders. Must answer from what it has at hand, within a microsecond: it is asked for every message.
pub trait Risk: std::marker::Send + Sync {
    /// Judges a message before it is stored.
    fn judge(&self, send: &Send) -> Verdict;
}

/// Nobody is suspected.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRisk;

impl Risk for NoRisk {
    fn judge(&self, _: &Send) -> Verdict {
        Verdict::Fine
    }
}

/// Why a message can't be stored, whatever the state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It can't be right.
    Invalid(String),
    /// A sensitive word.
    Words,
    /// The risk service.
    Risk(String),
}

/// Judges the form of a message.
///
/// # Errors
/// What is wrong with it.
pub fn form(send: &Send) -> Result<(), Refusal> {
    let invalid = |text: String| Err(Refusal::Invalid(text));
    let kind = send.kind;
    if MessageKind::try_from(kind).is_err()
        || kind <= MessageKind::Unspecified as i32
        || kind >= MessageKind::Change as i32
    {
        return invalid(format!("kind {kind} is none that a player may send"));
    }
    let len = send.body.len();
    if len > limits::BODY_MAX {
        return invalid(format!("the body has {len} bytes, at most {} are allowed", limits::BODY_MAX));
    }
    if send.user == 0 || send.device == 0 {
        return invalid("user and device must not be 0".to_owned());
    }
    if (send.conversation == 0) == (send.to_user == 0) {
        return invalid("name either the conversation or the user it goes to".to_owned());
    }
    if send.to_user == send.user {
        return invalid("nobody writes to himself".to_owned());
    }
    if send.counter == 0 || send.given_up >= send.counter {
        return invalid(format!(
            "counter {} with given_up {}: counters begin at 1, and what is sent is not given up",
            send.counter, send.given_up
        ));
    }
    Ok(())
}

/// Judges what stands in a message, and its sender.
///
/// # Errors
/// Why it is refused.
pub fn content(send: &Send, words: &Words, risk: &dyn Risk) -> Result<(), Refusal> {
    if words.found_in(&send.body) {
        return Err(Refusal::Words);
    }
    match risk.judge(send) {
        Verdict::Fine => Ok(()),
        Verdict::Refused(why) => Err(Refusal::Risk(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_swapped_and_a_bad_list_changes_nothing() {
        let words = Words::default();
        assert!(!words.found_in(b"anything"));
        words.set(&["Casino", "\u{8d4c}\u{535a}"]).unwrap();
        assert!(words.found_in("the CASINO is open".as_bytes()));
        assert!(words.found_in("\u{5728}\u{8d4c}\u{535a}\u{5417}".as_bytes()));
        assert!(matches!(words.set(&["x", " "]), Err(WordsError::Empty { line: 2 })));
        assert!(words.found_in(b"casino"));
        words.set::<&str>(&[]).unwrap();
        assert!(!words.found_in(b"casino"));
    }

    #[test]
    fn form_says_what_is_wrong() {
        let good = Send { user: 1, device: 2, to_user: 3, counter: 1, kind: 1, ..Send::default() };
        assert_eq!(form(&good), Ok(()));
        let wrong = |change: fn(&mut Send)| {
            let mut send = good.clone();
            change(&mut send);
            form(&send).is_err()
        };
        assert!(wrong(|s| s.kind = 0) && wrong(|s| s.kind = 32) && wrong(|s| s.kind = 99));
        assert!(wrong(|s| s.body = vec![0; 3_073]) && wrong(|s| s.device = 0) && wrong(|s| s.to_user = 1));
        assert!(wrong(|s| s.conversation = 9) && wrong(|s| s.to_user = 0) && wrong(|s| s.counter = 0));
        assert!(wrong(|s| s.given_up = 1));
    }
}
