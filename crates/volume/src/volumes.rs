//! All volumes of all pods of a node, below one directory: `<root>/<pod uid>/volumes/<name>`. Making is idempotent and
//! is also how a changed object reaches the files.

use crate::remove::unmount_at;
use crate::render::Wanted;
use crate::{
    Error, Objects, Place, Tokens, files, host_path, image, remove_tree, render, sub_path, unmount_below,
};
use k8s_openapi::api::core::v1::{Pod, Volume};
use rustix::mount::MountFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stoa_units::Time;

/// Bound on a tmpfs of files that the agent itself writes where neither pod nor node has one.
const SECRET_TMPFS_BYTES: u64 = 64 * 1024 * 1024;

/// What the kernel gives the root of a tmpfs that says nothing: everyone's, where each removes only what is their own.
const TMPFS_MODE: u32 = 0o1777;

/// What the kernel gives the root of a file system of huge pages: only root may write. A kubelet leaves it so, and lets the pod's
/// file-system group write where there is one.
fn huge_mode(group: Option<u32>) -> u32 {
    if group.is_some() { 0o775 } else { 0o755 }
}

/// A volume made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is on the machine.
    pub path: PathBuf,
    /// Whether no container may write to it, whatever its mount says.
    pub read_only: bool,
    /// Whether it is the files of an image.
    pub is_image: bool,
}

/// The volumes of a pod by name.
pub type Made = BTreeMap<String, Mounted>;

/// Where a pod's volumes lie below its directory, and where the parts of them that are mounts of their own.
const VOLUMES: &str = "volumes";
const SUB_PATHS: &str = "subpaths";

/// The volumes of a node.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: PathBuf,
}

impl Volumes {
    /// Volumes below `root`, one directory a pod.
    pub fn new(root: impl Into<PathBuf>) -> Volumes {
        Volumes { root: root.into() }
    }

    /// The directory of a pod, which other files of the pod may share.
    pub fn pod_dir(&self, uid: &str) -> Result<PathBuf, Error> {
        Ok(self.root.join(check_name(uid)?))
    }

    /// Makes every volume of a pod that one of its containers mounts, or brings it up to date: what nobody mounts keeps no pod
    /// from its start. The first that cannot be made is named. Images that are not
    /// here yet are left out: whoever mounts one waits for it.
    pub fn make(
        &self,
        pod: &Pod,
        objects: &dyn Objects,
        place: &Place,
        tokens: &Tokens,
        now: Time,
    ) -> Result<Made, (String, Error)> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let dir = self.pod_dir(uid).map_err(|e| (String::new(), e))?.join(VOLUMES);
        let mut made = Made::new();
        let spec = pod.spec.as_ref();
        let group = spec
            .and_then(|s| s.security_context.as_ref())
            .and_then(|c| c.fs_group)
            .and_then(|g| u32::try_from(g).ok());
        let used = used(pod);
        let is_here = |v: &&Volume| {
            used.contains(v.name.as_str()) && (v.image.is_none() || place.images.contains_key(&v.name))
        };
        for volume in spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(is_here) {
            let one = || {
                let wanted = render(pod, volume, objects, place, tokens)?;
                let path = dir.join(check_name(&volume.name)?);
                make_one(&path, wanted, place.memory_for_files(), group, now)
            };
            let mounted = one().map_err(|e| (volume.name.clone(), e))?;
            made.insert(volume.name.clone(), mounted);
        }
        Ok(made)
    }

    /// Binds a part of a volume for one mount of a container, and says where.
    pub fn bind_sub_path(
        &self,
        uid: &str,
        container: &str,
        index: usize,
        volume: &Mounted,
        part: &str,
        group: Option<u32>,
    ) -> Result<PathBuf, Error> {
        let target = self.pod_dir(uid)?.join(SUB_PATHS).join(check_name(container)?).join(index.to_string());
        if volume.is_image {
            sub_path::bind_of_image(&volume.path, part, &target)?;
        } else {
            sub_path::bind(&volume.path, part, &target, group)?;
        }
        Ok(target)
    }

    /// Takes everything of a pod away.
    pub fn remove(&self, uid: &str) -> Result<(), Error> {
        let dir = self.pod_dir(uid)?;
        // Parts are mounts of volumes: they go first.
        for container in entries(&dir.join(SUB_PATHS))? {
            entries(&container)?.iter().try_for_each(|part| unmount_at(part))?;
        }
        entries(&dir.join(VOLUMES))?.iter().try_for_each(|volume| unmount_at(volume))?;
        match remove_tree(&dir) {
            // A container that may mount for the machine left something deeper. Only now is it worth the time that it takes
            // to read of all mounts, of which there are several for every pod.
            Err(error) if error.is_mounted() => {
                unmount_below(&dir)?;
                remove_tree(&dir)
            }
            done => done,
        }
    }

    /// Uids of the pods that have a directory.
    pub fn held(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", &self.root)(e)),
        };
        let mut uids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &self.root))?;
            uids.extend(entry.file_name().into_string().ok());
        }
        Ok(uids)
    }
}

/// Names of the volumes that containers mount, have as devices or take variables from.
fn used(pod: &Pod) -> BTreeSet<&str> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let mut names = BTreeSet::new();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        names.extend(container.volume_mounts.iter().flatten().map(|m| m.name.as_str()));
        names.extend(container.volume_devices.iter().flatten().map(|d| d.name.as_str()));
        let files =
            container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()?.file_key_ref.as_ref());
        names.extend(files.map(|f| f.volume_name.as_str()));
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        names.extend(container.volume_mounts.iter().flatten().map(|m| m.name.as_str()));
    }
    names
}

/// What is in a directory that may not be there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir)(e)),
    };
    list.map(|entry| Ok(entry.map_err(Error::io("list", dir))?.path())).collect()
}

fn check_name(name: &str) -> Result<&str, Error> {
    let bad = name.is_empty() || name.len() > 253 || name.contains('\0') || name.starts_with("..");
    if bad || stoa_units::check_path_segment(name).is_err() {
        Err(Error::Name(name.to_owned()))
    } else {
        Ok(name)
    }
}

fn make_one(
    path: &Path,
    wanted: Wanted,
    memory: Option<u64>,
    group: Option<u32>,
    now: Time,
) -> Result<Mounted, Error> {
    let own = |read_only| Mounted { path: path.to_owned(), read_only, is_image: false };
    match wanted {
        Wanted::HostPath { path, kind } => {
            host_path::check_or_create(&path, &kind)?;
            Ok(Mounted { path: PathBuf::from(path), read_only: false, is_image: false })
        }
        Wanted::Directory => {
            make_dir(path)?;
            share(path, 0o777, group)?;
            Ok(own(false))
        }
        Wanted::Memory(limit) => {
            make_dir(path)?;
            mount_tmpfs(path, limit)?;
            share(path, TMPFS_MODE, group)?;
            Ok(own(false))
        }
        Wanted::HugePages(size) => {
            make_dir(path)?;
            mount_fs(path, c"hugetlbfs", &format!("pagesize={size}"))?;
            share(path, huge_mode(group), group)?;
            Ok(own(false))
        }
        Wanted::Image(layers) => {
            make_dir(path)?;
            image::mount(path, &layers)?;
            Ok(Mounted { path: path.to_owned(), read_only: true, is_image: true })
        }
        Wanted::Files(tree) => {
            make_dir(path)?;
            share(path, 0o777, group)?;
            files::write_tree(path, &tree, group, now)?;
            Ok(own(true))
        }
        Wanted::SecretFiles(tree) => {
            make_dir(path)?;
            mount_tmpfs(path, Some(memory.unwrap_or(SECRET_TMPFS_BYTES)))?;
            share(path, TMPFS_MODE, group)?;
            files::write_tree(path, &tree, group, now)?;
            Ok(own(true))
        }
    }
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// A volume's root is everyone's, and with a file-system group new files in it become that group's. That holds also for what
/// containers can only read, as a kubelet makes it.
fn share(path: &Path, mode: u32, group: Option<u32>) -> Result<(), Error> {
    let want = if group.is_some() { mode | files::SET_GROUP } else { mode };
    let meta = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
    if meta.permissions().mode() & 0o7777 == want && group.is_none_or(|g| g == meta.gid()) {
        return Ok(());
    }
    files::set_access(path, want, None, group)
}

/// What is kept in memory must not come to lie on a disk, where the kernel can promise that (since Linux 6.4).
fn mount_tmpfs(path: &Path, limit: Option<u64>) -> Result<(), Error> {
    let mut options = format!("mode={TMPFS_MODE:o}");
    if let Some(bytes) = limit {
        options.push_str(&format!(",size={bytes}"));
    }
    match mount_fs(path, c"tmpfs", &format!("{options},noswap")) {
        Err(Error::Io { cause, .. })
            if cause.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) =>
        {
            mount_fs(path, c"tmpfs", &options)
        }
        made => made,
    }
}

fn mount_fs(path: &Path, kind: &CStr, options: &str) -> Result<(), Error> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let options = CString::new(options).map_err(|_| Error::Path(path.display().to_string()))?;
    rustix::mount::mount(kind, path, kind, MountFlags::empty(), options.as_c_str())
        .map_err(Error::io("mount a file system in memory on", path))
}

pub(crate) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    let here = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
    let Some(parent) = path.parent() else { return Ok(true) };
    let above = fs::symlink_metadata(parent).map_err(Error::io("read", parent))?;
    Ok(here.dev() != above.dev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lookup;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;
    use std::sync::Arc;

    struct One(&'static str);

    impl Objects for One {
        fn config_map(&self, _: &str, _: &str) -> Lookup<ConfigMap> {
            let map = json!({"metadata": {}, "data": {"k": self.0}});
            Lookup::Found(Arc::new(serde_json::from_value(map).unwrap()))
        }
        fn secret(&self, _: &str, _: &str) -> Lookup<Secret> {
            Lookup::Absent
        }
    }

    #[test]
    fn volumes_are_made_updated_and_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(tmp.path());
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u1", "namespace": "n"},
            "spec": {"containers": [{"name": "a", "volumeMounts": [
                {"name": "e", "mountPath": "/e"}, {"name": "c", "mountPath": "/c"}]}], "volumes": [
                {"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x"}},
                {"name": "nobodys", "secret": {"secretName": "none"}}]}
        }))
        .unwrap();
        let make = |text| {
            volumes
                .make(&pod, &One(text), &Place::default(), &Tokens::new(), Time::EPOCH)
                .map_err(|(n, e)| format!("{n}: {e}"))
        };
        let made = make("1").unwrap();
        assert!(made["c"].read_only && !made["e"].read_only);
        // What no container mounts is not made, and may be missing.
        assert_eq!(made.len(), 2);
        fs::write(made["e"].path.join("mine"), "x").unwrap();
        make("2").unwrap();
        assert_eq!(fs::read_to_string(made["c"].path.join("k")).unwrap(), "2");
        assert_eq!(fs::read_to_string(made["e"].path.join("mine")).unwrap(), "x");
        assert_eq!(volumes.held().unwrap(), ["u1"]);
        volumes.remove("u1").unwrap();
        assert!(volumes.held().unwrap().is_empty());
        assert!(volumes.remove("../etc").is_err());
    }

    /// The machine's mounts below a directory.
    fn mounts(dir: &Path) -> usize {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines().filter(|line| line.contains(dir.to_str().unwrap())).count()
    }

    #[test]
    fn what_is_mounted_in_a_pod_goes_with_it_and_what_it_shows_stays() {
        assert!(rustix::process::geteuid().is_root(), "needs root: it mounts");
        let tmp = tempfile::tempdir().unwrap();
        let outside = tmp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let volumes = Volumes::new(tmp.path().join("pods"));
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u1", "namespace": "n"},
            "spec": {"containers": [{"name": "a", "volumeMounts": [
                {"name": "disk", "mountPath": "/d"}, {"name": "memory", "mountPath": "/m"},
                {"name": "host", "mountPath": "/h"}]}], "volumes": [
                {"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "host", "hostPath": {"path": outside}}]}
        }))
        .unwrap();
        // Without and with mounts of a container's own: in a volume that is a mount, and in one that is not.
        for strays in [&[][..], &["memory/own"], &["disk/deep/own", "disk/own", "memory/own"]] {
            let made = volumes
                .make(&pod, &One(""), &Place::default(), &Tokens::new(), Time::EPOCH)
                .map_err(|(n, e)| format!("{n}: {e}"))
                .unwrap();
            for (index, name) in ["disk", "memory", "host"].into_iter().enumerate() {
                fs::create_dir_all(made[name].path.join("part")).unwrap();
                for container in ["a", "b"] {
                    volumes.bind_sub_path("u1", container, index, &made[name], "part", None).unwrap();
                }
                // One that is started again.
                volumes.bind_sub_path("u1", "a", index, &made[name], "part", None).unwrap();
            }
            for stray in strays {
                let at = tmp.path().join("pods/u1/volumes").join(stray);
                fs::create_dir_all(&at).unwrap();
                rustix::mount::mount_bind(&outside, &at).unwrap();
            }
            assert_eq!(mounts(&tmp.path().join("pods")), 7 + strays.len(), "{strays:?}");
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let line = table.lines().find(|l| l.contains(made["memory"].path.to_str().unwrap())).unwrap();
            // As a kubelet mounts it: nothing but where it lies is restricted.
            assert!(line.contains(" rw,relatime ") && !line.contains("nosuid"), "{line}");
            volumes.remove("u1").unwrap();
            assert_eq!(mounts(tmp.path()), 0, "{strays:?}");
            assert!(volumes.held().unwrap().is_empty());
            assert!(outside.join("keep").exists() && outside.join("part").exists());
            volumes.remove("u1").unwrap();
        }
    }
}
