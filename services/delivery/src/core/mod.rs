//! The core of delivery: what becomes of one award's delivery when something happens to it.
//!
//! No I/O, no clock, no randomness of its own: rows, inputs, the time and a random number go in; the new row, the
//! journal's event and what is to be done come out. The workers and the simulation run this same code.
//!
//! [`step`] is the only way in which a row changes. It is called with a row as it was read; the book then writes the
//! result only if nobody has written that row meanwhile, so of two steps that meet on one award one wins, and the
//! other is tried again on what the first left behind or found stale.

mod input;
mod number;
mod policy;
mod row;
mod step;

pub use input::{Answer, AskAnswer, Fact, FactKind, Input, Refused, Step};
pub use number::{GENERATION_MAX, number_of, parse_number};
pub use policy::{RetrySchedule, VendorPolicy};
pub use row::{Lane, OrderRow, Reason, TEXT_MAX, TIME_MAX_MS};
pub use step::{first_step, step};
