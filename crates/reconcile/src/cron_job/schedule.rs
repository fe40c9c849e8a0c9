//! Cron schedules: five fields or a `@name`, in a time zone. Admission has refused what cannot be read.

use std::time::Duration;
use stoa_units::Time;

/// A schedule that has no moment within so many years has none at all.
const YEARS_MAX: i16 = 5;

/// When things happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Whenever minute, hour, day, month and weekday are in these sets; bit n stands for n.
    Fields(Box<Fields>),
    /// `@every`.
    Every(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days and weekdays must both hold, since one of them is a star; otherwise one is enough.
    both: bool,
}

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

impl Schedule {
    /// Reads a schedule.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let fields = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match other.strip_prefix("@every ") {
                Some(text) => return every(text.trim()),
                None => other,
            },
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        let star = |f: &str| f.split(',').any(|p| p.starts_with(['*', '?']));
        Ok(Schedule::Fields(Box::new(Fields {
            minutes: set(minute, 0, 59, &[])?,
            hours: set(hour, 0, 23, &[])?,
            days: set(day, 1, 31, &[])?,
            months: set(month, 1, 12, &MONTHS)?,
            weekdays: set(weekday, 0, 6, &DAYS)?,
            both: star(day) || star(weekday),
        })))
    }

    /// The first moment after another.
    pub fn next(&self, after: Time, zone: &jiff::tz::TimeZone) -> Option<Time> {
        match self {
            Schedule::Every(step) => {
                let whole = Time(jiff::Timestamp::from_second(after.0.as_second()).ok()?);
                Some(whole.plus(*step))
            }
            Schedule::Fields(fields) => fields.next(after, zone),
        }
    }

    /// The last moment after one and not after another.
    pub fn last(&self, after: Time, until: Time, zone: &jiff::tz::TimeZone) -> Option<Time> {
        // Windows that grow, so that a schedule that fires each minute is not walked through from its beginning.
        const WINDOWS: [u64; 4] = [3_600, 86_400, 32 * 86_400, 367 * 86_400];
        if let Schedule::Every(step) = self {
            let steps = until.since(after).as_secs() / step.as_secs().max(1);
            let first = self.next(after, zone).filter(|t| *t <= until)?;
            let more = step.checked_mul(u32::try_from(steps.saturating_sub(1)).ok()?)?;
            return Some(first.plus(more));
        }
        for window in WINDOWS.map(Duration::from_secs) {
            let from = Time(until.0.saturating_sub(jiff::SignedDuration::try_from(window).ok()?).ok()?);
            if from <= after {
                break;
            }
            if let Some(found) = self.walk(from, until, zone) {
                return Some(found);
            }
        }
        self.walk(after, until, zone)
    }

    fn walk(&self, after: Time, until: Time, zone: &jiff::tz::TimeZone) -> Option<Time> {
        let (mut last, mut at) = (None, after);
        while let Some(next) = self.next(at, zone).filter(|t| *t <= until) {
            last = Some(next);
            at = next;
        }
        last
    }
}

/// Go's durations in whole seconds, at least one.
fn every(text: &str) -> Result<Schedule, String> {
    let bad = || format!("failed to parse duration @every {text}");
    let (mut total, mut rest) = (0f64, text);
    while !rest.is_empty() {
        let len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let amount: f64 = rest[..len].parse().map_err(|_| bad())?;
        rest = &rest[len..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += amount
            * match &rest[..unit] {
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(bad()),
            };
        rest = &rest[unit..];
    }
    let seconds = Duration::try_from_secs_f64(total).map_err(|_| bad())?.as_secs();
    Ok(Schedule::Every(Duration::from_secs(seconds.max(1))))
}

/// One field as a set of bits.
fn set(field: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let bad = || format!("failed to parse {field}");
    let value = |text: &str| -> Result<u32, String> {
        match names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
            Some(i) => Ok(i as u32 + low),
            None => text.parse().map_err(|_| bad()),
        }
    };
    let mut out = 0;
    for part in field.split(',').filter(|p| !p.is_empty()) {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().map_err(|_| bad())?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range.starts_with(['*', '?']) => (low, high),
            Some((first, last)) => (value(first)?, value(last)?),
            None if step.is_some() => (value(range)?, high),
            None => (value(range)?, value(range)?),
        };
        let step = step.unwrap_or(1);
        if step == 0 || first < low || last > high || first > last {
            return Err(bad());
        }
        let mut at = first;
        while at <= last {
            out |= 1u64 << at;
            at += step;
        }
    }
    Ok(out)
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|v| set & (1u64 << v) != 0)
}

impl Fields {
    fn is_day(&self, at: &jiff::Zoned) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        if self.both { day && weekday } else { day || weekday }
    }

    /// Goes forward field by field, in elapsed time within a day: an hour that a clock change skips has no moment, and one
    /// that it repeats has them twice.
    fn next(&self, after: Time, zone: &jiff::tz::TimeZone) -> Option<Time> {
        let start = after.0.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
        let mut at = jiff::Timestamp::from_second(start).ok()?.to_zoned(zone.clone());
        let last_year = at.year().checked_add(YEARS_MAX)?;
        while at.year() <= last_year {
            if !has(self.months, at.month()) {
                at = at.first_of_month().ok()?.checked_add(jiff::Span::new().months(1)).ok()?;
                at = at.start_of_day().ok()?;
            } else if !self.is_day(&at) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !has(self.hours, at.hour()) {
                let rest = 60 - i64::from(at.minute());
                at = at.checked_add(jiff::SignedDuration::from_mins(rest)).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(jiff::SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(Time(at.timestamp()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use stoa_units::Time;

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let zone = jiff::tz::TimeZone::get(zone).expect("a zone");
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let next = schedule.next(Time::parse(after).expect("a time"), &zone);
        next.map_or("never".into(), Time::to_rfc3339_seconds)
    }

    #[test]
    fn the_next_moment_is_found() {
        for (schedule, zone, after, wanted) in [
            ("* * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "UTC", "2026-01-01T00:00:59.9Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "UTC", "2026-01-01T00:46:10Z", "2026-01-01T01:00:00Z"),
            ("@hourly", "UTC", "2026-01-01T00:46:10Z", "2026-01-01T01:00:00Z"),
            ("@daily", "UTC", "2026-01-31T00:46:10Z", "2026-02-01T00:00:00Z"),
            ("@monthly", "UTC", "2026-12-31T00:46:10Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("30 2 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T02:30:00Z"),
            ("59 23 31 2 *", "UTC", "2026-01-01T00:00:00Z", "never"),
            ("0 9-17/4 * JAN,mar mon-fri", "UTC", "2026-01-30T18:00:00Z", "2026-03-02T09:00:00Z"),
            // Either the day or the weekday where both are named.
            ("0 0 13 * fri", "UTC", "2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            // An hour that the change to summer time skips.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            // Each minute goes on through an hour that comes twice.
            ("* * * * *", "Europe/Berlin", "2026-10-25T00:59:00Z", "2026-10-25T01:00:00Z"),
            ("@every 90s", "UTC", "2026-01-01T00:00:00.5Z", "2026-01-01T00:01:30Z"),
        ] {
            assert_eq!(next(schedule, zone, after), wanted, "{schedule} in {zone} after {after}");
        }
        for bad in ["", "* * * *", "60 * * * *", "* * * * 8", "*/0 * * * *", "@never", "@every x"] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_moment_that_was_missed_is_found_however_long_ago() {
        for (schedule, after, until, wanted) in [
            ("* * * * *", "2020-01-01T00:00:00Z", "2026-01-01T00:00:30Z", Some("2026-01-01T00:00:00Z")),
            ("0 0 1 1 *", "2020-06-01T00:00:00Z", "2026-06-01T00:00:00Z", Some("2026-01-01T00:00:00Z")),
            ("0 0 29 2 *", "2020-06-01T00:00:00Z", "2026-06-01T00:00:00Z", Some("2024-02-29T00:00:00Z")),
            ("0 0 1 1 *", "2026-02-01T00:00:00Z", "2026-06-01T00:00:00Z", None),
            ("@every 1h", "2026-02-01T00:00:00Z", "2026-02-01T03:30:00Z", Some("2026-02-01T03:00:00Z")),
        ] {
            let t = |text: &str| Time::parse(text).expect("a time");
            let found = Schedule::parse(schedule).expect("a schedule").last(
                t(after),
                t(until),
                &jiff::tz::TimeZone::UTC,
            );
            assert_eq!(found, wanted.map(t), "{schedule}");
        }
    }
}
