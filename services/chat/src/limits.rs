//! Bounds that are no settings, each with its reason.

/// Longest body that a player sends: with its head it fits the largest frame of a client.
pub const BODY_MAX: usize = protocol::calls::SEND_BODY_MAX;
/// Longest name of a group or a user, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Users that one call adds to a group, or removes from it: the change must fit a record.
pub const CHANGED_MEMBERS_MAX: usize = 200;
/// Members that a group is made with.
pub const MADE_MEMBERS_MAX: usize = 500;
/// Friends of a user, and others with whom there is something.
pub const FRIENDS_MAX: usize = 5_000;
/// Conversations of a user.
pub const CONVERSATIONS_MAX: usize = 5_000;
/// Requests for groups of which a user's devices are remembered.
pub const MADE_REMEMBERED: usize = 16;
/// Messages that one user may delete for himself one by one in one conversation; then by `all`.
pub const DELETED_MAX: usize = 10_000;
/// Seqs of one call of Delete.
pub const DELETE_CALL_MAX: usize = 200;
/// Sensitive words: an automaton of some tens of MB.
pub const WORDS_MAX: usize = 200_000;
/// Longest language tag.
pub const LANGUAGE_MAX: usize = 35;
/// A sender may recall for so long.
pub const RECALL_MS: u64 = 120_000;
/// First answers are kept for so long.
pub const ANSWERS_KEPT_MS: u64 = 86_400_000;
/// Messages that are looked through for a first answer.
pub const ANSWER_SEARCH_MAX: u64 = 10_000;
/// Messages that are looked through to count one's own, when a read position stands in their midst.
pub const OWN_SEARCH_MAX: u64 = 20_000;
/// Users whom one connection watches.
pub const WATCHED_MAX: usize = 1_000;
/// Connections that watch one user.
pub const WATCHERS_MAX: usize = 1_000;
/// Connections of a user.
pub const CONNECTIONS_MAX: usize = 32;
/// Messages larger than this are not put into pushes; the device asks for them.
pub const PUSHED_BODY_MAX: usize = 1_024;
/// Messages inside a head.
pub const HEAD_MESSAGES_MAX: usize = 8;
/// Entries that are pushed again.
pub const AGAIN_ENTRIES_MAX: usize = 64;
/// Devices of a writer whose counters a conversation keeps, registered or not: more than may be registered.
pub const AUTHOR_DEVICES_MAX: usize = 64;
/// Bytes of messages in an answer.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(BODY_MAX <= records::CHAT_BODY_MAX);
const _: () = assert!(MADE_MEMBERS_MAX * 10 + 4 * NAME_CHARS_MAX + 64 <= records::CHAT_BODY_MAX);
const _: () = assert!(DELETE_CALL_MAX <= records::CHAT_DELETED_MAX);
