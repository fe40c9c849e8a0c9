//! What a task's container mounts: persistent volumes of its reservation, and the volumes of its `ContainerInfo`. Pure.
//!
//! A persistent volume is a directory of the agent's machine, below the one that the agent names, by role and id: it outlives
//! tasks, executors and agents, and nothing collects it. Relative paths in a container are below its sandbox.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stoa_mesos::Mark;
use stoa_mesos::render;
use stoa_mesos::task::ContainerInfo;

/// Most mounts of one task.
const MOUNTS_MAX: usize = 64;

/// Volumes of a pod, and where one container mounts them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mounts {
    pub volumes: Vec<Value>,
    pub mounts: Vec<Value>,
}

/// The directory of a persistent volume on the machine.
pub(crate) fn volume_dir(base: &str, mark: &Mark) -> String {
    // A role is a path: spelled so that two roles never share a directory.
    let digest = Sha256::digest(mark.role().as_bytes());
    let hash: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    let role: String = mark.role().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{base}/{role}-{hash}/{}", mark.volume().unwrap_or_default())
}

/// What a container mounts, `further` volumes last. `base` is the agent's directory of persistent volumes.
pub(crate) fn mounts<'a>(
    prefix: &str,
    container: Option<&ContainerInfo>,
    marked: impl Iterator<Item = &'a Mark>,
    base: Option<&str>,
    further: &[(Value, String, bool)],
) -> Result<Mounts, String> {
    let mut out = Mounts::default();
    let mut add = |volume: Value, path: String, read_only: bool| {
        let name = format!("{prefix}v{}", out.volumes.len());
        let mut volume = volume;
        volume["name"] = name.as_str().into();
        out.volumes.push(volume);
        out.mounts.push(json!({"name": name, "mountPath": path, "readOnly": read_only}));
    };
    for mark in marked.filter(|m| m.volume().is_some()) {
        let base = base.ok_or("The agent does not say where its persistent volumes are")?;
        let path = render::inside(mark.container_path().unwrap_or_default())?;
        let volume = json!({"hostPath": {"path": volume_dir(base, mark), "type": "DirectoryOrCreate"}});
        add(volume, path, mark.disk.as_ref().is_some_and(|d| render::is_read_only(&d["volume"]["mode"])));
    }
    for v in container.iter().flat_map(|c| &c.volumes) {
        let (volume, path, is_read_only) = render::volume(v)?;
        add(volume, path, is_read_only);
    }
    for (volume, path, is_read_only) in further {
        add(volume.clone(), path.clone(), *is_read_only);
    }
    if out.mounts.len() > MOUNTS_MAX {
        return Err(format!("More than {MOUNTS_MAX} volumes"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(volumes: Value) -> ContainerInfo {
        serde_json::from_value(json!({"type": "MESOS", "volumes": volumes})).unwrap()
    }

    #[test]
    fn volumes_are_where_their_role_and_id_say() {
        let mark: Mark = serde_json::from_value(json!({
            "reservations": [{"type": "DYNAMIC", "role": "eng/db"}],
            "disk": {"persistence": {"id": "v1"}, "volume": {"container_path": "data", "mode": "RW"}}}))
        .unwrap();
        let m = mounts("", None, [&mark].into_iter(), Some("/d"), &[]).unwrap();
        let path = m.volumes[0]["hostPath"]["path"].as_str().unwrap();
        assert!(path.starts_with("/d/eng-db-") && path.ends_with("/v1"), "{path}");
        assert_eq!(
            m.mounts,
            [json!({"name": "v0", "mountPath": "/mnt/mesos/sandbox/data", "readOnly": false})]
        );
        let other = Mark {
            reservations: vec![stoa_mesos::resource::Reservation {
                role: Some("eng-db".into()),
                ..mark.reservations[0].clone()
            }],
            ..mark.clone()
        };
        assert_ne!(volume_dir("/d", &mark), volume_dir("/d", &other));
        assert!(mounts("", None, [&mark].into_iter(), None, &[]).is_err());
    }

    #[test]
    fn host_paths_and_sandbox_paths_are_mounted() {
        let c = container(json!([
            {"mode": "RO", "container_path": "/etc/x", "host_path": "/etc/x"},
            {"mode": "RW", "container_path": "scratch", "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "scratch"}}},
        ]));
        let m = mounts("c-", Some(&c), [].into_iter(), None, &[]).unwrap();
        assert_eq!(m.volumes[0]["hostPath"]["path"], "/etc/x");
        assert_eq!(
            (m.mounts[0]["readOnly"].as_bool(), m.mounts[1]["name"].as_str()),
            (Some(true), Some("c-v1"))
        );
        assert!(m.volumes[1]["emptyDir"].is_object());
        for bad in [
            json!([{"container_path": "../x", "host_path": "/x"}]),
            json!([{"container_path": "/", "host_path": "/x"}]),
            json!([{"container_path": "/x", "host_path": "/a/../b"}]),
            json!([{"container_path": "/x", "source": {"type": "SECRET"}}]),
        ] {
            assert!(mounts("", Some(&container(bad.clone())), [].into_iter(), None, &[]).is_err(), "{bad}");
        }
    }
}
