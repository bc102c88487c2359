//! Accounts in SQLite, in the table `delivery_account` beside the book.

use super::{Account, AccountBook};
use crate::book::{BATCH_MAX, BookError, MIGRATIONS, SERVICE};
use async_trait::async_trait;
use campaign::{UserId, VendorId};
use storage::batch::{signed, unsigned};
use storage::sqlx::{self, Row};
use storage::{Batch, MigrationError, Sql, SqlError};

/// See the module. Cloning gives another handle to the same database.
#[derive(Clone, Debug)]
pub struct SqlAccounts {
    sql: Sql,
}

impl SqlAccounts {
    /// Brings the tables up to date and opens them.
    ///
    /// # Errors
    /// When the database was written by a newer program, or can't be written.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlAccounts, MigrationError> {
        storage::migrate(&sql, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(SqlAccounts { sql })
    }
}

const REGISTER: &str = "INSERT INTO delivery_account (user_id, vendor, account, version, since_ms) \
     VALUES ($1, $2, $3, 1, $4) ON CONFLICT (user_id, vendor) DO UPDATE SET \
     version = version + (account <> excluded.account), \
     since_ms = CASE WHEN account <> excluded.account THEN excluded.since_ms ELSE since_ms END, \
     account = excluded.account RETURNING version";

#[async_trait]
impl AccountBook for SqlAccounts {
    async fn accounts(&self, vendor: VendorId, users: &[UserId]) -> Result<Vec<Option<Account>>, BookError> {
        let mut keys = Batch::new(BATCH_MAX, usize::MAX);
        for user in users {
            keys.row(|row| {
                row.int(signed(user.0));
            })?;
        }
        let text = "SELECT key, account, version FROM json_each($1) CROSS JOIN delivery_account \
                    ON user_id = value->>0 AND vendor = $2";
        let query = sqlx::query(text).bind(keys.to_json()).bind(i64::from(vendor.0));
        let rows = self.sql.within("reading accounts", query.fetch_all(self.sql.readers())).await?;
        let mut found = vec![None; users.len()];
        for row in rows {
            let at: i64 = row.try_get(0).map_err(SqlError::from)?;
            let version: i64 = row.try_get(2).map_err(SqlError::from)?;
            let account =
                Account { account: row.try_get(1).map_err(SqlError::from)?, version: unsigned(version) };
            if let Some(place) = usize::try_from(at).ok().and_then(|at| found.get_mut(at)) {
                *place = Some(account);
            }
        }
        Ok(found)
    }

    async fn register(
        &self,
        user: UserId,
        vendor: VendorId,
        account: &str,
        now_ms: u64,
    ) -> Result<Account, BookError> {
        let registering = async {
            let mut write = self.sql.write().await?;
            let version: i64 = sqlx::query_scalar(REGISTER)
                .bind(signed(user.0))
                .bind(i64::from(vendor.0))
                .bind(account)
                .bind(signed(now_ms))
                .fetch_one(&mut *write)
                .await?;
            write.commit().await?;
            Ok::<i64, SqlError>(version)
        };
        let version = self.sql.within("registering an account", registering).await?;
        Ok(Account { account: account.to_owned(), version: unsigned(version) })
    }
}
