//! Everything that is stored or queued, one file a record: layout, version, round trip.
//!
//! A record is little-endian: tag u8, version u8, payload length u16, payload. An unknown tag, an unknown
//! version or a length that does not fit is refused: whoever can't read a record must stop, not skip it.
//! Tags are frozen; a new layout gets a new version. `docs/formats.md` describes every byte.

mod chat_fact;
mod chat_message;
mod codec;
mod ended;
mod epoch_began;
mod event;
mod lease_closed;
mod lease_got;
mod order;
mod snapshot;
mod won;

pub use chat_fact::{CHAT_DELETED_MAX, ChatFact, FriendStep};
pub use chat_message::{CHAT_BODY_MAX, ChatMessage};
pub use codec::{Decode, DecodeError, HEADER_LEN, Record, RecordKind, kind_of, split};
pub use ended::Ended;
pub use epoch_began::EpochBegan;
pub use event::{DeliveryEvent, DeliveryState};
pub use lease_closed::LeaseClosed;
pub use lease_got::{LEASE_RANGES_MAX, LeaseGot, LeaseRange};
pub use order::{Order, OrderKind};
pub use snapshot::{SNAPSHOT_WIN_LEN, SnapshotHeader, SnapshotWin};
pub use won::{WON_LEN, Won};
