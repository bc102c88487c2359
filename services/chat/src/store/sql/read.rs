//! Reading what is not in memory: many users or conversations at a time.

use super::chunk::{unpack_entries, unpack_messages};
use super::told;
use crate::core::{Author, Entry, Head, Member, Person, StoredConversation, StoredLink, StoredUser};
use crate::store::{Mark, StoreError};
use prost::Message;
use records::ChatMessage;
use std::collections::HashMap;
use storage::batch::signed;
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row as _};
use storage::{Sql, StoredRow as _};

/// Ids for `json_each`.
fn list(ids: impl Iterator<Item = u64>) -> String {
    let texts: Vec<String> = ids.map(|id| signed(id).to_string()).collect();
    format!("[{}]", texts.join(","))
}

fn decoded<T: Message + Default>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(told)?;
    T::decode(bytes).map_err(|e| StoreError::Damaged(format!("column {column}: {e}")))
}

fn bits(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    row.bits(column).map_err(told)
}

async fn rows(sql: &Sql, text: &'static str, ids: String) -> Result<Vec<SqliteRow>, StoreError> {
    let query = sqlx::query(text).bind(ids).fetch_all(sql.readers());
    sql.within("reading chat's tables", query).await.map_err(told)
}

pub(super) async fn mark(sql: &Sql) -> Result<Mark, StoreError> {
    let text = "SELECT position, record, cursor, ids_reserved_ms FROM mark";
    let row = sqlx::query(text).fetch_one(sql.readers()).await.map_err(told)?;
    let mut mark = Mark { cursor: bits(&row, "cursor")?, ..Mark::default() };
    mark.at.position = bits(&row, "position")?;
    mark.at.index = row.int("record").map_err(told)?;
    mark.ids_reserved_ms = bits(&row, "ids_reserved_ms")?;
    Ok(mark)
}

pub(super) async fn conversations(sql: &Sql, ids: &[u64]) -> Result<Vec<StoredConversation>, StoreError> {
    // One read, so that head, members and messages are of one checkpoint.
    let ids = list(ids.iter().copied());
    let mut read = sql.readers().begin().await.map_err(told)?;
    let all = |text: &'static str| sqlx::query(text).bind(ids.clone());
    let mut found: HashMap<u64, StoredConversation> = HashMap::new();
    let heads = all("SELECT id, head FROM conversation WHERE id IN (SELECT value FROM json_each($1))");
    for row in heads.fetch_all(&mut *read).await.map_err(told)? {
        let id = bits(&row, "id")?;
        let head: Head = decoded(&row, "head")?;
        found.insert(id, StoredConversation { id, head, ..StoredConversation::default() });
    }
    let members =
        all("SELECT conversation, data FROM member WHERE conversation IN (SELECT value FROM json_each($1))");
    for row in members.fetch_all(&mut *read).await.map_err(told)? {
        if let Some(conversation) = found.get_mut(&bits(&row, "conversation")?) {
            conversation.members.push(decoded::<Member>(&row, "data")?);
        }
    }
    let authors =
        all("SELECT conversation, data FROM author WHERE conversation IN (SELECT value FROM json_each($1))");
    for row in authors.fetch_all(&mut *read).await.map_err(told)? {
        if let Some(conversation) = found.get_mut(&bits(&row, "conversation")?) {
            conversation.authors.push(decoded::<Author>(&row, "data")?);
        }
    }
    let last =
        all("SELECT c.conversation, c.messages FROM json_each($1) j JOIN message_chunk c ON c.number =
            (SELECT number FROM message_chunk WHERE conversation = j.value ORDER BY first DESC LIMIT 1)");
    for row in last.fetch_all(&mut *read).await.map_err(told)? {
        if let Some(conversation) = found.get_mut(&bits(&row, "conversation")?) {
            unpack_messages(row.try_get("messages").map_err(told)?, &mut conversation.recent)?;
        }
    }
    for conversation in found.values_mut() {
        conversation.members.sort_unstable_by_key(|m| m.user);
        conversation.authors.sort_unstable_by_key(|a| a.user);
    }
    Ok(found.into_values().collect())
}

pub(super) async fn pairs(sql: &Sql, pairs: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, StoreError> {
    let texts: Vec<String> = pairs.iter().map(|(a, b)| format!("[{},{}]", signed(*a), signed(*b))).collect();
    let text = "SELECT p.low, p.high, p.conversation FROM json_each($1) j
        JOIN pair p ON p.low = j.value->>0 AND p.high = j.value->>1";
    let found = rows(sql, text, format!("[{}]", texts.join(","))).await?;
    found.iter().map(|row| Ok((bits(row, "low")?, bits(row, "high")?, bits(row, "conversation")?))).collect()
}

pub(super) async fn messages(
    sql: &Sql,
    conversation: u64,
    from: u64,
    to: u64,
) -> Result<Vec<ChatMessage>, StoreError> {
    let text = "SELECT messages FROM message_chunk WHERE conversation = $1 AND first <= $3 AND first >= COALESCE(
            (SELECT MAX(first) FROM message_chunk WHERE conversation = $1 AND first <= $2), 0) ORDER BY first";
    let query = sqlx::query(text).bind(signed(conversation)).bind(signed(from)).bind(signed(to));
    let found = sql.within("reading messages", query.fetch_all(sql.readers())).await.map_err(told)?;
    let mut all = Vec::new();
    for row in &found {
        unpack_messages(row.try_get("messages").map_err(told)?, &mut all)?;
    }
    all.retain(|m| (from..=to).contains(&m.seq));
    Ok(all)
}

pub(super) async fn users(sql: &Sql, ids: &[u64]) -> Result<Vec<StoredUser>, StoreError> {
    let mut found: HashMap<u64, StoredUser> =
        ids.iter().map(|id| (*id, StoredUser { id: *id, ..StoredUser::default() })).collect();
    let ids = list(ids.iter().copied());
    let text = "SELECT id, data FROM person WHERE id IN (SELECT value FROM json_each($1))";
    for row in rows(sql, text, ids.clone()).await? {
        if let Some(user) = found.get_mut(&bits(&row, "id")?) {
            user.person = decoded::<Person>(&row, "data")?;
        }
    }
    let text = "SELECT l.user_id, l.conversation, c.head, m.data AS member, a.data AS author
        FROM json_each($1) j
        JOIN link l ON l.user_id = j.value
        JOIN conversation c ON c.id = l.conversation
        JOIN member m ON m.conversation = l.conversation AND m.user_id = l.user_id
        LEFT JOIN author a ON a.conversation = l.conversation AND a.user_id = l.user_id";
    for row in rows(sql, text, ids).await? {
        let Some(user) = found.get_mut(&bits(&row, "user_id")?) else { continue };
        let author: Option<&[u8]> = row.try_get("author").map_err(told)?;
        let own = match author {
            Some(bytes) => Author::decode(bytes).map_err(|e| StoreError::Damaged(e.to_string()))?.own,
            None => 0,
        };
        user.links.push(StoredLink {
            version: 0,
            conversation: bits(&row, "conversation")?,
            head: decoded(&row, "head")?,
            member: decoded(&row, "member")?,
            own,
        });
    }
    Ok(found.into_values().collect())
}

pub(super) async fn entries(
    sql: &Sql,
    user: u64,
    after: u64,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let text = "SELECT first, entries FROM timeline_chunk WHERE user_id = $1 AND first >= COALESCE(
            (SELECT MAX(first) FROM timeline_chunk WHERE user_id = $1 AND first <= $2), 0) ORDER BY first LIMIT $3";
    // The first chunk may lie wholly before the cursor.
    let query = sqlx::query(text).bind(signed(user)).bind(signed(after)).bind(signed(limit as u64 + 1));
    let found = sql.within("reading a timeline", query.fetch_all(sql.readers())).await.map_err(told)?;
    let mut all = Vec::new();
    for row in &found {
        unpack_entries(bits(row, "first")?, row.try_get("entries").map_err(told)?, &mut all)?;
        all.retain(|e: &Entry| e.cursor > after);
        if all.len() >= limit {
            break;
        }
    }
    all.truncate(limit);
    Ok(all)
}
