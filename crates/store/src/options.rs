//! How a store is to behave.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::{Clock, SystemClock};

/// Options of either engine. History is kept until it is too old *and* longer than the least length, or until it is too
/// long or too large; then it is compacted by itself.
#[derive(Clone)]
pub struct Options {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Which cluster the files belong to; empty means any. A store that was made for another one is refused.
    pub cluster: String,
    /// How old history may grow.
    pub history_age_max: Duration,
    /// How many events are kept however old they are.
    pub history_len_min: usize,
    /// How many events are kept however young they are.
    pub history_len_max: usize,
    /// How many bytes of events are kept however young they are.
    pub history_bytes_max: usize,
    /// A checkpoint is written when it frees more of the log than this and than four times the live state: it bounds the
    /// time to open the store.
    pub log_bytes_max: u64,
    /// A segment of the log that is larger than this is followed by a new one. Only whole segments are removed.
    pub segment_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            clock: Arc::new(SystemClock),
            cluster: String::new(),
            history_age_max: Duration::from_secs(5 * 60),
            history_len_min: 1_000,
            history_len_max: 200_000,
            history_bytes_max: 128 << 20,
            log_bytes_max: 64 << 20,
            segment_bytes_max: 8 << 20,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("cluster", &self.cluster)
            .field("history_age_max", &self.history_age_max)
            .field("history_len_min", &self.history_len_min)
            .field("history_len_max", &self.history_len_max)
            .field("history_bytes_max", &self.history_bytes_max)
            .field("log_bytes_max", &self.log_bytes_max)
            .field("segment_bytes_max", &self.segment_bytes_max)
            .finish_non_exhaustive()
    }
}
