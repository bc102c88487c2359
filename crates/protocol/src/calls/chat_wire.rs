//! The bodies of chat's frames: between the types of the traits and those of the wire.
//!
//! Pushes are cut to frames here: a part is in each frame that has a target of it, once.

use super::chat::{ConnectionAt, DeviceAt, Part, PartKind, PushBatch, SendCall, Target};
use super::limits::{CALL_FRAME_MAX, PUSH_FRAME_BYTES};
use super::wire::{CallKind, put_message, v1};
use crate::frame::put_parts;
use prost::Message;
use v1::ChatStep;

/// Bytes of a target or a part in a frame, about.
const ROW: usize = 56;

/// What stands in a frame of pushes and does not fit together.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub(super) enum PushesError {
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    #[error("part kind {0} is unknown here")]
    Kind(i32),
    #[error("parts of {parts} bytes, and {bytes} bytes are there")]
    Bytes { parts: usize, bytes: usize },
    #[error("a target of part {message}, and there are {parts}")]
    Target { message: u32, parts: usize },
}

/// A device with its step.
pub(super) fn step(step: ChatStep, device: DeviceAt, cursor: u64) -> v1::ChatDevice {
    let DeviceAt { user, device, at } = device;
    v1::ChatDevice { step: step.into(), user, device, connection: at.connection, cursor, watches: Vec::new() }
}

/// A device that is told of again, with those whose presence it watches.
pub(super) fn again(device: DeviceAt, watches: &[u64]) -> v1::ChatDevice {
    v1::ChatDevice { watches: watches.to_vec(), ..step(ChatStep::ArrivedAgain, device, 0) }
}

/// Who is meant by a row of this access node.
pub(super) fn device_of(access: u16, row: &v1::ChatDevice) -> DeviceAt {
    let at = ConnectionAt { access, connection: row.connection };
    DeviceAt { user: row.user, device: row.device, at }
}

/// Appends frames of steps: one, unless they are very many, or many of them watch very many.
pub(super) fn put_steps(out: &mut Vec<u8>, steps: impl Iterator<Item = v1::ChatDevice>) {
    let (mut frame, mut weight) = (v1::ChatDevices::default(), 0);
    for row in steps {
        weight += ROW + 8 * row.watches.len();
        frame.devices.push(row);
        if weight > PUSH_FRAME_BYTES {
            put_message(out, CallKind::ChatDevices, 0, &std::mem::take(&mut frame));
            weight = 0;
        }
    }
    if !frame.devices.is_empty() {
        put_message(out, CallKind::ChatDevices, 0, &frame);
    }
}

/// Appends a message's row to a frame of sends.
fn put_send(out: &mut Vec<u8>, mark: u64, call: SendCall) {
    let row = v1::ChatSend { mark, connection: call.from.connection, send: Some(call.send) };
    prost::encoding::message::encode(1, &row, out);
}

/// Appends frames of messages, marked with rising numbers from `mark` on.
pub(super) fn put_sends(out: &mut Vec<u8>, mark: u64, calls: &mut Vec<SendCall>) {
    let mut calls = calls.drain(..).zip(mark..).peekable();
    while calls.peek().is_some() {
        put_parts(out, CallKind::ChatSends as u8, 0, |out| {
            let end = out.len() + PUSH_FRAME_BYTES;
            while out.len() < end
                && let Some((call, mark)) = calls.next()
            {
                put_send(out, mark, call);
            }
        });
    }
}

/// Appends frames of answers.
pub(super) fn put_replies(out: &mut Vec<u8>, replies: &mut Vec<super::SendReply>) {
    let mut replies = replies.drain(..).peekable();
    while replies.peek().is_some() {
        put_parts(out, CallKind::ChatReplies as u8, 0, |out| {
            let end = out.len() + PUSH_FRAME_BYTES;
            while out.len() < end
                && let Some(reply) = replies.next()
            {
                let row = v1::ChatReply { mark: reply.tag, answer: Some(reply.answer) };
                prost::encoding::message::encode(1, &row, out);
            }
        });
    }
}

/// How much a batch takes in memory and on the wire, about.
pub(super) fn weight(batch: &PushBatch) -> usize {
    batch.bytes.len() + (batch.parts.len() + batch.targets.len()) * ROW
}

/// Appends a batch as frames of pushes, each not much larger than [`PUSH_FRAME_BYTES`]. Targets of parts that are not there
/// are left out.
pub(super) fn put_pushes(out: &mut Vec<u8>, batch: &PushBatch) {
    let mut frame = Frame::default();
    for target in &batch.targets {
        if frame.weight > PUSH_FRAME_BYTES {
            std::mem::take(&mut frame).put(out);
        }
        frame.add(batch, target);
    }
    frame.put(out);
}

/// A frame of pushes that is being put together.
#[derive(Default)]
struct Frame {
    pushes: v1::ChatPushes,
    /// For each part of the batch its number in the frame, plus 1; 0: it is not in it.
    numbers: Vec<u32>,
    weight: usize,
}

impl Frame {
    fn add(&mut self, batch: &PushBatch, target: &Target) {
        if self.numbers.is_empty() {
            self.numbers.resize(batch.parts.len(), 0);
        }
        let Some(number) = self.numbers.get_mut(target.message as usize) else { return };
        if *number == 0 {
            let part = &batch.parts[target.message as usize];
            let Some(bytes) = batch.bytes.get(part.bytes.start as usize..part.bytes.end as usize) else {
                return;
            };
            self.pushes.bytes.extend_from_slice(bytes);
            self.pushes.parts.push(part_row(part.kind, bytes.len()));
            *number = self.pushes.parts.len() as u32;
            self.weight += bytes.len() + ROW;
        }
        self.weight += ROW;
        self.pushes.targets.push(v1::ChatTarget {
            connection: target.connection,
            user: target.user,
            device: target.device,
            after: target.after,
            cursor: target.cursor,
            message: *number - 1,
        });
    }

    fn put(self, out: &mut Vec<u8>) {
        if !self.pushes.targets.is_empty() {
            put_message(out, CallKind::ChatPushes, 0, &self.pushes);
        }
    }
}

fn part_row(kind: PartKind, size: usize) -> v1::ChatPart {
    let (kind, conversation, seq) = match kind {
        PartKind::Message { conversation, seq } => (v1::ChatPartKind::Message, conversation, seq),
        PartKind::Head => (v1::ChatPartKind::Head, 0, 0),
        PartKind::Read => (v1::ChatPartKind::Read, 0, 0),
        PartKind::Presence => (v1::ChatPartKind::Presence, 0, 0),
        PartKind::Bare => (v1::ChatPartKind::Bare, 0, 0),
    };
    v1::ChatPart { kind: kind.into(), size: size as u32, conversation, seq }
}

/// Reads a frame of pushes.
pub(super) fn read_pushes(body: &[u8]) -> Result<PushBatch, PushesError> {
    let v1::ChatPushes { bytes, parts, targets } = v1::ChatPushes::decode(body)?;
    let mut at = 0usize;
    let mut read = Vec::with_capacity(parts.len());
    for row in &parts {
        let kind = match v1::ChatPartKind::try_from(row.kind) {
            Ok(v1::ChatPartKind::Message) => {
                PartKind::Message { conversation: row.conversation, seq: row.seq }
            }
            Ok(v1::ChatPartKind::Head) => PartKind::Head,
            Ok(v1::ChatPartKind::Read) => PartKind::Read,
            Ok(v1::ChatPartKind::Presence) => PartKind::Presence,
            Ok(v1::ChatPartKind::Bare) => PartKind::Bare,
            Ok(v1::ChatPartKind::Unspecified) | Err(_) => return Err(PushesError::Kind(row.kind)),
        };
        let start = at;
        // A frame is far smaller than 4 GiB, so that sizes that add up to more are found here.
        at = at.saturating_add(row.size as usize);
        if at > bytes.len() {
            return Err(PushesError::Bytes { parts: at, bytes: bytes.len() });
        }
        read.push(Part { kind, bytes: start as u32..at as u32 });
    }
    if at != bytes.len() {
        return Err(PushesError::Bytes { parts: at, bytes: bytes.len() });
    }
    let target = |row: v1::ChatTarget| {
        if row.message as usize >= read.len() {
            return Err(PushesError::Target { message: row.message, parts: read.len() });
        }
        Ok(Target {
            connection: row.connection,
            user: row.user,
            device: row.device,
            after: row.after,
            cursor: row.cursor,
            message: row.message,
        })
    };
    let targets = targets.into_iter().map(target).collect::<Result<_, _>>()?;
    Ok(PushBatch { bytes, parts: read, targets })
}

// The last row of a frame may be a message of 3 KiB, or a part: a head with some of them.
const _: () = assert!(PUSH_FRAME_BYTES + (1 << 20) < CALL_FRAME_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What each target gets, in order.
    fn told(batch: &PushBatch) -> Vec<(Target, PartKind, Vec<u8>)> {
        let of = |target: &Target| {
            let part = batch.parts.get(target.message as usize)?;
            let bytes = batch.bytes[part.bytes.start as usize..part.bytes.end as usize].to_vec();
            Some((Target { message: 0, ..*target }, part.kind, bytes))
        };
        batch.targets.iter().filter_map(of).collect()
    }

    fn crossed(batch: &PushBatch) -> (usize, Vec<(Target, PartKind, Vec<u8>)>) {
        let (mut out, mut at, mut frames, mut all) = (Vec::new(), 0, 0, Vec::new());
        put_pushes(&mut out, batch);
        while let Some(((kind, _, body), used)) =
            crate::calls::wire::next(&out[at..], CALL_FRAME_MAX).unwrap()
        {
            assert_eq!(kind, CallKind::ChatPushes);
            all.extend(told(&read_pushes(body).unwrap()));
            (at, frames) = (at + used, frames + 1);
        }
        assert_eq!(at, out.len());
        (frames, all)
    }

    fn kind() -> impl Strategy<Value = PartKind> {
        prop_oneof![
            (any::<u64>(), any::<u64>())
                .prop_map(|(conversation, seq)| PartKind::Message { conversation, seq }),
            Just(PartKind::Head),
            Just(PartKind::Read),
            Just(PartKind::Presence),
            Just(PartKind::Bare),
        ]
    }

    prop_compose! {
        fn batch()(
            parts in prop::collection::vec((kind(), prop::collection::vec(any::<u8>(), 0..9)), 0..6),
            targets in prop::collection::vec((any::<[u64; 5]>(), 0u32..8), 0..40),
        ) -> PushBatch {
            let mut batch = PushBatch::default();
            for (kind, bytes) in parts {
                let start = batch.bytes.len() as u32;
                batch.bytes.extend(bytes);
                batch.parts.push(Part { kind, bytes: start..batch.bytes.len() as u32 });
            }
            let target = |([connection, user, device, after, cursor], message): ([u64; 5], u32)| {
                Target { connection, user, device, after, cursor, message }
            };
            batch.targets = targets.into_iter().map(target).collect();
            batch
        }
    }

    proptest! {
        #[test]
        fn pushes_cross_the_wire(batch in batch()) {
            let (frames, all) = crossed(&batch);
            prop_assert_eq!(&all, &told(&batch));
            prop_assert_eq!(frames, usize::from(!all.is_empty()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_pushes(&bytes);
        }
    }

    #[test]
    fn a_large_batch_goes_in_several_frames_of_a_bounded_size() {
        let mut batch = PushBatch::default();
        for n in 0..300u32 {
            let start = batch.bytes.len() as u32;
            batch.bytes.extend(vec![n as u8; 3_000]);
            batch.parts.push(Part { kind: PartKind::Head, bytes: start..start + 3_000 });
        }
        for n in 0..40_000u64 {
            let message = (n / 134) as u32;
            batch.targets.push(Target { connection: n, user: n, device: 1, after: n, cursor: n, message });
        }
        let (frames, all) = crossed(&batch);
        assert!(all == told(&batch), "in order, each with its part");
        let least = weight(&batch) / (PUSH_FRAME_BYTES + 4_000);
        assert!(frames > least && frames < 20, "{frames}");
    }

    #[test]
    fn pushes_that_contradict_themselves_are_refused() {
        let part = |kind: i32, size| v1::ChatPart { kind, size, ..Default::default() };
        let read = |pushes: v1::ChatPushes| read_pushes(&pushes.encode_to_vec()).unwrap_err();
        let bytes = vec![1, 2, 3];
        let pushes = |parts| v1::ChatPushes { bytes: bytes.clone(), parts, targets: vec![] };
        assert_eq!(read(pushes(vec![part(9, 3)])), PushesError::Kind(9));
        assert_eq!(read(pushes(vec![part(2, 4)])), PushesError::Bytes { parts: 4, bytes: 3 });
        assert_eq!(read(pushes(vec![part(2, 1)])), PushesError::Bytes { parts: 1, bytes: 3 });
        let targets = vec![v1::ChatTarget { message: 1, ..Default::default() }];
        let error = read(v1::ChatPushes { targets, ..pushes(vec![part(2, 3)]) });
        assert_eq!(error, PushesError::Target { message: 1, parts: 1 });
    }
}
