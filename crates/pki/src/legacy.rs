//! Service-account tokens of the old kind, which live in a Secret and never expire: they are good for as long as the Secret that
//! holds them, and its account, exist.

use crate::{BoundObject, Error, ServiceAccount, TokenSigner};
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};

const ISSUER: &str = "kubernetes/serviceaccount";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

impl TokenSigner {
    /// Signs a token that a Secret is to hold.
    pub fn sign_legacy(&self, namespace: &str, account: &BoundObject, secret: &str) -> Result<String, Error> {
        self.encode(&Claims {
            iss: ISSUER.into(),
            sub: format!("system:serviceaccount:{namespace}:{}", account.name),
            namespace: namespace.into(),
            secret: secret.into(),
            name: account.name.clone(),
            uid: account.uid.clone(),
        })
    }

    /// Checks a token's signature. Whether its Secret still holds it is the caller's check.
    pub fn verify_legacy(&self, token: &str) -> Result<ServiceAccount, Error> {
        let mut v = Validation::new(Algorithm::ES256);
        v.validate_exp = false;
        v.validate_aud = false;
        v.required_spec_claims.clear();
        v.set_issuer(&[ISSUER]);
        let claims: Claims = self.decode(token, &v)?;
        Ok(ServiceAccount {
            namespace: claims.namespace,
            account: BoundObject { name: claims.name, uid: claims.uid },
            pod: None,
            // The claims do not say which Secret of that name it was.
            secret: Some(BoundObject { name: claims.secret, uid: String::new() }),
            node: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use stoa_units::Time;

    #[test]
    fn the_two_kinds_of_tokens_never_pass_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let signer = TokenSigner::load_or_create(dir.path()).unwrap();
        let account = BoundObject { name: "a".into(), uid: "u".into() };
        let old = signer.sign_legacy("n", &account, "s").unwrap();
        let read = signer.verify_legacy(&old).unwrap();
        assert_eq!((read.namespace.as_str(), &read.account), ("n", &account));
        assert_eq!(read.secret.unwrap().name, "s");
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        assert!(signer.verify(now, &old, &[]).is_err());
        let whole = ServiceAccount { namespace: "n".into(), account, pod: None, secret: None, node: None };
        let (new, _) = signer.sign(now, &whole, &[], Duration::from_secs(600)).unwrap();
        assert!(signer.verify_legacy(&new).is_err());
        assert!(signer.verify_legacy("x.y.z").is_err());
    }
}
