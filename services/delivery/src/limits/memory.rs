//! Settings in memory: for tests, and wherever one process has everything.

use super::{LimitBook, NodeVendor, Setting};
use crate::book::BookError;
use async_trait::async_trait;
use campaign::VendorId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module. Cloning gives another handle.
#[derive(Clone, Debug, Default)]
pub struct MemoryLimits(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    settings: BTreeMap<VendorId, Setting>,
    reports: BTreeMap<u16, Vec<NodeVendor>>,
}

#[async_trait]
impl LimitBook for MemoryLimits {
    async fn settings(&self) -> Result<Vec<Setting>, BookError> {
        Ok(self.0.lock().settings.values().cloned().collect())
    }

    async fn set(&self, setting: &Setting) -> Result<bool, BookError> {
        let mut state = self.0.lock();
        let stands = state.settings.get(&setting.vendor).map_or(0, |stands| stands.number);
        if setting.number <= stands {
            return Ok(false);
        }
        state.settings.insert(setting.vendor, setting.clone());
        Ok(true)
    }

    async fn report(&self, node: u16, vendors: &[NodeVendor]) -> Result<(), BookError> {
        self.0.lock().reports.insert(node, vendors.to_vec());
        Ok(())
    }

    async fn reports(&self) -> Result<Vec<NodeVendor>, BookError> {
        Ok(self.0.lock().reports.values().flatten().cloned().collect())
    }
}
