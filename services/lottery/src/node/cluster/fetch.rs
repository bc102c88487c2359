//! What the node asks of flow: how far the award store is, and users' past wins.

use super::cache::CacheKey;
use super::histories::{Wanted, checked};
use super::node::ClusterNode;
use crate::core::Want;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use records::SnapshotWin;
use runtime::Shutdown;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the award store's positions are asked for while a bucket waits.
const PASSED_EVERY: Duration = Duration::from_millis(40);

/// How often the core is looked at without being told.
const LOOK: Duration = Duration::from_millis(100);

/// Longest wait for an answer of flow.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How often it is said which lanes buckets wait for, ns.
const TELL_NS: u64 = 1_000_000_000;

/// Opens buckets as the award store passes what they wait for.
pub(super) async fn passed(node: Arc<ClusterNode>, shutdown: Shutdown) -> anyhow::Result<()> {
    let (mut away, mut waits) = (false, None::<Waits>);
    while !shutdown.is_requested() {
        let until = node.buckets.lock().waits_until();
        let now_ns = node.parts.clock.mono_ns();
        if until.is_empty() {
            if let Some(waits) = waits.take() {
                tracing::info!(waited_ms = (now_ns - waits.since_ns) / 1_000_000, "no bucket waits any more");
            }
            tokio::select! {
                () = shutdown.wait() => break,
                () = node.waits.notified() => continue,
            }
        }
        let lanes: Vec<u16> = until.keys().copied().collect();
        let waits = waits.get_or_insert(Waits { since_ns: now_ns, told_ns: now_ns });
        match tokio::time::timeout(ANSWER_MAX, node.parts.histories.passed(&lanes)).await {
            Ok(Ok(positions)) => {
                away = false;
                let positions: BTreeMap<u16, u64> = positions.into_iter().collect();
                node.buckets.lock().passed(&positions, &*node.core);
                if now_ns >= waits.told_ns + TELL_NS {
                    waits.told_ns = now_ns;
                    let buckets = node.buckets.lock().counts().waiting;
                    tracing::info!(buckets, ?until, passed = ?positions, "buckets wait for the award store");
                }
            }
            error if !std::mem::replace(&mut away, true) => {
                let why = error.map_or_else(|_| "no answer".to_owned(), |e| format!("{e:?}"));
                tracing::warn!(why, "flow does not say how far it is; buckets wait");
            }
            _ => {}
        }
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(PASSED_EVERY) => {}
        }
    }
    Ok(())
}

/// Buckets wait: since when, and when that was last said.
struct Waits {
    since_ns: u64,
    told_ns: u64,
}

/// Reads the past wins of users whom the core wants to know.
pub(super) async fn histories(node: Arc<ClusterNode>, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut wanted = Wanted::default();
    let mut calls = FuturesUnordered::new();
    loop {
        wanted.add(node.core.take_wanted(wanted.room()));
        while let Some(ask) = wanted.ask() {
            let node = Arc::clone(&node);
            calls.push(async move {
                node.fetch(&ask.wants).await;
                ask.id
            });
        }
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            Some(id) = calls.next() => wanted.done(id),
            () = node.wanted.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl ClusterNode {
    /// Gives these users their past wins: from the cache, or from flow. Who can't be read asks again.
    async fn fetch(&self, wants: &[Want]) {
        let keys: Vec<CacheKey> = wants.iter().map(|want| self.key(*want)).collect();
        let found = self.parts.cache.get(&keys).await;
        let mut missing = Vec::new();
        for (want, wins) in wants.iter().zip(found) {
            match wins {
                Some(wins) => {
                    self.counts.cache_hits.fetch_add(1, Ordering::Relaxed);
                    self.core.restore(want, wins);
                }
                None => missing.push(*want),
            }
        }
        if missing.is_empty() {
            return;
        }
        match self.ask(&missing).await {
            Ok(answer) => {
                let mut entries = Vec::with_capacity(missing.len());
                for (want, wins) in missing.iter().zip(answer) {
                    // Most users have won nothing; an entry for each of them would cost more than asking again.
                    if self.core.restore(want, wins.iter().copied()) && !wins.is_empty() {
                        entries.push((self.key(*want), wins));
                    }
                }
                self.parts.cache.put(entries);
            }
            Err(why) => {
                if self.counts.histories_failed.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                    tracing::warn!(
                        why,
                        users = missing.len(),
                        "flow did not say what users have won before; they wait"
                    );
                }
            }
        }
    }

    async fn ask(&self, wants: &[Want]) -> Result<Vec<Vec<SnapshotWin>>, String> {
        self.counts.histories_asked.fetch_add(wants.len() as u64, Ordering::Relaxed);
        let asked: Vec<_> = wants.iter().map(|want| (want.user, want.campaign)).collect();
        match tokio::time::timeout(ANSWER_MAX, self.parts.histories.wins(&asked)).await {
            Ok(Ok(answer)) => checked(wants, answer).map_err(|e| e.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    fn key(&self, want: Want) -> CacheKey {
        CacheKey { want, node: self.config.node, epoch: self.epoch }
    }
}
