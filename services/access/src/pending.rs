//! Pushes that wait for the turn of their connections, and how they are written.
//!
//! A worker has one pool of runs for all of its connections; a connection's line is a list within it, so that an idle
//! connection owns nothing and a pushed one allocates nothing. Batches are held as long as a run of theirs waits.
//!
//! A connection whose reader is behind gets no messages: its line is cut down to the newest cursor, which tells the device
//! to sync. So what a reader that does not read can make the server keep is bounded by a few bytes.

use std::sync::Arc;

use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};
use protocol::calls::{Part, PartKind, PushBatch, Target};
use protocol::frame::{FRAME_HEAD, FrameKind};
use protocol::v1;

use crate::counters::{Count, Counters};
use crate::limits::{GATEWAY_PUSH_PENDING_MAX, PUSH_OUT, PUSH_PATIENCE_MS, PUSH_PENDING_MAX};
use crate::pushes::{Parcel, Run};
use crate::slots::{Slot, Slots, parts};

const NONE: u32 = u32::MAX;

/// A pool larger than this is given back when it is empty.
const NODES_KEPT: usize = 16 * 1024;

/// What waits for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// The device is only told that there is something up to here; 0: it is not.
    bare: u64,
    first: u32,
    last: u32,
    targets: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { bare: 0, first: NONE, last: NONE, targets: 0 }
    }
}

impl Line {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == NONE && self.bare == 0
    }
}

#[derive(Clone, Copy)]
struct Node {
    held: u32,
    run: Run,
    next: u32,
}

struct Held {
    batch: Arc<PushBatch>,
    /// Runs that wait, and one while the batch is being sorted.
    uses: u32,
}

/// The pool of a worker.
pub(crate) struct Pending {
    nodes: Vec<Node>,
    free: u32,
    used: usize,
    held: Vec<Held>,
    free_held: Vec<u32>,
    nothing: Arc<PushBatch>,
}

/// Who is written to.
#[derive(Clone, Copy)]
pub(crate) struct Reader {
    /// Whether frames name user and device.
    pub gateway: bool,
    /// Largest body of a frame that it takes.
    pub body_max: usize,
}

impl Pending {
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            used: 0,
            held: Vec::new(),
            free_held: Vec::new(),
            nothing: Arc::default(),
        }
    }

    /// Lines up what has come, and wakes each connection for which nothing waited.
    pub fn sort(&mut self, slots: &mut Slots, parcels: Vec<Parcel>, mono_ms: u64, counters: &Counters) {
        for parcel in parcels {
            let held = self.hold(Arc::clone(&parcel.batch));
            for run in parcel.runs {
                let Target { connection, user, device, .. } = parcel.batch.targets[run.start as usize];
                let (_, place, generation) = parts(connection);
                match slots.addressed(place, generation).filter(|slot| slot.is_of(user, device)) {
                    Some(slot) => self.line_up(slot, held, run, mono_ms, counters),
                    None => counters.add(Count::PushesStale, run.count.into()),
                }
            }
            self.release(held);
        }
    }

    fn line_up(&mut self, slot: &mut Slot, held: u32, run: Run, mono_ms: u64, counters: &Counters) {
        let idle = slot.line.is_empty();
        if slot.carries() {
            if slot.line.targets + run.count > GATEWAY_PUSH_PENDING_MAX {
                counters.add(Count::PushesDropped, run.count.into());
                return;
            }
            self.append(&mut slot.line, held, run);
        } else if slot.line.targets + run.count > PUSH_PENDING_MAX
            || slot.waits_longer(mono_ms, PUSH_PATIENCE_MS)
        {
            counters.add(Count::PushesBare, u64::from(slot.line.targets + run.count));
            let last = (run.start + run.count - 1) as usize;
            let newest = self.held[held as usize].batch.targets[last].cursor;
            self.clear(&mut slot.line);
            slot.line.bare = slot.line.bare.max(newest);
        } else {
            self.append(&mut slot.line, held, run);
        }
        if idle {
            slot.wake();
        }
    }

    fn append(&mut self, line: &mut Line, held: u32, run: Run) {
        self.held[held as usize].uses += 1;
        self.used += 1;
        let node = Node { held, run, next: NONE };
        let place = if self.free == NONE {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            let place = self.free;
            self.free = self.nodes[place as usize].next;
            self.nodes[place as usize] = node;
            place
        };
        if line.last == NONE {
            line.first = place;
        } else {
            self.nodes[line.last as usize].next = place;
        }
        line.last = place;
        line.targets += run.count;
    }

    /// Takes the first run off the line.
    fn drop_first(&mut self, line: &mut Line) {
        let place = line.first;
        let Node { held, run, next } = self.nodes[place as usize];
        line.first = next;
        line.targets -= run.count;
        if next == NONE {
            line.last = NONE;
        }
        self.nodes[place as usize].next = self.free;
        self.free = place;
        self.used -= 1;
        self.release(held);
        if self.used == 0 && self.nodes.len() > NODES_KEPT {
            (self.nodes, self.free) = (Vec::new(), NONE);
        }
    }

    /// Lets go of all that waits in a line, except how far its device is to sync.
    pub fn clear(&mut self, line: &mut Line) {
        while line.first != NONE {
            self.drop_first(line);
        }
    }

    fn hold(&mut self, batch: Arc<PushBatch>) -> u32 {
        let held = Held { batch, uses: 1 };
        match self.free_held.pop() {
            Some(place) => {
                self.held[place as usize] = held;
                place
            }
            None => {
                self.held.push(held);
                self.held.len() as u32 - 1
            }
        }
    }

    fn release(&mut self, place: u32) {
        let held = &mut self.held[place as usize];
        held.uses -= 1;
        if held.uses == 0 {
            held.batch = Arc::clone(&self.nothing);
            self.free_held.push(place);
        }
    }

    /// Writes what waits in a line, as much as one write should have.
    pub fn write(&mut self, line: &mut Line, reader: Reader, out: &mut Vec<u8>, counters: &Counters) {
        let enough = out.len() + PUSH_OUT;
        let mut writer = Writer { out, reader, open: None, frames: 0, parts: 0 };
        let bare = std::mem::take(&mut line.bare);
        if bare != 0 {
            writer.begin(0, 0, bare, bare);
            writer.end();
        }
        while line.first != NONE && writer.out.len() < enough {
            let node = &self.nodes[line.first as usize];
            let batch = &self.held[node.held as usize].batch;
            let (start, count) = (node.run.start as usize, node.run.count as usize);
            let mut done = 0;
            for target in &batch.targets[start..start + count] {
                if writer.out.len() >= enough {
                    break;
                }
                writer.add(batch, target);
                done += 1;
            }
            if done == node.run.count {
                self.drop_first(line);
            } else {
                let run = &mut self.nodes[line.first as usize].run;
                (run.start, run.count) = (run.start + done, run.count - done);
                line.targets -= done;
            }
        }
        writer.end();
        counters.add(Count::Pushes, writer.frames);
        counters.add(Count::Pushed, writer.parts);
    }
}

/// Writes Push frames.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    reader: Reader,
    open: Option<Open>,
    frames: u64,
    parts: u64,
}

/// The frame that is being written.
#[derive(Clone, Copy)]
struct Open {
    start: usize,
    user: u64,
    device: u64,
    after: u64,
    cursor: u64,
    parts: u32,
}

/// A field's number and wire type in one byte, as all of these have.
mod tag {
    pub const PUSH_USER: u8 = 0x08;
    pub const PUSH_DEVICE: u8 = 0x10;
    pub const PUSH_AFTER: u8 = 0x18;
    pub const PUSH_CURSOR: u8 = 0x20;
    pub const PUSH_ENTRY: u8 = 0x2a;
    pub const PUSH_HEAD: u8 = 0x32;
    pub const PUSH_READ: u8 = 0x3a;
    pub const PUSH_PRESENCE: u8 = 0x42;
    pub const ENTRY_CURSOR: u8 = 0x08;
    pub const ENTRY_CONVERSATION: u8 = 0x10;
    pub const ENTRY_SEQ: u8 = 0x18;
    pub const ENTRY_MESSAGE: u8 = 0x22;
}

/// Most bytes of a number with its tag.
const NUMBER_MAX: usize = 11;

impl Writer<'_> {
    /// Adds a target to the frame that is open, or to a new one where the open one can't say the truth: another device, a
    /// gap, or entries that were pushed before.
    fn add(&mut self, batch: &PushBatch, target: &Target) {
        let Some((part, bytes)) = part_of(batch, target) else { return };
        if part.kind == PartKind::Bare {
            // Only how far its timeline has come: a device that is behind syncs.
            self.end();
            self.begin(target.user, target.device, target.after, target.cursor);
            return self.end();
        }
        let same = self.open.filter(|open| (open.user, open.device) == (target.user, target.device));
        if matches!(part.kind, PartKind::Message { .. })
            && same.is_some_and(|open| open.after < target.cursor && target.cursor <= open.cursor)
        {
            // Pushed once more while the first time was still waiting.
            return;
        }
        let goes_on = same.is_some_and(|open| {
            (open.after..=open.cursor).contains(&target.after) && open.cursor <= target.cursor
        });
        if !goes_on {
            self.end();
            self.begin(target.user, target.device, target.after, target.after);
        }
        if !self.fits(size_of(part, bytes.len(), target)) {
            if let Some(open) = self.open.filter(|open| open.parts > 0) {
                self.end();
                self.begin(open.user, open.device, open.cursor, open.cursor);
            }
            if !self.fits(size_of(part, bytes.len(), target)) {
                return self.shorten(part, bytes, target);
            }
        }
        self.put(part, Some(bytes), target);
    }

    /// What is larger than the client's frames is pushed without its messages.
    fn shorten(&mut self, part: &Part, bytes: &[u8], target: &Target) {
        match part.kind {
            PartKind::Message { .. } => self.put(part, None, target),
            PartKind::Head => {
                if let Ok(mut head) = v1::Head::decode(bytes) {
                    head.messages.clear();
                    self.put(part, Some(&head.encode_to_vec()), target);
                }
            }
            // Some bytes; they fit the smallest frame that a client may name.
            PartKind::Read | PartKind::Presence | PartKind::Bare => {}
        }
    }

    fn fits(&self, size: usize) -> bool {
        let written = self.open.map_or(0, |open| self.out.len() - open.start - FRAME_HEAD);
        written + size + NUMBER_MAX <= self.reader.body_max
    }

    fn begin(&mut self, user: u64, device: u64, after: u64, cursor: u64) {
        let start = self.out.len();
        self.open = Some(Open { start, user, device, after, cursor, parts: 0 });
        // Pushes are nobody's answer: their id is 0.
        self.out.extend_from_slice(&[0, 0, 0, 0, FrameKind::Push as u8, 0, 0, 0, 0]);
        if self.reader.gateway {
            number(self.out, tag::PUSH_USER, user);
            number(self.out, tag::PUSH_DEVICE, device);
        }
        number(self.out, tag::PUSH_AFTER, after);
    }

    fn put(&mut self, part: &Part, bytes: Option<&[u8]>, target: &Target) {
        let out = &mut *self.out;
        match part.kind {
            PartKind::Message { conversation, seq } => {
                out.push(tag::PUSH_ENTRY);
                encode_varint(
                    entry_size(conversation, seq, target.cursor, bytes.map(<[u8]>::len)) as u64,
                    out,
                );
                number(out, tag::ENTRY_CURSOR, target.cursor);
                number(out, tag::ENTRY_CONVERSATION, conversation);
                number(out, tag::ENTRY_SEQ, seq);
                if let Some(bytes) = bytes {
                    delimited(out, tag::ENTRY_MESSAGE, bytes);
                }
            }
            PartKind::Head => delimited(out, tag::PUSH_HEAD, bytes.unwrap_or_default()),
            PartKind::Read => delimited(out, tag::PUSH_READ, bytes.unwrap_or_default()),
            PartKind::Presence => delimited(out, tag::PUSH_PRESENCE, bytes.unwrap_or_default()),
            PartKind::Bare => {}
        }
        if let Some(open) = &mut self.open {
            open.parts += 1;
            open.cursor = open.cursor.max(target.cursor);
        }
        self.parts += 1;
    }

    fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        number(self.out, tag::PUSH_CURSOR, open.cursor);
        let length = (self.out.len() - open.start - 4) as u32;
        self.out[open.start..open.start + 4].copy_from_slice(&length.to_le_bytes());
        self.frames += 1;
    }
}

/// A target's part with its bytes; none where the batch contradicts itself.
fn part_of<'a>(batch: &'a PushBatch, target: &Target) -> Option<(&'a Part, &'a [u8])> {
    let part = batch.parts.get(target.message as usize)?;
    let bytes = batch.bytes.get(part.bytes.start as usize..part.bytes.end as usize)?;
    Some((part, bytes))
}

fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    encode_varint(value, out);
}

fn delimited(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    number(out, tag, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn delimited_size(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

fn entry_size(conversation: u64, seq: u64, cursor: u64, message: Option<usize>) -> usize {
    let numbers: usize = [conversation, seq, cursor].iter().map(|n| 1 + encoded_len_varint(*n)).sum();
    numbers + message.map_or(0, delimited_size)
}

fn size_of(part: &Part, bytes: usize, target: &Target) -> usize {
    match part.kind {
        PartKind::Message { conversation, seq } => {
            delimited_size(entry_size(conversation, seq, target.cursor, Some(bytes)))
        }
        PartKind::Head | PartKind::Read | PartKind::Presence => delimited_size(bytes),
        PartKind::Bare => 0,
    }
}

#[cfg(test)]
mod tests;
