//! Sending for official accounts.

use super::ChatNode;
use super::ask::Applied;
use crate::ChatOptions;
use crate::accounts::Notifies;
use crate::core::Key;
use async_trait::async_trait;
use flowlog::Disk;
use protocol::calls::CallError;

/// A message of an account to a user.
pub struct Notice {
    /// The account.
    pub account: u64,
    /// The account's mark of it: the same again is the same message. Not 0.
    pub mark: u64,
    /// Who gets it.
    pub user: u64,
    /// Its body in a language (BCP 47, or empty: the default).
    pub body: NoticeBody,
}

/// Makes a body for a language.
pub type NoticeBody = Box<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

#[async_trait]
impl<D: Disk> Notifies for ChatNode<D> {
    fn options(&self) -> &ChatOptions {
        ChatNode::options(self)
    }

    async fn notify(&self, notices: &[Notice]) -> Result<(), CallError> {
        ChatNode::notify(self, notices).await
    }
}

impl<D: Disk> ChatNode<D> {
    /// Sends notices; returns when all of them are durable and in their users' timelines. One that was sent before is
    /// not sent again.
    ///
    /// # Errors
    /// When one can't be stored just now; all of them again is safe.
    pub async fn notify(&self, notices: &[Notice]) -> Result<(), CallError> {
        let pair = |n: &Notice| Key::Pair(n.account.min(n.user), n.account.max(n.user));
        self.expect(notices.iter().flat_map(|n| [Key::User(n.user), pair(n)]));
        let mut waits: Vec<Applied> = Vec::with_capacity(notices.len());
        for notice in notices {
            let from = (notice.account, notice.mark);
            let sent = self
                .decide(|desk, now_ms| {
                    let records = desk.state.decide_official(from, notice.user, &notice.body, now_ms)?;
                    self.commit(desk, records, now_ms)
                })
                .await?;
            waits.push(sent);
        }
        for wait in waits {
            self.applied(wait).await?;
        }
        // What was found to be sent before may be so only just now: that is durable when what is written now is.
        self.settled().await
    }

    /// Returns when everything that is written now is durable. An error when the node is ending: what it has not
    /// made durable then is lost, and may have been taken for sent.
    async fn settled(&self) -> Result<(), CallError> {
        let last = {
            let desk = self.desk.lock();
            if desk.stopped {
                return Err(super::ask::unavailable());
            }
            desk.pending.back().map(|p| flowlog::Position(p.position))
        };
        match last {
            Some(position) => self.log.wait_durable(position).await.map_err(|_| super::ask::unavailable()),
            None => Ok(()),
        }
    }
}
