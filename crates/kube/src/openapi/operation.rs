//! Paths and operations of a resource. kubectl looks here whether a server knows `fieldValidation` and `dryRun`; generators
//! look here for everything.

use super::{Dialect, definition};
use crate::resource::{Resource, Subresource};
use crate::schema;
use serde_json::{Map, Value, json};

const BODIES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WATCHES: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

const LIST: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const FORCE: [(&str, &str); 1] = [("force", "boolean")];
const DELETE: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    List,
    Create,
    DeleteCollection,
    Read,
    Replace,
    Patch,
    Delete,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Create => "create",
            Action::DeleteCollection => "deletecollection",
            Action::Read => "get",
            Action::Replace => "update",
            Action::Patch => "patch",
            Action::Delete => "delete",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Action::List | Action::Read => "get",
            Action::Create => "post",
            Action::DeleteCollection | Action::Delete => "delete",
            Action::Replace => "put",
            Action::Patch => "patch",
        }
    }

    /// The value of `x-kubernetes-action`.
    fn label(self) -> &'static str {
        match self {
            Action::List | Action::DeleteCollection => self.verb(),
            Action::Create => "post",
            Action::Replace => "put",
            Action::Read | Action::Patch | Action::Delete => self.method(),
        }
    }

    /// The first word of the operation's id.
    fn word(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Create => "create",
            Action::DeleteCollection | Action::Delete => "delete",
            Action::Read => "read",
            Action::Replace => "replace",
            Action::Patch => "patch",
        }
    }

    fn parameters(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Action::List => LIST.to_vec(),
            Action::Create | Action::Replace => WRITE.to_vec(),
            Action::Patch => [&WRITE[..], &FORCE[..]].concat(),
            Action::Delete => DELETE.to_vec(),
            Action::DeleteCollection => {
                // Both lists have a timeout and such only once.
                [&DELETE[..], &LIST[..]]
                    .concat()
                    .into_iter()
                    .filter(|(n, _)| !matches!(*n, "allowWatchBookmarks" | "watch"))
                    .collect()
            }
            Action::Read => Vec::new(),
        }
    }
}

/// The kind that a path's bodies are of.
#[derive(Clone, Copy)]
struct Body<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl Body<'_> {
    fn definition(self) -> Option<String> {
        schema::builtin().type_of_kind(self.group, self.version, self.kind).map(definition::name)
    }
}

/// Everything that one operation is written from.
struct Operation<'a> {
    resource: &'a Resource,
    action: Action,
    body: Body<'a>,
    /// The end of the operation's id: `NamespacedPodStatus`.
    id_tail: String,
    dialect: Dialect,
}

/// The paths of a resource and its subresources, each with its operations.
pub(super) fn paths(resource: &Resource, dialect: Dialect) -> Vec<(String, Value)> {
    let root = format!("/{}", super::v3_path(resource.group_version()));
    let (scope, id_scope) =
        if resource.namespaced { ("/namespaces/{namespace}", "Namespaced") } else { ("", "") };
    let body = Body { group: resource.group, version: resource.version, kind: resource.kind };
    let item = |actions: &[Action], verbs: &[&str], body: Body<'_>, id_tail: String, names: &[&str]| {
        let mut map = Map::new();
        for action in actions.iter().filter(|a| verbs.contains(&a.verb())) {
            let tail = if *action == Action::DeleteCollection {
                format!("Collection{id_tail}")
            } else {
                id_tail.clone()
            };
            let operation = Operation { resource, action: *action, body, id_tail: tail, dialect };
            map.insert(action.method().to_owned(), operation.write());
        }
        if !map.is_empty() {
            let mut parameters: Vec<Value> = names.iter().map(|n| path_parameter(n, dialect)).collect();
            parameters.push(query_parameter("pretty", "string", dialect));
            map.insert("parameters".to_owned(), Value::Array(parameters));
        }
        map
    };
    let names: &[&str] = if resource.namespaced { &["name", "namespace"] } else { &["name"] };
    let collection_names: &[&str] = if resource.namespaced { &["namespace"] } else { &[] };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let tail = format!("{id_scope}{}", resource.kind);
    let mut out = Vec::new();
    let mut push = |path: String, map: Map<String, Value>| {
        if !map.is_empty() {
            out.push((path, Value::Object(map)));
        }
    };
    let on_collection = [Action::List, Action::Create, Action::DeleteCollection];
    push(collection.clone(), item(&on_collection, resource.verbs, body, tail.clone(), collection_names));
    let on_object = [Action::Read, Action::Replace, Action::Patch, Action::Delete];
    push(format!("{collection}/{{name}}"), item(&on_object, resource.verbs, body, tail.clone(), names));
    if resource.namespaced {
        let everywhere = format!("{}ForAllNamespaces", resource.kind);
        push(
            format!("{root}/{}", resource.plural),
            item(&[Action::List], resource.verbs, body, everywhere, &[]),
        );
    }
    for sub in resource.subresources {
        let actions = [Action::Read, Action::Create, Action::Replace, Action::Patch, Action::Delete];
        let map = item(&actions, sub.verbs, body_of(sub), format!("{tail}{}", capital(sub.name)), names);
        push(format!("{collection}/{{name}}/{}", sub.name), map);
    }
    out
}

fn body_of(sub: &Subresource) -> Body<'_> {
    Body { group: sub.group, version: sub.version, kind: sub.kind }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

fn group_words(group: &str) -> Vec<&str> {
    if group.is_empty() { vec!["core"] } else { group.trim_end_matches(".k8s.io").split('.').collect() }
}

fn query_parameter(name: &str, kind: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({"name": name, "in": "query", "type": kind, "uniqueItems": true}),
        Dialect::V3 => json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}}),
    }
}

fn path_parameter(name: &str, dialect: Dialect) -> Value {
    let mut parameter = query_parameter(name, "string", dialect);
    parameter["in"] = json!("path");
    parameter["required"] = json!(true);
    parameter
}

impl Operation<'_> {
    fn write(&self) -> Value {
        let words = group_words(self.resource.group);
        let group: String = words.iter().map(|w| capital(w)).collect();
        let tag = words.iter().enumerate().map(|(i, w)| if i == 0 { (*w).to_owned() } else { capital(w) });
        let mut parameters: Vec<Value> =
            self.action.parameters().iter().map(|(n, t)| query_parameter(n, t, self.dialect)).collect();
        let mut out = json!({
            "operationId": format!("{}{group}{}{}", self.action.word(), capital(self.resource.version), self.id_tail),
            "tags": [format!("{}_{}", tag.collect::<String>(), self.resource.version)],
            "x-kubernetes-action": self.action.label(),
            "x-kubernetes-group-version-kind": {"group": self.body.group, "version": self.body.version, "kind": self.body.kind},
        });
        if let Some((name, media, required)) = self.request() {
            match self.dialect {
                Dialect::V2 => {
                    parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": self.dialect.reference(&name)}));
                    out["consumes"] = json!(media);
                }
                Dialect::V3 => {
                    out["requestBody"] = json!({"required": required, "content": self.content(media, &name)})
                }
            }
        }
        if !parameters.is_empty() {
            out["parameters"] = Value::Array(parameters);
        }
        out["responses"] = self.responses();
        if self.dialect == Dialect::V2 {
            out["produces"] = json!(self.produces());
        }
        out
    }

    /// The request's definition, its media types and whether it must be there.
    fn request(&self) -> Option<(String, &'static [&'static str], bool)> {
        let meta = |name: &str| format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}");
        match self.action {
            Action::Create | Action::Replace => self.body.definition().map(|d| (d, &BODIES[..], true)),
            Action::Patch => Some((meta("Patch"), &PATCHES[..], true)),
            Action::Delete | Action::DeleteCollection => Some((meta("DeleteOptions"), &BODIES[..], false)),
            Action::List | Action::Read => None,
        }
    }

    fn produces(&self) -> Vec<&'static str> {
        match self.action {
            Action::List => [&BODIES[..], &WATCHES[..]].concat(),
            _ => BODIES.to_vec(),
        }
    }

    fn content(&self, media: &[&str], definition: &str) -> Value {
        let schema = json!({"schema": self.dialect.reference(definition)});
        media.iter().map(|m| ((*m).to_owned(), schema.clone())).collect::<Map<_, _>>().into()
    }

    fn responses(&self) -> Value {
        let status = "io.k8s.apimachinery.pkg.apis.meta.v1.Status".to_owned();
        let answer = match self.action {
            Action::List => {
                let kind = self.resource.list_kind;
                Body { kind, ..self.body }.definition()
            }
            Action::Delete | Action::DeleteCollection => Some(status),
            _ => self.body.definition(),
        };
        let ok = |description: &str| {
            let mut response = json!({"description": description});
            match (&answer, self.dialect) {
                (Some(name), Dialect::V2) => response["schema"] = self.dialect.reference(name),
                (Some(name), Dialect::V3) => response["content"] = self.content(&self.produces(), name),
                (None, _) => {}
            }
            response
        };
        let mut out = json!({"200": ok("OK"), "401": {"description": "Unauthorized"}});
        match self.action {
            Action::Create => {
                out["201"] = ok("Created");
                out["202"] = ok("Accepted");
            }
            Action::Replace | Action::Patch => out["201"] = ok("Created"),
            Action::Delete => out["202"] = ok("Accepted"),
            Action::List | Action::Read | Action::DeleteCollection => {}
        }
        out
    }
}
