//! The admin API: HTTP around the desk where people change campaigns.
//!
//! The desk of `quota-config` does the work; in here is who asks (operators and their tokens), how often, in which
//! shape, and how every refusal reads. It is made for a handful of people and scripts, not for players.
//!
//! **When it refuses.** Always with a problem document (RFC 9457) that says what is wrong and what would be right: an
//! unknown token, a role that does not suffice, a body too long or of the wrong kind, whatever the desk refuses.
//! Files, previews and exports take turns, so that none of them takes the machine; pauses, stops and lowerings take
//! none.
//!
//! **How it recovers.** A change runs to its end even if its caller goes away, and is made once under one
//! `Idempotency-Key`, also if this program ends between the change and its answer.
//!
//! `docs/admin-api.md` describes the API, `docs/openapi.json` its shapes.
#![allow(clippy::result_large_err)] // a refusal is made once a request, never in a loop

mod config;
mod exports;
mod extract;
mod floods;
mod guard;
mod once;
mod openapi;
mod operators;
mod problem;
mod rehearsals;
mod routes;
mod schema;
mod serve;
mod shared;
mod view;

pub use config::{ConfigRange, ConsoleConfig};
pub use exports::{AwardError, AwardExport};
pub use openapi::document;
pub use operators::{Operators, OperatorsError, TOKEN_PREFIX};
pub use rehearsals::{
    Arrival, Progress, RehearsalRequest, RehearsalState, RehearsalStatus, Rehearse, RehearseError, Report,
};

use axum::{Router, middleware};
use quota_config::Desk;
use runtime::{SharedClock, Tasks};
use shared::Shared;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What the admin API works with.
pub struct ConsoleDeps {
    /// Where changes are made.
    pub desk: Arc<Desk>,
    /// Who may.
    pub operators: Arc<Operators>,
    /// Awards, for lists.
    pub awards: Arc<dyn AwardExport>,
    /// Rehearsals; without it their routes answer 404.
    pub rehearse: Option<Arc<dyn Rehearse>>,
    /// Time.
    pub clock: SharedClock,
}

/// Why there is no admin API.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// A setting is outside of its range.
    #[error(transparent)]
    Config(#[from] ConfigRange),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// The admin API.
pub struct Console {
    shared: Arc<Shared>,
}

impl Console {
    /// An admin API over a desk. Changes and rehearsals run as tasks of `tasks`, so that draining it waits for them.
    ///
    /// # Errors
    /// When a setting is outside of its range, or the system gives no random numbers.
    pub fn new(config: ConsoleConfig, deps: ConsoleDeps, tasks: &Tasks) -> Result<Console, ConsoleError> {
        config.check()?;
        let shared = Shared::new(config, deps, tasks.clone());
        let shared = shared.map_err(|error| ConsoleError::Random(error.to_string()))?;
        Ok(Console { shared: Arc::new(shared) })
    }

    /// All routes, behind the guard that asks for tokens. Where requests carry no address (another server than
    /// [`Console::serve`]), all strangers share one rate.
    pub fn router(&self) -> Router {
        let (router, _) = routes::all().split_for_parts();
        let router =
            router.fallback(|| async { http::StatusCode::NOT_FOUND }).with_state(Arc::clone(&self.shared));
        // Around the whole router, and not around each route: a router names the methods it knows last of all.
        Router::new()
            .fallback_service(router)
            .layer(middleware::from_fn_with_state(Arc::clone(&self.shared), guard::guard))
    }

    /// Listens where the configuration says; `None`: it says nowhere.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub async fn bind(&self) -> io::Result<Option<TcpListener>> {
        match self.shared.config.http {
            Some(address) => TcpListener::bind(address).await.map(Some),
            None => Ok(None),
        }
    }

    /// Serves until the shutdown of the tasks that it was made with is requested; then requests under way have 10
    /// seconds.
    ///
    /// # Errors
    /// Never, but for a mistake of this program.
    pub async fn serve(&self, listener: TcpListener) -> anyhow::Result<()> {
        serve::serve(listener, self.router(), &self.shared.config, self.shared.tasks.shutdown()).await
    }
}
