//! Every target over its corpus, and over mutations of it that a fixed seed draws.

use std::path::{Path, PathBuf};

/// Mutations of each file of a corpus.
const MUTATIONS: usize = 300;
/// Longest input that a mutation grows to.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Targets that touch the disk get fewer.
const SLOW: [(&str, usize); 1] = [("image", 20)];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|f| std::fs::read(f).expect("a file")).collect()
}

/// splitmix64: every seed gives well-mixed output.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % n.max(1)
    }
}

/// A few small changes: bits, bytes, pieces cut out, doubled, or taken from another input.
fn mutated(from: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut out = from.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(out.len() + 1);
        let len = chance.below(16);
        match chance.below(6) {
            0 if !out.is_empty() => {
                let at = at % out.len();
                out[at] ^= 1 << chance.below(8);
            }
            1 => out.insert(at, chance.below(256) as u8),
            2 => out.truncate(at),
            3 => drop(out.drain(at..(at + len).min(out.len()))),
            4 => {
                let piece = out[at..(at + len).min(out.len())].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let from = chance.below(other.len() + 1);
                let piece = &other[from..(from + len).min(other.len())];
                out.splice(at..at, piece.iter().copied());
            }
        }
    }
    out.truncate(INPUT_BYTES_MAX);
    out
}

#[test]
fn every_target_takes_whatever_comes() {
    for (name, target) in stoa_fuzz::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        let count = SLOW.iter().find(|(slow, _)| *slow == name).map_or(MUTATIONS, |(_, n)| *n);
        let mut chance = Chance(1);
        target(b"");
        for input in &inputs {
            target(input);
            for _ in 0..count {
                let other = &inputs[chance.below(inputs.len())];
                let data = mutated(input, other, &mut chance);
                let shown = String::from_utf8_lossy(&data).into_owned();
                let done = std::panic::catch_unwind(|| target(&data));
                assert!(done.is_ok(), "{name} fell over {shown:?} ({data:?})");
            }
        }
    }
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(dir).expect("a corpus") {
        let name = entry.expect("an entry").file_name();
        assert!(stoa_fuzz::TARGETS.iter().any(|(t, _)| *t == name), "{name:?} is no target");
    }
}
