//! Which flow a request belongs to, for the headers by which clients of a stock server tell. Here the headers are all there is: no
//! request waits for another, the limits of the door bound them all alike.

use crate::state::State;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use stoa_authz::User;
use stoa_store::Key;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// A flow schema and its priority level, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    schema: &'static str,
    level: &'static str,
}

/// Of whom nothing is known.
pub(crate) const CATCH_ALL: Flow = Flow { schema: "catch-all", level: "catch-all" };

/// The stock flow of a user's requests.
pub(crate) fn of(user: &User) -> Flow {
    let flow = |schema, level| Flow { schema, level };
    if user.is_superuser() {
        flow("exempt", "exempt")
    } else if user.is_member("system:nodes") {
        flow("system-nodes", "system")
    } else if user.is_member("system:serviceaccounts:kube-system") {
        flow("kube-system-service-accounts", "workload-high")
    } else if user.is_member("system:serviceaccounts") {
        flow("service-accounts", "workload-low")
    } else if user.is_member("system:authenticated") || user.is_member("system:unauthenticated") {
        flow("global-default", "global-default")
    } else {
        CATCH_ALL
    }
}

impl Flow {
    /// Says so.
    pub(crate) fn say(self, state: &State, headers: &mut HeaderMap) {
        for (header, plural, name) in [
            ("x-kubernetes-pf-flowschema-uid", "flowschemas", self.schema),
            ("x-kubernetes-pf-prioritylevel-uid", "prioritylevelconfigurations", self.level),
        ] {
            if let Ok(uid) = HeaderValue::from_str(&uid(state, plural, name)) {
                headers.insert(header, uid);
            }
        }
    }
}

/// The uid of the object if somebody made it, and a lasting one otherwise.
fn uid(state: &State, plural: &str, name: &str) -> String {
    let entry = state.registry.store().get(&Key::object(GROUP, plural, "", name));
    let made = entry.and_then(|e| serde_json::from_slice::<Value>(&e.value).ok());
    if let Some(uid) = made.as_ref().and_then(|o| o["metadata"]["uid"].as_str()) {
        return uid.to_string();
    }
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (plural, name, salt).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    uuid::Builder::from_u128(half(0) << 64 | half(1))
        .with_version(uuid::Version::Random)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_stock_flow() {
        for (groups, want) in [
            (&["system:masters", "system:authenticated"][..], "exempt"),
            (&["system:nodes"], "system-nodes"),
            (
                &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
                "kube-system-service-accounts",
            ),
            (&["system:serviceaccounts", "system:serviceaccounts:x"], "service-accounts"),
            (&["system:authenticated"], "global-default"),
            (&["system:unauthenticated"], "global-default"),
            (&["x"], "catch-all"),
        ] {
            assert_eq!(of(&User::new("u", groups.iter().copied())).schema, want);
        }
    }
}
