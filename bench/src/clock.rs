//! The only place of the benchmarks that reads the clock, and the arithmetic on what it read.

use std::time::{Duration, Instant};

/// Now, on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "a benchmark's business is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The quantile `q` of `samples` in milliseconds; sorts them.
pub fn quantile_ms(samples: &mut [Duration], q: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_unstable();
    let at = ((samples.len() - 1) as f64 * q).round() as usize;
    samples[at].as_secs_f64() * 1e3
}
