//! The app's side of the platform: how a client connects, shakes, asks again and keeps quiet.
//!
//! It exists so that every client behaves the way the platform is built for, and the load generator behaves like
//! every client. The cores own no socket and read no clock: [`Player`] is one player's draws, [`Session`] one
//! connection's conversation, [`chat::Device`] one installation's chat, [`Reconnect`] the pauses between connections, [`Schedule`] the rounds, [`ServerTime`]
//! the server's clock seen from here, [`AdaptiveHeartbeat`] the interval of heartbeats, [`Relocation`] a move to
//! another node. [`Connection`] and [`Dialer`] put them on tokio; [`Heartbeats`] has a connection's own beats decide the
//! interval, [`Scheduler`] says where to connect.
//!
//! What it promises: an unanswered draw is asked again under the same counter until it is answered or its round is
//! long over; never two counters are under way at once; a shake is in exactly one draw; a win that was heard is
//! reported once.

pub mod chat;
mod connection;
mod dialer;
mod heartbeat;
mod player;
mod pulse;
mod reconnect;
mod relocation;
mod schedule;
mod scheduler;
mod server_time;
mod session;
mod transport;
pub mod websocket;

pub use connection::{ClientError, Connection, Options};
pub use dialer::Dialer;
pub use heartbeat::{AdaptiveHeartbeat, HeartbeatRules};
pub use player::{Heard, Outgoing, Player, PlayerRules, SUBMIT_SHAKES_MAX};
pub use pulse::Heartbeats;
pub use reconnect::{Reconnect, ReconnectPolicy};
pub use relocation::Relocation;
pub use schedule::{Schedule, Window};
pub use scheduler::{Scheduled, Scheduler, SchedulerError};
pub use server_time::ServerTime;
pub use session::{Credential, Event, Session, SessionError};
