//! `ChatMessage`: a message of a conversation, in chat's message log and in its stored chunks.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};

/// Longest body of a message, in bytes. Players may send less; changes of a group name up to 500 members.
pub const CHAT_BODY_MAX: usize = 16_384;

/// A message as the platform has taken it. Seqs of a conversation count 1, 2, 3 without a hole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChatMessage {
    /// Global, rising with time.
    pub message_id: u64,
    /// Its conversation.
    pub conversation: u64,
    /// Its number in the conversation.
    pub seq: u64,
    /// Who sent it; 0: the platform.
    pub sender: u64,
    /// The sender's device. For a group that was made: its maker's.
    pub device: u64,
    /// The device's number for it. For a group that was made: the device's number of the request.
    pub counter: u64,
    /// When it was taken, ms UTC.
    pub sent_ms: u64,
    /// Number of the `MessageKind` of the wire.
    pub kind: u8,
    /// How it goes to the members: number of the `FanOut` of the wire.
    pub fan_out: u8,
    /// The app's own, or for a change of the conversation a `Change` or `Recalled` of the wire; at most [`CHAT_BODY_MAX`].
    pub body: Vec<u8>,
}

impl Record for ChatMessage {
    const KIND: RecordKind = RecordKind::ChatMessage;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        debug_assert!(self.body.len() <= CHAT_BODY_MAX);
        out.u64(self.message_id).u64(self.conversation).u64(self.seq).u64(self.sender).u64(self.device);
        out.u64(self.counter).u64(self.sent_ms).u8(self.kind).u8(self.fan_out);
        out.u16(self.body.len() as u16).bytes(&self.body);
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<ChatMessage, DecodeError> {
        input.version(version, Self::VERSION)?;
        Ok(ChatMessage {
            message_id: input.u64()?,
            conversation: input.u64()?,
            seq: input.u64()?,
            sender: input.u64()?,
            device: input.u64()?,
            counter: input.u64()?,
            sent_ms: input.u64()?,
            kind: input.u8()?,
            fan_out: input.u8()?,
            body: {
                let len = input.u16()?;
                input.slice(usize::from(len))?.to_vec()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ChatMessage;
    use crate::codec::Record;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(n in any::<[u64; 7]>(), kind in any::<u8>(), fan_out in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
            let m = ChatMessage { message_id: n[0], conversation: n[1], seq: n[2], sender: n[3], device: n[4], counter: n[5],
                sent_ms: n[6], kind, fan_out, body };
            let bytes = m.encode();
            prop_assert_eq!(ChatMessage::decode(&bytes), Ok(m));
            prop_assert!(ChatMessage::decode(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
