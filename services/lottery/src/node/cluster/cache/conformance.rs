//! What every cache must do, and what none may.

use super::entry::tests::{key, win};
use super::{
    CacheKey, HistoryCache, Memcached, MemcachedError, MemcachedOptions, MemoryCache, NoCache, WINS_MAX,
};
use campaign::NodeEpoch;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use records::SnapshotWin;
use runtime::{ManualClock, SystemClock};
use std::time::Duration;

type Entry = (CacheKey, Vec<SnapshotWin>);

/// Asks until everything is there, for a while: putting is not waited for.
async fn get_soon(cache: &dyn HistoryCache, keys: &[CacheKey]) -> Vec<Option<Vec<SnapshotWin>>> {
    for _ in 0..3_000 {
        let found = cache.get(keys).await;
        if found.iter().all(Option::is_some) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cache.get(keys).await
}

/// `salt` keeps runs on a shared server apart.
async fn suite(cache: &dyn HistoryCache, salt: u32) {
    let key = |user: u64, term: u32| CacheKey { epoch: NodeEpoch(salt), ..key(user, term) };
    let keys: Vec<CacheKey> = (1..=300).map(|user| key(user, 1)).collect();
    assert!(cache.get(&keys).await.iter().all(Option::is_none), "it begins empty");
    assert_eq!(cache.get(&[]).await, vec![]);
    let wins = |user: u64| (0..user % 5).map(|n| win(user, n + 1)).collect::<Vec<_>>();
    cache.put((1..=300).map(|user| (key(user, 1), wins(user))).collect());
    let found = get_soon(cache, &keys).await;
    for (user, found) in (1..).zip(found) {
        assert_eq!(found, Some(wins(user)), "user {user}: none is an answer too, and the order stays");
    }
    let mixed = cache.get(&[key(7, 2), key(7, 1), key(900, 1), key(7, 1)]).await;
    assert_eq!(
        mixed,
        [None, Some(wins(7)), None, Some(wins(7))],
        "another term is a miss; in the order asked"
    );
    let elsewhere = CacheKey { epoch: NodeEpoch(salt + 1), ..key(7, 1) };
    assert_eq!(cache.get(&[elsewhere]).await, [None], "another epoch's term is a miss");
    let many: Vec<SnapshotWin> = (0..=WINS_MAX as u64).map(|n| win(1_000, n)).collect();
    cache.put(vec![(key(1_000, 1), many.clone()), (key(1_001, 1), vec![win(1_001, 1)])]);
    cache.put(vec![(
        key(1_002, 1),
        many[..WINS_MAX].iter().map(|w| SnapshotWin { user: key(1_002, 1).want.user, ..*w }).collect(),
    )]);
    assert_eq!(
        get_soon(cache, &[key(1_001, 1), key(1_002, 1)]).await[1].as_ref().map(Vec::len),
        Some(WINS_MAX)
    );
    assert_eq!(cache.get(&[key(1_000, 1)]).await, [None], "too many wins are never cut short");
}

#[tokio::test]
async fn memory() {
    suite(&MemoryCache::new(10_000), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memcached() {
    let Some(address) = testkit::servers::memcached() else { return };
    // Patient: this is about what is kept, and a busy machine may take long over an answer.
    let options = |life| MemcachedOptions {
        timeout: Duration::from_secs(30),
        ..MemcachedOptions::new(vec![address.clone()], life)
    };
    let cache = Memcached::start(options(1), SystemClock::shared()).unwrap();
    let salt = std::process::id().wrapping_mul(1_000) % (1 << 21);
    suite(&cache, salt).await;
    assert_eq!(cache.failures(), 0);
    let other = Memcached::start(options(2), SystemClock::shared()).unwrap();
    let mine = CacheKey { epoch: NodeEpoch(salt), ..key(7, 3) };
    cache.put(vec![(mine, vec![win(7, 1)])]);
    assert_eq!(get_soon(&cache, &[mine]).await, [Some(vec![win(7, 1)])]);
    assert_eq!(other.get(&[mine]).await, [None], "what another process has kept");
    // Whatever is put is what is got, or nothing.
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(20));
    let entries = prop::collection::vec((1u64..50, 1u32..4, 0u64..20), 1..40);
    for round in 0..20 {
        let drawn = entries.new_tree(&mut runner).unwrap().current();
        let salt = NodeEpoch(salt + 10 + round);
        let entry = |&(user, term, count): &(u64, u32, u64)| -> Entry {
            let count = count * u64::from(term) % 7 + user % 3;
            (CacheKey { epoch: salt, ..key(user, term) }, (0..count).map(|n| win(user, n)).collect())
        };
        // The same key always has the same value.
        let entries: std::collections::HashMap<CacheKey, Vec<SnapshotWin>> =
            drawn.iter().map(entry).collect();
        let keys: Vec<CacheKey> = entries.keys().copied().collect();
        cache.put(entries.clone().into_iter().collect());
        for (key, found) in keys.iter().zip(get_soon(&cache, &keys).await) {
            assert_eq!(found.as_ref(), entries.get(key));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_costs_a_moment_and_nothing_else() {
    // One that takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = vec!["127.0.0.1:1".to_owned(), silent.local_addr().unwrap().to_string()];
    let options =
        MemcachedOptions { timeout: Duration::from_millis(20), ..MemcachedOptions::new(servers, 1) };
    // By a clock that stands, however long all of it takes: nobody is asked again.
    let cache = Memcached::start(options, ManualClock::new(1)).unwrap();
    let keys: Vec<CacheKey> = (1..=200).map(|user| key(user, 1)).collect();
    for _ in 0..50 {
        assert!(cache.get(&keys).await.iter().all(Option::is_none));
        cache.put(keys.iter().map(|k| (*k, vec![])).collect());
    }
    assert!((1..20).contains(&cache.failures()), "{} calls: they are left alone", cache.failures());
    drop(cache);
    assert!(NoCache.get(&keys).await.iter().all(Option::is_none));
}

#[tokio::test]
async fn what_can_not_be_a_server_is_refused() {
    let start = |servers: Vec<String>| {
        Memcached::start(MemcachedOptions::new(servers, 1), SystemClock::shared()).err()
    };
    assert!(matches!(start(vec![]), Some(MemcachedError::NoServer)));
    for bad in ["localhost", "host:99999", ":11211"] {
        let error = start(vec![bad.to_owned()]).unwrap().to_string();
        assert!(error.contains(bad) && error.contains("host:port"), "{error}");
    }
}
