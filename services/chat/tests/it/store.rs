//! What every shelf promises.

use chat::core::{
    At, Author, Checkpoint, ConversationRows, Device, Entry, Head, Member, Numbered, Person, SentKey,
    UserRows,
};
use chat::store::{Mark, MemoryShelf, Shelf, SqlShelf};
use records::ChatMessage;
use std::sync::Arc;

fn message(conversation: u64, seq: u64) -> Arc<ChatMessage> {
    let (sender, device, counter) = (1 + seq % 2, 7, seq);
    let body = vec![seq as u8; (seq % 300) as usize];
    let message_id = conversation * 1_000 + seq;
    Arc::new(ChatMessage {
        message_id,
        conversation,
        seq,
        sender,
        device,
        counter,
        sent_ms: seq,
        kind: 1,
        fan_out: 1,
        body,
    })
}

fn rows(id: u64, last_seq: u64, messages: std::ops::RangeInclusive<u64>) -> ConversationRows {
    let head =
        Head { kind: 2, fan_out: 1, last_seq, uncounted: vec![3], recalled_of: vec![9], ..Head::default() };
    let member = |user| Member { user, joined_seq: 1, read_seq: last_seq / 2, ..Member::default() };
    let author = Author { user: 2, own: last_seq, devices: vec![Numbered { device: 7, counter: last_seq }] };
    ConversationRows {
        id,
        head,
        members: vec![member(2), member(1 << 63 | 5)],
        authors: vec![author],
        messages: messages.map(|seq| message(id, seq)).collect(),
        gone: Vec::new(),
    }
}

async fn promises(shelf: Arc<dyn Shelf>) {
    assert_eq!(shelf.mark().await.unwrap(), Mark::default());
    assert!(shelf.conversations(&[5]).await.unwrap().is_empty());
    assert!(
        shelf.messages(5, 1, 10).await.unwrap().is_empty()
            && shelf.pairs(&[(1, 2)]).await.unwrap().is_empty()
    );
    let nobody = shelf.users(&[2]).await.unwrap();
    assert_eq!((nobody.len(), nobody[0].id, nobody[0].links.len()), (1, 2, 0));

    let person = Person {
        name: "Li".into(),
        devices: vec![Device { device: 7, ..Device::default() }],
        ..Person::default()
    };
    let entries = |range: std::ops::RangeInclusive<u64>| -> Vec<Entry> {
        range.map(|n| Entry { cursor: 10 * n, conversation: 5 + n % 2, seq: n }).collect()
    };
    let first = Checkpoint {
        at: At { position: 3, index: 4 },
        cursor: 700,
        ids_reserved_ms: 99,
        conversations: vec![rows(6, 2, 1..=2), rows(5, 600, 1..=600)],
        users: vec![
            UserRows {
                id: 2,
                person: Some(person.clone()),
                entries: entries(1..=1_500),
                links: vec![(5, true), (6, true)],
            },
            UserRows {
                id: 1 << 63 | 5,
                entries: entries(1..=2),
                links: vec![(5, true), (5, false)],
                ..UserRows::default()
            },
        ],
        pairs: vec![(1, 2, 6)],
        bytes: 0,
    };
    // The same again, as after an unknown outcome, changes nothing.
    for _ in 0..2 {
        shelf.commit(&first).await.unwrap();
        assert_eq!(shelf.mark().await.unwrap(), Mark { at: first.at, cursor: 700, ids_reserved_ms: 99 });
        let found = shelf.conversations(&[5, 99]).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].head, first.conversations[1].head);
        assert_eq!(found[0].members, first.conversations[1].members);
        assert_eq!(found[0].authors, first.conversations[1].authors);
        let recent = &found[0].recent;
        assert_eq!(recent.last().map(|m| m.seq), Some(600));
        assert!(recent.windows(2).all(|w| w[0].seq + 1 == w[1].seq));
        let some = shelf.messages(5, 250, 260).await.unwrap();
        assert_eq!(some, (250..=260).map(|seq| (*message(5, seq)).clone()).collect::<Vec<_>>());
        assert_eq!(shelf.messages(5, 599, 700).await.unwrap().len(), 2);
        assert_eq!(shelf.entries(2, 10, 3).await.unwrap(), entries(2..=4));
        assert_eq!(shelf.entries(2, 10_235, 9).await.unwrap(), entries(1_024..=1_032));
        assert_eq!(shelf.entries(2, 14_990, 9).await.unwrap(), entries(1_500..=1_500));
        assert!(shelf.entries(2, 15_000, 9).await.unwrap().is_empty());
        assert_eq!(shelf.pairs(&[(1, 2), (2, 3)]).await.unwrap(), [(1, 2, 6)]);
    }
    let mut users = shelf.users(&[2, 1 << 63 | 5]).await.unwrap();
    users.sort_by_key(|u| u.id);
    assert_eq!(users[0].person, person);
    let mut links: Vec<_> = users[0].links.iter().map(|l| (l.conversation, l.head.last_seq, l.own)).collect();
    links.sort_unstable();
    assert_eq!(links, [(5, 600, 600), (6, 2, 2)]);
    assert!(users[1].links.is_empty(), "came and left");

    let second = Checkpoint {
        at: At { position: 9, index: 0 },
        cursor: 701,
        conversations: vec![ConversationRows {
            gone: vec![2],
            members: Vec::new(),
            ..rows(5, 601, 601..=601)
        }],
        users: vec![UserRows { id: 2, links: vec![(5, false)], ..UserRows::default() }],
        ..Checkpoint::default()
    };
    shelf.commit(&second).await.unwrap();
    let found = shelf.conversations(&[5]).await.unwrap();
    assert_eq!(found[0].members.iter().map(|m| m.user).collect::<Vec<_>>(), [1 << 63 | 5]);
    assert_eq!(shelf.messages(5, 600, 601).await.unwrap().len(), 2);
    assert_eq!(shelf.users(&[2]).await.unwrap()[0].links.len(), 1);

    let key = SentKey { conversation: 5, sender: 2, device: 7, counter: 77 };
    assert_eq!(shelf.sent(key, 1_000).await.unwrap().unwrap().seq, 77);
    let never = SentKey { counter: 78, ..key };
    assert_eq!(shelf.sent(never, 1_000).await.unwrap(), Err(true), "user 2 never used 78");
    let old = shelf.sent(key, 86_400_000 + 590).await.unwrap();
    assert_eq!(old, Err(false), "older than a day");
}

#[tokio::test]
async fn the_shelf_in_memory_keeps_its_promises() {
    promises(Arc::new(MemoryShelf::default())).await;
}

#[tokio::test]
async fn the_shelf_on_sqlite_keeps_its_promises() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.db");
    let shelf = SqlShelf::open(&path, 1).await.unwrap();
    promises(Arc::new(shelf.clone())).await;
    shelf.close().await;
    let again = SqlShelf::open(&path, 2).await.unwrap();
    assert_eq!(again.mark().await.unwrap().cursor, 701);
}
