//! `ChatFact`: everything in chat's message log that is not a message.
//!
//! Numbers in a fact never depend on what is decided beside it (a count of one's own messages up to a seq, for
//! instance, is the same for ever), so that facts can be decided from an older state than the one they are applied to.

use crate::codec::{Decode, DecodeError, Record, RecordKind, Writer};

/// Most marks of one `Deleted`.
pub const CHAT_DELETED_MAX: usize = 512;

/// A step between two users.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FriendStep {
    /// The first wants the second as a friend, and has not blocked him (any more).
    Ask = 1,
    /// The first takes that back; the friendship ends for both.
    End = 2,
    /// The same, and the second can't write to the first any more.
    Block = 3,
}

/// A fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChatFact {
    /// A conversation of two exists.
    PairMade {
        /// Its id.
        conversation: u64,
        /// The smaller user.
        low: u64,
        /// The larger user.
        high: u64,
        /// Number of the `ConversationKind` of the wire: pair or official.
        kind: u8,
    },
    /// A user has read up to a seq.
    Read {
        /// Who.
        user: u64,
        /// Where.
        conversation: u64,
        /// Up to here.
        seq: u64,
        /// Counted messages of his own up to there, recalled ones too.
        own: u64,
    },
    /// A user wants to see nothing up to a seq any more.
    Cleared {
        /// Who.
        user: u64,
        /// Where.
        conversation: u64,
        /// Up to here.
        seq: u64,
        /// As in `Read`.
        own: u64,
    },
    /// A user has deleted messages for himself.
    Deleted {
        /// Who.
        user: u64,
        /// Where.
        conversation: u64,
        /// Each seq, and whether it is a counted message of somebody else; at most [`CHAT_DELETED_MAX`].
        marks: Vec<(u64, bool)>,
    },
    /// A user wants notices of a conversation, or none.
    Quiet {
        /// Who.
        user: u64,
        /// Where.
        conversation: u64,
        /// No notices.
        on: bool,
    },
    /// Between two users.
    Friend {
        /// Their conversation.
        conversation: u64,
        /// Whose step.
        user: u64,
        /// The other.
        other: u64,
        /// What.
        step: FriendStep,
    },
    /// A user's profile.
    Profile {
        /// Who.
        user: u64,
        /// Name to show.
        name: String,
        /// BCP 47.
        language: String,
    },
    /// A device is registered.
    DeviceKnown {
        /// Whose.
        user: u64,
        /// Which.
        device: u64,
        /// When, ms UTC; names the registration.
        at_ms: u64,
    },
    /// A device is forgotten.
    DeviceForgotten {
        /// Whose.
        user: u64,
        /// Which.
        device: u64,
    },
    /// A device has everything up to a cursor. Written some seconds late.
    Confirmed {
        /// Whose.
        user: u64,
        /// Which.
        device: u64,
        /// Up to here.
        cursor: u64,
        /// When it was last heard of, ms UTC.
        seen_ms: u64,
    },
    /// Message ids up to a time may be given.
    IdsReserved {
        /// Ms UTC.
        until_ms: u64,
    },
}

/// The stored numbers of the facts.
mod what {
    pub const PAIR_MADE: u8 = 1;
    pub const READ: u8 = 2;
    pub const CLEARED: u8 = 3;
    pub const DELETED: u8 = 4;
    pub const QUIET: u8 = 5;
    pub const FRIEND: u8 = 6;
    pub const PROFILE: u8 = 7;
    pub const DEVICE_KNOWN: u8 = 8;
    pub const DEVICE_FORGOTTEN: u8 = 9;
    pub const CONFIRMED: u8 = 10;
    pub const IDS_RESERVED: u8 = 11;
}

impl Record for ChatFact {
    const KIND: RecordKind = RecordKind::ChatFact;
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer<'_>) {
        match self {
            ChatFact::PairMade { conversation, low, high, kind } => {
                out.u8(what::PAIR_MADE).u64(*conversation).u64(*low).u64(*high).u8(*kind);
            }
            ChatFact::Read { user, conversation, seq, own } => {
                out.u8(what::READ).u64(*user).u64(*conversation).u64(*seq).u64(*own);
            }
            ChatFact::Cleared { user, conversation, seq, own } => {
                out.u8(what::CLEARED).u64(*user).u64(*conversation).u64(*seq).u64(*own);
            }
            ChatFact::Deleted { user, conversation, marks } => {
                debug_assert!(marks.len() <= CHAT_DELETED_MAX);
                out.u8(what::DELETED).u64(*user).u64(*conversation).u16(marks.len() as u16);
                for (seq, counts) in marks {
                    out.u64(*seq).u8(u8::from(*counts));
                }
            }
            ChatFact::Quiet { user, conversation, on } => {
                out.u8(what::QUIET).u64(*user).u64(*conversation).u8(u8::from(*on));
            }
            ChatFact::Friend { conversation, user, other, step } => {
                out.u8(what::FRIEND).u64(*conversation).u64(*user).u64(*other).u8(*step as u8);
            }
            ChatFact::Profile { user, name, language } => {
                out.u8(what::PROFILE).u64(*user).text(name).text(language);
            }
            ChatFact::DeviceKnown { user, device, at_ms } => {
                out.u8(what::DEVICE_KNOWN).u64(*user).u64(*device).u64(*at_ms);
            }
            ChatFact::DeviceForgotten { user, device } => {
                out.u8(what::DEVICE_FORGOTTEN).u64(*user).u64(*device);
            }
            ChatFact::Confirmed { user, device, cursor, seen_ms } => {
                out.u8(what::CONFIRMED).u64(*user).u64(*device).u64(*cursor).u64(*seen_ms);
            }
            ChatFact::IdsReserved { until_ms } => {
                out.u8(what::IDS_RESERVED).u64(*until_ms);
            }
        }
    }

    fn read(version: u8, input: &mut Decode<'_>) -> Result<ChatFact, DecodeError> {
        input.version(version, Self::VERSION)?;
        Ok(match input.u8()? {
            what::PAIR_MADE => ChatFact::PairMade {
                conversation: input.u64()?,
                low: input.u64()?,
                high: input.u64()?,
                kind: input.u8()?,
            },
            what::READ => ChatFact::Read {
                user: input.u64()?,
                conversation: input.u64()?,
                seq: input.u64()?,
                own: input.u64()?,
            },
            what::CLEARED => ChatFact::Cleared {
                user: input.u64()?,
                conversation: input.u64()?,
                seq: input.u64()?,
                own: input.u64()?,
            },
            what::DELETED => {
                let (user, conversation, count) = (input.u64()?, input.u64()?, input.u16()?);
                let mut marks = Vec::new();
                for _ in 0..count {
                    marks.push((input.u64()?, flag(input, "counts")?));
                }
                ChatFact::Deleted { user, conversation, marks }
            }
            what::QUIET => {
                ChatFact::Quiet { user: input.u64()?, conversation: input.u64()?, on: flag(input, "on")? }
            }
            what::FRIEND => {
                let (conversation, user, other) = (input.u64()?, input.u64()?, input.u64()?);
                let step = match input.u8()? {
                    1 => FriendStep::Ask,
                    2 => FriendStep::End,
                    3 => FriendStep::Block,
                    other => return Err(input.impossible("step", u64::from(other))),
                };
                ChatFact::Friend { conversation, user, other, step }
            }
            what::PROFILE => {
                ChatFact::Profile { user: input.u64()?, name: input.text()?, language: input.text()? }
            }
            what::DEVICE_KNOWN => {
                ChatFact::DeviceKnown { user: input.u64()?, device: input.u64()?, at_ms: input.u64()? }
            }
            what::DEVICE_FORGOTTEN => ChatFact::DeviceForgotten { user: input.u64()?, device: input.u64()? },
            what::CONFIRMED => ChatFact::Confirmed {
                user: input.u64()?,
                device: input.u64()?,
                cursor: input.u64()?,
                seen_ms: input.u64()?,
            },
            what::IDS_RESERVED => ChatFact::IdsReserved { until_ms: input.u64()? },
            other => return Err(input.impossible("what", u64::from(other))),
        })
    }
}

fn flag(input: &mut Decode<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(input.impossible(field, u64::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatFact, FriendStep};
    use crate::codec::Record;
    use proptest::prelude::*;

    fn facts() -> impl Strategy<Value = ChatFact> {
        let step = prop_oneof![Just(FriendStep::Ask), Just(FriendStep::End), Just(FriendStep::Block)];
        let marks = prop::collection::vec((any::<u64>(), any::<bool>()), 0..20);
        (0..11u8, any::<[u64; 4]>(), any::<bool>(), step, marks, ".{0,20}", "[a-zA-Z-]{0,10}").prop_map(
            |(what, n, on, step, marks, name, language)| match what {
                0 => ChatFact::PairMade { conversation: n[0], low: n[1], high: n[2], kind: n[3] as u8 },
                1 => ChatFact::Read { user: n[0], conversation: n[1], seq: n[2], own: n[3] },
                2 => ChatFact::Cleared { user: n[0], conversation: n[1], seq: n[2], own: n[3] },
                3 => ChatFact::Deleted { user: n[0], conversation: n[1], marks },
                4 => ChatFact::Quiet { user: n[0], conversation: n[1], on },
                5 => ChatFact::Friend { conversation: n[0], user: n[1], other: n[2], step },
                6 => ChatFact::Profile { user: n[0], name, language },
                7 => ChatFact::DeviceKnown { user: n[0], device: n[1], at_ms: n[2] },
                8 => ChatFact::DeviceForgotten { user: n[0], device: n[1] },
                9 => ChatFact::Confirmed { user: n[0], device: n[1], cursor: n[2], seen_ms: n[3] },
                _ => ChatFact::IdsReserved { until_ms: n[0] },
            },
        )
    }

    proptest! {
        #[test]
        fn round_trips(fact in facts()) {
            let bytes = fact.encode();
            prop_assert_eq!(ChatFact::decode(&bytes), Ok(fact));
            for cut in 0..bytes.len() {
                prop_assert!(ChatFact::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
