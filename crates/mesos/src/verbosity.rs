//! How much a process says, as operators of Mesos' kind ask of masters and agents: a level, and for how long. What was set for
//! a while ends by itself. What a level means for the process's log is the business of whoever made the process.

use core::time::Duration;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use stoa_units::Time;

/// Told of a level and how long it lasts.
pub type Told = Arc<dyn Fn(u32, Duration) + Send + Sync>;

/// See the module.
#[derive(Default)]
pub struct Verbosity {
    set: Mutex<Option<(u32, Time)>>,
    told: Option<Told>,
}

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verbosity").field("set", &*self.set.lock()).finish_non_exhaustive()
    }
}

impl Verbosity {
    /// One that passes on what it is told.
    pub fn new(told: Told) -> Verbosity {
        Verbosity { set: Mutex::default(), told: Some(told) }
    }

    /// The level now: 0 unless another one was set and lasts still.
    pub fn level(&self, now: Time) -> u32 {
        match *self.set.lock() {
            Some((level, until)) if now < until => level,
            _ => 0,
        }
    }

    /// Sets it for a while.
    pub fn set(&self, level: u32, lasts: Duration, now: Time) {
        *self.set.lock() = Some((level, now.plus(lasts)));
        if let Some(tell) = &self.told {
            tell(level, lasts);
        }
    }
}

/// What `/logging/toggle` is asked, in the query's parts.
///
/// # Errors
///
/// What is missing or makes no sense, in Mesos' words.
pub fn read_toggle(level: Option<&str>, duration: Option<&str>) -> Result<(u32, Duration), String> {
    let (level, duration) = match (level, duration) {
        (None, _) => return Err("Expecting 'level=value' in query.\n".into()),
        (_, None) => return Err("Expecting 'duration=value' in query.\n".into()),
        (Some(level), Some(duration)) => (level, duration),
    };
    let number: i32 = level.parse().map_err(|_| format!("Failed to convert '{level}' to number.\n"))?;
    let number = u32::try_from(number).map_err(|_| format!("Invalid level '{number}'.\n"))?;
    let lasts =
        crate::json::parse_duration(duration).ok_or_else(|| format!("Invalid duration '{duration}'.\n"))?;
    Ok((number, lasts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_lasts_as_long_as_it_was_set_for_and_is_passed_on() {
        let told = Arc::new(Mutex::new(vec![]));
        let verbosity = Verbosity::new({
            let told = Arc::clone(&told);
            Arc::new(move |level, lasts| told.lock().push((level, lasts)))
        });
        let at = |s| Time::EPOCH.plus(Duration::from_secs(s));
        assert_eq!(verbosity.level(at(0)), 0);
        verbosity.set(2, Duration::from_secs(10), at(5));
        assert_eq!([at(5), at(14), at(15)].map(|t| verbosity.level(t)), [2, 2, 0]);
        verbosity.set(1, Duration::from_secs(1), at(6));
        assert_eq!((verbosity.level(at(6)), verbosity.level(at(8))), (1, 0), "the last word counts");
        assert_eq!(*told.lock(), [(2, Duration::from_secs(10)), (1, Duration::from_secs(1))]);
    }

    #[test]
    fn a_toggle_says_level_and_duration() {
        assert_eq!(read_toggle(Some("3"), Some("1mins")), Ok((3, Duration::from_secs(60))));
        for (level, duration, why) in [
            (None, Some("1secs"), "Expecting 'level=value' in query.\n"),
            (Some("1"), None, "Expecting 'duration=value' in query.\n"),
            (Some("x"), Some("1secs"), "Failed to convert 'x' to number.\n"),
            (Some("-1"), Some("1secs"), "Invalid level '-1'.\n"),
            (Some("1"), Some("soon"), "Invalid duration 'soon'.\n"),
        ] {
            assert_eq!(read_toggle(level, duration), Err(why.to_owned()));
        }
    }
}
