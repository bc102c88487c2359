//! Starting a node, and setting its loops going.

use super::arrivals::Arrivals;
use super::relay::Relays;
use super::routes::Routes;
use super::{OwnerNode, OwnerStores};
use crate::core::{Risk, Words, WordsError};
use crate::options::{ChatOptions, OptionsError};
use parking_lot::{Mutex, RwLock};
use protocol::calls::ChatPeers;
use runtime::{SharedClock, Shutdown, TaskKind, Tasks};
use std::sync::Arc;
use tokio::sync::watch;

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenOwnerError {
    /// Settings.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Sensitive words.
    #[error(transparent)]
    Words(#[from] WordsError),
}

impl OwnerNode {
    /// Starts a node. It begins an epoch as soon as the owners' book lets it (at once, or 3 s after the last call of a
    /// process that had this number before), and owns nothing before it has been given a member list
    /// ([`OwnerNode::follow`]). Its tasks belong to `tasks` and end with it; the epoch is ended then, so that others need not
    /// wait for its session to die. Whoever wants a hand-over first calls [`OwnerNode::drain`].
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn open(
        options: ChatOptions,
        stores: OwnerStores,
        peers: Arc<dyn ChatPeers>,
        risk: Box<dyn Risk>,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Result<Arc<OwnerNode>, OpenOwnerError> {
        options.check()?;
        let words = Words::default();
        words.set(&options.words)?;
        let (devices_max, node) = (2 * options.users_max.max(1_024), options.node);
        let relays = Relays::new(clock.now_ms());
        let node = Arc::new(OwnerNode {
            options,
            stores,
            peers,
            clock,
            words,
            risk,
            doors: RwLock::default(),
            pushing: Mutex::default(),
            reign: watch::Sender::new(None),
            ring: Mutex::default(),
            routes: RwLock::new(Arc::new(Routes::nowhere(node))),
            arrivals: Mutex::new(Arrivals::new(devices_max)),
            relays: Mutex::new(relays),
            keeping: Mutex::default(),
            drains: Shutdown::new(),
            is_empty: watch::Sender::new(true),
            wakes: super::Wakes::default(),
            loads: watch::Sender::new((0, false)),
            line_news: watch::Sender::new((0, false)),
            counters: super::Counters::default(),
        });
        node.set_going(tasks);
        Ok(node)
    }

    fn set_going(self: &Arc<Self>, tasks: &Tasks) {
        let stop = || tasks.shutdown().clone();
        let service = TaskKind::Service;
        tasks.spawn("chat-tenure", service, Arc::clone(self).run_tenure(stop()));
        tasks.spawn("chat-conversations", service, Arc::clone(self).run_conversations(stop()));
        tasks.spawn("chat-timelines", service, Arc::clone(self).run_lines(stop()));
        tasks.spawn("chat-loads", service, Arc::clone(self).run_loads(stop()));
        tasks.spawn("chat-ids", service, Arc::clone(self).run_ids(stop()));
        tasks.spawn("chat-relays", service, Arc::clone(self).run_relays(stop()));
        tasks.spawn("chat-common", service, Arc::clone(self).run_keeping(stop()));
    }
}
