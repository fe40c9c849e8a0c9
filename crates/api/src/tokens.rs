//! Service-account tokens: signed by the cluster's key, and good for as long as the account, and the pod they are bound to, exist.

use crate::authn::{Authenticated, TokenAuthenticator};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::User;
use stoa_kube::Meta;
use stoa_pki::{BoundObject, ServiceAccount, TokenSigner, Verified};
use stoa_registry::{BoundTo, Registry, TokenIssuer, TokenSpec};
use stoa_store::Key;
use stoa_units::Time;
use subtle::ConstantTimeEq;

/// Tokens whose signature was found good lately. A signature costs ten times what the rest of a read does.
const VERIFIED_LEN_MAX: usize = 4096;
/// For how long a signature is not looked at again. Its objects' existence is looked at every time; that
/// it has ended may be seen so much later.
const VERIFIED_AGE_MAX: Duration = Duration::from_secs(10);

/// For how long a token outlives the deletion of what it is bound to.
const DELETED_LEEWAY: Duration = Duration::from_secs(60);
/// Marks a Secret whose token is not to be taken any more.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Signs and verifies service-account tokens.
pub struct ServiceAccountTokens {
    signer: Arc<TokenSigner>,
    registry: Arc<Registry>,
    verified: Mutex<HashMap<String, (Verified, Time)>>,
}

impl std::fmt::Debug for ServiceAccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountTokens").finish_non_exhaustive()
    }
}

impl ServiceAccountTokens {
    /// With the cluster's key, over the objects that tokens are bound to.
    pub fn new(signer: Arc<TokenSigner>, registry: Arc<Registry>) -> Arc<ServiceAccountTokens> {
        Arc::new(ServiceAccountTokens { signer, registry, verified: Mutex::default() })
    }

    /// Checks the token's signature, or remembers having done so. Only tokens for this server are remembered: reviews are rare.
    fn verify(&self, token: &str, audiences: &[String]) -> Option<Verified> {
        let now = self.registry.clock().now();
        if !audiences.is_empty() {
            return self.signer.verify(now, token, audiences).ok();
        }
        if let Some((verified, at)) = self.verified.lock().get(token)
            && now.since(*at) < VERIFIED_AGE_MAX
        {
            return Some(verified.clone());
        }
        let verified = self.signer.verify(now, token, audiences).ok()?;
        let mut known = self.verified.lock();
        if known.len() >= VERIFIED_LEN_MAX {
            known.retain(|_, (_, at)| now.since(*at) < VERIFIED_AGE_MAX);
            if known.len() >= VERIFIED_LEN_MAX {
                known.clear();
            }
        }
        known.insert(token.to_string(), (verified.clone(), now));
        Some(verified)
    }

    /// Whether the very object is still there. What is being deleted counts for another moment, so that it can end in order.
    fn exists(&self, plural: &str, namespace: &str, object: &BoundObject) -> bool {
        let entry = self.registry.store().get(&Key::object("", plural, namespace, &object.name));
        let Some(meta) = entry.and_then(|e| Meta::read(&e.value).ok()) else { return false };
        let now = self.registry.clock().now();
        meta.uid == object.uid && meta.deletion_timestamp.is_none_or(|at| now.since(at) <= DELETED_LEEWAY)
    }

    /// A token that a Secret holds: good while the Secret does, and while its account exists.
    fn legacy(&self, token: &str, audiences: &[String]) -> Option<Authenticated> {
        let account = self.signer.verify_legacy(token).ok()?;
        let issuer = self.signer.issuer();
        if !audiences.is_empty() && !audiences.iter().any(|a| a == issuer) {
            return None;
        }
        let secret = account.secret.as_ref()?;
        let key = Key::object("", "secrets", &account.namespace, &secret.name);
        let held: Value = serde_json::from_slice(&self.registry.store().get(&key)?.value).ok()?;
        let same = STANDARD.decode(held["data"]["token"].as_str()?).ok()?.ct_eq(token.as_bytes());
        let alive = held["metadata"]["deletionTimestamp"].is_null()
            && held["metadata"]["labels"][INVALID_SINCE].is_null()
            && self.exists("serviceaccounts", &account.namespace, &account.account);
        let user = user_of(&account);
        (bool::from(same) && alive).then(|| Authenticated { user, audiences: vec![issuer.to_string()] })
    }
}

impl TokenAuthenticator for ServiceAccountTokens {
    fn authenticate(&self, token: &str, audiences: &[String]) -> Option<Authenticated> {
        let Some(verified) = self.verify(token, audiences) else { return self.legacy(token, audiences) };
        let account = &verified.service_account;
        let namespace = account.namespace.as_str();
        let bound = |plural: &str, o: &Option<BoundObject>| {
            o.as_ref().is_none_or(|o| self.exists(plural, namespace, o))
        };
        let alive = self.exists("serviceaccounts", namespace, &account.account)
            && bound("pods", &account.pod)
            && bound("secrets", &account.secret)
            // Beside a pod the node only says where that runs.
            && (account.pod.is_some() || account.node.as_ref().is_none_or(|n| self.exists("nodes", "", n)));
        if !alive {
            return None;
        }
        let mut user = user_of(account);
        let mut extra = |key: &str, value: String| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        extra("credential-id", format!("JTI={}", verified.id));
        for (what, object) in [("pod", &account.pod), ("node", &account.node)] {
            if let Some(object) = object {
                extra(&format!("{what}-name"), object.name.clone());
                extra(&format!("{what}-uid"), object.uid.clone());
            }
        }
        Some(Authenticated { user, audiences: verified.audiences })
    }
}

fn user_of(account: &ServiceAccount) -> User {
    let namespace = &account.namespace;
    let mut user = User::new(
        format!("system:serviceaccount:{namespace}:{}", account.account.name),
        ["system:serviceaccounts".to_string(), format!("system:serviceaccounts:{namespace}")],
    );
    user.uid = account.account.uid.clone();
    user
}

impl TokenIssuer for ServiceAccountTokens {
    fn audiences(&self) -> Vec<String> {
        vec![self.signer.issuer().to_string()]
    }

    fn issue(&self, now: Time, spec: &TokenSpec) -> Result<(String, Time), String> {
        let find = |kind: &str| {
            let found: Option<&BoundTo> = spec.bound.iter().find(|b| b.kind == kind);
            found.map(|b| BoundObject { name: b.name.clone(), uid: b.uid.clone() })
        };
        let account = ServiceAccount {
            namespace: spec.namespace.clone(),
            account: BoundObject { name: spec.name.clone(), uid: spec.uid.clone() },
            pod: find("Pod"),
            secret: find("Secret"),
            node: find("Node"),
        };
        self.signer.sign(now, &account, &spec.audiences, spec.lifetime).map_err(|e| e.to_string())
    }
}
