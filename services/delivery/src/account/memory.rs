//! Accounts in memory.

use super::{Account, AccountBook};
use crate::book::BookError;
use async_trait::async_trait;
use campaign::{UserId, VendorId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// For the simulation and for tests. Cloning gives another handle.
#[derive(Clone, Default)]
pub struct MemoryAccounts {
    accounts: Arc<Mutex<HashMap<(UserId, VendorId), Account>>>,
}

#[async_trait]
impl AccountBook for MemoryAccounts {
    async fn accounts(&self, vendor: VendorId, users: &[UserId]) -> Result<Vec<Option<Account>>, BookError> {
        let accounts = self.accounts.lock();
        Ok(users.iter().map(|user| accounts.get(&(*user, vendor)).cloned()).collect())
    }

    async fn register(
        &self,
        user: UserId,
        vendor: VendorId,
        account: &str,
        _now_ms: u64,
    ) -> Result<Account, BookError> {
        let mut accounts = self.accounts.lock();
        let known = accounts
            .entry((user, vendor))
            .or_insert_with(|| Account { account: account.to_owned(), version: 1 });
        if known.account != account {
            *known = Account { account: account.to_owned(), version: known.version + 1 };
        }
        Ok(known.clone())
    }
}
