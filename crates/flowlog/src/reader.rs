//! Reading a log in order, beside its writer or long after it.
//!
//! A reader checks CRCs and the hash chain from where it begins, and never looks behind the limit that it is given (the
//! writer's durable end). Without a limit it reads to the end of the files. It changes nothing.

use std::path::{Path, PathBuf};

use crate::chain::Chain;
use crate::disk::Disk;
use crate::error::LogError;
use crate::format::{Defect, GroupHeader, Hash};
use crate::group::Group;
use crate::options::LogOptions;
use crate::position::Position;
use crate::segment::{self, Cursor, Found};

/// Reads groups in order from a position on.
pub struct LogReader<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: LogOptions,
    /// Where to begin, until the first segment is open.
    from: Position,
    open: Option<Open<D>>,
}

struct Open<D: Disk> {
    cursor: Cursor<D::File>,
    chain: Chain,
}

impl<D: Disk> LogReader<D> {
    /// A reader that begins at `from`, which may lie at or behind the end of the log. Only kind and node of the options
    /// matter. Nothing is opened yet.
    pub fn new(disk: D, dir: &Path, options: &LogOptions, from: Position) -> LogReader<D> {
        LogReader { disk, dir: dir.to_owned(), options: options.clone(), from, open: None }
    }

    /// The position of the group that comes next.
    pub fn position(&self) -> Position {
        self.open.as_ref().map_or(self.from, |o| o.chain.next)
    }

    /// Hash of the group before the next one (or the start of the epoch's chain), once something was read.
    pub fn head_hash(&self) -> Option<Hash> {
        self.open.as_ref().map(|o| o.chain.head)
    }

    /// The next group below `limit`, or none when there is none yet. With a real limit (not [`Position::MAX`]) a group
    /// below it that isn't there is corruption.
    pub fn next_group(&mut self, limit: Position) -> Result<Option<Group<'_>>, LogError> {
        let Some(header) = self.find(limit)? else { return Ok(None) };
        self.take(header).map(Some)
    }

    /// The next groups below `limit`, as many as fit into `max_bytes`, but at least one if there is one.
    pub fn read_batch(&mut self, limit: Position, max_bytes: usize) -> Result<Batch, LogError> {
        let mut batch = Batch::default();
        while let Some(header) = self.find(limit)? {
            if !batch.groups.is_empty() && batch.bytes.len() + header.group_len() > max_bytes {
                break;
            }
            let group = self.take(header)?;
            batch.groups.push((group.header.clone(), group.hash, batch.bytes.len()));
            batch.bytes.extend_from_slice(group.bytes);
        }
        Ok(batch)
    }

    /// Looks for the next group below `limit`; leaves the cursor before it.
    fn find(&mut self, limit: Position) -> Result<Option<GroupHeader>, LogError> {
        if self.position() >= limit {
            return Ok(None);
        }
        if self.open.is_none() && !self.begin(limit)? {
            return Ok(None);
        }
        loop {
            let Some(open) = self.open.as_mut() else { return Ok(None) };
            let stale = open.cursor.is_stale();
            match open.cursor.look().map_err(LogError::io("read", &open.cursor.path))? {
                Found::Group(header) => return Ok(Some(header)),
                // Read ahead before the writer got here: look again at what is there now.
                _ if stale => open.cursor.refresh(),
                Found::End => {
                    if !self.next_segment(limit)? {
                        return Ok(None);
                    }
                }
                Found::Defect(Defect::Newer(found)) => return Err(segment::newer(&open.cursor.path, found)),
                Found::Defect(Defect::Damaged(why)) => {
                    return Err(segment::corrupt(
                        &open.cursor.path,
                        open.cursor.offset(),
                        open.chain.next,
                        why,
                    ));
                }
            }
        }
    }

    /// Checks the group that `find` found against the chain, and steps over it.
    fn take(&mut self, header: GroupHeader) -> Result<Group<'_>, LogError> {
        // `find` returned a header, so a segment is open.
        let Some(Open { cursor, chain }) = self.open.as_mut() else {
            return Err(LogError::Options("a group was taken that wasn't found".to_owned()));
        };
        let hash = chain
            .follow_group(&header, cursor.group(&header))
            .map_err(|why| segment::corrupt(&cursor.path, cursor.offset(), chain.next, why))?;
        cursor.advance(header.group_len());
        let bytes = cursor.before(header.group_len());
        Ok(Group { header, bytes, hash })
    }

    /// Opens the segment that holds the first position and goes to it. False when the log doesn't reach it yet.
    fn begin(&mut self, limit: Position) -> Result<bool, LogError> {
        let firsts = segment::list(&self.disk, &self.dir)?;
        let Some(first) = firsts.first().copied() else { return self.missing(limit, self.from) };
        let Some(index) = firsts.partition_point(|f| *f <= self.from).checked_sub(1) else {
            return Err(LogError::Removed { wanted: self.from, first });
        };
        let (mut cursor, header) = self.open_segment(firsts[index], Vec::new())?;
        let mut chain = Chain::at_segment(&header);
        while chain.next < self.from {
            // Groups on the way are only stepped over; the chain is taken up from the header that follows them.
            match cursor.look_header().map_err(LogError::io("read", &cursor.path))? {
                Found::Group(h) if h.position == chain.next => {
                    cursor.advance(h.group_len());
                    chain.next = h.position.next();
                    chain.next_seq = h.epoch_seq + 1;
                }
                Found::Group(_) | Found::Defect(Defect::Damaged(_)) => {
                    let why = "no whole group of this position stands here";
                    return Err(segment::corrupt(&cursor.path, cursor.offset(), chain.next, why));
                }
                Found::Defect(Defect::Newer(found)) => return Err(segment::newer(&cursor.path, found)),
                Found::End if index + 1 < firsts.len() => {
                    let why = "the segment ends before the next one begins";
                    return Err(segment::corrupt(&cursor.path, cursor.offset(), chain.next, why));
                }
                Found::End => return self.missing(limit, chain.next),
            }
        }
        if self.from > header.first {
            match cursor.look_header().map_err(LogError::io("read", &cursor.path))? {
                Found::Group(h) => chain.head = h.prev_hash,
                // At the end of the segment the next one says it, or it isn't written yet.
                _ if index + 1 == firsts.len() => return self.missing(limit, self.from),
                _ => {}
            }
        }
        self.open = Some(Open { cursor, chain });
        Ok(true)
    }

    /// No group stands at `at`: fine without a limit or behind it, corruption below it.
    fn missing(&self, limit: Position, at: Position) -> Result<bool, LogError> {
        if limit == Position::MAX || at >= limit {
            return Ok(false);
        }
        Err(segment::corrupt(&self.dir, 0, at, format!("the log ends here, but must reach group {limit}")))
    }

    /// Goes over to the segment that follows. False when there is none and none need be.
    fn next_segment(&mut self, limit: Position) -> Result<bool, LogError> {
        let Some(Open { cursor, mut chain }) = self.open.take() else { return Ok(false) };
        self.from = chain.next;
        let firsts = segment::list(&self.disk, &self.dir)?;
        let path = cursor.path.clone();
        let at = cursor.offset();
        // The file that is open now has a name below or equal to the next position (equal only while it is empty).
        let next =
            firsts.iter().copied().find(|f| *f >= chain.next && path != self.dir.join(segment::name(*f)));
        match next {
            Some(first) if first == chain.next => {
                let (cursor, header) = self.open_segment(first, cursor.into_buf())?;
                chain.follow_segment(&header).map_err(|why| segment::corrupt(&cursor.path, 0, first, why))?;
                self.open = Some(Open { cursor, chain });
                Ok(true)
            }
            Some(first) => {
                let why = format!("the segment ends here, but the next one begins at group {first}");
                Err(segment::corrupt(&path, at, chain.next, why))
            }
            None if limit == Position::MAX => {
                self.open = Some(Open { cursor, chain });
                Ok(false)
            }
            None => {
                let why = format!("the log ends here, but must reach group {limit}");
                Err(segment::corrupt(&path, at, chain.next, why))
            }
        }
    }

    fn open_segment(&self, first: Position, buf: Vec<u8>) -> Result<segment::Opened<D>, LogError> {
        match segment::open(&self.disk, &self.dir, first, &self.options, buf)? {
            Ok(opened) => Ok(opened),
            Err(why) => Err(segment::corrupt(&self.dir.join(segment::name(first)), 0, first, why)),
        }
    }
}

/// Some groups in one buffer.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    groups: Vec<(GroupHeader, Hash, usize)>,
}

impl Batch {
    /// How many groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True without groups.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All groups' bytes, one behind the other, as they stand in the files.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The groups in order.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.groups.iter().map(|(header, hash, at)| Group {
            header: header.clone(),
            bytes: &self.bytes[*at..*at + header.group_len()],
            hash: *hash,
        })
    }
}
