//! Commits that nobody waits for: those of some time go out together, one request at a time.
//!
//! A commit is a replicated write at the group's coordinator; a reader that commits after each of its batches would wait for
//! that as long as for all the rest, and for seconds while a broker is replaced. A request that failed, or that nobody
//! answers, is made again with whatever is due by then.

use std::collections::BTreeMap;

use rdkafka::consumer::{CommitMode, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::checkpoints::Checkpoint;
use super::consume::Part;

/// From one request to the next.
const EVERY_NS: u64 = 500_000_000;
/// A request that nobody has answered for so long is given up.
const PATIENCE_NS: u64 = 10_000_000_000;
/// When none has succeeded for so long, something is wrong with this member, not with the brokers.
const STUCK_NS: u64 = 30_000_000_000;

/// What of a member's partitions is on its way to being committed.
#[derive(Default)]
pub(crate) struct Commits {
    sent_ns: u64,
    /// The first request since the last that succeeded.
    failing_ns: Option<u64>,
    /// By partition and offset.
    under_way: BTreeMap<(i32, i64), Checkpoint>,
}

impl Commits {
    /// It is time for another request.
    pub fn may(&self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.sent_ns);
        since_ns >= if self.under_way.is_empty() { EVERY_NS } else { PATIENCE_NS }
    }

    /// A request goes out with these places.
    pub fn sent(&mut self, now_ns: u64, places: impl Iterator<Item = (u16, Checkpoint)>) {
        self.sent_ns = now_ns;
        self.under_way = places.map(|(number, at)| ((number.into(), at.offset), at)).collect();
        if !self.under_way.is_empty() {
            self.failing_ns.get_or_insert(now_ns);
        }
    }

    /// Requests go out, and none has succeeded for long.
    pub fn is_stuck(&self, now_ns: u64) -> bool {
        self.failing_ns.is_some_and(|since_ns| now_ns >= since_ns + STUCK_NS)
    }

    /// What a request's answer says was committed, by partition. An answer to one that was given up counts for nothing.
    pub fn answered(&mut self, is_ok: bool, offsets: &TopicPartitionList) -> Vec<(u16, Checkpoint)> {
        if offsets.count() == 0 {
            self.under_way.clear();
        }
        let mut done = Vec::new();
        for element in offsets.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            let Some(at) = self.under_way.remove(&(element.partition(), offset)) else { continue };
            if is_ok && element.error().is_ok() {
                done.extend(u16::try_from(element.partition()).ok().map(|number| (number, at)));
                self.failing_ns = None;
            }
        }
        done
    }
}

/// Places as the client library takes them.
pub(crate) fn list_of<'p>(
    topic: &str,
    places: impl Iterator<Item = (u16, Checkpoint, &'p Part)>,
) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::new();
    for (number, at, part) in places {
        let mut element = list.add_partition(topic, number.into());
        element.set_offset(Offset::Offset(at.offset)).map_err(|e| e.to_string())?;
        let metadata = part.metadata(at);
        if !metadata.is_empty() {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}

/// Hands a request to the client library.
pub(crate) fn send<C: ConsumerContext>(
    client: &impl Consumer<C>,
    list: &TopicPartitionList,
) -> Result<(), String> {
    if list.count() == 0 {
        return Ok(());
    }
    client.commit(list, CommitMode::Async).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Commits, EVERY_NS, PATIENCE_NS, STUCK_NS};
    use crate::kafka::checkpoints::Checkpoint;
    use crate::lanes::LaneState;
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

    fn answer(offsets: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset("t", *partition, Offset::Offset(*offset)).unwrap();
        }
        list
    }

    #[test]
    fn one_request_at_a_time_and_a_lost_one_is_given_up() {
        let at = |offset| Checkpoint { offset, state: LaneState::ORIGIN };
        let mut commits = Commits::default();
        let mut now_ns = 5 * EVERY_NS;
        assert!(commits.may(now_ns));
        commits.sent(now_ns, [(0, at(5)), (3, at(7))].into_iter());
        now_ns += 2 * EVERY_NS;
        assert!(!commits.may(now_ns), "it is under way");
        assert_eq!(commits.answered(true, &answer(&[(0, 4)])), [], "another one's");
        assert_eq!(commits.answered(true, &answer(&[(0, 5), (3, 7)])), [(0, at(5)), (3, at(7))]);
        assert!(commits.may(now_ns));
        commits.sent(now_ns, [(0, at(9))].into_iter());
        assert_eq!(commits.answered(false, &answer(&[(0, 9)])), [], "it failed");
        now_ns += EVERY_NS;
        assert!(commits.may(now_ns));
        commits.sent(now_ns, [(0, at(9))].into_iter());
        assert!(!commits.may(now_ns + PATIENCE_NS - 1) && commits.may(now_ns + PATIENCE_NS));
        assert!(!commits.is_stuck(now_ns) && commits.is_stuck(now_ns + STUCK_NS));
        commits.answered(true, &answer(&[(0, 9)]));
        assert!(!commits.is_stuck(now_ns + STUCK_NS));
    }
}
