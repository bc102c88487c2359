//! The message that ends a step: what is written, together with the commit.

use super::step::{Accepted, new_name};
use super::told;
use crate::core::{Entry, Fanned};
use crate::store::StoreError;
use crate::store::owned::{ConversationStep, LinkRow, TimelineStep};
use hashring::bucket_of;
use prost::Message as _;
use records::Record as _;
use std::collections::{BTreeMap, HashMap};
use storage::batch::signed;
use storage::pg::{Answers, ArrayKind, ArrayRows, Pg};
use storage::{SqlError, StoredRow as _, sqlx};

const INT: ArrayKind = ArrayKind::Int;
const FLAG: ArrayKind = ArrayKind::Flag;
const BYTES: ArrayKind = ArrayKind::Bytes;

/// The statements that write what was accepted; `places` has version and last seq of conversations that are there.
/// The last statement counts the entries that were put.
pub(super) fn text(all: &Accepted<'_>, places: &HashMap<u64, (u64, u64)>) -> String {
    let mut texts = Vec::new();
    names(all, &mut texts);
    heads(all, places, &mut texts);
    people(all, &mut texts);
    messages(all, &mut texts);
    fanned(all, &mut texts);
    persons(all, &mut texts);
    links(all, &mut texts);
    entries(all, &mut texts);
    texts.join(";")
}

/// Entries that were put, as the last statement of [`text`] counted them.
pub(super) fn put(answers: &Answers) -> Result<u64, SqlError> {
    let row = answers.last().and_then(|rows| rows.first());
    row.ok_or(SqlError::Other(sqlx::Error::RowNotFound))?.bits("put")
}

fn names(all: &Accepted<'_>, texts: &mut Vec<String>) {
    let named = |c: &&ConversationStep| {
        let (kind, a, b, of) = new_name(c)?;
        Some(((a, b, of, kind), c.rows.id))
    };
    let sorted: BTreeMap<_, u64> = all.conversations.iter().filter_map(named).collect();
    let mut rows = ArrayRows::new(&[INT; 5]);
    for ((a, b, c, kind), id) in sorted {
        rows.row(|row| {
            row.bits(a).bits(b).bits(c).int(kind).bits(id);
        });
    }
    if !rows.is_empty() {
        let source = rows.source("r", "a, b, c, kind, conversation");
        texts.push(format!(
            "INSERT INTO conversation_name (a, b, c, kind, conversation) SELECT a, b, c, kind, conversation FROM {source}"
        ));
    }
}

/// New conversations are inserted plainly; the rows of the others are locked.
fn heads(all: &Accepted<'_>, places: &HashMap<u64, (u64, u64)>, texts: &mut Vec<String>) {
    let kinds = [INT, INT, INT, INT, INT, INT, BYTES];
    let (mut new, mut old) = (ArrayRows::new(&kinds), ArrayRows::new(&kinds));
    let mut sorted = all.conversations.clone();
    sorted.sort_unstable_by_key(|c| c.rows.id);
    for step in sorted {
        let id = step.rows.id;
        let rows = if places.contains_key(&id) { &mut old } else { &mut new };
        rows.row(|row| {
            row.bits(id).int(bucket_of(id).get().into()).bits(step.version).bits(step.rows.head.last_seq);
            row.bits(step.fanned.version).bits(step.fanned.seq).bytes(&step.rows.head.encode_to_vec());
        });
    }
    let names = "id, bucket, version, last_seq, fanned_version, fanned_seq, head";
    if !new.is_empty() {
        let source = new.source("r", names);
        texts.push(format!(
            "INSERT INTO conversation (id, bucket, version, last_seq, fanned_version, fanned_seq, behind, head) \
             SELECT id, bucket, version, last_seq, fanned_version, fanned_seq, fanned_version < version, \
             decode(head, 'hex') FROM {source}"
        ));
    }
    if !old.is_empty() {
        // Not an UPDATE: an insert goes straight to the part that has the row.
        let source = old.source("r", names);
        texts.push(format!(
            "INSERT INTO conversation AS c (id, bucket, version, last_seq, fanned_version, fanned_seq, behind, head) \
             SELECT id, bucket, version, last_seq, fanned_version, fanned_seq, fanned_version < version, \
             decode(head, 'hex') FROM {source} \
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, last_seq = excluded.last_seq, \
             fanned_version = GREATEST(c.fanned_version, excluded.fanned_version), \
             fanned_seq = GREATEST(c.fanned_seq, excluded.fanned_seq), \
             behind = GREATEST(c.fanned_version, excluded.fanned_version) < excluded.version, head = excluded.head"
        ));
    }
}

/// Members and authors.
fn people(all: &Accepted<'_>, texts: &mut Vec<String>) {
    let (mut members, mut authors) = (BTreeMap::new(), BTreeMap::new());
    for step in &all.conversations {
        let rows = &step.rows;
        if !rows.gone.is_empty() {
            // A statement for each conversation: with the number in it, it looks into one part by the index.
            let users: Vec<String> = rows.gone.iter().map(|user| signed(*user).to_string()).collect();
            let (id, users) = (signed(rows.id), users.join(","));
            texts.push(format!("DELETE FROM member WHERE conversation = '{id}'::bigint AND user_id = ANY('{{{users}}}'::bigint[])"));
        }
        members.extend(rows.members.iter().map(|m| ((rows.id, m.user), m.encode_to_vec())));
        authors.extend(rows.authors.iter().map(|a| ((rows.id, a.user), a.encode_to_vec())));
    }
    for (table, put) in [("member", members), ("author", authors)] {
        let mut rows = ArrayRows::new(&[INT, INT, BYTES]);
        for ((id, user), data) in &put {
            rows.row(|row| {
                row.bits(*id).bits(*user).bytes(data);
            });
        }
        if !rows.is_empty() {
            let source = rows.source("r", "conversation, user_id, data");
            texts.push(format!(
                "INSERT INTO {table} (conversation, user_id, data) \
                 SELECT conversation, user_id, decode(data, 'hex') FROM {source} \
                 ON CONFLICT (conversation, user_id) DO UPDATE SET data = excluded.data"
            ));
        }
    }
}

fn messages(all: &Accepted<'_>, texts: &mut Vec<String>) {
    let mut rows = ArrayRows::new(&[INT, INT, BYTES]);
    for step in &all.conversations {
        for message in &step.rows.messages {
            rows.row(|row| {
                row.bits(message.conversation).bits(message.seq).bytes(&message.encode());
            });
        }
    }
    if !rows.is_empty() {
        let source = rows.source("r", "conversation, seq, data");
        texts.push(format!(
            "INSERT INTO message (conversation, seq, data) SELECT conversation, seq, decode(data, 'hex') FROM {source}"
        ));
    }
}

fn fanned(all: &Accepted<'_>, texts: &mut Vec<String>) {
    let sorted: BTreeMap<u64, Fanned> = all.fanned.iter().copied().collect();
    let mut rows = ArrayRows::new(&[INT; 3]);
    for (id, fanned) in sorted {
        rows.row(|row| {
            row.bits(id).bits(fanned.version).bits(fanned.seq);
        });
    }
    if !rows.is_empty() {
        // The rows are there and locked, so each is a conflict; as in `heads`, because an insert finds the part.
        let source = rows.source("r", "id, version, seq");
        texts.push(format!(
            "INSERT INTO conversation AS c (id, bucket, version, last_seq, fanned_version, fanned_seq, behind, head) \
             SELECT id, 0, 0, 0, version, seq, FALSE, ''::bytea FROM {source} ON CONFLICT (id) DO UPDATE SET \
             fanned_version = GREATEST(c.fanned_version, excluded.fanned_version), \
             fanned_seq = GREATEST(c.fanned_seq, excluded.fanned_seq), \
             behind = GREATEST(c.fanned_version, excluded.fanned_version) < c.version"
        ));
    }
}

fn persons(all: &Accepted<'_>, texts: &mut Vec<String>) {
    let of = |t: &&TimelineStep| Some((t.user, (t.stamp, t.person.as_ref()?.encode_to_vec())));
    let sorted: BTreeMap<u64, (u64, Vec<u8>)> = all.timelines.iter().filter_map(of).collect();
    let mut rows = ArrayRows::new(&[INT, INT, BYTES]);
    for (user, (stamp, data)) in &sorted {
        rows.row(|row| {
            row.bits(*user).bits(*stamp).bytes(data);
        });
    }
    if !rows.is_empty() {
        let source = rows.source("r", "user_id, stamp, data");
        texts.push(format!(
            "INSERT INTO person AS p (user_id, stamp, data) SELECT user_id, stamp, decode(data, 'hex') FROM {source} \
             ON CONFLICT (user_id) DO UPDATE SET stamp = excluded.stamp, data = excluded.data \
             WHERE p.stamp < excluded.stamp"
        ));
    }
}

fn links(all: &Accepted<'_>, texts: &mut Vec<String>) {
    // Of several rows of one user and conversation the newest counts.
    let mut sorted: BTreeMap<(u64, u64), LinkRow> = BTreeMap::new();
    for timeline in &all.timelines {
        for link in &timeline.links {
            let kept = sorted.entry((timeline.user, link.conversation)).or_insert(*link);
            if kept.version < link.version {
                *kept = *link;
            }
        }
    }
    let mut rows = ArrayRows::new(&[INT, INT, INT, FLAG, FLAG]);
    for ((user, _), link) in &sorted {
        rows.row(|row| {
            row.bits(*user).bits(link.conversation).bits(link.version).flag(link.member).flag(link.large);
        });
    }
    if !rows.is_empty() {
        let source = rows.source("r", "user_id, conversation, version, member, large");
        texts.push(format!(
            "INSERT INTO link AS l (user_id, conversation, version, member, large) \
             SELECT user_id, conversation, version, member, large FROM {source} \
             ON CONFLICT (user_id, conversation) DO UPDATE SET version = excluded.version, \
             member = excluded.member, large = excluded.large WHERE l.version < excluded.version"
        ));
    }
}

/// The last statement, also when there are none.
fn entries(all: &Accepted<'_>, texts: &mut Vec<String>) {
    let mut sorted: Vec<(u64, &Entry)> =
        all.timelines.iter().flat_map(|t| t.entries.iter().map(|e| (t.user, e))).collect();
    if sorted.is_empty() {
        texts.push("SELECT 0::bigint AS put".to_owned());
        return;
    }
    sorted.sort_unstable_by_key(|(user, e)| (*user, e.conversation, e.seq, e.cursor));
    let mut rows = ArrayRows::new(&[INT; 4]);
    for (user, entry) in sorted {
        rows.row(|row| {
            row.bits(user).bits(entry.cursor).bits(entry.conversation).bits(entry.seq);
        });
    }
    let source = rows.source("r", "user_id, cursor, conversation, seq");
    texts.push(format!(
        "WITH put AS (INSERT INTO entry (user_id, cursor, conversation, seq) \
         SELECT user_id, cursor, conversation, seq FROM {source} \
         ON CONFLICT (user_id, conversation, seq) DO NOTHING RETURNING 1) SELECT count(*) AS put FROM put"
    ));
}

/// Raises what is reserved of a node's ids; what it was before.
pub(super) async fn reserve_ids(pg: &Pg, node: u16, until_ms: u64) -> Result<u64, StoreError> {
    let text = "INSERT INTO reserved_ids AS r (node, before_ms, until_ms) VALUES ($1, 0, $2) \
        ON CONFLICT (node) DO UPDATE SET before_ms = r.until_ms, until_ms = GREATEST(r.until_ms, excluded.until_ms) \
        RETURNING before_ms";
    let writing = async {
        let mut connection = pg.connection().await?;
        let query = sqlx::query(text).bind(i64::from(node)).bind(signed(until_ms.min(i64::MAX as u64)));
        Ok::<_, SqlError>(query.fetch_one(&mut *connection).await?)
    };
    pg.within("reserving ids", writing).await.map_err(told)?.bits("before_ms").map_err(told)
}
