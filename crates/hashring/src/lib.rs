//! Which lottery node a user belongs to, computed alike by everyone who knows the member list.
//!
//! A user falls into one of 4,096 [`Bucket`]s by a hash that never changes; a [`Ring`] gives each bucket to a node.
//! The ring rests on members and weights alone (the epoch names the version of the list, it does not salt anything),
//! so two access nodes with the same list route alike without a word between them, and a bucket moves only when
//! the list makes it move.
//!
//! The ring is no lock: which node may draw for a bucket is decided by the owners' table. A request that a stale
//! ring sends to the wrong node is refused there and sent on.
//!
//! # How a bucket finds its node
//!
//! Each node has [`POINTS_PER_WEIGHT`] virtual nodes for each unit of weight, spread over a circle by hash; a bucket
//! belongs to the first one clockwise (Karger et al., "Consistent Hashing and Random Trees", 1997). No node may have
//! more than 5/4 of its fair share of buckets, rounded up (after Mirrokni, Thorup and Zadimoghaddam, "Consistent
//! Hashing with Bounded Loads", 2018): a node above the bound gives up those of its buckets that come last in an
//! order fixed for ever, and they go on clockwise to the first node with room. All first choices are settled
//! before any bucket is passed on, so an overflow never pushes another bucket from its first choice, and the bound
//! costs little movement.

mod bucket;
mod ring;

pub use bucket::{BUCKET_COUNT, Bucket, bucket_of};
pub use ring::{Member, Move, POINTS_PER_WEIGHT, Ring, RingError, TOTAL_WEIGHT_MAX, diff};
