//! Adapters, and steps to bring into them.

use chat::core::{Author, ConversationRows, Entry, Fanned, Head, Member, Numbered};
use chat::store::owned::{ConversationStep, Fence, Name, OwnedShelf, TimelineStep};
use chat::store::owners::{BucketTerm, MemoryOwners, OwnerBook, OwnerTick, PgOwners};
use chat::store::{MemoryOwned, PgShelf};
use hashring::bucket_of;
use records::ChatMessage;
use runtime::ManualClock;
use std::ops::RangeInclusive;
use std::sync::Arc;
use storage::pg::PgOptions;
use testkit::servers::FreshDatabase;

/// A store with its owners' book, and the book's clock.
pub struct Both {
    pub shelf: Arc<dyn OwnedShelf>,
    pub book: Arc<dyn OwnerBook>,
    pub clock: Arc<ManualClock>,
    /// Dropped last.
    _database: Option<FreshDatabase>,
}

pub fn memory() -> Both {
    let clock = ManualClock::new(1_000_000);
    let book = MemoryOwners::new(clock.clone());
    Both { shelf: Arc::new(MemoryOwned::new(book.clone())), book: Arc::new(book), clock, _database: None }
}

pub async fn postgres() -> Option<Both> {
    let database = FreshDatabase::new()?;
    let clock = ManualClock::new(1_000_000);
    let shelf = PgShelf::open(PgOptions::patient(database.url()), 1).await.unwrap();
    let book = PgOwners::with_clock(shelf.pg().clone(), clock.clone());
    Some(Both { shelf: Arc::new(shelf), book: Arc::new(book), clock, _database: Some(database) })
}

pub fn bucket(id: u64) -> u16 {
    bucket_of(id).get()
}

impl Both {
    /// Node and epoch claim the buckets of these ids, which are free; the fence for them.
    pub async fn claim(&self, node: u16, epoch: u32, ids: &[u64]) -> Fence {
        let rows = self.book.buckets().await.unwrap();
        let mut claims: Vec<BucketTerm> = Vec::new();
        for id in ids {
            let bucket = bucket(*id);
            let term = rows.iter().find(|row| row.bucket == bucket).map_or(0, |row| row.term);
            claims.push(BucketTerm { bucket, term });
        }
        claims.sort_unstable();
        claims.dedup();
        let tick = OwnerTick { node, epoch, claims: claims.clone(), ..OwnerTick::default() };
        let answer = self.book.tick(&tick).await.unwrap();
        assert_eq!(answer.claimed.len(), claims.len(), "{:?}", answer.refused);
        let mut terms: Vec<(u16, u32)> = answer.claimed.iter().map(|c| (c.bucket, c.term)).collect();
        terms.sort_unstable();
        Fence { node, epoch, terms }
    }

    /// A node begins and claims.
    pub async fn begin(&self, node: u16, ids: &[u64]) -> Fence {
        let begun = self.book.begin(node, 0).await.unwrap();
        self.claim(node, begun.epoch, ids).await
    }
}

pub fn message(conversation: u64, seq: u64) -> Arc<ChatMessage> {
    Arc::new(ChatMessage {
        message_id: conversation * 1_000 + seq,
        conversation,
        seq,
        sender: 1 + seq % 2,
        device: 7,
        counter: seq,
        sent_ms: seq,
        kind: 1,
        fan_out: 1,
        body: vec![seq as u8; (seq % 300) as usize],
    })
}

pub fn head(last_seq: u64) -> Head {
    Head { kind: 2, fan_out: 1, last_seq, uncounted: vec![3], recalled_of: vec![9], ..Head::default() }
}

pub fn member(user: u64, read_seq: u64) -> Member {
    Member { user, joined_seq: 1, read_seq, ..Member::default() }
}

pub fn author(user: u64, own: u64) -> Author {
    Author { user, own, devices: vec![Numbered { device: 7, counter: own }] }
}

/// A step that adds these messages; members and authors come with it.
pub fn adds(id: u64, version: u64, seqs: RangeInclusive<u64>) -> ConversationStep {
    let last = *seqs.end();
    ConversationStep {
        rows: ConversationRows {
            id,
            head: head(last),
            members: vec![member(2, last / 2), member(1 << 63 | 5, 0)],
            authors: vec![author(2, last)],
            messages: seqs.clone().map(|seq| message(id, seq)).collect(),
            gone: Vec::new(),
        },
        version,
        before_seq: seqs.start() - 1,
        name: None,
        fanned: Fanned::default(),
    }
}

pub fn pair(low: u64, high: u64) -> Option<Name> {
    Some(Name::Pair { low, high })
}

pub fn entry(cursor: u64, conversation: u64, seq: u64) -> Entry {
    Entry { cursor, conversation, seq }
}

pub fn gets(user: u64, stamp: u64, entries: Vec<Entry>) -> TimelineStep {
    TimelineStep { user, stamp, entries, ..TimelineStep::default() }
}

/// How many walks a test makes: so many, or `CHAT_WALKS`, for a longer look by hand.
pub fn walks(usual: u64) -> u64 {
    std::env::var("CHAT_WALKS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
