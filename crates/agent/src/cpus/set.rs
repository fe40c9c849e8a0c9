//! Sets of CPUs in the kernel's list form, `0,2-3`. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// No machine has more, and a slip of the pen in a range fills no memory.
const CPU_MAX: u32 = 65_535;

/// Numbers of CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads the list form; nothing is the empty set.
    pub fn parse(text: &str) -> Result<CpuSet, String> {
        let number = |part: &str| {
            part.parse::<u32>()
                .ok()
                .filter(|n| *n <= CPU_MAX)
                .ok_or_else(|| format!("`{part}` is no number of a CPU"))
        };
        let mut set = BTreeSet::new();
        for part in text.trim().split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            match part.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("`{part}` is a range that ends before it begins"));
                    }
                    set.extend(first..=last);
                }
                None => {
                    set.insert(number(part)?);
                }
            }
        }
        Ok(CpuSet(set))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    pub(super) fn is_subset(&self, of: &CpuSet) -> bool {
        self.0.is_subset(&of.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> CpuSet {
        CpuSet(cpus.into_iter().collect())
    }
}

impl BitOr for &CpuSet {
    type Output = CpuSet;
    fn bitor(self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 | &other.0)
    }
}

impl BitAnd for &CpuSet {
    type Output = CpuSet;
    fn bitand(self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 & &other.0)
    }
}

impl Sub for &CpuSet {
    type Output = CpuSet;
    fn sub(self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 - &other.0)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last {
                last if last == first => write!(f, "{comma}{first}")?,
                last => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}
