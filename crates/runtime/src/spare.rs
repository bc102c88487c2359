//! Memory that a thread's allocator keeps for it, and that it does not need.
//!
//! An allocator that gives each thread its own pages looks through them when the thread asks for much more. A thread
//! that has done a large piece of work and then little does not ask, and would keep its pages for good. So threads that
//! live long say now and then that they are about to rest; what is done then is the binary's, which has chosen the
//! allocator.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Between two looks of one thread.
const EVERY: Duration = Duration::from_secs(2);

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

thread_local! {
    /// When this thread looks the next time.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What a thread that rests does, from now on and for the whole process: it looks through its own pages, quickly. Only the
/// first one counts.
pub fn set(give_back: fn()) {
    // A second one would be that of another allocator.
    let _ = GIVE_BACK.set(give_back);
}

/// This thread is about to wait. Cheap, unless it has not looked for some seconds; fit for `on_thread_park` of a tokio runtime.
#[allow(clippy::disallowed_methods)] // a thread's own matter: nothing that a test would hand a clock in for depends on it
pub fn rest() {
    let Some(give_back) = GIVE_BACK.get() else { return };
    let now = Instant::now();
    NEXT.with(|next| {
        if next.get().is_none_or(|next| now >= next) {
            next.set(Some(now + EVERY));
            give_back();
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    static LOOKS: AtomicU32 = AtomicU32::new(0);

    fn look() {
        LOOKS.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn each_thread_looks_once_in_a_while() {
        super::rest();
        assert_eq!(LOOKS.load(Ordering::Relaxed), 0, "nobody has said what to do");
        super::set(look);
        let rest = || (0..1_000).for_each(|_| super::rest());
        let clock = crate::SystemClock::shared();
        let began_ns = clock.mono_ns();
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(rest)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let passed = u128::from(clock.mono_ns() - began_ns);
        let most = 3 * (1 + passed / super::EVERY.as_nanos()) as u32;
        assert!((3..=most).contains(&LOOKS.load(Ordering::Relaxed)));
    }
}
