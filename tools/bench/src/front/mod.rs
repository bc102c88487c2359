//! Figures of the platform as a whole: the real binary in a process of its own, asked over loopback by the generator in
//! this one, in turns with a bare server that speaks the same messages in a process of its own too.

pub mod grow;
pub mod http;
pub mod own;
pub mod peer;
pub mod reach;
pub mod restart;
pub mod shared;

pub mod ask;
pub mod campaign;
pub mod load;
pub mod platform;
pub mod process;

mod drain;
mod vendors;
