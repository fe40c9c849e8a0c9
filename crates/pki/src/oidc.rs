//! Tokens of a foreign OpenID issuer: judged by its published keys and by how its claims are to be read. Fetching the keys is the
//! caller's business.

use crate::Error;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use std::str::FromStr;
use stoa_units::Time;

/// Longest token that is looked at.
const TOKEN_LEN_MAX: usize = 16 * 1024;

/// How tokens of an issuer are read. Defaults and names are those of a stock server's flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Who issues them: an `https` URL, without a slash at the end if the tokens have none.
    pub issuer: String,
    /// For whom they must be meant.
    pub client_id: String,
    /// Which claim is the user's name.
    pub username_claim: String,
    /// What the name is prefixed with; `None` is the issuer and `#`, unless the claim is `email`; `-` is nothing.
    pub username_prefix: Option<String>,
    /// Which claim are the groups; none if empty.
    pub groups_claim: String,
    /// What every group is prefixed with.
    pub groups_prefix: String,
    /// Claims that must have these values.
    pub required_claims: Vec<(String, String)>,
    /// The algorithms that may have signed them.
    pub algorithms: Vec<String>,
}

impl Reading {
    /// Tokens of that issuer for that client, read as a stock server does by default.
    pub fn new(issuer: &str, client_id: &str) -> Reading {
        Reading {
            issuer: issuer.into(),
            client_id: client_id.into(),
            username_claim: "sub".into(),
            username_prefix: None,
            groups_claim: String::new(),
            groups_prefix: String::new(),
            required_claims: Vec::new(),
            algorithms: vec!["RS256".into()],
        }
    }

    fn prefix(&self) -> String {
        match self.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_string(),
            None if self.username_claim == "email" => String::new(),
            None => format!("{}#", self.issuer),
        }
    }
}

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreigner {
    /// The user's name.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

/// An issuer's public keys.
#[derive(Clone, Debug)]
pub struct ForeignKeys(JwkSet);

impl ForeignKeys {
    /// Reads a JSON Web Key Set.
    pub fn parse(json: &[u8]) -> Result<ForeignKeys, Error> {
        serde_json::from_slice(json)
            .map(ForeignKeys)
            .map_err(|_| Error::Token("the issuer's keys cannot be read"))
    }

    /// Whether a token's key is among them. `None`: the token is no token at all, or does not say.
    pub fn has_key_of(&self, token: &str) -> Option<bool> {
        let id = jsonwebtoken::decode_header(token).ok()?.kid?;
        Some(self.0.find(&id).is_some())
    }

    /// Judges a token.
    pub fn verify(&self, now: Time, token: &str, reading: &Reading) -> Result<Foreigner, Error> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(Error::Token("too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Error::Token("it has no header"))?;
        let allowed: Vec<Algorithm> =
            reading.algorithms.iter().filter_map(|a| Algorithm::from_str(a).ok()).collect();
        let symmetric = matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        if symmetric || !allowed.contains(&header.alg) {
            return Err(Error::Token("its algorithm is not allowed"));
        }
        let mut v = Validation::new(header.alg);
        // Judged below: times by the clock that was handed in, the rest by how claims are to be read.
        v.validate_exp = false;
        v.validate_nbf = false;
        v.validate_aud = false;
        v.required_spec_claims.clear();
        let candidates: Vec<_> = match &header.kid {
            Some(id) => self.0.find(id).into_iter().collect(),
            None => self.0.keys.iter().collect(),
        };
        let claims = candidates.into_iter().find_map(|key| {
            let key = DecodingKey::from_jwk(key).ok()?;
            jsonwebtoken::decode::<Map<String, Value>>(token, &key, &v).ok().map(|d| d.claims)
        });
        judge(now, &claims.ok_or(Error::Token("signature or form is wrong"))?, reading)
    }
}

fn judge(now: Time, claims: &Map<String, Value>, reading: &Reading) -> Result<Foreigner, Error> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&reading.issuer) {
        return Err(Error::Token("it is of another issuer"));
    }
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => *one == reading.client_id,
        Some(Value::Array(all)) => all.iter().any(|a| *a == reading.client_id.as_str()),
        _ => false,
    };
    if !for_us {
        return Err(Error::Token("it is meant for another audience"));
    }
    let seconds = now.0.as_second();
    let at = |name: &str| claims.get(name).and_then(Value::as_f64).map(|n| n as i64);
    if at("exp").is_none_or(|end| seconds >= end) {
        return Err(Error::Token("it has expired"));
    }
    if at("nbf").is_some_and(|begin| seconds < begin) {
        return Err(Error::Token("it is not valid yet"));
    }
    for (name, value) in &reading.required_claims {
        if text(name) != Some(value) {
            return Err(Error::Token("a required claim is not as it must be"));
        }
    }
    let user = text(&reading.username_claim).filter(|u| !u.is_empty());
    let user = user.ok_or(Error::Token("the claim of the user's name is no text"))?;
    // An address that nobody has verified says nothing about who one is.
    if reading.username_claim == "email" && claims.get("email_verified").is_some_and(|v| *v != true) {
        return Err(Error::Token("the mail address is not verified"));
    }
    let groups: Vec<&str> =
        match claims.get(&reading.groups_claim).filter(|_| !reading.groups_claim.is_empty()) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) if all.iter().all(Value::is_string) => {
                all.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => return Err(Error::Token("the claim of the groups is no list of texts")),
        };
    Ok(Foreigner {
        user: format!("{}{user}", reading.prefix()),
        groups: groups.into_iter().map(|g| format!("{}{g}", reading.groups_prefix)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims() -> Value {
        json!({"iss": "https://id.example", "aud": ["other", "stoa"], "exp": 2_000_000_000, "sub": "u1",
            "email": "u@example", "email_verified": true, "groups": ["dev", "ops"], "team": "x"})
    }

    fn judged(change: Value, reading: impl FnOnce(&mut Reading)) -> Result<Foreigner, String> {
        let mut claims = claims().as_object().unwrap().clone();
        for (k, v) in change.as_object().unwrap() {
            claims.insert(k.clone(), v.clone());
        }
        let mut r = Reading::new("https://id.example", "stoa");
        reading(&mut r);
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        judge(now, &claims, &r).map_err(|e| e.to_string())
    }

    #[test]
    fn claims_are_read_as_the_flags_say() {
        let plain = judged(json!({}), |_| {}).unwrap();
        assert_eq!((plain.user.as_str(), plain.groups.len()), ("https://id.example#u1", 0));
        let mail = judged(json!({}), |r| {
            r.username_claim = "email".into();
            r.groups_claim = "groups".into();
            r.groups_prefix = "oidc:".into();
        });
        assert_eq!(
            mail.unwrap(),
            Foreigner { user: "u@example".into(), groups: vec!["oidc:dev".into(), "oidc:ops".into()] }
        );
        let bare = judged(json!({"groups": "one"}), |r| {
            r.username_prefix = Some("-".into());
            r.groups_claim = "groups".into();
        });
        assert_eq!(bare.unwrap(), Foreigner { user: "u1".into(), groups: vec!["one".into()] });
        assert!(judged(json!({}), |r| r.required_claims = vec![("team".into(), "x".into())]).is_ok());
    }

    #[test]
    fn a_token_that_is_not_for_us_is_refused() {
        for change in [
            json!({"iss": "https://evil.example"}),
            json!({"aud": "other"}),
            json!({"exp": 1}),
            json!({"exp": null}),
            json!({"nbf": 1_999_999_999}),
            json!({"sub": 5}),
            json!({"sub": ""}),
        ] {
            assert!(judged(change.clone(), |_| {}).is_err(), "{change}");
        }
        assert!(judged(json!({"email_verified": false}), |r| r.username_claim = "email".into()).is_err());
        assert!(judged(json!({"groups": [1]}), |r| r.groups_claim = "groups".into()).is_err());
        assert!(judged(json!({}), |r| r.required_claims = vec![("team".into(), "y".into())]).is_err());
    }
}
