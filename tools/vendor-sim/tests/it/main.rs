//! The real process over loopback: what a sender sees, also over a kill.

mod books;
mod callbacks;
mod faults;
mod process;
