//! Nothing is left behind: what no pod that is kept accounts for is ended and removed, at start and always, and all of
//! it when the cluster is taken down.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroup::Tree;
use crate::error::Error;
use crate::layout::{Bundle, Layout, read_json, remove_tree};
use crate::mount_point;
use crate::options::Options;
use crate::pod::unmount_all;
use crate::process::{Identity, send_signal};
use crate::runtime::Runtime;
use crate::shim::Record;

const REMOVE_TRIES_MAX: u32 = 50;
/// How long a killed process is waited for; one in the kernel's hands may take its time.
const END_WAIT_MS: u16 = 5_000;

impl Runtime {
    /// Removes every pod that is not kept, and whatever else of this cluster belongs to no pod at all. Gives back what
    /// was removed.
    pub async fn sweep(&self, keep: &HashSet<String>) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        let known: Vec<String> = self.pods().into_iter().map(|p| p.uid).collect();
        for uid in known.into_iter().filter(|uid| !keep.contains(uid)) {
            self.remove_pod(&uid).await?;
            removed.push(format!("pod {uid}"));
        }
        let orphans: Vec<String> = self
            .list()
            .into_iter()
            .filter(|c| !keep.contains(&c.spec.pod_uid))
            .map(|c| c.spec.id.clone())
            .collect();
        for id in orphans {
            self.remove(&id).await?;
            removed.push(format!("container {id}"));
        }
        let known: HashSet<String> = self.pods().into_iter().map(|p| p.uid).collect();
        let inner = self.inner.clone();
        let strays = tokio::task::spawn_blocking(move || {
            let mut strays = Vec::new();
            let parent = &inner.options.cgroup_parent;
            for class in ["", "burstable", "besteffort"] {
                let base = if class.is_empty() { format!("/{parent}") } else { format!("/{parent}/{class}") };
                for child in inner.tree.children(&base) {
                    let Some(uid) = child.strip_prefix("pod") else { continue };
                    if !known.contains(uid) {
                        let path = format!("{base}/{child}");
                        inner.tree.kill(&path);
                        let _ = inner.tree.remove(&path);
                        strays.push(format!("cgroup {path}"));
                    }
                }
            }
            for entry in fs::read_dir(inner.layout.pods()).into_iter().flatten().flatten() {
                let uid = entry.file_name().to_string_lossy().into_owned();
                if !known.contains(&uid) {
                    unmount_below(&entry.path());
                    let _ = remove_tree(&entry.path());
                    strays.push(format!("directory {}", entry.path().display()));
                }
            }
            strays
        });
        removed.extend(strays.await.unwrap_or_default());
        Ok(removed)
    }
}

/// Ends and removes everything that a runtime with these options ever made, whether one runs or not.
pub async fn destroy_all(options: &Options) -> Result<(), Error> {
    let (layout, parent) = (Layout::new(&options.root), options.cgroup_parent.clone());
    let (root, by_pod) = (options.root.clone(), options.by_pod.clone());
    let work = tokio::task::spawn_blocking(move || destroy(&layout, &parent, &by_pod));
    work.await.unwrap_or_else(|error| Err(Error::io("take down", root)(std::io::Error::other(error))))
}

fn destroy(layout: &Layout, parent: &str, by_pod: &[PathBuf]) -> Result<(), Error> {
    let tree = Tree::discover().map_err(Error::io("read", "/proc/self/mountinfo"))?;
    let base = format!("/{parent}");
    let records: Vec<Record> = fs::read_dir(layout.containers())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| read_json(&Bundle(entry.path()).state()))
        .collect();
    // Helpers first: one that is killed after its container would be writing into what is being removed.
    for record in &records {
        for process in [Some(&record.helper), record.init.as_ref()].into_iter().flatten() {
            end_process(process);
        }
    }
    tree.kill(&base);
    unmount_below(layout.root());
    by_pod.iter().for_each(|directory| unmount_below(directory));
    tree.remove(&base).map_err(Error::io("remove cgroup", &base))?;
    for directory in [layout.root().join("run"), layout.layers()] {
        // An agent that still runs may be writing down the ends it sees.
        let mut tries = 0..REMOVE_TRIES_MAX;
        while let Err(error) = remove_tree(&directory) {
            if tries.next().is_none() {
                return Err(Error::io("remove", directory)(error));
            }
        }
    }
    Ok(())
}

/// Kills a process and waits until it is gone.
fn end_process(process: &Identity) {
    let Some(handle) = process.open() else { return };
    let _ = send_signal(&handle, libc::SIGKILL);
    let mut ended = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut ended, PollTimeout::from(END_WAIT_MS));
}

/// Unmounts all that is mounted at or below a path, deepest first.
fn unmount_below(path: &Path) {
    let Ok(path) = fs::canonicalize(path) else { return };
    let mut points: Vec<PathBuf> = mount_point::table()
        .unwrap_or_default()
        .into_iter()
        .map(|m| m.path)
        .filter(|point| point.starts_with(&path))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    for point in points {
        let _ = unmount_all(&point);
    }
}
