//! Reads stretches of lanes without being a member of a group.
//!
//! A stretch is read forward from the nearest place whose state is known: one that this process has passed, one that stands
//! beside a commit of a group that reads lanes, or else the lane's beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;

use super::Kafka;
use super::checkpoints::{Checkpoint, Checkpoints};
use super::client::{KafkaOptions, Plain};
use super::lookup::{Lookup, one};
use crate::lanes::{LaneError, LaneRead, LaneState, RawGroup, Verdict};
use crate::{LANE, Position};

/// Group under which places are written down by readers without a group.
const GROUP: &str = "lanes";
/// A read ends when its groups have so many bytes together.
const READ_BYTES_MAX: usize = 32 << 20;
/// Messages after which a place is worth being written down.
const WORTH: i64 = 4096;

/// Reads lanes.
#[derive(Clone)]
pub(crate) struct LaneReader {
    kafka: Kafka,
    lookup: Lookup,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    places: Mutex<BTreeMap<u16, Places>>,
    /// One read at a time, by one client that is made with the first.
    client: tokio::sync::Mutex<Option<Arc<BaseConsumer<Plain>>>>,
}

#[derive(Default)]
struct Places {
    known: Checkpoints,
    /// Where this process read last.
    last: Option<Checkpoint>,
    written: i64,
}

/// What a scan is to bring.
#[derive(Clone, Copy)]
struct Wanted {
    from: Position,
    max_groups: usize,
}

/// What a scan brought.
struct Scanned {
    at: Checkpoint,
    passed: Checkpoints,
    groups: Vec<RawGroup>,
    at_end: bool,
}

impl LaneReader {
    pub fn new(kafka: &Kafka) -> LaneReader {
        let lookup = Lookup::new(kafka.options.clone(), kafka.troubles.clone());
        LaneReader { kafka: kafka.clone(), lookup, shared: Arc::default() }
    }

    /// The state behind the last message.
    pub async fn end(&self, node: u16) -> Result<LaneState, LaneError> {
        let wanted = Wanted { from: Position::MAX, max_groups: 0 };
        Ok(self.scan(node, wanted).await?.at.state)
    }

    /// Groups that count, from a position on.
    pub async fn read(
        &self,
        node: u16,
        from: Position,
        max_groups: usize,
    ) -> Result<LaneRead<RawGroup>, LaneError> {
        let scanned = self.scan(node, Wanted { from, max_groups }).await?;
        Ok(LaneRead { groups: scanned.groups, at_end: scanned.at_end })
    }

    async fn scan(&self, node: u16, wanted: Wanted) -> Result<Scanned, LaneError> {
        let lanes = self.kafka.options.lanes;
        if node >= lanes {
            return Err(LaneError::UnknownLane { node, lanes });
        }
        let mut client = self.shared.client.lock().await;
        let (low, high) = self.lookup.watermarks(LANE, node).await.map_err(LaneError::Unavailable)?;
        let start = self.start(node, wanted.from, high).await?;
        if start.offset < low {
            return Err(LaneError::Unavailable(format!(
                "the lane of node {node} begins at offset {low}: what stood before it was removed, but lanes are kept for ever"
            )));
        }
        let reader = match &*client {
            Some(reader) => Arc::clone(reader),
            None => Arc::clone(client.insert(self.client()?)),
        };
        let (topic, options) = (self.kafka.options.topic(LANE), self.kafka.options.clone());
        let task = move || run(&reader, &options, &topic, node, start, high, wanted);
        let scanned = super::blocking(task).await.map_err(LaneError::Unavailable)?;
        if matches!(scanned, Err(LaneError::Unavailable(_))) {
            // A new client knows no broker that has gone.
            *client = None;
        }
        let scanned = scanned?;
        self.remember(node, &scanned);
        Ok(scanned)
    }

    fn client(&self) -> Result<Arc<BaseConsumer<Plain>>, LaneError> {
        let config = self.kafka.options.consumer(&self.kafka.options.group(LANE, GROUP));
        let client = config.create_with_context(Plain(self.kafka.troubles.clone()));
        Ok(Arc::new(client.map_err(|e| LaneError::Unavailable(e.to_string()))?))
    }

    /// The nearest place with a known state from which `from` is reached.
    async fn start(&self, node: u16, from: Position, high: i64) -> Result<Checkpoint, LaneError> {
        let own = {
            let places = self.shared.places.lock();
            let of = places.get(&node);
            let last = of.and_then(|p| p.last).filter(|c| c.state.next <= from);
            last.or_else(|| of.and_then(|p| p.known.before(from)))
        };
        let mut best = own.unwrap_or(Checkpoint::ORIGIN);
        // Worth asking about only when there is much to read.
        if high - best.offset > WORTH {
            let groups = [GROUP.to_owned()].into_iter().chain(self.kafka.options.lane_groups.iter().cloned());
            for group in groups {
                let name = self.kafka.options.group(LANE, &group);
                let committed =
                    self.lookup.committed(LANE, &name, &[node]).await.map_err(LaneError::Unavailable)?;
                let text = committed.into_iter().next().flatten().map(|c| c.metadata).unwrap_or_default();
                let found = Checkpoints::from_text(&text).and_then(|c| c.before(from));
                best = found.filter(|c| c.offset > best.offset && c.offset <= high).unwrap_or(best);
            }
        }
        Ok(best)
    }

    fn remember(&self, node: u16, scanned: &Scanned) {
        let mut all = self.shared.places.lock();
        let places = all.entry(node).or_default();
        if places.last.is_none_or(|last| last.offset < scanned.at.offset) {
            scanned.passed.each(|c| places.known.reached(c));
            places.last = Some(scanned.at);
            if scanned.at.offset >= places.written + WORTH {
                places.written = scanned.at.offset;
                let group = self.kafka.options.group(LANE, GROUP);
                let text = places.known.to_text(scanned.at);
                self.lookup.commit_loosely(LANE, &group, node, scanned.at.offset, &text);
            }
        }
    }
}

/// Reads from a place up to `high` or until there is enough. Blocks, never for long without a message.
fn run(
    reader: &BaseConsumer<Plain>,
    options: &KafkaOptions,
    topic: &str,
    node: u16,
    start: Checkpoint,
    high: i64,
    wanted: Wanted,
) -> Result<Scanned, LaneError> {
    let mut scanned = Scanned {
        at: start,
        passed: Checkpoints::default(),
        groups: Vec::new(),
        at_end: start.offset >= high,
    };
    if scanned.at_end {
        return Ok(scanned);
    }
    let unavailable = |why: String| LaneError::Unavailable(format!("lane of node {node}: {why}"));
    let assignment = one(topic, node, start.offset, "").map_err(unavailable)?;
    reader.assign(&assignment).map_err(|e| unavailable(e.to_string()))?;
    let result = drive(reader, options, node, high, wanted, &mut scanned);
    if let Err(error) = reader.unassign() {
        tracing::debug!(%error, "leaving a lane");
    }
    result.map(|()| scanned)
}

fn drive(
    reader: &BaseConsumer<Plain>,
    options: &KafkaOptions,
    node: u16,
    high: i64,
    wanted: Wanted,
    scanned: &mut Scanned,
) -> Result<(), LaneError> {
    let patience_ns = options.answer.as_nanos() as u64;
    let (mut heard_ns, mut bytes) = (options.clock.mono_ns(), 0);
    while scanned.at.offset < high {
        let message = match reader.poll(std::time::Duration::from_millis(100)) {
            Some(Ok(message)) => message,
            Some(Err(error))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) =>
            {
                return Err(LaneError::Unavailable(format!("lane of node {node}: {error}")));
            }
            other => {
                if options.clock.mono_ns().saturating_sub(heard_ns) > patience_ns {
                    let why = other.and_then(|r| r.err()).map(|e| e.to_string()).unwrap_or_default();
                    return Err(LaneError::Unavailable(format!(
                        "lane of node {node}: no broker sends it. {why}"
                    )));
                }
                continue;
            }
        };
        // What was on its way for a read before this one.
        if message.partition() != i32::from(node) || message.offset() != scanned.at.offset {
            continue;
        }
        heard_ns = options.clock.mono_ns();
        let payload = message.payload().unwrap_or_default();
        let mut state = scanned.at.state;
        let verdict = match state.accept(node, payload) {
            Ok(verdict) => verdict,
            // Enough was found before the damage.
            Err(_) if wanted.max_groups > 0 && scanned.groups.len() >= wanted.max_groups => return Ok(()),
            Err(fault) => return Err(fault.into()),
        };
        if let Verdict::Accepted(place) = verdict
            && place.position >= wanted.from
        {
            bytes += payload.len();
            if scanned.groups.len() >= wanted.max_groups
                || (bytes > READ_BYTES_MAX && !scanned.groups.is_empty())
            {
                return Ok(());
            }
            scanned.groups.push(RawGroup { place, bytes: Bytes::copy_from_slice(payload) });
        }
        scanned.at = Checkpoint { offset: scanned.at.offset + 1, state };
        scanned.passed.reached(scanned.at);
    }
    scanned.at_end = true;
    Ok(())
}
