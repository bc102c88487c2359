//! Messages of official accounts.

use super::OwnerNode;
use super::reply::{Denied, commit};
use crate::ChatOptions;
use crate::accounts::Notifies;
use crate::core::{Key, Logged};
use crate::node::Notice;
use async_trait::async_trait;
use futures_util::future::try_join_all;
use protocol::calls::CallError;
use protocol::peers as v1;
use records::ChatFact;
use std::collections::BTreeMap;

/// Notices that are put at a time.
const AT_A_TIME: usize = 256;

#[async_trait]
impl Notifies for OwnerNode {
    fn options(&self) -> &ChatOptions {
        OwnerNode::options(self)
    }

    async fn notify(&self, notices: &[Notice]) -> Result<(), CallError> {
        OwnerNode::notify(self, notices).await
    }
}

impl OwnerNode {
    /// Sends notices; returns when all of them are durable. They reach their users as every message does. One that was sent
    /// before is not sent again.
    ///
    /// # Errors
    /// When one can't be stored just now; all of them again is safe.
    pub async fn notify(&self, notices: &[Notice]) -> Result<(), CallError> {
        for some in notices.chunks(AT_A_TIME) {
            let pair = |n: &Notice| Key::Pair(n.account.min(n.user), n.account.max(n.user));
            self.expect(some.iter().flat_map(|n| [Key::User(n.user), pair(n)]));
            // What is for one user keeps its order.
            let mut by_user: BTreeMap<u64, Vec<&Notice>> = BTreeMap::new();
            some.iter().for_each(|notice| by_user.entry(notice.user).or_default().push(notice));
            let in_order = by_user.into_values().map(|notices| async move {
                for notice in notices {
                    self.notice(notice).await?;
                }
                Ok::<(), CallError>(())
            });
            try_join_all(in_order).await?;
        }
        Ok(())
    }

    async fn notice(&self, notice: &Notice) -> Result<(), CallError> {
        let Notice { account, mark, user, body } = notice;
        let language = self.decide(|on, _| Ok(on.state.loaded(*user)?.person.language.clone())).await?;
        let body = body(&language);
        match self.put_notice((*account, *mark), *user, &body).await {
            Ok(()) => self.fresh_reign().map(drop),
            Err(Denied::Elsewhere(conversation)) => {
                let notice = v1::Notice { account: *account, mark: *mark, user: *user, body };
                self.ask_owner(conversation, v1::relay::What::Notice(notice)).await.map(drop)
            }
            Err(Denied::No(error)) => Err(error),
        }
    }

    /// Puts a notice into the conversation of an account and a user, if that is this node's.
    pub(super) async fn put_notice(&self, from: (u64, u64), user: u64, body: &[u8]) -> Result<(), Denied> {
        self.write(|on, now_ms| {
            let records = on.state.decide_official(from, user, &|_| body.to_vec(), now_ms)?;
            let known = on.state.pair(from.0, user)?;
            let id = match records.first() {
                // A new one, or the one that is known.
                Some(Logged::Fact(ChatFact::PairMade { conversation, .. })) => *conversation,
                Some(Logged::Message(message)) => message.conversation,
                _ => known.unwrap_or(0),
            };
            Ok(((), commit(on, id, records, now_ms)?))
        })
        .await
    }
}
