//! What an operator says about registries: mirrors, private authorities, client certificates, credentials. One YAML file,
//! in the form that k3s made customary (`mirrors` and `configs`); it is read again for every pull.

use super::credentials::{Credentials, Keyring};
use super::error::PullError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of the file.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Endpoints of one registry.
const ENDPOINTS_MAX: usize = 16;

/// See the module.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, RegistryConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    endpoint: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RegistryConfig {
    auth: Option<Auth>,
    tls: Tls,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Auth {
    username: String,
    password: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(…)")
    }
}

/// How to know a registry, and to be known by it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// Where an image may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https` or `http`.
    pub(crate) scheme: &'static str,
    /// Host and port.
    pub(crate) authority: String,
    /// Before `/v2/`; empty or beginning with a slash.
    pub(crate) prefix: String,
    pub(crate) tls: Tls,
    /// A mirror, rather than the registry that the image names.
    pub(crate) is_mirror: bool,
    /// To be asked only where the same host was found to speak no TLS.
    pub(crate) is_fallback: bool,
}

impl Registries {
    /// Reads the file; one that does not exist says nothing.
    pub fn load(path: &Path) -> Result<Registries, PullError> {
        let bad = |why: String| PullError::Registries { path: path.to_path_buf(), why };
        let text = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Registries::default()),
            Err(e) => return Err(bad(e.to_string())),
            Ok(m) if m.len() > FILE_LEN_MAX => return Err(bad("it is too long".into())),
            Ok(_) => std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?,
        };
        let registries = Registries::parse(&text).map_err(bad)?;
        Ok(registries)
    }

    fn parse(text: &str) -> Result<Registries, String> {
        if text.trim().is_empty() {
            return Ok(Registries::default());
        }
        let registries: Registries = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        for endpoint in registries.mirrors.values().flat_map(|m| &m.endpoint) {
            registries.endpoint(endpoint, true)?;
        }
        Ok(registries)
    }

    fn endpoint(&self, url: &str, is_mirror: bool) -> Result<Endpoint, String> {
        let (scheme, rest) = if let Some(rest) = url.strip_prefix("https://") {
            ("https", rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            ("http", rest)
        } else {
            return Err(format!("endpoint {url:?} is neither an https nor an http address"));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.parse::<http::uri::Authority>().is_err() || authority.contains('@') {
            return Err(format!("endpoint {url:?} has no valid host"));
        }
        let path = path.trim_matches('/');
        let path = path.strip_suffix("v2").map_or(path, |p| p.trim_end_matches('/'));
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        let tls = self.configs.get(authority).map(|c| c.tls.clone()).unwrap_or_default();
        Ok(Endpoint { scheme, authority: authority.to_string(), prefix, tls, is_mirror, is_fallback: false })
    }

    /// Where to ask for images of a registry, in order: its mirrors, then itself. A registry on this very machine may
    /// speak plain HTTP; any other that does has to be named by an `http://` endpoint.
    pub(crate) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let mirrors = mirror.into_iter().flat_map(|m| &m.endpoint).take(ENDPOINTS_MAX);
        let mut all: Vec<Endpoint> = mirrors.filter_map(|e| self.endpoint(e, true).ok()).collect();
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let own = |scheme: &'static str| Endpoint {
            scheme,
            authority: host.to_string(),
            prefix: String::new(),
            tls: self
                .configs
                .get(registry)
                .or_else(|| self.configs.get(host))
                .map(|c| c.tls.clone())
                .unwrap_or_default(),
            is_mirror: false,
            is_fallback: scheme == "http",
        };
        // A mirror entry that is the registry itself says how it is spoken to.
        if !all.iter().any(|e| e.authority == host && e.prefix.is_empty()) {
            all.push(own("https"));
            if is_loopback(host) {
                all.push(own("http"));
            }
        }
        for e in &mut all {
            e.is_mirror = e.authority != host;
        }
        all
    }

    /// The operator's own credentials for a registry or mirror.
    pub(crate) fn credentials(&self, authority: &str) -> Option<Credentials> {
        let auth = self.configs.get(authority)?.auth.clone()?;
        Some(Credentials::Basic { user: auth.username, password: auth.password })
    }

    /// What was said of a host's TLS, if anything.
    pub(crate) fn tls(&self, authority: &str) -> Option<Tls> {
        self.configs.get(authority).map(|c| c.tls.clone())
    }

    /// Credentials to try at an endpoint: the pod's for the registry that its image names or for the mirror by its own name,
    /// then the operator's. What is meant for a registry is never shown to a mirror.
    pub(crate) fn candidates(
        &self,
        endpoint: &Endpoint,
        registry: &str,
        path: &str,
        ring: &Keyring,
    ) -> Vec<Credentials> {
        let host = if endpoint.is_mirror { endpoint.authority.as_str() } else { registry };
        let mut all = ring.find(host, path);
        all.extend(self.credentials(&endpoint.authority).or_else(|| self.credentials(host)));
        all
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(h, _)| h).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
mirrors:
  docker.io:
    endpoint: [\"https://mirror.example:5000/v2\", \"http://plain.example/hub\"]
configs:
  mirror.example:5000:
    auth: {username: u, password: p}
    tls: {ca_file: /etc/ca.pem}
";

    #[test]
    fn mirrors_come_first_and_see_their_own_credentials_only() {
        let r = Registries::parse(FILE).unwrap();
        let all = r.endpoints("docker.io");
        let shown: Vec<String> =
            all.iter().map(|e| format!("{}://{}{}", e.scheme, e.authority, e.prefix)).collect();
        assert_eq!(
            shown,
            ["https://mirror.example:5000", "http://plain.example/hub", "https://registry-1.docker.io"]
        );
        assert_eq!(all[0].tls.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
        let mut ring = Keyring::default();
        ring.add("docker.io", Credentials::Bearer("hub's own".into()));
        let at = |i: usize| r.candidates(&all[i], "docker.io", "library/x", &ring);
        assert_eq!(at(0), [Credentials::Basic { user: "u".into(), password: "p".into() }]);
        assert_eq!(at(1), []);
        assert_eq!(at(2), [Credentials::Bearer("hub's own".into())]);
    }

    #[test]
    fn only_a_registry_on_this_machine_may_speak_plainly() {
        let r = Registries::default();
        let schemes = |h: &str| r.endpoints(h).iter().map(|e| e.scheme).collect::<Vec<_>>();
        assert!(r.endpoints("localhost").iter().all(|e| e.is_fallback == (e.scheme == "http")));
        let named =
            Registries::parse("mirrors: {reg.example: {endpoint: [\"http://reg.example\"]}}").unwrap();
        assert!(!named.endpoints("reg.example")[0].is_fallback, "an operator's word is enough");
        assert_eq!(schemes("reg.example"), ["https"]);
        assert_eq!(schemes("127.0.0.1:5000"), ["https", "http"]);
        assert_eq!(schemes("localhost:5000"), ["https", "http"]);
        assert_eq!(schemes("127.0.0.1.example"), ["https"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "mirrors: {a: {endpoint: [\"ftp://x\"]}}",
            "mirrors: {a: {endpoint: [\"https://u@x\"]}}",
            "mirror: {}",
        ] {
            assert!(Registries::parse(bad).is_err(), "{bad}");
        }
    }
}
