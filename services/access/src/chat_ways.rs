//! From a device to the chat nodes that serve its user and his conversations.
//!
//! A conversation and a user's timeline belong to the node that has their bucket, as the ring over the member list says it:
//! what names a conversation goes to the conversation's node, everything else to the user's. A member list that has changed
//! makes a new table; devices whose user belongs to another node from then on leave the old node and are told of to the new
//! one, which pushes them a word to sync, and is told whose presence they watch. A node that does not own a bucket refuses, so that a stale table is slow and never
//! wrong.
//!
//! While no node is known, or the user's can't be reached, messages hear 'busy' and requests 'unavailable', and the device
//! comes again. What is known of devices here outlives every connection and node: see [`RemoteChat`].

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use hashring::{BUCKET_COUNT, Bucket, RingError, bucket_of};
use ownership::MemberList;
use parking_lot::{Mutex, RwLock};
use protocol::calls::client::{ChatHealth, Dialer, RemoteChat, Target};
use protocol::calls::{
    CallError, Chat, ConnectionAt, DeviceAt, Inbox, PushBatch, Pushes, SendCall, SendReply,
};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatAnswer, ChatRequest, Send, SendAnswer, SendOutcome};

/// What a sender waits while no chat node is known, in ms; by user up to half as much again.
const NOWHERE_MS: u64 = 1_000;

/// No way.
const NONE: u16 = u16::MAX;

/// The ways under one member list.
struct Table {
    nodes: Vec<(u16, RemoteChat)>,
    /// For each bucket the place in `nodes`.
    by_bucket: Box<[u16; BUCKET_COUNT]>,
}

impl Table {
    fn nowhere() -> Self {
        Self { nodes: Vec::new(), by_bucket: Box::new([NONE; BUCKET_COUNT]) }
    }

    fn place(&self, id: u64) -> usize {
        usize::from(self.by_bucket[bucket_of(id).index()])
    }

    fn way(&self, id: u64) -> Option<&RemoteChat> {
        self.nodes.get(self.place(id)).map(|(_, way)| way)
    }
}

/// Where pushes of all nodes go, once the front door is there.
#[derive(Default)]
struct DoorSlot(RwLock<Option<Arc<dyn Pushes>>>);

impl Pushes for DoorSlot {
    fn push(&self, batch: PushBatch) {
        let door = self.0.read().clone();
        // Before there is a door nobody is connected to it.
        if let Some(door) = door {
            door.push(batch);
        }
    }
}

/// Chat, at whichever nodes have it.
pub struct ChatWays {
    access: u16,
    door: Arc<DoorSlot>,
    table: RwLock<Table>,
    /// Devices of users without a way, and whose presence each watches: they are told of when there is one.
    waiting: Mutex<HashMap<DeviceAt, Vec<u64>>>,
    /// One change of the table at a time.
    changing: Mutex<()>,
}

impl ChatWays {
    /// No way yet. `access`: the number of this access node.
    pub fn new(access: u16) -> Arc<ChatWays> {
        let (door, table) = (Arc::default(), RwLock::new(Table::nowhere()));
        let (waiting, changing) = (Mutex::default(), Mutex::default());
        Arc::new(ChatWays { access, door, table, waiting, changing })
    }

    /// Pushes go there from now on.
    pub fn attach(&self, door: Arc<dyn Pushes>) {
        *self.door.0.write() = Some(door);
    }

    /// How each node is, as seen from here.
    pub fn health(&self) -> Vec<(u16, ChatHealth)> {
        self.table.read().nodes.iter().map(|(node, way)| (*node, way.health())).collect()
    }

    /// Follows a member list: who is new is dialled, who stays keeps his connection, who left ends once what is under way
    /// there is answered, and devices are told of to the node that has their user now.
    ///
    /// # Errors
    /// When no ring can be made of the list; the ways there are stay.
    pub(crate) fn follow(
        &self,
        dialer: &Dialer,
        list: &MemberList,
        address: impl Fn(u16) -> Option<Arc<str>>,
    ) -> Result<(), RingError> {
        let ring = list.ring()?;
        let _one_at_a_time = self.changing.lock();
        let known: Vec<RemoteChat> = self.table.read().nodes.iter().map(|(_, way)| way.clone()).collect();
        let mut nodes = Vec::new();
        for member in list.members.iter().filter(|member| member.weight > 0) {
            let Some(address) = address(member.node) else { continue };
            let target = Target { node: member.node, address: address.to_string() };
            let stays = known.iter().find(|way| *way.target() == target).cloned();
            let door = Arc::clone(&self.door) as Arc<dyn Pushes>;
            nodes.push((member.node, stays.unwrap_or_else(|| dialer.dial_chat(target, self.access, door))));
        }
        let mut by_bucket = Box::new([NONE; BUCKET_COUNT]);
        for bucket in Bucket::all() {
            let owner = ring.owner(bucket);
            let place = nodes.iter().position(|(node, _)| *node == owner);
            by_bucket[bucket.index()] = place.map_or(NONE, |place| place as u16);
        }
        self.swap(Table { nodes, by_bucket });
        Ok(())
    }

    /// Nobody speaks of a device meanwhile, so that none is left behind at a node that is not its user's.
    fn swap(&self, table: Table) {
        let mut now = self.table.write();
        let before = std::mem::replace(&mut *now, table);
        let mut waiting = self.waiting.lock();
        for (_, old) in &before.nodes {
            let is_elsewhere =
                |device: &DeviceAt| now.way(device.user).is_none_or(|way| way.target() != old.target());
            waiting.extend(old.give_up(is_elsewhere));
            if !now.nodes.iter().any(|(_, way)| way.target() == old.target()) {
                old.stop();
            }
        }
        waiting.retain(|device, watches| match now.way(device.user) {
            Some(way) => {
                way.arrive_again(*device);
                way.watch_again(*device, watches);
                false
            }
            None => true,
        });
    }

    /// Hands rows over to the ways of their users, in their order.
    fn by_user<T: Clone>(&self, rows: &[T], user: impl Fn(&T) -> u64, each: impl Fn(&RemoteChat, &[T])) {
        let table = self.table.read();
        if let [(_, only)] = &table.nodes[..] {
            return each(only, rows);
        }
        for (place, (_, way)) in table.nodes.iter().enumerate() {
            let mine: Vec<T> = rows.iter().filter(|row| table.place(user(row)) == place).cloned().collect();
            if !mine.is_empty() {
                each(way, &mine);
            }
        }
    }
}

/// Whose node takes a message: the conversation's. The first one of two users, who have none yet, is taken by the smaller
/// user's node, which makes it.
fn of_send(send: &Send) -> u64 {
    if send.conversation == 0 { send.user.min(send.to_user) } else { send.conversation }
}

/// Whose node answers a request: the conversation's that it names, or the user's.
fn of_ask(request: &ChatRequest) -> u64 {
    match &request.ask {
        Some(Ask::Range(ask)) => ask.conversation,
        Some(Ask::MarkRead(ask)) => ask.conversation,
        Some(Ask::Recall(ask)) => ask.conversation,
        Some(Ask::Delete(ask)) => ask.conversation,
        Some(Ask::SetNotice(ask)) => ask.conversation,
        Some(Ask::AddMembers(ask)) => ask.conversation,
        Some(Ask::RemoveMembers(ask)) => ask.conversation,
        Some(Ask::SetRole(ask)) => ask.conversation,
        Some(Ask::Mute(ask)) => ask.conversation,
        Some(Ask::Rename(ask)) => ask.conversation,
        Some(Ask::Dissolve(ask)) => ask.conversation,
        Some(Ask::Members(ask)) => ask.conversation,
        Some(
            Ask::Sync(_)
            | Ask::Conversations(_)
            | Ask::MakeGroup(_)
            | Ask::Befriend(_)
            | Ask::Unfriend(_)
            | Ask::Friends(_)
            | Ask::Presence(_)
            | Ask::SetProfile(_)
            | Ask::Profiles(_)
            | Ask::Devices(_)
            | Ask::ForgetDevice(_),
        )
        | None => request.user,
    }
}

/// What a user waits while no chat node is known, in ms.
fn wait_ms(user: u64) -> u32 {
    (NOWHERE_MS + user % (NOWHERE_MS / 2)) as u32
}

fn nowhere(call: &SendCall) -> SendReply {
    let send = &call.send;
    let answer = SendAnswer {
        outcome: SendOutcome::Busy.into(),
        conversation: send.conversation,
        counter: send.counter,
        user: send.user,
        retry_after_ms: wait_ms(send.user),
        reason: "no chat node is known just now".to_owned(),
        ..SendAnswer::default()
    };
    SendReply { tag: call.tag, answer }
}

#[async_trait]
impl Chat for ChatWays {
    fn out_of_reach_ms(&self, user: u64) -> u32 {
        match self.table.read().way(user) {
            Some(way) => way.out_of_reach_ms(user),
            None => wait_ms(user),
        }
    }

    fn arrive(&self, device: DeviceAt) {
        match self.table.read().way(device.user) {
            Some(way) => way.arrive(device),
            None => {
                self.waiting.lock().entry(device).or_default();
            }
        }
    }

    fn arrive_again(&self, device: DeviceAt) {
        match self.table.read().way(device.user) {
            Some(way) => way.arrive_again(device),
            None => {
                self.waiting.lock().entry(device).or_default();
            }
        }
    }

    fn watch_again(&self, device: DeviceAt, users: &[u64]) {
        match self.table.read().way(device.user) {
            Some(way) => way.watch_again(device, users),
            None => {
                if let Some(watches) = self.waiting.lock().get_mut(&device) {
                    *watches = users.to_vec();
                }
            }
        }
    }

    fn leave(&self, device: DeviceAt) {
        match self.table.read().way(device.user) {
            Some(way) => way.leave(device),
            None => {
                self.waiting.lock().remove(&device);
            }
        }
    }

    fn beat(&self, devices: &[DeviceAt]) {
        self.by_user(devices, |device| device.user, |way, devices| way.beat(devices));
    }

    fn send(&self, calls: &mut Vec<SendCall>, inbox: &Arc<Inbox<SendReply>>, out: &mut Vec<SendReply>) {
        let table = self.table.read();
        if let [(_, only)] = &table.nodes[..] {
            return only.send(calls, inbox, out);
        }
        let mut parts: Vec<(usize, Vec<SendCall>)> = Vec::new();
        for call in calls.drain(..) {
            let place = table.place(of_send(&call.send));
            match parts.iter_mut().find(|(of, _)| *of == place) {
                Some((_, part)) => part.push(call),
                None => parts.push((place, vec![call])),
            }
        }
        for (place, mut part) in parts {
            match table.nodes.get(place) {
                Some((_, way)) => way.send(&mut part, inbox, out),
                None => out.extend(part.iter().map(nowhere)),
            }
        }
    }

    fn confirm(&self, confirms: &[(DeviceAt, u64)]) {
        self.by_user(confirms, |(device, _)| device.user, |way, confirms| way.confirm(confirms));
    }

    async fn ask(&self, from: ConnectionAt, request: ChatRequest) -> Result<ChatAnswer, CallError> {
        let way = self.table.read().way(of_ask(&request)).cloned();
        let Some(way) = way else {
            return Err(CallError::Unavailable(
                "no chat node is known just now; ask the same again".to_owned(),
            ));
        };
        let device = DeviceAt { user: request.user, device: request.device, at: from };
        let is_watching = matches!(&request.ask, Some(Ask::Presence(ask)) if ask.watch);
        let answer = way.ask(from, request).await?;
        if is_watching && let Some(Answer::Presence(seen)) = &answer.answer {
            // Its user may have become another node's, which has been told of the device without this.
            let now = self.table.read();
            if let Some(next) = now.way(device.user).filter(|next| next.target() != way.target()) {
                let users: Vec<u64> = seen.presence.iter().map(|presence| presence.user).collect();
                next.watch_again(device, &users);
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::{of_ask, of_send};
    use protocol::v1::chat_request::Ask;
    use protocol::v1::{ChatRequest, MarkRead, Send, SyncRequest};

    #[test]
    fn what_names_a_conversation_goes_to_its_node_and_all_else_to_the_users() {
        let send = |user, conversation, to_user| Send { user, conversation, to_user, ..Send::default() };
        assert_eq!(of_send(&send(7, 99, 0)), 99);
        assert_eq!((of_send(&send(7, 0, 3)), of_send(&send(3, 0, 7))), (3, 3), "both sides of a pair alike");
        let ask = |ask| ChatRequest { user: 7, device: 1, ask: Some(ask) };
        assert_eq!(of_ask(&ask(Ask::MarkRead(MarkRead { conversation: 99, seq: 1 }))), 99);
        assert_eq!(of_ask(&ask(Ask::Sync(SyncRequest::default()))), 7);
    }
}
