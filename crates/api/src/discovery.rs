//! What the server serves, for clients that ask: the legacy lists, the aggregated form, and the version.

use crate::gzip;
use crate::negotiate::{Accepted, Encoding, View, takes_gzip};
use crate::options::GZIP_BYTES_MIN;
use crate::respond::{Answer, bytes, value, whole};
use crate::route::computed;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::LazyLock;
use stoa_kube::{Resource, Status, Subresource, resources};

/// The Kubernetes version whose API this is.
pub(crate) const KUBERNETES: (&str, &str, &str) = ("1", "36", "v1.36.2");
const AGGREGATED_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A document that is kept whole, with its compressed form and its tag.
pub(crate) struct Document {
    plain: Bytes,
    gzip: Option<Bytes>,
    etag: HeaderValue,
    media_type: &'static str,
}

impl Document {
    pub(crate) fn new(media_type: &'static str, plain: impl Into<Bytes>) -> Document {
        let plain = plain.into();
        let mut hasher = DefaultHasher::new();
        plain.hash(&mut hasher);
        let etag = HeaderValue::from_str(&format!("\"{:016X}\"", hasher.finish()));
        let etag = etag.unwrap_or_else(|_| HeaderValue::from_static("\"0\""));
        let gzip = (plain.len() >= GZIP_BYTES_MIN).then(|| gzip::compress(&plain));
        Document { plain, gzip, etag, media_type }
    }

    /// The document, or the news that the client has it.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Answer {
        kept(headers, self.media_type, &self.etag, &self.plain, self.gzip.as_ref())
    }
}

/// A document that is kept, compressed for those who take it, or the news that the client has it.
pub(crate) fn kept(
    headers: &HeaderMap,
    media_type: &'static str,
    etag: &HeaderValue,
    plain: &Bytes,
    gzip: Option<&Bytes>,
) -> Answer {
    let has = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|v| v.to_str().is_ok_and(|t| t.split(',').any(|e| e.trim().as_bytes() == etag.as_bytes())));
    let mut answer = match gzip.filter(|_| takes_gzip(headers)) {
        _ if has => {
            let mut answer = Response::new(whole(Bytes::new()));
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        }
        Some(gzip) => {
            let mut answer = bytes(200, media_type, gzip.clone());
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        }
        None => bytes(200, media_type, plain.clone()),
    };
    answer.headers_mut().insert(ETAG, etag.clone());
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// An aggregated document in both forms.
struct Forms {
    json: Document,
    protobuf: Document,
}

impl Forms {
    fn new(groups: Vec<Value>) -> Forms {
        let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": groups});
        // The protobuf table knows all of it: a test asks for it.
        let message = stoa_kube::protobuf::encode(&list).unwrap_or_default();
        Forms {
            json: Document::new(AGGREGATED, list.to_string()),
            protobuf: Document::new(AGGREGATED_PROTOBUF, message),
        }
    }
}

/// The aggregated documents: of the core group, and of all others. They depend on nothing but the program.
static CORE: LazyLock<Forms> = LazyLock::new(|| Forms::new(aggregated(true)));
static NAMED: LazyLock<Forms> = LazyLock::new(|| Forms::new(aggregated(false)));

fn aggregated(core: bool) -> Vec<Value> {
    groups().iter().filter(|g| g.0.is_empty() == core).map(aggregated_group).collect()
}

/// Makes what is kept for every client, so that the first one does not wait for it.
pub(crate) fn prepare() {
    LazyLock::force(&CORE);
    LazyLock::force(&NAMED);
}

/// The documents that do not change while the server runs.
pub(crate) struct Documents {
    api: Value,
    apis: Value,
    pub(crate) version: Value,
}

impl Documents {
    pub(crate) fn new(version: &str, address: SocketAddr) -> Documents {
        let groups = groups();
        let named: Vec<Value> = groups.iter().filter(|g| !g.0.is_empty()).map(legacy_group).collect();
        let (major, minor, git) = KUBERNETES;
        Documents {
            api: json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()}]}),
            apis: json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named}),
            version: json!({"major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
                "minCompatibilityMajor": major, "minCompatibilityMinor": minor,
                "gitVersion": format!("{git}+stoa.{version}"), "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
                "platform": format!("{}/{}", std::env::consts::OS, arch())}),
        }
    }

    /// Answers `/api` and `/apis` in either form.
    pub(crate) fn root(&self, core: bool, accepted: Accepted, headers: &HeaderMap) -> Answer {
        let (legacy, aggregated) = if core { (&self.api, &CORE) } else { (&self.apis, &NAMED) };
        if accepted.view == View::Discovery {
            return match accepted.encoding {
                Encoding::Protobuf => aggregated.protobuf.answer(headers),
                _ => aggregated.json.answer(headers),
            };
        }
        let mut answer = value(200, accepted.encoding, legacy);
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        answer
    }

    /// Answers `/apis/<group>`.
    pub(crate) fn group(&self, name: &str, accepted: Accepted) -> Result<Answer, Status> {
        let found = groups().into_iter().find(|(g, _)| *g == name && !name.is_empty());
        let mut group = legacy_group(&found.ok_or_else(Status::unknown_path)?);
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
        Ok(value(200, accepted.encoding, &group))
    }

    /// Answers `/api/v1` and `/apis/<group>/<version>`.
    pub(crate) fn group_version(
        &self,
        group: &str,
        version: &str,
        accepted: Accepted,
    ) -> Result<Answer, Status> {
        let mut list = Vec::new();
        for r in served().filter(|r| r.group == group && r.version == version) {
            list.push(legacy_resource(r));
            list.extend(r.subresources.iter().map(|s| legacy_subresource(r, s)));
        }
        if list.is_empty() {
            return Err(Status::unknown_path());
        }
        list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        let group_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        let mut body = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
        if !group.is_empty() {
            body["apiVersion"] = "v1".into();
        }
        Ok(value(200, accepted.encoding, &body))
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

type Group = (&'static str, Vec<&'static str>);

/// Groups with their versions, the preferred first, in discovery order.
fn groups() -> Vec<Group> {
    let mut out: Vec<Group> = Vec::new();
    for gv in resources().group_versions() {
        match out.iter_mut().find(|(g, _)| *g == gv.group) {
            Some((_, versions)) => versions.push(gv.version),
            None => out.push((gv.group, vec![gv.version])),
        }
    }
    for r in computed() {
        if !out.iter().any(|(g, _)| *g == r.group) {
            out.push((r.group, vec![r.version]));
        }
    }
    out
}

/// Whether anything of the group is served.
pub(crate) fn has_group(name: &str) -> bool {
    groups().iter().any(|(group, _)| *group == name)
}

/// All that is served, stored or computed.
fn served() -> impl Iterator<Item = &'static Resource> {
    resources().iter().chain(computed())
}

fn legacy_group((name, versions): &Group) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v})).collect();
    json!({"name": name, "preferredVersion": versions[0], "versions": versions})
}

fn legacy_resource(r: &Resource) -> Value {
    let mut out = json!({"name": r.plural, "singularName": r.singular, "namespaced": r.namespaced,
        "kind": r.kind, "verbs": r.verbs});
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    if let Some(hash) = r.storage_hash() {
        out["storageVersionHash"] = hash.into();
    }
    out
}

fn legacy_subresource(r: &Resource, s: &Subresource) -> Value {
    let mut out = json!({"name": format!("{}/{}", r.plural, s.name), "singularName": "",
        "namespaced": r.namespaced, "kind": s.kind, "verbs": s.verbs});
    if (s.group, s.version) != (r.group, r.version) {
        out["group"] = s.group.into();
        out["version"] = s.version.into();
    }
    out
}

fn aggregated_group((name, versions): &Group) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let mut list: Vec<&Resource> =
                served().filter(|r| r.group == *name && r.version == *version).collect();
            list.sort_by_key(|r| r.plural);
            let list: Vec<Value> = list.into_iter().map(aggregated_resource).collect();
            json!({"version": version, "resources": list, "freshness": "Current"})
        })
        .collect();
    let metadata = if name.is_empty() {
        json!({ "creationTimestamp": null })
    } else {
        json!({ "name": name, "creationTimestamp": null })
    };
    json!({"metadata": metadata, "versions": versions})
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_resource(r: &Resource) -> Value {
    let mut out = json!({"resource": r.plural, "responseKind": response_kind(r.group, r.version, r.kind),
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": r.singular,
        "verbs": r.verbs});
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    let below: Vec<Value> = r
        .subresources
        .iter()
        .map(|s| {
            json!({"subresource": s.name, "responseKind": response_kind(s.group, s.version, s.kind),
                "verbs": s.verbs})
        })
        .collect();
    if !below.is_empty() {
        out["subresources"] = below.into();
    }
    out
}
