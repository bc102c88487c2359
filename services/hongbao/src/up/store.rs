//! The databases of the embedded platform, one file for each service.

use anyhow::Context as _;
use delivery::account::SqlAccounts;
use delivery::book::SqlBook;
use delivery::{AccountBook, DeliveryBook};
use flow::store::AwardStore;
use flow::store::sql::SqlAwardStore;
use lottery::ledger::{QuotaLedger, SqlLedger};
use quota_config::SqlRepository;
use runtime::{Priority, SharedClock};
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
    /// Opens the databases; makes and migrates what is missing. Those behind the answers let others go first, by
    /// `nice_behind`; the ledger does not, because sessions wait for it.
    pub async fn open(data: &Path, nice_behind: u8, clock: &SharedClock) -> anyhow::Result<Stores> {
        let (now, behind) = (clock.now_ms(), Priority::Nice(nice_behind));
        let open_at = async |name: &str, priority: Priority| {
            let path = data.join(name);
            Sql::open(
                &path,
                SqlOptions { writer_priority: priority, reader_priority: priority, ..SqlOptions::default() },
            )
            .await
            .with_context(|| format!("opening {}", path.display()))
        };
        let open = async |name: &str| open_at(name, Priority::Normal).await;
        let delivery = open_at("delivery.db", behind).await?;
        Ok(Stores {
            ledger: Arc::new(SqlLedger::open(open("ledger.db").await?, clock.clone()).await?),
            plans: SqlRepository::open(open("plans.db").await?, now).await?,
            awards: Arc::new(SqlAwardStore::open(open_at("flow.db", behind).await?, now).await?),
            book: Arc::new(SqlBook::open(delivery.clone(), now).await?),
            accounts: Arc::new(SqlAccounts::open(delivery, now).await?),
        })
    }
}
