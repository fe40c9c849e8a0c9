//! Pods from a folder of this machine. They run whether there is a leader or not; the leader's API shows each by a mirror,
//! an object that this node writes and that follows the pod but never leads it: deleting a mirror only makes a new one.

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use stoa_wire::PodRef;

/// Says where a pod comes from.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
/// Says which edition of its file it is.
pub(crate) const HASH: &str = "kubernetes.io/config.hash";
/// On a mirror: the edition that it shows.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Manifests that are read; a folder with more is misused.
const FILES_MAX: usize = 256;
/// Longest manifest.
const FILE_LEN_MAX: u64 = 1 << 20;

/// A file as far as one can tell without reading it.
pub(crate) type Stamp = (PathBuf, Option<SystemTime>, u64);

/// Which manifests there are.
pub(crate) fn list(dir: &Path) -> Vec<Stamp> {
    let mut found: Vec<Stamp> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            let is_hidden = p.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.starts_with('.'));
            let kind = p.extension().and_then(|e| e.to_str());
            !is_hidden && matches!(kind, Some("yaml" | "yml" | "json" | "manifest"))
        })
        .filter_map(|p| {
            let meta = std::fs::metadata(&p).ok().filter(std::fs::Metadata::is_file)?;
            Some((p, meta.modified().ok(), meta.len()))
        })
        .collect();
    found.sort();
    found.truncate(FILES_MAX);
    found
}

/// Reads manifests; one that makes no sense is told of and passed over.
pub(crate) fn read(files: &[Stamp], node: &str) -> Vec<Pod> {
    let mut pods = Vec::new();
    for (path, _, len) in files {
        let text = if *len > FILE_LEN_MAX { Err("it is too long".to_owned()) } else { read_text(path) };
        match text.and_then(|t| parse(&t, path, node)) {
            Ok(pod) => pods.push(pod),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a manifest is passed over"),
        }
    }
    pods
}

fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

/// A pod from the text of its manifest. Its uid follows from text, file and node, so that a restarted agent knows it again
/// and a changed file is another pod.
fn parse(text: &str, path: &Path, node: &str) -> Result<Pod, String> {
    let mut object: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if object["kind"] != "Pod" || object["apiVersion"] != "v1" {
        return Err("it is no Pod of v1".to_owned());
    }
    let mut hash = Sha256::new();
    for part in [text.as_bytes(), path.as_os_str().as_encoded_bytes(), node.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let uid: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    stoa_units::check_path_segment(name).map_err(|_| format!("{name:?} is no name"))?;
    let name = format!("{name}-{node}").to_ascii_lowercase();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let metadata = &mut object["metadata"];
    metadata["name"] = name.into();
    metadata["namespace"] = namespace.into();
    metadata["uid"] = uid.clone().into();
    metadata["annotations"][SOURCE] = "file".into();
    metadata["annotations"][HASH] = uid.into();
    object["spec"]["nodeName"] = node.into();
    // What such a pod tolerates is everything: no controller could start it elsewhere.
    object["spec"]["tolerations"] = json!([{"operator": "Exists", "effect": "NoExecute"}]);
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.remove("serviceAccountName");
        spec.remove("serviceAccount");
    }
    object["spec"]["automountServiceAccountToken"] = false.into();
    serde_json::from_value(object).map_err(|e| e.to_string())
}

/// A pod that the leader sent is none of this machine's own, whatever it says of itself: those are trusted with more.
pub(crate) fn disown(mut pod: Pod) -> Pod {
    if let Some(annotations) = pod.metadata.annotations.as_mut().filter(|a| !a.contains_key(MIRROR)) {
        annotations.remove(SOURCE);
        annotations.remove(crate::mesos::CONTAINER_ID);
    }
    pod
}

/// What the leader is asked to show of a pod.
pub(crate) fn mirror_of(pod: &Pod) -> Option<Vec<u8>> {
    let mut object = serde_json::to_value(pod).ok()?;
    let uid = pod.metadata.uid.clone()?;
    object["metadata"]["annotations"][MIRROR] = uid.into();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("uid");
    }
    serde_json::to_vec(&object).ok()
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, (Pod, Option<PodRef>)>,
    by_mirror: HashMap<String, String>,
}

/// The pods from the folder, and the mirror of each where there is one.
#[derive(Default)]
pub(crate) struct Statics(Mutex<State>);

impl Statics {
    /// Keeps a pod.
    pub(crate) fn put(&self, uid: &str, pod: Pod) {
        self.0.lock().pods.insert(uid.to_owned(), (pod, None));
    }

    /// Forgets a pod; its mirror, if it had one.
    pub(crate) fn remove(&self, uid: &str) -> Option<PodRef> {
        let mut state = self.0.lock();
        let mirror = state.pods.remove(uid)?.1?;
        state.by_mirror.remove(&mirror.uid);
        Some(mirror)
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.0.lock().pods.contains_key(uid)
    }

    pub(crate) fn uids(&self) -> Vec<String> {
        self.0.lock().pods.keys().cloned().collect()
    }

    /// The leader shows a pod by this mirror. False where there is no such pod.
    pub(crate) fn set_mirror(&self, uid: &str, mirror: &PodRef) -> bool {
        let mut state = self.0.lock();
        let Some((pod, held)) = state.pods.get_mut(uid) else { return false };
        // Anybody may write an object that says so; the mirror is called what the pod is called.
        let own = crate::pod::reference(pod);
        if (&own.namespace, &own.name) != (&mirror.namespace, &mirror.name) {
            return false;
        }
        let old = held.replace(mirror.clone());
        if let Some(old) = old.filter(|o| o.uid != mirror.uid) {
            state.by_mirror.remove(&old.uid);
        }
        state.by_mirror.insert(mirror.uid.clone(), uid.to_owned());
        true
    }

    /// A mirror is gone; the pod that it showed.
    pub(crate) fn drop_mirror(&self, mirror_uid: &str) -> Option<String> {
        let mut state = self.0.lock();
        let uid = state.by_mirror.remove(mirror_uid)?;
        if let Some((_, held)) = state.pods.get_mut(&uid) {
            *held = None;
        }
        Some(uid)
    }

    /// Under which name the leader knows a pod: none while a pod from the folder has no mirror.
    pub(crate) fn known_as(&self, pod: &PodRef) -> Option<PodRef> {
        match self.0.lock().pods.get(&pod.uid) {
            Some((_, mirror)) => mirror.clone(),
            None => Some(pod.clone()),
        }
    }

    /// The uid under which a pod runs here, by that of its mirror.
    pub(crate) fn behind(&self, uid: &str) -> String {
        self.0.lock().by_mirror.get(uid).cloned().unwrap_or_else(|| uid.to_owned())
    }

    /// What the leader should show and does not.
    pub(crate) fn unseen(&self) -> Vec<(PodRef, Vec<u8>)> {
        let state = self.0.lock();
        let unseen = state.pods.values().filter(|(_, mirror)| mirror.is_none());
        unseen.filter_map(|(pod, _)| Some((crate::pod::reference(pod), mirror_of(pod)?))).collect()
    }

    /// A new session: the leader says anew what it shows.
    pub(crate) fn forget_mirrors(&self) {
        let mut state = self.0.lock();
        state.by_mirror.clear();
        state.pods.values_mut().for_each(|(_, mirror)| *mirror = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  containers:\n  - {name: c, image: i}\n";

    #[test]
    fn a_file_is_one_pod_of_this_node_and_a_changed_file_another() {
        let pod = parse(TEXT, Path::new("/m/web.yaml"), "N1").unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some("N1"));
        let uid = |text: &str| parse(text, Path::new("/m/web.yaml"), "N1").unwrap().metadata.uid.unwrap();
        assert_eq!(uid(TEXT), pod.metadata.uid.clone().unwrap());
        assert_ne!(uid(&TEXT.replace("image: i", "image: j")), uid(TEXT));
        for bad in [
            "",
            "kind: Pod",
            "apiVersion: v1\nkind: Secret",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: ../x}",
        ] {
            assert!(parse(bad, Path::new("/m/x.yaml"), "n").is_err(), "{bad:?}");
        }
        let mirror: Value = serde_json::from_slice(&mirror_of(&pod).unwrap()).unwrap();
        assert_eq!(mirror["metadata"]["annotations"][MIRROR], pod.metadata.uid.clone().unwrap().as_str());
        assert!(mirror["metadata"]["uid"].is_null());
        assert!(!disown(pod).metadata.annotations.unwrap().contains_key(SOURCE));
    }

    #[test]
    fn only_plain_manifests_of_the_folder_are_read() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "b.json", ".c.yaml", "d.txt"] {
            std::fs::write(tmp.path().join(name), TEXT).unwrap();
        }
        std::fs::create_dir(tmp.path().join("e.yaml")).unwrap();
        let files = list(tmp.path());
        assert_eq!(files.len(), 2);
        assert_eq!(read(&files, "n").len(), 2);
        assert!(list(&tmp.path().join("none")).is_empty());
    }

    #[test]
    fn the_leader_knows_a_pod_by_its_mirror() {
        let statics = Statics::default();
        let pod = parse(TEXT, Path::new("/m/web.yaml"), "n1").unwrap();
        let (reference, uid) = (crate::pod::reference(&pod), pod.metadata.uid.clone().unwrap());
        statics.put(&uid, pod);
        assert_eq!((statics.known_as(&reference), statics.unseen().len()), (None, 1));
        let mirror = PodRef { uid: "m1".into(), ..reference.clone() };
        let stranger = PodRef { namespace: "tenant".into(), ..mirror.clone() };
        assert!(!statics.set_mirror(&uid, &stranger), "another's object that claims to be one");
        assert!(statics.set_mirror(&uid, &mirror) && !statics.set_mirror("other", &mirror));
        assert_eq!(statics.known_as(&reference), Some(mirror.clone()));
        assert_eq!((statics.behind("m1"), statics.behind("x")), (uid.clone(), "x".to_owned()));
        assert!(statics.unseen().is_empty());
        assert_eq!(statics.drop_mirror("m1"), Some(uid.clone()));
        assert_eq!(statics.unseen().len(), 1);
        statics.set_mirror(&uid, &mirror);
        assert_eq!(statics.remove(&uid), Some(mirror));
        assert_eq!(statics.behind("m1"), "m1");
    }
}
