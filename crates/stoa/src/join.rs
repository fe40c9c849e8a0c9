//! Joining, both ends: the master judges bootstrap tokens and signs node certificates; an agent with a token recognises the
//! cluster by its authority's hash, proves itself with the token, and keeps the certificate that it gets.

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use stoa_pki::{Authority, Identity, ServerCertificates};
use stoa_registry::Registry;
use stoa_session::{JoinAuthority, JoinError};
use stoa_store::Key;
use stoa_units::{Clock, Time};
use stoa_wire::{JOIN_PATH, JoinRequest, JoinResponse};

/// Longest answer to a join request.
const ANSWER_LEN_MAX: usize = 256 * 1024;

/// Judges tokens by the bootstrap-token Secrets of kube-system.
pub struct BootstrapTokens {
    registry: Arc<Registry>,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    cluster: String,
}

impl BootstrapTokens {
    /// Over the cluster's secrets and authority.
    pub fn new(
        registry: Arc<Registry>,
        authority: Arc<Authority>,
        clock: Arc<dyn Clock>,
        cluster: &str,
    ) -> Self {
        BootstrapTokens { registry, authority, clock, cluster: cluster.to_string() }
    }

    fn is_good(&self, token: &str) -> bool {
        let mut parts = token.split('.');
        let (Some(id), Some(secret)) = (parts.next(), parts.next()) else { return false };
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if id.len() != 6 || secret.len() != 16 || !plain(id) || !plain(secret) {
            return false;
        }
        let key = Key::object("", "secrets", "kube-system", &format!("bootstrap-token-{id}"));
        let Some(entry) = self.registry.store().get(&key) else { return false };
        let Ok(object) = serde_json::from_slice::<Value>(&entry.value) else { return false };
        judge(&object, secret, self.clock.now())
    }
}

/// Whether a bootstrap-token Secret holds `secret` and is still good for joining.
fn judge(object: &Value, secret: &str, now: Time) -> bool {
    use base64::Engine;
    let field = |name: &str| -> Option<Vec<u8>> {
        base64::engine::general_purpose::STANDARD.decode(object["data"][name].as_str()?).ok()
    };
    let alive = match field("expiration") {
        Some(text) => std::str::from_utf8(&text).ok().and_then(Time::parse).is_some_and(|t| t > now),
        None => true,
    };
    let used_for_this = field("usage-bootstrap-authentication").as_deref() == Some(b"true");
    // Compared without an early end, so that its time tells nothing.
    let same = field("token-secret").is_some_and(|s| {
        s.len() == secret.len() && s.iter().zip(secret.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
    });
    object["type"] == "bootstrap.kubernetes.io/token" && alive && used_for_this && same
}

impl JoinAuthority for BootstrapTokens {
    fn join(&self, request: &JoinRequest) -> Result<JoinResponse, JoinError> {
        if !self.is_good(&request.token) {
            return Err(JoinError::Token);
        }
        stoa_units::check_dns_subdomain(&request.node)
            .map_err(|e| JoinError::Malformed(format!("`{}` cannot name a node: {e}", request.node)))?;
        let user = format!("system:node:{}", request.node);
        let certificate = self
            .authority
            .sign_client_request(self.clock.now(), &request.csr, &user, "system:nodes")
            .map_err(|e| JoinError::Signing(e.to_string()))?;
        tracing::info!(node = request.node, "a machine joined");
        Ok(JoinResponse {
            certificate,
            ca: self.authority.cert_pem().to_string(),
            cluster: self.cluster.clone(),
        })
    }
}

/// What an agent has after joining.
pub struct Joined {
    /// The cluster's authority.
    pub ca_pem: String,
    /// The node's own identity.
    pub identity: Identity,
}

/// The identity of an earlier join, or a new one by `token`.
pub async fn load_or_join(dir: &Path, masters: &[String], token: Option<&str>, node: &str) -> Result<Joined> {
    let (ca, cert, key) = (dir.join("ca.crt"), dir.join("node.crt"), dir.join("node.key"));
    if let (Ok(ca_pem), Ok(cert_pem), Ok(key_pem)) =
        (std::fs::read_to_string(&ca), std::fs::read_to_string(&cert), std::fs::read_to_string(&key))
    {
        return Ok(Joined { ca_pem, identity: Identity { cert_pem, key_pem } });
    }
    let token = token.context(
        "this machine has not joined yet\nhint: make a token with `stoa token create` on the master, and pass it with --token",
    )?;
    let (csr, key_pem) = stoa_pki::make_request(&format!("system:node:{node}"))?;
    let mut last = anyhow!("no master was named");
    for master in masters {
        match ask(master, token, node, &csr).await {
            Ok(answer) => {
                let identity = Identity { cert_pem: answer.certificate, key_pem };
                Authority::store_identity(dir, "node", &identity, &answer.ca)?;
                return Ok(Joined { ca_pem: answer.ca, identity });
            }
            Err(e) => last = e,
        }
    }
    Err(last.context("no master let this machine join"))
}

async fn ask(master: &str, token: &str, node: &str, csr: &str) -> Result<JoinResponse> {
    let (credential, pin) =
        token.rsplit_once('.').filter(|(c, _)| c.contains('.')).context("the token is malformed")?;
    let authority = master.strip_prefix("https://").context("a master's URL begins with https://")?;
    let authority = authority.trim_end_matches('/');
    let host = authority.rsplit_once(':').map_or(authority, |(h, _)| h).trim_matches(['[', ']']).to_string();
    let pinned = Pinned { pin: pin.to_string() };
    let mut tls = stoa_pki::client_judged_by(move |shown| pinned.judge(shown))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp =
        tokio::net::TcpStream::connect(authority).await.with_context(|| format!("cannot reach {master}"))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
        .connect(ServerName::try_from(host)?, tcp)
        .await
        .with_context(|| format!("{master} is not the cluster that the token is for"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let body = JoinRequest { token: credential.to_string(), node: node.to_string(), csr: csr.to_string() };
    let request = http::Request::post(JOIN_PATH)
        .header(http::header::HOST, authority)
        .body(Full::new(Bytes::from(serde_json::to_vec(&body)?)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), ANSWER_LEN_MAX)
        .collect()
        .await
        .map_err(|e| anyhow!("cannot read the answer: {e}"))?
        .to_bytes();
    driver.abort();
    if !status.is_success() {
        bail!("{master}: {}", String::from_utf8_lossy(&answer).trim());
    }
    serde_json::from_slice(&answer).context("the answer is malformed")
}

/// Trusts the one authority whose certificate has the pinned hash, which the server sends along; everything else about the
/// server's certificate is verified as usual.
struct Pinned {
    pin: String,
}

impl Pinned {
    fn verifier(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let general = |e: &dyn std::fmt::Display| rustls::Error::General(e.to_string());
        let authority = chain
            .iter()
            .find(|c| stoa_pki::der_hash(c) == self.pin)
            .ok_or_else(|| rustls::Error::General("the server's authority is not the token's".into()))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|e| general(&e))
    }

    fn judge(&self, shown: ServerCertificates<'_>) -> Result<(), rustls::Error> {
        let verifier = self.verifier(shown.issuers)?;
        verifier.verify_server_cert(shown.certificate, shown.issuers, shown.name, &[], shown.now)?;
        Ok(())
    }
}

/// The hash that a chain in PEM would be recognised by; for messages.
#[cfg(test)]
fn hash_of(pem: &str) -> Option<String> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|d| stoa_pki::der_hash(&d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use rustls::pki_types::UnixTime;
    use rustls::pki_types::pem::PemObject;
    use serde_json::json;

    fn secret(token: &str, expires: &str, usage: &str) -> Value {
        let b64 = |s: &str| base64::engine::general_purpose::STANDARD.encode(s);
        json!({"type": "bootstrap.kubernetes.io/token", "data": {
            "token-secret": b64(token), "expiration": b64(expires), "usage-bootstrap-authentication": b64(usage)}})
    }

    #[test]
    fn a_token_is_good_for_its_time_and_purpose_only() {
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        let later = "2026-11-25T00:00:00Z";
        assert!(judge(&secret("0123456789abcdef", later, "true"), "0123456789abcdef", now));
        assert!(!judge(&secret("0123456789abcdef", later, "true"), "0123456789abcdee", now));
        assert!(!judge(&secret("0123456789abcdef", later, "true"), "", now));
        assert!(!judge(&secret("0123456789abcdef", "2026-11-23T00:00:00Z", "true"), "0123456789abcdef", now));
        assert!(!judge(&secret("0123456789abcdef", "soon", "true"), "0123456789abcdef", now));
        assert!(!judge(&secret("0123456789abcdef", later, "false"), "0123456789abcdef", now));
        let mut other = secret("0123456789abcdef", later, "true");
        other["type"] = json!("Opaque");
        assert!(!judge(&other, "0123456789abcdef", now));
    }

    #[test]
    fn only_the_pinned_authority_is_trusted() {
        let (d1, d2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let now = stoa_units::SystemClock.now();
        let ours = Authority::load_or_create(d1.path(), now).unwrap();
        let other = Authority::load_or_create(d2.path(), now).unwrap();
        let pinned = Pinned { pin: hash_of(ours.cert_pem()).unwrap() };
        let check = |ca: &Authority| {
            let leaf = ca.issue_server(now, &["localhost".into()], &[]).unwrap();
            let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let (leaf, root) = (der(&leaf.cert_pem), der(ca.cert_pem()));
            let name = "localhost".try_into().unwrap();
            let (certificate, issuers) = (&leaf, &[root][..]);
            pinned
                .judge(ServerCertificates { certificate, issuers, name: &name, now: UnixTime::now() })
                .is_ok()
        };
        assert!(check(&ours));
        assert!(!check(&other));
    }
}
