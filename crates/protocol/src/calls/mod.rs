//! Calls between services. A caller holds one of these traits and does not know whether the other side is in
//! the same process.

mod awards;
mod draws;
mod inbox;

pub use awards::{Accounts, AwardView, Awards, CallError};
pub use draws::{Draws, SubmitCall, SubmitReply};
pub use inbox::Inbox;
