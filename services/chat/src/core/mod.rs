//! Decisions and their effects, without socket, disk, clock or randomness.
//!
//! [`State`] is the fold over the message log. A request is decided ([`State::decide_send`] and its like): that
//! changes nothing and gives records. They are written, [`State::take`] lets the next decisions build on them, and when
//! they are durable [`State::apply`] brings them to the members. What is not in memory is asked for by [`Key`].
//!
//! A message's cursor is its number in the log (the first has 2), the same in every member's timeline: so it rises in each of them, and
//! nothing need be known of a member to give him an entry.

mod apart;
mod apply;
mod changed;
mod changes;
mod conversation;
pub mod ids;
mod intake;
mod official;
mod own;
mod people;
mod pushes;
mod range;
mod rows;
mod send;
mod state;
mod taking;
mod thin;
mod tick;
mod unread;
mod user;
mod views;

pub use apart::Apart;
pub use apply::Misfit;
pub use changes::{Stop, Wish, check_name};
pub use conversation::{Author, Conversation, Head, Member, Numbered, relation};
pub use ids::Ids;
pub use intake::{NoRisk, Refusal, Risk, Verdict, Words, WordsError, content, form};
pub use own::{COUNTS_MAX, OwnBehind, Reading, delete_marks, delete_seqs, own_among, unknown_conversation};
pub use people::check_profile;
pub use pushes::{Pushing, goes_along, wire};
pub use range::RangePlan;
pub use rows::{Checkpoint, ConversationRows, UserRows};
pub use send::{Logged, Sending, answer, busy, counts, on_its_way, pair_made, refused, stored};
pub use state::{At, Fanned, Key, LINGER_MS, SentKey, State, StoredConversation, StoredLink, StoredUser};
pub use thin::Thin;
pub use unread::Counted;
pub use user::{Again, Conn, Device, Entry, Friend, Loaded, Made, Person, Registration, User, entries_after};
pub use views::{
    conversation_view, devices_answer, few, friend_view, friends_page, limit, members_answer, profile_view,
};
