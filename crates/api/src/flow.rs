//! Which flow a request belongs to, for the headers by which clients of a stock server tell. Here the headers are all there is: no
//! request waits for another, the limits of the door bound them all alike.

use crate::state::State;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::RwLock;
use std::hash::{DefaultHasher, Hash, Hasher};
use stoa_authz::User;
use stoa_kube::Meta;
use stoa_store::{Key, Store};
use stoa_units::Revision;

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
        let store = state.registry.store();
        for (header, plural, name) in [
            ("x-kubernetes-pf-flowschema-uid", "flowschemas", self.schema),
            ("x-kubernetes-pf-prioritylevel-uid", "prioritylevelconfigurations", self.level),
        ] {
            if let Some(uid) = state.flows.of(&**store, plural, name) {
                headers.insert(HeaderName::from_static(header), uid);
            }
        }
    }
}

/// The kind and name of an object, and at which revision it was read, if it is there.
type Told = (&'static str, &'static str, Option<Revision>, HeaderValue);

/// The ids that were told, as every answer tells two: there are no more of them than stock flows.
#[derive(Debug, Default)]
pub(crate) struct Uids(RwLock<Vec<Told>>);

impl Uids {
    /// The uid of the object if somebody made it, and a lasting one otherwise.
    fn of(&self, store: &dyn Store, plural: &'static str, name: &'static str) -> Option<HeaderValue> {
        let entry = store.get(&Key::object(GROUP, plural, "", name));
        let at = entry.as_ref().map(|e| e.modified);
        let told = self.0.read().iter().find(|(p, n, r, _)| (*p, *n, *r) == (plural, name, at)).cloned();
        if let Some((.., uid)) = told {
            return Some(uid);
        }
        let made = entry.and_then(|e| Meta::read(&e.value).ok()).map(|meta| meta.uid);
        let uid = HeaderValue::from_str(&made.unwrap_or_else(|| lasting_uid(plural, name))).ok()?;
        let mut known = self.0.write();
        known.retain(|(p, n, ..)| (*p, *n) != (plural, name));
        known.push((plural, name, at, uid.clone()));
        Some(uid)
    }
}

fn lasting_uid(plural: &str, name: &str) -> String {
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
