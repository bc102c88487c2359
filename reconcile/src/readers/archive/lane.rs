//! Reading a node's lane: segments in order, groups that follow on, records with their meaning.
//!
//! Refused, with file and offset, is whatever the format forbids: a gap, a broken chain, a torn group, an unknown record.
//! In the lane of a cluster two things come to that: a *foreign mark* (an end mark that another node wrote: its header has no
//! position and no place in the chain, it stands at the position that comes next), and positions that are left out between
//! epochs (groups of an ended epoch that never left their node). They are allowed only where every earlier epoch
//! has ended, so that a missing file is not taken for them.
//!
//! An epoch is whole when it goes from its `EpochBegan` to the next epoch's first group, to its `Ended` mark, or to the end
//! of the log. Behind the first `Ended` mark of an epoch the records of that epoch and of every earlier one are
//! nothing: their bytes are still checked, but they make no award.

use super::bytes::{self, Fault, GROUP_HEADER, GroupHead, Record, SEGMENT_HEADER, SegmentHead};
use campaign::{NodeEpoch, NodeId};
use std::io::{self, Read};

/// Where in a file something is wrong.
#[derive(Debug, thiserror::Error)]
#[error("flow archive {file}, byte {offset}: {fault}")]
pub struct ArchiveError {
    /// The file.
    pub file: String,
    /// Offset of the group or header.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// Epoch of the group.
    pub epoch: NodeEpoch,
    /// Position of the group.
    pub position: u64,
}

/// State of a lane between two groups.
pub struct Lane {
    node: NodeId,
    epoch: Option<NodeEpoch>,
    position: u64,
    epoch_seq: u64,
    hash: [u8; 32],
    began: bool,
    /// Epochs up to this one are over.
    ended: Option<NodeEpoch>,
    body: Vec<u8>,
    groups: u64,
}

/// What a lane's records are handed to. An error refuses the archive at that group.
pub type Sink<'a> = dyn FnMut(Place, Record) -> Result<(), String> + 'a;

impl Lane {
    /// The lane of a node, before its first group.
    pub fn new(node: NodeId) -> Lane {
        Lane {
            node,
            epoch: None,
            position: 0,
            epoch_seq: 0,
            hash: [0; 32],
            began: false,
            ended: None,
            body: Vec::new(),
            groups: 0,
        }
    }

    /// Position that the next group must have.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Groups read.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Reads the next segment file. `last`: no file of this lane follows, so that zeros end the log.
    ///
    /// # Errors
    /// With the offset at which the file stops being what it should.
    pub fn segment(
        &mut self,
        head: &SegmentHead,
        file: &str,
        input: &mut dyn Read,
        sink: &mut Sink<'_>,
    ) -> Result<(), ArchiveError> {
        let mut offset = 0;
        let fail = |offset: u64| move |fault| ArchiveError { file: file.to_owned(), offset, fault };
        self.begin(head).map_err(fail(0))?;
        offset += SEGMENT_HEADER as u64;
        while let Some(len) = self.group(head, input, sink).map_err(fail(offset))? {
            offset += len;
        }
        Ok(())
    }

    /// Checks that the segment follows on.
    fn begin(&mut self, head: &SegmentHead) -> Result<(), Fault> {
        let same = |field, found, expected| {
            if found == expected { Ok(()) } else { Err(Fault::Gap { field, found, expected }) }
        };
        same("kind", u64::from(head.kind), 1)?;
        same("node", u64::from(head.node.0), u64::from(self.node.0))?;
        if !(head.first > self.position && self.may_leave_out(head.epoch)) {
            same("first", head.first, self.position)?;
        }
        match self.epoch {
            Some(epoch) if head.epoch < epoch => {
                return Err(Fault::Order(format!("epoch {} stands behind epoch {epoch}", head.epoch)));
            }
            Some(epoch) if head.epoch == epoch => {}
            _ => {
                self.epoch = Some(head.epoch);
                self.epoch_seq = 0;
                self.hash = bytes::chain_start(self.node, head.epoch);
                self.began = false;
            }
        }
        same("first_epoch_seq", head.first_epoch_seq, self.epoch_seq)?;
        if head.prev_hash != self.hash {
            return Err(Fault::Chain);
        }
        self.position = head.first;
        Ok(())
    }

    /// May positions be left out before this epoch? Then every epoch before it has ended.
    fn may_leave_out(&self, epoch: NodeEpoch) -> bool {
        self.epoch < Some(epoch) && self.ended.is_some_and(|ended| ended.0.saturating_add(1) >= epoch.0)
    }

    /// Reads a group; `None` at the end of the segment, else its bytes.
    fn group(
        &mut self,
        segment: &SegmentHead,
        input: &mut dyn Read,
        sink: &mut Sink<'_>,
    ) -> Result<Option<u64>, Fault> {
        let mut header = [0u8; GROUP_HEADER];
        let got = fill(input, &mut header)?;
        if header[..got].iter().all(|&b| b == 0) {
            return only_zeros(input).map(|()| None);
        }
        if got < GROUP_HEADER {
            return Err(Fault::Torn { what: "group header", missing: (GROUP_HEADER - got) as u64 });
        }
        let mut head = GroupHead::parse(&header)?;
        let is_mark = head.is_mark();
        if is_mark {
            self.mark(segment, &head)?;
        } else {
            self.follows(segment, &head)?;
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(head.body_len, 0);
        let got = fill(input, &mut body)?;
        if got < body.len() {
            return Err(Fault::Torn { what: "group body", missing: (body.len() - got) as u64 });
        }
        let hash = head.check_body(&header, &body)?;
        if is_mark {
            head.position = self.position;
            check_mark(&head, &body)?;
        } else {
            self.hash = hash;
            self.epoch_seq += 1;
        }
        self.position += 1;
        self.groups += 1;
        let place = Place { node: head.node, epoch: head.epoch, position: head.position };
        for (index, record) in (0..).zip(bytes::records(&body, head.record_count)) {
            self.record(place, record?, sink).map_err(|what| Fault::Record { index, what })?;
        }
        self.body = body;
        Ok(Some((GROUP_HEADER + head.body_len) as u64))
    }

    fn follows(&self, segment: &SegmentHead, head: &GroupHead) -> Result<(), Fault> {
        for (field, found, expected) in [
            ("kind", u64::from(head.kind), u64::from(segment.kind)),
            ("node", u64::from(head.node.0), u64::from(self.node.0)),
            ("epoch", u64::from(head.epoch.0), u64::from(segment.epoch.0)),
            ("position", head.position, self.position),
            ("epoch_seq", head.epoch_seq, self.epoch_seq),
        ] {
            if found != expected {
                return Err(Fault::Gap { field, found, expected });
            }
        }
        if head.record_count == 0 {
            return Err(Fault::Record { index: 0, what: "the group has no record".into() });
        }
        if head.prev_hash == self.hash { Ok(()) } else { Err(Fault::Chain) }
    }

    /// Checks the header of a foreign mark.
    fn mark(&self, segment: &SegmentHead, head: &GroupHead) -> Result<(), Fault> {
        for (field, found, expected) in [
            ("kind", u64::from(head.kind), u64::from(segment.kind)),
            ("node", u64::from(head.node.0), u64::from(self.node.0)),
            ("epoch", u64::from(head.epoch.0), u64::from(segment.epoch.0)),
            ("record_count", u64::from(head.record_count), 1),
        ] {
            if found != expected {
                return Err(Fault::Gap { field, found, expected });
            }
        }
        if self.ended >= Some(head.epoch) {
            return Err(Fault::Order(format!(
                "an end mark of epoch {} stands behind the end of epoch {}: the first counts, and an archive holds no other",
                head.epoch,
                self.ended.unwrap_or(head.epoch)
            )));
        }
        if head.prev_hash == [0; 32] { Ok(()) } else { Err(Fault::Chain) }
    }

    fn record(&mut self, place: Place, record: &[u8], sink: &mut Sink<'_>) -> Result<(), String> {
        let record = Record::parse(record)?;
        match &record {
            Record::EpochBegan { node, epoch } => {
                if (*node, *epoch) != (place.node, place.epoch) {
                    return Err(format!(
                        "EpochBegan names node {node} epoch {epoch}; the group is of node {} epoch {}",
                        place.node, place.epoch
                    ));
                }
                self.began = true;
            }
            Record::Ended { node, epoch } => {
                if *node != place.node {
                    return Err(format!("Ended names node {node} in the lane of node {}", place.node));
                }
                self.ended = self.ended.max(Some(*epoch));
            }
            Record::Won(_) | Record::LeaseGot(_) | Record::LeaseClosed { .. } => {
                if self.ended >= Some(place.epoch) {
                    return Ok(());
                }
                if !self.began {
                    return Err(format!(
                        "epoch {} has records before its EpochBegan: its beginning is missing",
                        place.epoch
                    ));
                }
            }
        }
        sink(place, record)
    }
}

/// The one record of a foreign mark ends the epoch that its header names.
fn check_mark(head: &GroupHead, body: &[u8]) -> Result<(), Fault> {
    let wrong = |what: String| Fault::Record { index: 0, what };
    for record in bytes::records(body, head.record_count) {
        let record = Record::parse(record?).map_err(wrong)?;
        if record != (Record::Ended { node: head.node, epoch: head.epoch }) {
            return Err(wrong(format!("an end mark of epoch {} holds something else", head.epoch)));
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the input ends; answers how much came.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Fault> {
    let mut got = 0;
    while got < buffer.len() {
        match input.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Fault::Io(e.to_string())),
        }
    }
    Ok(got)
}

fn only_zeros(input: &mut dyn Read) -> Result<(), Fault> {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        match fill(input, &mut buffer)? {
            0 => return Ok(()),
            n if buffer[..n].iter().any(|&b| b != 0) => return Err(Fault::BehindEnd),
            _ => {}
        }
    }
}
