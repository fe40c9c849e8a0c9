//! Acting as somebody else: `Impersonate-*` headers, each of which needs its own permission.

use crate::authn::{AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::ask;
use crate::options::IMPERSONATION_LEN_MAX;
use crate::query::{Plus, decode};
use crate::state::State;
use http::HeaderMap;
use stoa_authz::{Attributes, User};
use stoa_kube::Status;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Whom the request is carried out as: the caller, unless it says otherwise and may.
pub(crate) fn impersonate(state: &State, caller: User, headers: &HeaderMap) -> Result<User, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(caller) };
    check(state, &caller, &wanted)?;
    Ok(complete(wanted))
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let asked = headers.keys().any(|k| k.as_str().starts_with("impersonate-"));
    if !asked {
        return Ok(None);
    }
    let text = |v: &http::HeaderValue| {
        v.to_str().map(str::to_string).map_err(|_| Status::bad_request("an impersonation header is no text"))
    };
    let one = |name: &str| headers.get(name).map(text).transpose().map(Option::unwrap_or_default);
    let mut user = User { name: one(USER)?, uid: one(UID)?, ..User::default() };
    for value in headers.get_all(GROUP) {
        user.groups.push(text(value)?);
    }
    let mut len = user.groups.len();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = decode(key, Plus::IsPlus).unwrap_or_else(|| key.to_string());
        user.extra.entry(key).or_default().push(text(value)?);
        len += 1;
    }
    if len > IMPERSONATION_LEN_MAX {
        return Err(Status::bad_request("too many impersonation headers"));
    }
    if user == User::default() {
        // Headers without values ask for nothing.
        return Ok(None);
    }
    if user.name.is_empty() {
        return Err(Status::bad_request(format!(
            "requested {} without impersonating a user name",
            shown(&user)
        )));
    }
    Ok(Some(user))
}

/// A user without a name as Go prints it, which is how a stock server shows what was asked for.
fn shown(user: &User) -> String {
    let list = |values: &[String]| match values {
        [] => "(nil)".to_string(),
        _ => format!("{{{}}}", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", ")),
    };
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key:?}:[]string{}", list(values))).collect();
    let extra = if extra.is_empty() { "(nil)".to_string() } else { format!("{{{}}}", extra.join(", ")) };
    format!(
        "&user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:[]string{}, Extra:map[string][]string{extra}}}",
        user.uid,
        list(&user.groups)
    )
}

fn check(state: &State, caller: &User, wanted: &User) -> Result<(), Status> {
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes::resource("impersonate", group, resource, namespace, name);
        ask(state, caller, &attributes.with_subresource(subresource))
    };
    match service_account(&wanted.name) {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.name)?,
    }
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    Ok(())
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Adds the groups that the user would have had by logging in.
fn complete(mut user: User) -> User {
    if let Some((namespace, _)) = service_account(&user.name)
        && user.groups.is_empty()
    {
        user.groups.push("system:serviceaccounts".to_string());
        user.groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    if user.name == "system:anonymous" && !user.is_member(UNAUTHENTICATED) {
        user.groups.push(UNAUTHENTICATED.to_string());
    }
    if user.name != "system:anonymous" && !user.is_member(UNAUTHENTICATED) && !user.is_member(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_string());
    }
    user
}
