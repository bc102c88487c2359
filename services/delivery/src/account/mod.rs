//! Which account a user has at a vendor.
//!
//! Delivery alone knows this. An account is given by the app when its user signs in at the vendor; a prize won before
//! that is held, and goes on its way when the account is there. A payout that has been tried keeps the account of its
//! first attempt, whatever is registered later.
//!
//! **Durability.** An account is on disk when `register` returns. **Versions** count from 1 for each (user, vendor) and rise
//! only when the account changes, so registering again is harmless.

mod memory;
mod pg;
mod sql;

pub use memory::MemoryAccounts;
pub use pg::PgAccounts;
pub use sql::SqlAccounts;

use crate::book::BookError;
use crate::config::{AccountMode, VendorConfig};
use crate::core::OrderRow;
use async_trait::async_trait;
use campaign::{UserId, VendorId};

/// Longest account, bytes; vendors take 64.
pub const ACCOUNT_MAX: usize = 64;

/// An account with its version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// The name that the vendor knows.
    pub account: String,
    /// How often it was changed, from 1.
    pub version: u64,
}

/// Why an account was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No account.
    #[error("an account has 1 to 64 bytes and no control characters")]
    Malformed,
    /// A vendor that nobody configured.
    #[error("vendor {0} is not configured")]
    UnknownVendor(VendorId),
    /// The book failed.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// See the module.
#[async_trait]
pub trait AccountBook: Send + Sync + 'static {
    /// The accounts of users at a vendor, in the order asked for; `None` where there is none. At most
    /// [`crate::book::BATCH_MAX`].
    async fn accounts(&self, vendor: VendorId, users: &[UserId]) -> Result<Vec<Option<Account>>, BookError>;

    /// Registers or changes an account. It has been checked with [`check`].
    async fn register(
        &self,
        user: UserId,
        vendor: VendorId,
        account: &str,
        now_ms: u64,
    ) -> Result<Account, BookError>;
}

/// Is this text an account?
///
/// # Errors
/// [`RegisterError::Malformed`].
pub fn check(account: &str) -> Result<(), RegisterError> {
    let fits = (1..=ACCOUNT_MAX).contains(&account.len()) && !account.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(RegisterError::Malformed) }
}

/// Finds out whom a payout goes to, in the way that the vendor's settings say.
pub(crate) struct AccountLookup<'a> {
    /// The book of accounts.
    pub accounts: &'a dyn AccountBook,
    /// The vendor.
    pub config: &'a VendorConfig,
}

impl AccountLookup<'_> {
    /// The payees of rows of this vendor, in order: the frozen one where there is one.
    pub async fn payees(&self, rows: &[OrderRow]) -> Result<Vec<Option<String>>, BookError> {
        let frozen = |row: &OrderRow| (!row.payee.is_empty()).then(|| row.payee.clone());
        if self.config.account == AccountMode::UserId {
            return Ok(rows.iter().map(|row| frozen(row).or_else(|| Some(row.user.to_string()))).collect());
        }
        let mut payees: Vec<Option<String>> = rows.iter().map(frozen).collect();
        let open: Vec<usize> = (0..rows.len()).filter(|at| payees[*at].is_none()).collect();
        if open.is_empty() {
            return Ok(payees);
        }
        let users: Vec<UserId> = open.iter().map(|at| rows[*at].user).collect();
        let accounts = self.accounts.accounts(self.config.vendor(), &users).await?;
        for (at, account) in open.into_iter().zip(accounts) {
            payees[at] = account.map(|account| account.account);
        }
        Ok(payees)
    }
}
