//! Pod security standards, by the labels of a namespace and by what the operator has configured: `enforce` refuses, `warn`
//! tells the user, `audit` is noted for whoever keeps the record.

mod rules;

use serde_json::Value;
use stoa_kube::{Cause, Status};

use crate::policy::{Level, LevelVersion, Levels, PodSecurity, Version};
use crate::value::{NULL, at, flag, has, items, path, text};
use crate::{Operation, Request, World};
use rules::violations;

/// What annotations of this plugin begin with, and labels that set a namespace's levels.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// Pods that are looked at when a namespace becomes stricter.
const PODS_MAX: usize = 3000;

/// Subresources of a pod that change nothing that is judged.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub(super) fn check(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if request.operation == Operation::Delete {
        return Ok(());
    }
    let is_pod = request.is_on("", "pods");
    if !request.is_main() && (!is_pod || IGNORED.contains(&request.subresource)) {
        return Ok(());
    }
    if request.is_on("", "namespaces") {
        return namespace(request, object, old, world, warnings);
    }
    let (meta, spec) = match (request.resource.group, request.resource.plural) {
        ("", "pods") => (at(object, "metadata"), at(object, "spec")),
        ("", "podtemplates") => {
            (path(object, &["template", "metadata"]), path(object, &["template", "spec"]))
        }
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => {
            (path(object, &["spec", "template", "metadata"]), path(object, &["spec", "template", "spec"]))
        }
        ("batch", "cronjobs") => {
            let job = path(object, &["spec", "jobTemplate", "spec", "template"]);
            (at(job, "metadata"), at(job, "spec"))
        }
        _ => return Ok(()),
    };
    let config = &request.policy.pod_security;
    let note = |key: &str, value: String| request.note(format!("{PREFIX}{key}"), value);
    if config.exempts_namespace(request.namespace) {
        note("exempt", "namespace".to_owned());
        return Ok(());
    }
    if config.exempts_user(request.user.name) {
        note("exempt", "user".to_owned());
        return Ok(());
    }
    let Some(namespace) = world.namespace(request.namespace) else { return Ok(()) };
    let (levels, faults) = levels(path(&namespace, &["metadata", "labels"]), config.defaults);
    let quiet = levels.audit.level == Level::Privileged && levels.warn.level == Level::Privileged;
    if faults.is_empty() && quiet && (!is_pod || levels.enforce.level == Level::Privileged) {
        if is_pod {
            note("enforce-policy", levels.enforce.to_string());
        }
        return Ok(());
    }
    // A change that brings in nothing to run is not judged again.
    if is_pod && old.is_some_and(|o| !brings_in(at(o, "spec"), spec)) {
        return Ok(());
    }
    if config.exempts_runtime_class(text(spec, "runtimeClassName")) {
        note("exempt", "runtimeClass".to_owned());
        return Ok(());
    }
    if !faults.is_empty() {
        let all: Vec<&str> = faults.iter().map(|c| c.message.as_str()).collect();
        note("error", format!("Failed to parse policy: {}", all.join(", ")));
    }
    let objections = |policy: LevelVersion| {
        let all = violations(meta, spec, policy.level, policy.version);
        (!all.is_empty()).then(|| format!("PodSecurity {:?}: {}", policy.to_string(), all.join(", ")))
    };
    if let Some(why) = objections(levels.audit) {
        note("audit-violations", format!("would violate {why}"));
    }
    if is_pod {
        note("enforce-policy", levels.enforce.to_string());
        if let Some(why) = objections(levels.enforce) {
            return Err(Status::forbidden(request.resource, request.name, &format!("violates {why}")));
        }
    }
    if let Some(why) = objections(levels.warn) {
        warnings.push(format!("would violate {why}"));
    }
    Ok(())
}

/// Whether a change of a pod brings in a container or an image.
fn brings_in(old: &Value, new: &Value) -> bool {
    let image = |c: &Value| text(c, "image").to_owned();
    let differs = |list: &str| {
        let (was, is): (Vec<_>, Vec<_>) =
            (items(old, list).map(image).collect(), items(new, list).map(image).collect());
        was != is
    };
    let ephemeral = |c: &Value| {
        let same = items(old, "ephemeralContainers").find(|o| text(o, "name") == text(c, "name"));
        same.is_none_or(|o| image(o) != image(c))
    };
    ["containers", "initContainers"].into_iter().any(differs)
        || items(new, "ephemeralContainers").any(ephemeral)
}

/// The levels of a namespace: its labels' where it has them, else the cluster's. What cannot be read is refused where it would
/// enforce, and passed over where it would only tell.
fn levels(labels: &Value, defaults: Levels) -> (Levels, Vec<Cause>) {
    let mut causes = Vec::new();
    let mut read = |mode: &str, default: LevelVersion, unreadable: Level| {
        let mut policy = default;
        let (level, version) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        let mut fault = |key: &str, why: &str| {
            causes.push(Cause::invalid(format!("metadata.labels[{key}]"), text(labels, key), why));
        };
        if has(labels, &level) {
            policy.level = Level::parse(text(labels, &level)).unwrap_or_else(|why| {
                fault(&level, why);
                unreadable
            });
        }
        if has(labels, &version) {
            policy.version = Version::parse(text(labels, &version)).unwrap_or_else(|why| {
                fault(&version, why);
                Version::Latest
            });
        }
        policy
    };
    let levels = Levels {
        // A slip of the pen must not open a namespace.
        enforce: read("enforce", defaults.enforce, Level::Restricted),
        audit: read("audit", defaults.audit, Level::Privileged),
        warn: read("warn", defaults.warn, Level::Privileged),
    };
    (levels, causes)
}

/// Levels must be known; and what would no longer be let in is told of.
fn namespace(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let config = &request.policy.pod_security;
    let labels = |o: &Value| levels(path(o, &["metadata", "labels"]), config.defaults);
    let (new, causes) = labels(object);
    let (was, before) = labels(old.unwrap_or(&NULL));
    if !causes.is_empty() && before != causes {
        return Err(Status::invalid_object(request.resource, request.name, causes));
    }
    let (new, was) = (new.enforce, was.enforce);
    let relaxed = new.version == was.version && new.level <= was.level;
    if old.is_none() || new.level == Level::Privileged || relaxed || config.exempts_namespace(request.name) {
        return Ok(());
    }
    warnings.extend(existing(&world.list("", "pods", request.name), request.name, new, config));
    Ok(())
}

/// What is said of pods that a stricter policy would not let in. Of the pods of one controller the first is looked at first: they
/// are most likely alike.
fn existing(pods: &[Value], namespace: &str, policy: LevelVersion, config: &PodSecurity) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let (mut first, mut alike) = (Vec::new(), Vec::new());
    for pod in pods {
        if config.exempts_runtime_class(path(pod, &["spec", "runtimeClassName"]).as_str().unwrap_or_default())
        {
            continue;
        }
        let owners = items(at(pod, "metadata"), "ownerReferences");
        let controller = owners.filter(|o| flag(o, "controller")).map(|o| text(o, "uid")).next();
        if controller.is_none_or(|uid| seen.insert(uid)) { first.push(pod) } else { alike.push(pod) }
    }
    first.extend(alike);
    let mut warnings = Vec::new();
    if first.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            first.len()
        ));
    }
    let mut offending: Vec<(String, Vec<&str>)> = Vec::new();
    for pod in first.into_iter().take(PODS_MAX) {
        let faults = violations(at(pod, "metadata"), at(pod, "spec"), policy.level, policy.version);
        if faults.is_empty() {
            continue;
        }
        let brief: Vec<&str> = faults.iter().map(|f| f.split(" (").next().unwrap_or(f)).collect();
        let (name, brief) = (text(at(pod, "metadata"), "name"), brief.join(", "));
        match offending.iter_mut().find(|(b, _)| *b == brief) {
            Some((_, pods)) => pods.push(name),
            None => offending.push((brief, vec![name])),
        }
    }
    if !offending.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
            policy.to_string()
        ));
    }
    let mut lines: Vec<String> = offending
        .into_iter()
        .map(|(brief, mut pods)| {
            pods.sort_unstable();
            let others = match pods.len() - 1 {
                0 => String::new(),
                1 => " (and 1 other pod)".to_owned(),
                n => format!(" (and {n} other pods)"),
            };
            format!("{}{others}: {brief}", pods[0])
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}
