//! The adapters under test, and how each is killed and started again.

use std::sync::Arc;
use std::time::Duration;

use queue::embedded::EmbeddedQueue;
use queue::kafka::{Kafka, KafkaOptions, KafkaQueue, connect};
use queue::memory::MemoryQueue;
use queue::{Batch, Consumer, Queue, TopicOptions};
use runtime::SystemClock;
use testkit::servers::{kafka, unique};

/// An adapter that can go down and come back.
pub trait Adapter {
    /// The queue as it runs now.
    fn queue(&self) -> &dyn Queue;
    /// Ends the process, as it were, and starts the next one. Consumers must have been dropped.
    fn restart(&mut self);
    /// What comes takes a moment.
    fn is_remote(&self) -> bool {
        false
    }
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

/// Options under names that no other test has; one replica.
pub fn options(broker: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(broker, SystemClock::shared());
    options.prefix = format!("t{}-", unique());
    (options.development, options.lanes) = (true, 4);
    // A busy machine may take long over any answer, and nobody is dead because of that.
    (options.patience, options.answer) = (Duration::from_secs(60), Duration::from_secs(60));
    options.session = Duration::from_secs(45);
    options
}

/// On a real broker, under names of its own.
pub struct OnKafka {
    pub kafka: Kafka,
    queue: KafkaQueue,
}

impl OnKafka {
    pub async fn new() -> Option<OnKafka> {
        let kafka = connect(options(&kafka()?), &topics()).await.unwrap();
        let queue = KafkaQueue::new(&kafka).unwrap();
        Some(OnKafka { kafka, queue })
    }
}

impl Adapter for OnKafka {
    fn queue(&self) -> &dyn Queue {
        &self.queue
    }
    fn restart(&mut self) {
        self.queue = KafkaQueue::new(&self.kafka).unwrap();
    }
    fn is_remote(&self) -> bool {
        true
    }
}

/// Those that need no server.
pub fn local() -> Vec<Box<dyn Adapter>> {
    vec![Box::new(Memory::new()), Box::new(Embedded::new())]
}

/// All.
pub async fn adapters() -> Vec<Box<dyn Adapter>> {
    let mut all = local();
    if let Some(kafka) = OnKafka::new().await {
        all.push(Box::new(kafka));
    }
    all
}

/// Records as text.
pub fn texts(batches: &[Batch]) -> Vec<String> {
    batches.iter().flat_map(Batch::records).map(|r| String::from_utf8_lossy(r).into_owned()).collect()
}

const PATIENCE: Duration = Duration::from_secs(120);

/// Polls until so many records have come.
pub async fn gather_within(c: &mut dyn Consumer, records: usize, max: (usize, usize)) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    let work = async {
        loop {
            all.extend(c.poll(max.0, max.1).await.unwrap());
            if all.iter().map(|b| b.records().count()).sum::<usize>() >= records {
                return;
            }
            c.ready().await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, work).await;
    assert!(done.is_ok(), "only {:?} came", texts(&all));
    all
}

/// The same without bounds.
pub async fn gather(c: &mut dyn Consumer, records: usize) -> Vec<Batch> {
    gather_within(c, records, (1 << 20, 1 << 20)).await
}

/// Nothing comes.
pub async fn nothing(a: &dyn Adapter, c: &mut dyn Consumer) {
    let until = if a.is_remote() { 5 } else { 1 };
    for _ in 0..until {
        assert_eq!(texts(&c.poll(1 << 20, 1 << 20).await.unwrap()), [""; 0]);
        if a.is_remote() {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
}

/// Waits until a member has so many partitions.
pub async fn assigned(c: &mut dyn Consumer, partitions: usize) -> Vec<u16> {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if c.assignment().len() == partitions {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = c.assignment();
    assert_eq!(found.len(), partitions, "{found:?}");
    found
}
