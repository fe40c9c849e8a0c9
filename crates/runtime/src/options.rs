//! What the runtime is told once, when it opens: where it keeps state, under which cgroup its containers live,
//! and which executable plays the helper.

use std::path::PathBuf;
use std::sync::Arc;

use stoa_units::{Clock, SystemClock};

/// Settings of [`crate::Runtime::open`].
#[derive(Clone)]
pub struct Options {
    /// State directory, created when missing. Everything the runtime writes on disk is below it.
    pub root: PathBuf,
    /// One path segment below which all cgroups of this cluster live (`stoa-<cluster id>`).
    pub cgroup_parent: String,
    /// The executable that is started again as `<exe> shim …` and `<exe> exec-helper …`; its `main` must hand
    /// those two subcommands to [`crate::shim::main`] and [`crate::exec::helper_main`] before anything else.
    pub exe: PathBuf,
    /// Directories replaced by an empty tmpfs in containers that run on the machine's own root file system.
    pub hidden: Vec<PathBuf>,
    /// Directories with one entry a pod, named by its uid, in or at which things are mounted. They are made mount points, so
    /// that a container can be made without looking at the mounts of all the others.
    pub by_pod: Vec<PathBuf>,
    /// Size at which a container's log file is rotated.
    pub log_bytes_max: u64,
    /// How many log files of a container are kept, the current one included.
    pub log_files_max: u32,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The defaults for a state directory and a cgroup name.
    pub fn new(root: impl Into<PathBuf>, cgroup_parent: impl Into<String>) -> Options {
        Options {
            root: root.into(),
            cgroup_parent: cgroup_parent.into(),
            exe: PathBuf::from("/proc/self/exe"),
            hidden: Vec::new(),
            by_pod: Vec::new(),
            log_bytes_max: 10 * 1024 * 1024,
            log_files_max: 5,
            clock: Arc::new(SystemClock),
        }
    }
}
