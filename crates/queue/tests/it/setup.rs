//! The adapters under test, and how each is killed and started again.

use std::sync::Arc;

use queue::embedded::EmbeddedQueue;
use queue::memory::MemoryQueue;
use queue::{Batch, Queue, TopicOptions};
use runtime::SystemClock;

/// An adapter that can go down and come back.
pub trait Adapter {
    /// The queue as it runs now.
    fn queue(&self) -> &dyn Queue;
    /// Ends the process, as it were, and starts the next one. Consumers must have been dropped.
    fn restart(&mut self);
}

/// Two partitions, kept for ever; and one that forgets what `g` has committed.
pub fn topics() -> Vec<TopicOptions> {
    vec![
        TopicOptions::new("t").with_partitions(2),
        TopicOptions::new("wide").with_partitions(5),
        TopicOptions::new("orders").with_partitions(1).forgetting(&["g"]),
    ]
}

pub struct Memory(MemoryQueue);

impl Memory {
    pub fn new() -> Memory {
        Memory(MemoryQueue::new(topics()).unwrap())
    }
}

impl Adapter for Memory {
    fn queue(&self) -> &dyn Queue {
        &self.0
    }
    fn restart(&mut self) {}
}

pub struct Embedded {
    dir: tempfile::TempDir,
    queue: Option<EmbeddedQueue>,
}

impl Embedded {
    pub fn new() -> Embedded {
        let mut made = Embedded { dir: tempfile::tempdir().unwrap(), queue: None };
        made.restart();
        made
    }
}

impl Adapter for Embedded {
    fn queue(&self) -> &dyn Queue {
        self.queue.as_ref().unwrap()
    }
    fn restart(&mut self) {
        self.queue = None;
        let open = EmbeddedQueue::open(self.dir.path(), &topics(), SystemClock::shared(), Arc::new(|_| {}));
        self.queue = Some(open.unwrap());
    }
}

pub fn adapters() -> Vec<Box<dyn Adapter>> {
    vec![Box::new(Memory::new()), Box::new(Embedded::new())]
}

/// Records as text.
pub fn texts(batches: &[Batch]) -> Vec<String> {
    batches.iter().flat_map(Batch::records).map(|r| String::from_utf8_lossy(r).into_owned()).collect()
}
