//! A node that keeps to the settings.

use super::{LimitBook, NodeVendor, Setting};
use crate::book::BookError;
use crate::service::Delivery;
use campaign::VendorId;
use runtime::Shutdown;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often settings are read. Less than half of [`crate::pace::REDIVIDE_NS`], within which every node must have heard of
/// one that divides a vendor in the other way.
pub const POLL_MS: u64 = 250;
const _: () = assert!(POLL_MS * 2 * 1_000_000 < crate::pace::REDIVIDE_NS);

/// Looks between two reports of a node that nothing has changed for.
const REPORT_LOOKS: u32 = 4;

/// See the module.
pub struct Follower {
    book: Arc<dyn LimitBook>,
    node: u16,
    settings: BTreeMap<VendorId, Setting>,
}

impl Follower {
    /// Reads what stands. Delivery must not start before: it would send at the configured pace what somebody has stopped.
    ///
    /// # Errors
    /// When the settings can't be read.
    pub async fn open(book: Arc<dyn LimitBook>, node: u16) -> Result<Follower, BookError> {
        let settings = book.settings().await?.into_iter().map(|s| (s.vendor, s)).collect();
        Ok(Follower { book, node, settings })
    }

    /// The limits that stand in place of the configured ones, for [`crate::DeliveryParts`].
    pub fn limits(&self) -> BTreeMap<VendorId, u32> {
        self.settings.values().filter_map(|s| Some((s.vendor, s.per_second?))).collect()
    }

    /// Takes settings over, and says what this node does, until the end is asked for. While the database does not answer
    /// the last settings count.
    ///
    /// # Errors
    /// Never; failures are logged.
    pub async fn run(mut self, delivery: Delivery, shutdown: Shutdown) -> anyhow::Result<()> {
        let (mut reported, mut looks, mut is_away) = (Vec::new(), 0, false);
        while !shutdown.is_requested() {
            match self.look(&delivery, &mut reported, &mut looks).await {
                Ok(()) => is_away = false,
                Err(error) => {
                    if !is_away {
                        tracing::warn!(%error, "limits of vendors can't be read; the last ones count");
                    }
                    is_away = true;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
                () = shutdown.wait() => {}
            }
        }
        Ok(())
    }

    async fn look(
        &mut self,
        delivery: &Delivery,
        reported: &mut Vec<NodeVendor>,
        looks: &mut u32,
    ) -> Result<(), BookError> {
        for setting in self.book.settings().await? {
            let known = self.settings.get(&setting.vendor).map_or(0, |known| known.number);
            if setting.number <= known {
                continue;
            }
            let limit = setting.per_second.or_else(|| delivery.configured_limit(setting.vendor));
            if let Some(limit) = limit
                && delivery.set_limit(setting.vendor, limit)
            {
                tracing::info!(vendor = %setting.vendor, limit, who = setting.who, "limit of a vendor");
            }
            self.settings.insert(setting.vendor, setting);
        }
        let now = delivery.vendors(self.node);
        *looks += 1;
        if now != *reported || *looks >= REPORT_LOOKS {
            self.book.report(self.node, &now).await?;
            (*reported, *looks) = (now, 0);
        }
        Ok(())
    }
}
