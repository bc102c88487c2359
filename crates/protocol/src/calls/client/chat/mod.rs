//! A chat node in another process.
//!
//! [`RemoteChat`] is one connection that is kept up, for everything between one access node and one chat node, both ways: so
//! what a device does is heard in its order. It remembers which devices have arrived here and not left. Whenever a connection
//! has been made, all of them are told of again, at a pace, and chat pushes each a word to sync, because what was pushed
//! meanwhile is lost.
//!
//! With a device that is told of again goes whose presence it watches, as answers have said: that is forgotten at the other
//! side when it begins anew, or when the device was another node's.
//!
//! When there is no connection, or too much is under way, a message is answered 'busy' at once: it surely went nowhere.
//! When its connection ends, or no answer comes in time, it is answered 'pending': it may be stored, and the same again finds
//! out. Requests hear 'unavailable' in all these cases. Words about devices that find no room: who was heard of and what was
//! confirmed is left out (the next time says it again); an arrival or a leave is not, the connection ends instead and
//! everything is told anew.

mod link;
mod pending;

use self::link::ChatLink;
use super::{CallOptions, Dialer, Target};
use crate::calls::{CallError, Chat, ConnectionAt, DeviceAt, Inbox, Pushes, SendCall, SendReply, ServiceSet};
use crate::v1::{ChatAnswer, ChatRequest};
use async_trait::async_trait;
use runtime::TaskKind;
use std::sync::Arc;

/// [`Chat`] over the wire, at one node.
#[derive(Clone)]
pub struct RemoteChat {
    target: Target,
    link: Arc<ChatLink>,
}

/// How a chat node is, as seen from an access node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChatHealth {
    /// Whether there is a connection.
    pub up: bool,
    /// Failures in a row.
    pub failures: u32,
    /// Messages that were told 'pending' because no answer came in time.
    pub timed_out: u64,
    /// Devices that have arrived and not left.
    pub devices: usize,
    /// Devices that have not been told of on this connection yet.
    pub untold: usize,
    /// What went wrong last, while it has not gone well since.
    pub last_error: Option<String>,
}

impl Dialer {
    /// Begins to connect to a chat node, for the connections of access node `access`, and keeps connected until
    /// [`RemoteChat::stop`]. Pushes go to `door`. Returns at once.
    pub fn dial_chat(&self, target: Target, access: u16, door: Arc<dyn Pushes>) -> RemoteChat {
        let link = ChatLink::new(self.clock.clone(), self.options, access, door);
        let run = Arc::clone(&link).run(
            target.clone(),
            Arc::clone(&self.cluster),
            Arc::clone(&self.from),
            self.tasks.shutdown().clone(),
        );
        self.tasks.spawn(format!("chat {}", target.address), TaskKind::BestEffort, async move {
            run.await;
            Ok(())
        });
        RemoteChat { target, link }
    }
}

/// What the connection is for.
const WANTS: ServiceSet = ServiceSet::CHAT;

impl RemoteChat {
    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How it is.
    pub fn health(&self) -> ChatHealth {
        self.link.health()
    }

    /// Which options it was dialled with.
    pub fn options(&self) -> &CallOptions {
        self.link.carrier().options()
    }

    /// Ends the connection once what is under way is answered; from here on it is out of reach.
    pub fn stop(&self) {
        self.link.carrier().stop();
    }

    /// Takes those devices out that are another node's now, with whose presence they watch: they have left here, as far as this
    /// node is told.
    pub fn give_up(&self, is_elsewhere: impl Fn(&DeviceAt) -> bool) -> Vec<(DeviceAt, Vec<u64>)> {
        self.link.give_up(is_elsewhere)
    }
}

#[async_trait]
impl Chat for RemoteChat {
    fn out_of_reach_ms(&self, _: u64) -> u32 {
        if self.link.is_up() { 0 } else { self.options().wait_ms }
    }

    fn arrive(&self, device: DeviceAt) {
        self.link.arrive(device, false);
    }

    fn arrive_again(&self, device: DeviceAt) {
        self.link.arrive(device, true);
    }

    fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        self.link.watch_again(device, users);
    }

    fn leave(&self, device: DeviceAt) {
        self.link.leave(device);
    }

    fn beat(&self, devices: &[DeviceAt]) {
        self.link.beat(devices);
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        self.link.send(calls, inbox, out);
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        self.link.confirm(confirms);
    }

    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        self.link.ask(from, request).await
    }
}
