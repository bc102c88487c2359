//! Which threads go first when there are more of them than processors.
//!
//! A thread that waits for the disk wakes thousands of times a second and needs the processor for microseconds each
//! time. On a machine whose cores are all busy, Linux lets the thread that runs finish its slice first, up to the next
//! timer tick: 4 ms and multiples of it, for a sync that took 0.1 ms. So such a thread asks for the lowest real-time
//! priority, in turns with its like. That needs CAP_SYS_NICE or a limit `rtprio` of 1. Without the right it asks for a
//! short slice (Linux 6.12 and later), which takes nothing from anybody's share and helps a little.
//!
//! The system keeps a part of each core for ordinary threads whatever real-time ones do, so a log at the limit of its
//! thread slows the others down and can't stop them.
//!
//! Work that may wait lets others go first, see [`Priority`]. Elsewhere than on Linux all threads stay equal.
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

/// How much a thread lets others go first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// Not at all.
    #[default]
    Normal,
    /// By a nice value, 0 (as it is) to 19: it gets a smaller share of a processor that others want too, but keeps it for some
    /// milliseconds each time, whoever wakes up meanwhile.
    Nice(u8),
    /// It runs when nobody else wants the processor, and gives it up to whoever wakes up; on processors that are never
    /// free it hardly runs at all. So others must never wait long for such a thread.
    Idle,
}

impl Priority {
    /// Sets it for the calling thread. Returns whether the system did it; a higher one than before needs a privilege.
    pub fn set(self) -> bool {
        match self {
            Priority::Normal | Priority::Nice(0) => true,
            #[cfg(target_os = "linux")]
            Priority::Nice(nice) => {
                // On Linux 'the calling process' of this call is the calling thread.
                rustix::process::setpriority_process(None, i32::from(nice.min(19))).is_ok()
            }
            #[cfg(not(target_os = "linux"))]
            Priority::Nice(_) => false,
            Priority::Idle => {
                let nice = rustix::process::getpriority_process(None).unwrap_or(0);
                SchedAttr { policy: SCHED_IDLE, nice, ..SchedAttr::new() }.set()
            }
        }
    }
}

const SCHED_RR: u32 = 2;
const SCHED_IDLE: u32 = 5;
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
    use super::Priority;

    /// Fields 18 and 40 of proc(5)'s stat are the nice value and the policy; the first two are the number and the name.
    #[cfg(target_os = "linux")]
    fn nice_and_policy() -> (i32, u32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[16].parse().unwrap(), fields[38].parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_gets_the_priority_that_it_asks_for() {
        let after = |priority: Priority| {
            std::thread::spawn(move || (priority.set(), nice_and_policy())).join().unwrap()
        };
        let equal = nice_and_policy();
        assert_eq!(after(Priority::Normal), (true, equal));
        assert_eq!(after(Priority::Nice(19)), (true, (19, 0)));
        assert_eq!(after(Priority::Idle), (true, (equal.0, 5)));
        let lowered =
            std::thread::spawn(|| (Priority::Nice(19).set(), Priority::Nice(0).set(), nice_and_policy()));
        assert_eq!(lowered.join().unwrap(), (true, true, (19, 0)), "0 does not raise it");
    }

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
