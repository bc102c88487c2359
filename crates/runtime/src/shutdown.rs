//! Shutdown as an argument: whoever runs for long takes a [`Shutdown`] and ends soon after it is requested,
//! the same way for a test, for SIGTERM and for the failure of an essential task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// A request to end that can be made once, by anyone, and is seen by all who hold a clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Read in hot loops, where a lock would hurt.
    requested: AtomicBool,
    /// Wakes tasks.
    tasks: watch::Sender<bool>,
    /// Wakes threads.
    threads: Mutex<bool>,
    threads_woken: Condvar,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A shutdown that nobody has requested yet.
    pub fn new() -> Self {
        Self {
            state: Arc::new(State {
                requested: AtomicBool::new(false),
                tasks: watch::Sender::new(false),
                threads: Mutex::new(false),
                threads_woken: Condvar::new(),
            }),
        }
    }

    /// Asks everyone to end. Asking again changes nothing.
    pub fn request(&self) {
        if self.state.requested.swap(true, Ordering::SeqCst) {
            return;
        }
        self.state.tasks.send_replace(true);
        *self.state.threads.lock() = true;
        self.state.threads_woken.notify_all();
    }

    /// Whether the end has been asked for. One atomic load.
    pub fn is_requested(&self) -> bool {
        self.state.requested.load(Ordering::SeqCst)
    }

    /// Returns as soon as the end is asked for; at once if it already was. May be dropped and called again.
    pub async fn wait(&self) {
        let mut seen = self.state.tasks.subscribe();
        // The sender lives as long as `self`, so the only way out is the value.
        let _ = seen.wait_for(|requested| *requested).await;
    }

    /// For threads: sleeps `for_at_most`, and returns early with `true` if the end is asked for.
    pub fn sleep_blocking(&self, for_at_most: Duration) -> bool {
        let mut requested = self.state.threads.lock();
        if !*requested {
            self.state.threads_woken.wait_while_for(&mut requested, |requested| !*requested, for_at_most);
        }
        *requested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_who_waits_is_woken_and_late_comers_do_not_wait() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested());
        let waiting = shutdown.clone();
        let (woken, ()) = tokio::join!(
            async {
                waiting.wait().await;
                true
            },
            async { shutdown.request() }
        );
        assert!(woken);
        shutdown.wait().await;
        shutdown.request();
        assert!(shutdown.is_requested());
    }

    #[test]
    fn a_sleeping_thread_wakes_early() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.sleep_blocking(Duration::from_millis(1)));
        let other = shutdown.clone();
        let thread = std::thread::spawn(move || other.sleep_blocking(Duration::from_secs(60)));
        shutdown.request();
        assert!(thread.join().unwrap());
    }
}
