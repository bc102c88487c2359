//! Where late replies wait for the connection that asked.

use super::draws::SubmitReply;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Woken for many inboxes at once: whoever serves them all hears which of them have replies. To wake each waiter by itself
/// costs a system call a reply where they live on another thread.
pub trait Bell: Send + Sync {
    /// The inbox that has this number, of all that share the bell, has replies.
    fn ring(&self, inbox: u32);
}

/// Late replies of one connection. Bounded by the requests that the connection may have unanswered.
pub struct Inbox<R = SubmitReply> {
    state: Mutex<State<R>>,
    /// Rung in place of the waker, with the number.
    bell: Option<(Arc<dyn Bell>, u32)>,
}

struct State<R> {
    replies: Vec<R>,
    waits: Waits,
}

/// Whether somebody waits for replies.
#[derive(Default)]
enum Waits {
    #[default]
    No,
    /// He is woken by the bell.
    Bell,
    /// He is woken himself.
    Waker(Waker),
}

impl<R> Default for Inbox<R> {
    fn default() -> Self {
        Inbox { state: Mutex::new(State { replies: Vec::new(), waits: Waits::No }), bell: None }
    }
}

impl<R> Inbox<R> {
    /// An empty inbox, whose waker is woken.
    pub fn new() -> Inbox<R> {
        Inbox::default()
    }

    /// An empty inbox that rings a bell, and says this number, when somebody waits and a reply comes.
    pub fn with_bell(bell: Arc<dyn Bell>, number: u32) -> Inbox<R> {
        Inbox { bell: Some((bell, number)), ..Inbox::default() }
    }

    /// Puts a reply in and wakes the connection.
    pub fn put(&self, reply: R) {
        self.put_all([reply]);
    }

    /// Puts several replies in and wakes once.
    pub fn put_all(&self, replies: impl IntoIterator<Item = R>) {
        let mut state = self.state.lock();
        state.replies.extend(replies);
        let waits = std::mem::take(&mut state.waits);
        drop(state);
        match (waits, &self.bell) {
            (Waits::Waker(waker), _) => waker.wake(),
            (Waits::Bell, Some((bell, number))) => bell.ring(*number),
            (Waits::Bell, None) | (Waits::No, _) => {}
        }
    }

    /// Moves all replies to `out`; when there is none, whoever asked is woken by the next one: by the bell, or else by the
    /// waker. True if any came.
    pub fn take(&self, out: &mut Vec<R>, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.replies.is_empty() {
            match (&mut state.waits, &self.bell) {
                (waits, Some(_)) => *waits = Waits::Bell,
                (Waits::Waker(kept), None) => kept.clone_from(waker),
                (none, None) => *none = Waits::Waker(waker.clone()),
            }
            return false;
        }
        out.append(&mut state.replies);
        true
    }

    /// Waits until there are replies, and moves them to `out`. One may wait at a time; given up, nothing is lost. For inboxes
    /// without a bell.
    pub async fn hear(&self, out: &mut Vec<R>) {
        debug_assert!(self.bell.is_none(), "the bell would ring and nobody be woken");
        poll_fn(|cx| if self.take(out, cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Bell, Inbox};
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

    struct Rung(parking_lot::Mutex<Vec<u32>>);
    impl Bell for Rung {
        fn ring(&self, inbox: u32) {
            self.0.lock().push(inbox);
        }
    }

    fn reply() -> SubmitReply {
        SubmitReply {
            tag: 1,
            user: 2,
            counter: 3,
            next_counter: 4,
            outcome: Outcome::Lost,
            next_submit_ms: 5,
            until_ms: 0,
            award: None,
        }
    }

    #[test]
    fn wakes_once_for_what_was_waited_for() {
        let reply = reply();
        let (inbox, count, mut out) = (Inbox::new(), Arc::new(Count(AtomicUsize::new(0))), Vec::new());
        let waker = Waker::from(count.clone());
        assert!(!inbox.take(&mut out, &waker));
        inbox.put(reply.clone());
        inbox.put_all([reply.clone(), reply]);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(inbox.take(&mut out, &waker));
        assert_eq!(out.len(), 3);
    }

    #[test]
    fn rings_once_for_what_was_waited_for() {
        let bell = Arc::new(Rung(parking_lot::Mutex::default()));
        let (inbox, mut out) = (Inbox::with_bell(bell.clone(), 7), Vec::new());
        inbox.put(reply());
        assert_eq!(*bell.0.lock(), [] as [u32; 0], "nobody waits");
        assert!(inbox.take(&mut out, Waker::noop()));
        for _ in 0..2 {
            assert!(!inbox.take(&mut out, Waker::noop()));
            inbox.put(reply());
            inbox.put_all([reply(), reply()]);
            assert!(inbox.take(&mut out, Waker::noop()));
        }
        assert_eq!((out.len(), &*bell.0.lock()), (7, &vec![7, 7]));
    }
}
