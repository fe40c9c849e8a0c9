//! How much the agent is asked to say, by operators of Mesos' kind; what was set for a while ends by itself.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The highest level, as with Mesos.
const LEVEL_MAX: u64 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Verbosity(Mutex<(u64, Option<Instant>)>);

impl Verbosity {
    /// The level now.
    pub(crate) fn level(&self) -> u64 {
        match *self.0.lock() {
            (level, Some(until)) if Instant::now() < until => level,
            _ => 0,
        }
    }

    /// Sets it for a while.
    pub(crate) fn set(&self, level: u64, lasts: Duration) -> Result<(), String> {
        if level > LEVEL_MAX {
            return Err(format!("Invalid level '{level}'"));
        }
        *self.0.lock() = (level, Instant::now().checked_add(lasts));
        Ok(())
    }
}
