//! Warnings of pods and of the templates from which pods are made.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::{GONE, claim, fraction, ip, node_term, old_label, spoken};
use crate::value::{at, has, int, items, pairs, path, text, texts};

/// Warnings of one pod beyond which its volumes get no more: they would not all fit into an answer's head.
const WARNINGS_LEN_MAX: usize = 256;
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const OLD_NOTES: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SECCOMP_FIELD: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Warnings of a pod, or of a template at `place`.
pub(super) fn pod(meta: &Value, spec: &Value, place: Option<&str>, out: &mut Vec<String>) {
    let prefix = place.map(|p| format!("{p}.")).unwrap_or_default();
    let (at_meta, at_spec) = (format!("{prefix}metadata"), format!("{prefix}spec"));
    let notes = at(meta, "annotations");
    nodes(spec, &at_spec, out);
    for (key, why) in OLD_NOTES.iter().filter(|(key, _)| has(notes, key)) {
        out.push(format!("{at_meta}.annotations[{key}]: {why}"));
    }
    for (i, volume) in items(spec, "volumes").enumerate() {
        self::volume(volume, &format!("{at_spec}.volumes[{i}]"), out);
    }
    for volume in items(spec, "volumes") {
        overlaps(volume, out);
    }
    let mut seen = HashSet::new();
    for (i, alias) in items(spec, "hostAliases").enumerate() {
        let address = text(alias, "ip");
        if !seen.insert(address) {
            out.push(format!("{at_spec}.hostAliases[{i}].ip: duplicate ip {address:?}"));
        }
    }
    let mut seen = HashSet::new();
    for (i, secret) in items(spec, "imagePullSecrets").enumerate() {
        let name = text(secret, "name");
        if !seen.insert(name) {
            out.push(format!("{at_spec}.imagePullSecrets[{i}].name: duplicate name {name:?}"));
        }
    }
    for (i, _) in items(spec, "imagePullSecrets").enumerate().filter(|(_, s)| text(s, "name").is_empty()) {
        out.push(format!("{at_spec}.imagePullSecrets[{i}].name: invalid empty name \"\""));
    }
    for name in ["memory", "ephemeral-storage"] {
        fraction(at(spec, "overhead"), "", name, &format!("{at_spec}.overhead"), out);
    }
    let security = at(spec, "securityContext");
    if !has(security, "seccompProfile") && has(notes, SECCOMP_POD) {
        out.push(format!("{at_meta}.annotations[{SECCOMP_POD}]: {SECCOMP_FIELD}"));
    }
    for (list, i, c) in containers(spec) {
        let own = at(c, "securityContext");
        let key = format!("{SECCOMP_CONTAINER}{}", text(c, "name"));
        if !has(own, "seccompProfile") && has(notes, &key) {
            out.push(format!("{at_meta}.annotations[{key}]: {SECCOMP_FIELD}"));
        }
        let key = format!("{APP_ARMOR}{}", text(c, "name"));
        if !has(security, "appArmorProfile") && !has(own, "appArmorProfile") && has(notes, &key) {
            out.push(format!(
                "{at_meta}.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
        container(c, &format!("{at_spec}.{list}[{i}]"), out);
    }
    ports(spec, &at_spec, out);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{at_spec}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = path(spec, &["affinity", kind]);
        for (list, inner) in [(REQUIRED, ""), (PREFERRED, ".podAffinityTerm")] {
            for (i, term) in items(affinity, list).enumerate() {
                let term = if inner.is_empty() { term } else { at(term, "podAffinityTerm") };
                if at(term, "labelSelector").is_null() {
                    out.push(format!(
                        "{at_spec}.affinity.{kind}.{list}[{i}]{inner}.labelSelector: a null labelSelector results in matching no pod"
                    ));
                }
            }
        }
    }
    for (i, alias) in items(spec, "hostAliases").enumerate() {
        ip(text(alias, "ip"), &format!("{at_spec}.hostAliases[{i}].ip"), out);
    }
    for (i, server) in texts(at(spec, "dnsConfig"), "nameservers").enumerate() {
        ip(server, &format!("{at_spec}.dnsConfig.nameservers[{i}]"), out);
    }
}

/// All containers in the order in which they are looked at.
fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(move |list| items(spec, list).enumerate().map(move |(i, c)| (list, i, c)))
}

/// What is asked of nodes by labels that have another name now.
fn nodes(spec: &Value, at_spec: &str, out: &mut Vec<String>) {
    for (key, _) in pairs(spec, "nodeSelector") {
        if let Some(why) = old_label(key) {
            out.push(format!("{at_spec}.nodeSelector[{key}]: {why}"));
        }
    }
    let affinity = path(spec, &["affinity", "nodeAffinity"]);
    let place = format!("{at_spec}.affinity.nodeAffinity");
    for (i, term) in items(at(affinity, REQUIRED), "nodeSelectorTerms").enumerate() {
        node_term(term, false, &format!("{place}.{REQUIRED}.nodeSelectorTerms[{i}]"), out);
    }
    for (i, term) in items(affinity, PREFERRED).enumerate() {
        node_term(at(term, "preference"), true, &format!("{place}.{PREFERRED}[{i}].preference"), out);
    }
    for (i, c) in items(spec, "topologySpreadConstraints").enumerate() {
        let place = format!("{at_spec}.topologySpreadConstraints[{i}]");
        let key = text(c, "topologyKey");
        if let Some(why) = old_label(key) {
            out.push(format!("{place}.topologyKey: {key} is {why}"));
        }
        if at(c, "labelSelector").is_null() {
            out.push(format!("{place}.labelSelector: a null labelSelector results in matching no pod"));
        }
    }
}

fn volume(volume: &Value, place: &str, out: &mut Vec<String>) {
    if has(volume, "gitRepo") {
        out.push(format!("{place}.gitRepo: deprecated in v1.11, and disabled by default in v1.33+"));
    }
    for (source, why) in GONE.iter().filter(|(source, _)| has(volume, source)) {
        out.push(format!("{place}.{}: {why}", spoken(source)));
    }
    let wanted = path(volume, &["ephemeral", "volumeClaimTemplate", "spec"]);
    claim(wanted, &format!("{place}.ephemeral.volumeClaimTemplate.spec"), out);
}

/// A path inside a volume, and what puts it there where that has to be told.
struct Laid {
    path: String,
    source: Option<String>,
}

impl Laid {
    fn new(path: &str, source: Option<&str>) -> Laid {
        Laid { path: path.trim_end_matches('/').to_owned(), source: source.map(str::to_owned) }
    }

    /// Whether it is the other, or lies below it.
    fn is_within(&self, other: &Laid) -> bool {
        let rest = self.path.strip_prefix(&*other.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl std::fmt::Display for Laid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{:?} ({source})", self.path),
            None => write!(f, "{:?}", self.path),
        }
    }
}

/// Files of one volume that would lie over one another.
fn overlaps(volume: &Value, out: &mut Vec<String>) {
    let name = text(volume, "name");
    for (key, what, named) in
        [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "", "")]
    {
        let source = at(volume, key);
        let what = match what {
            "" => "DownwardAPI".to_owned(),
            what => format!("{what} {:?}", text(source, named)),
        };
        let paths = items(source, "items").map(|item| Laid::new(text(item, "path"), None));
        overlap(paths.collect(), &format!("volume {name:?} ({what}): overlapping paths"), out);
    }
    let mut all = Vec::new();
    for source in items(at(volume, "projected"), "sources") {
        if source.as_object().is_some_and(serde_json::Map::is_empty) {
            out.push(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        all.extend(projected(source));
    }
    overlap(all, &format!("volume {name:?} (Projected): overlapping paths"), out);
}

/// What one source of a projected volume puts into it by name.
fn projected(source: &Value) -> Vec<Laid> {
    let (config, secret, downward) =
        (at(source, "configMap"), at(source, "secret"), at(source, "downwardAPI"));
    let of_items = |of: &Value, what: &str| -> Vec<Laid> {
        items(of, "items").map(|item| Laid::new(text(item, "path"), Some(what))).collect()
    };
    let (token, bundle) = (at(source, "serviceAccountToken"), at(source, "clusterTrustBundle"));
    let certificate = at(source, "podCertificate");
    if has(config, "items") {
        of_items(config, &format!("ConfigMap {:?}", text(config, "name")))
    } else if has(secret, "items") {
        of_items(secret, &format!("Secret {:?}", text(secret, "name")))
    } else if has(downward, "items") {
        of_items(downward, "DownwardAPI")
    } else if token.is_object() {
        vec![Laid::new(text(token, "path"), Some("ServiceAccountToken"))]
    } else if bundle.is_object() {
        let name = if has(bundle, "name") { text(bundle, "name") } else { text(bundle, "signerName") };
        vec![Laid::new(text(bundle, "path"), Some(&format!("ClusterTrustBundle {name:?}")))]
    } else {
        let parts = [
            ("certificateChainPath", "PodCertificate chain"),
            ("keyPath", "PodCertificate key"),
            ("credentialBundlePath", "PodCertificate credential bundle"),
        ];
        let named = parts.iter().filter(|(key, _)| !text(certificate, key).is_empty());
        named.map(|(key, what)| Laid::new(text(certificate, key), Some(what))).collect()
    }
}

/// Says of every path which of those before it it meets: it is the same, lies below it, or that one below this. In the order of
/// their parts whatever lies below a path follows it, so that none is compared with all.
fn overlap(paths: Vec<Laid>, why: &str, out: &mut Vec<String>) {
    let mut order: Vec<usize> = (0..paths.len()).filter(|i| !paths[*i].path.is_empty()).collect();
    order.sort_by(|a, b| paths[*a].path.split('/').cmp(paths[*b].path.split('/')).then(a.cmp(b)));
    // For each place in that order: where those like it begin, the nearest above them, and the end of what is below.
    let mut spans: Vec<(usize, Option<usize>, usize)> = Vec::with_capacity(order.len());
    let mut above: Vec<usize> = Vec::new();
    for (place, i) in order.iter().enumerate() {
        while let Some(last) = above.pop_if(|last| !paths[*i].is_within(&paths[order[*last]])) {
            spans[last].2 = place;
        }
        match above.last().copied() {
            Some(last) if paths[order[last]].path == paths[*i].path => spans.push((last, spans[last].1, 0)),
            last => {
                spans.push((place, last, order.len()));
                above.push(place);
            }
        }
    }
    let mut place_of = vec![None; paths.len()];
    order.iter().enumerate().for_each(|(place, i)| place_of[*i] = Some(place));
    // Of the places that came so far, and of those like them.
    let mut come: BTreeSet<usize> = BTreeSet::new();
    let mut like: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, path) in paths.iter().enumerate() {
        let Some(place) = place_of[i] else { continue };
        let (first, mut parent, _) = spans[place];
        let room = WARNINGS_LEN_MAX.saturating_sub(out.len());
        let mut met: Vec<usize> = come.range(first..spans[first].2).map(|p| order[*p]).collect();
        while let Some(at) = parent {
            met.extend(like.get(&at).into_iter().flatten());
            parent = spans[at].1;
        }
        met.sort_unstable();
        out.extend(met.iter().take(room).map(|other| format!("{why}: {path} with {}", paths[*other])));
        if out.len() >= WARNINGS_LEN_MAX {
            return;
        }
        come.insert(place);
        like.entry(first).or_default().push(i);
    }
}

fn container(c: &Value, place: &str, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for side in ["limits", "requests"] {
            fraction(at(c, "resources"), side, name, &format!("{place}.resources"), out);
        }
    }
    let mut names = HashSet::new();
    for (i, var) in items(c, "env").enumerate() {
        let (name, value) = (text(var, "name"), text(var, "value"));
        let own = format!("$({name})");
        let extends = !has(var, "valueFrom") && value != own && value.contains(&own);
        if !names.insert(name) && !extends {
            out.push(format!(
                "{place}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// A port that is named twice does nothing the second time, or nobody knows what.
fn ports(spec: &Value, at_spec: &str, out: &mut Vec<String>) {
    let mut seen: Vec<(String, &Value)> = Vec::new();
    for (list, i, c) in containers(spec) {
        for (j, port) in items(c, "ports").enumerate() {
            let place = format!("{at_spec}.{list}[{i}].ports[{j}]");
            let host = |p: &Value| int(p, "hostPort").unwrap_or(0);
            let (ip, number) = (text(port, "hostIP"), host(port));
            if !ip.is_empty() && number == 0 {
                out.push(format!(
                    "{place}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                    text(port, "name"),
                    int(port, "containerPort").unwrap_or(0),
                    text(port, "protocol"),
                ));
            }
            let same = |p: &Value| ["containerPort", "protocol"].iter().all(|k| at(p, k) == at(port, k));
            for (first, other) in seen.iter().filter(|(_, p)| same(p)) {
                let other_ip = text(other, "hostIP");
                let how = if ip == other_ip && number == host(other) {
                    "duplicate"
                } else if number == 0 || host(other) == 0 {
                    "overlapping"
                } else if number == host(other) && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                out.push(format!("{place}: {how} port definition with {first}"));
            }
            let name = text(port, "name");
            if let Some((first, _)) = seen.iter().find(|(_, p)| !name.is_empty() && text(p, "name") == name) {
                out.push(format!("{place}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"));
            }
            seen.push((place, port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every path compared with every other one says.
    fn plainly(paths: &[&str]) -> Vec<String> {
        let laid: Vec<Laid> = paths.iter().map(|p| Laid::new(p, None)).collect();
        let mut out = Vec::new();
        for (i, path) in laid.iter().enumerate().filter(|(_, p)| !p.path.is_empty()) {
            let before = laid[..i].iter().filter(|o| !o.path.is_empty());
            let met = before.filter(|o| path.is_within(o) || o.is_within(path));
            out.extend(met.map(|other| format!("w: {path} with {other}")));
        }
        out.truncate(WARNINGS_LEN_MAX);
        out
    }

    #[test]
    fn paths_that_meet_are_told_in_their_order_however_many_there_are() {
        let parts = ["a", "ab", "a/b", "a/b/c", "a.b", "", "b/", "a/bc", "a/b", "b/x/y", "a0"];
        let mut seed = 7_usize;
        for len in 0..40 {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                parts[(seed >> 33) % parts.len()]
            };
            let paths: Vec<&str> = (0..len).map(|_| next()).collect();
            let mut out = Vec::new();
            overlap(paths.iter().map(|p| Laid::new(p, None)).collect(), "w", &mut out);
            assert_eq!(out, plainly(&paths), "{paths:?}");
        }
        // Beyond the first hundreds too.
        let names: Vec<String> =
            (0..20_000).map(|n| format!("d{n}")).chain(["d19999/x".to_owned()]).collect();
        let mut out = Vec::new();
        overlap(names.iter().map(|p| Laid::new(p, None)).collect(), "w", &mut out);
        assert_eq!(out, ["w: \"d19999/x\" with \"d19999\""]);
    }
}
