//! One step: what stands there, what becomes of each part, what is written.
//!
//! Locks are taken in the same order by every step: the epoch's row, conversations by id, then what is written, table
//! by table, each by key. Conversations and names that are new are inserted plainly: of two that make the same row one
//! fails, and is judged again by what the other has left.

use super::read::columns;
use super::{told, write};
use crate::core::Fanned;
use crate::store::StoreError;
use crate::store::owned::{
    ConversationOutcome, ConversationStep, Fence, Outcomes, Step, TimelineOutcome, TimelineStep,
};
use hashring::bucket_of;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storage::pg::{Answers, ArrayKind, ArrayRows, CommitError, Pg};
use storage::{SqlError, StoredRow as _};

/// How often a step is judged again because another one made the same row at the same moment.
const AGAIN_MAX: u32 = 5;

/// What stands there.
#[derive(Default)]
pub(super) struct Standing {
    /// Buckets of the step that are the caller's.
    owned: BTreeSet<u16>,
    /// Version and last seq of its conversations.
    places: HashMap<u64, (u64, u64)>,
    /// Who has the names.
    names: BTreeMap<(i64, u64, u64, u64), u64>,
}

/// What of a step is to be written.
pub(super) struct Accepted<'a> {
    pub conversations: Vec<&'a ConversationStep>,
    pub timelines: Vec<&'a TimelineStep>,
    /// Conversations of which timelines have heard more.
    pub fanned: Vec<(u64, Fanned)>,
}

impl Accepted<'_> {
    fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.timelines.is_empty() && self.fanned.is_empty()
    }
}

pub(super) async fn step(pg: &Pg, fence: &Fence, step: &Step) -> Result<Outcomes, StoreError> {
    if step.is_empty() {
        return Ok(Outcomes::default());
    }
    let mut left = AGAIN_MAX;
    loop {
        match one_try(pg, fence, step).await {
            Ok(done) => return Ok(done),
            Err(SqlError::Constraint(_)) if left > 0 => left -= 1,
            Err(error @ SqlError::Constraint(_)) => {
                return Err(StoreError::Damaged(format!("what a step makes is there already: {error}")));
            }
            Err(error) => return Err(told(error)),
        }
    }
}

async fn one_try(pg: &Pg, fence: &Fence, step: &Step) -> Result<Outcomes, SqlError> {
    let load = load(fence, step);
    let reading = async {
        let mut transaction = pg.begin_with_first().await?;
        let answers = transaction.run(&load).await?;
        Ok::<_, SqlError>((transaction, answers))
    };
    let (transaction, answers) = pg.within("chat's step", reading).await?;
    let standing = standing(fence, &answers)?;
    let (mut outcomes, accepted) = judge(step, &standing);
    let text = if accepted.is_empty() { String::new() } else { write::text(&accepted, &standing.places) };
    if text.is_empty() {
        // Nothing was changed. If this does not get through, the server ends it with the connection.
        let _ = pg.within("chat's step", transaction.rollback()).await;
        return Ok(outcomes);
    }
    let answers = pg.run_and_commit(transaction, &text).await.map_err(|error| match error {
        CommitError::NotDone(error) | CommitError::Unknown(error) => error,
    })?;
    let wanted: usize = accepted.timelines.iter().map(|t| t.entries.len()).sum();
    if write::put(&answers)? != wanted as u64 {
        tell_old(pg, step, &mut outcomes).await?;
    }
    Ok(outcomes)
}

/// The statements that look at the fence and at what stands there.
fn load(fence: &Fence, step: &Step) -> String {
    let (node, epoch) = (fence.node, fence.epoch);
    let buckets: Vec<String> = fence.terms.iter().map(|(bucket, _)| bucket.to_string()).collect();
    let buckets = if buckets.is_empty() { "NULL".to_owned() } else { buckets.join(",") };
    // The second statement sees what was committed before the first one had its lock. Lateral looks: see `read`.
    let mut text = format!(
        "SELECT 1 FROM node_epoch WHERE node = {node} AND epoch = {epoch} AND ended_ms IS NULL FOR KEY SHARE;\
         SELECT bucket, term FROM user_bucket WHERE bucket IN ({buckets}) AND node = {node} AND epoch = {epoch} \
         AND released_lane IS NULL"
    );
    let of_steps = step.conversations.iter().map(|c| c.rows.id);
    let ids: BTreeSet<u64> = of_steps.chain(step.fanned.iter().map(|(id, _)| *id)).collect();
    let mut rows = ArrayRows::new(&[ArrayKind::Int]);
    ids.iter().for_each(|id| {
        rows.row(|row| {
            row.bits(*id);
        });
    });
    let source = rows.source("u", "id");
    text += &format!(
        ";SELECT u.id, c.version, c.last_seq FROM {source} CROSS JOIN LATERAL \
         (SELECT version, last_seq FROM conversation WHERE id = u.id FOR NO KEY UPDATE) c"
    );
    let names: BTreeSet<_> = step.conversations.iter().filter_map(new_name).collect();
    if !names.is_empty() {
        let mut rows = ArrayRows::new(&[ArrayKind::Int; 4]);
        for (kind, a, b, c) in names {
            rows.row(|row| {
                row.int(kind).bits(a).bits(b).bits(c);
            });
        }
        let source = rows.source("u", "kind, a, b, c");
        text += &format!(
            ";SELECT u.kind, u.a, u.b, u.c, n.conversation FROM {source} CROSS JOIN LATERAL (SELECT conversation \
             FROM conversation_name WHERE a = u.a AND b = u.b AND c = u.c AND kind = u.kind OFFSET 0) n"
        );
    }
    text
}

fn standing(fence: &Fence, answers: &Answers) -> Result<Standing, SqlError> {
    let part = |number: usize| answers.get(number).map_or(&[][..], Vec::as_slice);
    let mut standing = Standing::default();
    if !part(0).is_empty() {
        let terms: BTreeMap<u16, u32> = fence.terms.iter().copied().collect();
        for row in part(1) {
            let (bucket, term) = (row.int("bucket")?, row.int("term")?);
            if terms.get(&bucket) == Some(&term) {
                standing.owned.insert(bucket);
            }
        }
    }
    for row in part(2) {
        standing.places.insert(row.bits("id")?, (row.bits("version")?, row.bits("last_seq")?));
    }
    for row in part(3) {
        let name = (row.number("kind")?, row.bits("a")?, row.bits("b")?, row.bits("c")?);
        standing.names.insert(name, row.bits("conversation")?);
    }
    Ok(standing)
}

/// The name that a new conversation takes.
pub(super) fn new_name(step: &ConversationStep) -> Option<(i64, u64, u64, u64)> {
    step.name.filter(|_| step.version == 1).map(columns)
}

/// What becomes of each conversation and timeline.
fn judge<'a>(step: &'a Step, standing: &Standing) -> (Outcomes, Accepted<'a>) {
    let owns = |id: u64| standing.owned.contains(&bucket_of(id).get());
    let (mut conversations, mut fanned) = (Vec::new(), Vec::new());
    let mut outcomes = Outcomes::default();
    // Of two new conversations with one name the first has it.
    let mut taken: BTreeMap<(i64, u64, u64, u64), u64> = BTreeMap::new();
    for asked in &step.conversations {
        let id = asked.rows.id;
        let (version, last_seq) = standing.places.get(&id).copied().unwrap_or((0, 0));
        let name = new_name(asked);
        let holder = name.and_then(|name| standing.names.get(&name).or_else(|| taken.get(&name)).copied());
        outcomes.conversations.push(if !owns(id) {
            ConversationOutcome::NotOwner
        } else if version > 0 && version == asked.version {
            // Done before; how far timelines have heard may still be news.
            fanned.push((id, asked.fanned));
            ConversationOutcome::Done
        } else if version + 1 != asked.version || last_seq != asked.before_seq {
            ConversationOutcome::Moved { version, last_seq }
        } else if let Some(conversation) = holder.filter(|holder| *holder != id) {
            ConversationOutcome::Named { conversation }
        } else {
            if let Some(name) = name {
                taken.insert(name, id);
            }
            conversations.push(asked);
            ConversationOutcome::Done
        });
    }
    let known = |(id, _): &&(u64, Fanned)| owns(*id) && standing.places.contains_key(id);
    fanned.extend(step.fanned.iter().filter(known).copied());
    let mut timelines = Vec::new();
    for asked in &step.timelines {
        outcomes.timelines.push(if owns(asked.user) {
            timelines.push(asked);
            TimelineOutcome::Added { new: vec![true; asked.entries.len()] }
        } else {
            TimelineOutcome::NotOwner
        });
    }
    (outcomes, Accepted { conversations, timelines, fanned })
}

/// Some entries had been there before: corrects the outcomes by the cursors under which they stand.
async fn tell_old(pg: &Pg, step: &Step, outcomes: &mut Outcomes) -> Result<(), SqlError> {
    let mut rows = ArrayRows::new(&[ArrayKind::Int; 3]);
    for timeline in &step.timelines {
        for entry in &timeline.entries {
            rows.row(|row| {
                row.bits(timeline.user).bits(entry.conversation).bits(entry.seq);
            });
        }
    }
    let source = rows.source("u", "user_id, conversation, seq");
    let text = format!(
        "SELECT u.user_id, u.conversation, u.seq, e.cursor FROM {source} CROSS JOIN LATERAL (SELECT cursor FROM entry \
         WHERE user_id = u.user_id AND conversation = u.conversation AND seq = u.seq OFFSET 0) e"
    );
    let answers = pg.within("chat's step", pg.ask(&text)).await?;
    let mut cursors: HashMap<(u64, u64, u64), u64> = HashMap::new();
    for row in answers.first().map_or(&[][..], Vec::as_slice) {
        let key = (row.bits("user_id")?, row.bits("conversation")?, row.bits("seq")?);
        cursors.insert(key, row.bits("cursor")?);
    }
    for (timeline, outcome) in step.timelines.iter().zip(&mut outcomes.timelines) {
        let TimelineOutcome::Added { new } = outcome else { continue };
        for (entry, new) in timeline.entries.iter().zip(new) {
            let stands = cursors.get(&(timeline.user, entry.conversation, entry.seq));
            *new = stands == Some(&entry.cursor);
        }
    }
    Ok(())
}
