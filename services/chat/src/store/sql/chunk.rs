//! Messages and timeline entries as they are packed into rows.

use crate::core::Entry;
use crate::store::StoreError;
use records::{ChatMessage, Record};
use std::sync::Arc;

/// Most messages of a chunk.
pub(super) const MESSAGES_MAX: usize = 256;
/// A chunk takes no further message once it has so many bytes.
pub(super) const BYTES_MAX: usize = 64 << 10;
/// Most entries of a chunk.
pub(super) const ENTRIES_MAX: usize = 1_024;

/// Messages of a conversation that follow each other.
pub(super) struct MessageChunk {
    pub conversation: u64,
    pub first: u64,
    pub last: u64,
    pub last_ms: u64,
    pub bytes: Vec<u8>,
}

/// Packs messages that follow each other.
pub(super) fn pack_messages(messages: &[Arc<ChatMessage>], chunks: &mut Vec<MessageChunk>) {
    let mut rest = messages.iter().peekable();
    while let Some(first) = rest.next() {
        let mut chunk = MessageChunk {
            conversation: first.conversation,
            first: first.seq,
            last: first.seq,
            last_ms: first.sent_ms,
            bytes: Vec::with_capacity(first.body.len() + 80),
        };
        first.encode_into(&mut chunk.bytes);
        let mut count = 1;
        while count < MESSAGES_MAX
            && chunk.bytes.len() < BYTES_MAX
            && let Some(message) = rest.next()
        {
            message.encode_into(&mut chunk.bytes);
            (chunk.last, chunk.last_ms) = (message.seq, message.sent_ms);
            count += 1;
        }
        chunks.push(chunk);
    }
}

/// Takes messages out of a chunk.
pub(super) fn unpack_messages(mut bytes: &[u8], out: &mut Vec<ChatMessage>) -> Result<(), StoreError> {
    let damaged = |e: records::DecodeError| StoreError::Damaged(format!("a chunk of messages: {e}"));
    while !bytes.is_empty() {
        let (record, rest) = records::split(bytes).map_err(damaged)?;
        out.push(ChatMessage::decode(record).map_err(damaged)?);
        bytes = rest;
    }
    Ok(())
}

/// Entries of a timeline that follow each other.
pub(super) struct EntryChunk {
    pub user: u64,
    pub first: u64,
    pub last: u64,
    pub bytes: Vec<u8>,
}

/// Packs entries: cursor's distance to the one before, shifted by one with a bit that says 'same conversation';
/// conversation if it is another; seq.
pub(super) fn pack_entries(user: u64, entries: &[Entry], chunks: &mut Vec<EntryChunk>) {
    for part in entries.chunks(ENTRIES_MAX) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        let mut bytes = Vec::with_capacity(part.len() * 6 + 16);
        let mut before = Entry { cursor: first.cursor, ..Entry::default() };
        for entry in part {
            let same = entry.conversation == before.conversation;
            varint(&mut bytes, (entry.cursor - before.cursor) << 1 | u64::from(same));
            if !same {
                bytes.extend_from_slice(&entry.conversation.to_le_bytes());
            }
            varint(&mut bytes, entry.seq);
            before = *entry;
        }
        chunks.push(EntryChunk { user, first: first.cursor, last: last.cursor, bytes });
    }
}

/// Takes entries out of a chunk whose first cursor is `first`.
pub(super) fn unpack_entries(first: u64, mut bytes: &[u8], out: &mut Vec<Entry>) -> Result<(), StoreError> {
    let damaged = || StoreError::Damaged("a chunk of timeline entries ends in the midst of one".to_owned());
    let mut before = Entry { cursor: first, ..Entry::default() };
    while !bytes.is_empty() {
        let step = unvarint(&mut bytes).ok_or_else(damaged)?;
        let mut entry = Entry { cursor: before.cursor + (step >> 1), ..before };
        if step & 1 == 0 {
            let (conversation, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
            entry.conversation = u64::from_le_bytes(*conversation);
            bytes = rest;
        }
        entry.seq = unvarint(&mut bytes).ok_or_else(damaged)?;
        out.push(entry);
        before = entry;
    }
    Ok(())
}

/// Seven bits a byte, low ones first (as in Protobuf).
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn unvarint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_come_out_as_they_went_in(steps in prop::collection::vec((1u64..1 << 40, 0u64..3, 0u64..1 << 50), 0..3_000)) {
            let mut cursor = 0;
            let entries: Vec<Entry> = steps.into_iter().map(|(step, conversation, seq)| {
                cursor += step;
                Entry { cursor, conversation: conversation * 77, seq }
            }).collect();
            let mut chunks = Vec::new();
            pack_entries(1, &entries, &mut chunks);
            let mut back = Vec::new();
            for chunk in &chunks {
                unpack_entries(chunk.first, &chunk.bytes, &mut back).unwrap();
                prop_assert_eq!(back.last().map(|e| e.cursor), Some(chunk.last));
            }
            prop_assert_eq!(back, entries);
        }
    }
}
