//! Requests that change something of one's own: reading, deleting, recalling, friends, groups, one's profile.

use super::OwnerNode;
use super::lines::Lines;
use super::read::told;
use super::reply::{Denied, Durable, commit, unavailable};
use crate::core::{COUNTS_MAX, Key, Logged, OwnBehind, Reading, Stop, own_among};
use crate::limits;
use crate::store::owned::Name;
use crate::{cluster::read_answer, core::StoredUser};
use futures_util::future::try_join_all;
use hashring::bucket_of;
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::{Delete, Done, MakeGroup, MarkRead, ReadAt, Recall, SetNotice};
use records::{ChatMessage, FriendStep};
use std::time::Duration;

/// How often what came to nothing is done again.
const TRIES_MAX: usize = 4;
/// How long a change of one's own part may take.
const WAIT: Duration = Duration::from_secs(10);
/// Messages of one reading, when a reader's own are counted.
const COUNT_PAGE: u64 = 1_000;
/// Readings of single messages at a time.
const AT_A_TIME: usize = 8;
/// When a read position may be said again that could not be counted because the conversation goes on so fast, in ms.
const COUNT_AGAIN_MS: u32 = 20;

/// The seq of the first message among records.
pub(super) fn first_seq(records: &[Logged]) -> u64 {
    let seq = |logged: &Logged| match logged {
        Logged::Message(message) => Some(message.seq),
        Logged::Fact(_) => None,
    };
    records.iter().find_map(seq).unwrap_or(0)
}

impl OwnerNode {
    pub(super) async fn mark_read(&self, user: u64, ask: MarkRead) -> Result<ReadAt, CallError> {
        let id = ask.conversation;
        let mut counted = None;
        for _ in 0..COUNTS_MAX {
            let reading = self
                .write(|on, now_ms| {
                    Ok(match on.decide_read(user, &ask, counted, now_ms)? {
                        Reading::Stands => (None, commit(on, id, Vec::new(), now_ms)?),
                        Reading::Take(records) => (None, commit(on, id, records, now_ms)?),
                        Reading::Count { after, upto } => (Some((after, upto)), None),
                    })
                })
                .await?;
            let Some((after, upto)) = reading else { return self.read_at(user, id).await };
            let own = self.own_in(user, id, after, upto).await?;
            counted = Some(OwnBehind { after, upto, own });
        }
        Err(CallError::Busy(COUNT_AGAIN_MS))
    }

    /// How a user has read, now that it is durable.
    async fn read_at(&self, user: u64, id: u64) -> Result<ReadAt, CallError> {
        let found = self.stores.shelf.users(&[user]).await.map_err(told)?.pop();
        let stored = found.unwrap_or_else(|| StoredUser { id: user, ..StoredUser::default() });
        // What his own links say is of one moment with the total; only of a conversation that is not among them yet is the
        // owner's memory asked.
        let place = match stored.links.iter().any(|link| link.conversation == id) {
            true => (0, 0),
            false => self.view(id, |on| on.read_place(user, id)).await?,
        };
        Ok(read_answer(id, place, &stored))
    }

    /// Counted messages of a user behind a seq and up to another, recalled ones too.
    async fn own_in(&self, user: u64, id: u64, after: u64, upto: u64) -> Result<u64, CallError> {
        let (mut own, mut from) = (0, after + 1);
        while from <= upto {
            let to = upto.min(from + COUNT_PAGE - 1);
            own += own_among(user, &self.stores.shelf.messages(id, from, to).await.map_err(told)?);
            from = to + 1;
        }
        Ok(own)
    }

    pub(super) async fn delete(&self, user: u64, ask: Delete) -> Result<Done, CallError> {
        let id = ask.conversation;
        let seqs = self.decide(|on, _| on.delete_reads(user, &ask)).await?;
        let mut messages: Vec<ChatMessage> = Vec::with_capacity(seqs.len());
        let runs = runs_of(&seqs);
        for some in runs.chunks(AT_A_TIME) {
            let reads = some.iter().map(|(from, to)| self.stores.shelf.messages(id, *from, *to));
            messages.extend(try_join_all(reads).await.map_err(told)?.into_iter().flatten());
        }
        self.write(|on, now_ms| {
            let records = on.decide_delete(user, &ask, &messages, now_ms)?;
            Ok(((), commit(on, id, records, now_ms)?))
        })
        .await?;
        Ok(Done { conversation: id, seq: 0 })
    }

    pub(super) async fn recall(&self, user: u64, ask: Recall) -> Result<Done, CallError> {
        let id = ask.conversation;
        let seq = self.decide(|on, _| on.recall_reads(user, id, ask.seq)).await?;
        let found = self.stores.shelf.messages(id, seq, seq).await.map_err(told)?.pop();
        let Some(message) = found else {
            return Err(CallError::NotFound(format!("conversation {id} has no message {seq}")));
        };
        let seq = self
            .write(|on, now_ms| {
                let records = on.decide_recall(user, &message, now_ms)?;
                Ok((first_seq(&records), commit(on, id, records, now_ms)?))
            })
            .await?;
        Ok(Done { conversation: id, seq })
    }

    pub(super) async fn set_notice(&self, user: u64, ask: SetNotice) -> Result<Done, CallError> {
        let id = ask.conversation;
        self.write(|on, now_ms| {
            let records = on.decide_notice(user, &ask, now_ms)?;
            Ok(((), commit(on, id, records, now_ms)?))
        })
        .await?;
        Ok(Done { conversation: id, seq: 0 })
    }

    pub(super) async fn make_group(&self, who: DeviceAt, ask: MakeGroup) -> Result<Done, CallError> {
        let most = limits::MADE_MEMBERS_MAX;
        if ask.members.len() > most {
            return Err(CallError::Invalid(format!(
                "{} members; a group is made with at most {most}, add the others afterwards",
                ask.members.len()
            )));
        }
        let (user, request) = (who.user, (who.device, ask.request));
        self.expect(ask.members.iter().chain([&user]).map(|u| Key::User(*u)));
        for _ in 0..TRIES_MAX {
            // The same request has made one, here or anywhere, a moment ago or long ago.
            let name = Name::Made { user, device: who.device, request: ask.request };
            if let Some(conversation) = self.stores.shelf.named(name).await.map_err(told)? {
                return Ok(Done { conversation, seq: 1 });
            }
            let made = self
                .write_once(|on, now_ms| {
                    let (id, records) =
                        on.state.decide_group(user, request, &ask.name, &ask.members, now_ms)?;
                    Ok((id, commit(on, id, records, now_ms)?))
                })
                .await?;
            if let Some(conversation) = made {
                return Ok(Done { conversation, seq: 1 });
            }
        }
        Err(unavailable())
    }

    pub(super) async fn friend(&self, user: u64, other: u64, step: FriendStep) -> Result<Done, Denied> {
        self.expect([Key::User(user), Key::User(other)].into_iter().filter(|key| *key != Key::User(0)));
        let conversation = self
            .write(|on, now_ms| {
                let (records, id) = on.decide_friend(user, other, step, now_ms)?;
                let durable: Durable = if id == 0 { None } else { commit(on, id, records, now_ms)? };
                Ok((id, durable))
            })
            .await?;
        Ok(Done { conversation, seq: 0 })
    }

    /// Changes a user's own part and waits until it is durable.
    pub(super) async fn set_own(
        &self,
        user: u64,
        mut set: impl FnMut(&mut Lines, u64) -> Result<bool, Stop>,
    ) -> Result<(), CallError> {
        for _ in 0..TRIES_MAX {
            let (epoch, term) = self
                .look(user, |lines, now_ms, epoch| {
                    let is_set = set(lines, now_ms).map_err(|stop| match stop {
                        Stop::No(error) => error,
                        Stop::Need(_) => unavailable(),
                    })?;
                    let term = lines.core.term(bucket_of(user).get());
                    Ok(term.filter(|_| is_set).map(|term| (epoch, term)))
                })
                .await?;
            if self.is_own_stored(user, epoch, term).await? {
                return Ok(());
            }
        }
        Err(unavailable())
    }

    /// Waits until a user's own part is durable; false when his bucket went first.
    async fn is_own_stored(&self, user: u64, epoch: u32, term: u32) -> Result<bool, CallError> {
        let until = tokio::time::Instant::now() + WAIT;
        loop {
            let mut news = self.line_news.subscribe();
            let reign = self.fresh_reign()?;
            if reign.epoch != epoch {
                return Ok(false);
            }
            match reign.lines.lock().core.is_stored(user, term) {
                None => return Ok(false),
                Some(true) => return Ok(true),
                Some(false) => {}
            }
            self.wakes.lines.notify_one();
            if !matches!(tokio::time::timeout_at(until, news.changed()).await, Ok(Ok(()))) {
                return Err(unavailable());
            }
        }
    }
}

/// Runs of seqs that follow each other, both ends inclusive.
fn runs_of(seqs: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for seq in seqs.iter().copied() {
        match runs.last_mut() {
            Some((_, to)) if *to + 1 == seq => *to = seq,
            _ => runs.push((seq, seq)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::runs_of;

    #[test]
    fn what_follows_each_other_is_read_together() {
        assert_eq!(runs_of(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(runs_of(&[]), []);
    }
}
