//! What every book promises, and that all of them may forget everything.

use super::make::message;
use chat::store::books::*;
use chat::store::{RedisBooks, RedisBooksOptions};
use std::sync::Arc;
use storage::redis::{Redis, RedisOptions};
use testkit::servers;

/// Books in the real server, under keys of their own.
pub async fn redis() -> Option<RedisBooks> {
    let url = servers::redis()?;
    let options = RedisOptions { urls: vec![url], cluster: false, connect_ms: 10_000, answer_ms: 10_000 };
    let books =
        RedisBooksOptions { prefix: format!("t{}", servers::unique()), ..RedisBooksOptions::default() };
    // A minute is enough for what a test leaves.
    let books = RedisBooksOptions { unread_ms: 60_000, recent_ms: 60_000, ..books };
    let books = RedisBooks::new(Arc::new(Redis::new(options).unwrap()), books);
    // Nobody waits for another's attempt to connect; from here on all find the connection.
    books.forget(0).await.unwrap();
    Some(books)
}

fn at(conversation: u64, count: u64, version: u64) -> UnreadAt {
    UnreadAt { conversation, count, version }
}

const BIG: u64 = u64::MAX;

async fn unread(book: &dyn UnreadBook) {
    let tag = Tag { term: 3, node: 1, epoch: 2, turn: 0 };
    assert_eq!(book.set(7, tag, &[at(1, 5, 5)]).await.unwrap(), None, "a part is not the whole");
    assert_eq!((book.read(7, tag).await.unwrap(), book.totals(&[7]).await.unwrap()), (None, vec![None]));
    assert_eq!(book.fill(7, tag, &[at(1, 5, 5), at(BIG, 2, 0), at(3, 0, 9)]).await.unwrap(), Some(7));
    let whole = Unread { total: 7, conversations: vec![at(1, 5, 5), at(BIG, 2, 0)] };
    assert_eq!(book.read(7, tag).await.unwrap(), Some(whole));
    // In any order and twice: the newest of each counts.
    for (some, total) in [
        (vec![at(1, 6, 6), at(3, 1, 10)], 9),
        (vec![at(1, 5, 5)], 9),
        (vec![at(1, 6, 6), at(3, 4, 9), at(4, 1, 1)], 10),
        (vec![at(BIG, 0, 1)], 8),
        (vec![], 8),
    ] {
        assert_eq!(book.set(7, tag, &some).await.unwrap(), Some(total), "{some:?}");
    }
    // Filled once more under the same tag: what is newer stays.
    assert_eq!(book.fill(7, tag, &[at(1, 1, 5), at(3, 2, 11), at(9, 9, 9)]).await.unwrap(), Some(18));
    let left = Unread { total: 18, conversations: vec![at(1, 6, 6), at(3, 2, 11), at(4, 1, 1), at(9, 9, 9)] };
    assert_eq!(book.read(7, tag).await.unwrap(), Some(left));
    // Under another tag it is nothing, but for a number on a screen.
    for other in [Tag { turn: 1, ..tag }, Tag { term: 4, node: 2, ..tag }, Tag { epoch: 3, ..tag }] {
        assert_eq!(
            (book.read(7, other).await.unwrap(), book.set(7, other, &[at(1, 1, 99)]).await.unwrap()),
            (None, None)
        );
    }
    assert_eq!(book.totals(&[8, 7]).await.unwrap(), [None, Some(18)]);
    let new = Tag { term: 4, node: 2, epoch: 1, turn: 0 };
    assert_eq!(book.fill(7, new, &[at(1, 2, 3)]).await.unwrap(), Some(2), "nothing of the other's is left");
    assert_eq!(book.fill(7, tag, &[at(1, 6, 6)]).await.unwrap(), None, "an older owner comes late");
    assert_eq!(book.set(7, tag, &[at(1, 6, 6)]).await.unwrap(), None);
    let turned = Tag { turn: 1, ..new };
    assert_eq!(book.fill(7, turned, &[at(5, 5, 5)]).await.unwrap(), Some(5));
    book.forget(7).await.unwrap();
    book.forget(7).await.unwrap();
    assert_eq!((book.read(7, turned).await.unwrap(), book.totals(&[7]).await.unwrap()), (None, vec![None]));
    // As many as a user may have.
    let many: Vec<UnreadAt> = (1..=5_000).map(|n| at(n << 40, n, n)).collect();
    assert_eq!(book.fill(8, tag, &many).await.unwrap(), Some(12_502_500));
    assert_eq!(book.read(8, tag).await.unwrap().unwrap().conversations, many);
    assert_eq!(book.fill(9, tag, &[]).await.unwrap(), Some(0), "somebody without conversations is there too");
    assert_eq!(book.read(9, tag).await.unwrap(), Some(Unread::default()));
}

fn beat(user: u64, device: u64, at_ms: u64, until_ms: u64) -> Beat {
    Beat { user, device, at_ms, until_ms }
}

async fn presence(book: &dyn PresenceBook) {
    let seen = |user, seen_ms| Seen { user, online: seen_ms > 0, seen_ms };
    assert_eq!(book.seen(&[1, 2], 10).await.unwrap(), [seen(1, 0), seen(2, 0)]);
    book.beat(&[beat(1, 7, 100, 200), beat(1, BIG, 120, 150), beat(2, 7, 90, 300)], 120).await.unwrap();
    assert_eq!(book.seen(&[2, 1], 149).await.unwrap(), [seen(2, 90), seen(1, 120)]);
    assert_eq!(book.seen(&[1], 150).await.unwrap(), [seen(1, 100)], "one device is silent");
    assert_eq!(book.seen(&[1], 200).await.unwrap(), [seen(1, 0)]);
    // An older beat does not shorten, nor lengthen.
    book.beat(&[beat(2, 7, 80, 900)], 130).await.unwrap();
    assert_eq!(book.seen(&[2], 300).await.unwrap(), [seen(2, 0)]);
    book.beat(&[beat(2, 7, 140, 400)], 140).await.unwrap();
    assert_eq!(book.seen(&[2], 399).await.unwrap(), [seen(2, 140)]);
    // A late word that it has gone does not hide that it came again.
    book.gone(2, 7, 139).await.unwrap();
    book.gone(2, 8, 999).await.unwrap();
    book.gone(3, 8, 999).await.unwrap();
    assert_eq!(book.seen(&[2], 150).await.unwrap(), [seen(2, 140)]);
    book.gone(2, 7, 140).await.unwrap();
    assert_eq!(book.seen(&[2], 150).await.unwrap(), [seen(2, 0)]);
    // A bounded number of devices, of which those that are over make room.
    let many: Vec<Beat> = (1..=100).map(|device| beat(4, device, 200 + device, 1_000)).collect();
    for one in &many {
        book.beat(std::slice::from_ref(one), 300).await.unwrap();
    }
    assert_eq!(book.seen(&[4], 300).await.unwrap(), [seen(4, 200 + DEVICES_MAX as u64)]);
    book.beat(&[beat(4, 500, 1_001, 2_000)], 1_000).await.unwrap();
    assert_eq!(book.seen(&[4], 1_001).await.unwrap(), [seen(4, 1_001)]);
    let crowd: Vec<Beat> = (10_000..10_300).map(|user| beat(user, 1, 5, 50)).collect();
    book.beat(&crowd, 5).await.unwrap();
    let users: Vec<u64> = crowd.iter().map(|b| b.user).collect();
    assert!(
        book.seen(&users, 6).await.unwrap().iter().zip(&users).all(|(s, u)| (s.user, s.seen_ms) == (*u, 5))
    );
}

async fn routes(book: &dyn RouteBook) {
    let route = |device, access, connection| Route { device, access, connection };
    let (a, b, c) = (route(7, 1, BIG), route(BIG, 2, 5), route(7, 2, 9));
    assert_eq!(book.routes(&[1], 0).await.unwrap(), [vec![]]);
    book.route(&[(1, a), (1, b), (2, a)], 100, 10).await.unwrap();
    assert_eq!(book.routes(&[2, 1, 3], 99).await.unwrap(), [vec![a], vec![a, b], vec![]]);
    assert!(book.routes(&[1, 2], 100).await.unwrap().iter().all(Vec::is_empty));
    // The device has come elsewhere; the old connection's end is heard of later.
    book.route(&[(1, c)], 200, 20).await.unwrap();
    book.unroute(1, a).await.unwrap();
    assert_eq!(book.routes(&[1], 50).await.unwrap(), [vec![c, b]]);
    assert_eq!(book.routes(&[1], 150).await.unwrap(), [vec![c]]);
    book.unroute(1, c).await.unwrap();
    book.unroute(9, c).await.unwrap();
    assert_eq!(book.routes(&[1], 50).await.unwrap(), [vec![b]]);
    for device in 1..=100 {
        book.route(&[(4, route(device, 1, device))], 1_000, 10).await.unwrap();
    }
    assert_eq!(book.routes(&[4], 20).await.unwrap()[0].len(), DEVICES_MAX);
    let again = route(3, 9, 9);
    book.route(&[(4, again)], 1_000, 10).await.unwrap();
    assert!(book.routes(&[4], 20).await.unwrap()[0].contains(&again), "one that is there has room");
}

async fn recent(book: &dyn RecentBook) {
    let seqs = |found: Vec<records::ChatMessage>| found.iter().map(|m| m.seq).collect::<Vec<_>>();
    let run = |range: std::ops::RangeInclusive<u64>| range.map(|seq| message(5, seq)).collect::<Vec<_>>();
    assert!(book.recent(5, 1, BIG).await.unwrap().is_empty());
    book.keep(5, &[]).await.unwrap();
    book.keep(5, &run(10..=12)).await.unwrap();
    assert_eq!(book.recent(5, 11, 11).await.unwrap(), [(*message(5, 11)).clone()]);
    assert_eq!(seqs(book.recent(5, 0, BIG).await.unwrap()), [10, 11, 12]);
    book.keep(5, &run(12..=14)).await.unwrap();
    book.keep(5, &run(8..=9)).await.unwrap();
    assert_eq!(seqs(book.recent(5, 9, 13).await.unwrap()), [9, 10, 11, 12, 13]);
    book.keep(5, &run(3..=5)).await.unwrap();
    assert_eq!(seqs(book.recent(5, 1, 9).await.unwrap()), [8, 9], "too old, and not next to what is there");
    assert!(
        book.recent(5, 15, 99).await.unwrap().is_empty() && book.recent(6, 1, 99).await.unwrap().is_empty()
    );
    // One is missing: what was before it is no use any more.
    book.keep(5, &run(16..=17)).await.unwrap();
    assert_eq!(seqs(book.recent(5, 1, 99).await.unwrap()), [16, 17]);
    book.keep(5, &run(18..=400)).await.unwrap();
    let most = RECENT_MAX as u64;
    assert_eq!(seqs(book.recent(5, 1, 999).await.unwrap()), (401 - most..=400).collect::<Vec<_>>());
    book.keep(5, &run(401..=410)).await.unwrap();
    assert_eq!(seqs(book.recent(5, 1, 999).await.unwrap()), (411 - most..=410).collect::<Vec<_>>());
}

#[tokio::test]
async fn books_in_memory_keep_their_promises() {
    let books = MemoryBooks::default();
    unread(&books).await;
    presence(&books).await;
    routes(&books).await;
    recent(&books).await;
    books.flush();
    assert_eq!(UnreadBook::totals(&books, &[8]).await.unwrap(), [None]);
    assert!(books.recent(5, 1, 999).await.unwrap().is_empty());
}

#[tokio::test]
async fn books_in_redis_keep_their_promises() {
    let Some(books) = redis().await else { return };
    unread(&books).await;
    presence(&books).await;
    routes(&books).await;
    recent(&books).await;
}

#[tokio::test]
async fn books_without_a_server_say_so() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let urls = vec![format!("redis://127.0.0.1:{port}")];
    let options = RedisOptions { urls, cluster: false, connect_ms: 500, answer_ms: 500 };
    let books = RedisBooks::new(Arc::new(Redis::new(options).unwrap()), RedisBooksOptions::default());
    let error = books.seen(&[1], 5).await.unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert!(books.totals(&[1, 2]).await.is_err() && books.keep(5, &[message(5, 1)]).await.is_err());
}
