//! Copies the journal into its topic, behind the truth. At least once: the position is stored after the topic has the
//! lines, so a crash between the two repeats some, and so may a shard that changes hands; readers know them by
//! (award, step).

use super::Shared;
use crate::book::JournalRow;
use hashring::bucket_of;
use records::Record;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const LINES_MAX: usize = 2_000;

/// Runs until shutdown, then publishes what is left of the journal.
pub(crate) async fn run(shared: Arc<Shared>) -> anyhow::Result<()> {
    let partitions = shared.queue.partitions(queue::JOURNAL)?;
    anyhow::ensure!(!partitions.is_empty(), "topic {} has no partitions", queue::JOURNAL);
    // Rarer than work is looked for: a round costs a group in each partition and a transaction, whatever is in it.
    let poll = Duration::from_millis(shared.config.idle_poll_ms.max(1) * 4);
    loop {
        let stopping = shared.shutdown.is_requested();
        let wait = match round(&shared, &partitions).await {
            Ok(true) => continue,
            Ok(false) if stopping => return Ok(()),
            Ok(false) => poll,
            Err(error) if stopping => return Err(error),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "journal could not be published, trying again");
                Duration::from_millis(500)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.shutdown.wait() => {}
        }
    }
}

/// Publishes what stands behind the stored positions of this node's shards; true when there is more.
async fn round(shared: &Shared, partitions: &[u16]) -> anyhow::Result<bool> {
    let mut more = false;
    for shard in shared.book.unpublished(&shared.shards.held()).await? {
        more |= publish(shared, shard, partitions).await? >= LINES_MAX;
    }
    Ok(more)
}

/// Publishes lines of one shard; returns how many.
async fn publish(shared: &Shared, shard: u16, partitions: &[u16]) -> anyhow::Result<usize> {
    let from = shared.book.published(shard).await?;
    let lines = shared.book.journal(shard, from, LINES_MAX).await?;
    let Some(last) = lines.last().map(|line| line.position) else { return Ok(0) };
    let mut groups: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for line in &lines {
        groups.entry(partition_of(line, partitions)).or_default().push(line.event.encode());
    }
    for (partition, records) in groups {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        shared.queue.produce(queue::JOURNAL, partition, &records).await?;
    }
    shared.book.set_published(shard, last).await?;
    Ok(lines.len())
}

/// All steps of an award go to one partition, in order: that of its user's bucket.
fn partition_of(line: &JournalRow, partitions: &[u16]) -> u16 {
    partitions[bucket_of(line.event.user.0).index() % partitions.len()]
}
