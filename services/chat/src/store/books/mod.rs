//! What a cluster's nodes tell each other through a common memory that may forget everything at any moment: unread
//! counts, presence, routes, recent messages. The truth is elsewhere (the store, the connections); here is what spares
//! a look there, or reaches nodes that have no other way to know.
//!
//! Each port says what it promises. Common to all: nothing is durable, an entry may be gone at any time, and a call
//! that fails has been done, or not. Whoever hears [`BookError`] goes on without the answer.

mod memory;
mod presence;
mod recent;
mod routes;
mod unread;

pub use memory::MemoryBooks;
pub use presence::{Beat, PresenceBook, Seen};
pub use recent::{RECENT_MAX, RecentBook};
pub use routes::{Route, RouteBook};
pub use unread::{Tag, Unread, UnreadAt, UnreadBook};

/// Devices of one user that a book keeps; more than may be registered, and than may be connected.
pub const DEVICES_MAX: usize = 64;

/// The book does not answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("chat's common memory does not answer: {0}")]
pub struct BookError(pub String);
