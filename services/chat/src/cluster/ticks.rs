//! What time brings to conversations: what was seen of others grows old, heads go to those who watch, idle ones leave memory.

use super::conversations::{Conversations, Ticked};
use super::work::Work;
use crate::core::{Key, LINGER_MS};
use protocol::v1::Head;
use std::collections::BTreeMap;

/// A node that watches a large conversation says so again within this time, in ms.
pub const WATCH_MS: u64 = 15_000;

impl<T> Conversations<T> {
    /// A node has devices that watch a large conversation; it says so again within [`WATCH_MS`].
    pub fn watch(&mut self, conversation: u64, node: u16, now_ms: u64) {
        if self.state.owns(conversation) {
            let nodes = self.watchers.entry(conversation).or_default();
            if nodes.insert(node, now_ms + WATCH_MS).is_none() {
                // It may have missed the last head.
                self.news.insert(conversation);
            }
        }
    }

    /// Everything that is due at a time.
    pub fn tick(&mut self, now_ms: u64) -> Ticked {
        self.ticked_ms = now_ms;
        self.unreadable.expire(now_ms);
        self.want_overlooked();
        while self.glimpses.front().is_some_and(|(due, _)| *due <= now_ms) {
            match self.glimpses.pop_front() {
                Some((_, Key::User(user))) => self.state.forget_glimpse(user),
                Some((_, Key::Pair(low, high))) if self.state.pair(low, high) == Ok(None) => {
                    self.state.correct_pair(low, high, None);
                }
                _ => {}
            }
        }
        let is_over = |id: &&u64| self.works.get(id).is_none_or(|work| work.held_until_ms <= now_ms);
        let over: Vec<u64> = self.held.iter().filter(is_over).copied().collect();
        over.into_iter().for_each(|id| self.let_go(id));
        let lacking: Vec<u64> = std::mem::take(&mut self.lacking).into_iter().collect();
        lacking.into_iter().for_each(|id| self.form(id));
        let heads = self.heads(now_ms);
        self.evict(now_ms);
        Ticked { heads }
    }

    /// Large conversations that have moved: one head for each node that watches.
    fn heads(&mut self, now_ms: u64) -> Vec<(u16, Head)> {
        self.watchers.retain(|_, nodes| {
            nodes.retain(|_, until| *until > now_ms);
            !nodes.is_empty()
        });
        let mut heads = Vec::new();
        for id in std::mem::take(&mut self.news) {
            let (Some(work), Some(conversation)) =
                (self.works.get(&id), self.state.conversations.get_mut(&id))
            else {
                continue;
            };
            let head = conversation.news(work.seq);
            let nodes = self.watchers.get(&id).into_iter().flat_map(BTreeMap::keys);
            heads.extend(nodes.map(|node| (*node, head.clone())));
        }
        heads
    }

    /// Conversations that have been idle for a while leave when there are more than memory should hold.
    fn evict(&mut self, now_ms: u64) {
        let excess = self.works.len().saturating_sub(self.state.options.conversations_max);
        if excess == 0 {
            return;
        }
        let before = now_ms.saturating_sub(LINGER_MS);
        let is_idle = |(id, work): &(&u64, &Work<T>)| {
            work.is_quiet()
                && work.marked == work.told()
                && work.touched_ms < before
                && !self.watchers.contains_key(id)
        };
        let gone: Vec<u64> = self.works.iter().filter(is_idle).take(excess).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.forget(id));
    }
}
