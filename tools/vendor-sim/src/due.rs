//! Things to do at an instant, earliest first; bounded, with one taker.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;

#[derive(Debug)]
struct Entry<T> {
    due_ms: u64,
    sequence: u64,
    job: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (u64, u64) {
        (self.due_ms, self.sequence)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Debug)]
struct Inner<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
}

/// See the module. Jobs of one instant come out in the order in which they went in.
#[derive(Debug)]
pub struct DueQueue<T> {
    inner: Mutex<Inner<T>>,
    wake: Notify,
    jobs_max: usize,
}

impl<T> DueQueue<T> {
    /// Holds at most `jobs_max`.
    #[must_use]
    pub fn new(jobs_max: usize) -> Self {
        let inner = Mutex::new(Inner { heap: BinaryHeap::new(), sequence: 0 });
        Self { inner, wake: Notify::new(), jobs_max }
    }

    /// Adds a job for `due_ms` (UTC), or gives it back if the queue is full.
    pub fn push(&self, due_ms: u64, job: T) -> Result<(), T> {
        let mut inner = self.inner.lock();
        if inner.heap.len() >= self.jobs_max {
            return Err(job);
        }
        inner.sequence += 1;
        let sequence = inner.sequence;
        let first = inner.heap.peek().is_none_or(|Reverse(e)| due_ms < e.due_ms);
        inner.heap.push(Reverse(Entry { due_ms, sequence, job }));
        drop(inner);
        if first {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for the next job to be due and takes it. For one taker at a time; may be dropped while waiting.
    pub async fn pop(&self, clock: &Clock) -> T {
        loop {
            let now_ms = clock.now_ms();
            let wait = {
                let mut inner = self.inner.lock();
                let due_ms = inner.heap.peek().map(|Reverse(e)| e.due_ms);
                match due_ms {
                    Some(due_ms) if due_ms <= now_ms => match inner.heap.pop() {
                        Some(Reverse(entry)) => return entry.job,
                        None => continue,
                    },
                    Some(due_ms) => Duration::from_millis(due_ms - now_ms),
                    None => Duration::from_secs(3600),
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Jobs waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().heap.len()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_come_when_due_in_order_and_no_more_than_fit() {
        let clock = Clock::new();
        let queue = DueQueue::new(3);
        let now = clock.now_ms();
        assert!(queue.push(now + 20, "third").is_ok());
        assert!(queue.push(now, "first").is_ok());
        assert!(queue.push(now, "second").is_ok());
        assert_eq!(queue.push(now, "one too many"), Err("one too many"));
        assert_eq!(
            [queue.pop(&clock).await, queue.pop(&clock).await, queue.pop(&clock).await],
            ["first", "second", "third"]
        );
        assert!(clock.now_ms() >= now + 20);
    }

    #[tokio::test]
    async fn an_earlier_job_wakes_the_taker() {
        let clock = Clock::new();
        let queue = DueQueue::new(3);
        queue.push(clock.now_ms() + 60_000, "later").unwrap();
        let (got, ()) = tokio::join!(queue.pop(&clock), async {
            tokio::task::yield_now().await;
            queue.push(clock.now_ms() + 5, "sooner").unwrap();
        });
        assert_eq!((got, queue.len()), ("sooner", 1));
    }
}
