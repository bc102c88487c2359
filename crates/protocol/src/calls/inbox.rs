//! Where late replies wait for the connection that asked.

use super::draws::SubmitReply;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Late replies of one connection. Bounded by the requests that the connection may have unanswered.
pub struct Inbox<R = SubmitReply> {
    state: Mutex<State<R>>,
}

struct State<R> {
    replies: Vec<R>,
    waker: Option<Waker>,
}

impl<R> Default for Inbox<R> {
    fn default() -> Self {
        Inbox { state: Mutex::new(State { replies: Vec::new(), waker: None }) }
    }
}

impl<R> Inbox<R> {
    /// An empty inbox.
    pub fn new() -> Inbox<R> {
        Inbox::default()
    }

    /// Puts a reply in and wakes the connection.
    pub fn put(&self, reply: R) {
        let mut state = self.state.lock();
        state.replies.push(reply);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts several replies in and wakes once.
    pub fn put_all(&self, replies: impl IntoIterator<Item = R>) {
        let mut state = self.state.lock();
        state.replies.extend(replies);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves all replies to `out`; when there is none, the waker is kept for the next one. True if any came.
    pub fn take(&self, out: &mut Vec<R>, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.replies.is_empty() {
            match &mut state.waker {
                Some(kept) => kept.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            return false;
        }
        out.append(&mut state.replies);
        true
    }

    /// Waits until there are replies, and moves them to `out`. One may wait at a time; given up, nothing is lost.
    pub async fn hear(&self, out: &mut Vec<R>) {
        poll_fn(|cx| if self.take(out, cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::Inbox;
    use crate::calls::SubmitReply;
    use crate::v1::Outcome;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wakes_once_for_what_was_waited_for() {
        let reply = SubmitReply {
            tag: 1,
            user: 2,
            counter: 3,
            next_counter: 4,
            outcome: Outcome::Lost,
            next_submit_ms: 5,
            until_ms: 0,
            award: None,
        };
        let (inbox, count, mut out) = (Inbox::new(), Arc::new(Count(AtomicUsize::new(0))), Vec::new());
        let waker = Waker::from(count.clone());
        assert!(!inbox.take(&mut out, &waker));
        inbox.put(reply.clone());
        inbox.put_all([reply.clone(), reply]);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(inbox.take(&mut out, &waker));
        assert_eq!(out.len(), 3);
    }
}
