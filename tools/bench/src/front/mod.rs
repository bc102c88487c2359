//! Figures of the platform as a whole: the real binary in a process of its own, asked over loopback by the generator in
//! this one, in turns with a bare server that speaks the same messages in a process of its own too.

pub mod grow;
pub mod http;
pub mod own;
pub mod peer;
pub mod reach;
pub mod restart;
pub mod shared;

mod ask;
mod campaign;
mod drain;
mod load;
mod platform;
mod process;
mod vendors;
