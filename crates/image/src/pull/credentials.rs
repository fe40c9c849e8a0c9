//! Credentials for registries as Kubernetes keeps them (`kubernetes.io/dockerconfigjson`), and which of them an image may use:
//! by host (each label may be a glob), port, and the beginning of the path, the longest first.

use crate::{Digest, Reference};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Entries of one keyring; more are not looked at.
const ENTRIES_MAX: usize = 1_000;

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password, or a token that serves as one.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token, exchanged at the token server.
    Refresh(String),
    /// A bearer token that is sent as it stands.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// What may be remembered of credentials: that the same were shown before.
    pub(crate) fn fingerprint(&self, repository: &str) -> String {
        let text = match self {
            Credentials::Basic { user, password } => format!("basic\0{user}\0{password}"),
            Credentials::Refresh(t) => format!("refresh\0{t}"),
            Credentials::Bearer(t) => format!("bearer\0{t}"),
        };
        Digest::of(format!("{repository}\0{text}").as_bytes()).hex().to_string()
    }
}

/// Credentials by where they count.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Vec<(Place, Credentials)>);

/// Why text is no keyring.
#[derive(Debug, thiserror::Error)]
#[error("the docker configuration is malformed: {0}")]
pub struct KeyringError(String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: String,
    path: String,
}

impl Place {
    fn parse(key: &str) -> Option<Place> {
        let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        // The addresses that `docker login` writes end in the API's version.
        let path = path
            .strip_prefix("v1")
            .or_else(|| path.strip_prefix("v2"))
            .map_or(path, |rest| rest.trim_matches('/'));
        let (host, port) = match authority.rsplit_once(':') {
            Some((h, p)) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => (h, p),
            _ => (authority, ""),
        };
        let host = match host {
            "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io",
            other => other,
        };
        (!host.is_empty()).then(|| Place {
            host: host.to_ascii_lowercase(),
            port: port.to_string(),
            path: path.to_string(),
        })
    }

    fn covers(&self, registry: &str, path: &str) -> bool {
        let (host, port) = registry.rsplit_once(':').unwrap_or((registry, ""));
        let globs: Vec<&str> = self.host.split('.').collect();
        let labels: Vec<&str> = host.split('.').collect();
        globs.len() == labels.len()
            && globs.iter().zip(&labels).all(|(g, l)| glob(g.as_bytes(), l.as_bytes()))
            && self.port == port
            && (self.path.is_empty()
                || path == self.path
                || path.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// Matches one label; `*` is any run of characters. Linear: it goes back to the last star only.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if c.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerAuth {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerAuth {
    fn credentials(self) -> Result<Option<Credentials>, KeyringError> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Bearer(self.registrytoken)));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Refresh(self.identitytoken)));
        }
        if !self.username.is_empty() || !self.password.is_empty() {
            return Ok(Some(Credentials::Basic { user: self.username, password: self.password }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let bad = || KeyringError("`auth` is not the base64 form of name:password".into());
        let text =
            String::from_utf8(STANDARD.decode(self.auth.trim()).map_err(|_| bad())?).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        let (user, password) = (user.to_string(), password.trim_end_matches('\0').to_string());
        Ok(Some(Credentials::Basic { user, password }))
    }
}

impl Keyring {
    /// Adds the entries of a `.dockerconfigjson`.
    pub fn add_docker_config(&mut self, json: &[u8]) -> Result<(), KeyringError> {
        let config: DockerConfig = serde_json::from_slice(json).map_err(|e| KeyringError(e.to_string()))?;
        self.add_auths(config.auths)
    }

    /// Adds the entries of the older `.dockercfg`, which has them at the top.
    pub fn add_legacy_config(&mut self, json: &[u8]) -> Result<(), KeyringError> {
        self.add_auths(serde_json::from_slice(json).map_err(|e| KeyringError(e.to_string()))?)
    }

    fn add_auths(&mut self, auths: BTreeMap<String, DockerAuth>) -> Result<(), KeyringError> {
        for (key, auth) in auths {
            let Some(place) = Place::parse(&key) else { continue };
            if let Some(credentials) = auth.credentials()?
                && self.0.len() < ENTRIES_MAX
            {
                self.0.push((place, credentials));
            }
        }
        // The longest path first; a host spelled out before a glob.
        self.0.sort_by_key(|(p, _)| (std::cmp::Reverse(p.path.len()), p.host.contains('*')));
        Ok(())
    }

    /// Adds credentials for one registry.
    pub fn add(&mut self, registry: &str, credentials: Credentials) {
        if let (Some(place), true) = (Place::parse(registry), self.0.len() < ENTRIES_MAX) {
            self.0.insert(0, (place, credentials));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&self, registry: &str, path: &str) -> Vec<Credentials> {
        let matching = self.0.iter().filter(|(place, _)| place.covers(registry, path));
        let mut found: Vec<Credentials> = Vec::new();
        for (_, credentials) in matching {
            if !found.contains(credentials) {
                found.push(credentials.clone());
            }
        }
        found
    }

    /// What was remembered of a pull with any of these for this image.
    pub(crate) fn fingerprints(&self, reference: &Reference) -> Vec<String> {
        let found = self.find(reference.registry(), reference.path());
        found.iter().map(|c| c.fingerprint(&reference.repository())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&str]) -> Keyring {
        let auths: BTreeMap<&str, serde_json::Value> =
            keys.iter().map(|k| (*k, serde_json::json!({"username": k, "password": "p"}))).collect();
        let mut ring = Keyring::default();
        ring.add_docker_config(&serde_json::to_vec(&serde_json::json!({ "auths": auths })).unwrap()).unwrap();
        ring
    }

    #[test]
    fn credentials_count_where_their_key_says_and_nowhere_else() {
        for (key, image, counts) in [
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "me/app", true),
            ("reg.example", "reg.example/a", true),
            ("reg.example", "reg.example:5000/a", false),
            ("reg.example:5000", "reg.example:5000/a/b", true),
            ("reg.example/a", "reg.example/a/b", true),
            ("reg.example/a", "reg.example/ab", false),
            ("*.example", "reg.example/a", true),
            ("*.example", "a.reg.example/a", false),
            ("*", "reg.example/a", false),
            ("reg.example", "evil-reg.example/a", false),
            ("http://localhost:5000/v2/", "localhost:5000/x", true),
        ] {
            let r = Reference::parse(image).unwrap();
            assert_eq!(!ring(&[key]).find(r.registry(), r.path()).is_empty(), counts, "{key} for {image}");
        }
    }

    #[test]
    fn the_narrowest_key_is_tried_first() {
        let ring = ring(&["reg.example", "reg.example/team/app", "*.example", "reg.example/team"]);
        let names: Vec<String> = ring
            .find("reg.example", "team/app")
            .into_iter()
            .map(|c| match c {
                Credentials::Basic { user, .. } => user,
                _ => String::new(),
            })
            .collect();
        assert_eq!(names, ["reg.example/team/app", "reg.example/team", "reg.example", "*.example"]);
    }

    #[test]
    fn each_form_of_an_entry_is_read() {
        let mut ring = Keyring::default();
        let config = serde_json::json!({"auths": {"a.b": {"auth": STANDARD.encode("u:p:q")}, "c.d": {"identitytoken": "t"}, "e.f": {}}});
        ring.add_docker_config(config.to_string().as_bytes()).unwrap();
        assert_eq!(ring.find("a.b", "x"), [Credentials::Basic { user: "u".into(), password: "p:q".into() }]);
        assert_eq!(ring.find("c.d", "x"), [Credentials::Refresh("t".into())]);
        assert!(ring.find("e.f", "x").is_empty());
        assert!(ring.add_docker_config(b"{\"auths\": {\"a\": {\"auth\": \"!\"}}}").is_err());
        assert!(!format!("{ring:?}").contains("p:q"), "secrets are never printed");
    }
}
