//! Service-account tokens: JWTs signed with ES256, with the claims that a stock API server writes and reads
//! (`kubernetes.io/serviceaccount` bound to a pod, audiences, expiry). The key set is published as JWKS.

use crate::{Error, files};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;
use stoa_units::Time;

/// Longest token that is looked at.
const TOKEN_LEN_MAX: usize = 8 * 1024;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// For whom a token is meant.
pub type Audiences = Vec<String>;

/// A named object that a token is bound to: when it goes, so does the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundObject {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The service account that a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Namespace of the account.
    pub namespace: String,
    /// The account itself.
    pub account: BoundObject,
    /// The pod that the token is bound to, if any.
    pub pod: Option<BoundObject>,
    /// The secret that the token is bound to, if any.
    pub secret: Option<BoundObject>,
    /// The node that the pod runs on, if known.
    pub node: Option<BoundObject>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: BoundObject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<BoundObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<BoundObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<BoundObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

/// The claims of a token, as they stand in the JWT.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    iat: i64,
    nbf: i64,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

/// A token whose signature, issuer, audience and times are right. Whether the bound objects still exist is the caller's check.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whom it speaks for.
    pub service_account: ServiceAccount,
    /// The audiences that both sides agree on.
    pub audiences: Audiences,
    /// The token's own id.
    pub id: String,
}

/// Signs and verifies tokens with one key.
pub struct TokenSigner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    jwks: String,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Loads the signing key of `dir`, or makes one there.
    pub fn load_or_create(dir: &Path) -> Result<TokenSigner, Error> {
        let path = dir.join("sa.key");
        let key = match files::read_private(&path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| Error::Certificate("read the token key", e))?,
            None => {
                files::create_dir(dir)?;
                let key = KeyPair::generate().map_err(|e| Error::Certificate("make a key", e))?;
                files::write(&path, &key.serialize_pem(), 0o600)?;
                files::write(&dir.join("sa.pub"), &key.public_key_pem(), 0o644)?;
                key
            }
        };
        // An uncompressed P-256 point: 0x04, x, y.
        let point = key.public_key_raw();
        let (x, y) = match point {
            [4, rest @ ..] if rest.len() == 64 => rest.split_at(32),
            _ => return Err(Error::Token("the token key is not an ECDSA P-256 key")),
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(point));
        let jwks = serde_json::json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y,
        }]})
        .to_string();
        let encoding = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).map_err(Error::Sign)?;
        let decoding = DecodingKey::from_ec_components(&x, &y).map_err(Error::Sign)?;
        Ok(TokenSigner { encoding, decoding, key_id, jwks })
    }

    /// The issuer's name: also the audience of tokens that name none.
    pub fn issuer(&self) -> &'static str {
        ISSUER
    }

    /// The public keys as a JSON Web Key Set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// Signs a token that is valid from `now` for `lifetime`. Returns it with its expiry.
    pub fn sign(
        &self,
        now: Time,
        account: &ServiceAccount,
        audiences: &[String],
        lifetime: Duration,
    ) -> Result<(String, Time), Error> {
        let expires = now.plus(lifetime);
        let issued = now.0.as_second();
        let claims = Claims {
            iss: ISSUER.to_string(),
            sub: format!("system:serviceaccount:{}:{}", account.namespace, account.account.name),
            aud: if audiences.is_empty() { vec![ISSUER.to_string()] } else { audiences.to_vec() },
            exp: expires.0.as_second(),
            iat: issued,
            nbf: issued,
            jti: uuid::Uuid::new_v4().to_string(),
            private: Private {
                namespace: account.namespace.clone(),
                serviceaccount: account.account.clone(),
                pod: account.pod.clone(),
                secret: account.secret.clone(),
                node: account.node.clone(),
                warnafter: None,
            },
        };
        let token = self.encode(&claims)?;
        Ok((token, expires))
    }

    pub(crate) fn encode<T: Serialize>(&self, claims: &T) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        header.typ = None;
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(Error::Sign)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, token: &str, v: &Validation) -> Result<T, Error> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(Error::Token("too long"));
        }
        let decoded = jsonwebtoken::decode::<T>(token, &self.decoding, v);
        decoded.map(|d| d.claims).map_err(|_| Error::Token("signature or form is wrong"))
    }

    /// Checks a token's signature, issuer and times, and that it is meant for one of `audiences` (the issuer if empty).
    pub fn verify(&self, now: Time, token: &str, audiences: &[String]) -> Result<Verified, Error> {
        let mut v = Validation::new(Algorithm::ES256);
        // Times are judged below against the clock that was handed in.
        v.validate_exp = false;
        v.validate_nbf = false;
        v.validate_aud = false;
        v.set_issuer(&[ISSUER]);
        let claims: Claims = self.decode(token, &v)?;
        let seconds = now.0.as_second();
        if seconds >= claims.exp {
            return Err(Error::Token("expired"));
        }
        if seconds < claims.nbf {
            return Err(Error::Token("not valid yet"));
        }
        let own = [ISSUER.to_string()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let agreed: Audiences = claims.aud.into_iter().filter(|a| wanted.contains(a)).collect();
        if agreed.is_empty() {
            return Err(Error::Token("meant for another audience"));
        }
        let p = claims.private;
        Ok(Verified {
            service_account: ServiceAccount {
                namespace: p.namespace,
                account: p.serviceaccount,
                pod: p.pod,
                secret: p.secret,
                node: p.node,
            },
            audiences: agreed,
            id: claims.jti,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> ServiceAccount {
        let object = |name: &str| BoundObject { name: name.into(), uid: format!("{name}-uid") };
        ServiceAccount {
            namespace: "ns".into(),
            account: object("sa"),
            pod: Some(object("p")),
            secret: None,
            node: None,
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_its_audience_and_its_signer_only() {
        let (d1, d2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let signer = TokenSigner::load_or_create(d1.path()).unwrap();
        let other = TokenSigner::load_or_create(d2.path()).unwrap();
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        let hour = Duration::from_secs(3600);
        let (token, expires) = signer.sign(now, &account(), &[], hour).unwrap();
        assert_eq!(expires, now.plus(hour));
        let again = TokenSigner::load_or_create(d1.path()).unwrap();
        let ok = again.verify(now, &token, &[]).unwrap();
        assert_eq!(ok.service_account, account());
        assert!(signer.verify(now.plus(hour), &token, &[]).is_err(), "expired");
        assert!(signer.verify(now, &token, &["vault".into()]).is_err(), "other audience");
        assert!(other.verify(now, &token, &[]).is_err(), "other signer");
        let mut forged = token.clone();
        let flipped = if forged.ends_with('A') { 'B' } else { 'A' };
        forged.pop();
        forged.push(flipped);
        // The last character of a 64-byte signature carries two bits only, so flip an earlier one as well.
        forged.replace_range(10..11, if &forged[10..11] == "a" { "b" } else { "a" });
        assert!(signer.verify(now, &forged, &[]).is_err());
        for junk in ["", "a.b.c", "....", &"x".repeat(TOKEN_LEN_MAX + 1)] {
            assert!(signer.verify(now, junk, &[]).is_err());
        }
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let d = tempfile::tempdir().unwrap();
        let signer = TokenSigner::load_or_create(d.path()).unwrap();
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        let (token, _) = signer.sign(now, &account(), &[], Duration::from_secs(60)).unwrap();
        let body = token.split('.').nth(1).unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert!(signer.verify(now, &format!("{none}.{body}."), &[]).is_err());
    }
}
