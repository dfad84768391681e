//! Environment variables that libraries read once.

use std::fs;

/// Bounds smol's blocking pool (500 threads otherwise, 2 MB of stack each). Only while this process has one
/// thread: the first thing in `main`.
pub fn blocking_threads(n: usize) -> Result<(), String> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(format!("the blocking pool is bounded too late: {threads} threads run already"));
    }
    #[allow(unsafe_code)] // the pool takes its bound from nowhere else
    // SAFETY: no other thread exists that could read the environment meanwhile.
    unsafe {
        std::env::set_var("BLOCKING_MAX_THREADS", n.max(1).to_string());
    }
    Ok(())
}
