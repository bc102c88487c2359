//! Accounts in PostgreSQL, in the table `delivery_account` beside the book, keyed by bucket of user.

use super::{Account, AccountBook};
use crate::book::{BookError, SERVICE, pg::MIGRATIONS};
use async_trait::async_trait;
use campaign::{UserId, VendorId};
use hashring::bucket_of;
use std::collections::HashMap;
use storage::batch::{signed, unsigned};
use storage::pg::{Pg, migrate};
use storage::sqlx::{self, Row};
use storage::{MigrationError, SqlError};

/// See the module. Cloning gives another handle to the same database.
#[derive(Clone, Debug)]
pub struct PgAccounts {
    pg: Pg,
}

impl PgAccounts {
    /// Brings the tables up to date and opens them.
    ///
    /// # Errors
    /// When the database was written by a newer program, or can't be written.
    pub async fn open(pg: Pg, now_ms: u64) -> Result<PgAccounts, MigrationError> {
        migrate(&pg, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(PgAccounts { pg })
    }
}

const REGISTER: &str = "INSERT INTO delivery_account (bucket, user_id, vendor, account, version, since_ms) \
     VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT (bucket, user_id, vendor) DO UPDATE SET \
     version = delivery_account.version + CASE WHEN delivery_account.account <> excluded.account THEN 1 ELSE 0 END, \
     since_ms = CASE WHEN delivery_account.account <> excluded.account THEN excluded.since_ms \
         ELSE delivery_account.since_ms END, \
     account = excluded.account RETURNING version";

fn bucket(user: UserId) -> i64 {
    i64::from(bucket_of(user.0).get())
}

#[async_trait]
impl AccountBook for PgAccounts {
    async fn accounts(&self, vendor: VendorId, users: &[UserId]) -> Result<Vec<Option<Account>>, BookError> {
        let mut keys = users.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let text = "SELECT a.user_id, a.account, a.version FROM UNNEST($1::bigint[], $2::bigint[]) AS q(bucket, user_id) \
                    JOIN delivery_account a ON a.bucket = q.bucket AND a.user_id = q.user_id AND a.vendor = $3";
        let query = sqlx::query(text)
            .bind(keys.iter().map(|user| bucket(*user)).collect::<Vec<i64>>())
            .bind(keys.iter().map(|user| signed(user.0)).collect::<Vec<i64>>())
            .bind(i64::from(vendor.0));
        let asking = async {
            let mut connection = self.pg.connection().await?;
            query.fetch_all(&mut *connection).await.map_err(SqlError::from)
        };
        let rows = self.pg.within("reading accounts", asking).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let user: i64 = row.try_get(0).map_err(SqlError::from)?;
            let version: i64 = row.try_get(2).map_err(SqlError::from)?;
            let account = row.try_get(1).map_err(SqlError::from)?;
            found.insert(UserId(unsigned(user)), Account { account, version: unsigned(version) });
        }
        Ok(users.iter().map(|user| found.get(user).cloned()).collect())
    }

    async fn register(
        &self,
        user: UserId,
        vendor: VendorId,
        account: &str,
        now_ms: u64,
    ) -> Result<Account, BookError> {
        let query = sqlx::query_scalar::<_, i64>(REGISTER)
            .bind(bucket(user))
            .bind(signed(user.0))
            .bind(i64::from(vendor.0))
            .bind(account)
            .bind(signed(now_ms));
        // One statement, its own transaction: when the answer is lost it may have been done, and doing it again is harmless.
        let registering = async {
            let mut connection = self.pg.connection().await?;
            query.fetch_one(&mut *connection).await.map_err(SqlError::from)
        };
        let version = self.pg.within("registering an account", registering).await?;
        Ok(Account { account: account.to_owned(), version: unsigned(version) })
    }
}
