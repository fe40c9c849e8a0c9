//! Time as a value and the clock as a trait, so that logic takes time by the hand and tests own it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// An instant in UTC with nanosecond resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub jiff::Timestamp);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Time = Time(jiff::Timestamp::UNIX_EPOCH);

    /// RFC 3339 in whole seconds (`2026-01-02T03:04:05Z`), the form of `creationTimestamp`.
    pub fn to_rfc3339_seconds(self) -> String {
        // Printing is a good deal faster than formatting by a pattern, and leaves out a fraction of zero.
        jiff::Timestamp::from_second(self.0.as_second()).unwrap_or(self.0).to_string()
    }

    /// RFC 3339 with microseconds, the form of `MicroTime`.
    pub fn to_rfc3339_micros(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }

    /// As `date` writes it: `Fri Jan  2 03:04:05 UTC 2026`.
    pub fn to_unix_date(self) -> String {
        self.0.strftime("%a %b %e %H:%M:%S UTC %Y").to_string()
    }

    /// Parses RFC 3339.
    pub fn parse(text: &str) -> Option<Time> {
        text.parse().ok().map(Time)
    }

    /// Seconds since the epoch, with a fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_nanosecond() as f64 / 1e9
    }

    /// This instant moved forward, saturating at the end of time.
    #[must_use]
    pub fn plus(self, d: Duration) -> Time {
        Time(
            self.0
                .saturating_add(jiff::SignedDuration::try_from(d).unwrap_or(jiff::SignedDuration::MAX))
                .unwrap_or(jiff::Timestamp::MAX),
        )
    }

    /// How long after `earlier` this instant is; zero if it is not after.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or(Duration::ZERO)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Time;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now())
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock(Mutex<Time>);

impl ManualClock {
    /// Starts at `at`.
    pub fn new(at: Time) -> Self {
        ManualClock(Mutex::new(at))
    }

    /// Moves forward.
    pub fn advance(&self, d: Duration) {
        let mut t = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *t = t.plus(d);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
