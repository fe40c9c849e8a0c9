//! Standalone containers: an operator has this agent run something that no framework asked for. Each is a pod of this machine's
//! own, as those of its folder are: it is counted, shown by a mirror, and survives the death of this process; what is known of it
//! is on disk until it is removed.

use super::container_id::ContainerId;
use super::executor::End;
use super::executors::find_end;
use super::sessions::Ended;
use crate::durable;
use crate::observed::Observed;
use crate::statics;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use stoa_mesos::render::{self, HOST_IMAGE};
use stoa_mesos::resource::Scalar;
use stoa_mesos::task::{CommandInfo, ContainerInfo};
use tokio::sync::watch;

/// On a standalone container's pod: its id in Mesos' words. Only this agent may say so of a pod.
pub(crate) const CONTAINER_ID: &str = "stoa.dev/container-id";
/// The one container of such a pod.
const CONTAINER: &str = "container";
/// Where its mirror is: with what belongs to the cluster's machines rather than to a tenant.
const NAMESPACE: &str = "kube-system";
/// Most that are known, those that ended included.
const STANDALONE_MAX: usize = 256;

/// Whether a pod is a standalone container.
pub(crate) fn is_standalone(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(CONTAINER_ID))
}

/// How one ended; `has_run` tells an end from a start that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) message: String,
    has_run: bool,
}

#[derive(Clone, Debug, PartialEq, Default)]
enum Life {
    #[default]
    Starting,
    Running,
    Over(Exit),
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    user: String,
    pod: Pod,
    exit: Option<Exit>,
}

struct Known {
    record: Record,
    life: watch::Sender<Life>,
    /// It is on disk, and may be begun.
    is_kept: bool,
}

/// See the module.
pub(crate) struct Standalone {
    dir: PathBuf,
    all: Mutex<BTreeMap<String, Known>>,
    changed: watch::Sender<()>,
}

impl Standalone {
    /// Those of an agent, as far as they were not removed.
    pub(crate) fn open(dir: PathBuf) -> Standalone {
        if let Err(error) = fs::create_dir_all(&dir) {
            tracing::error!(dir = %dir.display(), %error, "cannot make the directory of standalone containers");
        }
        let mut all = BTreeMap::new();
        for path in fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let read = fs::read(&path).map_err(|e| e.to_string());
            match read.and_then(|b| serde_json::from_slice::<Record>(&b).map_err(|e| e.to_string())) {
                Ok(record) => {
                    let life = record.exit.clone().map_or(Life::Starting, Life::Over);
                    let life = watch::Sender::new(life);
                    all.insert(record.id.clone(), Known { record, life, is_kept: true });
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a standalone container's record cannot be read");
                }
            }
        }
        Standalone { dir, all: Mutex::new(all), changed: watch::Sender::new(()) }
    }

    /// Told whenever there is another one, or one less.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Their pods.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let is_wanted = |k: &&Known| k.is_kept && k.record.exit.as_ref().is_none_or(|e| e.has_run);
        self.all.lock().values().filter(is_wanted).map(|k| k.record.pod.clone()).collect()
    }

    /// As whom one runs.
    pub(crate) fn user_of(&self, id: &ContainerId) -> Option<String> {
        Some(self.all.lock().get(&id.value).filter(|_| id.parent.is_none())?.record.user.clone())
    }

    /// Has one run. False if there is one of that name.
    ///
    /// # Errors
    ///
    /// Why it cannot be written down, or that there are too many.
    pub(crate) fn begin(&self, id: &str, user: &str, pod: Pod) -> Result<bool, String> {
        let mut all = self.all.lock();
        if all.contains_key(id) {
            return Ok(false);
        }
        if all.len() >= STANDALONE_MAX {
            return Err(format!("{STANDALONE_MAX} standalone containers are known: remove those that ended"));
        }
        let record = Record { id: id.to_owned(), user: user.to_owned(), pod, exit: None };
        let known = Known { record: record.clone(), life: watch::Sender::default(), is_kept: false };
        all.insert(id.to_owned(), known);
        drop(all);
        if let Err(error) = write(&self.dir, &record) {
            self.all.lock().remove(id);
            return Err(format!("Failed to checkpoint the container: {error}"));
        }
        if let Some(known) = self.all.lock().get_mut(id) {
            known.is_kept = true;
        }
        self.changed.send_replace(());
        Ok(true)
    }

    /// Looks at one's pod.
    pub(crate) fn see(&self, pod: &Pod, observed: &Observed) {
        let Some(id) = pod.metadata.annotations.as_ref().and_then(|a| a.get(CONTAINER_ID)) else { return };
        let mut all = self.all.lock();
        let Some(known) = all.get_mut(id).filter(|k| k.record.pod.metadata.uid == pod.metadata.uid) else {
            return;
        };
        if known.record.exit.is_some() {
            return;
        }
        if let Some(End { code, signal, message, has_run, .. }) = find_end(observed, CONTAINER) {
            self.finish(all, id, Exit { code, signal, message, has_run });
        } else if observed.seen(CONTAINER).is_some_and(|s| s.is_running()) {
            known.life.send_if_modified(|life| std::mem::replace(life, Life::Running) != Life::Running);
        }
    }

    /// Gives up one that does not run yet. False if it runs, or there is none.
    pub(crate) fn give_up(&self, id: &str) -> bool {
        let all = self.all.lock();
        if all.get(id).is_none_or(|k| *k.life.borrow() != Life::Starting) {
            return false;
        }
        let message = "killed before it ran".to_owned();
        self.finish(all, id, Exit { code: 137, signal: Some(9), message, has_run: false });
        self.changed.send_replace(());
        true
    }

    /// One is over. It is written down before anybody is told: who heard of it may remove it.
    fn finish(&self, mut all: MutexGuard<'_, BTreeMap<String, Known>>, id: &str, exit: Exit) {
        let Some(known) = all.get_mut(id) else { return };
        known.record.exit = Some(exit.clone());
        let (record, life) = (known.record.clone(), known.life.clone());
        drop(all);
        if let Err(error) = write(&self.dir, &record) {
            tracing::error!(container = %id, %error, "cannot write down a standalone container's end");
        }
        life.send_replace(Life::Over(exit));
    }

    fn life(&self, id: &str) -> Option<watch::Receiver<Life>> {
        Some(self.all.lock().get(id)?.life.subscribe())
    }

    /// Waits until one runs or did; one that never will is forgotten.
    ///
    /// # Errors
    ///
    /// Why it will not.
    pub(crate) async fn started(&self, id: &str) -> Result<(), String> {
        let Some(mut life) = self.life(id) else { return Err("the container was removed".into()) };
        let life = life.wait_for(|l| *l != Life::Starting).await.map(|l| l.clone());
        match life {
            Ok(Life::Over(exit)) if !exit.has_run => {
                self.remove(id);
                Err(exit.message)
            }
            Ok(_) => Ok(()),
            Err(_) => Err("the container was removed".into()),
        }
    }

    /// Waits for one's end.
    pub(crate) async fn wait(&self, id: &str) -> Option<Exit> {
        let mut life = self.life(id)?;
        let life = life.wait_for(|l| matches!(l, Life::Over(_))).await.ok()?.clone();
        if let Life::Over(exit) = life { Some(exit) } else { None }
    }

    /// Forgets one that ended, and has its pod taken away.
    pub(crate) fn remove(&self, id: &str) -> Ended {
        let mut all = self.all.lock();
        match all.get(id).map(|k| k.record.exit.is_some()) {
            None => return Ended::Unknown,
            Some(false) => return Ended::Running,
            Some(true) => {}
        }
        if let Some(known) = all.remove(id) {
            let _ = fs::remove_file(path(&self.dir, &known.record));
        }
        drop(all);
        self.changed.send_replace(());
        Ended::Done
    }
}

fn path(dir: &Path, record: &Record) -> PathBuf {
    // Made of hexadecimal digits by whoever made the pod.
    dir.join(record.pod.metadata.uid.as_deref().unwrap_or_default()).with_extension("json")
}

fn write(dir: &Path, record: &Record) -> io::Result<()> {
    let bytes = serde_json::to_vec(record)?;
    durable::aside(|| durable::write(&path(dir, record), &bytes))
}

/// The pod of a standalone container, and as whom it runs.
///
/// # Errors
///
/// What of the call cannot be done.
pub(crate) fn render(id: &str, part: &Value, node: &str, salt: u64) -> Result<(Pod, String), String> {
    let command = part.get("command").filter(|c| c.is_object()).cloned().unwrap_or_else(|| json!({}));
    let command: CommandInfo =
        serde_json::from_value(command).map_err(|e| format!("'launch_container.command' is invalid: {e}"))?;
    let container: Option<ContainerInfo> = part
        .get("container")
        .filter(|c| c.is_object())
        .map(|c| serde_json::from_value(c.clone()))
        .transpose()
        .map_err(|e| format!("'launch_container.container' is invalid: {e}"))?;
    let image = render::image(container.as_ref());
    let says_nothing = command.value.as_deref().unwrap_or_default().is_empty();
    if says_nothing && (image.is_none() || command.shell.unwrap_or(part["command"].is_object())) {
        return Err("'launch_container.command' says nothing to run".into());
    }
    let secrets = command.environment.iter().flat_map(|e| &e.variables).filter_map(|v| v.secret.as_ref());
    if secrets.into_iter().any(|s| s["reference"].is_object()) {
        return Err(
            "Secrets by reference belong to a namespace, which a standalone container is not in".into()
        );
    }
    let resources: Vec<stoa_mesos::Resource> = match part.get("resources").filter(|r| !r.is_null()) {
        Some(list) => serde_json::from_value(list.clone()).map_err(|e| format!("Invalid resources: {e}"))?,
        None => vec![],
    };
    let amount = stoa_mesos::resource::amount(&resources).map_err(|e| format!("Invalid resources: {e}"))?;
    let limits: BTreeMap<String, Scalar> = match part.get("limits").filter(|l| !l.is_null()) {
        Some(limits) => serde_json::from_value(limits.clone()).map_err(|e| format!("Invalid limits: {e}"))?,
        None => BTreeMap::new(),
    };
    let user = command.user.clone().unwrap_or_else(|| "root".to_owned());
    let mut hash = Sha256::new();
    for part in [id.as_bytes(), node.as_bytes(), &salt.to_le_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let uid: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    let stem: String =
        id.chars().map(|c| c.to_ascii_lowercase()).filter(char::is_ascii_alphanumeric).take(40).collect();
    let mut spec = json!({
        "name": CONTAINER,
        "image": image.unwrap_or(HOST_IMAGE),
        "imagePullPolicy": render::pull_policy(container.as_ref()),
        "resources": render::resources(&limits, &amount.resources, &stoa_units::Resources::default()),
    });
    let options = match &container {
        Some(container) => stoa_mesos::options::options(container)?,
        None => stoa_mesos::options::Options::default(),
    };
    render::command(&mut spec, &command, options.env.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    if says_nothing {
        // The image says what it runs.
        for key in ["command", "args"] {
            if let Some(spec) = spec.as_object_mut() {
                spec.remove(key);
            }
        }
    }
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    options.apply(&mut spec);
    let of_container = container.iter().flat_map(|c| &c.volumes).map(render::volume);
    for volume in of_container.chain(options.volumes.iter().cloned().map(Ok)) {
        let (mut volume, path, is_read_only) = volume?;
        let name = format!("v{}", volumes.len());
        volume["name"] = name.as_str().into();
        volumes.push(volume);
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": is_read_only}));
    }
    spec["volumeMounts"] = mounts.into();
    let is_on_host = !render::has_own_network(container.as_ref());
    let mut annotations = json!({
        statics::SOURCE: "file", statics::HASH: uid, CONTAINER_ID: id, "stoa.dev/user": user,
    });
    if !command.uris.is_empty() {
        annotations["stoa.dev/fetch"] = json!({CONTAINER: command.uris}).to_string().into();
    }
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("standalone-{stem}-{}", &uid[..10]), "namespace": NAMESPACE, "uid": uid,
            "annotations": annotations},
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "hostNetwork": is_on_host,
            "dnsPolicy": if is_on_host { "Default" } else { "ClusterFirst" },
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [spec], "volumes": volumes,
        },
    });
    options.apply_pod(&mut pod["spec"]);
    // In an image it is the image's user, whatever the command says.
    let is_mighty = options.is_mighty || image.is_some();
    let user = if is_mighty { "root".to_owned() } else { user };
    Ok((serde_json::from_value(pod).map_err(|e| e.to_string())?, user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{Life as ContainerLife, Seen};
    use stoa_units::Time;

    fn pod(id: &str) -> Pod {
        render(id, &json!({"command": {"value": "sleep 1"}}), "n", 0).unwrap().0
    }

    fn ended(code: i32) -> Observed {
        let life = ContainerLife::Ended(crate::observed::Ended {
            id: "c".into(),
            code,
            signal: None,
            reason: "Error".into(),
            message: String::new(),
            started_at: None,
            finished_at: Time::EPOCH,
        });
        let mut observed = Observed::new(Time::EPOCH);
        observed.containers.insert(CONTAINER.into(), Seen { life, ..Seen::default() });
        observed
    }

    #[test]
    fn a_call_becomes_a_pod_of_the_machine() {
        let part = json!({
            "command": {"value": "echo $X", "user": "nobody", "environment": {"variables": [{"name": "X", "value": "1"}]}},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}],
            "container": {"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "/x", "host_path": "/etc"}]},
        });
        let (pod, user) = render("CSI plugin", &part, "n1", 7).unwrap();
        assert_eq!(user, "nobody");
        let spec = serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
        assert_eq!(spec["containers"][0]["command"], json!(["/bin/sh", "-c", "echo $$X"]));
        assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "500m");
        assert_eq!(spec["volumes"][0]["hostPath"]["path"], "/etc");
        assert_eq!((spec["nodeName"].as_str(), spec["hostNetwork"].as_bool()), (Some("n1"), Some(true)));
        assert!(
            pod.metadata.name.unwrap().starts_with("standalone-csiplugin-") && is_standalone(&self::pod("a"))
        );
        for bad in [
            json!({}),
            json!({"command": {}}),
            json!({"command": {"value": "x"}, "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": -1}}]}),
            json!({"command": {"value": "x"}, "container": {"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "../x"}]}}),
        ] {
            assert!(render("c", &bad, "n", 0).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_end_is_known_after_a_restart_until_it_is_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let all = Standalone::open(tmp.path().join("s"));
        assert_eq!(all.begin("c", "root", pod("c")), Ok(true));
        assert_eq!(all.begin("c", "root", pod("c")), Ok(false));
        assert_eq!(all.remove("c"), Ended::Running);
        let again = Standalone::open(tmp.path().join("s"));
        assert_eq!(again.pods().len(), 1, "what was asked for is done after a death, too");
        again.see(&pod("c"), &ended(3));
        assert_eq!(again.started("c").await, Ok(()));
        let last = Standalone::open(tmp.path().join("s"));
        assert_eq!(last.wait("c").await.unwrap().code, 3);
        assert_eq!(last.remove("c"), Ended::Done);
        assert_eq!((last.wait("c").await, last.remove("c")), (None, Ended::Unknown));
        assert!(Standalone::open(tmp.path().join("s")).pods().is_empty());
    }

    #[tokio::test]
    async fn one_that_cannot_start_is_forgotten() {
        let tmp = tempfile::tempdir().unwrap();
        let all = Standalone::open(tmp.path().to_owned());
        all.begin("c", "root", pod("c")).unwrap();
        let life = ContainerLife::Refused {
            reason: "ErrImagePull".into(),
            message: "no such image".into(),
            retry_at: Time::EPOCH,
        };
        let mut observed = Observed::new(Time::EPOCH);
        observed.containers.insert(CONTAINER.into(), Seen { life, ..Seen::default() });
        all.see(&pod("c"), &observed);
        assert_eq!(all.started("c").await, Err("no such image".to_owned()));
        assert!(all.pods().is_empty());
    }
}
