//! TLS: our certificate, and whose client certificates count.

use crate::state::State;
use crate::{Error, Options};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::User;

/// Whose certificates count, and as what. Two authorities share one handshake; which of them issued a certificate is asked here.
#[derive(Clone, Default)]
pub(crate) struct Verifiers {
    /// Users'.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Believed proxies'.
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

/// Who is at the other end of a connection, as far as its certificate says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) user: Option<User>,
    /// Whether it is believed about whom it speaks for.
    pub(crate) is_proxy: bool,
    /// Whether it showed a certificate that makes it nobody.
    pub(crate) is_unknown: bool,
}

fn verifier(pems: &[&str]) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    if pems.is_empty() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for certificate in certificates("client authority", pem)? {
            roots.add(certificate).map_err(Error::Tls)?;
        }
    }
    let provider = stoa_pki::server_provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|e| Error::Verifier(e.to_string()))?;
    Ok(Some(verifier))
}

pub(crate) fn config(options: &Options) -> Result<(ServerConfig, Verifiers), Error> {
    let provider = stoa_pki::server_provider();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?;
    let clients: Vec<&str> = options.client_ca_pem.as_deref().into_iter().collect();
    let proxies: Vec<&str> = options.request_header.as_ref().map(|r| r.ca_pem.as_str()).into_iter().collect();
    let both = [&clients[..], &proxies[..]].concat();
    let builder = match verifier(&both)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let verifiers = Verifiers { clients: verifier(&clients)?, proxies: verifier(&proxies)? };
    let key = PrivateKeyDer::from_pem_slice(options.key_pem.as_bytes())
        .map_err(|e| Error::Pem { what: "serving key", why: e.to_string() })?;
    let chain = certificates("serving certificate", &options.certificate_pem)?;
    let mut config = builder.with_single_cert(chain, key).map_err(Error::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, verifiers))
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(Error::Pem { what, why: "there is no certificate in it".to_string() }),
        Err(e) => Err(Error::Pem { what, why: e.to_string() }),
    }
}

/// Who is at the other end of a connection whose handshake is done.
pub(crate) fn peer(connection: &rustls::ServerConnection, state: &State) -> Peer {
    let Some([leaf, rest @ ..]) = connection.peer_certificates() else { return Peer::default() };
    let Ok(subject) = stoa_pki::read_subject(leaf) else {
        return Peer { is_unknown: true, ..Peer::default() };
    };
    let seconds = u64::try_from(state.registry.clock().now().0.as_second()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let issued_by = |verifier: &Option<Arc<dyn ClientCertVerifier>>| {
        verifier.as_ref().is_some_and(|v| v.verify_client_cert(leaf, rest, now).is_ok())
    };
    let believed = state.request_header.as_ref().is_some_and(|r| r.believes(&subject.user));
    let is_proxy = believed && issued_by(&state.verifiers.proxies);
    // With one authority the handshake has said it already.
    let is_client = state.verifiers.proxies.is_none() || issued_by(&state.verifiers.clients);
    let user = (is_client && !subject.user.is_empty()).then(|| {
        let mut user = User::new(subject.user, subject.groups);
        let credential = format!("X509SHA256={}", stoa_pki::der_hash(leaf));
        user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![credential]);
        user
    });
    let is_unknown = user.is_none();
    Peer { user, is_proxy, is_unknown }
}
