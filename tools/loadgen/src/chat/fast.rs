//! The messages of a flood by hand: decoding a push with everything in it would cost more than sending it.

use protocol::frame::FrameKind;

use super::Stamp;

/// Appends the frame of a message to a conversation.
#[inline]
pub(in crate::chat) fn put_send(
    out: &mut Vec<u8>,
    id: u32,
    conversation: u64,
    counter: u64,
    stamp: Stamp,
    length: usize,
) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, FrameKind::Send as u8]);
    out.extend_from_slice(&id.to_le_bytes());
    out.push(0x10);
    put_number(out, conversation);
    out.push(0x20);
    put_number(out, counter);
    // A text.
    out.extend_from_slice(&[0x30, 1, 0x3a]);
    put_number(out, length.max(super::STAMP_BYTES) as u64);
    stamp.put(out, length);
    let size = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size.to_le_bytes());
}

#[inline]
fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field: its number, and its value or its bytes.
enum Field<'a> {
    Number(u32, u64),
    Bytes(u32, &'a [u8]),
}

/// The next field; `None`: the end, or nothing that can be read (`rest` is not empty then).
#[inline]
fn field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let mut at = *rest;
    let tag = number(&mut at)?;
    let name = u32::try_from(tag >> 3).ok()?;
    let found = match tag & 7 {
        0 => Field::Number(name, number(&mut at)?),
        2 => {
            let length = usize::try_from(number(&mut at)?).ok()?;
            let (bytes, behind) = at.split_at_checked(length)?;
            at = behind;
            Field::Bytes(name, bytes)
        }
        _ => return None,
    };
    *rest = at;
    Some(found)
}

#[inline]
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, &byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

/// What a flood reads of an answer to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Told {
    pub outcome: i32,
    pub counter: u64,
    pub seq: u64,
    pub retry_after_ms: u32,
}

/// Reads an answer; `None` when it is none.
#[inline]
pub(super) fn read_answer(mut body: &[u8]) -> Option<Told> {
    let mut told = Told::default();
    while let Some(field) = field(&mut body) {
        match field {
            Field::Number(1, value) => told.outcome = value as i32,
            Field::Number(3, value) => told.counter = value,
            Field::Number(5, value) => told.seq = value,
            Field::Number(8, value) => told.retry_after_ms = value as u32,
            _ => {}
        }
    }
    body.is_empty().then_some(told)
}

/// A message within a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Got {
    pub conversation: u64,
    pub seq: u64,
    /// 0: left out with the message.
    pub sender: u64,
    /// `None`: left out, or not a flood's.
    pub stamp: Option<Stamp>,
}

/// Reads a push: each message, each head (conversation and seq), and the cursors `after` and `cursor`; `None` when it
/// is no push.
#[inline]
pub(super) fn read_push(
    mut body: &[u8],
    mut message: impl FnMut(Got),
    mut head: impl FnMut(u64, u64),
) -> Option<(u64, u64)> {
    let (mut after, mut cursor) = (0, 0);
    while let Some(field) = field(&mut body) {
        match field {
            Field::Number(3, value) => after = value,
            Field::Number(4, value) => cursor = value,
            Field::Bytes(5, entry) => message(read_entry(entry)?),
            Field::Bytes(6, bytes) => {
                let (conversation, seq) = read_head(bytes, &mut message)?;
                head(conversation, seq);
            }
            _ => {}
        }
    }
    body.is_empty().then_some((after, cursor))
}

#[inline]
fn read_entry(mut entry: &[u8]) -> Option<Got> {
    let mut got = Got { conversation: 0, seq: 0, sender: 0, stamp: None };
    while let Some(field) = field(&mut entry) {
        match field {
            Field::Number(2, value) => got.conversation = value,
            Field::Number(3, value) => got.seq = value,
            Field::Bytes(4, bytes) => {
                let message = read_message(bytes)?;
                (got.sender, got.stamp) = (message.sender, message.stamp);
            }
            _ => {}
        }
    }
    entry.is_empty().then_some(got)
}

#[inline]
fn read_head(mut head: &[u8], message: &mut impl FnMut(Got)) -> Option<(u64, u64)> {
    let (mut conversation, mut seq) = (0, 0);
    while let Some(field) = field(&mut head) {
        match field {
            Field::Number(1, value) => conversation = value,
            Field::Number(2, value) => seq = value,
            Field::Bytes(3, bytes) => message(read_message(bytes)?),
            _ => {}
        }
    }
    head.is_empty().then_some((conversation, seq))
}

#[inline]
fn read_message(mut message: &[u8]) -> Option<Got> {
    let mut got = Got { conversation: 0, seq: 0, sender: 0, stamp: None };
    while let Some(field) = field(&mut message) {
        match field {
            Field::Number(2, value) => got.conversation = value,
            Field::Number(3, value) => got.seq = value,
            Field::Number(4, value) => got.sender = value,
            Field::Bytes(8, body) => got.stamp = Stamp::read(body),
            _ => {}
        }
    }
    message.is_empty().then_some(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;
    use protocol::frame::{FRAME_MAX, next};
    use protocol::v1;

    fn message(conversation: u64, seq: u64, body: Vec<u8>) -> v1::ChatMessage {
        v1::ChatMessage {
            message_id: 1 << 60,
            conversation,
            seq,
            sender: 9,
            body,
            sent_ms: 5,
            ..Default::default()
        }
    }

    proptest! {
        #[test]
        fn prost_reads_what_is_written(id: u32, conversation in 1u64.., counter in 1u64.., number: u64, meant_us: u64, length in 0usize..300) {
            let mut out = vec![9];
            let stamp = Stamp { number, meant_us };
            put_send(&mut out, id, conversation, counter, stamp, length);
            let (frame, used) = next(&out[1..], FRAME_MAX).unwrap().unwrap();
            prop_assert_eq!((used + 1, frame.kind, frame.id), (out.len(), FrameKind::Send, id));
            let send = v1::Send::decode(frame.body).unwrap();
            prop_assert_eq!(Stamp::read(&send.body), Some(stamp));
            let body = send.body.clone();
            prop_assert_eq!(body.len(), length.max(16));
            let want = v1::Send { conversation, counter, kind: 1, body, ..Default::default() };
            prop_assert_eq!(send, want);
        }

        #[test]
        fn reads_what_prost_wrote(seqs in prop::collection::vec((1u64..99, 1u64.., any::<bool>()), 0..8), after: u64, cursor: u64, outcome in 0i32..10, counter: u64, retry: u32) {
            let stamp = Stamp { number: 77, meant_us: 88 };
            let mut body = Vec::new();
            stamp.put(&mut body, 40);
            let entries = seqs.iter().map(|(conversation, seq, with)| v1::Entry {
                cursor: 3,
                conversation: *conversation,
                seq: *seq,
                message: with.then(|| message(*conversation, *seq, body.clone())),
            });
            let head = v1::Head { conversation: 5, seq: 6, messages: vec![message(5, 6, body.clone())] };
            let reads = vec![v1::ReadAt { conversation: 1, seq: 1, unread: 1, unread_total: 1 }];
            let push = v1::Push { after, cursor, entries: entries.collect(), heads: vec![head], reads, ..Default::default() };
            let (mut got, mut heads) = (Vec::new(), Vec::new());
            let bytes = push.encode_to_vec();
            prop_assert_eq!(read_push(&bytes, |m| got.push(m), |c, s| heads.push((c, s))), Some((after, cursor)));
            let mut want: Vec<_> = seqs.iter().map(|(conversation, seq, with)| Got { conversation: *conversation, seq: *seq, sender: if *with { 9 } else { 0 }, stamp: with.then_some(stamp) }).collect();
            want.push(Got { conversation: 5, seq: 6, sender: 9, stamp: Some(stamp) });
            prop_assert_eq!((got, heads), (want, vec![(5, 6)]));
            let answer = v1::SendAnswer { outcome, counter, seq: 4, retry_after_ms: retry, reason: "so".into(), ..Default::default() };
            prop_assert_eq!(read_answer(&answer.encode_to_vec()), Some(Told { outcome, counter, seq: 4, retry_after_ms: retry }));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_push(&bytes, |_| (), |_, _| ());
            let _ = read_answer(&bytes);
        }
    }
}
