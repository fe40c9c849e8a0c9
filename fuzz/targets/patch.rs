//! `cargo +nightly fuzz run patch --features targets`; built on stable, it replays the files that it is given.
#![cfg_attr(fuzzing, no_main)]

stoa_fuzz::target!(patch);
