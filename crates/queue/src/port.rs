//! The port, and what it promises.

use async_trait::async_trait;

use crate::error::{CommitError, PollError, ProduceError, TopicError};
use crate::{Batch, Position};

/// When groups may be forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Retain {
    /// Never.
    #[default]
    All,
    /// Once every group of consumers that the topic names has committed a position behind them. Groups of
    /// consumers that the topic doesn't name but that have consumed count too.
    Uncommitted,
}

/// What a topic is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicOptions {
    /// Its name: lower-case letters, digits, `-`; at most 40.
    pub name: String,
    /// Partitions; never changed afterwards.
    pub partitions: u16,
    /// When groups may be forgotten.
    pub retain: Retain,
    /// Groups of consumers that retention waits for even when they have not come yet.
    pub groups: Vec<String>,
}

impl TopicOptions {
    /// A topic with four partitions (so that threads stay few) that keeps everything.
    pub fn new(name: &str) -> TopicOptions {
        TopicOptions { name: name.to_owned(), partitions: 4, retain: Retain::All, groups: Vec::new() }
    }

    /// The same topic, forgetting what all of these groups have committed.
    #[must_use]
    pub fn forgetting(mut self, groups: &[&str]) -> TopicOptions {
        self.retain = Retain::Uncommitted;
        self.groups = groups.iter().map(|g| (*g).to_owned()).collect();
        self
    }

    /// The same topic with another number of partitions.
    #[must_use]
    pub fn with_partitions(mut self, partitions: u16) -> TopicOptions {
        self.partitions = partitions;
        self
    }
}

/// Topics of numbered partitions, each a sequence of groups of records.
///
/// **Durability.** When `produce` has returned a position, the records survive a crash of the process (embedded: any
/// but the loss of the disk). When it returned an error that [`ProduceError::is_unsure`] names, they may be there or
/// not; after any other error they are not.
///
/// **Order.** Within a partition groups have the order of their positions, which rise by one (a lane may leave some out
/// where an epoch begins: see [`crate::lanes`]); records of one call stay
/// together and in order, in one group (other calls' records may stand in the same group). A call that began after
/// another had returned stands behind it. Between partitions there is no order.
///
/// **Idempotency.** None: producing again makes another group. Consumers must recognise what they have seen.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// The partitions of a topic: `0..n`, or for [`crate::LANE`] the node numbers that are attached.
    fn partitions(&self, topic: &str) -> Result<Vec<u16>, TopicError>;

    /// Appends the records to a partition, together, and returns their group's position once they are durable.
    ///
    /// # Errors
    /// `Busy` and `Full` when bounds are reached: nothing was written and a later try may succeed.
    async fn produce(&self, topic: &str, partition: u16, records: &[&[u8]])
    -> Result<Position, ProduceError>;

    /// Joins a group as a new member. Partitions are shared out anew among the members.
    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, TopicError>;

    /// The end of a partition: the position that its next group gets. Everything below is durable.
    async fn head(&self, topic: &str, partition: u16) -> Result<Position, TopicError>;

    /// What a group has committed in a partition; zero if it never did.
    async fn committed(&self, topic: &str, group: &str, partition: u16) -> Result<Position, TopicError>;

    /// Groups of records that a group of consumers has not committed yet, over all partitions.
    async fn lag(&self, topic: &str, group: &str) -> Result<u64, TopicError> {
        let mut lag = 0u64;
        for partition in self.partitions(topic)? {
            let (head, done) =
                (self.head(topic, partition).await?, self.committed(topic, group, partition).await?);
            lag = lag.saturating_add(head.0.saturating_sub(done.0));
        }
        Ok(lag)
    }
}

/// A member of a consumer group. Dropping it leaves the group.
///
/// **At least once.** Each durable group of records is polled by some member until a position behind it is committed;
/// what was polled and not committed is polled again after a crash, a drop, [`Consumer::rewind`], or when its partition
/// goes to another member. **Once committed, never again:** when `commit` has returned, nothing below the position is
/// delivered to this group of consumers any more, in this process or a later one.
///
/// Each partition belongs to one member at a time; members have disjoint sets that together are all partitions.
#[async_trait]
pub trait Consumer: Send {
    /// The partitions that this member has now.
    fn assignment(&mut self) -> Vec<u16>;

    /// What comes next in this member's partitions, at most one batch for each, without waiting; empty when there is
    /// nothing. At most `max_records` and `max_bytes` in all, but at least one group if there is one: a group is never
    /// divided, so its size is the bound's grain. Partitions take turns in being first.
    async fn poll(&mut self, max_records: usize, max_bytes: usize) -> Result<Vec<Batch>, PollError>;

    /// Returns when a poll may bring something or the assignment has changed. May be dropped and called again.
    async fn ready(&mut self);

    /// Durably remembers that everything below `position` is done. A position at or below the committed one changes
    /// nothing.
    ///
    /// # Errors
    /// `Lost` when the partition belongs to another member by now: what was polled is delivered there again.
    async fn commit(&mut self, partition: u16, position: Position) -> Result<(), CommitError>;

    /// As [`Consumer::commit`], without waiting: the position is remembered within about a second, together with others
    /// of that time, and again and again until it is. For readers who notice what they were given before: after a crash,
    /// or when the partition goes to another member, up to that second is polled again. A position above it, committed in
    /// either way, makes up for it.
    ///
    /// # Errors
    /// As [`Consumer::commit`], as far as they show at once.
    async fn commit_soon(&mut self, partition: u16, position: Position) -> Result<(), CommitError> {
        self.commit(partition, position).await
    }

    /// Goes back to what is committed in each partition, so that everything else is polled again.
    fn rewind(&mut self);
}
