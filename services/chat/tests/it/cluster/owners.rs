//! What every owners' book promises.

use super::make::{Both, memory, postgres};
use chat::store::owners::{BeginError, BucketTerm, EndEpochError, OwnerTick, TickError};
use ownership::{EndError, EndReason, SessionError};

fn tick(node: u16, epoch: u32) -> OwnerTick {
    OwnerTick { node, epoch, ..OwnerTick::default() }
}

fn at(bucket: u16, term: u32) -> BucketTerm {
    BucketTerm { bucket, term }
}

async fn sessions(both: &Both) {
    let Both { book, clock, .. } = both;
    assert!(book.buckets().await.unwrap().is_empty() && book.epochs(1).await.unwrap().is_empty());
    let error = book.tick(&tick(1, 1)).await.unwrap_err();
    assert!(matches!(error, TickError::Session(SessionError::EpochUnknown { .. })), "{error}");
    let begun = book.begin(1, 0).await.unwrap();
    assert_eq!((begun.epoch, begun.now_ms), (1, 1_000_000));
    clock.advance_ms(2_999);
    let error = book.begin(1, 0).await.unwrap_err();
    assert!(matches!(error, BeginError::StillSeen { epoch: 1, ago_ms: 2_999, .. }), "{error}");
    let answer = book.tick(&tick(1, 1)).await.unwrap();
    assert_eq!((answer.now_ms, answer.dead), (1_002_999, vec![]));
    clock.advance_ms(2_999);
    let other = book.begin(2, 40).await.unwrap();
    assert_eq!(other.epoch, 41);
    assert!(book.tick(&tick(2, 41)).await.unwrap().dead.is_empty());
    let error = book.end(1, 1, EndReason::Expired).await.unwrap_err();
    assert!(matches!(error, EndEpochError::End(EndError::StillSeen { ago_ms: 2_999, .. })), "{error}");
    clock.advance_ms(1);
    assert_eq!(book.tick(&tick(2, 41)).await.unwrap().dead, [(1, 1)]);
    // A call with moves says so too.
    let claim = OwnerTick { claims: vec![at(4, 0)], ..tick(2, 41) };
    assert_eq!(book.tick(&claim).await.unwrap().dead, [(1, 1)]);
    assert!(book.end(1, 1, EndReason::Expired).await.unwrap());
    assert!(!book.end(1, 1, EndReason::Expired).await.unwrap(), "it is over already");
    assert!(matches!(
        book.end(1, 2, EndReason::BySelf).await.unwrap_err(),
        EndEpochError::End(EndError::EpochUnknown { .. })
    ));
    for call in [tick(1, 1), OwnerTick { claims: vec![at(9, 0)], ..tick(1, 1) }] {
        let error = book.tick(&call).await.unwrap_err();
        assert!(matches!(error, TickError::Session(SessionError::EpochEnded { .. })), "{error}");
    }
    assert_eq!(book.begin(1, 0).await.unwrap().epoch, 2);
    let epochs = book.epochs(1).await.unwrap();
    assert_eq!(
        epochs.iter().map(|row| (row.epoch, row.is_open())).collect::<Vec<_>>(),
        [(1, false), (2, true)]
    );
    // Who begins anew when his last epoch is dead need not wait for others to end it.
    clock.advance_ms(3_000);
    assert_eq!(book.begin(1, 0).await.unwrap().epoch, 3);
}

async fn hand_overs(both: &Both) {
    let Both { book, clock, .. } = both;
    for node in [1, 2] {
        assert_eq!(book.begin(node, 0).await.unwrap().epoch, 1);
    }
    let claim = OwnerTick { claims: vec![at(7, 0), at(8, 0), at(4_095, 0)], ..tick(1, 1) };
    for _ in 0..2 {
        let answer = book.tick(&claim).await.unwrap();
        assert_eq!(answer.claimed, [at(7, 1), at(8, 1), at(4_095, 1)], "the same, when it is repeated");
        assert!(answer.refused.is_empty());
    }
    let answer =
        book.tick(&OwnerTick { claims: vec![at(7, 1), at(8, 0), at(9, 0)], ..tick(2, 1) }).await.unwrap();
    assert_eq!(answer.claimed, [at(9, 1)]);
    assert!(answer.refused.iter().all(|r| !r.free && r.term == 1 && r.owner == Some((1, 1))), "{answer:?}");
    // Given up, and taken in the same moment by whoever saw that.
    let seal = OwnerTick { seals: vec![at(7, 1), at(9, 1), at(8, 4)], ..tick(1, 1) };
    for _ in 0..2 {
        assert_eq!(book.tick(&seal).await.unwrap().sealed, [7], "not another's, not under another term");
    }
    assert!(book.tick(&claim).await.unwrap().refused.iter().any(|r| r.bucket == 7 && r.free), "an old copy");
    let take = OwnerTick { claims: vec![at(7, 1)], ..tick(2, 1) };
    assert_eq!(book.tick(&take).await.unwrap().claimed, [at(7, 2)]);
    assert!(book.tick(&seal).await.unwrap().sealed.is_empty(), "an old copy of the seal");
    let rows = book.buckets().await.unwrap();
    let owners: Vec<_> = rows.iter().map(|row| (row.bucket, row.owner, row.term, row.is_free())).collect();
    let (a, b) = (Some((1, 1)), Some((2, 1)));
    assert_eq!(owners, [(7, b, 2, false), (8, a, 1, false), (9, b, 1, false), (4_095, a, 1, false)]);
    // The dead leave everything.
    clock.advance_ms(2_000);
    book.tick(&tick(2, 1)).await.unwrap();
    clock.advance_ms(1_000);
    assert!(book.end(1, 1, EndReason::Expired).await.unwrap());
    let free: Vec<u16> =
        book.buckets().await.unwrap().iter().filter(|r| r.is_free()).map(|r| r.bucket).collect();
    assert_eq!(free, [8, 4_095]);
    let all = OwnerTick { claims: vec![at(8, 1), at(4_095, 1)], ..tick(2, 1) };
    assert_eq!(book.tick(&all).await.unwrap().claimed.len(), 2);
    assert!(book.buckets().await.unwrap().iter().all(|row| row.wait_for.is_empty()), "nothing to wait for");
    // A node that stops says so itself, and one that begins anew owns nothing.
    assert!(book.end(2, 1, EndReason::BySelf).await.unwrap());
    assert!(book.buckets().await.unwrap().iter().all(|row| row.is_free()));
    assert_eq!(book.begin(2, 0).await.unwrap().epoch, 2);
    let answer = book.tick(&OwnerTick { seals: vec![at(8, 2)], ..tick(2, 2) }).await.unwrap();
    assert!(answer.sealed.is_empty());
}

async fn bounds(both: &Both) {
    let book = &both.book;
    book.begin(1, 0).await.unwrap();
    let all: Vec<BucketTerm> = (0..4_096).map(|bucket| at(bucket, 0)).collect();
    let answer = book.tick(&OwnerTick { claims: all.clone(), ..tick(1, 1) }).await.unwrap();
    assert_eq!(answer.claimed.len(), 4_096);
    let error = book.tick(&OwnerTick { claims: vec![at(4_096, 0)], ..tick(1, 1) }).await.unwrap_err();
    assert!(matches!(error, TickError::NoSuchBucket(4_096)), "{error}");
    let twice = [all.clone(), all].concat();
    let error = book.tick(&OwnerTick { seals: twice, ..tick(1, 1) }).await.unwrap_err();
    assert!(error.to_string().contains("8192 buckets to seal"), "{error}");
    let error = book.begin(4_096, 0).await.unwrap_err();
    assert!(matches!(error, BeginError::Number(_)), "{error}");
}

#[tokio::test]
async fn the_book_in_memory_keeps_its_promises() {
    sessions(&memory()).await;
    hand_overs(&memory()).await;
    bounds(&memory()).await;
}

#[tokio::test]
async fn the_book_in_postgresql_keeps_its_promises() {
    let Some(both) = postgres().await else { return };
    sessions(&both).await;
    let Some(both) = postgres().await else { return };
    hand_overs(&both).await;
    let Some(both) = postgres().await else { return };
    bounds(&both).await;
}
