//! Whether the server is well, whole or by the check, and how often it was asked. The store answers reads from memory: if it can say
//! its revision it is there; and what must have happened at the start has happened once the door is open.

use crate::request::RequestInfo;
use crate::respond::{Answer, text};
use crate::state::State;
use http::HeaderValue;
use http::header::X_CONTENT_TYPE_OPTIONS;
use std::collections::BTreeSet;

/// What is looked at to say whether the server is well.
const CHECKS: [&str; 4] = ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles"];
/// What else is looked at to say whether it is ready for requests.
const READY_CHECKS: [&str; 2] = ["informer-sync", "shutdown"];

/// The checks of a kind of health.
pub(super) fn checks(kind: &str) -> impl Iterator<Item = &'static str> {
    let ready = (kind == "readyz").then_some(READY_CHECKS).into_iter().flatten();
    CHECKS.into_iter().chain(ready)
}

fn is_well(state: &State, check: &str) -> bool {
    check != "shutdown" || !state.closing.is_cancelled()
}

/// Answers for one check; none if there is no such check.
pub(super) fn check(state: &State, kind: &str, name: &str) -> Option<Answer> {
    let known = checks(kind).find(|c| *c == name)?;
    Some(match is_well(state, known) {
        true => text(200, "ok"),
        false => no_sniffing(text(500, "internal server error: process is shutting down\n")),
    })
}

/// Answers for all checks.
pub(super) fn whole(state: &State, kind: &str, info: &RequestInfo) -> Answer {
    let excluded: BTreeSet<&str> = info.query.all("exclude").collect();
    let mut unknown = excluded.clone();
    let mut lines = String::new();
    let mut failed = false;
    for name in checks(kind) {
        if excluded.contains(name) {
            unknown.remove(name);
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        let well = is_well(state, name);
        state.metrics.checked(name, kind, well);
        if well {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.iter().map(|e| format!("{e:?}")).collect();
        let unknown = unknown.join(",");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    no_sniffing(match info.query.get("verbose") {
        _ if failed => text(500, format!("{lines}{kind} check failed\n")),
        None => text(200, "ok"),
        Some(_) => text(200, format!("{lines}{kind} check passed\n")),
    })
}

fn no_sniffing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
