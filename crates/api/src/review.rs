//! Questions about permission and identity: access reviews, rules reviews, token reviews, and who one is.

use crate::authn::known;
use crate::negotiate::Encoding;
use crate::request::ResourcePath;
use crate::respond::{Answer, value};
use crate::state::State;
use serde_json::{Value, json};
use stoa_authz::{Attributes, User};
use stoa_kube::{CAUSES_MAX, Cause, Status, decode, schema};
use stoa_units::{FieldSelector, FieldTerm, LabelSelector, Operator, check_label_key, check_label_value};

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
        ("authorization.k8s.io", "localsubjectaccessreviews") => access,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => own_rules,
        ("authentication.k8s.io", "selfsubjectreviews") => own_identity,
        ("authentication.k8s.io", "tokenreviews") => token,
        _ => return Ok(None),
    };
    let mut review = read(path, kind, body)?;
    if path.resource.ends_with("subjectaccessreviews") {
        check_question(path, &mut review)?;
    }
    let status = status(state, user, path, &review)?;
    if path.resource == "selfsubjectrulesreviews" {
        // A stock server does not say back what was asked.
        review["spec"] = json!({});
    }
    review["status"] = status;
    Ok(Some(value(201, encoding, &review)))
}

/// What is wrong with a question about permission, all of it at once. It has no name and no labels: it is asked and forgotten.
fn check_question(path: &ResourcePath, review: &mut Value) -> Result<(), Status> {
    let is_local = path.resource == "localsubjectaccessreviews";
    if is_local {
        match text(&review["metadata"], "namespace") {
            "" => review["metadata"]["namespace"] = path.namespace.as_str().into(),
            given if given != path.namespace => {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            _ => {}
        }
    } else if let Some(metadata) = review["metadata"].as_object_mut() {
        // Where there are no namespaces, one that is named says nothing.
        metadata.remove("namespace");
    }
    let spec = &review["spec"];
    let (on_resource, on_path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    // As Go shows it.
    let shown_path = || json!({"Path": text(on_path, "path"), "Verb": text(on_path, "verb")});
    let mut causes = Vec::new();
    match (on_resource.is_null(), on_path.is_null()) {
        (false, false) => causes.push(Cause::invalid(
            "spec.nonResourceAttributes",
            shown_path(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (true, true) => causes.push(Cause::invalid(
            "spec.resourceAttributes",
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let is_own = path.resource == "selfsubjectaccessreviews";
    if !is_own && text(spec, "user").is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty) {
        let detail = "at least one of user or group must be specified";
        causes.push(Cause::invalid("spec.user", "", detail));
    }
    for (key, what) in [("fieldSelector", Selected::Fields), ("labelSelector", Selected::Labels)] {
        check_selector(&on_resource[key], &format!("spec.resourceAttributes.{key}"), what, &mut causes);
    }
    let ours = |field: &str| field == "managedFields" || (is_local && field == "namespace");
    let mut given = review["metadata"].as_object().into_iter().flatten();
    if given.any(|(field, value)| !value.is_null() && !ours(field)) {
        let detail = if is_local { "must be empty except for namespace" } else { "must be empty" };
        causes.push(Cause::invalid("metadata", review["metadata"].clone(), detail));
    }
    if is_local {
        let asked = text(on_resource, "namespace");
        if !on_resource.is_null() && asked != path.namespace {
            let detail = "must match metadata.namespace";
            causes.push(Cause::invalid("spec.resourceAttributes.namespace", asked, detail));
        }
        if !on_path.is_null() {
            let detail = "disallowed on this kind of request";
            causes.push(Cause::invalid("spec.nonResourceAttributes", shown_path(), detail));
        }
    }
    causes.truncate(CAUSES_MAX);
    // A stock server names the kind by what is left of it inside, which is nothing.
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("", &path.group, "", causes)) }
}

/// What a selector in a question selects by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Selected {
    Fields,
    Labels,
}

/// A selector is written as a text or as requirements, and an operator that is not known may be known to others.
fn check_selector(selector: &Value, path: &str, what: Selected, causes: &mut Vec<Cause>) {
    if !selector.is_object() {
        return;
    }
    let raw = text(selector, "rawSelector");
    let requirements = selector["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let why = "may not specified at the same time as requirements";
            causes.push(Cause::invalid(format!("{path}.rawSelector"), raw, why));
        }
        (true, true) => {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            causes.push(Cause::required(format!("{path}.requirements"), &why));
        }
        _ => {}
    }
    for (i, requirement) in requirements.iter().enumerate() {
        if causes.len() >= CAUSES_MAX {
            return;
        }
        let place = |field: &str| format!("{path}.requirements[{i}].{field}");
        let (key, values) = (text(requirement, "key"), requirement["values"].as_array());
        let count = values.map_or(0, Vec::len);
        if what == Selected::Fields && key.is_empty() {
            causes.push(Cause::required(place("key"), "must be specified"));
        }
        match text(requirement, "operator") {
            "In" | "NotIn" if count == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                causes.push(Cause::required(place("values"), why));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.push(Cause::forbidden(place("values"), why));
            }
            _ => {}
        }
        if what == Selected::Labels {
            if let Err(e) = check_label_key(key) {
                causes.extend(e.all().map(|why| Cause::invalid(place("key"), key, why)));
            }
            for (j, value) in values.into_iter().flatten().enumerate() {
                if causes.len() >= CAUSES_MAX {
                    return;
                }
                let value = value.as_str().unwrap_or_default();
                if let Err(e) = check_label_value(value) {
                    let place = format!("{}[{j}]", place("values"));
                    causes.extend(e.all().map(|why| Cause::invalid(place.as_str(), value, why)));
                }
            }
        }
    }
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

fn own_access(state: &State, user: &User, _: &ResourcePath, review: &Value) -> Result<Value, Status> {
    judge(state, user, &review["spec"])
}

fn access(state: &State, _: &User, _: &ResourcePath, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    judge(state, &subject(spec), spec)
}

fn subject(spec: &Value) -> User {
    let strings = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(String::from)).collect()
    };
    let mut user = User::new(text(spec, "user"), strings(&spec["groups"]));
    user.uid = text(spec, "uid").to_string();
    for (k, v) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(k.clone(), strings(v));
    }
    user
}

/// What a question says that is selected. Who cannot be understood selects more than was meant, and so may less.
fn fields(selector: &Value) -> FieldSelector {
    let raw = text(selector, "rawSelector");
    if !raw.is_empty() {
        return FieldSelector::parse(raw).unwrap_or_default();
    }
    let term = |requirement: &Value| {
        let operator = match text(requirement, "operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            _ => return None,
        };
        let [value] = requirement["values"].as_array()?.as_slice() else { return None };
        let (field, value) = (text(requirement, "key").to_owned(), value.as_str()?.to_owned());
        Some(FieldTerm { field, value, operator })
    };
    FieldSelector(selector["requirements"].as_array().into_iter().flatten().filter_map(term).collect())
}

fn judge(state: &State, user: &User, spec: &Value) -> Result<Value, Status> {
    let (on_resource, on_path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let fields = fields(&on_resource["fieldSelector"]);
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
    let unread: Vec<String> = [("fieldSelector", Selected::Fields), ("labelSelector", Selected::Labels)]
        .into_iter()
        .filter(|_| on_path.is_null())
        .filter_map(|(key, what)| {
            let how = unread(&on_resource[key], what)?;
            Some(format!("spec.resourceAttributes.{key} {how} due to parse error"))
        })
        .collect();
    if !unread.is_empty() {
        status["evaluationError"] = unread.join("; ").into();
    }
    Ok(status)
}

/// Whether a selector was left out of account, or a part of it: what cannot be read asks for less, and so for more objects.
fn unread(selector: &Value, what: Selected) -> Option<&'static str> {
    let raw = text(selector, "rawSelector");
    if !raw.is_empty() {
        let reads = match what {
            Selected::Fields => FieldSelector::parse(raw).is_ok(),
            Selected::Labels => LabelSelector::parse(raw).is_ok(),
        };
        return (!reads).then_some("ignored");
    }
    let reads = |requirement: &&Value| match (text(requirement, "operator"), what) {
        ("In" | "NotIn", Selected::Fields) => requirement["values"].as_array().is_some_and(|v| v.len() == 1),
        ("In" | "NotIn" | "Exists" | "DoesNotExist", Selected::Labels) => true,
        _ => false,
    };
    let all = selector["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    match all.iter().filter(reads).count() {
        read if read == all.len() => None,
        0 => Some("ignored"),
        _ => Some("partially ignored"),
    }
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

fn token(state: &State, _: &User, _: &ResourcePath, review: &Value) -> Result<Value, Status> {
    let token = text(&review["spec"], "token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
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
        None => {
            // What the question says already of an answer stays, save what is answered.
            let mut status = review["status"].as_object().cloned().unwrap_or_default();
            status.entry("user").or_insert_with(|| json!({}));
            // Not being anybody is not written.
            status.remove("authenticated");
            status.insert("error".to_owned(), "invalid bearer token".into());
            status.into()
        }
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
