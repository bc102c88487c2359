//! Calls between services. A caller holds one of these traits and does not know whether the other side is in
//! the same process.

mod awards;
mod draws;
mod histories;
mod inbox;

pub use awards::{Accounts, AwardView, Awards, CallError};
pub use draws::{Draws, SubmitCall, SubmitReply};
pub use histories::{HISTORY_USERS_MAX, Histories, PastWin};
pub use inbox::Inbox;
