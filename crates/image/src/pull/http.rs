//! One HTTP request over a connection of its own: a pull is a handful of large answers, so nothing is pooled. Every wait and
//! every answer that is read whole is bounded.

use super::error::PullError;
use super::registries::Tls;
use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long connecting may take, and agreeing on TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the head of an answer may take: registries that mirror ask others first.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A body of which nothing came for so long is given up.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer's head.
const HEAD_LEN_MAX: usize = 64 * 1024;
/// Where Debian, Fedora and Alpine keep the authorities that everyone trusts.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client that trusts what this machine trusts.
#[derive(Default)]
pub(crate) struct Http {
    roots: OnceLock<Arc<RootCertStore>>,
}

impl Http {
    fn roots(&self) -> Arc<RootCertStore> {
        let load = || {
            let mut roots = RootCertStore::empty();
            let own = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
            let found = own.into_iter().chain(BUNDLES.map(Into::into)).find(|p| p.exists());
            let certificates = found.and_then(|p| CertificateDer::pem_file_iter(p).ok());
            roots.add_parsable_certificates(certificates.into_iter().flatten().flatten());
            Arc::new(roots)
        };
        self.roots.get_or_init(load).clone()
    }

    fn config(&self, tls: &Tls) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::clone(&self.roots());
        if let Some(path) = &tls.ca_file {
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => {
                let chain = read_certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| e.to_string())
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
        tls: &Tls,
    ) -> Result<Response<Incoming>, PullError> {
        let verb = if method == Method::HEAD { "Head" } else { "Get" };
        let failed = |why: String| PullError::Request { method: verb, url: shown(uri), why };
        let authority = uri.authority().ok_or_else(|| failed("the address has no host".into()))?;
        let is_tls = uri.scheme_str() == Some("https");
        let host = authority.host().trim_matches(['[', ']']).to_string();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(body))
            .map_err(|e| failed(e.to_string()))?;
        *request.headers_mut() = headers;
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|e| failed(e.to_string()))?;
        request.headers_mut().insert(HOST, host_header);
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(concat!("stoa/", env!("CARGO_PKG_VERSION"))));
        let connect = async {
            let dial =
                |e: std::io::Error| failed(format!("dial tcp {host}:{port}: {}", stoa_units::dial_words(&e)));
            let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(dial)?;
            tcp.set_nodelay(true).map_err(dial)?;
            if !is_tls {
                return Ok::<_, PullError>(Box::new(tcp) as Box<dyn Stream>);
            }
            let name = ServerName::try_from(host.clone()).map_err(|e| failed(e.to_string()))?;
            let connector = TlsConnector::from(Arc::new(self.config(tls).map_err(failed)?));
            let heard = Arc::new(OnceLock::new());
            let noted = FirstByte { inner: tcp, heard: heard.clone() };
            match connector.connect(name, noted).await {
                Ok(tls) => Ok(Box::new(tls) as Box<dyn Stream>),
                Err(e) if is_no_tls(heard.get().copied(), &e) => {
                    Err(PullError::NotTls { method: verb, url: shown(uri) })
                }
                Err(e) => Err(failed(format!("tls: {e}"))),
            }
        };
        let io = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| failed(format!("dial tcp {host}:{port}: i/o timeout")))??;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_LEN_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| failed(e.to_string()))?;
        // Ends by itself when the answer's body has been read or dropped.
        tokio::spawn(connection);
        let answer = timeout(HEAD_TIMEOUT, sender.send_request(request)).await;
        answer
            .map_err(|_| failed("timeout awaiting response headers".into()))?
            .map_err(|e| failed(e.to_string()))
    }
}

/// Whether what ended a greeting shows that the other end speaks no TLS: it began with something that is no TLS record, or
/// hung up without a word. A certificate that is refused, or an alert, is TLS.
fn is_no_tls(first: Option<u8>, error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match first {
        // Content types of records: change of cipher, alert, handshake, data, heartbeat (RFC 8446 §5.1, RFC 6520).
        Some(byte) => !(20..=24).contains(&byte),
        None => matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe),
    }
}

/// Notes the first byte that comes.
struct FirstByte<S> {
    inner: S,
    heard: Arc<OnceLock<u8>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstByte<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(byte) = buf.filled().get(before) {
            let _ = self.heard.set(*byte);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstByte<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |e: rustls_pki_types::pem::Error| format!("{}: {e}", path.display());
    CertificateDer::pem_file_iter(path).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)
}

/// An address as messages show it: without the query, which may hold a signature.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    format!("{scheme}://{}{}", uri.authority().map_or("", |a| a.as_str()), uri.path())
}

/// The next piece of a body; none at its end.
pub(crate) async fn next_piece(body: &mut Incoming, url: &str) -> Result<Option<Bytes>, PullError> {
    let failed = |why: String| PullError::Request { method: "Get", url: url.to_string(), why };
    loop {
        let frame = timeout(STALL_TIMEOUT, body.frame()).await;
        match frame.map_err(|_| failed("the answer stalled".into()))? {
            None => return Ok(None),
            Some(Err(e)) => return Err(failed(format!("unexpected EOF: {e}"))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole body, if it is no longer than `len_max`.
pub(crate) async fn read_whole(mut body: Incoming, len_max: u64, url: &str) -> Result<Vec<u8>, PullError> {
    let mut whole = Vec::new();
    while let Some(piece) = next_piece(&mut body, url).await? {
        if (whole.len() + piece.len()) as u64 > len_max {
            return Err(PullError::Hostile(format!("more than {len_max} bytes from {url}")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}
