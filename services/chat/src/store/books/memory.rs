//! All four books in memory, for one process, for tests and for the simulation. They last as long as the last clone and
//! grow with the users that are in them.

use super::{
    Beat, BookError, DEVICES_MAX, PresenceBook, RECENT_MAX, RecentBook, Route, RouteBook, Seen, Tag, Unread,
    UnreadAt, UnreadBook,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use records::ChatMessage;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// The books.
#[derive(Clone, Default)]
pub struct MemoryBooks {
    inner: Arc<Mutex<Inner>>,
}

/// By conversation: version and count.
type Counts = BTreeMap<u64, (u64, u64)>;

#[derive(Default)]
struct Inner {
    unread: HashMap<u64, (Tag, Counts)>,
    /// By user and device: heard of at, online until.
    beats: HashMap<u64, BTreeMap<u64, (u64, u64)>>,
    /// By user and device: where, until.
    routes: HashMap<u64, BTreeMap<u64, (Route, u64)>>,
    recent: HashMap<u64, VecDeque<Arc<ChatMessage>>>,
}

impl MemoryBooks {
    /// Forgets everything.
    pub fn flush(&self) {
        *self.inner.lock() = Inner::default();
    }
}

/// Takes those of `some` that are newer.
fn merge(into: &mut Counts, some: &[UnreadAt]) {
    for UnreadAt { conversation, count, version } in some {
        let kept = into.entry(*conversation).or_insert((*version, *count));
        if kept.0 < *version {
            *kept = (*version, *count);
        }
    }
}

fn total(counts: &Counts) -> u64 {
    counts.values().map(|(_, count)| count).sum()
}

#[async_trait]
impl UnreadBook for MemoryBooks {
    async fn fill(&self, user: u64, tag: Tag, all: &[UnreadAt]) -> Result<Option<u64>, BookError> {
        let mut inner = self.inner.lock();
        let (kept, counts) = inner.unread.entry(user).or_insert((tag, BTreeMap::new()));
        if kept.term > tag.term {
            return Ok(None);
        }
        if *kept != tag {
            counts.clear();
            *kept = tag;
        }
        merge(counts, all);
        Ok(Some(total(counts)))
    }

    async fn set(&self, user: u64, tag: Tag, some: &[UnreadAt]) -> Result<Option<u64>, BookError> {
        let mut inner = self.inner.lock();
        let Some((_, counts)) = inner.unread.get_mut(&user).filter(|(kept, _)| *kept == tag) else {
            return Ok(None);
        };
        merge(counts, some);
        Ok(Some(total(counts)))
    }

    async fn read(&self, user: u64, tag: Tag) -> Result<Option<Unread>, BookError> {
        let inner = self.inner.lock();
        let Some((_, counts)) = inner.unread.get(&user).filter(|(kept, _)| *kept == tag) else {
            return Ok(None);
        };
        let above = counts.iter().filter(|(_, (_, count))| *count > 0);
        let at = |(id, (version, count)): (&u64, &(u64, u64))| UnreadAt {
            conversation: *id,
            count: *count,
            version: *version,
        };
        Ok(Some(Unread { total: total(counts), conversations: above.map(at).collect() }))
    }

    async fn totals(&self, users: &[u64]) -> Result<Vec<Option<u64>>, BookError> {
        let inner = self.inner.lock();
        Ok(users.iter().map(|user| inner.unread.get(user).map(|(_, counts)| total(counts))).collect())
    }

    async fn forget(&self, user: u64) -> Result<(), BookError> {
        self.inner.lock().unread.remove(&user);
        Ok(())
    }
}

#[async_trait]
impl PresenceBook for MemoryBooks {
    async fn beat(&self, beats: &[Beat], now_ms: u64) -> Result<(), BookError> {
        let mut inner = self.inner.lock();
        for beat in beats {
            let devices = inner.beats.entry(beat.user).or_default();
            devices.retain(|_, (_, until)| *until > now_ms);
            let newer = devices.get(&beat.device).map(|(at, _)| *at < beat.at_ms);
            if newer.unwrap_or(devices.len() < DEVICES_MAX) {
                devices.insert(beat.device, (beat.at_ms, beat.until_ms));
            }
        }
        Ok(())
    }

    async fn gone(&self, user: u64, device: u64, at_ms: u64) -> Result<(), BookError> {
        if let Some(devices) = self.inner.lock().beats.get_mut(&user) {
            devices.retain(|d, (at, _)| *d != device || *at > at_ms);
        }
        Ok(())
    }

    async fn seen(&self, users: &[u64], now_ms: u64) -> Result<Vec<Seen>, BookError> {
        let inner = self.inner.lock();
        let seen = |user: &u64| {
            let devices = inner.beats.get(user).into_iter().flat_map(BTreeMap::values);
            let last = devices.filter(|(_, until)| *until > now_ms).map(|(at, _)| *at).max();
            Seen { user: *user, online: last.is_some(), seen_ms: last.unwrap_or(0) }
        };
        Ok(users.iter().map(seen).collect())
    }
}

#[async_trait]
impl RouteBook for MemoryBooks {
    async fn route(&self, routes: &[(u64, Route)], until_ms: u64, now_ms: u64) -> Result<(), BookError> {
        let mut inner = self.inner.lock();
        for (user, route) in routes {
            let kept = inner.routes.entry(*user).or_default();
            kept.retain(|_, (_, until)| *until > now_ms);
            if kept.len() < DEVICES_MAX || kept.contains_key(&route.device) {
                kept.insert(route.device, (*route, until_ms));
            }
        }
        Ok(())
    }

    async fn unroute(&self, user: u64, route: Route) -> Result<(), BookError> {
        if let Some(kept) = self.inner.lock().routes.get_mut(&user) {
            kept.retain(|_, (there, _)| *there != route);
        }
        Ok(())
    }

    async fn routes(&self, users: &[u64], now_ms: u64) -> Result<Vec<Vec<Route>>, BookError> {
        let inner = self.inner.lock();
        let of = |user: &u64| {
            let kept = inner.routes.get(user).into_iter().flat_map(BTreeMap::values);
            kept.filter(|(_, until)| *until > now_ms).map(|(route, _)| *route).collect()
        };
        Ok(users.iter().map(of).collect())
    }
}

#[async_trait]
impl RecentBook for MemoryBooks {
    async fn keep(&self, conversation: u64, messages: &[Arc<ChatMessage>]) -> Result<(), BookError> {
        let messages = &messages[messages.len().saturating_sub(RECENT_MAX)..];
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(()) };
        let mut inner = self.inner.lock();
        let kept = inner.recent.entry(conversation).or_default();
        if let (Some(low), Some(high)) = (kept.front().map(|m| m.seq), kept.back().map(|m| m.seq)) {
            if last.seq + 1 < low {
                return Ok(());
            }
            if first.seq > high + 1 {
                kept.clear();
            }
        }
        // All of them, those that are there and those that come, are one run now.
        let mut run: BTreeMap<u64, Arc<ChatMessage>> = kept.drain(..).map(|m| (m.seq, m)).collect();
        run.extend(messages.iter().map(|m| (m.seq, Arc::clone(m))));
        kept.extend(run.into_values().rev().take(RECENT_MAX).collect::<Vec<_>>().into_iter().rev());
        Ok(())
    }

    async fn recent(&self, conversation: u64, from: u64, to: u64) -> Result<Vec<ChatMessage>, BookError> {
        let inner = self.inner.lock();
        let kept = inner.recent.get(&conversation).into_iter().flatten();
        Ok(kept.filter(|m| (from..=to).contains(&m.seq)).map(|m| (**m).clone()).collect())
    }
}
