//! HTTP/2 connections: to an API server with a kubeconfig's client certificate, and in the clear to a gRPC server.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Where an API server is and who we are to it.
#[derive(Clone)]
pub struct Credentials {
    authority: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Credentials {
    /// Reads a kubeconfig with inline certificates.
    pub fn from_kubeconfig(path: &Path) -> Result<Credentials> {
        let config: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
        let field =
            |v: &Value| -> Result<Vec<u8>> { Ok(STANDARD.decode(v.as_str().context("missing field")?)?) };
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&field(&cluster["certificate-authority-data"])?)?)?;
        let chain = vec![CertificateDer::from_pem_slice(&field(&user["client-certificate-data"])?)?];
        let key = PrivateKeyDer::from_pem_slice(&field(&user["client-key-data"])?)?;
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let server = cluster["server"].as_str().context("no server")?;
        Ok(Credentials { authority: server.trim_start_matches("https://").to_string(), tls: Arc::new(tls) })
    }

    /// The same for a server elsewhere that shows the same certificate.
    pub fn at(&self, authority: &str) -> Credentials {
        Credentials { authority: authority.to_owned(), tls: self.tls.clone() }
    }
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    base: String,
}

impl Connection {
    /// Connects to an API server.
    pub async fn open(credentials: &Credentials) -> Result<Connection> {
        let tcp = tokio::net::TcpStream::connect(&credentials.authority).await?;
        tcp.set_nodelay(true)?;
        let host = credentials.authority.rsplit_once(':').map_or("127.0.0.1", |(h, _)| h).to_string();
        let tls = tokio_rustls::TlsConnector::from(credentials.tls.clone());
        let stream = tls.connect(ServerName::try_from(host)?, tcp).await?;
        Connection::over(TokioIo::new(stream), format!("https://{}", credentials.authority)).await
    }

    /// Connects without TLS.
    pub async fn open_plain(authority: &str) -> Result<Connection> {
        let tcp = tokio::net::TcpStream::connect(authority).await?;
        tcp.set_nodelay(true)?;
        Connection::over(TokioIo::new(tcp), format!("http://{authority}")).await
    }

    async fn over<T>(io: T, base: String) -> Result<Connection>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(io)
            .await?;
        tokio::spawn(connection);
        Ok(Connection { sender, base })
    }

    /// Sends a request and returns its answer's head and stream.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", content_type)
            .header("accept", "application/json")
            .header("te", "trailers")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a JSON request, demands success, and returns the answer's bytes.
    pub async fn call(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        self.call_as("application/json", method, path, body).await
    }

    /// The same with a body of another type.
    pub async fn call_as(
        &mut self,
        content_type: &str,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes> {
        let response = self.send(method, path, content_type, body.into()).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&bytes));
        }
        Ok(bytes)
    }
}
