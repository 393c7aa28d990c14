//! The resource usage of this process, and the clock of its reports.

use std::{fs, sync::OnceLock, time::Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU time, of all threads.
pub fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Resident memory in bytes.
pub fn memory() -> u64 {
    let fields = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = fields.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Nanoseconds since the first call.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
