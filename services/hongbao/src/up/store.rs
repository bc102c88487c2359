//! The databases of the embedded platform, one file for each service.

use anyhow::Context as _;
use delivery::account::SqlAccounts;
use delivery::book::SqlBook;
use delivery::{AccountBook, DeliveryBook};
use flow::store::AwardStore;
use flow::store::sql::SqlAwardStore;
use lottery::ledger::{QuotaLedger, SqlLedger};
use quota_config::SqlRepository;
use runtime::SharedClock;
use std::path::Path;
use std::sync::Arc;
use storage::{Sql, SqlOptions};

/// Everything that is kept in SQL.
pub struct Stores {
    /// Quota ledger: `ledger.db`.
    pub ledger: Arc<dyn QuotaLedger>,
    /// Plans with their history: `plans.db`.
    pub plans: SqlRepository,
    /// Awards: `flow.db`.
    pub awards: Arc<dyn AwardStore>,
    /// Orders and journal: `delivery.db`.
    pub book: Arc<dyn DeliveryBook>,
    /// Accounts: `delivery.db` too.
    pub accounts: Arc<dyn AccountBook>,
}

impl Stores {
    /// Opens the databases; makes and migrates what is missing.
    pub async fn open(data: &Path, clock: &SharedClock) -> anyhow::Result<Stores> {
        let now = clock.now_ms();
        let open = async |name: &str| {
            let path = data.join(name);
            Sql::open(&path, SqlOptions::default())
                .await
                .with_context(|| format!("opening {}", path.display()))
        };
        let delivery = open("delivery.db").await?;
        Ok(Stores {
            ledger: Arc::new(SqlLedger::open(open("ledger.db").await?, clock.clone()).await?),
            plans: SqlRepository::open(open("plans.db").await?, now).await?,
            awards: Arc::new(SqlAwardStore::open(open("flow.db").await?, now).await?),
            book: Arc::new(SqlBook::open(delivery.clone(), now).await?),
            accounts: Arc::new(SqlAccounts::open(delivery, now).await?),
        })
    }
}
