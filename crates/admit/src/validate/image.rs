//! One image is no image: `stoa.dev/host` stands for the agent's own file system. A pod that runs it is as good as root on
//! the machine, so only the cluster's own parts may ask for it, and nobody may have a controller ask for them.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::field::{Errors, Path, indexed};
use crate::Request;
use crate::default::CONTAINER_LISTS;
use crate::value::{NULL, at, items, path, text};

const RESERVED: &str = "stoa.dev/host";
/// What an agent believes of a pod because the Mesos door wrote it: whose task it is, as whom it runs, what is fetched for it.
const RESERVED_ANNOTATIONS: [&str; 6] = [
    "stoa.dev/container-id",
    "stoa.dev/framework-id",
    "stoa.dev/user",
    "stoa.dev/fetch",
    "stoa.dev/executor-info",
    "stoa.dev/framework-info",
];

/// Whether an image reference, with whatever tag or digest, means the host.
fn is_reserved(image: &str) -> bool {
    let name = image.trim().split('@').next().unwrap_or_default().to_ascii_lowercase();
    let name = name.strip_prefix("docker.io/").unwrap_or(&name);
    match name.strip_prefix(RESERVED) {
        Some(rest) => rest.is_empty() || rest.starts_with([':', '/']),
        None => false,
    }
}

/// Where a kind keeps a pod's specification.
fn pod_spec<'a>(request: &Request<'_>, object: &'a Value) -> Option<(&'a Value, &'static str)> {
    Some(match (request.resource.group, request.resource.plural) {
        ("", "pods") => (at(object, "spec"), "spec"),
        ("", "podtemplates") => (path(object, &["template", "spec"]), "template.spec"),
        ("", "replicationcontrollers") | ("apps", _) | ("batch", "jobs") => {
            (path(object, &["spec", "template", "spec"]), "spec.template.spec")
        }
        ("batch", "cronjobs") => (
            path(object, &["spec", "jobTemplate", "spec", "template", "spec"]),
            "spec.jobTemplate.spec.template.spec",
        ),
        _ => return None,
    })
}

/// Refuses to tenants what an agent believes, of a pod and of what controllers make pods of.
pub(super) fn annotations(request: &Request<'_>, old: Option<&Value>, object: &Value, errors: &mut Errors) {
    if request.user.is_internal() || is_mirror(request, old, object) {
        return;
    }
    let Some((_, at_spec)) = pod_spec(request, object) else { return };
    let at_metadata = match at_spec.strip_suffix("spec") {
        Some(above) => format!("{above}metadata"),
        None => return,
    };
    let steps: Vec<&str> = at_metadata.split('.').chain(["annotations"]).collect();
    let notes = |o: &Value, key: &str| {
        let steps: Vec<&str> = steps.iter().copied().chain([key]).collect();
        path(o, &steps).as_str().map(str::to_owned)
    };
    for key in RESERVED_ANNOTATIONS {
        let new = notes(object, key);
        if new != old.and_then(|o| notes(o, key)) {
            let field = format!("{at_metadata}.annotations[{key}]");
            errors.push(Cause::forbidden(field, &format!("{key} is reserved for the cluster")));
        }
    }
}

/// Whether an annotation is the cluster's to write.
pub fn is_reserved_annotation(key: &str) -> bool {
    RESERVED_ANNOTATIONS.contains(&key) || key == "kubernetes.io/config.mirror"
}

/// Whether a node shows a pod that it runs on its own account: no agent runs what is only shown, and what makes it a mirror
/// stays for as long as it lives.
fn is_mirror(request: &Request<'_>, old: Option<&Value>, object: &Value) -> bool {
    let note = path(object, &["metadata", "annotations", "kubernetes.io/config.mirror"]);
    old.is_none() && request.is_on("", "pods") && request.user.node_name().is_some() && note.is_string()
}

/// The image of a container, or of a volume.
fn reference<'v>(list: &str, part: &'v Value) -> &'v str {
    if list == "volumes" { text(at(part, "image"), "reference") } else { text(part, "image") }
}

/// Refuses the reserved image to tenants, in pods and in templates. What the cluster has put there may stay: a label on a
/// task's pod is anybody's who may write the pod, as long as the container itself (of a template: all of it) is not touched.
pub(super) fn check(request: &Request<'_>, old: Option<&Value>, object: &Value, errors: &mut Errors) {
    let Some((spec, at_spec)) = pod_spec(request, object) else { return };
    if request.user.is_internal() || is_mirror(request, old, object) {
        return;
    }
    let stored = old.and_then(|o| pod_spec(request, o)).map_or(&NULL, |(spec, _)| spec);
    let is_pod = request.is_on("", "pods");
    let is_untouched = !is_pod && stored == spec;
    let kept = |list: &str| -> HashSet<&Value> {
        let parts = items(stored, list).filter(|_| is_pod);
        parts.filter(|part| is_reserved(reference(list, part))).collect()
    };
    let is_kept = |kept: &HashSet<&Value>, part: &Value| is_untouched || kept.contains(part);
    annotations(request, old, object, errors);
    let why = format!("image {RESERVED:?} is reserved for the cluster's own pods");
    let root = Path::root(at_spec);
    for list in CONTAINER_LISTS {
        let kept = kept(list);
        for (i, container) in indexed(spec, list) {
            if is_reserved(reference(list, container)) && !is_kept(&kept, container) {
                errors.push(Cause::forbidden(root.child(list).index(i).child("image"), &why));
            }
        }
    }
    let kept = kept("volumes");
    for (i, volume) in indexed(spec, "volumes") {
        if is_reserved(reference("volumes", volume)) && !is_kept(&kept, volume) {
            let path = root.child("volumes");
            let path = path.index(i);
            errors.push(Cause::forbidden(path.child("image").child("reference"), &why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::tests::request;
    use crate::{Operation, UserRef};
    use serde_json::json;

    #[test]
    fn what_an_agent_believes_of_a_task_is_not_for_tenants_to_say() {
        let pod = |user: &str| json!({"metadata": {"annotations": {"stoa.dev/user": user, "mine": user}}, "spec": {}});
        let count = |old: Option<&Value>, new: &Value, groups: &[String]| {
            let mut r = request(Operation::Update, "", "pods", "ns", "x");
            r.user = UserRef { name: "u", groups };
            let mut errors = Errors::default();
            check(&r, old, new, &mut errors);
            errors.len()
        };
        let bare = json!({"metadata": {}, "spec": {}});
        assert_eq!(count(None, &pod("root"), &[]), 1);
        assert_eq!(count(Some(&pod("nobody")), &pod("root"), &[]), 1);
        assert_eq!(count(Some(&pod("nobody")), &bare, &[]), 1);
        assert_eq!(count(Some(&pod("nobody")), &pod("nobody"), &[]), 0);
        assert_eq!(count(None, &pod("root"), &[crate::INTERNAL_GROUP.to_owned()]), 0);
    }

    #[test]
    fn no_template_and_no_status_carries_what_an_agent_believes() {
        let marked = json!({"annotations": {"stoa.dev/fetch": "{}"}});
        let template = json!({"metadata": marked, "spec": {"containers": []}});
        let group = [String::from("tenants")];
        for (group_name, plural, object, field) in [
            ("apps", "deployments", json!({"spec": {"template": template}}), "spec.template.metadata"),
            ("batch", "jobs", json!({"spec": {"template": template}}), "spec.template.metadata"),
            ("", "podtemplates", json!({"template": template}), "template.metadata"),
            (
                "batch",
                "cronjobs",
                json!({"spec": {"jobTemplate": {"spec": {"template": template}}}}),
                "spec.jobTemplate.spec.template.metadata",
            ),
            ("", "pods", json!({"metadata": marked, "spec": {}}), "metadata"),
        ] {
            let mut r = request(Operation::Create, group_name, plural, "ns", "x");
            r.user = UserRef { name: "u", groups: &group };
            let mut errors = Errors::default();
            check(&r, None, &object, &mut errors);
            let fields: Vec<String> = errors.into_causes().into_iter().map(|e| e.field).collect();
            assert_eq!(fields, [format!("{field}.annotations[stoa.dev/fetch]")], "{plural}");
            let mut errors = Errors::default();
            check(&r, Some(&object), &object, &mut errors);
            assert!(errors.is_empty(), "what is there may stay: {plural}");
        }
        let mut r = request(Operation::Update, "", "pods", "ns", "x");
        r.user = UserRef { name: "u", groups: &group };
        r.subresource = "status";
        let old = json!({"metadata": {"name": "x"}, "spec": {}});
        let new = json!({"metadata": {"name": "x", "annotations": {"stoa.dev/user": "root"}}, "spec": {}});
        let found = crate::validate_update(&r, &old, &new);
        assert!(found.iter().any(|e| e.field == "metadata.annotations[stoa.dev/user]"), "{found:?}");
    }

    #[test]
    fn what_the_cluster_put_there_may_stay_but_not_be_bent() {
        let pod = |command: &str| json!({"spec": {"containers": [{"name": "c", "image": RESERVED, "command": [command]}]}});
        let set = |command: &str| json!({"spec": {"template": pod(command)}});
        let count = |plural: &str, group: &str, old: Option<&Value>, new: &Value, groups: &[String]| {
            let mut r = request(Operation::Update, group, plural, "ns", "x");
            r.user = UserRef { name: "u", groups };
            let mut errors = Errors::default();
            check(&r, old, new, &mut errors);
            errors.len()
        };
        let internal = [crate::INTERNAL_GROUP.to_owned()];
        assert_eq!(count("pods", "", None, &pod("a"), &[]), 1);
        assert_eq!(count("pods", "", None, &pod("a"), &internal), 0);
        assert_eq!(count("pods", "", Some(&pod("a")), &pod("a"), &[]), 0);
        assert_eq!(count("pods", "", Some(&pod("a")), &pod("b"), &[]), 1);
        assert_eq!(count("replicasets", "apps", Some(&set("a")), &set("a"), &[]), 0);
        assert_eq!(count("replicasets", "apps", Some(&set("a")), &set("b"), &[]), 1);
        assert_eq!(count("replicasets", "apps", None, &set("a"), &[]), 1);
    }

    #[test]
    fn no_spelling_of_the_reserved_image_slips_through() {
        for (image, want) in [
            ("stoa.dev/host", true),
            ("stoa.dev/host:latest", true),
            ("stoa.dev/host@sha256:00", true),
            ("STOA.dev/host:1", true),
            (" stoa.dev/host", true),
            ("stoa.dev/hostile", false),
            ("stoa.dev/other", false),
            ("nginx", false),
        ] {
            assert_eq!(is_reserved(image), want, "{image}");
        }
    }
}
