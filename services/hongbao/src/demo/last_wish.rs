//! A child that the kernel kills when we are killed: where we can't clean up ourselves (SIGKILL), somebody must.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Has the kernel kill the child when the thread that starts it ends. Acts only on the main thread, which ends with the
/// process; on any other the child would die too early.
pub(super) fn die_with_us(command: &mut Command) {
    if std::thread::current().name() != Some("main") {
        return;
    }
    let wish = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from);
    // SAFETY: between fork and exec only async-signal-safe things may happen; this is a single prctl system call
    // that allocates nothing, takes no lock and touches no memory of ours.
    unsafe { command.pre_exec(wish) };
}
