//! Official accounts and applications: users hear what they won, and when it has arrived.
//!
//! An application is an entry of the configuration. It reads a topic of delivery events as a group of consumers of its
//! own and sends notices from its account, in the user's language: one when an award is first heard of, one when it is
//! delivered. A position is committed when the notices before it are durable. After a crash the events since the last
//! commit come again, and their notices are recognised by the award: each is sent once.

mod config;
mod worker;

use crate::ChatOptions;
use crate::node::Notice;
use async_trait::async_trait;
use protocol::calls::CallError;

pub use config::{AccountsConfig, Application, Texts, in_language};
pub use worker::start;

/// A chat node, as official accounts need it.
#[async_trait]
pub trait Notifies: Send + Sync + 'static {
    /// Its settings.
    fn options(&self) -> &ChatOptions;

    /// Sends notices; returns when all of them are durable. One that was sent before is not sent again.
    ///
    /// # Errors
    /// When one can't be stored just now; all of them again is safe.
    async fn notify(&self, notices: &[Notice]) -> Result<(), CallError>;
}
