//! Bootstrap tokens: `<id>.<secret>`, kept in Secrets of `kube-system`, for machines and tools that have nothing else yet.

use super::{Authenticated, TokenAuthenticator};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::sync::Arc;
use stoa_authz::User;
use stoa_registry::Registry;
use stoa_store::Key;
use stoa_units::Time;
use subtle::ConstantTimeEq;

const GROUP: &str = "system:bootstrappers";

/// Knows them.
pub(crate) struct BootstrapTokens(pub(crate) Arc<Registry>);

impl TokenAuthenticator for BootstrapTokens {
    fn authenticate(&self, token: &str, audiences: &[String]) -> Option<Authenticated> {
        let (id, secret) = token.split_once('.')?;
        let is_plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if id.len() != 6 || secret.len() != 16 || !is_plain(id) || !is_plain(secret) {
            return None;
        }
        let key = Key::object("", "secrets", "kube-system", &format!("bootstrap-token-{id}"));
        let object: Value = serde_json::from_slice(&self.0.store().get(&key)?.value).ok()?;
        let user = judge(&object, id, secret, self.0.clock().now())?;
        Some(Authenticated { user, audiences: audiences.to_vec() })
    }
}

fn judge(object: &Value, id: &str, secret: &str, now: Time) -> Option<User> {
    let dying = !object["metadata"]["deletionTimestamp"].is_null();
    if object["type"] != "bootstrap.kubernetes.io/token" || dying {
        return None;
    }
    let field = |name: &str| -> Option<String> {
        String::from_utf8(STANDARD.decode(object["data"][name].as_str()?).ok()?).ok()
    };
    let same = field("token-secret").is_some_and(|s| s.as_bytes().ct_eq(secret.as_bytes()).into());
    if !same || field("token-id").as_deref() != Some(id) {
        return None;
    }
    if field("expiration").is_some_and(|end| Time::parse(&end).is_none_or(|end| end <= now)) {
        return None;
    }
    if field("usage-bootstrap-authentication").as_deref() != Some("true") {
        return None;
    }
    let mut groups = vec![GROUP.to_string()];
    for group in field("auth-extra-groups").unwrap_or_default().split(',').filter(|g| !g.is_empty()) {
        // A group of any other kind would let whoever writes such a Secret make an administrator.
        if !is_bootstrap_group(group) {
            return None;
        }
        groups.push(group.to_string());
    }
    groups.sort();
    groups.dedup();
    Some(User::new(format!("system:bootstrap:{id}"), groups))
}

fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b':' | b'-');
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    rest.len() <= 256
        && rest.bytes().all(inner)
        && edge(rest.as_bytes().first())
        && edge(rest.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(change: Value) -> Option<User> {
        let mut data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true", "expiration": "2026-11-25T00:00:00Z"});
        for (k, v) in change.as_object().unwrap() {
            data[k] = v.clone();
        }
        let encoded: Value = data
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), json!(STANDARD.encode(v.as_str().unwrap()))))
            .collect();
        let object = json!({"type": "bootstrap.kubernetes.io/token", "data": encoded});
        judge(&object, "abcdef", "0123456789abcdef", Time::parse("2026-11-24T00:00:00Z").unwrap())
    }

    #[test]
    fn a_bootstrap_token_is_good_for_its_time_purpose_and_groups() {
        let user =
            judged(json!({"auth-extra-groups": "system:bootstrappers:a,system:bootstrappers:b-1"})).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            ["system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:b-1"]
        );
        for change in [
            json!({"token-secret": "0123456789abcdee"}),
            json!({"token-id": "abcdeg"}),
            json!({"expiration": "2026-11-24T00:00:00Z"}),
            json!({"expiration": "soon"}),
            json!({"usage-bootstrap-authentication": "false"}),
            json!({"auth-extra-groups": "system:masters"}),
            json!({"auth-extra-groups": "system:bootstrappers:"}),
        ] {
            assert!(judged(change.clone()).is_none(), "{change}");
        }
    }
}
