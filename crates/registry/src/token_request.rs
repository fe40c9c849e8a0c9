//! Service-account tokens: who may have one, for whom, bound to what. Signing is plugged in.

use crate::decode::{self, Kind};
use crate::{Context, Registry, Target};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_kube::{Cause, Object, Status};
use stoa_store::Key;
use stoa_units::Time;

const TOKEN_REQUEST: Kind<'static> = ("authentication.k8s.io", "v1", "TokenRequest");
const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

/// A named object that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundTo {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What a token is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpec {
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub name: String,
    /// The account's uid.
    pub uid: String,
    /// For whom the token is.
    pub audiences: Vec<String>,
    /// How long it lives.
    pub lifetime: Duration,
    /// What it dies with.
    pub bound: Vec<BoundTo>,
}

/// Signs tokens.
pub trait TokenIssuer: Send + Sync {
    /// For whom a token is that names nobody: this API server.
    fn audiences(&self) -> Vec<String>;
    /// A token that is valid from `now`, and when it ends.
    fn issue(&self, now: Time, spec: &TokenSpec) -> Result<(String, Time), String>;
}

impl Registry {
    /// Answers `POST …/serviceaccounts/<name>/token`. Returns the answer, and what to warn of.
    pub fn create_token(
        &self,
        ctx: &Context,
        target: Target<'_>,
        request: Value,
    ) -> Result<(Value, Vec<String>), Status> {
        let (mut request, warnings) = decode::subresource(ctx, target, TOKEN_REQUEST, request)?;
        set_default(&mut request);
        self.admit_subresource(ctx, target, &request)?;
        let name = request["metadata"]["name"].as_str().unwrap_or_default();
        if !name.is_empty() && name != target.name {
            let why = "must match the service account name if specified";
            return Err(invalid(target.name, Cause::invalid("metadata.name", name, why)));
        }
        let entry = self.store().get(&self.key(target.resource, target.namespace, target.name));
        let entry = entry.ok_or_else(|| Status::not_found(target.resource, target.name))?;
        let account = Object::read(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
        check_uid(target, &request, account.uid())?;
        let issuer = self
            .token_issuer()
            .ok_or_else(|| Status::service_unavailable("this server issues no service-account tokens"))?;
        if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
            request["spec"]["audiences"] = json!(issuer.audiences());
        }
        let seconds = check_seconds(&request)?;
        let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
        let spec = TokenSpec {
            namespace: target.namespace.to_string(),
            name: target.name.to_string(),
            uid: account.uid().to_string(),
            audiences: audiences.filter_map(|a| a.as_str().map(String::from)).collect(),
            lifetime: Duration::from_secs(seconds.unsigned_abs()),
            bound: self.bound_objects(target, &request["spec"]["boundObjectRef"])?,
        };
        let now = self.now();
        let (token, expires) = issuer.issue(now, &spec).map_err(Status::internal)?;
        for (field, value) in [
            ("name", target.name.to_string()),
            ("uid", account.uid().to_string()),
            ("creationTimestamp", now.to_rfc3339_seconds()),
        ] {
            request["metadata"][field] = value.into();
        }
        request["status"] = json!({"token": token, "expirationTimestamp": expires.to_rfc3339_seconds()});
        Ok((request, warnings))
    }

    fn bound_objects(&self, target: Target<'_>, reference: &Value) -> Result<Vec<BoundTo>, Status> {
        if reference.is_null() {
            return Ok(Vec::new());
        }
        let text = |k: &str| reference[k].as_str().unwrap_or_default();
        let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
        let (group, version) = match text("apiVersion").split('/').collect::<Vec<_>>()[..] {
            [version] => ("", version),
            [group, version] => (group, version),
            // Such a version is none.
            _ => ("", ""),
        };
        let (plural, namespace) = match (group, kind) {
            ("", "Pod") => ("pods", target.namespace),
            ("", "Secret") => ("secrets", target.namespace),
            ("", "Node") => ("nodes", ""),
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        if name.is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        let entry = self.store().get(&Key::object("", plural, namespace, name));
        let entry = entry.ok_or_else(|| Status::not_found_named(plural, "", name))?;
        let object = Object::read(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
        let runs_as = object.0["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if kind == "Pod" && runs_as != target.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                target.name
            )));
        }
        if !uid.is_empty() && uid != object.uid() {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict_named(kind, "", name, &why));
        }
        let bound = |kind: &str, name: &str, uid: &str| BoundTo {
            kind: kind.to_string(),
            name: name.to_string(),
            uid: uid.to_string(),
        };
        let mut all = vec![bound(kind, object.name(), object.uid())];
        let runs_on = object.0["spec"]["nodeName"].as_str().filter(|n| kind == "Pod" && !n.is_empty());
        if let Some(runs_on) = runs_on {
            let entry = self.store().get(&Key::object("", "nodes", "", runs_on));
            let node = entry.map(|entry| Object::read(&entry.value)).transpose();
            let node = node.map_err(|e| Status::internal(e.to_string()))?;
            // Where the pod runs is told even where the node is no more.
            all.push(bound("Node", runs_on, node.as_ref().map_or("", |n| n.uid())));
        }
        Ok(all)
    }
}

/// How long a token lives, where that is left open.
fn set_default(request: &mut Value) {
    let spec = &mut request["spec"];
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = SECONDS_DEFAULT.into();
    }
    if spec.get("boundObjectRef").is_none() {
        spec["boundObjectRef"] = Value::Null;
    }
}

fn check_uid(target: Target<'_>, request: &Value, uid: &str) -> Result<(), Status> {
    let wanted = request["metadata"]["uid"].as_str().unwrap_or_default();
    if wanted.is_empty() || wanted == uid {
        return Ok(());
    }
    let why = format!(
        "the UID in the token request ({wanted}) does not match the UID of the service account ({uid})"
    );
    Err(Status::conflict_named(TOKEN_REQUEST.2, TOKEN_REQUEST.0, target.name, &why))
}

fn check_seconds(request: &Value) -> Result<i64, Status> {
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT);
    let why = match seconds {
        ..SECONDS_MIN => "may not specify a duration less than 10 minutes",
        SECONDS_MIN..=SECONDS_MAX => return Ok(seconds),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    // Here a stock server does not say of whose account it speaks.
    Err(invalid("", Cause::invalid("spec.expirationSeconds", seconds, why)))
}

fn invalid(name: &str, cause: Cause) -> Status {
    Status::invalid(TOKEN_REQUEST.2, TOKEN_REQUEST.0, name, vec![cause])
}
