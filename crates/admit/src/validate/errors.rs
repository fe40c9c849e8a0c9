//! What was found wrong, bounded: a body of a few megabytes can hold hundreds of thousands of faults, each told with its place
//! and sometimes with all that stands beside it.

use stoa_kube::{CAUSES_MAX, Cause};

/// How much text they come to, save the one that goes beyond it.
const BYTES_MAX: usize = 1 << 20;

/// The errors found so far: the first of them, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Errors {
    causes: Vec<Cause>,
    bytes: usize,
    found: usize,
}

impl Errors {
    /// Notes one.
    pub(super) fn push(&mut self, cause: Cause) {
        self.found += 1;
        if !self.is_full() {
            self.bytes += cause.field.len() + cause.message.len();
            self.causes.push(cause);
        }
    }

    /// Notes several.
    pub(super) fn extend(&mut self, causes: impl IntoIterator<Item = Cause>) {
        causes.into_iter().for_each(|cause| self.push(cause));
    }

    /// Forgets all for this one.
    pub(super) fn replace(&mut self, cause: Cause) {
        *self = Errors::default();
        self.push(cause);
    }

    /// How many were found, told or not.
    pub(super) fn len(&self) -> usize {
        self.found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found == 0
    }

    /// Whether nothing more would be told: where finding more is dear, this is the time to stop.
    pub(super) fn is_full(&self) -> bool {
        self.causes.len() >= CAUSES_MAX || self.bytes > BYTES_MAX
    }

    /// Those that are told.
    pub(super) fn into_causes(self) -> Vec<Cause> {
        self.causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_and_all_are_counted() {
        for (why, told) in [(String::new(), CAUSES_MAX), ("x".repeat(BYTES_MAX / 4), 4)] {
            let mut errors = Errors::default();
            errors.extend((0..2 * CAUSES_MAX).map(|i| Cause::required(format!("f{i}"), &why)));
            assert!(errors.is_full() && errors.len() == 2 * CAUSES_MAX);
            assert_eq!(errors.into_causes().len(), told);
        }
    }
}
