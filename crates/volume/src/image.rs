//! The files of an image as a volume: its layers, one over the other, read-only, without programs and devices.

use crate::Error;
use crate::volumes::is_mount_point;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, move_mount,
};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Mounts layers, topmost first, at `path`, which is a directory of the agent's own.
pub(crate) fn mount(path: &Path, layers: &[PathBuf]) -> Result<(), Error> {
    if is_mount_point(path)? {
        return Ok(());
    }
    // An overlay that nobody writes to wants two layers at least; the lowest of ours holds nothing.
    let empty = path.with_extension("empty");
    fs::create_dir_all(&empty).map_err(Error::io("create", &empty))?;
    overlay(path, layers.iter().chain([&empty])).map_err(Error::io("mount an image on", path))
}

fn overlay<'a>(path: &Path, layers: impl Iterator<Item = &'a PathBuf>) -> io::Result<()> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "source", "stoa")?;
    for layer in layers {
        fsconfig_set_string(fs.as_fd(), "lowerdir+", layer)?;
    }
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mounted = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(mounted.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_and_nobody_writes() {
        let tmp = tempfile::tempdir().unwrap();
        let layer = |name: &str, text: &str| {
            let dir = tmp.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("f"), text).unwrap();
            dir
        };
        let layers = [layer("top", "2"), layer("bottom", "1")];
        fs::write(layers[1].join("g"), "g").unwrap();
        let at = tmp.path().join("v");
        fs::create_dir(&at).unwrap();
        mount(&at, &layers).unwrap();
        mount(&at, &layers).unwrap();
        assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "2");
        assert_eq!(fs::read_to_string(at.join("g")).unwrap(), "g");
        assert!(fs::write(at.join("f"), "3").is_err());
        crate::unmount_below(tmp.path()).unwrap();
        assert!(!at.join("f").exists());
    }
}
