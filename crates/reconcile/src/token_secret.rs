//! Secrets that hold a token of a service account: filled once somebody makes one, and gone when the account is.

use crate::meta::resource;
use crate::{Action, Key, ObjectId, Propagation, World};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_kube::Meta;
use stoa_units::Revision;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// What such a secret holds.
const PARTS: [&str; 3] = ["token", "ca.crt", "namespace"];

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    data: BTreeMap<String, String>,
}

/// A secret for a token.
#[derive(Clone, Debug)]
pub struct TokenSecret {
    /// Which one.
    pub id: ObjectId,
    /// The account's name.
    pub account: String,
    /// The account's uid, once it is filled.
    pub account_uid: String,
    /// Whether nothing is missing in it.
    pub is_filled: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl TokenSecret {
    /// Reads a secret; nothing if it is one of another type.
    pub fn read(meta: &Meta, bytes: &[u8]) -> Result<Option<TokenSecret>, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        if raw.kind != TYPE {
            return Ok(None);
        }
        let note = |key: &str| meta.annotations.get(key).cloned().unwrap_or_default();
        Ok(Some(TokenSecret {
            id: ObjectId {
                resource: resource("", "secrets"),
                namespace: Arc::from(meta.namespace.as_str()),
                name: Arc::from(meta.name.as_str()),
                uid: Arc::from(meta.uid.as_str()),
                revision: meta.revision().unwrap_or(Revision::ZERO),
            },
            account: note(ACCOUNT),
            account_uid: note(ACCOUNT_UID),
            is_filled: PARTS.iter().all(|p| raw.data.get(*p).is_some_and(|v| !v.is_empty())),
            deleting: meta.is_deleting(),
        }))
    }
}

/// Looks at one such secret.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(secret) = world.token_secrets.get(&key.namespace, &key.name).filter(|s| !s.deleting) else {
        return Vec::new();
    };
    let account = world.graph.at(resource("", "serviceaccounts"), &key.namespace, &secret.account);
    let same = |uid: &str| secret.account_uid.is_empty() || secret.account_uid == uid;
    let Some(account) = account.filter(|a| same(&a.id.uid)) else {
        return vec![Action::Delete {
            id: secret.id.clone(),
            propagation: Propagation::Default,
            grace_seconds: None,
            announce: None,
        }];
    };
    if secret.is_filled && !secret.account_uid.is_empty() {
        return Vec::new();
    }
    let patch = json!({"metadata": {"annotations": {ACCOUNT_UID: account.id.uid}},
        "stringData": {"ca.crt": world.root_ca, "namespace": key.namespace}});
    vec![
        Action::Patch { id: secret.id.clone(), subresource: "", patch },
        Action::IssueToken { secret: secret.id.clone(), account: account.id.name.clone() },
    ]
}

#[cfg(test)]
mod tests {
    use crate::stage::Stage;
    use crate::{Action, Controller, Key, reconcile};
    use serde_json::{Value, json};

    fn secret(kind: &str, annotations: &Value, data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
            "metadata": {"name": "s", "namespace": "d", "annotations": annotations}})
    }

    #[test]
    fn a_secret_is_filled_for_its_account_and_goes_with_it() {
        let key = Key::new(Controller::TokenSecret, "d", "s");
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "d", "uid": "a1"}});
        let name = json!({"kubernetes.io/service-account.name": "a"});
        let full = json!({"token": "dA==", "ca.crt": "Yw==", "namespace": "ZA=="});
        let bound = |uid: &str| json!({"kubernetes.io/service-account.name": "a", "kubernetes.io/service-account.uid": uid});
        let token = super::TYPE;
        for (kind, annotations, data, wanted) in [
            (token, &name, &json!({}), "fill"),
            (token, &bound("a1"), &json!({"token": "dA=="}), "fill"),
            (token, &bound("a1"), &full, "nothing"),
            (token, &bound("a0"), &full, "delete"),
            (token, &json!({"kubernetes.io/service-account.name": "nobody"}), &json!({}), "delete"),
            ("Opaque", &name, &json!({}), "nothing"),
        ] {
            let mut stage = Stage::new();
            stage.put(account.clone());
            assert_eq!(stage.put(secret(kind, annotations, data)).contains(&key), kind == token);
            let found = match reconcile(&stage.world, &key).as_slice() {
                [] => "nothing",
                [Action::Patch { .. }, Action::IssueToken { .. }] => "fill",
                [Action::Delete { .. }] => "delete",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, wanted, "{kind} {annotations} {data}");
            if kind == token && wanted != "delete" {
                assert!(
                    stage.remove("", "serviceaccounts", "d", "a").contains(&key),
                    "an account's end is news"
                );
                assert!(matches!(reconcile(&stage.world, &key)[..], [Action::Delete { .. }]));
            }
        }
    }
}
