//! What goes to the owners of other buckets: hands, acknowledgements, watches, heads.
//!
//! What is for this node's own buckets goes to its own cores, without a detour.

use super::OwnerNode;
use super::reign::Reign;
use super::wire::Saying;
use crate::cluster::{Ack, Hand, Place};
use protocol::v1::Head;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to be said, by node.
#[derive(Default)]
pub(super) struct Sayings(BTreeMap<u16, Saying>);

impl Sayings {
    /// To a node.
    pub fn to(&mut self, node: u16) -> &mut Saying {
        self.0.entry(node).or_default()
    }
}

impl OwnerNode {
    pub(super) fn say(&self, sayings: Sayings) {
        for (node, saying) in sayings.0 {
            for message in saying.take() {
                self.peers.say(node, message);
            }
        }
    }

    /// Each place goes to the owner of its user's bucket, as far as that is known; the others are handed again.
    pub(super) fn hand_out(&self, reign: &Reign, hands: Vec<Hand>) {
        if hands.is_empty() {
            return;
        }
        let routes = Arc::clone(&self.routes.read());
        let (mut sayings, mut mine) = (Sayings::default(), Vec::new());
        for hand in hands {
            let mut parts: BTreeMap<u16, Vec<Place>> = BTreeMap::new();
            for place in &hand.places {
                if let Some(node) = routes.of(place.user) {
                    parts.entry(node).or_default().push(*place);
                }
            }
            for (node, places) in parts {
                let part = Hand { key: hand.key, large: hand.large, messages: hand.messages.clone(), places };
                if node == routes.me {
                    mine.push(Arc::new(part));
                } else {
                    sayings.to(node).hand(&part);
                }
            }
        }
        self.say(sayings);
        if !mine.is_empty() {
            let now_ms = self.clock.now_ms();
            let mut lines = reign.lines.lock();
            mine.iter().for_each(|hand| lines.core.receive(hand, now_ms));
            drop(lines);
            self.wakes.lines.notify_one();
        }
    }

    /// Acknowledgements go to the nodes that handed.
    pub(super) fn acknowledge(&self, reign: &Reign, acks: Vec<Ack>) {
        if acks.is_empty() {
            return;
        }
        let (mut sayings, mut mine) = (Sayings::default(), Vec::new());
        for ack in acks {
            if ack.key.node == self.options.node {
                mine.push(ack);
            } else {
                sayings.to(ack.key.node).ack(&ack);
            }
        }
        self.say(sayings);
        self.acked(reign, &mine);
    }

    /// Timelines have what was handed.
    pub(super) fn acked(&self, reign: &Reign, acks: &[Ack]) {
        if !acks.is_empty() {
            let mut on = reign.conversations.lock();
            acks.iter().for_each(|ack| on.acked(ack));
            drop(on);
            self.wakes.conversations.notify_one();
        }
    }

    /// The owners of large conversations hear that somebody here watches them.
    pub(super) fn tell_watches(&self, reign: &Reign, watches: Vec<u64>) {
        if watches.is_empty() {
            return;
        }
        let routes = Arc::clone(&self.routes.read());
        let mut by_node: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for id in watches {
            if let Some(node) = routes.of(id) {
                by_node.entry(node).or_default().push(id);
            }
        }
        let mut sayings = Sayings::default();
        for (node, ids) in by_node {
            if node == routes.me {
                self.watched(reign, node, &ids);
            } else {
                sayings.to(node).watches(&ids);
            }
        }
        self.say(sayings);
    }

    /// A node watches large conversations.
    pub(super) fn watched(&self, reign: &Reign, node: u16, ids: &[u64]) {
        let now_ms = self.clock.now_ms();
        let mut on = reign.conversations.lock();
        ids.iter().for_each(|id| on.watch(*id, node, now_ms));
    }

    /// Large conversations have moved.
    pub(super) fn tell_heads(&self, reign: &Reign, heads: Vec<(u16, Head)>) {
        let (mut sayings, mut mine) = (Sayings::default(), Vec::new());
        for (node, head) in heads {
            if node == self.options.node {
                mine.push(head);
            } else {
                sayings.to(node).head(head);
            }
        }
        self.say(sayings);
        self.heads(reign, &mine);
    }

    /// Those who watch hear of heads.
    pub(super) fn heads(&self, reign: &Reign, heads: &[Head]) {
        if !heads.is_empty() {
            let mut guard = reign.lines.lock();
            let lines = &mut *guard;
            heads.iter().for_each(|head| lines.core.head(head, &mut lines.out));
            self.flush(reign, guard);
        }
    }
}
