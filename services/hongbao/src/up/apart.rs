//! Calls that may wait for a database run apart from the front door's threads: a connection's core goes on with
//! other connections meanwhile.

use async_trait::async_trait;
use campaign::{AwardId, UserId, VendorId};
use delivery::Delivery;
use delivery::account::RegisterError;
use flow::service::handle::FlowHandle;
use protocol::calls::{Accounts, AwardView, Awards, CallError};
use tokio::runtime::Handle;

/// Flow, called on the platform's own threads.
pub struct AwardsApart {
    flow: FlowHandle,
    on: Handle,
}

impl AwardsApart {
    /// Flow on these threads.
    pub fn new(flow: FlowHandle, on: Handle) -> AwardsApart {
        AwardsApart { flow, on }
    }
}

async fn apart<T: Send + 'static>(
    on: &Handle,
    work: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    on.spawn(work).await.unwrap_or_else(|_| Err(CallError::Unavailable("the platform is stopping".into())))
}

#[async_trait]
impl Awards for AwardsApart {
    async fn prizes(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<(Vec<AwardView>, bool), CallError> {
        let flow = self.flow.clone();
        apart(&self.on, async move { flow.prizes(user, after, limit).await }).await
    }

    async fn claim(&self, user: UserId, award: AwardId) -> Result<AwardView, CallError> {
        let flow = self.flow.clone();
        apart(&self.on, async move { flow.claim(user, award).await }).await
    }
}

/// Delivery's accounts, called on the platform's own threads.
pub struct AccountsApart {
    delivery: Delivery,
    on: Handle,
}

impl AccountsApart {
    /// Delivery on these threads.
    pub fn new(delivery: Delivery, on: Handle) -> AccountsApart {
        AccountsApart { delivery, on }
    }
}

#[async_trait]
impl Accounts for AccountsApart {
    async fn set_account(&self, user: UserId, vendor: VendorId, account: &str) -> Result<u64, CallError> {
        let (delivery, account) = (self.delivery.clone(), account.to_owned());
        apart(&self.on, async move {
            match delivery.register_account(user, vendor, &account).await {
                Ok(account) => Ok(account.version),
                Err(e @ RegisterError::Malformed) => Err(CallError::Invalid(e.to_string())),
                Err(e @ RegisterError::UnknownVendor(_)) => Err(CallError::NotFound(e.to_string())),
                Err(e @ RegisterError::Book(_)) => Err(CallError::Unavailable(e.to_string())),
            }
        })
        .await
    }
}
