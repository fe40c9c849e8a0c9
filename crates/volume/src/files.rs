//! Writes a tree of files so that a reader sees all of the old or all of the new: the files go into a fresh directory,
//! `..data` is swapped to it by one rename, and each first part of a path is a link through `..data`.

use crate::Error;
use crate::render::{File, Tree};
use rustix::fs::{Gid, Uid};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use stoa_units::Time;

const DATA: &str = "..data";
/// What is made in a directory with this bit belongs to the directory's group.
pub(crate) const SET_GROUP: u32 = 0o2000;
const DATA_NEW: &str = "..data_tmp";

/// Brings `dir` to hold `tree`; files belong to `group` where given. Returns whether anything changed.
pub(crate) fn write_tree(dir: &Path, tree: &Tree, group: Option<u32>, now: Time) -> Result<bool, Error> {
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && is_same(&dir.join(current), tree, group)?
    {
        return Ok(false);
    }
    let mut stamp = now.0.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    // The clock may stand still or go back: what is being read must not be what is being written.
    if current.as_deref() == Some(Path::new(&stamp)) {
        stamp.push('+');
    }
    let fresh = dir.join(&stamp);
    crate::remove_tree(&fresh)?;
    fs::create_dir(&fresh).map_err(Error::io("create", &fresh))?;
    set_access(&fresh, dir_mode(group), None, group)?;
    for (path, file) in tree {
        write_file(&fresh, path, file, group)?;
    }
    let link = dir.join(DATA_NEW);
    match fs::remove_file(&link) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &link)(e)),
        _ => {}
    }
    std::os::unix::fs::symlink(&stamp, &link).map_err(Error::io("link", &link))?;
    fs::rename(&link, dir.join(DATA)).map_err(Error::io("swap", dir.join(DATA)))?;
    link_names(dir, tree)?;
    if let Some(current) = current {
        crate::remove_tree(&dir.join(current))?;
    }
    Ok(true)
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Makes the names that people read point through `..data`, and takes away those that are no more.
fn link_names(dir: &Path, tree: &Tree) -> Result<(), Error> {
    let wanted: BTreeSet<&str> = tree.keys().map(|p| first_part(p)).collect();
    let failed = |what| Error::io(what, dir);
    for entry in fs::read_dir(dir).map_err(failed("list"))? {
        let name = entry.map_err(failed("list"))?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(&*name) {
            fs::remove_file(dir.join(&*name)).map_err(failed("clean"))?;
        }
    }
    for name in wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new(DATA).join(name), &link)
                .map_err(Error::io("link", &link))?;
            // As a kubelet does it: whose the file is, theirs is the name.
            if let Some(owner) = tree.get(name).and_then(|file| file.owner) {
                std::os::unix::fs::lchown(&link, Some(owner), None).map_err(Error::io("give away", &link))?;
            }
        }
    }
    Ok(())
}

fn write_file(root: &Path, path: &str, file: &File, group: Option<u32>) -> Result<(), Error> {
    let target = root.join(path);
    let mut parent = root.to_owned();
    if let Some((dirs, _)) = path.rsplit_once('/') {
        for part in dirs.split('/') {
            parent.push(part);
            match fs::create_dir(&parent) {
                Ok(()) => set_access(&parent, dir_mode(group), None, group)?,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", &parent)(e)),
            }
        }
    }
    let mut open = fs::OpenOptions::new();
    let mut handle =
        open.write(true).create_new(true).mode(0o600).open(&target).map_err(Error::io("create", &target))?;
    std::io::Write::write_all(&mut handle, &file.bytes).map_err(Error::io("write", &target))?;
    set_access(&target, effective_mode(file, group), file.owner, group)
}

/// With a file-system group what is made in a directory becomes that group's.
fn dir_mode(group: Option<u32>) -> u32 {
    if group.is_some() { 0o755 | SET_GROUP } else { 0o755 }
}

/// With a file-system group its members may read what is there, as a kubelet grants for read-only volumes.
fn effective_mode(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o440 } else { file.mode }
}

pub(crate) fn set_access(
    path: &Path,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
) -> Result<(), Error> {
    if owner.is_some() || group.is_some() {
        rustix::fs::chown(path, owner.map(Uid::from_raw), group.map(Gid::from_raw))
            .map_err(Error::io("change the owner of", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}

fn is_same(dir: &Path, tree: &Tree, group: Option<u32>) -> Result<bool, Error> {
    let mut found = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&at) else { return Ok(false) };
        for entry in entries {
            let path = entry.map_err(Error::io("list", &at))?.path();
            let meta = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
            if meta.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).ok().and_then(Path::to_str);
            let Some(file) = name.and_then(|n| tree.get(n)) else { return Ok(false) };
            let same_mode = meta.permissions().mode() & 0o777 == effective_mode(file, group);
            if !same_mode || meta.len() != file.bytes.len() as u64 {
                return Ok(false);
            }
            if fs::read(&path).map_err(Error::io("read", &path))? != file.bytes {
                return Ok(false);
            }
            found += 1;
        }
    }
    Ok(found == tree.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tree(files: &[(&str, &str, u32)]) -> Tree {
        files
            .iter()
            .map(|(p, b, m)| ((*p).to_owned(), File { bytes: b.as_bytes().to_vec(), mode: *m, owner: None }))
            .collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_of_a_file_that_is_somebodys_is_theirs_too() {
        use std::os::unix::fs::MetadataExt;
        assert!(rustix::process::geteuid().is_root(), "needs root: it gives files away");
        let tmp = tempfile::tempdir().unwrap();
        let mut tree = tree(&[("token", "1", 0o600), ("ca", "2", 0o644)]);
        tree.get_mut("token").unwrap().owner = Some(1000);
        write_tree(tmp.path(), &tree, None, Time::EPOCH).unwrap();
        let owner = |name: &str| fs::symlink_metadata(tmp.path().join(name)).unwrap().uid();
        assert_eq!(["token", "..data/token", "ca", "..data"].map(owner), [1000, 1000, 0, 0]);
    }

    #[test]
    fn an_update_is_one_swap_and_leaves_nothing_behind() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        assert!(
            write_tree(dir, &tree(&[("a", "1", 0o644), ("d/e", "2", 0o400)]), None, Time::EPOCH).unwrap()
        );
        assert_eq!(names(dir), ["..1970_01_01_00_00_00.000000000", "..data", "a", "d"]);
        assert_eq!(fs::read_to_string(dir.join("d/e")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("d/e")).unwrap().permissions().mode() & 0o777, 0o400);

        let later = Time::EPOCH.plus(Duration::from_secs(1));
        assert!(!write_tree(dir, &tree(&[("a", "1", 0o644), ("d/e", "2", 0o400)]), None, later).unwrap());
        assert!(write_tree(dir, &tree(&[("a", "3", 0o644)]), None, later).unwrap());
        assert_eq!(names(dir), ["..1970_01_01_00_00_01.000000000", "..data", "a"]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(write_tree(dir, &Tree::new(), None, later.plus(Duration::from_secs(1))).unwrap());
        assert_eq!(names(dir), ["..1970_01_01_00_00_02.000000000", "..data"]);
    }
}
