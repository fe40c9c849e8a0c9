//! Label and field selectors over stored bytes. Only as much of an object is parsed as the selector asks for, and the
//! parse stops where the answer is known.

mod seek;

use bytes::Bytes;
use seek::{labels_of, text_at};
use std::cell::RefCell;
use std::collections::BTreeMap;
use stoa_kube::{Resource, Status};
use stoa_store::Key;
use stoa_units::{FieldSelector, LabelSelector, Operator};

/// What a list or watch selects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    field: Field,
    value: String,
    operator: Operator,
}

/// Where a selectable field is found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Name,
    Namespace,
    /// The first path that leads to a value counts; else the default.
    At(&'static [&'static [&'static str]], &'static str),
}

impl Selection {
    /// Reads both selectors' text forms; empty text selects everything.
    pub fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Selection, Status> {
        let labels = LabelSelector::parse(labels).map_err(|e| Status::bad_request(e.to_string()))?;
        let parsed = FieldSelector::parse(fields).map_err(|e| Status::bad_request(e.to_string()))?;
        let mut terms = Vec::with_capacity(parsed.0.len());
        for term in parsed.0 {
            let field = field(resource, &term.field)
                .ok_or_else(|| Status::bad_request(unsupported(resource, &term.field)))?;
            terms.push(Term { field, value: term.value, operator: term.operator });
        }
        Ok(Selection { labels, fields: terms })
    }

    /// Whether both texts can be read, whatever fields the kind has: that is asked later.
    pub fn check_syntax(labels: &str, fields: &str) -> Result<(), Status> {
        LabelSelector::parse(labels).map_err(|e| Status::bad_request(e.to_string()))?;
        FieldSelector::parse(fields).map_err(|e| Status::bad_request(e.to_string()))?;
        Ok(())
    }

    /// Only labels.
    pub fn labels(labels: LabelSelector) -> Selection {
        Selection { labels, fields: Vec::new() }
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// The only name that can match, if the selector says so.
    pub fn single_name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|t| t.field == Field::Name && t.operator == Operator::In)
            .map(|t| t.value.as_str())
    }

    /// Whether the stored object is selected.
    pub fn matches(&self, key: &Key, bytes: &[u8]) -> bool {
        self.matches_fields(key, bytes)
            && (self.labels.is_everything() || self.labels.matches(&labels_of(bytes)))
    }

    /// The same, of an object that many ask about one after the other: its labels are read once.
    pub(crate) fn matches_shared(&self, key: &Key, bytes: &Bytes) -> bool {
        if !self.matches_fields(key, bytes) {
            return false;
        }
        self.labels.is_everything() || LAST.with_borrow_mut(|last| self.labels.matches(last.labels_of(bytes)))
    }

    fn matches_fields(&self, key: &Key, bytes: &[u8]) -> bool {
        self.fields.iter().all(|t| {
            let equal = match t.field {
                Field::Name => key.name() == t.value,
                Field::Namespace => key.namespace() == t.value,
                Field::At(paths, default) => {
                    let found = paths.iter().find_map(|p| text_at(bytes, p));
                    found.as_deref().unwrap_or(default) == t.value
                }
            };
            equal == (t.operator == Operator::In)
        })
    }
}

thread_local! {
    static LAST: RefCell<Read> = RefCell::default();
}

/// The labels of the two objects that a thread was last asked about (what a change made of which), and the objects themselves,
/// so that nothing else can take their place in memory meanwhile.
#[derive(Default)]
struct Read([(Bytes, BTreeMap<String, String>); 2]);

impl Read {
    fn labels_of(&mut self, object: &Bytes) -> &BTreeMap<String, String> {
        let is_it = |known: &Bytes| known.as_ptr() == object.as_ptr() && known.len() == object.len();
        if !is_it(&self.0[0].0) {
            self.0.swap(0, 1);
            if !is_it(&self.0[0].0) {
                self.0[0] = (object.clone(), labels_of(object));
            }
        }
        &self.0[0].1
    }
}

fn field(resource: &Resource, name: &str) -> Option<Field> {
    match name {
        "metadata.name" => return Some(Field::Name),
        // What is in no namespace has none to be selected by, where the kind says itself by what it is selected.
        "metadata.namespace" if resource.namespaced || !has_own_fields(resource) => {
            return Some(Field::Namespace);
        }
        _ => {}
    }
    let at: (&'static [&'static [&'static str]], &'static str) =
        match (resource.storage, resource.plural, name) {
            ("", "pods", "spec.nodeName" | "spec.host") => (&[&["spec", "nodeName"]], ""),
            ("", "pods", "spec.restartPolicy") => (&[&["spec", "restartPolicy"]], ""),
            ("", "pods", "spec.schedulerName") => (&[&["spec", "schedulerName"]], ""),
            ("", "pods", "spec.serviceAccountName") => (&[&["spec", "serviceAccountName"]], ""),
            ("", "pods", "spec.hostNetwork") => (&[&["spec", "hostNetwork"]], "false"),
            ("", "pods", "status.phase") => (&[&["status", "phase"]], ""),
            ("", "pods", "status.podIP" | "status.podIPs") => (&[&["status", "podIP"]], ""),
            ("", "pods", "status.nominatedNodeName") => (&[&["status", "nominatedNodeName"]], ""),
            ("", "nodes", "spec.unschedulable") => (&[&["spec", "unschedulable"]], "false"),
            ("", "replicationcontrollers", "status.replicas") => (&[&["status", "replicas"]], "0"),
            ("", "namespaces", "status.phase") => (&[&["status", "phase"]], ""),
            ("", "secrets", "type") => (&[&["type"]], ""),
            ("", "services", "spec.clusterIP") => (&[&["spec", "clusterIP"]], ""),
            ("", "services", "spec.type") => (&[&["spec", "type"]], ""),
            ("batch", "jobs", "status.successful") => (&[&["status", "succeeded"]], "0"),
            ("certificates.k8s.io", "certificatesigningrequests", "spec.signerName") => {
                (&[&["spec", "signerName"]], "")
            }
            ("resource.k8s.io", "resourceslices", "spec.nodeName") => (&[&["spec", "nodeName"]], ""),
            ("resource.k8s.io", "resourceslices", "spec.driver") => (&[&["spec", "driver"]], ""),
            ("", "events", _) => event_field(resource, name)?,
            _ => return None,
        };
    Some(Field::At(at.0, at.1))
}

/// Events are stored in their core form; the newer group calls `involvedObject` `regarding`.
fn event_field(
    resource: &Resource,
    name: &str,
) -> Option<(&'static [&'static [&'static str]], &'static str)> {
    let core = resource.group.is_empty();
    let object = if core { "involvedObject." } else { "regarding." };
    if let Some(part) = name.strip_prefix(object) {
        return Some(match part {
            "kind" => (&[&["involvedObject", "kind"]], ""),
            "namespace" => (&[&["involvedObject", "namespace"]], ""),
            "name" => (&[&["involvedObject", "name"]], ""),
            "uid" => (&[&["involvedObject", "uid"]], ""),
            "apiVersion" => (&[&["involvedObject", "apiVersion"]], ""),
            "resourceVersion" => (&[&["involvedObject", "resourceVersion"]], ""),
            "fieldPath" => (&[&["involvedObject", "fieldPath"]], ""),
            _ => return None,
        });
    }
    Some(match name {
        "reason" => (&[&["reason"]], ""),
        "type" => (&[&["type"]], ""),
        "reportingComponent" if core => (&[&["reportingComponent"]], ""),
        "reportingController" if !core => (&[&["reportingComponent"]], ""),
        "source" if core => (&[&["source", "component"], &["reportingComponent"]], ""),
        _ => return None,
    })
}

/// Kinds that are selected by fields of their own, which a stock server lists itself.
fn has_own_fields(resource: &Resource) -> bool {
    matches!(
        (resource.group, resource.plural),
        ("", "pods" | "nodes" | "replicationcontrollers" | "events" | "namespaces" | "secrets" | "services",)
            | ("events.k8s.io", "events")
            | ("certificates.k8s.io", "certificatesigningrequests")
            | ("batch", "jobs")
            | ("resource.k8s.io", "resourceslices")
    )
}

/// The stock server's wording, which depends on whether the kind has selectable fields of its own.
fn unsupported(resource: &Resource, name: &str) -> String {
    match resource.plural {
        _ if !has_own_fields(resource) => {
            format!("{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        "jobs" => format!("field label {name:?} not supported for Job"),
        "resourceslices" => {
            let kind = format!("{}, Kind={}", resource.api_version(), resource.kind);
            format!("field label not supported for {kind}: {name}")
        }
        _ => format!("field label not supported: {name}"),
    }
}

#[cfg(test)]
mod tests;
