//! A member of a group on Kafka.
//!
//! A thread polls the client: it serves rebalances (cooperative: only partitions that move stop) and fills a bounded buffer for
//! each partition. The [`Member`] takes from the buffers and never waits for a broker but in `commit`. When the group or
//! its offsets can't be reached at a rebalance, the thread leaves and joins again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;

use super::Kafka;
use super::checkpoints::Checkpoint;
use super::client::blocking;
use super::commits::{Commits, list_of};
use super::consume::{Came, Part, Point};
use super::lookup::one;
use super::queue::Trim;
use super::shared::{Client, Context, Shared};
use crate::error::{CommitError, PollError, TopicError};
use crate::port::Consumer;
use crate::{Batch, Group, LANE, Position};

/// Bytes that may wait in the buffer of a partition before no more are fetched.
const BUFFER_BYTES_MAX: usize = 8 << 20;
/// How long the thread waits for a message before it looks at its other duties.
const POLL: Duration = Duration::from_millis(50);
/// Between leaving a group for a failure and joining again.
const REJOIN: Duration = Duration::from_millis(500);

/// The thread's part of a member.
struct Runner {
    shared: Arc<Shared>,
    kafka: Kafka,
    group: String,
}

impl Runner {
    fn run(mut self) {
        while !self.shared.inner.lock().is_stopping {
            let why = match self.join() {
                Ok(client) => {
                    let why = self.serve(&client);
                    self.leave(&client, why.is_none());
                    why
                }
                Err(why) => Some(why),
            };
            self.shared.changed();
            if let Some(why) = why {
                let tried = self.shared.troubles.take();
                tracing::warn!(group = self.group, why, tried, "a member leaves its group and joins again");
                std::thread::sleep(REJOIN);
            }
        }
    }

    fn join(&self) -> Result<Arc<Client>, String> {
        let mut config = self.kafka.options.consumer(&self.group);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            // Batches are taken some times a second; an answer for each single message would cost brokers and members more
            // than all the rest.
            .set("fetch.min.bytes", "65536")
            .set("session.timeout.ms", self.kafka.options.session.as_millis().to_string())
            .set("heartbeat.interval.ms", "1000");
        let client: Client =
            config.create_with_context(Context(Arc::clone(&self.shared))).map_err(|e| e.to_string())?;
        client.subscribe(&[&self.shared.name]).map_err(|e| e.to_string())?;
        let client = Arc::new(client);
        let mut inner = self.shared.inner.lock();
        inner.broken = None;
        inner.client = Some(Arc::clone(&client));
        Ok(client)
    }

    /// The client goes. The last one commits what is due; one that is in trouble does not wait for that.
    fn leave(&self, client: &Client, is_last: bool) {
        let parts = {
            let mut inner = self.shared.inner.lock();
            inner.client = None;
            std::mem::take(&mut inner.parts)
        };
        *self.shared.commits.lock() = Commits::default();
        if !is_last {
            return;
        }
        let due = parts.iter().filter_map(|(number, part)| Some((*number, part.due()?, part)));
        match list_of(&self.shared.name, due) {
            Ok(list) if list.count() > 0 => {
                if let Err(error) = client.commit(&list, CommitMode::Sync) {
                    tracing::debug!(%error, group = self.group, "leaving without the last commit");
                }
            }
            _ => {}
        }
    }

    /// Polls until the member goes (none) or something is broken.
    fn serve(&mut self, client: &Client) -> Option<String> {
        loop {
            {
                let mut inner = self.shared.inner.lock();
                if inner.is_stopping {
                    return None;
                }
                if let Some(why) = inner.broken.take() {
                    return Some(why);
                }
            }
            if let Err(why) = self.rewind(client).and_then(|()| self.throttle(client)) {
                return Some(why);
            }
            let now_ns = self.kafka.options.clock.mono_ns();
            if self.shared.commits.lock().is_stuck(now_ns) {
                return Some("no commit has succeeded for half a minute".to_owned());
            }
            if let Err(why) = self.shared.commit_due(client, now_ns) {
                tracing::debug!(why, group = self.group, "a commit did not go out");
            }
            match client.poll(POLL) {
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    if let Err(why) = self.came(client, message.partition(), message.offset(), payload) {
                        return Some(why);
                    }
                }
                Some(Err(error)) => {
                    if client.client().fatal_error().is_some() {
                        return Some(error.to_string());
                    }
                    tracing::debug!(%error, group = self.group, "polling");
                }
                None => {}
            }
        }
    }

    fn came(&self, client: &Client, number: i32, offset: i64, payload: &[u8]) -> Result<(), String> {
        let Ok(partition) = u16::try_from(number) else { return Ok(()) };
        let came = match self.shared.inner.lock().parts.get_mut(&partition) {
            Some(part) => part.came(offset, payload, false),
            None => Came::Ignored,
        };
        match came {
            Came::Ready => self.shared.changed(),
            Came::Ignored => {}
            Came::Behind(expected) => {
                let marks = client.fetch_watermarks(&self.shared.name, number, self.shared.answer);
                let (low, _) = marks.map_err(|e| e.to_string())?;
                if low > expected {
                    let topic = &self.shared.name;
                    tracing::error!(
                        topic,
                        partition,
                        expected,
                        low,
                        "records were removed before they were consumed"
                    );
                    if let Some(part) = self.shared.inner.lock().parts.get_mut(&partition) {
                        part.came(offset, payload, true);
                    }
                    self.shared.changed();
                } else {
                    // A message from before a seek.
                    self.seek(client, partition, Some(expected))?;
                }
            }
        }
        Ok(())
    }

    fn seek(&self, client: &Client, partition: u16, offset: Option<i64>) -> Result<(), String> {
        let offset = offset.map_or(Offset::Beginning, Offset::Offset);
        client
            .seek(&self.shared.name, partition.into(), offset, self.shared.answer)
            .map_err(|e| format!("going back: {e}"))
    }

    fn rewind(&self, client: &Client) -> Result<(), String> {
        let back: Vec<(u16, Option<i64>)> = {
            let inner = self.shared.inner.lock();
            inner.parts.iter().filter(|(_, p)| p.is_rewinding).map(|(n, p)| (*n, p.resume_at())).collect()
        };
        for (partition, offset) in back {
            self.seek(client, partition, offset)?;
            if let Some(part) = self.shared.inner.lock().parts.get_mut(&partition) {
                part.is_rewinding = false;
            }
        }
        Ok(())
    }

    /// Fetches no more for a partition whose buffer is full.
    fn throttle(&self, client: &Client) -> Result<(), String> {
        let mut lists = [None, None];
        for (number, part) in &mut self.shared.inner.lock().parts {
            let full = if part.is_paused { BUFFER_BYTES_MAX / 2 } else { BUFFER_BYTES_MAX };
            if part.is_paused != (part.bytes > full) {
                part.is_paused = !part.is_paused;
                let list = lists[usize::from(part.is_paused)].get_or_insert_with(TopicPartitionList::new);
                list.add_partition(&self.shared.name, i32::from(*number));
            }
        }
        let [resume, pause] = lists;
        pause.map_or(Ok(()), |list| client.pause(&list)).map_err(|e| e.to_string())?;
        resume.map_or(Ok(()), |list| client.resume(&list)).map_err(|e| e.to_string())
    }
}

/// A member of a group.
pub(crate) struct Member {
    shared: Arc<Shared>,
    group: String,
    changes: watch::Receiver<u64>,
    /// Which partition is first in the next poll.
    turn: usize,
    trim: Trim,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    pub fn join(kafka: &Kafka, topic: &str, group: &str, trim: Trim) -> Result<Member, TopicError> {
        let (changes, seen) = watch::channel(0);
        let shared = Arc::new(Shared {
            topic: topic.to_owned(),
            name: kafka.options.topic(topic),
            is_lane: topic == LANE,
            troubles: kafka.troubles.clone(),
            answer: kafka.options.answer,
            inner: Mutex::default(),
            commits: Mutex::default(),
            changes,
        });
        let name = kafka.options.group(topic, group);
        let runner = Runner { shared: Arc::clone(&shared), kafka: kafka.clone(), group: name };
        let thread = std::thread::Builder::new().name(format!("queue-{group}"));
        let thread = thread.spawn(move || runner.run()).map_err(|error| TopicError::Unavailable {
            topic: topic.to_owned(),
            why: format!("no thread for a consumer: {error}"),
        })?;
        Ok(Member { shared, group: group.to_owned(), changes: seen, turn: 0, trim, thread: Some(thread) })
    }

    fn lost(&self, partition: u16) -> CommitError {
        CommitError::Lost { topic: self.shared.topic.clone(), group: self.group.clone(), partition }
    }

    /// Where a commit of the position goes; none if it is committed.
    async fn point(
        &self,
        partition: u16,
        position: Position,
    ) -> Result<Option<(Arc<Client>, Checkpoint, String)>, CommitError> {
        let (client, point) = {
            let inner = self.shared.inner.lock();
            let part = inner.parts.get(&partition).ok_or_else(|| self.lost(partition))?;
            let Some(client) = inner.client.clone() else { return Err(self.lost(partition)) };
            (client, part.point(position))
        };
        let at = match point {
            Point::Done => return Ok(None),
            Point::At(at) => at,
            Point::Ahead(head) => return Err(CommitError::Ahead { partition, position, head }),
            Point::TooLate => {
                let why = format!("too many groups were delivered since position {position}");
                return Err(CommitError::Unsure(why));
            }
            Point::AtMost(at) => {
                let (asked, name) = (Arc::clone(&client), self.shared.name.clone());
                let answer = self.shared.answer;
                let marks = blocking(move || asked.fetch_watermarks(&name, partition.into(), answer)).await;
                let marks = marks.and_then(|marks| marks.map_err(|e| e.to_string()));
                let (_, high) = marks.map_err(CommitError::Unsure)?;
                if at.offset > high {
                    return Err(CommitError::Ahead { partition, position, head: Position(high as u64) });
                }
                at
            }
        };
        let inner = self.shared.inner.lock();
        let part = inner.parts.get(&partition).ok_or_else(|| self.lost(partition))?;
        Ok(Some((client, at, part.metadata(at))))
    }
}

#[async_trait]
impl Consumer for Member {
    fn assignment(&mut self) -> Vec<u16> {
        self.shared.inner.lock().parts.keys().copied().collect()
    }

    async fn poll(&mut self, max_records: usize, max_bytes: usize) -> Result<Vec<Batch>, PollError> {
        self.changes.mark_unchanged();
        let mut inner = self.shared.inner.lock();
        let partitions: Vec<u16> = inner.parts.keys().copied().collect();
        let mut batches: Vec<Batch> = Vec::new();
        let (mut records, mut bytes) = (max_records, max_bytes);
        for i in 0..partitions.len() {
            let partition = partitions[(self.turn + i) % partitions.len()];
            let Some(part) = inner.parts.get_mut(&partition) else { continue };
            let groups = match part.take(records, bytes, batches.is_empty()) {
                Ok(groups) => groups,
                // What was taken before goes out; the error comes again with the next poll.
                Err(_) if !batches.is_empty() => break,
                Err((position, why)) => {
                    return Err(PollError { topic: self.shared.topic.clone(), partition, position, why });
                }
            };
            if groups.is_empty() {
                continue;
            }
            records = records.saturating_sub(groups.iter().map(Group::len).sum());
            bytes = bytes.saturating_sub(groups.iter().map(Group::bytes).sum());
            batches.push(Batch { partition, groups });
            if records == 0 || bytes == 0 {
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(batches)
    }

    async fn ready(&mut self) {
        if self.shared.inner.lock().parts.values().any(Part::has_any) {
            return;
        }
        // The sender lives as long as this member does.
        let _ = self.changes.changed().await;
    }

    async fn commit(&mut self, partition: u16, position: Position) -> Result<(), CommitError> {
        let Some((client, at, metadata)) = self.point(partition, position).await? else { return Ok(()) };
        let list = one(&self.shared.name, partition, at.offset, &metadata).map_err(CommitError::Unsure)?;
        let committing = blocking(move || client.commit(&list, CommitMode::Sync));
        let waited = tokio::time::timeout(self.shared.answer * 2, committing).await;
        let answer = match waited {
            Ok(answer) => answer.map_err(CommitError::Unsure)?,
            Err(_) => return Err(CommitError::Unsure("no broker answered in time".to_owned())),
        };
        if let Err(error) = answer {
            return Err(match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::FencedInstanceId
                    | RDKafkaErrorCode::AssignmentLost
                    | RDKafkaErrorCode::NoOffset,
                ) => self.lost(partition),
                _ => CommitError::Unsure(error.to_string()),
            });
        }
        let done = {
            let mut inner = self.shared.inner.lock();
            inner.parts.get_mut(&partition).map(|part| {
                part.committed(at);
                part.committed_offset().unwrap_or_default()
            })
        };
        if let Some(done) = done {
            self.trim.committed(partition, done).await;
        }
        Ok(())
    }

    async fn commit_soon(&mut self, partition: u16, position: Position) -> Result<(), CommitError> {
        let wanted = {
            let mut inner = self.shared.inner.lock();
            let part = inner.parts.get_mut(&partition).ok_or_else(|| self.lost(partition))?;
            match part.point(position) {
                Point::Done => Ok(None),
                Point::At(at) => {
                    part.want(at);
                    Ok(part.committed_offset())
                }
                unusual => Err(unusual),
            }
        };
        match wanted {
            Ok(Some(done)) => self.trim.committed(partition, done).await,
            Ok(None) => {}
            Err(_) => return self.commit(partition, position).await,
        }
        Ok(())
    }

    fn rewind(&mut self) {
        self.shared.inner.lock().parts.values_mut().for_each(Part::rewind);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.inner.lock().is_stopping = true;
        // The thread ends by itself when it has told the group; nobody waits for it.
        drop(self.thread.take());
    }
}
