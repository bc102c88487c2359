//! The node as the front doors see it.

use super::ChatNode;
use super::desk::Parked;
use crate::core::{content, form, refused};
use async_trait::async_trait;
use flowlog::Disk;
use protocol::calls::{
    CallError, Chat, ChatHost, ConnectionAt, DeviceAt, Inbox, Part, PartKind, PushBatch, Pushes, SendCall,
    SendReply, Target,
};
use protocol::v1::{ChatAnswer, ChatRequest};
use std::sync::Arc;

#[async_trait]
impl<D: Disk> Chat for ChatNode<D> {
    fn arrive(&self, device: DeviceAt) {
        if device.user == 0 || device.device == 0 {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut desk = self.desk.lock();
        match desk.state.arrive(device, now_ms) {
            Some(key) => {
                desk.want(key);
                self.wanted.notify_one();
            }
            None => {
                self.settle(&mut desk, device.user, now_ms);
                if !desk.wanted.is_empty() {
                    self.wanted.notify_one();
                }
            }
        }
    }

    fn arrive_again(&self, device: DeviceAt) {
        self.arrive(device);
        let door = self.doors.read().get(&device.at.access).cloned();
        if let Some(door) = door {
            // Whatever is applied by now may have been pushed to nowhere; what is applied later is pushed.
            let cursor = self.desk.lock().state.cursor;
            door.push(bare(device, cursor));
        }
    }

    fn watch_again(&self, _: DeviceAt, _: &[u64]) {
        // This process has its users' timelines as long as it lives, and a connection keeps its watches in it. What began
        // anew has forgotten them, until the device asks again.
    }

    fn leave(&self, device: DeviceAt) {
        let now_ms = self.clock.now_ms();
        self.desk.lock().state.leave(device, now_ms);
    }

    fn beat(&self, devices: &[DeviceAt]) {
        let now_ms = self.clock.now_ms();
        // A report of thousands must not hold up messages.
        for some in devices.chunks(1_024) {
            let mut desk = self.desk.lock();
            some.iter().for_each(|device| desk.state.beat(*device, now_ms));
        }
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let now_ms = self.clock.now_ms();
        // What needs no state is judged outside the lock.
        let mut parked = Vec::with_capacity(calls.len());
        for SendCall { tag, send, .. } in calls.drain(..) {
            match form(&send) {
                Err(refusal) => out.push(SendReply { tag, answer: refused(&send, &refusal) }),
                Ok(()) => {
                    let content = content(&send, &self.words, &*self.risk);
                    parked.push(Parked { send, content, tag, inbox: Arc::clone(inbox) });
                }
            }
        }
        let mut desk = self.desk.lock();
        for call in parked {
            let tag = call.tag;
            if let Some(answer) = self.handle(&mut desk, call, now_ms) {
                out.push(SendReply { tag, answer });
            }
        }
        if !desk.wanted.is_empty() {
            self.wanted.notify_one();
        }
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        let now_ms = self.clock.now_ms();
        for some in confirms.chunks(1_024) {
            let mut desk = self.desk.lock();
            some.iter().for_each(|(device, cursor)| desk.state.confirm(*device, *cursor, now_ms));
        }
    }

    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        let (user, device) = (request.user, request.device);
        if user == 0 {
            return Err(CallError::Invalid("a request needs its user".to_owned()));
        }
        let Some(ask) = request.ask else {
            return Err(CallError::Invalid("a request that asks for nothing this program knows".to_owned()));
        };
        let answer = self.answer_to(DeviceAt { user, device, at: from }, ask).await?;
        Ok(ChatAnswer { user, answer: Some(answer) })
    }
}

impl<D: Disk> ChatHost for ChatNode<D> {
    fn attach(&self, access: u16, door: Arc<dyn Pushes>) {
        ChatNode::attach(self, access, door);
    }

    fn detach(&self, access: u16) {
        ChatNode::detach(self, access);
    }
}

/// A word to sync, for a device that has not come as far as the cursor.
fn bare(device: DeviceAt, cursor: u64) -> PushBatch {
    let DeviceAt { user, device, at } = device;
    let target = Target { connection: at.connection, user, device, after: cursor, cursor, message: 0 };
    let part = Part { kind: PartKind::Bare, bytes: 0..0 };
    PushBatch { bytes: Vec::new(), parts: vec![part], targets: vec![target] }
}
