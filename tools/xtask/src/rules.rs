//! The table of ARCHITECTURE.md: who may use whom.

/// What a crate may use of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// These and no others; an empty list means outside crates only.
    These(&'static [&'static str]),
    /// Any crate in `crates/`, and these.
    Library(&'static [&'static str]),
    /// Anything of ours.
    Everything,
}

/// The row of one crate, or `None` if the table has none.
pub fn rule_of(name: &str, folder: &str) -> Option<Rule> {
    Some(match name {
        "campaign" | "hashring" | "runtime" | "vendor-sim" | "xtask" => Rule::These(&[]),
        "records" => Rule::These(&["campaign"]),
        "protocol" => Rule::These(&["campaign", "runtime"]),
        "flowlog" | "storage" => Rule::These(&["runtime"]),
        "queue" => Rule::These(&["flowlog", "runtime"]),
        "ownership" => Rule::These(&["hashring", "storage", "runtime"]),
        "client" => Rule::These(&["protocol", "runtime"]),
        "testkit" => Rule::Library(&[]),
        "quota-config" => Rule::These(&["campaign", "storage", "runtime"]),
        "reconcile" => Rule::These(&["campaign", "quota-config", "storage", "runtime"]),
        "quotactl" => Rule::These(&["quota-config", "campaign", "runtime"]),
        "loadgen" => Rule::These(&["client", "protocol", "campaign", "runtime"]),
        "sim" | "hongbao" | "bench" => Rule::Everything,
        _ if folder.starts_with("services/") => Rule::Library(&["quota-config"]),
        _ => return None,
    })
}

/// Crates that must not contain an asynchronous runtime, not even by way of others.
pub const WITHOUT_TOKIO: [&str; 2] = ["campaign", "hashring"];

/// Crates whose row holds for everything they contain, not only for what they name themselves. Reconciliation must
/// not share a bug with what it audits.
pub const CLOSED: [&str; 1] = ["reconcile"];

/// Crates that may contain the test kit; others use it in tests alone.
pub const WITH_TESTKIT: [&str; 1] = ["sim"];

/// The test kit.
pub const TESTKIT: &str = "testkit";
