//! How the service is to behave.

use std::time::Duration;

/// The service's options; the defaults suit everybody so far.
#[derive(Clone, Debug)]
pub struct Options {
    /// Plans that are carried out at the same time.
    pub workers_len_max: usize,
    /// Pods that are placed before their bindings are written.
    pub bindings_len_max: usize,
    /// How often every key is looked at whether or not anything changed.
    pub sweep_every: Duration,
    /// How old an event may grow.
    pub event_age_max: Duration,
    /// The scheduler's name: pods that name another one are left alone.
    pub scheduler_name: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            workers_len_max: 64,
            bindings_len_max: 256,
            sweep_every: Duration::from_secs(600),
            event_age_max: Duration::from_secs(3_600),
            scheduler_name: "default-scheduler".to_string(),
        }
    }
}
