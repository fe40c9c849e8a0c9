//! A body becomes an object of the kind that the path asks for, or is refused in the stock server's words.

use crate::{Context, FieldValidation, Target, owner_references};
use serde_json::Value;
use stoa_kube::{Cause, Object, Resource, Status, decode, schema};

/// Checks the envelope, then every field. Returns the object without what the schema does not know, and what to warn of.
pub(crate) fn object(ctx: &Context, target: Target<'_>, body: Value) -> Result<(Value, Vec<String>), Status> {
    let mut object = Object(body);
    check_envelope(target.resource, &mut object)?;
    let mut warnings = fields(ctx, target.resource, &mut object.0)?;
    check_place(target, &object)?;
    warnings.extend(owner_references::drop_repeated(&mut object.0, ""));
    Ok((object.0, warnings))
}

/// What a patch has made, and of what it is said to be wrong.
pub(crate) enum Made<'a> {
    /// A document, which is read anew.
    Document(Value),
    /// What an applied configuration has made.
    Applied(Value),
    /// An object of the kind that it was before, whatever the patch says of that: a strategic patch.
    Object(Value, &'a Value),
}

/// The same for what a patch makes of an object: what does not fit is the patch's fault, and is told as such.
pub(crate) fn patched(
    ctx: &Context,
    target: Target<'_>,
    made: Made<'_>,
    shown: impl FnOnce() -> String,
) -> Result<(Value, Vec<String>), Status> {
    // What is applied has been held against the schema; what it says in places that are nobody's in parts is not told.
    let whose = if matches!(made, Made::Applied(_)) { Problems::Applied } else { Problems::Patch };
    let (value, patch) = match made {
        Made::Document(value) | Made::Applied(value) => (value, None),
        Made::Object(value, patch) => (value, Some(patch)),
    };
    let refused =
        |shown: String, why: &str| Status::invalid("", "", "", vec![Cause::invalid("patch", shown, why)]);
    let resource = target.resource;
    let ty = schema::builtin().type_of(resource);
    if let Some(patch) = patch {
        if let Some(why) = decode::restore_error(&value, ty) {
            return Err(refused(stoa_merge::printed(patch), &why));
        }
    } else if let Value::Array(_) = value {
        return Err(refused(shown(), NO_ENVELOPE));
    }
    let mut object = Object(value);
    if patch.is_some() {
        let meta = [("kind", resource.kind.to_owned()), ("apiVersion", resource.api_version())];
        for (key, own) in meta {
            object.0[key] = own.into();
        }
    }
    let before = format!(" cannot be handled as a {}: ", resource.kind);
    let read = check_envelope(resource, &mut object).and_then(|()| {
        let undecodable = |why: &str| Status::undecodable(resource, why);
        typed(ctx, ty, whose, undecodable, &mut object.0)
    });
    let mut warnings = read.map_err(|status| match status.message.split_once(&before) {
        Some((_, why)) => refused(patch.map_or_else(shown, stoa_merge::printed), why),
        None => status,
    })?;
    check_namespace(target, &object.0)?;
    warnings.extend(owner_references::drop_repeated(&mut object.0, " after mutating admission happens"));
    Ok((object.0, warnings))
}

/// What Go says of a list where an object should be.
const NO_ENVELOPE: &str = r#"couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// Where what is odd about a body was found, which says in what order it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Problems {
    /// By one decoder, in the body.
    Body,
    /// First in the patch, then in what it has made.
    Patch,
    /// In the patch alone.
    Applied,
}

/// A group, a version of it and a kind in that.
pub(crate) type Kind<'a> = (&'a str, &'a str, &'a str);

/// The body of a subresource that has a kind of its own: judged as an object's is, and placed in the path's namespace.
pub(crate) fn subresource(
    ctx: &Context,
    target: Target<'_>,
    (group, version, kind): Kind<'_>,
    body: Value,
) -> Result<(Value, Vec<String>), Status> {
    let mut object = Object(body);
    check_kind((group, version, kind), &mut object)?;
    let refuse = |why: &str| Status::undecodable_kind(kind, version, kind, why);
    let ty = schema::builtin().type_of_kind(group, version, kind);
    let ty = ty.ok_or_else(|| Status::internal(format!("{kind} is unknown")))?;
    let warnings = typed(ctx, ty, Problems::Body, refuse, &mut object.0)?;
    check_namespace(target, &object.0)?;
    if target.resource.namespaced {
        object.meta_mut().insert("namespace".into(), target.namespace.into());
    }
    Ok((object.0, warnings))
}

/// The kind and version must be the path's; absent ones are filled in.
pub(crate) fn check_envelope(resource: &Resource, object: &mut Object) -> Result<(), Status> {
    check_kind((resource.group, resource.version, resource.kind), object)
}

fn check_kind((own_group, own_version, own_kind): Kind<'_>, object: &mut Object) -> Result<(), Status> {
    let expected =
        if own_group.is_empty() { own_version.to_string() } else { format!("{own_group}/{own_version}") };
    if object.0.is_null() {
        object.0 = Value::Object(Default::default());
    }
    let Value::Object(map) = &mut object.0 else {
        return Err(Status::bad_request("the object provided is no object"));
    };
    let text = |k: &str| map.get(k).and_then(Value::as_str).unwrap_or_default().to_string();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let kind = if kind.is_empty() { own_kind.to_string() } else { kind };
    let version = if version.is_empty() { expected.clone() } else { version };
    let (group, short) = version.split_once('/').unwrap_or(("", &version));
    if kind != own_kind || version != expected {
        let is_known = is_kind(group, short, &kind) || OLDER.contains(&version.as_str());
        if !is_known {
            let why = format!("no kind {kind:?} is registered for version {version:?} in scheme {SCHEME:?}");
            return Err(Status::undecodable_kind(&kind, short, own_kind, &why));
        }
    }
    if kind != own_kind {
        let own = if own_group.is_empty() { "core" } else { first_label(own_group) };
        // Go names a type by the last part of its package, which is the version alone.
        let why = format!("converting ({short}.{kind}) to ({own}.{own_kind}): unknown conversion");
        return Err(Status::undecodable_kind(&kind, short, own_kind, &why));
    }
    if version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    map.insert("kind".into(), own_kind.into());
    map.insert("apiVersion".into(), expected.into());
    Ok(())
}

/// Versions that a stock server knows and does not serve.
const OLDER: [&str; 12] = [
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1beta1",
    "batch/v1beta1",
    "certificates.k8s.io/v1beta1",
    "coordination.k8s.io/v1beta1",
    "extensions/v1beta1",
    "networking.k8s.io/v1beta1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1beta1",
    "storage.k8s.io/v1beta1",
];
/// Where a stock server's kinds are registered, as its refusals say.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

fn is_kind(group: &str, version: &str, kind: &str) -> bool {
    let known = schema::builtin().type_of_kind(group, version, kind).is_some();
    known || kind == "List" && (group, version) == ("", "v1")
}

/// A write names what it writes.
pub(crate) fn check_named(target: Target<'_>, object: &Value) -> Result<(), Status> {
    match object["metadata"]["name"].as_str().unwrap_or_default() {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        ))),
        name if name != target.name => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        ))),
        _ => Ok(()),
    }
}

fn first_label(group: &str) -> &str {
    group.split('.').next().unwrap_or(group)
}

/// Checks every field against the schema and drops what it does not know.
pub(crate) fn fields(ctx: &Context, resource: &Resource, object: &mut Value) -> Result<Vec<String>, Status> {
    let ty = schema::builtin().type_of(resource);
    typed(ctx, ty, Problems::Body, |why| Status::undecodable(resource, why), object)
}

fn typed(
    ctx: &Context,
    ty: schema::Type<'_>,
    whose: Problems,
    refuse: impl Fn(&str) -> Status,
    object: &mut Value,
) -> Result<Vec<String>, Status> {
    let decoded = decode::decode_value(std::mem::take(object), ty).map_err(|e| refuse(&e.to_string()))?;
    *object = decoded.value;
    let mut problems = match whose {
        Problems::Body => decode::merge_problems(ctx.body_problems.clone(), decoded.problems),
        Problems::Applied => ctx.body_problems.clone(),
        Problems::Patch => ctx.body_problems.iter().cloned().chain(decoded.problems).collect(),
    };
    problems.truncate(decode::PROBLEMS_MAX);
    match ctx.field_validation {
        _ if problems.is_empty() => Ok(problems),
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => {
            ctx.notes.keep_oddities(&problems);
            Ok(problems)
        }
        FieldValidation::Strict => Err(refuse(&decode::strict_error(&problems))),
    }
}

/// The body may repeat where the object is, but not contradict the path.
fn check_place(target: Target<'_>, object: &Object) -> Result<(), Status> {
    check_namespace(target, &object.0)?;
    let name = object.name();
    if !target.name.is_empty() && !name.is_empty() && name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

pub(crate) const OTHER_NAMESPACE: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// An object may say in which namespace it is, but not contradict the path.
pub(crate) fn check_namespace(target: Target<'_>, object: &Value) -> Result<(), Status> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if target.resource.namespaced && !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(OTHER_NAMESPACE));
    }
    Ok(())
}
