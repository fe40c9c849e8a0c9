//! The one shape of every refusal (and of some successes): `Status` of `v1`, with the stock server's wording, reasons, details and codes.
//! The code is data here; only the API door makes an HTTP answer of it.

#[cfg(test)]
mod tests;

use crate::cause::Cause;
use crate::go;
use crate::resource::{Resource, qualify};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The machine-readable reasons.
pub mod reason {
    #![allow(missing_docs)]
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const CONFLICT: &str = "Conflict";
    pub const EXPIRED: &str = "Expired";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const GONE: &str = "Gone";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const INVALID: &str = "Invalid";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const NOT_FOUND: &str = "NotFound";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
}

/// A list's metadata, as a `Status` also carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    /// Where to go on reading.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_: String,
    /// How many entries are left, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
    /// The revision of the list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
}

/// What a `Status` is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusDetails {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind, or the plural of its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What exactly is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub retry_after_seconds: u32,
}

/// Whether a `Status` reports success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused or failed.
    #[default]
    Failure,
}

/// `Status` of `v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    kind: Cow<'static, str>,
    #[serde(rename = "apiVersion")]
    api_version: Cow<'static, str>,
    /// Carries a fresh continue token where a list's token has expired.
    pub metadata: ListMeta,
    /// Success or failure.
    pub status: Outcome,
    /// What happened, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What happened, for machines; see [`reason`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP status code; 0 where the server leaves it out.
    #[serde(skip_serializing_if = "is_zero_u16")]
    pub code: u16,
}

fn is_zero_u32(n: &u32) -> bool {
    *n == 0
}

fn is_zero_u16(n: &u16) -> bool {
    *n == 0
}

impl Default for Status {
    fn default() -> Status {
        Status {
            kind: Cow::Borrowed("Status"),
            api_version: Cow::Borrowed("v1"),
            metadata: ListMeta::default(),
            status: Outcome::Failure,
            message: String::new(),
            reason: Cow::Borrowed(""),
            details: None,
            code: 0,
        }
    }
}

fn about(name: &str, group: &str, kind: &str) -> StatusDetails {
    StatusDetails {
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        ..StatusDetails::default()
    }
}

impl Status {
    /// A failure with any code, reason and message.
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason: Cow::Borrowed(reason), message: message.into(), ..Status::default() }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: StatusDetails) -> Status {
        self.details = Some(Box::new(details));
        self
    }

    /// Adds or sets the seconds after which to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The HTTP status code to answer with; a success without one is 200.
    pub fn code(&self) -> u16 {
        match (self.code, self.status) {
            (0, Outcome::Success) => 200,
            (0, Outcome::Failure) => 500,
            (code, _) => code,
        }
    }

    /// The seconds after which to try again, if said.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }

    /// Whether the reason is the given one.
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// Its JSON.
    pub fn to_bytes(&self) -> bytes::Bytes {
        // Plain strings and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// What a delete answers when the object is gone at once.
    pub fn deleted(resource: &Resource, name: &str, uid: &str) -> Status {
        let details = StatusDetails { uid: uid.to_owned(), ..about(name, resource.group, resource.plural) };
        Status { status: Outcome::Success, ..Status::default() }.with_details(details)
    }

    /// What a subresource answers that has no body of its own: binding, eviction.
    pub fn success(code: u16) -> Status {
        Status { status: Outcome::Success, code, ..Status::default() }
    }

    /// The object does not exist.
    pub fn not_found(resource: &Resource, name: &str) -> Status {
        Status::not_found_named(resource.plural, resource.group, name)
    }

    /// The object does not exist, for a resource outside the registry.
    pub fn not_found_named(plural: &str, group: &str, name: &str) -> Status {
        let message = format!("{} {} not found", qualify(plural, group), go::quote(name));
        Status::failure(404, reason::NOT_FOUND, message).with_details(about(name, group, plural))
    }

    /// There is nothing at that path.
    pub fn unknown_path() -> Status {
        Status::failure(404, reason::NOT_FOUND, "the server could not find the requested resource")
            .with_details(StatusDetails::default())
    }

    /// The name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Status {
        let message = format!("{} {} already exists", resource.qualified(), go::quote(name));
        Status::failure(409, reason::ALREADY_EXISTS, message).with_details(about(
            name,
            resource.group,
            resource.plural,
        ))
    }

    /// The object is not in the state that the request supposes.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Status {
        Status::conflict_named(resource.plural, resource.group, name, why)
    }

    /// The object was written since it was read.
    pub fn conflict_modified(resource: &Resource, name: &str) -> Status {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(resource, name, why)
    }

    /// A conflict about something with a name of its own: a kind (`ConfigMap`), a subresource (`pods/binding`).
    pub fn conflict_named(what: &str, group: &str, name: &str, why: &str) -> Status {
        let message =
            format!("Operation cannot be fulfilled on {} {}: {why}", qualify(what, group), go::quote(name));
        Status::failure(409, reason::CONFLICT, message).with_details(about(name, group, what))
    }

    /// A delete's UID precondition does not hold.
    pub fn conflict_uid(resource: &Resource, name: &str, wanted: &str, actual: &str) -> Status {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({actual}). The object might have been deleted and then recreated"
        );
        Status::conflict_named(resource.kind, resource.group, name, &why)
    }

    /// A delete's resourceVersion precondition does not hold.
    pub fn conflict_revision(resource: &Resource, name: &str, wanted: &str, actual: &str) -> Status {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({actual}). The object might have been modified"
        );
        Status::conflict_named(resource.kind, resource.group, name, &why)
    }

    /// Server-side apply met fields of other managers: one cause each, of reason `FieldManagerConflict`, sorted by manager.
    pub fn apply_conflict(causes: Vec<Cause>) -> Status {
        let message = match causes.as_slice() {
            [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
            many => {
                let mut text = format!("Apply failed with {} conflicts: ", many.len());
                let mut manager = "";
                for (index, cause) in many.iter().enumerate() {
                    if cause.message != manager {
                        let separator = if index == 0 { "" } else { "\n" };
                        // One line speaks for all of a manager's fields, so the word is in the plural.
                        let head = cause.message.replacen("conflict with", "conflicts with", 1);
                        text.push_str(&format!("{separator}{head}:"));
                        manager = &cause.message;
                    }
                    text.push_str(&format!("\n- {}", cause.field));
                }
                text
            }
        };
        Status::failure(409, reason::CONFLICT, message)
            .with_details(StatusDetails { causes, ..StatusDetails::default() })
    }

    /// The object breaks rules of its kind.
    pub fn invalid(kind: &str, group: &str, name: &str, causes: Vec<Cause>) -> Status {
        let mut seen = std::collections::HashSet::new();
        let lines: Vec<String> =
            causes.iter().map(Cause::to_string).filter(|line| seen.insert(line.clone())).collect();
        let head = format!("{} {} is invalid", qualify(kind, group), go::quote(name));
        let message = match lines.as_slice() {
            [] => head,
            [one] => format!("{head}: {one}"),
            many => format!("{head}: [{}]", many.join(", ")),
        };
        Status::failure(422, reason::INVALID, message)
            .with_details(StatusDetails { causes, ..about(name, group, kind) })
    }

    /// The object breaks rules of its kind, by its resource.
    pub fn invalid_object(resource: &Resource, name: &str, causes: Vec<Cause>) -> Status {
        Status::invalid(resource.kind, resource.group, name, causes)
    }

    /// A patch could not be carried out on the object, such as one whose `test` failed.
    pub fn patch_refused() -> Status {
        Status::failure(
            422,
            reason::INVALID,
            "the server rejected our request due to an error in our request",
        )
        .with_details(StatusDetails::default())
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::failure(400, reason::BAD_REQUEST, message)
    }

    /// The body is no object of the kind that the path asks for.
    pub fn undecodable(resource: &Resource, why: &str) -> Status {
        Status::undecodable_kind(resource.kind, resource.version, resource.kind, why)
    }

    /// The body says kind `found` in `version` and the path wants kind `wanted`.
    pub fn undecodable_kind(found: &str, version: &str, wanted: &str, why: &str) -> Status {
        Status::bad_request(format!(
            "{found} in version {} cannot be handled as a {wanted}: {why}",
            go::quote(version)
        ))
    }

    /// The user may not. `why` is the authoriser's or admission's text.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Status {
        Status::forbidden_named(resource.plural, resource.group, name, why)
    }

    /// The user may not, for a resource that may be outside the registry.
    pub fn forbidden_named(plural: &str, group: &str, name: &str, why: &str) -> Status {
        let what = match (plural, name) {
            ("", _) => "forbidden".to_owned(),
            (_, "") => format!("{} is forbidden", qualify(plural, group)),
            _ => format!("{} {} is forbidden", qualify(plural, group), go::quote(name)),
        };
        Status::failure(403, reason::FORBIDDEN, format!("{what}: {why}"))
            .with_details(about(name, group, plural))
    }

    /// The user may not read or write that path.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Status {
        let message = format!("forbidden: User {} cannot {verb} path {}", go::quote(user), go::quote(path));
        Status::failure(403, reason::FORBIDDEN, message).with_details(StatusDetails::default())
    }

    /// Nobody known is asking.
    pub fn unauthorized() -> Status {
        Status::failure(401, reason::UNAUTHORIZED, "Unauthorized")
    }

    /// The revision asked for has been compacted away.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::failure(410, reason::EXPIRED, message)
    }

    /// A watch or list starts at a revision that is no longer kept.
    pub fn too_old_revision(requested: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// A continue token outlived its snapshot; `inconsistent` continues at the newest revision instead.
    pub fn expired_continue(inconsistent: impl Into<String>) -> Status {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
        let mut status = Status::expired(message);
        status.metadata.continue_ = inconsistent.into();
        status
    }

    /// The revision asked for is in the future.
    pub fn too_large_revision(requested: u64, current: u64) -> Status {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        let cause = Cause::new("ResourceVersionTooLarge", "", "Too large resource version");
        Status::failure(504, reason::TIMEOUT, message).with_details(StatusDetails {
            causes: vec![cause],
            retry_after_seconds: 1,
            ..StatusDetails::default()
        })
    }

    /// The path exists, the method does not.
    pub fn method_not_allowed() -> Status {
        Status::failure(
            405,
            reason::METHOD_NOT_ALLOWED,
            "the server does not allow this method on the requested resource",
        )
        .with_details(StatusDetails::default())
    }

    /// The resource is there and does not know the verb.
    pub fn verb_not_supported(resource: &Resource, verb: &str) -> Status {
        let message =
            format!("{verb} is not supported on resources of kind {}", go::quote(&resource.qualified()));
        Status::failure(405, reason::METHOD_NOT_ALLOWED, message).with_details(about(
            "",
            resource.group,
            resource.plural,
        ))
    }

    /// The body's media type is unknown.
    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Status::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// The routes of what is asked for take no body of that media type, whatever would be made of it.
    pub fn unrouted_media_type() -> Status {
        Status::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, "415: Unsupported Media Type")
            .with_details(StatusDetails::default())
    }

    /// The routes of what is asked for answer in no media type that the client names.
    pub fn unrouted_accept(served: &[&str]) -> Status {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {}", served.join(", "));
        Status::failure(406, reason::NOT_ACCEPTABLE, message).with_details(StatusDetails::default())
    }

    /// 406: what is there cannot be shown so.
    pub fn not_so(asked: &str, what: &str) -> Status {
        let why = format!("you requested {asked}, but the requested object {what}");
        Status::failure(406, reason::NOT_ACCEPTABLE, why)
    }

    /// No media type that the client accepts can be served.
    pub fn not_acceptable(served: &[&str]) -> Status {
        let message = format!("only the following media types are accepted: {}", served.join(", "));
        Status::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    /// The body is larger than the limit.
    pub fn too_large(bytes_max: usize) -> Status {
        Status::failure(
            413,
            reason::REQUEST_ENTITY_TOO_LARGE,
            format!("Request entity too large: limit is {bytes_max}"),
        )
    }

    /// Our own fault.
    pub fn internal(why: impl Into<String>) -> Status {
        let why = why.into();
        let message = format!("Internal error occurred: {why}");
        let causes = vec![Cause::new("", "", why)];
        Status::failure(500, reason::INTERNAL_ERROR, message)
            .with_details(StatusDetails { causes, ..StatusDetails::default() })
    }

    /// It took too long.
    pub fn timeout(why: &str) -> Status {
        Status::failure(504, reason::TIMEOUT, format!("Timeout: {why}"))
            .with_details(StatusDetails::default())
    }

    /// It cannot be done just now; trying again helps.
    pub fn server_timeout(resource: &Resource, operation: &str, retry_after_seconds: u32) -> Status {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            resource.qualified()
        );
        let details =
            StatusDetails { retry_after_seconds, ..about(operation, resource.group, resource.plural) };
        Status::failure(500, reason::SERVER_TIMEOUT, message).with_details(details)
    }

    /// The client is asked to slow down.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::failure(429, reason::TOO_MANY_REQUESTS, message)
            .with_details(StatusDetails { retry_after_seconds, ..StatusDetails::default() })
    }

    /// A part of the server that the request needs is not there.
    pub fn service_unavailable(message: impl Into<String>) -> Status {
        Status::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
