//! Where chat leaves pushes for the front door's connections, and where connections knock that have late answers.
//!
//! A batch is shared by all workers that have one of its connections; each gets a list of runs (a run: the targets of one
//! device on one connection, which stand together) and is woken once. Nobody waits: what a worker can't take any more is
//! left out and counted, and the device finds the gap with the next push, or with its next sync.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::calls::{Bell, PushBatch, Pushes};
use tokio::sync::Notify;

use crate::limits::{MAIL_BYTES_MAX, MAIL_TARGETS_MAX};
use crate::shared::Shared;
use crate::slots::parts;

/// Targets of one device on one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// The first.
    pub start: u32,
    /// How many, at least one.
    pub count: u32,
}

/// A batch with what one worker has to do with it.
pub(crate) struct Parcel {
    pub batch: Arc<PushBatch>,
    pub runs: Vec<Run>,
}

/// What waits for one worker.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    bell: Notify,
    /// Places of connections that have late answers: each once for submits and once for messages, until it has taken them.
    knocks: Mutex<Vec<u32>>,
    knocked: Notify,
}

#[derive(Default)]
struct Waiting {
    parcels: Vec<Parcel>,
    targets: usize,
    bytes: usize,
    dropped: u64,
}

impl Mailbox {
    fn put(&self, parcel: Parcel) {
        let targets: usize = parcel.runs.iter().map(|run| run.count as usize).sum();
        let mut waiting = self.waiting.lock();
        if waiting.targets + targets > MAIL_TARGETS_MAX
            || waiting.bytes + parcel.batch.bytes.len() > MAIL_BYTES_MAX
        {
            waiting.dropped += targets as u64;
            return;
        }
        waiting.targets += targets;
        waiting.bytes += parcel.batch.bytes.len();
        let first = waiting.parcels.is_empty();
        waiting.parcels.push(parcel);
        drop(waiting);
        if first {
            self.bell.notify_one();
        }
    }

    /// Waits until there are pushes.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Waits until connections have late answers.
    pub async fn knocked(&self) {
        self.knocked.notified().await;
    }

    /// Those that have.
    pub fn knocks(&self) -> Vec<u32> {
        std::mem::take(&mut *self.knocks.lock())
    }

    /// All that waits, and how many targets were left out since the last time.
    pub fn take(&self) -> (Vec<Parcel>, u64) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        (waiting.parcels, waiting.dropped)
    }
}

impl Bell for Mailbox {
    fn ring(&self, place: u32) {
        let mut knocks = self.knocks.lock();
        let first = knocks.is_empty();
        knocks.push(place);
        drop(knocks);
        if first {
            self.knocked.notify_one();
        }
    }
}

/// The front door, as chat sees it; cheap to clone.
#[derive(Clone)]
pub struct PushDoor {
    shared: Arc<Shared>,
}

impl PushDoor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Pushes for PushDoor {
    fn push(&self, batch: PushBatch) {
        let runs = by_worker(&batch, self.shared.faces.len() - 1);
        let batch = Arc::new(batch);
        for (face, runs) in self.shared.faces.iter().zip(runs) {
            if !runs.is_empty() {
                face.mail.put(Parcel { batch: Arc::clone(&batch), runs });
            }
        }
    }
}

/// The runs of a batch, for each worker.
fn by_worker(batch: &PushBatch, workers: usize) -> Vec<Vec<Run>> {
    let mut all: Vec<Vec<Run>> = (0..workers).map(|_| Vec::new()).collect();
    let mut start = 0;
    let same = |a: usize, b: usize| {
        let (a, b) = (&batch.targets[a], &batch.targets[b]);
        (a.connection, a.user, a.device) == (b.connection, b.user, b.device)
    };
    while start < batch.targets.len() {
        let mut end = start + 1;
        while end < batch.targets.len() && same(start, end) {
            end += 1;
        }
        let (worker, _, _) = parts(batch.targets[start].connection);
        // An address of a process before this one may name a worker that is not here.
        if let Some(runs) = all.get_mut(worker) {
            runs.push(Run { start: start as u32, count: (end - start) as u32 });
        }
        start = end;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Mailbox, Parcel, Run, by_worker};
    use crate::limits::MAIL_TARGETS_MAX;
    use crate::slots::address;
    use protocol::calls::{Bell as _, PushBatch, Target};
    use std::sync::Arc;

    fn target(worker: usize, place: u32, device: u64) -> Target {
        let connection = address(1, worker, place, 1).connection;
        Target { connection, user: 5, device, after: 0, cursor: 1, message: 0 }
    }

    #[test]
    fn runs_are_of_one_device_on_one_connection() {
        let targets = vec![
            target(0, 1, 1),
            target(0, 1, 1),
            target(0, 1, 2),
            target(1, 1, 2),
            target(9, 0, 1),
            target(0, 2, 2),
        ];
        let runs = by_worker(&PushBatch { targets, ..PushBatch::default() }, 2);
        let run = |start, count| Run { start, count };
        assert_eq!(runs, [vec![run(0, 2), run(2, 1), run(5, 1)], vec![run(3, 1)]]);
    }

    #[test]
    fn a_full_box_takes_no_more_and_says_so() {
        let mailbox = Mailbox::default();
        let parcel = |count| Parcel { batch: Arc::default(), runs: vec![Run { start: 0, count }] };
        mailbox.put(parcel(MAIL_TARGETS_MAX as u32));
        mailbox.put(parcel(3));
        let (parcels, dropped) = mailbox.take();
        assert_eq!((parcels.len(), dropped), (1, 3));
        mailbox.put(parcel(3));
        assert_eq!((mailbox.take().0.len(), mailbox.take().1), (1, 0));
    }

    #[tokio::test]
    async fn whoever_knocks_is_heard_once_and_all_at_once() {
        let mailbox = Mailbox::default();
        [4, 2].into_iter().for_each(|place| mailbox.ring(place));
        mailbox.knocked().await;
        assert_eq!((mailbox.knocks(), mailbox.knocks()), (vec![4, 2], vec![]));
        mailbox.ring(9);
        mailbox.knocked().await;
        assert_eq!(mailbox.knocks(), [9]);
    }
}
