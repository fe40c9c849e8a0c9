//! Where things are on disk, and how files are written so that a reader never sees half of one.
//!
//! `<root>/run` is a tmpfs: what it tells of, processes and namespaces, does not outlive the machine's run either, and a
//! start writes some fifteen small files (on ext4 they were the greater part of its time). There,
//! `containers/<id>/` holds a container (`shim.json`, `config.json`, `state.json`, `exit.json`, `attach.sock`, `rootfs`),
//! `pods/<uid>/` a pod (`pod.json`, `ns/…`, `shm`, `made`), `libcontainer/` the library's own notes. On disk there are only
//! the writable layers: `<root>/layers/<id>/{upper,work}`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

const NAME_LEN_MAX: usize = 128;

/// Paths below a state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Layout {
        Layout { root: root.to_path_buf() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Makes the directories, and mounts the tmpfs if it is not there yet.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        let run = self.run();
        for directory in [&run, &self.layers()] {
            fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
        }
        let device =
            |path: &Path| fs::metadata(path).map(|meta| meta.dev()).map_err(Error::io("look at", path));
        if device(&run)? == device(&self.root)? {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("stoa", &run, "tmpfs", flags, c"mode=0700,size=1g")
                .map_err(|e| Error::io("mount", &run)(e.into()))?;
        }
        for directory in [self.containers(), self.pods(), self.library()] {
            fs::create_dir_all(&directory).map_err(Error::io("make", directory))?;
        }
        Ok(())
    }

    /// The containers' writable layers.
    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// One container's writable layer.
    pub(crate) fn layer(&self, id: &str) -> PathBuf {
        self.layers().join(id)
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.run().join("containers")
    }

    pub(crate) fn bundle(&self, id: &str) -> Bundle {
        Bundle(self.containers().join(id))
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.run().join("pods")
    }

    pub(crate) fn pod(&self, uid: &str) -> PodDir {
        PodDir(self.pods().join(uid))
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.run().join("libcontainer")
    }
}

/// One container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Bundle(pub(crate) PathBuf);

impl Bundle {
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }
    pub(crate) fn order(&self) -> PathBuf {
        self.0.join("shim.json")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }
    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }
    pub(crate) fn empty(&self) -> PathBuf {
        self.0.join("empty")
    }
    pub(crate) fn helper_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }
}

/// One pod's directory.
#[derive(Clone, Debug)]
pub(crate) struct PodDir(pub(crate) PathBuf);

impl PodDir {
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }
    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("pod.json")
    }
    /// There once all of the pod's surroundings are.
    pub(crate) fn made(&self) -> PathBuf {
        self.0.join("made")
    }
    pub(crate) fn namespace(&self, kind: &str) -> PathBuf {
        self.0.join("ns").join(kind)
    }
    pub(crate) fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }
    /// Identity of the first process of a shared process namespace.
    pub(crate) fn pause(&self) -> PathBuf {
        self.0.join("pause.json")
    }
}

/// A name that becomes a path segment and a cgroup: checked once, at the door.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let fits = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !name.starts_with('.');
    if fits {
        Ok(())
    } else {
        Err(Error::Invalid { what, why: format!("`{name}` must be 1 to {NAME_LEN_MAX} of [A-Za-z0-9_.-]") })
    }
}

/// Writes a JSON file so that it is there whole or not at all.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&temporary, path)
}

/// Reads a JSON file; `None` when there is none or it cannot be understood.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "unreadable state file ignored");
            None
        }
    }
}

/// Removes a directory with all that is in it; one that is not there is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
