//! Questions about permission and identity: access reviews, rules reviews, token reviews, and who one is.

use crate::authn::known;
use crate::negotiate::Encoding;
use crate::request::ResourcePath;
use crate::respond::{Answer, value};
use crate::state::State;
use serde_json::{Value, json};
use stoa_authz::{Attributes, User};
use stoa_kube::{Cause, Status, decode, schema};
use stoa_units::FieldSelector;

/// Answers a create of one of the virtual review kinds; `None`: the resource is none of them.
pub(crate) fn create(
    state: &State,
    user: &User,
    path: &ResourcePath,
    kind: &str,
    body: Value,
    encoding: Encoding,
) -> Result<Option<Answer>, Status> {
    let status = match (path.group.as_str(), path.resource.as_str()) {
        ("authorization.k8s.io", "selfsubjectaccessreviews") => own_access,
        ("authorization.k8s.io", "subjectaccessreviews") => access,
        ("authorization.k8s.io", "localsubjectaccessreviews") => local_access,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => own_rules,
        ("authentication.k8s.io", "selfsubjectreviews") => own_identity,
        ("authentication.k8s.io", "tokenreviews") => token,
        _ => return Ok(None),
    };
    let mut review = read(path, kind, body)?;
    let status = status(state, user, path, &review)?;
    check_bare(path, kind, &review)?;
    if path.resource == "selfsubjectrulesreviews" {
        // A stock server does not say back what was asked.
        review["spec"] = json!({});
    }
    review["status"] = status;
    Ok(Some(value(201, encoding, &review)))
}

/// A question about permission has no name and no labels: it is asked and forgotten.
fn check_bare(path: &ResourcePath, kind: &str, review: &Value) -> Result<(), Status> {
    if !path.resource.ends_with("subjectaccessreviews") {
        return Ok(());
    }
    let is_local = path.resource == "localsubjectaccessreviews";
    let ours = |field: &str| field == "managedFields" || (is_local && field == "namespace");
    let given = review["metadata"].as_object().into_iter().flatten();
    if given.into_iter().all(|(field, value)| value.is_null() || ours(field)) {
        return Ok(());
    }
    let detail = if is_local { "must be empty except for namespace" } else { "must be empty" };
    let causes = vec![Cause::invalid("metadata", review["metadata"].clone(), detail)];
    Err(Status::invalid(kind, &path.group, "", causes))
}

fn read(path: &ResourcePath, kind: &str, body: Value) -> Result<Value, Status> {
    let found = body["kind"].as_str().unwrap_or_default();
    if !found.is_empty() && found != kind {
        return Err(Status::bad_request(format!("{found} cannot be handled as a {kind}")));
    }
    let mut review = body;
    if let Some(ty) = schema::builtin().type_of_kind(&path.group, &path.version, kind) {
        let refuse =
            |e: decode::DecodeError| Status::undecodable_kind(kind, &path.version, kind, &e.to_string());
        review = decode::decode_value(review, ty).map_err(refuse)?.value;
    }
    review["kind"] = kind.into();
    review["apiVersion"] = format!("{}/{}", path.group, path.version).into();
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    Ok(review)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn own_access(state: &State, user: &User, path: &ResourcePath, review: &Value) -> Result<Value, Status> {
    judge(state, user, path, &review["spec"])
}

fn access(state: &State, _: &User, path: &ResourcePath, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let user = subject(path, spec)?;
    judge(state, &user, path, spec)
}

fn local_access(state: &State, user: &User, path: &ResourcePath, review: &Value) -> Result<Value, Status> {
    let asked = text(&review["spec"]["resourceAttributes"], "namespace");
    if asked != path.namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            path.namespace
        )));
    }
    access(state, user, path, review)
}

fn subject(path: &ResourcePath, spec: &Value) -> Result<User, Status> {
    let strings = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(String::from)).collect()
    };
    let mut user = User::new(text(spec, "user"), strings(&spec["groups"]));
    user.uid = text(spec, "uid").to_string();
    for (k, v) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(k.clone(), strings(v));
    }
    if user.name.is_empty() && user.groups.is_empty() {
        let detail = "at least one of user or group must be specified";
        let causes = vec![Cause::invalid("spec.user", "", detail)];
        return Err(Status::invalid("SubjectAccessReview", &path.group, "", causes));
    }
    Ok(user)
}

fn judge(state: &State, user: &User, path: &ResourcePath, spec: &Value) -> Result<Value, Status> {
    let (on_resource, on_path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if on_resource.is_null() == on_path.is_null() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let causes = vec![Cause::invalid("spec.resourceAttributes", Value::Null, detail)];
        return Err(Status::invalid("SubjectAccessReview", &path.group, "", causes));
    }
    let fields = FieldSelector::parse(text(&on_resource["fieldSelector"], "rawSelector")).unwrap_or_default();
    let attributes = if on_path.is_null() {
        Attributes {
            verb: text(on_resource, "verb"),
            group: text(on_resource, "group"),
            resource: text(on_resource, "resource"),
            subresource: text(on_resource, "subresource"),
            namespace: text(on_resource, "namespace"),
            name: text(on_resource, "name"),
            path: "",
            fields: Some(&fields),
        }
    } else {
        Attributes::path(text(on_path, "verb"), text(on_path, "path"))
    };
    let decision = state.registry.authorizer().authorize(user, &attributes);
    let mut status = json!({ "allowed": decision.is_allowed() });
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    Ok(status)
}

fn own_rules(state: &State, user: &User, _: &ResourcePath, review: &Value) -> Result<Value, Status> {
    let namespace = text(&review["spec"], "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = state.registry.authorizer().read(|a| a.rbac.rules_for(user, namespace));
    let mut status = serde_json::to_value(rules).map_err(|e| Status::internal(e.to_string()))?;
    status["incomplete"] = false.into();
    Ok(status)
}

fn own_identity(_: &State, user: &User, _: &ResourcePath, _: &Value) -> Result<Value, Status> {
    Ok(json!({ "userInfo": user_info(user) }))
}

fn token(state: &State, _: &User, path: &ResourcePath, review: &Value) -> Result<Value, Status> {
    let token = text(&review["spec"], "token");
    if token.is_empty() {
        let causes = vec![Cause::required("spec.token", "")];
        return Err(Status::invalid("TokenReview", &path.group, "", causes));
    }
    let audiences = review["spec"]["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences.filter_map(|a| a.as_str().map(String::from)).collect();
    let found = state.tokens.iter().find_map(|t| t.authenticate(token, &audiences));
    Ok(match found {
        Some(found) => {
            let mut status = json!({"authenticated": true, "user": user_info(&known(found.user))});
            if !found.audiences.is_empty() {
                status["audiences"] = json!(found.audiences);
            }
            status
        }
        None => json!({"authenticated": false, "user": {}, "error": "invalid bearer token"}),
    })
}

fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
