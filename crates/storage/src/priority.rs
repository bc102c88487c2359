//! Work that may wait: threads that let others go first.
//!
//! On Linux each thread has a nice value of its own; a niced thread yields to others that want the processor and takes
//! all of it when nobody does. Elsewhere a thread's priority is left as it is.

/// Lowers the priority of the calling thread: `nice` from 0 (as it is) to 19 (last). It can't be raised again without
/// a privilege. Returns whether the system did it.
pub fn lower_priority(nice: u8) -> bool {
    #[cfg(target_os = "linux")]
    if nice > 0 {
        // On Linux 'the calling process' of this call is the calling thread.
        return rustix::process::setpriority_process(None, i32::from(nice.min(19))).is_ok();
    }
    nice == 0
}
