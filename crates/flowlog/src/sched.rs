//! Getting the processor back soon after a sync.
//!
//! A thread that waits for the disk wakes thousands of times a second and needs the processor for microseconds each
//! time. On a machine whose cores are all busy, Linux lets the thread that runs finish its slice first, up to the next
//! timer tick: 4 ms and multiples of it, for a sync that took 0.1 ms. So such a thread asks for the lowest real-time
//! priority, in turns with its like. That needs CAP_SYS_NICE or a limit `rtprio` of 1. Without the right it asks for a
//! short slice (Linux 6.12 and later), which takes nothing from anybody's share and helps a little.
//!
//! The system keeps a part of each core for ordinary threads whatever real-time ones do, so a log at the limit of its
//! thread slows the others down and can't stop them.
#![allow(unsafe_code)] // the system call has no safe wrapper

/// Asks the system to run the calling thread soon after each of its wake-ups. For threads that others wait for and that
/// mostly wait themselves. A refusal changes nothing and is no error: it only may be slower.
pub fn run_promptly() {
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    let in_turns = SchedAttr { policy: SCHED_RR, priority: 1, ..SchedAttr::new() };
    let short_slice = SchedAttr { nice, runtime: SLICE_NS, ..SchedAttr::new() };
    if !in_turns.set() && !short_slice.set() {
        tracing::debug!("the system grants neither a real-time priority nor a short slice");
    }
}

const SCHED_RR: u32 = 2;
/// Threads that this one starts are ordinary ones.
const RESET_ON_FORK: u64 = 1;
/// The slice asked for; the shortest that Linux grants.
const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of sched_setattr(2), in its first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

impl SchedAttr {
    fn new() -> Self {
        let size = size_of::<Self>() as u32;
        SchedAttr {
            size,
            policy: 0,
            flags: RESET_ON_FORK,
            nice: 0,
            priority: 0,
            runtime: 0,
            deadline: 0,
            period: 0,
        }
    }

    /// Sets it for the calling thread.
    #[cfg(target_os = "linux")]
    fn set(&self) -> bool {
        // SAFETY: the kernel reads `size` bytes behind the pointer, which is the whole struct, and keeps nothing.
        // Thread 0 is the calling one.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(self), 0) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    fn set(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn asking_is_always_allowed_and_may_be_repeated() {
        std::thread::spawn(|| {
            let before = rustix::process::getpriority_process(None).unwrap();
            super::run_promptly();
            super::run_promptly();
            assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
        })
        .join()
        .unwrap();
    }
}
