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
//! A bucket comes with [`own`](Conversations::own) after its claim (and whatever the store calls `unfanned` is brought
//! in), and goes with [`disown`](Conversations::disown), as soon as the store says that it belongs to somebody else; then
//! nothing of it stays in memory. Who is asked to give a bucket up stops deciding (`give_up`), and seals it once nothing
//! of it is under way (`is_idle`).
//!
//! Hands may come twice, late, never, and from owners that are none any more. All that they say is durable when it is
//! said, entries have names, and everything else in them is absolute as of a version: so none of that changes anything.

mod conversations;
mod devices;
mod fan_out;
mod hand;
mod line;
mod loads;
mod steps;
mod timelines;
mod work;

use crate::store::owned::{Fence, Step};

pub use conversations::{Conversations, Reply, Sent, Stepped, Ticked, Want};
pub use hand::{Ack, Between, Hand, HandKey, Place};
pub use line::SyncPlan;
pub use timelines::{Placed, Timelines};
pub use work::Done;

/// What one call to the store writes.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Under which ownership.
    pub fence: Fence,
    /// What.
    pub step: Step,
}

/// Bits of a cursor that count within one ownership of a bucket; above them stands its term. So whatever a new owner
/// allots is above everything that was allotted before, and he need not know what that was.
const CURSOR_BITS: u32 = 40;
/// What was handed and not acknowledged is handed again after this time, in ms.
pub const HAND_AGAIN_MS: u64 = 1_000;
