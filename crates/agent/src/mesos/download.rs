//! One HTTP download into a file: plain or with TLS, redirects followed, bounded in bytes and in patience.

use http::header;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;
/// Where machines keep the authorities that they trust.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Downloads `address` into `path`.
pub(crate) async fn get(
    address: &http::Uri,
    path: &Path,
    stall: Duration,
    bytes_max: u64,
) -> Result<(), String> {
    let mut address = address.clone();
    for _ in 0..=REDIRECTS_MAX {
        let response = tokio::time::timeout(stall, request(&address)).await;
        let response = response.map_err(|_| "the server does not answer".to_owned())??;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            address = resolve(&address, to.unwrap_or_default())?;
            continue;
        }
        if !status.is_success() {
            return Err(format!("Unexpected HTTP response code: {}", status.as_u16()));
        }
        return save(response.into_body(), path, stall, bytes_max).await;
    }
    Err(format!("more than {REDIRECTS_MAX} redirects"))
}

fn resolve(base: &http::Uri, to: &str) -> Result<http::Uri, String> {
    let bad = |e: http::Error| format!("a redirect leads nowhere: {e}");
    let next: http::Uri =
        to.parse().map_err(|e: http::uri::InvalidUri| format!("a redirect leads nowhere: {e}"))?;
    let mut parts = next.into_parts();
    if parts.scheme.is_none() {
        parts.scheme = base.scheme().cloned();
    }
    if parts.authority.is_none() {
        parts.authority = base.authority().cloned();
    }
    if base.scheme_str() == Some("https") && parts.scheme.as_ref().is_some_and(|s| s.as_str() != "https") {
        return Err("a redirect leads from https to http".to_owned());
    }
    http::Uri::from_parts(parts).map_err(|e| bad(e.into()))
}

async fn request(address: &http::Uri) -> Result<http::Response<Incoming>, String> {
    let host = address.host().ok_or("no host")?.trim_matches(['[', ']']).to_owned();
    let is_tls = address.scheme_str() == Some("https");
    let port = address.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| format!("cannot connect: {e}"))?;
    let path = address.path_and_query().map_or("/", |p| p.as_str());
    let authority = address.authority().map(|a| a.as_str().rsplit('@').next().unwrap_or_default().to_owned());
    let request = http::Request::get(path)
        .header(header::HOST, authority.unwrap_or(host.clone()))
        .header(header::USER_AGENT, concat!("stoa/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    if is_tls {
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let tls = tokio_rustls::TlsConnector::from(tls_config()?).connect(name, tcp).await;
        send(TokioIo::new(tls.map_err(|e| format!("TLS: {e}"))?), request).await
    } else {
        send(TokioIo::new(tcp), request).await
    }
}

async fn send<T>(io: T, request: http::Request<Empty<Bytes>>) -> Result<http::Response<Incoming>, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|e| e.to_string())
}

fn tls_config() -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    for file in ROOTS {
        if let Ok(pem) = std::fs::read(file) {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
            break;
        }
    }
    if roots.is_empty() {
        return Err("this agent trusts no certificate authority (install ca-certificates)".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

async fn save(mut body: Incoming, path: &Path, stall: Duration, bytes_max: u64) -> Result<(), String> {
    let mut file = tokio::fs::File::create(path).await.map_err(|e| e.to_string())?;
    let mut written = 0;
    loop {
        let next = tokio::time::timeout(stall, body.frame()).await;
        let Some(frame) = next.map_err(|_| "the download stalls".to_owned())? else { break };
        let frame = frame.map_err(|e| format!("the download broke: {e}"))?;
        let Ok(data) = frame.into_data() else { continue };
        written += data.len() as u64;
        if written > bytes_max {
            return Err(format!("longer than {bytes_max} bytes"));
        }
        file.write_all(&data).await.map_err(|e| e.to_string())?;
    }
    file.flush().await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_leave_tls() {
        let base: http::Uri = "https://a/x".parse().unwrap();
        assert_eq!(resolve(&base, "/y?z").unwrap().to_string(), "https://a/y?z");
        assert_eq!(resolve(&base, "https://b/y").unwrap().to_string(), "https://b/y");
        assert!(resolve(&base, "http://a/y").is_err());
    }
}
