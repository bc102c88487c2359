//! PostgreSQL, and what speaks its wire (Citus, YugabyteDB, CockroachDB): a pool of connections to the server that
//! takes writes, with the checks that the laws of money lean on.
//!
//! [`Pg::open`] refuses at once what a person has to put right (credentials, a version that is too old, a server
//! without a synchronous standby unless the development switch is on) and says where; [`Pg::wait_for`] keeps trying while
//! a server is only away. Several servers may stand in one address, `postgres://user:password@one:5432,two:5432/db`: the one
//! that takes writes is used, and when it is gone the others are asked which of them was promoted. A server whose
//! timeline is older than one that was seen is never gone back to: it is a primary that has missed its own replacement.
//!
//! What happens to a transaction whose connection breaks is told apart: before the commit was sent nothing was done
//! ([`CommitError::NotDone`]), behind it nobody knows ([`CommitError::Unknown`]), and the caller repeats the call under its ids.
//!
//! Time limits are the client's. The server has one for waiting on locks and one for a client that holds locks and says
//! nothing; it has none for statements, since a commit that is cut short while it waits for the standby is answered as
//! if it had been replicated.

mod address;
mod arrays;
mod error;
mod migrate;
mod open;
mod probe;
mod transaction;
mod values;

pub use arrays::{ArrayKind, ArrayRow, ArrayRows};
pub(crate) use error::sort;
pub use error::{CommitError, PgOpenError};
pub use migrate::migrate;
pub use open::{Pg, PgHealth, PgOptions};
pub use transaction::{Answers, PgTransaction};
pub use values::{ValueRow, ValueRows};
