//! The distribution protocol, as a reader speaks it: manifests and blobs of one repository at one endpoint, with the logins
//! that a registry may ask for. What is fetched by digest is compared with it before anyone looks inside.

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::error::PullError;
use super::http::{Http, read_whole, shown};
use super::registries::{Endpoint, Registries, Tls};
use crate::{Digest, Reference};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Mutex;

/// Bytes of a manifest or an index; the protocol's own recommendation.
pub(crate) const MANIFEST_LEN_MAX: u64 = 4 << 20;
/// Bytes of a token server's answer, and of an error's.
const WORDS_LEN_MAX: u64 = 256 * 1024;
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Characters of a registry's own words in a message.
const DETAIL_LEN_MAX: usize = 300;

const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// One repository at one endpoint, with one login.
pub(crate) struct Session<'a> {
    pub(crate) http: &'a Http,
    pub(crate) registries: &'a Registries,
    pub(crate) endpoint: Endpoint,
    pub(crate) reference: &'a Reference,
    pub(crate) credentials: Option<Credentials>,
    /// The header that the last challenge led to.
    pub(crate) authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest or an index.
pub(crate) struct Manifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Token {
    token: String,
    access_token: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    errors: Vec<Word>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Word {
    code: String,
    message: String,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        http: &'a Http,
        registries: &'a Registries,
        endpoint: Endpoint,
        reference: &'a Reference,
        credentials: Option<Credentials>,
    ) -> Session<'a> {
        Session { http, registries, endpoint, reference, credentials, authorization: Mutex::new(None) }
    }

    fn url(&self, tail: &str) -> Result<Uri, PullError> {
        let Endpoint { scheme, authority, prefix, .. } = &self.endpoint;
        let mut text = format!("{scheme}://{authority}{prefix}/v2/{}/{tail}", self.reference.path());
        if self.endpoint.is_mirror {
            // A mirror of several registries is told which one is meant.
            text.push_str(&format!("?ns={}", self.reference.registry()));
        }
        text.parse().map_err(|e| PullError::Hostile(format!("no address: {e}")))
    }

    fn stored(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Gets something below the repository, logging in where that is asked for.
    async fn get(
        &self,
        tail: &str,
        accept: Option<&'static str>,
        from: u64,
    ) -> Result<(Response<Incoming>, String), PullError> {
        let mut uri = self.url(tail)?;
        let home = uri.authority().cloned();
        let (mut logins, mut redirects) = (0, 0);
        loop {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            if from > 0 {
                headers.extend(HeaderValue::from_str(&format!("bytes={from}-")).ok().map(|v| (RANGE, v)));
            }
            let is_home = uri.authority() == home.as_ref();
            if is_home && let Some(value) = self.stored() {
                headers.insert(AUTHORIZATION, value);
            }
            let tls = self.tls_of(&uri);
            let response = self.http.send(Method::GET, &uri, headers, Bytes::new(), &tls).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && is_home && logins == 0 {
                logins += 1;
                let asked = response.headers().get_all(WWW_AUTHENTICATE).iter();
                let challenge = asked.filter_map(|v| Challenge::parse(v.to_str().ok()?)).next();
                let Some(challenge) = challenge else {
                    return Err(PullError::Denied(
                        "authorization failed: no challenge that can be met".into(),
                    ));
                };
                let header = self.log_in(&challenge).await?;
                *self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(header);
                continue;
            }
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                redirects += 1;
                let to = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
                let next = to.and_then(|to| follow(&uri, to));
                let Some(next) = next.filter(|_| redirects <= REDIRECTS_MAX) else {
                    return Err(PullError::Hostile(format!("a redirect of {} leads nowhere", shown(&uri))));
                };
                uri = next;
                continue;
            }
            return Ok((response, shown(&uri)));
        }
    }

    /// Client certificates and private authorities count for the host that they were given for.
    fn tls_of(&self, uri: &Uri) -> Tls {
        let authority = uri.authority().map_or("", |a| a.as_str());
        if authority == self.endpoint.authority {
            return self.endpoint.tls.clone();
        }
        self.registries
            .tls(authority)
            .unwrap_or_else(|| Tls { ca_file: self.endpoint.tls.ca_file.clone(), ..Tls::default() })
    }

    async fn log_in(&self, challenge: &Challenge) -> Result<HeaderValue, PullError> {
        let secret = |text: String| {
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                PullError::Denied("the credentials hold characters that no header may".into())
            })?;
            value.set_sensitive(true);
            Ok::<_, PullError>(value)
        };
        let basic = |c: &Credentials| match c {
            Credentials::Basic { user, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            _ => None,
        };
        let (realm, service) = match challenge {
            Challenge::Basic => {
                let text = self.credentials.as_ref().and_then(basic);
                return secret(text.ok_or_else(|| {
                    PullError::Denied("authorization failed: no basic auth credentials".into())
                })?);
            }
            Challenge::Bearer { realm, service, .. } => (realm, service),
        };
        if let Some(Credentials::Bearer(token)) = &self.credentials {
            return secret(format!("Bearer {token}"));
        }
        let uri: Uri =
            realm.parse().map_err(|_| PullError::Hostile("its token server has no address".into()))?;
        let is_plain = uri.scheme_str() != Some("https");
        if uri.authority().is_none()
            || is_plain && (self.endpoint.scheme == "https" || uri.scheme_str() != Some("http"))
        {
            return Err(PullError::Hostile("its token server is not reached by TLS".into()));
        }
        // Our own words, not the challenge's: a token is never good for more than reading this repository.
        let scope = format!("repository:{}:pull", self.reference.path());
        let fields = format!("service={}&scope={}", escape(service), escape(&scope));
        let mut headers = HeaderMap::new();
        let (method, uri, body) = match &self.credentials {
            Some(Credentials::Refresh(token)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                let form = format!(
                    "grant_type=refresh_token&client_id=stoa&{fields}&refresh_token={}",
                    escape(token)
                );
                (Method::POST, uri, Bytes::from(form))
            }
            given => {
                if let Some(text) = given.as_ref().and_then(basic) {
                    headers.insert(AUTHORIZATION, secret(text)?);
                }
                let between = if realm.contains('?') { '&' } else { '?' };
                let asked = format!("{realm}{between}{fields}").parse();
                (
                    Method::GET,
                    asked.map_err(|_| PullError::Hostile("its token server has no address".into()))?,
                    Bytes::new(),
                )
            }
        };
        let response = self.http.send(method, &uri, headers, body, &self.tls_of(&uri)).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(PullError::Denied(format!(
                "failed to authorize: failed to fetch oauth token: unexpected status from GET request to {}: {status}",
                shown(&uri)
            )));
        }
        let answer = read_whole(response.into_body(), WORDS_LEN_MAX, &shown(&uri)).await?;
        let token: Token = serde_json::from_slice(&answer)
            .map_err(|_| PullError::Hostile("its token server's answer is no token".into()))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        if token.is_empty() {
            return Err(PullError::Hostile("its token server's answer is no token".into()));
        }
        secret(format!("Bearer {token}"))
    }

    /// A manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Manifest, PullError> {
        let (response, url) = self.get(&format!("manifests/{name}"), Some(MANIFEST_TYPES), 0).await?;
        let response = self.expect(response, &url, &[StatusCode::OK]).await?;
        let bytes = read_whole(response.into_body(), MANIFEST_LEN_MAX, &url).await?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = Digest::parse(name)
            && wanted != digest
        {
            return Err(PullError::Digest { what: "manifest", wanted, found: digest });
        }
        Ok(Manifest { bytes, digest })
    }

    /// A small blob, whole.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        what: &'static str,
        len_max: u64,
    ) -> Result<Vec<u8>, PullError> {
        let (response, url) = self.get(&format!("blobs/{digest}"), None, 0).await?;
        let response = self.expect(response, &url, &[StatusCode::OK]).await?;
        let bytes = read_whole(response.into_body(), len_max, &url).await?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(PullError::Digest { what, wanted: digest.clone(), found });
        }
        Ok(bytes)
    }

    /// The body of a blob from byte `from` on; the registry may begin at zero all the same, which the status tells.
    pub(crate) async fn open_blob(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<(Response<Incoming>, String), PullError> {
        let (response, url) = self.get(&format!("blobs/{digest}"), None, from).await?;
        let good = [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];
        let response = self.expect(response, &url, &good).await?;
        Ok((response, url))
    }

    async fn expect(
        &self,
        response: Response<Incoming>,
        url: &str,
        good: &[StatusCode],
    ) -> Result<Response<Incoming>, PullError> {
        let status = response.status();
        if good.contains(&status) {
            return Ok(response);
        }
        let words = read_whole(response.into_body(), WORDS_LEN_MAX, url).await.unwrap_or_default();
        let words: Words = serde_json::from_slice(&words).unwrap_or_default();
        let said: Vec<String> = words
            .errors
            .iter()
            .take(3)
            .map(|w| format!("{}: {}", w.code.to_ascii_lowercase(), w.message))
            .collect();
        let said: String = said.join("; ").chars().filter(|c| !c.is_control()).take(DETAIL_LEN_MAX).collect();
        Err(match status {
            StatusCode::NOT_FOUND => PullError::NotFound(self.reference.to_string()),
            StatusCode::UNAUTHORIZED if self.credentials.is_none() => {
                PullError::Denied("authorization failed: no basic auth credentials".into())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let said = if said.is_empty() { status.to_string() } else { said };
                PullError::Denied(format!("server message: {said}: authorization failed"))
            }
            _ => PullError::Status {
                url: url.to_string(),
                status: status.to_string(),
                detail: if said.is_empty() { said } else { format!(": {said}") },
            },
        })
    }
}

/// Where a redirect leads. Never from TLS to plain text.
fn follow(from: &Uri, to: &str) -> Option<Uri> {
    let next: Uri = to.parse().ok()?;
    let mut parts = next.into_parts();
    if parts.scheme.is_none() {
        parts.scheme = from.scheme().cloned();
        if parts.authority.is_none() {
            parts.authority = from.authority().cloned();
        }
    }
    parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    let next = Uri::from_parts(parts).ok()?;
    match (from.scheme_str(), next.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Some(next),
        _ => None,
    }
}

/// Escapes for a query.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(b as char),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_tls() {
        let from: Uri = "https://reg.example/v2/a/blobs/x".parse().unwrap();
        let to = |t: &str| follow(&from, t).map(|u| u.to_string());
        assert_eq!(to("https://cdn.example/b?sig=1").as_deref(), Some("https://cdn.example/b?sig=1"));
        assert_eq!(to("/elsewhere").as_deref(), Some("https://reg.example/elsewhere"));
        assert_eq!(to("http://cdn.example/b"), None);
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(escape("a b/c:é"), "a%20b%2Fc%3A%C3%A9");
    }
}
