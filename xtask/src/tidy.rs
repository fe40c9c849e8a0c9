//! Proves what reviewers should not have to look for. Each check is a function over the tree that returns findings.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Layers from the bottom up. A crate may depend on its own layer's crates only where `LEVELS` says so.
const LAYERS: [(&str, &[&str]); 5] = [
    ("types", &["units", "kube", "mesos", "wire"]),
    ("logic", &["merge", "admit", "authz", "ledger", "offers", "sched", "reconcile"]),
    ("adapters", &["store", "pki", "net", "dns", "runtime", "image", "volume", "streams", "registry"]),
    ("services", &["api", "mesos-master", "control", "signer", "session", "agent"]),
    ("binary", &["stoa"]),
];

/// Edges inside one layer: everything speaks `units`; logic builds on the two vocabularies of fairness and identity;
/// `registry` stands on the store, and reads certificate requests as `pki` does; the wire's frames are carried by `streams` anyway.
const SIDEWAYS: [(&str, &[&str]); 6] = [
    ("kube", &["units"]),
    ("mesos", &["units"]),
    ("wire", &["units"]),
    ("offers", &["ledger"]),
    ("sched", &["ledger"]),
    ("registry", &["store", "pki"]),
];

/// Crates that may not touch the machine: types and logic.
const PURE_BANS: [&str; 7] =
    ["std::fs", "TcpStream", "UdpSocket", "std::process", "tokio::", "std::thread", "thread::sleep"];

const BANNED: [&str; 4] = ["todo!(", "unimplemented!(", "dbg!(", "FIXME"];

/// Crates whose business is system calls that no safe crate wraps.
const UNSAFE_CRATES: [&str; 1] = ["runtime"];

/// Lines of logic in one file, tests not counted.
const FILE_LINES_MAX: usize = 900;
const ARCHITECTURE_LINES_MAX: usize = 400;

pub fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    layers(root, &mut findings)?;
    for file in sources(root)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        source(root, &file, &text, &mut findings);
    }
    manifests(root, &mut findings)?;
    documents(root, &mut findings)?;
    if findings.is_empty() {
        println!("tidy: in order");
        return Ok(());
    }
    for f in &findings {
        eprintln!("tidy: {f}");
    }
    bail!("{} findings", findings.len())
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, crates)| crates.contains(&name))
}

fn layers(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cannot read cargo metadata")?;
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(short) = name.strip_prefix("stoa-").or((name == "stoa").then_some("stoa")) else { continue };
        let dependencies =
            package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null());
        let ours = dependencies
            .filter_map(|d| d["name"].as_str()?.strip_prefix("stoa-").map(String::from))
            .collect();
        edges.insert(short.to_string(), ours);
    }
    for (from, tos) in &edges {
        // Benchmarks, fuzz targets and clients of the stories stand beside the house, not in it.
        if matches!(from.as_str(), "bench" | "fuzz" | "kube-client") {
            continue;
        }
        let Some(level) = layer_of(from) else {
            findings.push(format!("crate {from} is in no layer: add it to LAYERS"));
            continue;
        };
        for to in tos {
            let sideways = SIDEWAYS.iter().any(|(f, ts)| f == from && ts.contains(&to.as_str()));
            let adapter_wire = layer_of(to).is_some_and(|l| l < level);
            if !sideways && !adapter_wire {
                findings.push(format!("{from} ({}) may not depend on {to}", LAYERS[level].0));
            }
        }
    }
    Ok(())
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut stack = vec![root.join("crates"), root.join("xtask")];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n == "tests.rs")
        || path.components().any(|c| ["tests", "examples", "benches"].iter().any(|t| c.as_os_str() == *t))
}

fn source(root: &Path, path: &Path, text: &str, findings: &mut Vec<String>) {
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let logic = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let krate = path.strip_prefix(root.join("crates")).ok().and_then(|p| p.components().next());
    let krate = krate.map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    let test = is_test(path);
    if !test && !text.starts_with("//!") {
        findings.push(format!("{shown}: a module opens with what it does and why"));
    }
    let lines = logic.lines().count();
    if !test && lines > FILE_LINES_MAX {
        findings.push(format!("{shown}: {lines} lines of logic, at most {FILE_LINES_MAX}: split it by noun"));
    }
    if krate.is_empty() {
        return;
    }
    for (i, line) in logic.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        if let Some(word) = BANNED.iter().find(|w| code.contains(**w)) {
            findings.push(format!("{shown}:{}: `{word}` is a promise, not code", i + 1));
        }
        let pure = layer_of(&krate).is_some_and(|l| l < 2);
        if pure
            && !test
            && let Some(word) = PURE_BANS.iter().find(|w| code.contains(**w))
        {
            findings.push(format!("{shown}:{}: `{word}` in a pure crate", i + 1));
        }
        if !UNSAFE_CRATES.contains(&krate.as_str()) && code.contains("unsafe {") {
            findings.push(format!("{shown}:{}: unsafe outside {}", i + 1, UNSAFE_CRATES.join(", ")));
        }
    }
}

fn manifests(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for (_, crates) in LAYERS {
        for name in crates {
            let path = root.join("crates").join(name).join("Cargo.toml");
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let own = UNSAFE_CRATES.contains(name);
            if !own && !text.contains("[lints]\nworkspace = true") {
                findings.push(format!("crates/{name}/Cargo.toml: lints come from the workspace"));
            }
            if text.contains("git = ") {
                findings.push(format!("crates/{name}/Cargo.toml: no git dependencies"));
            }
        }
    }
    Ok(())
}

/// Paths in backticks in the documents must exist, and the map must stay short enough to be read.
fn documents(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for name in ["README.md", "ARCHITECTURE.md", "STYLE.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))?;
        if name == "ARCHITECTURE.md" && text.lines().count() > ARCHITECTURE_LINES_MAX {
            findings.push(format!("{name}: longer than {ARCHITECTURE_LINES_MAX} lines"));
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            let rooted = ["crates/", "tests/", "examples/", "bench/", "docs/", "scripts/", "xtask/"];
            let is_path =
                rooted.iter().any(|r| quoted.starts_with(r)) && !quoted.contains([' ', '<', '*', '{']);
            if is_path && !root.join(quoted).exists() {
                findings.push(format!("{name}: `{quoted}` does not exist"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        if let Err(e) = super::run(&crate::root()) {
            panic!("{e:#}");
        }
    }
}
