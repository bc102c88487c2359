//! What each call does to the rows. Pure: no clock, no store; the same for every adapter.

pub mod change;
pub mod epoch;
pub mod grant;
pub mod lease;
pub mod release;
pub mod tick;
pub mod window;
