//! Figures of the roles apart, on the real servers that `deploy/local/services up` has started: one of each kind, so nothing is
//! replicated, and every figure says so. Without these servers the family is left out, with a line that says why.

mod fleet;
mod servers;

pub mod chat;
pub mod draws;
pub mod failover;
pub mod wins;

/// What stands behind every figure of the family.
const ON: &str = "one PostgreSQL and one Kafka on the same machine, not replicated";

/// Opens the servers, or says why there is nothing to be measured.
fn open() -> anyhow::Result<Option<servers::Servers>> {
    let found = servers::Servers::find()?;
    if found.is_none() {
        println!("cluster.*: left out; start the servers first: deploy/local/services up");
    }
    Ok(found)
}
