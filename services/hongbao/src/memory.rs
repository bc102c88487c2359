//! The allocator, and how long memory that was given back stays with the process.
//!
//! Work comes in waves: every few seconds a checkpoint frees what the next one will need again. Memory that goes back to the
//! system in between has to be mapped and cleared page by page when it is taken anew, by the very threads that players wait
//! for; on a virtual machine that costs more than all else they do. So it stays for somewhat longer than from wave to wave.
//! What is not needed then still goes back.
#![allow(unsafe_code)] // neither allocator has a safe interface to its settings

use std::time::Duration;

/// Faster than the system's where many threads take and give back small pieces, as requests and plans do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For so long unused memory stays, in ms: some checkpoints, as the allocator does not take first what was freed last.
const KEPT_MS: libc::c_long = 20_000;
/// `mi_option_purge_delay` of mimalloc 3, which has no name for it in Rust, and its default.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
const PURGE_DELAY_MS: libc::c_long = 1_000;
/// Unused memory that the system's allocator keeps, in bytes for each of its arenas. SQLite uses it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 64 << 20;

/// Has both allocators keep memory for a while. An environment that says otherwise (`MIMALLOC_PURGE_DELAY`) is obeyed.
pub fn keep() {
    // SAFETY: both calls only set a number that the allocator reads, which is allowed at any time.
    unsafe {
        // Another number than the default is somebody's wish, or this is another option than was meant.
        if libmimalloc_sys::mi_option_get(PURGE_DELAY) == PURGE_DELAY_MS {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_MS);
        }
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES / 4);
        }
    }
}

/// Between two looks at what has been unused for long enough.
const LOOKS: Duration = Duration::from_secs(5);

/// Looks through the pages that the calling thread's allocator keeps, and through what the process has given up.
fn give_back() {
    // SAFETY: any thread may call it at any time.
    unsafe { libmimalloc_sys::mi_collect(false) };
}

/// Gives back to the system what nobody has needed for a while, as long as the process lives: the allocator looks only when it is
/// asked for memory, and an idle process never asks. Each thread can look through its own pages only, and does so when it
/// rests.
pub fn tend() {
    runtime::spare::set(give_back);
    let look = || loop {
        std::thread::sleep(LOOKS);
        give_back();
    };
    if let Err(error) = std::thread::Builder::new().name("memory".into()).spawn(look) {
        tracing::warn!(%error, "no thread for it: memory once used stays with this process while it is idle");
    }
}

#[cfg(test)]
mod tests {
    /// Fails when another version of the allocator has given its options other numbers or defaults.
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            // SAFETY: it reads a number.
            let now = || unsafe { libmimalloc_sys::mi_option_get(super::PURGE_DELAY) };
            assert_eq!(now(), super::PURGE_DELAY_MS);
            super::keep();
            assert_eq!(now(), super::KEPT_MS);
        }
    }
}
