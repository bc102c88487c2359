//! Calls between services. A caller holds one of these traits and does not know whether the other side is in
//! the same process.
//!
//! Between processes the calls are frames on TCP connections: [`server`] serves whatever of the traits a process has,
//! [`client`] has an adapter for each. What they promise beyond the traits, and what a broken connection means, is said
//! there; the wire is described in `docs/protocol.md`.

mod awards;
mod chat;
mod chat_wire;
pub mod client;
mod draws;
mod greeting;
mod histories;
mod inbox;
pub mod limits;
mod peers;
pub mod server;
mod services;
mod socket;
mod wire;

pub use awards::{Accounts, AwardView, Awards, CallError};
pub use chat::{
    Chat, ChatHost, ConnectionAt, DeviceAt, Part, PartKind, PushBatch, Pushes, SEND_BODY_MAX, SendCall,
    SendReply, Target,
};
pub use draws::{Draws, SubmitCall, SubmitReply};
pub use greeting::{CALL_KEY_BYTES_MIN, CallKey, CallKeyError, Cluster, GreetingError};
pub use histories::{HISTORY_USERS_MAX, Histories, PastWin};
pub use inbox::{Bell, Inbox};
pub use peers::{ChatPeerHost, ChatPeers};
pub use services::{Served, ServiceSet};
