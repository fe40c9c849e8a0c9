//! Which resources a stock v1.36 server serves: names, verbs, subresources and the order of discovery, from
//! `data/resources.tsv`. The registry is parsed once and lives for the process.

use base64::Engine;
use sha2::Digest;
use std::collections::HashMap;
use std::sync::OnceLock;

const RESOURCES_TSV: &str = include_str!("../data/resources.tsv");

/// A resource as discovery lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version within the group.
    pub version: &'static str,
    /// The plural in paths: `pods`.
    pub plural: &'static str,
    /// The kind in bodies: `Pod`.
    pub kind: &'static str,
    /// The kind of a list of it: `PodList`.
    pub list_kind: &'static str,
    /// The singular that kubectl accepts: `pod`.
    pub singular: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Abbreviations that kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Groupings such as `all`.
    pub categories: &'static [&'static str],
    /// What may be done, sorted.
    pub verbs: &'static [&'static str],
    /// What lies below an object's path.
    pub subresources: &'static [Subresource],
    /// The group of the stored form: events of both groups are one store entry, kept in the core form.
    pub storage: &'static str,
    /// The version of the stored form within [`Resource::storage`].
    pub storage_version: &'static str,
}

/// A path below an object, such as `status`.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Its name without the parent: `status`.
    pub name: &'static str,
    /// The kind of its bodies.
    pub kind: &'static str,
    /// The group of that kind.
    pub group: &'static str,
    /// The version of that kind.
    pub version: &'static str,
    /// What may be done, sorted.
    pub verbs: &'static [&'static str],
}

/// A group and version; the group is empty for core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupVersion {
    /// The API group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
}

impl std::fmt::Display for GroupVersion {
    /// The form of `apiVersion`: `v1`, `apps/v1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group {
            "" => f.write_str(self.version),
            group => write!(f, "{group}/{}", self.version),
        }
    }
}

impl Resource {
    /// The form of `apiVersion`: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// Its group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group, version: self.version }
    }

    /// The group and version in which it is stored.
    pub fn storage_group_version(&self) -> GroupVersion {
        GroupVersion { group: self.storage, version: self.storage_version }
    }

    /// Whether the stored form is another than the served one, so that bytes must be converted on the way.
    pub fn is_converted(&self) -> bool {
        self.group_version() != self.storage_group_version()
    }

    /// By what clients tell that the stored form has changed, as discovery shows it; none for what is not stored.
    pub fn storage_hash(&self) -> Option<String> {
        let of = format!("{}/{}/{}", self.storage, self.storage_version, self.kind);
        let hash = sha2::Sha256::digest(of.as_bytes());
        self.has_verb("update").then(|| base64::engine::general_purpose::STANDARD.encode(&hash[..8]))
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether the verb is served.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// `deployments.apps`, or just `pods` in the core group: how messages name a resource.
    pub fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }

    /// `Deployment.apps`, or just `Pod` in the core group: how messages name a kind.
    pub fn qualified_kind(&self) -> String {
        qualify(self.kind, self.group)
    }
}

pub(crate) fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// All resources, in discovery order.
#[derive(Debug)]
pub struct Resources {
    all: Vec<Resource>,
    by_plural: HashMap<(&'static str, &'static str, &'static str), usize>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), usize>,
    group_versions: Vec<GroupVersion>,
}

/// The built-in resources.
pub fn resources() -> &'static Resources {
    static REGISTRY: OnceLock<Resources> = OnceLock::new();
    REGISTRY.get_or_init(|| Resources::parse(RESOURCES_TSV))
}

impl Resources {
    fn parse(text: &'static str) -> Resources {
        let rows: Vec<Vec<&'static str>> = text
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty())
            .skip(1)
            .map(|l| l.split('\t').collect())
            .collect();
        let mut all: Vec<Resource> = Vec::new();
        let mut index = 0;
        while index < rows.len() {
            let parent = &rows[index];
            let below = rows[index + 1..].iter().take_while(|r| is_subresource_of(r, parent)).count();
            let subs = rows[index + 1..=index + below].iter().map(|r| subresource(r)).collect::<Vec<_>>();
            all.push(resource(parent, leak(subs)));
            index += below + 1;
        }
        let by_plural = all.iter().enumerate().map(|(i, r)| ((r.group, r.version, r.plural), i)).collect();
        let by_kind = all.iter().enumerate().map(|(i, r)| ((r.group, r.version, r.kind), i)).collect();
        let mut group_versions: Vec<GroupVersion> = Vec::new();
        for r in &all {
            if !group_versions.contains(&r.group_version()) {
                group_versions.push(r.group_version());
            }
        }
        Resources { all, by_plural, by_kind, group_versions }
    }

    /// The resource at that path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.by_plural.get(&(group, version, plural)).and_then(|i| self.all.get(*i))
    }

    /// The resource whose objects are of that kind.
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.by_kind.get(&(group, version, kind)).and_then(|i| self.all.get(*i))
    }

    /// The resource of that kind, by an object's `apiVersion`.
    pub fn find_object(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.find_kind(group, version, kind)
    }

    /// The resource in the version that is stored, whatever version is asked for.
    pub fn find_stored(&self, group: &str, plural: &str) -> Option<&Resource> {
        let any = self.all.iter().find(|r| r.group == group && r.plural == plural)?;
        self.find(any.storage, any.storage_version, plural)
    }

    /// All of them, in discovery order.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.all.iter()
    }

    /// The group-versions in discovery order; of a group with several, the preferred one first.
    pub fn group_versions(&self) -> &[GroupVersion] {
        &self.group_versions
    }
}

fn is_subresource_of(row: &[&str], parent: &[&str]) -> bool {
    row[0] == parent[0]
        && row[1] == parent[1]
        && row[2].split_once('/').is_some_and(|(plural, _)| plural == parent[2])
}

fn resource(row: &[&'static str], subresources: &'static [Subresource]) -> Resource {
    let (group, version, plural, kind) = (row[0], row[1], row[2], row[3]);
    let (storage, storage_version) = match (group, version, plural) {
        ("events.k8s.io", _, "events") => ("", "v1"),
        ("autoscaling", _, "horizontalpodautoscalers") => ("autoscaling", "v2"),
        _ => (group, version),
    };
    Resource {
        group,
        version,
        plural,
        kind,
        list_kind: Box::leak(format!("{kind}List").into_boxed_str()),
        singular: row[6],
        namespaced: row[5] == "true",
        short_names: words(row[7]),
        categories: words(row[8]),
        verbs: words(row[9]),
        subresources,
        storage,
        storage_version,
    }
}

fn subresource(row: &[&'static str]) -> Subresource {
    let (group, version) = match row[4] {
        "" => (row[0], row[1]),
        other => other.split_once('/').unwrap_or(("", other)),
    };
    let name = row[2].split_once('/').map_or("", |(_, name)| name);
    Subresource { name, kind: row[3], group, version, verbs: words(row[9]) }
}

fn words(text: &'static str) -> &'static [&'static str] {
    if text.is_empty() { &[] } else { leak(text.split(',').collect()) }
}

// The registry is built once and never dropped; leaking its small lists lets a `Resource` be plain borrowed data.
fn leak<T>(list: Vec<T>) -> &'static [T] {
    Box::leak(list.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_holds_what_a_stock_server_lists() {
        let all = resources();
        assert_eq!(all.iter().count(), 68);
        assert_eq!(all.iter().map(|r| r.subresources.len()).sum::<usize>(), 45);
        assert_eq!(all.group_versions().len(), 22);
        let pods = all.find("", "v1", "pods").expect("pods");
        assert_eq!(
            (pods.kind, pods.list_kind, pods.short_names, pods.categories),
            ("Pod", "PodList", &["po"][..], &["all"][..])
        );
        let eviction = pods.subresource("eviction").expect("eviction");
        assert_eq!((eviction.kind, eviction.group, eviction.version), ("Eviction", "policy", "v1"));
        assert!(!all.find("", "v1", "namespaces").expect("namespaces").has_verb("deletecollection"));
    }

    #[test]
    fn events_and_autoscalers_share_one_stored_form() {
        let all = resources();
        let event = all.find("events.k8s.io", "v1", "events").expect("events");
        assert!(event.is_converted());
        assert_eq!(all.find_stored("events.k8s.io", "events"), all.find("", "v1", "events"));
        assert_eq!(all.find_stored("autoscaling", "horizontalpodautoscalers").map(|r| r.version), Some("v2"));
        assert_eq!(
            all.find("apps", "v1", "deployments").expect("deployments").qualified(),
            "deployments.apps"
        );
    }

    #[test]
    fn the_stored_form_has_a_stock_servers_hash() {
        let hash = |group, version, plural| {
            resources().find(group, version, plural).expect("a resource").storage_hash()
        };
        assert_eq!(hash("", "v1", "pods").as_deref(), Some("xPOwRZ+Yhw8="));
        assert_eq!(hash("apps", "v1", "deployments").as_deref(), Some("8aSe+NMegvE="));
        assert_eq!(hash("events.k8s.io", "v1", "events").as_deref(), Some("r2yiGXH7wu8="));
        assert_eq!(hash("", "v1", "bindings"), None);
    }
}
