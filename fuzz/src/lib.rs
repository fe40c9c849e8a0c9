//! Every decoder of what comes from outside, as a plain function over bytes that must come back whatever the bytes are.
//!
//! [`TARGETS`] lists them. `cargo +nightly fuzz run NAME --features targets` (in this directory) lets a fuzzer look for bytes
//! that break one; the test in `tests/corpus.rs` runs each on stable over its corpus, `corpus/NAME/`, and over thousands of
//! mutations of that, drawn from a fixed seed. What a fuzzer finds is committed to the corpus with its cure.

mod kubernetes;
mod machine;
mod mesos;

pub use kubernetes::{apply, body, object, patch, quantity, selector};
pub use machine::{channels, image, reference, session, spdy, store_log};
pub use mesos::{mesos_call, recordio};

/// One target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 14] = [
    ("body", body),
    ("object", object),
    ("patch", patch),
    ("apply", apply),
    ("selector", selector),
    ("quantity", quantity),
    ("recordio", recordio),
    ("mesos_call", mesos_call),
    ("spdy", spdy),
    ("channels", channels),
    ("image", image),
    ("store_log", store_log),
    ("session", session),
    ("reference", reference),
];

/// The program of a fuzz target: libFuzzer's entry point, or on stable one that replays files.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay($crate::$name)
        }
    };
}

/// Runs a target over the files that are named on the command line.
pub fn replay(target: fn(&[u8])) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        target(&std::fs::read(path)?);
    }
    Ok(())
}

/// The first byte as a choice, and what follows it.
fn choose<'a, T>(from: &'a [T], data: &'a [u8]) -> Option<(&'a T, &'a [u8])> {
    let (first, rest) = data.split_first()?;
    Some((from.get(usize::from(*first) % from.len().max(1))?, rest))
}
