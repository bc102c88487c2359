//! Requests: which answer belongs to which, and how they wait for what they need.

use super::ChatNode;
use super::desk::{Desk, Then};
use crate::core::{Key, Logged, Stop, Wish};
use flowlog::{AppendError, Class, Disk};
use protocol::calls::{CallError, DeviceAt};
use protocol::v1::Done;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use records::FriendStep;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a request waits for the store or for a change under way.
const WAIT: Duration = Duration::from_secs(10);
/// Rounds of waiting: others' loads wake it too.
const ROUNDS_MAX: usize = 100_000;

pub(super) fn unavailable() -> CallError {
    CallError::Unavailable("chat's store does not answer just now; ask again".to_owned())
}

/// A change is under way: it is known when its message is durable.
pub(super) type Applied = Option<oneshot::Receiver<()>>;

impl<D: Disk> ChatNode<D> {
    /// Decides under the lock, as often as it takes until everything needed is in memory.
    pub(super) async fn decide<T>(
        &self,
        mut decide: impl FnMut(&mut Desk, u64) -> Result<T, Stop>,
    ) -> Result<T, CallError> {
        for _ in 0..ROUNDS_MAX {
            let mut loads = self.loads.subscribe();
            {
                let now_ms = self.clock.now_ms();
                let mut desk = self.desk.lock();
                match decide(&mut desk, now_ms) {
                    Ok(decided) => return Ok(decided),
                    Err(Stop::No(error)) => return Err(error),
                    Err(Stop::Need(_)) if desk.stopped => return Err(unavailable()),
                    Err(Stop::Need(key)) => desk.want(key),
                }
            }
            self.wanted.notify_one();
            let changed = tokio::time::timeout(WAIT, loads.changed()).await;
            let failed = loads.borrow().1;
            if !matches!(changed, Ok(Ok(()))) || failed {
                return Err(unavailable());
            }
        }
        Err(unavailable())
    }

    /// Asks for many keys at once, so that a decision need not ask for one after the other.
    pub(super) fn expect(&self, keys: impl Iterator<Item = Key>) {
        let mut desk = self.desk.lock();
        for key in keys {
            let there = match key {
                Key::User(user) => desk.state.loaded(user).is_ok(),
                Key::Conversation(id) => desk.state.settled(id).is_ok(),
                Key::Pair(low, high) => desk.state.pair(low, high).is_ok(),
                Key::Sent(_) | Key::Settled(_) | Key::Elsewhere(_) => true,
            };
            if !there {
                desk.want(key);
            }
        }
        if !desk.wanted.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// Writes what was decided, if anything.
    pub(super) fn commit(&self, desk: &mut Desk, records: Vec<Logged>, now_ms: u64) -> Result<Applied, Stop> {
        if records.is_empty() {
            return Ok(None);
        }
        if desk.stopped {
            return Err(unavailable().into());
        }
        let (told, wait) = oneshot::channel();
        match self.write(desk, records, Then::Waiter(told), Class::Normal, now_ms) {
            Ok(()) => Ok(Some(wait)),
            Err(AppendError::Busy) => Err(CallError::Busy(100).into()),
            Err(AppendError::Full { .. }) => Err(CallError::Unavailable(
                "the disk is full; nothing can be changed until there is room".to_owned(),
            )
            .into()),
            Err(AppendError::TooLarge { len, max }) => {
                Err(CallError::Invalid(format!("{len} bytes of changes, at most {max}")).into())
            }
            Err(_) => Err(unavailable().into()),
        }
    }

    /// Waits until what was written is durable and applied.
    pub(super) async fn applied(&self, applied: Applied) -> Result<(), CallError> {
        match applied {
            None => Ok(()),
            Some(wait) => wait.await.map_err(|_| unavailable()),
        }
    }

    pub(super) async fn answer_to(&self, who: DeviceAt, ask: Ask) -> Result<Answer, CallError> {
        let user = who.user;
        Ok(match ask {
            Ask::Sync(ask) => Answer::Sync(self.sync(who, ask).await?),
            Ask::Range(ask) => Answer::Range(self.range(user, ask).await?),
            Ask::Conversations(ask) => Answer::Conversations(self.conversations(user, ask).await?),
            Ask::MarkRead(ask) => Answer::ReadAt(self.mark_read(user, ask).await?),
            Ask::Recall(ask) => Answer::Done(self.recall(user, ask).await?),
            Ask::Delete(ask) => Answer::Done(self.delete(user, ask).await?),
            Ask::SetNotice(ask) => Answer::Done(self.set_notice(user, ask).await?),
            Ask::MakeGroup(ask) => Answer::Done(self.make_group(who, ask).await?),
            Ask::AddMembers(ask) => {
                self.expect(ask.users.iter().take(256).map(|u| Key::User(*u)));
                self.change(user, ask.conversation, Wish::Add(ask.users)).await?
            }
            Ask::RemoveMembers(ask) => self.change(user, ask.conversation, Wish::Remove(ask.users)).await?,
            Ask::SetRole(ask) => self.change(user, ask.conversation, Wish::Role(ask.user, ask.role)).await?,
            Ask::Mute(ask) => self.change(user, ask.conversation, Wish::Mute(ask.user, ask.muted)).await?,
            Ask::Rename(ask) => self.change(user, ask.conversation, Wish::Name(ask.name)).await?,
            Ask::Dissolve(ask) => self.change(user, ask.conversation, Wish::Dissolve).await?,
            Ask::Members(ask) => Answer::Members(self.members(user, ask).await?),
            Ask::Befriend(ask) => Answer::Done(self.friend(user, ask.user, FriendStep::Ask).await?),
            Ask::Unfriend(ask) => {
                let step = if ask.block { FriendStep::Block } else { FriendStep::End };
                Answer::Done(self.friend(user, ask.user, step).await?)
            }
            Ask::Friends(ask) => Answer::Friends(self.friends(user, ask).await?),
            Ask::Presence(ask) => Answer::Presence(self.presence(who, ask).await?),
            Ask::SetProfile(ask) => {
                let applied = self
                    .decide(|desk, now_ms| {
                        let records = desk.state.decide_profile(user, &ask.name, &ask.language)?;
                        self.commit(desk, records, now_ms)
                    })
                    .await?;
                self.applied(applied).await?;
                Answer::Done(Done::default())
            }
            Ask::Profiles(ask) => Answer::Profiles(self.profiles(user, ask).await?),
            Ask::Devices(_) => Answer::Devices(self.devices(user).await?),
            Ask::ForgetDevice(ask) => {
                let applied = self
                    .decide(|desk, now_ms| {
                        let records = desk.state.decide_forget(user, ask.device)?;
                        self.commit(desk, records, now_ms)
                    })
                    .await?;
                self.applied(applied).await?;
                Answer::Done(Done::default())
            }
        })
    }

    async fn change(&self, user: u64, conversation: u64, wish: Wish) -> Result<Answer, CallError> {
        let (seq, applied) = self
            .decide(|desk, now_ms| {
                let records = desk.state.decide_change(conversation, user, &wish, now_ms)?;
                let seq = last_seq(&records);
                Ok((seq, self.commit(desk, records, now_ms)?))
            })
            .await?;
        self.applied(applied).await?;
        Ok(Answer::Done(Done { conversation, seq }))
    }
}

/// The seq of the first message among the records.
pub(super) fn last_seq(records: &[Logged]) -> u64 {
    records
        .iter()
        .find_map(|logged| match logged {
            Logged::Message(message) => Some(message.seq),
            Logged::Fact(_) => None,
        })
        .unwrap_or(0)
}
