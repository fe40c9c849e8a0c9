//! When the process has become idle, it lets go of the code that only its busy time needed: a machine that runs a few containers
//! should not have to spare forty megabytes for a manager that waits.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// How often the process looks at itself.
const WINDOW: Duration = Duration::from_secs(10);
/// Idle is who ran on processors for less than this part of a window.
const IDLE_SHARE: u32 = 50;

/// Watches the process for as long as it runs.
pub(crate) async fn watch() {
    let mut was_busy = true;
    let mut before = cpu();
    let mut windows = tokio::time::interval(WINDOW);
    windows.tick().await;
    loop {
        windows.tick().await;
        let now = cpu();
        let is_busy = now.saturating_sub(before) > WINDOW / IDLE_SHARE;
        if was_busy && !is_busy {
            match stoa_runtime::release_code() {
                Ok(bytes) => tracing::debug!(bytes, "idle: let go of code"),
                Err(cause) => tracing::debug!(%cause, "idle: cannot let go of code"),
            }
        }
        (was_busy, before) = (is_busy, now);
    }
}

/// The CPU time of all threads so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
