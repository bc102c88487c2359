//! Requests: which answer belongs to which, and who has it.
//!
//! The module text of [`cluster`](crate::cluster) has the table of who serves what.

use super::OwnerNode;
use super::reply::{Denied, commit, unavailable};
use crate::core::{Key, Wish};
use protocol::calls::{CallError, DeviceAt};
use protocol::peers as peer;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatRequest, Done};
use records::FriendStep;

impl OwnerNode {
    /// Answers a request. `may_pass`: it came from a front door, and what another node has to decide may be passed on to it.
    pub(super) async fn answer_to(
        &self,
        who: DeviceAt,
        ask: Ask,
        may_pass: bool,
    ) -> Result<Answer, CallError> {
        // Who has lost touch may have been replaced, and what he reads be old.
        self.fresh_reign()?;
        let answer = self.serve_one(who, ask, may_pass).await?;
        self.fresh_reign()?;
        Ok(answer)
    }

    async fn serve_one(&self, who: DeviceAt, ask: Ask, may_pass: bool) -> Result<Answer, CallError> {
        let user = who.user;
        Ok(match ask {
            Ask::Sync(ask) => Answer::Sync(self.sync(user, ask).await?),
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
            Ask::Befriend(ref befriend) => {
                let step = self.friend(user, befriend.user, FriendStep::Ask).await;
                self.or_pass_on(who, &ask, step, may_pass).await?
            }
            Ask::Unfriend(ref unfriend) => {
                let step = if unfriend.block { FriendStep::Block } else { FriendStep::End };
                let step = self.friend(user, unfriend.user, step).await;
                self.or_pass_on(who, &ask, step, may_pass).await?
            }
            Ask::Friends(ask) => Answer::Friends(self.friends(user, ask).await?),
            Ask::Presence(ask) => Answer::Presence(self.presence(who, ask).await?),
            Ask::SetProfile(ask) => {
                self.set_own(user, |lines, now_ms| {
                    lines.core.set_profile(user, &ask.name, &ask.language, now_ms)
                })
                .await?;
                Answer::Done(Done::default())
            }
            Ask::Profiles(ask) => Answer::Profiles(self.profiles(user, ask).await?),
            Ask::Devices(_) => Answer::Devices(self.devices(user).await?),
            Ask::ForgetDevice(ask) => {
                self.set_own(user, |lines, now_ms| lines.core.forget_device(user, ask.device, now_ms))
                    .await?;
                Answer::Done(Done::default())
            }
        })
    }

    async fn change(&self, user: u64, conversation: u64, wish: Wish) -> Result<Answer, CallError> {
        let seq = self
            .write(|on, now_ms| {
                let records = on.decide_change(conversation, user, &wish, now_ms)?;
                let seq = super::write::first_seq(&records);
                Ok((seq, commit(on, conversation, records, now_ms)?))
            })
            .await?;
        Ok(Answer::Done(Done { conversation, seq }))
    }

    /// What came of a step between two users here, or at the owner of their conversation.
    async fn or_pass_on(
        &self,
        who: DeviceAt,
        ask: &Ask,
        here: Result<Done, Denied>,
        may_pass: bool,
    ) -> Result<Answer, CallError> {
        let conversation = match here {
            Ok(done) => return Ok(Answer::Done(done)),
            Err(Denied::Elsewhere(id)) if may_pass => id,
            Err(denied) => return Err(denied.into()),
        };
        let request = ChatRequest { user: who.user, device: who.device, ask: Some(ask.clone()) };
        match self.ask_owner(conversation, peer::relay::What::Ask(request)).await? {
            peer::relayed::What::Answer(answer) => answer.answer.ok_or_else(unavailable),
            _ => Err(unavailable()),
        }
    }
}
