//! Every bound of the calls between services in one place, each with its reason.

/// Largest frame between services, length field excluded: the histories of [`HISTORY_USERS_MAX`] users with a
/// hundred wins each.
///
/// [`HISTORY_USERS_MAX`]: super::HISTORY_USERS_MAX
pub const CALL_FRAME_MAX: usize = 4 << 20;

/// Largest frame before the other side has proved who it is: what a stranger can make us keep.
pub const GREETING_FRAME_MAX: usize = 1024;

/// What one read may bring, and what is read from one connection before its work is done.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// A larger buffer is given back after use.
pub(super) const BUFFER_KEPT: usize = 1 << 20;

/// Entries in one frame of submits. What a gateway's read brings fits in a few.
pub(super) const BATCH_MAX: usize = 4096;

/// A frame of replies is closed when it has so many bytes, so that the first of many can be read while others are
/// written.
pub(super) const REPLIES_BYTES: usize = 256 * 1024;

/// Submits that may be unanswered on one connection: a quarter of a second of the highest rate this platform is
/// made for. What comes above hears 'busy'.
pub const OUTSTANDING_MAX: usize = 262_144;

/// Bytes that may wait to be sent on one connection before new calls hear 'busy'.
pub(super) const UNSENT_MAX: usize = 16 << 20;

/// Calls other than submits that may be under way on one connection: each may hold a query in a database.
pub(super) const SLOW_MAX: usize = 512;

/// A frame of pushes, of messages or of their answers is closed when it has so many bytes, about.
pub(super) const PUSH_FRAME_BYTES: usize = 256 * 1024;

/// Messages that may be unanswered on one connection to chat: more than its log has waiting for the disk. What comes above
/// hears 'busy'.
pub const SENDS_MAX: usize = 65_536;

/// Pushes that wait for one connection to an access node, in bytes. What comes above is left out: devices find the gap.
pub const PUSHES_WAITING_MAX: usize = 32 << 20;

/// One message between chat nodes, in bytes: many of what they hand each other fit in it, and it is a read or a few.
pub const PEER_MESSAGE_MAX: usize = 1 << 20;

/// Devices in one frame of what has become of them.
pub(super) const STEPS_MAX: usize = 4096;

/// Devices that are told of again after a connection to chat was made, each tick: 40,000 a second, since each of them may
/// have to be loaded there and asks for what it missed.
pub(super) const TELL_AGAIN_MAX: usize = 2_000;

/// Users whose presence one device watches, that are remembered for when it is told of again: as many as chat lets it watch.
pub(super) const WATCHES_MAX: usize = 1_000;

/// For how long chat keeps the devices of an access node that is out of reach, in ms: as long as an access node takes to
/// connect again, longer than a process that was killed stays in the member list.
pub(super) const ACCESS_AWAY_MS: u64 = 10_000;

/// Connections that a server keeps: some hundred nodes with a few each.
pub(super) const CONNECTIONS_MAX: usize = 2048;

/// Connections of strangers, so that those who never prove anything can't take the places of the others.
pub(super) const STRANGERS_MAX: usize = 64;

/// How long the greeting may take, in ms.
pub(super) const GREETING_MS: u64 = 3_000;

/// A server closes a connection that has been silent for so long, in ms: callers send a heartbeat each 400 ms.
pub(super) const SILENCE_MS: u64 = 10_000;

/// How long a server that shuts down waits for what is unanswered, in ms.
pub(super) const DRAIN_MS: u64 = 5_000;

/// How often a connection looks at the clock, in ms.
pub(super) const TICK_MS: u64 = 50;

/// Length of the names in a greeting.
pub(super) const NAME_BYTES_MAX: usize = 128;

const _: () = assert!(BATCH_MAX * 36 + 64 < READ_BYTES, "a batch is one read");
const _: () = assert!(BATCH_MAX <= OUTSTANDING_MAX);
const _: () = assert!(REPLIES_BYTES + 64 * 1024 < CALL_FRAME_MAX, "a last award fits behind a full frame");
const _: () = assert!(READ_BYTES <= BUFFER_KEPT);
const _: () = assert!(PEER_MESSAGE_MAX + 16 < CALL_FRAME_MAX && PEER_MESSAGE_MAX < UNSENT_MAX);
