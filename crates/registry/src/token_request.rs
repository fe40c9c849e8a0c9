//! Service-account tokens: who may have one, for whom, bound to what. Signing is plugged in.

use crate::{Context, Registry, Target};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_kube::{Cause, Object, Status, schema};
use stoa_store::Key;
use stoa_units::Time;

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
    /// For whom the token is; empty means this API server.
    pub audiences: Vec<String>,
    /// How long it lives.
    pub lifetime: Duration,
    /// What it dies with.
    pub bound: Vec<BoundTo>,
}

/// Signs tokens.
pub trait TokenIssuer: Send + Sync {
    /// A token that is valid from `now`, and when it ends.
    fn issue(&self, now: Time, spec: &TokenSpec) -> Result<(String, Time), String>;
}

impl Registry {
    /// Answers `POST …/serviceaccounts/<name>/token`.
    pub fn create_token(&self, ctx: &Context, target: Target<'_>, request: Value) -> Result<Value, Status> {
        let entry = self.store().get(&self.key(target.resource, target.namespace, target.name));
        let entry = entry.ok_or_else(|| Status::not_found(target.resource, target.name))?;
        let account = Object::read(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
        let ty = schema::builtin().type_of_kind("authentication.k8s.io", "v1", "TokenRequest");
        let request = match ty {
            Some(ty) => {
                stoa_kube::decode::decode_value(request, ty)
                    .map_err(|e| {
                        Status::undecodable_kind("TokenRequest", "v1", "TokenRequest", &e.to_string())
                    })?
                    .value
            }
            None => request,
        };
        let seconds = check_seconds(target, &request)?;
        let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
        let audiences: Vec<String> = audiences.filter_map(|a| a.as_str().map(String::from)).collect();
        let bound = self.bound_objects(ctx, target, &request["spec"]["boundObjectRef"])?;
        let spec = TokenSpec {
            namespace: target.namespace.to_string(),
            name: target.name.to_string(),
            uid: account.uid().to_string(),
            audiences: audiences.clone(),
            lifetime: Duration::from_secs(seconds.unsigned_abs()),
            bound,
        };
        let issuer = self
            .token_issuer()
            .ok_or_else(|| Status::service_unavailable("this server issues no service-account tokens"))?;
        let (token, expires) = issuer.issue(self.now(), &spec).map_err(Status::internal)?;
        let meta = account.meta();
        let mut kept = serde_json::Map::new();
        for field in ["name", "namespace", "uid", "creationTimestamp"] {
            if let Some(v) = meta.get(field) {
                kept.insert(field.into(), v.clone());
            }
        }
        Ok(json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": kept,
            "spec": {"audiences": audiences, "expirationSeconds": seconds,
                "boundObjectRef": request["spec"]["boundObjectRef"]},
            "status": {"token": token, "expirationTimestamp": expires.to_rfc3339_seconds()},
        }))
    }

    fn bound_objects(
        &self,
        ctx: &Context,
        target: Target<'_>,
        reference: &Value,
    ) -> Result<Vec<BoundTo>, Status> {
        let node = ctx.user.node_name();
        if reference.is_null() {
            return match node {
                Some(_) => Err(node_refused(target, "node requested token not bound to a pod")),
                None => Ok(Vec::new()),
            };
        }
        let text = |k: &str| reference[k].as_str().unwrap_or_default();
        let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
        let (plural, namespace) = match kind {
            "Pod" => ("pods", target.namespace),
            "Secret" => ("secrets", target.namespace),
            "Node" => ("nodes", ""),
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to object of kind {kind:?}",
                    target.name
                )));
            }
        };
        let entry = self.store().get(&Key::object("", plural, namespace, name));
        let entry = entry.ok_or_else(|| Status::not_found_named(plural, "", name))?;
        let object = Object::read(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
        if !uid.is_empty() && uid != object.uid() {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict_named(kind, "", name, &why));
        }
        let bound = |kind: &str, o: &Object| BoundTo {
            kind: kind.to_string(),
            name: o.name().to_string(),
            uid: o.uid().to_string(),
        };
        let mut all = vec![bound(kind, &object)];
        if kind == "Pod" {
            let runs_as = object.0["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if runs_as != target.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    target.name
                )));
            }
            let runs_on = object.0["spec"]["nodeName"].as_str().unwrap_or_default();
            if node.is_some_and(|n| n != runs_on) {
                return Err(node_refused(
                    target,
                    "node requested token bound to a pod scheduled on a different node",
                ));
            }
            if let Some(entry) = self.store().get(&Key::object("", "nodes", "", runs_on)) {
                let node = Object::read(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
                all.push(bound("Node", &node));
            }
        } else if node.is_some() {
            return Err(node_refused(target, "node requested token not bound to a pod"));
        }
        Ok(all)
    }
}

/// A node may have tokens of the pods that run on it, and no others.
fn node_refused(target: Target<'_>, why: &str) -> Status {
    Status::forbidden(target.resource, target.name, why)
}

fn check_seconds(target: Target<'_>, request: &Value) -> Result<i64, Status> {
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT);
    let field = "spec.expirationSeconds";
    let cause = if seconds < SECONDS_MIN {
        Cause::invalid(field, seconds, "may not specify a duration less than 10 minutes")
    } else if seconds > SECONDS_MAX {
        Cause::invalid(field, seconds, "may not specify a duration larger than 2^32 seconds")
    } else {
        return Ok(seconds);
    };
    Err(Status::invalid("TokenRequest", "authentication.k8s.io", target.name, vec![cause]))
}
