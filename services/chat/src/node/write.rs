//! Requests that change something of one's own: reading, deleting, recalling, friends, groups.

use super::ChatNode;
use super::ask::last_seq;
use super::messages::Span;
use crate::core::{Conversation, Key, Logged, State, Stop, counts};
use crate::limits;
use flowlog::Disk;
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::{Delete, Done, MakeGroup, MarkRead, ReadAt, Recall, SetNotice};
use records::{ChatFact, FriendStep};

/// The conversation of a member.
pub(super) fn of_member(state: &State, id: u64, user: u64) -> Result<&Conversation, Stop> {
    let unknown = || CallError::NotFound("there is no such conversation, or you are not in it".to_owned());
    let conversation = state.settled(id)?.ok_or_else(unknown)?;
    conversation.member(user).ok_or_else(unknown)?;
    Ok(conversation)
}

impl<D: Disk> ChatNode<D> {
    /// Where a user stands in a conversation: loads both, and his large ones, since totals add them.
    pub(super) fn standing(state: &State, user: u64, id: u64) -> Result<ReadAt, Stop> {
        for large in &state.loaded(user)?.large {
            state.settled(*large)?;
        }
        of_member(state, id, user)?;
        state.read_at(user, id).ok_or_else(|| CallError::NotFound("you are not in it".to_owned()).into())
    }

    pub(super) async fn mark_read(&self, user: u64, ask: MarkRead) -> Result<ReadAt, CallError> {
        let id = ask.conversation;
        let (last, seq, writes) = self
            .decide(|desk, _| {
                Self::standing(&desk.state, user, id)?;
                let conversation = of_member(&desk.state, id, user)?;
                let last = conversation.head.last_seq;
                Ok((last, ask.seq.min(last), conversation.own(user) > 0))
            })
            .await?;
        // A position in the midst of the messages: one's own behind it are counted first.
        let own_behind =
            if seq == last || !writes { None } else { Some((last, self.own_in(user, id, seq, last).await?)) };
        let applied = self
            .decide(|desk, now_ms| {
                Self::standing(&desk.state, user, id)?;
                let conversation = of_member(&desk.state, id, user)?;
                let Some(member) = conversation.member(user) else { return Ok(None) };
                if seq <= member.read_seq {
                    return Ok(None);
                }
                let behind = |after: u64| {
                    let newer = conversation.recent.iter().rev().take_while(|m| m.seq > after);
                    newer.filter(|m| m.sender == user && counts(m.kind)).count() as u64
                };
                let (last, all) = (conversation.head.last_seq, conversation.own(user));
                let own = match own_behind {
                    _ if all == 0 => 0,
                    // What has come since is at hand: it is not even stored yet, or was a moment ago.
                    Some((then, own)) if conversation.recent_from() <= then + 1 => all - own - behind(then),
                    None if conversation.recent_from() <= seq + 1 || last == seq => all - behind(seq),
                    _ => return Err(CallError::Busy(20).into()),
                };
                let fact = ChatFact::Read { user, conversation: id, seq, own };
                self.commit(desk, vec![Logged::Fact(fact)], now_ms)
            })
            .await?;
        self.applied(applied).await?;
        self.decide(|desk, _| Self::standing(&desk.state, user, id)).await
    }

    /// Counted messages of a user behind a seq and up to another, recalled ones too.
    async fn own_in(&self, user: u64, conversation: u64, after: u64, last: u64) -> Result<u64, CallError> {
        if last - after > limits::OWN_SEARCH_MAX {
            return Err(CallError::Refused(format!(
                "the position is {} messages behind the last; read closer to it first",
                last - after
            )));
        }
        let (mut own, mut from) = (0, after + 1);
        while from <= last {
            let to = last.min(from + 999);
            let found = self.span(Span { conversation, from, to }).await?;
            own += found.iter().filter(|m| m.sender == user && counts(m.kind)).count() as u64;
            from = to + 1;
        }
        Ok(own)
    }

    pub(super) async fn delete(&self, user: u64, ask: Delete) -> Result<Done, CallError> {
        let id = ask.conversation;
        if ask.all {
            let applied = self
                .decide(|desk, now_ms| {
                    desk.state.loaded(user)?;
                    let conversation = of_member(&desk.state, id, user)?;
                    let (seq, own) = (conversation.head.last_seq, conversation.own(user));
                    let fact = ChatFact::Cleared { user, conversation: id, seq, own };
                    self.commit(desk, vec![Logged::Fact(fact)], now_ms)
                })
                .await?;
            self.applied(applied).await?;
            return Ok(Done { conversation: id, seq: 0 });
        }
        if ask.seqs.is_empty() || ask.seqs.len() > limits::DELETE_CALL_MAX {
            let most = limits::DELETE_CALL_MAX;
            return Err(CallError::Invalid(format!("{} seqs; 1 to {most} at a time", ask.seqs.len())));
        }
        let mut seqs = ask.seqs;
        seqs.sort_unstable();
        seqs.dedup();
        self.decide(|desk, _| of_member(&desk.state, id, user).map(drop)).await?;
        let mut marks = Vec::new();
        for seq in seqs {
            let found = self.span(Span { conversation: id, from: seq, to: seq }).await?;
            marks.extend(found.first().map(|m| (seq, m.sender != user && counts(m.kind))));
        }
        let applied = self
            .decide(|desk, now_ms| {
                desk.state.loaded(user)?;
                let conversation = of_member(&desk.state, id, user)?;
                let Some(member) = conversation.member(user) else { return Ok(None) };
                let marks: Vec<(u64, bool)> =
                    marks.iter().copied().filter(|(seq, _)| member.sees(*seq)).collect();
                if member.deleted.len() + marks.len() > limits::DELETED_MAX {
                    let why = "too many messages deleted one by one; delete all of them";
                    return Err(CallError::Refused(why.to_owned()).into());
                }
                if marks.is_empty() {
                    return Ok(None);
                }
                let fact = ChatFact::Deleted { user, conversation: id, marks };
                self.commit(desk, vec![Logged::Fact(fact)], now_ms)
            })
            .await?;
        self.applied(applied).await?;
        Ok(Done { conversation: id, seq: 0 })
    }

    pub(super) async fn recall(&self, user: u64, ask: Recall) -> Result<Done, CallError> {
        let id = ask.conversation;
        self.decide(|desk, _| of_member(&desk.state, id, user).map(drop)).await?;
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
                let conversation = of_member(&desk.state, id, user)?;
                if conversation.member(user).is_some_and(|m| m.quiet == ask.muted) {
                    return Ok(None);
                }
                let fact = ChatFact::Quiet { user, conversation: id, on: ask.muted };
                self.commit(desk, vec![Logged::Fact(fact)], now_ms)
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
