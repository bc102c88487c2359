//! Answers on their way to whoever waits for them.

use crate::calls::{Inbox, SubmitReply};
use std::sync::Arc;

/// Answers on their way to inboxes, so that nobody is woken under a table's lock.
pub struct Mail<R = SubmitReply> {
    replies: Vec<R>,
    /// For whom, and where his answers end.
    ends: Vec<(Arc<Inbox<R>>, usize)>,
}

impl<R> Default for Mail<R> {
    fn default() -> Self {
        Mail { replies: Vec::new(), ends: Vec::new() }
    }
}

impl<R> Mail<R> {
    /// Takes one.
    pub fn put(&mut self, inbox: &Arc<Inbox<R>>, reply: R) {
        self.replies.push(reply);
        match self.ends.last_mut() {
            Some((last, end)) if Arc::ptr_eq(last, inbox) => *end += 1,
            _ => self.ends.push((Arc::clone(inbox), self.replies.len())),
        }
    }

    /// Hands them over. Each inbox is woken once for a run of its answers.
    pub fn deliver(&mut self) {
        let mut replies = self.replies.drain(..);
        let mut at = 0;
        for (inbox, end) in self.ends.drain(..) {
            inbox.put_all(replies.by_ref().take(end - at));
            at = end;
        }
    }
}
