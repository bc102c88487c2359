//! Requests that change something of one's own: reading, deleting, recalling, friends, groups.

use super::ChatNode;
use super::ask::last_seq;
use super::messages::Span;
use crate::core::{
    COUNTS_MAX, Key, OwnBehind, Reading, State, Stop, delete_marks, delete_seqs, own_among,
    unknown_conversation,
};
use crate::limits;
use flowlog::Disk;
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::{Delete, Done, MakeGroup, MarkRead, ReadAt, Recall, SetNotice};
use records::FriendStep;

impl<D: Disk> ChatNode<D> {
    /// Where a user stands in a conversation: loads both, and his large ones, since totals add them.
    pub(super) fn standing(state: &State, user: u64, id: u64) -> Result<ReadAt, Stop> {
        for large in &state.loaded(user)?.large {
            state.settled(*large)?;
        }
        state.of_member(id, user)?;
        state.read_at(user, id).ok_or_else(|| unknown_conversation().into())
    }

    pub(super) async fn mark_read(&self, user: u64, ask: MarkRead) -> Result<ReadAt, CallError> {
        let id = ask.conversation;
        let mut counted = None;
        for _ in 0..COUNTS_MAX {
            let (applied, to_count) = self
                .decide(|desk, now_ms| {
                    Self::standing(&desk.state, user, id)?;
                    let last = desk.state.of_member(id, user)?.0.head.last_seq;
                    Ok(match desk.state.decide_read((user, id), ask.seq, last, counted)? {
                        Reading::Stands => (None, None),
                        Reading::Count { after, upto } => (None, Some((after, upto))),
                        Reading::Take(records) => (self.commit(desk, records, now_ms)?, None),
                    })
                })
                .await?;
            let Some((after, upto)) = to_count else {
                self.applied(applied).await?;
                return self.decide(|desk, _| Self::standing(&desk.state, user, id)).await;
            };
            counted = Some(OwnBehind { after, upto, own: self.own_in(user, id, after, upto).await? });
        }
        Err(CallError::Busy(20))
    }

    /// Counted messages of a user behind a seq and up to another, recalled ones too.
    async fn own_in(&self, user: u64, conversation: u64, after: u64, last: u64) -> Result<u64, CallError> {
        let (mut own, mut from) = (0, after + 1);
        while from <= last {
            let to = last.min(from + 999);
            let found = self.span(Span { conversation, from, to }).await?;
            own += own_among(user, found.iter().map(|m| &**m));
            from = to + 1;
        }
        Ok(own)
    }

    pub(super) async fn delete(&self, user: u64, ask: Delete) -> Result<Done, CallError> {
        let id = ask.conversation;
        let done = Done { conversation: id, seq: 0 };
        if ask.all {
            let applied = self
                .decide(|desk, now_ms| {
                    desk.state.loaded(user)?;
                    let records = desk.state.decide_clear(user, id)?;
                    self.commit(desk, records, now_ms)
                })
                .await?;
            self.applied(applied).await?;
            return Ok(done);
        }
        let seqs = delete_seqs(&ask)?;
        self.decide(|desk, _| desk.state.of_member(id, user).map(drop)).await?;
        let mut marks = Vec::new();
        for seq in seqs {
            let found = self.span(Span { conversation: id, from: seq, to: seq }).await?;
            marks.extend(delete_marks(user, found.iter().map(|m| &**m)));
        }
        let applied = self
            .decide(|desk, now_ms| {
                desk.state.loaded(user)?;
                let records = desk.state.decide_delete(user, id, &marks)?;
                self.commit(desk, records, now_ms)
            })
            .await?;
        self.applied(applied).await?;
        Ok(done)
    }

    pub(super) async fn recall(&self, user: u64, ask: Recall) -> Result<Done, CallError> {
        let id = ask.conversation;
        self.decide(|desk, _| desk.state.of_member(id, user).map(drop)).await?;
        let found = self.span(Span { conversation: id, from: ask.seq, to: ask.seq }).await?;
        let Some(message) = found.into_iter().next() else {
            return Err(CallError::NotFound(format!("conversation {id} has no message {}", ask.seq)));
        };
        let (seq, applied) = self
            .decide(|desk, now_ms| {
                let records = desk.state.decide_recall(user, &message, now_ms)?;
                let seq = last_seq(&records);
                Ok((seq, self.commit(desk, records, now_ms)?))
            })
            .await?;
        self.applied(applied).await?;
        Ok(Done { conversation: id, seq })
    }

    pub(super) async fn set_notice(&self, user: u64, ask: SetNotice) -> Result<Done, CallError> {
        let id = ask.conversation;
        let applied = self
            .decide(|desk, now_ms| {
                let records = desk.state.decide_quiet(user, id, ask.muted)?;
                self.commit(desk, records, now_ms)
            })
            .await?;
        self.applied(applied).await?;
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
        self.expect(ask.members.iter().chain([&who.user]).map(|u| Key::User(*u)));
        let request = (who.device, ask.request);
        let (conversation, applied) = self
            .decide(|desk, now_ms| {
                let (id, records) =
                    desk.state.decide_group(who.user, request, &ask.name, &ask.members, now_ms)?;
                Ok((id, self.commit(desk, records, now_ms)?))
            })
            .await?;
        self.applied(applied).await?;
        Ok(Done { conversation, seq: 1 })
    }

    pub(super) async fn friend(&self, user: u64, other: u64, step: FriendStep) -> Result<Done, CallError> {
        self.expect([Key::User(user), Key::User(other)].into_iter());
        let applied = self
            .decide(|desk, now_ms| {
                let records = desk.state.decide_friend(user, other, step, now_ms)?;
                self.commit(desk, records, now_ms)
            })
            .await?;
        self.applied(applied).await?;
        let pair = |desk: &mut super::desk::Desk, _| Ok(desk.state.pair(user, other)?);
        let conversation = self.decide(pair).await?.unwrap_or(0);
        Ok(Done { conversation, seq: 0 })
    }
}
