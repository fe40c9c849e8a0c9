//! TLS clients that judge a server's certificate in a way of their own: by a hash that is known, or, for ports of containers, whose
//! certificates nobody issued and nobody can check, not at all. That the server holds the certificate's key is always checked.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;

/// By what a server says who it is.
pub struct ServerCertificates<'a> {
    /// Its own certificate.
    pub certificate: &'a CertificateDer<'a>,
    /// Those of its issuers that it sends along.
    pub issuers: &'a [CertificateDer<'a>],
    /// Whom it was asked for.
    pub name: &'a ServerName<'a>,
    /// When.
    pub now: UnixTime,
}

/// How to speak TLS to whoever `judge` lets pass, without a certificate of one's own.
///
/// # Errors
///
/// If the process has no TLS versions to offer.
pub fn client_judged_by<J>(judge: J) -> Result<ClientConfig, rustls::Error>
where
    J: Fn(ServerCertificates<'_>) -> Result<(), rustls::Error> + Send + Sync + 'static,
{
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judged { judge, provider }))
        .with_no_client_auth();
    Ok(config)
}

/// How to speak TLS to whoever answers, without a certificate of one's own. Probes and the API server's proxy ask so, as their
/// counterparts elsewhere do.
pub fn unverified_client() -> Result<ClientConfig, rustls::Error> {
    client_judged_by(|_| Ok(()))
}

struct Judged<J> {
    judge: J,
    provider: Arc<CryptoProvider>,
}

impl<J> fmt::Debug for Judged<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged").finish_non_exhaustive()
    }
}

impl<J: Fn(ServerCertificates<'_>) -> Result<(), rustls::Error> + Send + Sync> ServerCertVerifier
    for Judged<J>
{
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        (self.judge)(ServerCertificates { certificate, issuers, name, now })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
