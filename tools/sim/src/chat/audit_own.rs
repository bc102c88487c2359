//! The auditor's look at what is a user's own: how far he has read, what he deleted, what his list and his devices say.

use super::audit::{Anew, Audit};
use chat::cluster::{ListPlan, unread_total};
use protocol::v1::{ConversationsRequest, MessageKind};
use records::ChatMessage;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Audit<'_> {
    /// Unread messages of a member, counted from messages and from what he has read and deleted.
    pub(super) fn unread_of(&self, user: u64, id: u64, anew: &Anew) -> u64 {
        let Some(kept) = self.world.store.tables.conversations.get(&id) else { return 0 };
        let Some(member) = kept.members.get(&user) else { return 0 };
        let counts = |m: &&Arc<ChatMessage>| {
            i32::from(m.kind) < MessageKind::Change as i32
                && m.sender != user
                && !anew.recalled.contains(&m.seq)
                && !member.has_deleted(m.seq)
        };
        kept.messages.range(member.read_seq + 1..).map(|(_, m)| m).filter(counts).count() as u64
    }

    /// Law 6: what a user was told that he has read, and deleted, stays so; no device heard of more.
    pub(super) fn own_things(&mut self) {
        let world = self.world;
        for user in &world.users {
            for device in &user.devices {
                for (id, seq) in &device.read {
                    let kept = world.store.tables.conversations.get(id);
                    let Some(member) = kept.and_then(|kept| kept.members.get(&user.id)) else { continue };
                    if member.read_seq < *seq {
                        let what =
                            format!("user {} has read {id} to {seq}; it says {}", user.id, member.read_seq);
                        self.wrong(6, what);
                    }
                }
                for (id, seq) in &device.deleted {
                    let kept = world.store.tables.conversations.get(id);
                    let Some(member) = kept.and_then(|kept| kept.members.get(&user.id)) else { continue };
                    if member.sees(*seq) {
                        self.wrong(6, format!("user {} has deleted {id}/{seq}, and sees it", user.id));
                    }
                }
                for (id, seq) in &device.heard_read {
                    let kept = world.store.tables.conversations.get(id);
                    let Some(member) = kept.and_then(|kept| kept.members.get(&user.id)) else { continue };
                    if member.read_seq < *seq {
                        let what = format!("a device of {} heard that {id} is read to {seq}", user.id);
                        self.wrong(6, what);
                    }
                }
            }
        }
    }

    /// Law 4, as the list of conversations and a sync have it: from the store, large ones too.
    pub(super) fn lists(&mut self, anew: &BTreeMap<u64, Anew>) {
        let world = self.world;
        for user in &world.users {
            let stored = world.store.tables.user(user.id);
            let plan = ListPlan::new(&stored, &ConversationsRequest { limit: 200, ..Default::default() });
            let listed: Vec<_> =
                plan.reads().iter().filter_map(|id| world.store.tables.listed(user.id, *id)).collect();
            let list = plan.answer(&listed);
            let mine: BTreeMap<u64, &Anew> = anew
                .iter()
                .filter(|(_, anew)| anew.members.contains(&user.id))
                .map(|(id, anew)| (*id, anew))
                .collect();
            let unread: BTreeMap<u64, u64> =
                mine.iter().map(|(id, anew)| (*id, self.unread_of(user.id, *id, anew))).collect();
            let said: BTreeMap<u64, u64> =
                list.conversations.iter().map(|view| (view.conversation, view.unread)).collect();
            if said != unread {
                self.wrong(4, format!("user {} has unread {unread:?}, and his list says {said:?}", user.id));
            }
            let total: u64 = unread.values().sum();
            let said = (list.unread_total, unread_total(&stored));
            if said != (total, total) {
                self.wrong(4, format!("user {} has {total} unread in all, and hears {said:?}", user.id));
            }
            for view in &list.conversations {
                let shows = view.last.as_ref().is_none_or(|m| m.seq == view.last_seq);
                let peer = mine.get(&view.conversation).and_then(|a| a.peer_of(user.id));
                if !shows || view.peer != peer.unwrap_or(0) {
                    self.wrong(4, format!("the list of {} shows {view:?}", user.id));
                }
            }
        }
    }
}
