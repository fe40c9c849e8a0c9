//! Tokens of an OpenID issuer: its keys are fetched when first needed, kept, and fetched again when a token names one that is not
//! among them, though not more often than a pause allows.

use super::{Authenticated, TokenAuthenticator};
use crate::Error;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::User;
use stoa_pki::{ForeignKeys, Reading};
use stoa_units::Clock;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// How long the issuer may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two fetches of keys: whoever sends us made-up tokens must not make us flood the issuer.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// Longest document of the issuer's.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Where systems keep the authorities that everybody trusts.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// An issuer, and how its tokens are read.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// How claims become a user.
    pub reading: Reading,
    /// Who signs the issuer's certificate (PEM); the system's authorities if `None`.
    pub ca_pem: Option<String>,
}

pub(crate) struct Oidc {
    reading: Reading,
    tls: TlsConnector,
    clock: Arc<dyn Clock>,
    keys: RwLock<Option<ForeignKeys>>,
    fetched: Mutex<Option<Instant>>,
}

impl Oidc {
    pub(crate) fn new(options: &OidcOptions, clock: Arc<dyn Clock>) -> Result<Oidc, Error> {
        let refuse = |why: &dyn std::fmt::Display| Error::Pem {
            what: "OIDC issuer's authority",
            why: why.to_string(),
        };
        let pem = match &options.ca_pem {
            Some(pem) => pem.clone().into_bytes(),
            None => SYSTEM_ROOTS.iter().find_map(|p| std::fs::read(p).ok()).unwrap_or_default(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| refuse(&e))?;
            // The system's list may hold some that the library does not take; a list of one's own may not.
            if let Err(e) = roots.add(certificate)
                && options.ca_pem.is_some()
            {
                return Err(refuse(&e));
            }
        }
        if roots.is_empty() {
            return Err(refuse(&"there is no certificate in it"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Oidc {
            reading: options.reading.clone(),
            tls: TlsConnector::from(Arc::new(config)),
            clock,
            keys: RwLock::default(),
            fetched: Mutex::default(),
        })
    }

    /// Fetches the issuer's keys if the token may be of the issuer and its key is not known.
    pub(crate) async fn prepare(&self, token: &str) {
        if !self.lacks_key_of(token) || !is_of(token, &self.reading.issuer) {
            return;
        }
        let mut fetched = self.fetched.lock().await;
        // Another request may have fetched them meanwhile.
        if !self.lacks_key_of(token) || fetched.is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
            return;
        }
        *fetched = Some(Instant::now());
        match tokio::time::timeout(FETCH_TIMEOUT, Box::pin(self.fetch())).await {
            Ok(Ok(keys)) => *self.keys.write() = Some(keys),
            Ok(Err(why)) => {
                tracing::warn!(issuer = self.reading.issuer, why, "cannot fetch the issuer's keys")
            }
            Err(_) => tracing::warn!(issuer = self.reading.issuer, "the issuer does not answer"),
        }
    }

    fn lacks_key_of(&self, token: &str) -> bool {
        match &*self.keys.read() {
            None => true,
            Some(keys) => keys.has_key_of(token) == Some(false),
        }
    }

    async fn fetch(&self) -> Result<ForeignKeys, String> {
        let about = format!("{}/.well-known/openid-configuration", self.reading.issuer.trim_end_matches('/'));
        let document: serde_json::Value =
            serde_json::from_slice(&self.get(&about).await?).map_err(|e| e.to_string())?;
        if document["issuer"] != self.reading.issuer.as_str() {
            return Err(format!("it says that it is {}", document["issuer"]));
        }
        let keys = document["jwks_uri"].as_str().ok_or("it does not say where its keys are")?;
        ForeignKeys::parse(&self.get(keys).await?).map_err(|e| e.to_string())
    }

    async fn get(&self, url: &str) -> Result<Bytes, String> {
        let uri: http::Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
        let host = host.ok_or_else(|| format!("{url} is no https URL"))?.trim_matches(['[', ']']).to_string();
        let said = |e: &dyn std::fmt::Display| format!("{url}: {e}");
        let stream =
            TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await.map_err(|e| said(&e))?;
        let name = ServerName::try_from(host).map_err(|e| said(&e))?;
        let stream = self.tls.connect(name, stream).await.map_err(|e| said(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| said(&e))?;
        let driver = tokio::spawn(connection);
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let request =
            http::Request::get(path).header(http::header::HOST, authority).body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.map_err(|e| said(&e))?).await.map_err(|e| said(&e))?;
        let status = answer.status();
        // Redirects are not followed: an issuer is where it says it is.
        if status != http::StatusCode::OK {
            return Err(said(&status));
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
        driver.abort();
        Ok(body.map_err(|e| said(&e))?.to_bytes())
    }
}

/// Whether a token says that it is of that issuer; nothing is verified.
fn is_of(token: &str, issuer: &str) -> bool {
    use base64::Engine;
    let body = token.split('.').nth(1).unwrap_or_default();
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap_or_default();
    let claims: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    claims["iss"] == issuer
}

impl TokenAuthenticator for Oidc {
    fn authenticate(&self, token: &str, audiences: &[String]) -> Option<Authenticated> {
        let keys = self.keys.read();
        let found = keys.as_ref()?.verify(self.clock.now(), token, &self.reading).ok()?;
        Some(Authenticated { user: User::new(found.user, found.groups), audiences: audiences.to_vec() })
    }
}
