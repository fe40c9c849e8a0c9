//! Generated files: the command-line reference is what `--help` prints, so that it is never out of date.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// Whether to write what differs, or only to say so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Write.
    Write,
    /// Compare and fail on a difference.
    Check,
}

/// Generated documents: a path, and the hidden subcommand of the binary that prints it.
const DOCUMENTS: [(&str, &str); 2] = [("docs/cli.md", "cli"), ("docs/resources.md", "resources")];

pub fn run(root: &Path, mode: Mode) -> Result<()> {
    let mut stale = Vec::new();
    for (path, what) in DOCUMENTS {
        let out = Command::new(env!("CARGO"))
            .args(["run", "-q", "--locked", "-p", "stoa", "--", "reference", what])
            .current_dir(root)
            .output()
            .context("cannot run stoa")?;
        if !out.status.success() {
            bail!("stoa reference {what} failed: {}", String::from_utf8_lossy(&out.stderr));
        }
        let file = root.join(path);
        let current = std::fs::read(&file).unwrap_or_default();
        if current == out.stdout {
            continue;
        }
        match mode {
            Mode::Write => {
                if let Some(dir) = file.parent() {
                    std::fs::create_dir_all(dir)?;
                }
                std::fs::write(&file, &out.stdout).with_context(|| format!("cannot write {path}"))?;
                println!("gen: wrote {path}");
            }
            Mode::Check => stale.push(path),
        }
    }
    if !stale.is_empty() {
        bail!("out of date: {}; run `cargo xtask gen`", stale.join(", "));
    }
    Ok(())
}
