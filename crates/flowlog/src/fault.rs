//! Named points where a crash test may kill the process.
//!
//! A crash test needs the process to die between two exact steps, which no signal from outside can hit. With the cargo
//! feature `faults` the environment variable `HONGBAO_FAULT=name[:nth]` aborts the process when the point `name` is
//! passed for the nth time (the first, if no number is given). Without the feature a point is nothing at all.

/// A point that the process passes. See the module.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// A point that the process passes; it may not come back. See the module.
#[cfg(feature = "faults")]
pub fn point(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| std::env::var("HONGBAO_FAULT").ok().map(|v| parse(&v)));
    if let Some((wanted, nth)) = armed
        && wanted == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        tracing::error!(point = name, nth, "killed at a fault point, as HONGBAO_FAULT asks");
        std::process::abort();
    }
}

/// `name[:nth]`; a number that can't be read counts as 1, and 0 never matches.
#[cfg(feature = "faults")]
fn parse(value: &str) -> (String, u64) {
    match value.rsplit_once(':') {
        Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
        None => (value.to_owned(), 1),
    }
}
