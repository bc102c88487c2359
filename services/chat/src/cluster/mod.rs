//! Chat in a cluster, without socket, disk or clock: what the owner of conversations does, and the owner of timelines.
//!
//! Every node is both, each for the buckets that it owns. [`Conversations`] decides about messages (with the same
//! decisions as the form with one log, [`State`](crate::core::State)), brings them into the store step by step, and then
//! hands them on ([`Hand`]) to the owners of the members' timelines until each has acknowledged ([`Ack`]). [`Timelines`]
//! gives what it was handed a place in each timeline, brings that into the store, pushes it, and acknowledges.
//!
//! The way of a message, with who calls what:
//!
//! 1. [`Conversations::send`] decides; what must be known first is asked for ([`Conversations::wants`]) and brought in.
//! 2. [`Conversations::batch`] gives a [`Batch`] for [`OwnedShelf::step`](crate::store::OwnedShelf::step); its outcome
//!    goes to [`Conversations::stepped`], which says who is to be answered. A batch without an answer is sent again as it
//!    is.
//! 3. [`Conversations::hands`] gives what is to be sent to timelines' owners, again too when an acknowledgement stays
//!    out; [`Timelines::receive`] takes it.
//! 4. [`Timelines::batch`], the store, [`Timelines::stepped`]: pushes, and [`Timelines::acks`] for
//!    [`Conversations::acked`].
//!
//! After each of these calls, and after `tick`, there may be more to send, to read (`wants`, each followed by
//! [`answered`](Conversations::answered); [`Timelines::doubts`]) and to decide again ([`Conversations::settled`], then
//! [`retry`](Conversations::retry) and whoever else was told `Key::Settled`).
//!
//! What the store answers with an error that will not go away fails with everything else in its transaction: then the batch
//! is divided ([`Batch::split`]) until the one thing stands alone, which is said to its core
//! ([`Conversations::refused`], [`Timelines::refused`]); it comes again by itself, from `again`, after a rest.
//!
//! A bucket comes with [`own`](Conversations::own) after its claim (and whatever the store calls `unfanned` is brought
//! in), and goes with [`disown`](Conversations::disown), as soon as the store says that it belongs to somebody else; then
//! nothing of it stays in memory. Who is asked to give a bucket up stops deciding (`give_up`), and seals it once nothing
//! of it is under way (`is_idle`).
//!
//! # Who serves a request
//!
//! | Ask | Who | How |
//! |---|---|---|
//! | Send | conversation's owner; of two who have none yet the smaller user's, which makes it | [`Conversations::send`] |
//! | Sync | user's owner, and the store | [`Timelines::sync`], [`Timelines::standing`], [`SyncNeeds`], [`sync_answer`] |
//! | Range | conversation's owner, and the store | [`Conversations::range`] |
//! | Conversations | any node, from the store | [`ListPlan`] |
//! | MarkRead | conversation's owner; the total any node from the store | [`Conversations::decide_read`], [`read_answer`] |
//! | Recall | conversation's owner | [`Conversations::recall_reads`], [`Conversations::decide_recall`] |
//! | Delete | conversation's owner | [`Conversations::delete_reads`], [`Conversations::decide_delete`] |
//! | SetNotice | conversation's owner | [`Conversations::decide_notice`] |
//! | MakeGroup | any node that owns buckets: the group's id is one of its own; made before: [`named`](crate::store::OwnedShelf::named) | `decide_group` of [`Conversations::state`] |
//! | AddMembers, RemoveMembers, SetRole, Mute, Rename, Dissolve | conversation's owner | [`Conversations::decide_change`] |
//! | Members | conversation's owner | [`Conversations::members`] |
//! | Befriend, Unfriend | owner of the two's conversation; while they have none the smaller user's | [`Conversations::decide_friend`] |
//! | Friends | user's owner; the names any node from the store | [`Timelines::friends`], [`friends_answer`] |
//! | Presence | user's owner, who asks the others' owners | [`Timelines::may_see`], [`Timelines::presence`], [`presence_answer`] |
//! | SetProfile, ForgetDevice | user's owner | [`Timelines::set_profile`], [`Timelines::forget_device`], [`Timelines::is_stored`] |
//! | Profiles | any node, from the store | [`profiles_answer`] |
//! | Devices | user's owner | [`Timelines::devices`] |
//! | notices of official accounts | owner of the two's conversation; while they have none any node | `decide_official` of [`Conversations::state`] |
//!
//! A decision says `Stop::Need` with what must come first. `Key::Elsewhere`: the conversation is another node's, and so is
//! the request. Records that came of it go to [`Conversations::take`]; without records the answer waits for
//! [`Conversations::after`], and one that only looks for [`Conversations::seen`].
//!
//! How a user has read, what he deleted and cleared is told to his own devices (`Place::tell`), as in the form with one
//! log; the other members hear of none of it.
//!
//! Hands may come twice, late, never, and from owners that are none any more. All that they say is durable when it is
//! said, entries have names, and everything else in them is absolute as of a version: so none of that changes anything.

mod answers;
mod asks;
mod conversations;
mod devices;
mod fan_out;
mod hand;
mod late;
mod line;
mod loads;
mod people;
mod presence;
mod refused;
mod rest;
mod steps;
mod stored;
mod ticks;
mod timelines;
mod work;

use crate::store::owned::{Fence, Step};

pub use answers::{
    ListPlan, PULLED_MAX, Span, Standing, SyncFound, SyncNeeds, USERS_MAX, friends_answer, presence_answer,
    profiles_answer, read_answer, sync_answer, unread_of, unread_total,
};
pub use conversations::{Conversations, RESTING, Reply, Sent, Stepped, Ticked, UNREADABLE, Want};
pub use hand::{Ack, Between, Hand, HandKey, Place};
pub use line::SyncPlan;
pub use people::MaySee;
pub use presence::{PresenceView, PresenceWord, TOLD_MS};
pub use timelines::{Moved, Placed, Timelines};
pub use work::Done;

/// What one call to the store writes.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Under which ownership.
    pub fence: Fence,
    /// What.
    pub step: Step,
}

impl Batch {
    /// Conversations, timelines and positions in it.
    pub fn len(&self) -> usize {
        self.step.conversations.len() + self.step.timelines.len() + self.step.fanned.len()
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// Half of it, and the other half: for when the store refuses the whole, and it is not known for which part's sake.
    ///
    /// # Errors
    /// Itself, when there is one thing in it: that is it then.
    pub fn split(mut self) -> Result<(Batch, Batch), Batch> {
        if self.len() < 2 {
            return Err(self);
        }
        let mut keep = self.len() / 2;
        let mut rest = Step::default();
        let mut cut = |len: usize| {
            let at = keep.min(len);
            keep -= at;
            at
        };
        let step = &mut self.step;
        rest.conversations = step.conversations.split_off(cut(step.conversations.len()));
        rest.timelines = step.timelines.split_off(cut(step.timelines.len()));
        rest.fanned = step.fanned.split_off(cut(step.fanned.len()));
        let rest = Batch { fence: self.fence.clone(), step: rest };
        Ok((self, rest))
    }
}

/// Bits of a cursor that count within one ownership of a bucket; above them stands its term. So whatever a new owner
/// allots is above everything that was allotted before, and he need not know what that was.
const CURSOR_BITS: u32 = 40;
/// What was handed and not acknowledged is handed again after this time, in ms.
pub const HAND_AGAIN_MS: u64 = 1_000;
