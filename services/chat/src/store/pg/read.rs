//! Reading: many users or conversations at a time, one statement a call.
//!
//! Ids go in as one array, and each is looked up by itself (LATERAL, with an OFFSET or LIMIT that keeps the planner from
//! turning it into a join): in the one part that can have it, by its index. A plain join would read whole tables as soon
//! as there are some dozens of ids, because the planner believes that each of them is sought in every part.

use super::told;
use crate::core::{Author, Entry, Fanned, Head, Member, Person, StoredConversation, StoredLink, StoredUser};
use crate::store::StoreError;
use crate::store::owned::{Listed, Name};
use prost::Message;
use protocol::v1::ConversationKind;
use records::{ChatMessage, Record as _};
use std::collections::{BTreeMap, BTreeSet};
use storage::StoredRow as _;
use storage::batch::signed;
use storage::pg::Pg;
use storage::sqlx::postgres::{PgArguments, PgRow, Postgres};
use storage::sqlx::query::Query;
use storage::sqlx::{self, Row as _};

/// Last messages that come with a conversation.
const RECENT: i64 = 16;

/// What the parts of a united statement hold.
const HEAD: i64 = 0;
const MEMBER: i64 = 1;
const AUTHOR: i64 = 2;
const MESSAGE: i64 = 3;
const PERSON: i64 = 4;
const LINK: i64 = 5;

type Ask<'q> = Query<'q, Postgres, PgArguments>;

async fn rows(pg: &Pg, what: &'static str, query: Ask<'_>) -> Result<Vec<PgRow>, StoreError> {
    let reading = async {
        let mut connection = pg.connection().await?;
        Ok::<_, storage::SqlError>(query.fetch_all(&mut *connection).await?)
    };
    pg.within(what, reading).await.map_err(told)
}

/// Ids as an array, each once.
fn array(ids: &[u64]) -> Vec<i64> {
    ids.iter().map(|id| signed(*id)).collect::<BTreeSet<i64>>().into_iter().collect()
}

fn bits(row: &PgRow, column: &'static str) -> Result<u64, StoreError> {
    row.bits(column).map_err(told)
}

fn bytes<'r>(row: &'r PgRow, column: &'static str) -> Result<Option<&'r [u8]>, StoreError> {
    row.try_get(column).map_err(told)
}

fn decoded<T: Message + Default>(row: &PgRow, column: &'static str) -> Result<T, StoreError> {
    let bytes = bytes(row, column)?.unwrap_or_default();
    T::decode(bytes).map_err(|e| StoreError::Damaged(format!("column {column}: {e}")))
}

fn message(row: &PgRow) -> Result<ChatMessage, StoreError> {
    message_of(bytes(row, "data")?.unwrap_or_default())
}

fn message_of(bytes: &[u8]) -> Result<ChatMessage, StoreError> {
    ChatMessage::decode(bytes).map_err(|e| StoreError::Damaged(format!("a message: {e}")))
}

/// What was read of one conversation or person; nothing of what can't be understood, which is left out of a list.
fn left_out<T>(what: &'static str, id: u64, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Damaged(why)) => {
            tracing::error!(what, id, why, "something in chat's store can't be understood, and is left out");
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// A list of rows without those that can't be understood; each with its id in a column.
fn readable<T>(
    rows: &[PgRow],
    column: &'static str,
    read: impl Fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        all.extend(left_out(column, bits(row, column)?, read(row))?);
    }
    Ok(all)
}

pub(super) async fn conversations(pg: &Pg, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let text = "
        SELECT 0::bigint AS part, u.id AS id, c.version AS a, c.fanned_version AS b, c.fanned_seq AS c, c.head AS data
            FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
                (SELECT version, fanned_version, fanned_seq, head FROM conversation WHERE id = u.id OFFSET 0) c
        UNION ALL SELECT 1, u.id, 0, 0, 0, m.data
            FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
                (SELECT data FROM member WHERE conversation = u.id OFFSET 0) m
        UNION ALL SELECT 2, u.id, 0, 0, 0, a.data
            FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
                (SELECT data FROM author WHERE conversation = u.id OFFSET 0) a
        UNION ALL SELECT 3, u.id, 0, 0, 0, m.data
            FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
                (SELECT data FROM message WHERE conversation = u.id ORDER BY seq DESC LIMIT $2) m";
    let found = rows(pg, "reading conversations", sqlx::query(text).bind(array(ids)).bind(RECENT)).await?;
    let mut all: BTreeMap<u64, StoredConversation> = BTreeMap::new();
    // Rows of one statement come in any order.
    let mut there = BTreeSet::new();
    for row in &found {
        let id = bits(row, "id")?;
        let conversation = all.entry(id).or_insert_with(|| StoredConversation { id, ..Default::default() });
        match row.number("part").map_err(told)? {
            HEAD => {
                there.insert(id);
                conversation.version = bits(row, "a")?;
                conversation.fanned = Fanned { version: bits(row, "b")?, seq: bits(row, "c")? };
                conversation.head = decoded::<Head>(row, "data")?;
            }
            MEMBER => conversation.members.push(decoded::<Member>(row, "data")?),
            AUTHOR => conversation.authors.push(decoded::<Author>(row, "data")?),
            MESSAGE => conversation.recent.push(message(row)?),
            other => return Err(StoreError::Damaged(format!("part {other} of a conversation"))),
        }
    }
    all.retain(|id, _| there.contains(id));
    for conversation in all.values_mut() {
        conversation.members.sort_unstable_by_key(|m| m.user);
        conversation.authors.sort_unstable_by_key(|a| a.user);
        conversation.recent.sort_unstable_by_key(|m| m.seq);
    }
    Ok(all.into_values().collect())
}

pub(super) async fn pairs(pg: &Pg, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let text = "SELECT u.a, u.b, n.conversation FROM unnest($1::bigint[], $2::bigint[]) AS u(a, b) CROSS JOIN LATERAL
        (SELECT conversation FROM conversation_name WHERE a = u.a AND b = u.b AND c = 0 AND kind = 1 OFFSET 0) n";
    let low: Vec<i64> = pairs.iter().map(|p| signed(p.0)).collect();
    let high: Vec<i64> = pairs.iter().map(|p| signed(p.1)).collect();
    let found = rows(pg, "reading pairs", sqlx::query(text).bind(low).bind(high)).await?;
    found.iter().map(|row| Ok((bits(row, "a")?, bits(row, "b")?, bits(row, "conversation")?))).collect()
}

/// A name as the table has it: kind, a, b, c.
pub(super) fn columns(name: Name) -> (i64, u64, u64, u64) {
    match name {
        Name::Pair { low, high } => (1, low, high, 0),
        Name::Made { user, device, request } => (2, user, device, request),
    }
}

pub(super) async fn named(pg: &Pg, name: Name) -> Result<Option<u64>, StoreError> {
    let (kind, a, b, c) = columns(name);
    let text = "SELECT conversation FROM conversation_name WHERE a = $1 AND b = $2 AND c = $3 AND kind = $4";
    let query = sqlx::query(text).bind(signed(a)).bind(signed(b)).bind(signed(c)).bind(kind);
    let found = rows(pg, "reading a name", query).await?;
    found.first().map(|row| bits(row, "conversation")).transpose()
}

pub(super) async fn messages(
    pg: &Pg,
    conversation: u64,
    from: u64,
    to: u64,
) -> Result<Vec<ChatMessage>, StoreError> {
    if from > to {
        return Ok(Vec::new());
    }
    // Seqs are counted from 1 and stay far below the sign.
    let text = "SELECT data FROM message WHERE conversation = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq";
    let (from, to) = (from.min(i64::MAX as u64), to.min(i64::MAX as u64));
    let query = sqlx::query(text).bind(signed(conversation)).bind(signed(from)).bind(signed(to));
    rows(pg, "reading messages", query).await?.iter().map(message).collect()
}

fn link(row: &PgRow) -> Result<StoredLink, StoreError> {
    let own = match bytes(row, "author")? {
        Some(bytes) => Author::decode(bytes).map_err(|e| StoreError::Damaged(e.to_string()))?.own,
        None => 0,
    };
    Ok(StoredLink {
        conversation: bits(row, "conversation")?,
        version: bits(row, "version")?,
        head: decoded(row, "head")?,
        member: decoded(row, "member")?,
        own,
    })
}

pub(super) async fn users(pg: &Pg, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let text = "
        SELECT 4::bigint AS part, u.id AS user_id, 0::bigint AS conversation, p.stamp AS version,
                p.data AS member, NULL::bytea AS head, NULL::bytea AS author
            FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
                (SELECT stamp, data FROM person WHERE user_id = u.id OFFSET 0) p
        UNION ALL SELECT 5, u.id, l.conversation, c.version, m.data, c.head, a.data
            FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
                (SELECT conversation FROM link WHERE user_id = u.id AND member OFFSET 0) l CROSS JOIN LATERAL
                (SELECT version, head FROM conversation WHERE id = l.conversation OFFSET 0) c CROSS JOIN LATERAL
                (SELECT data FROM member WHERE conversation = l.conversation AND user_id = u.id OFFSET 0) m
                LEFT JOIN LATERAL
                (SELECT data FROM author WHERE conversation = l.conversation AND user_id = u.id OFFSET 0) a ON TRUE";
    let mut all: BTreeMap<u64, StoredUser> =
        ids.iter().map(|id| (*id, StoredUser { id: *id, ..StoredUser::default() })).collect();
    for row in &rows(pg, "reading users", sqlx::query(text).bind(array(ids))).await? {
        let Some(user) = all.get_mut(&bits(row, "user_id")?) else { continue };
        match row.number("part").map_err(told)? {
            PERSON => user.person = decoded::<Person>(row, "member")?,
            LINK => user.links.extend(left_out("conversation", bits(row, "conversation")?, link(row))?),
            other => return Err(StoreError::Damaged(format!("part {other} of a user"))),
        }
    }
    Ok(all.into_values().collect())
}

pub(super) async fn links(pg: &Pg, user: u64, conversations: &[u64]) -> Result<Vec<StoredLink>, StoreError> {
    if conversations.is_empty() {
        return Ok(Vec::new());
    }
    let text = "SELECT u.id AS conversation, c.version, m.data AS member, c.head, a.data AS author
        FROM unnest($2::bigint[]) AS u(id) CROSS JOIN LATERAL
            (SELECT version, head FROM conversation WHERE id = u.id OFFSET 0) c CROSS JOIN LATERAL
            (SELECT data FROM member WHERE conversation = u.id AND user_id = $1 OFFSET 0) m LEFT JOIN LATERAL
            (SELECT data FROM author WHERE conversation = u.id AND user_id = $1 OFFSET 0) a ON TRUE";
    let query = sqlx::query(text).bind(signed(user)).bind(array(conversations));
    readable(&rows(pg, "reading a user's places", query).await?, "conversation", link)
}

pub(super) async fn listed(pg: &Pg, user: u64, conversations: &[u64]) -> Result<Vec<Listed>, StoreError> {
    if conversations.is_empty() {
        return Ok(Vec::new());
    }
    let text = "SELECT u.id AS conversation, c.version, m.data AS member, c.head, a.data AS author,
            COALESCE(p.user_id, 0) AS peer, l.data AS last
        FROM unnest($2::bigint[]) AS u(id) CROSS JOIN LATERAL
            (SELECT version, head FROM conversation WHERE id = u.id OFFSET 0) c CROSS JOIN LATERAL
            (SELECT data FROM member WHERE conversation = u.id AND user_id = $1 OFFSET 0) m LEFT JOIN LATERAL
            (SELECT data FROM author WHERE conversation = u.id AND user_id = $1 OFFSET 0) a ON TRUE LEFT JOIN LATERAL
            (SELECT user_id FROM member WHERE conversation = u.id AND user_id <> $1 LIMIT 1) p ON TRUE LEFT JOIN LATERAL
            (SELECT data FROM message WHERE conversation = u.id ORDER BY seq DESC LIMIT 1) l ON TRUE";
    let query = sqlx::query(text).bind(signed(user)).bind(array(conversations));
    let listed = |row: &PgRow| {
        let link = link(row)?;
        let is_group = link.head.kind == ConversationKind::Group as u32;
        let peer = if is_group { 0 } else { bits(row, "peer")? };
        let last = bytes(row, "last")?.map(message_of).transpose()?;
        Ok(Listed { link, peer, last })
    };
    readable(&rows(pg, "reading a user's list", query).await?, "conversation", listed)
}

pub(super) async fn persons(pg: &Pg, users: &[u64]) -> Result<Vec<(u64, Person)>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let text = "SELECT u.id, p.data FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
        (SELECT data FROM person WHERE user_id = u.id OFFSET 0) p";
    let found = rows(pg, "reading persons", sqlx::query(text).bind(array(users))).await?;
    readable(&found, "id", |row| Ok((bits(row, "id")?, decoded(row, "data")?)))
}

pub(super) async fn acquainted(pg: &Pg, user: u64, others: &[u64]) -> Result<Vec<u64>, StoreError> {
    let others: BTreeSet<u64> = others.iter().copied().filter(|other| *other != user).collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    // The user's own conversations are read once; of each of the others his rows are looked through.
    let text = "WITH mine AS MATERIALIZED
            (SELECT conversation FROM link WHERE user_id = $1 AND member AND NOT large)
        SELECT u.id FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS u(id, low, high) LEFT JOIN LATERAL
            (SELECT conversation FROM conversation_name
                WHERE a = u.low AND b = u.high AND c = 0 AND kind = 1 OFFSET 0) n ON TRUE CROSS JOIN LATERAL
            (SELECT 1 FROM link l WHERE l.user_id = u.id AND l.member AND NOT l.large
                AND l.conversation IN (SELECT conversation FROM mine)
                AND l.conversation IS DISTINCT FROM n.conversation LIMIT 1) x";
    let low: Vec<i64> = others.iter().map(|other| signed(user.min(*other))).collect();
    let high: Vec<i64> = others.iter().map(|other| signed(user.max(*other))).collect();
    let others: Vec<i64> = others.iter().map(|other| signed(*other)).collect();
    let query = sqlx::query(text).bind(signed(user)).bind(others).bind(low).bind(high);
    let found = rows(pg, "reading who knows whom", query).await?;
    let ids: Result<BTreeSet<u64>, StoreError> = found.iter().map(|row| bits(row, "id")).collect();
    Ok(ids?.into_iter().collect())
}

pub(super) async fn heads(pg: &Pg, conversations: &[u64]) -> Result<Vec<(u64, u64, Head)>, StoreError> {
    if conversations.is_empty() {
        return Ok(Vec::new());
    }
    let text = "SELECT u.id, c.version, c.head FROM unnest($1::bigint[]) AS u(id) CROSS JOIN LATERAL
        (SELECT version, head FROM conversation WHERE id = u.id OFFSET 0) c";
    let found = rows(pg, "reading heads", sqlx::query(text).bind(array(conversations))).await?;
    readable(&found, "id", |row| Ok((bits(row, "id")?, bits(row, "version")?, decoded(row, "head")?)))
}

pub(super) async fn entries(pg: &Pg, user: u64, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let text = "SELECT cursor, conversation, seq FROM entry WHERE user_id = $1 AND cursor > $2
        ORDER BY cursor LIMIT $3";
    let (after, limit) = (after.min(i64::MAX as u64), i64::try_from(limit).unwrap_or(i64::MAX));
    let query = sqlx::query(text).bind(signed(user)).bind(signed(after)).bind(limit);
    let entry = |row: &PgRow| {
        Ok(Entry {
            cursor: bits(row, "cursor")?,
            conversation: bits(row, "conversation")?,
            seq: bits(row, "seq")?,
        })
    };
    rows(pg, "reading a timeline", query).await?.iter().map(entry).collect()
}

pub(super) async fn unfanned(
    pg: &Pg,
    buckets: &[u16],
    after: u64,
    limit: usize,
) -> Result<Vec<u64>, StoreError> {
    let text =
        "SELECT id FROM conversation WHERE behind AND bucket = ANY($1) AND id > $2 ORDER BY id LIMIT $3";
    let buckets: Vec<i64> = buckets.iter().map(|b| i64::from(*b)).collect();
    let (after, limit) = (after.min(i64::MAX as u64), i64::try_from(limit).unwrap_or(i64::MAX));
    let query = sqlx::query(text).bind(buckets).bind(signed(after)).bind(limit);
    rows(pg, "reading what is not handed over", query).await?.iter().map(|row| bits(row, "id")).collect()
}
