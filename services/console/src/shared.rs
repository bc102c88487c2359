//! What all requests share.

use crate::config::ConsoleConfig;
use crate::exports::AwardExport;
use crate::floods::Floods;
use crate::once::Flights;
use crate::operators::Operators;
use crate::problem::Problem;
use crate::rehearsals::Rehearsals;
use quota_config::Desk;
use runtime::{SharedClock, Tasks};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for its turn among the heavy ones.
const TURN: Duration = Duration::from_secs(20);

pub(crate) struct Shared {
    pub config: ConsoleConfig,
    pub desk: Arc<Desk>,
    pub operators: Arc<Operators>,
    pub awards: Arc<dyn AwardExport>,
    pub rehearsals: Option<Rehearsals>,
    pub clock: SharedClock,
    pub tasks: Tasks,
    pub floods: Floods,
    pub flights: Flights,
    heavy: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

/// The state of every route.
pub(crate) type Rooms = Arc<Shared>;

impl Shared {
    pub fn new(
        config: ConsoleConfig,
        deps: crate::ConsoleDeps,
        tasks: Tasks,
    ) -> Result<Shared, getrandom::Error> {
        let turns = |n: usize| Arc::new(Semaphore::new(n));
        let rehearsals = deps
            .rehearse
            .map(|rehearse| Rehearsals::new(rehearse, &config, tasks.clone(), Arc::clone(&deps.clock)));
        Ok(Shared {
            floods: Floods::new(&config),
            flights: Flights::new()?,
            heavy: turns(config.heavy_max),
            exports: turns(config.exports_max),
            changes: turns(config.changes_max),
            config,
            desk: deps.desk,
            operators: deps.operators,
            awards: deps.awards,
            rehearsals,
            clock: deps.clock,
            tasks,
        })
    }

    /// A turn for work that takes a processor and much memory. Brakes take none: they never wait for a preview.
    pub async fn heavy(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.heavy).acquire_owned()).await;
        let busy = || Problem::unavailable("too many requests that read files or compile plans at once");
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// A turn for an export; refused at once where all are taken, for each may take minutes.
    pub fn export(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.exports).try_acquire_owned().map_err(|_| {
            let most = self.config.exports_max;
            Problem::unavailable(format!(
                "{most} exports are under way already, which is as many as there may be"
            ))
            .again_after(10)
        })
    }

    /// A turn for a change.
    pub fn change(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.changes).try_acquire_owned().map_err(|_| {
            let most = self.config.changes_max;
            Problem::unavailable(format!(
                "{most} changes are under way already, which is as many as there may be"
            ))
        })
    }
}
