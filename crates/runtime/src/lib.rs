//! What every process of the platform needs before it can do its own work: a clock that is handed in, tasks
//! that have a name and an end, one way to shut down, layered configuration that names the line of a mistake,
//! and telemetry.
//!
//! Nothing in here knows about campaigns. Libraries take a [`Clock`], a [`Shutdown`] or a [`Tasks`] as an
//! argument; only the binary builds them, so a test can hand in its own.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod exit;
pub mod metrics;
pub mod sched;
pub mod shutdown;
pub mod spare;
pub mod tasks;
pub mod telemetry;

pub use backoff::{Backoff, BackoffPolicy};
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use config::{ConfigError, Layers, OneTable};
pub use metrics::{CoreCounter, Counter, Gauge, Histogram, Metrics};
pub use sched::Priority;
pub use shutdown::Shutdown;
pub use tasks::{Drained, TaskFailure, TaskKind, Tasks};
