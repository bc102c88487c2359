//! Writing a checkpoint.

use super::chunk::{EntryChunk, MessageChunk, pack_entries, pack_messages};
use crate::core::Checkpoint;
use prost::Message as _;
use std::collections::BTreeMap;
use std::time::Duration;
use storage::RowStatement;
use storage::batch::signed;
use storage::sqlx::{self, SqliteConnection};

static HEADS: RowStatement = RowStatement::new(
    "INSERT INTO conversation (id, head) VALUES ",
    "(?, ?)",
    " ON CONFLICT (id) DO UPDATE SET head = excluded.head",
);
static MEMBERS: RowStatement = RowStatement::new(
    "INSERT INTO member (conversation, user_id, data) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT (conversation, user_id) DO UPDATE SET data = excluded.data",
);
static GONE: RowStatement =
    RowStatement::new("DELETE FROM member WHERE (conversation, user_id) IN (VALUES ", "(?, ?)", ")");
static AUTHORS: RowStatement = RowStatement::new(
    "INSERT INTO author (conversation, user_id, data) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT (conversation, user_id) DO UPDATE SET data = excluded.data",
);
static MESSAGES: RowStatement = RowStatement::new(
    "INSERT INTO message_chunk (conversation, first, last, last_ms, messages) VALUES ",
    "(?, ?, ?, ?, ?)",
    " ON CONFLICT (conversation, first) DO NOTHING",
);
static PERSONS: RowStatement = RowStatement::new(
    "INSERT INTO person (id, data) VALUES ",
    "(?, ?)",
    " ON CONFLICT (id) DO UPDATE SET data = excluded.data",
);
static ENTRIES: RowStatement = RowStatement::new(
    "INSERT INTO timeline_chunk (user_id, first, last, entries) VALUES ",
    "(?, ?, ?, ?)",
    " ON CONFLICT (user_id, first) DO NOTHING",
);
static LINKS: RowStatement = RowStatement::new(
    "INSERT INTO link (user_id, conversation) VALUES ",
    "(?, ?)",
    " ON CONFLICT DO NOTHING",
);
static UNLINKS: RowStatement =
    RowStatement::new("DELETE FROM link WHERE (user_id, conversation) IN (VALUES ", "(?, ?)", ")");
static PAIRS: RowStatement = RowStatement::new(
    "INSERT INTO pair (low, high, conversation) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT DO NOTHING",
);

/// Conversations or users that are packed at a time: their bytes are copied several times on the way into SQLite, and memory
/// that was used a moment ago costs less than memory for all of them at once.
const PACKED: usize = 128;

/// Pause behind each pack: nobody waits for a checkpoint, and everybody for the processor that it takes.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes everything of a checkpoint.
pub(super) async fn checkpoint(on: &mut SqliteConnection, all: &Checkpoint) -> Result<(), sqlx::Error> {
    conversations(on, all).await?;
    users(on, all).await?;
    let mut pairs = all.pairs.clone();
    pairs.sort_unstable();
    let bind = |q: storage::RowQuery, _, (low, high, id): &(u64, u64, u64)| {
        q.bind(signed(*low)).bind(signed(*high)).bind(signed(*id))
    };
    PAIRS.execute(on, &pairs, bind).await?;
    sqlx::query("UPDATE mark SET position = $1, record = $2, cursor = $3, ids_reserved_ms = $4")
        .bind(signed(all.at.position))
        .bind(i64::from(all.at.index))
        .bind(signed(all.cursor))
        .bind(signed(all.ids_reserved_ms))
        .execute(on)
        .await?;
    Ok(())
}

async fn conversations(on: &mut SqliteConnection, all: &Checkpoint) -> Result<(), sqlx::Error> {
    let mut sorted: Vec<_> = all.conversations.iter().collect();
    sorted.sort_unstable_by_key(|rows| rows.id);
    let heads: Vec<(u64, Vec<u8>)> = sorted.iter().map(|r| (r.id, r.head.encode_to_vec())).collect();
    HEADS.execute(on, &heads, |q, _, (id, head)| q.bind(signed(*id)).bind(head.clone())).await?;
    let gone: Vec<(u64, u64)> = sorted.iter().flat_map(|r| r.gone.iter().map(|u| (r.id, *u))).collect();
    GONE.execute(on, &gone, |q, _, (id, user)| q.bind(signed(*id)).bind(signed(*user))).await?;
    type Row = (u64, u64, Vec<u8>);
    let bind =
        |q: storage::RowQuery, _, (a, b, data): &Row| q.bind(signed(*a)).bind(signed(*b)).bind(data.clone());
    let mut members: Vec<Row> = Vec::new();
    let mut authors: Vec<Row> = Vec::new();
    for rows in &sorted {
        members.extend(rows.members.iter().map(|m| (rows.id, m.user, m.encode_to_vec())));
        authors.extend(rows.authors.iter().map(|a| (rows.id, a.user, a.encode_to_vec())));
    }
    MEMBERS.execute(on, &members, bind).await?;
    AUTHORS.execute(on, &authors, bind).await?;
    let bind = |q: storage::RowQuery, _, c: &MessageChunk| {
        q.bind(signed(c.conversation))
            .bind(signed(c.first))
            .bind(signed(c.last))
            .bind(signed(c.last_ms))
            .bind(c.bytes.clone())
    };
    for some in sorted.chunks(PACKED) {
        let mut chunks = Vec::new();
        some.iter().for_each(|rows| pack_messages(&rows.messages, &mut chunks));
        MESSAGES.execute(on, &chunks, bind).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn users(on: &mut SqliteConnection, all: &Checkpoint) -> Result<(), sqlx::Error> {
    let mut sorted: Vec<_> = all.users.iter().collect();
    sorted.sort_unstable_by_key(|rows| rows.id);
    let persons: Vec<(u64, Vec<u8>)> =
        sorted.iter().filter_map(|r| Some((r.id, r.person.as_ref()?.encode_to_vec()))).collect();
    PERSONS.execute(on, &persons, |q, _, (id, data)| q.bind(signed(*id)).bind(data.clone())).await?;
    // Of several steps of one user in one conversation the last counts.
    let mut links: BTreeMap<(u64, u64), bool> = BTreeMap::new();
    for rows in &sorted {
        links.extend(rows.links.iter().map(|(id, came)| ((rows.id, *id), *came)));
    }
    let bind = |q: storage::RowQuery, _, c: &EntryChunk| {
        q.bind(signed(c.user)).bind(signed(c.first)).bind(signed(c.last)).bind(c.bytes.clone())
    };
    for some in sorted.chunks(PACKED) {
        let mut chunks = Vec::new();
        some.iter().for_each(|rows| pack_entries(rows.id, &rows.entries, &mut chunks));
        ENTRIES.execute(on, &chunks, bind).await?;
        tokio::time::sleep(PAUSE).await;
    }
    let of = |wanted: bool| -> Vec<(u64, u64)> {
        links.iter().filter(|(_, came)| **came == wanted).map(|(key, _)| *key).collect()
    };
    let bind = |q: storage::RowQuery, _, (user, id): &(u64, u64)| q.bind(signed(*user)).bind(signed(*id));
    LINKS.execute(on, &of(true), bind).await?;
    UNLINKS.execute(on, &of(false), bind).await?;
    Ok(())
}
