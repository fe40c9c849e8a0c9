//! Completion indexes as `0-2,4,6-9`: the form in which a job's status keeps them.

use std::fmt;

/// Indexes in ascending intervals that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads the form; what is beyond the job's completions, or cannot be read, is left out.
    pub fn parse(text: &str, completions: u32) -> Indexes {
        let mut out = Indexes::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
            if first >= completions || last < first {
                continue;
            }
            out.push(first, last.min(completions - 1));
        }
        out
    }

    /// Adds an interval that does not begin before the last one.
    fn push(&mut self, first: u32, last: u32) {
        match self.0.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// These and those.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = u32>) -> Indexes {
        let mut more: Vec<(u32, u32)> = others.into_iter().map(|i| (i, i)).collect();
        if more.is_empty() {
            return self.clone();
        }
        more.extend(&self.0);
        more.sort_unstable();
        let mut out = Indexes::default();
        more.into_iter().for_each(|(first, last)| out.push(first, last));
        out
    }

    /// All that is in either.
    #[must_use]
    pub fn and(&self, other: &Indexes) -> Indexes {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut out = Indexes::default();
        all.into_iter().for_each(|(first, last)| out.push(first, last));
        out
    }

    pub fn contains(&self, index: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= index);
        after > 0 && self.0[after - 1].1 >= index
    }

    pub fn total(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    /// How many are in both.
    pub fn common(&self, other: &Indexes) -> usize {
        let (mut a, mut b, mut total) = (0, 0, 0);
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            let (first, last) = (x.0.max(y.0), x.1.min(y.1));
            if first <= last {
                total += (last - first) as usize + 1;
            }
            if x.1 < y.1 { a += 1 } else { b += 1 }
        }
        total
    }

    /// The first indexes below `end` that are not among these.
    pub fn missing(&self, end: u32, len_max: usize) -> Vec<u32> {
        let mut out = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(end, end)]) {
            out.extend((next..first.min(end)).take(len_max - out.len()));
            if out.len() == len_max || last >= end {
                break;
            }
            next = last + 1;
        }
        out
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    #[test]
    fn indexes_are_read_and_written_in_intervals() {
        for (text, completions, wanted) in [
            ("", 5, ""),
            ("0-2,4,6-9", 20, "0-2,4,6-9"),
            ("0-2,4,6-9", 8, "0-2,4,6,7"),
            ("0,1,2,3", 4, "0-3"),
            ("1-2", 1, ""),
            ("x,3-1,2", 9, "2"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), wanted, "{text} of {completions}");
        }
    }

    #[test]
    fn indexes_grow_are_found_and_counted() {
        let some = Indexes::parse("1,3-4", 10).with([0, 9, 2, 3]);
        assert_eq!(some.to_string(), "0-4,9");
        assert_eq!(
            (some.total(), some.contains(4), some.contains(5), some.contains(9)),
            (6, true, false, true)
        );
        assert_eq!(some.missing(10, 3), [5, 6, 7]);
        assert_eq!(some.missing(6, 3), [5]);
        assert_eq!(some.missing(3, 3), Vec::<u32>::new());
        assert_eq!(Indexes::default().missing(2, 9), [0, 1]);
        assert_eq!(some.common(&Indexes::parse("3-9", 10)), 3);
        assert_eq!(some.and(&Indexes::parse("5-8", 10)).to_string(), "0-9");
    }
}
