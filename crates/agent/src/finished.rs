//! The last status of each pod that has ended, on disk until the pod's object is gone: an agent that dies between
//! taking a pod down and telling so must not start it anew.

use k8s_openapi::api::core::v1::PodStatus;
use std::fs;
use std::path::{Path, PathBuf};

fn path(dir: &Path, uid: &str) -> Option<PathBuf> {
    let plain =
        !uid.is_empty() && uid.len() <= 128 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then(|| dir.join(format!("{uid}.json")))
}

/// Keeps a pod's last status.
pub(crate) fn write(dir: &Path, uid: &str, status: &PodStatus) {
    let Some(path) = path(dir, uid) else { return };
    let write = || {
        fs::create_dir_all(dir)?;
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(status)?)?;
        fs::rename(&fresh, &path)
    };
    if let Err(error) = write() {
        tracing::warn!(%error, path = %path.display(), "cannot keep the last status of a pod");
    }
}

/// A pod's last status.
pub(crate) fn read(dir: &Path, uid: &str) -> Option<PodStatus> {
    serde_json::from_slice(&fs::read(path(dir, uid)?).ok()?).ok()
}

/// Forgets it.
pub(crate) fn remove(dir: &Path, uid: &str) {
    if let Some(path) = path(dir, uid) {
        let _ = fs::remove_file(path);
    }
}

/// Forgets those of all pods but these.
pub(crate) fn retain(dir: &Path, keep: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.file_stem().and_then(|s| s.to_str()).is_some_and(|uid| !keep(uid)) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_kept_by_uid_and_never_outside() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("f");
        let status = PodStatus { phase: Some("Failed".into()), ..PodStatus::default() };
        write(&dir, "u-1", &status);
        write(&dir, "../u", &status);
        assert_eq!(read(&dir, "u-1"), Some(status));
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
        retain(&dir, |uid| uid == "other");
        assert_eq!(read(&dir, "u-1"), None);
    }
}
