//! A small client of the cluster's own API for the commands that ask it something: kubeconfig in, JSON out.

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Longest answer that is read.
const ANSWER_LEN_MAX: usize = 64 << 20;

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: UserEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate_data: String,
    client_key_data: String,
}

/// Speaks to one API server with one identity.
pub struct Client {
    authority: String,
    host: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    /// The client of a kubeconfig as `stoa up` writes it.
    pub fn from_kubeconfig(path: &Path) -> Result<Client> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}\nhint: is a cluster running there? start one with `stoa up`",
                path.display()
            )
        })?;
        let config: Kubeconfig = serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is no kubeconfig of stoa", path.display()))?;
        let (Some(cluster), Some(user)) = (config.clusters.first(), config.users.first()) else {
            bail!("{} names no cluster or no user", path.display());
        };
        let decode = |s: &str| STANDARD.decode(s).context("a field of the kubeconfig is not base64");
        let ca = decode(&cluster.cluster.certificate_authority_data)?;
        let cert = decode(&user.user.client_certificate_data)?;
        let key = decode(&user.user.client_key_data)?;
        let mut roots = rustls::RootCertStore::empty();
        for c in CertificateDer::pem_slice_iter(&ca) {
            roots.add(c?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&cert).collect::<Result<Vec<_>, _>>()?;
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let authority =
            cluster.cluster.server.trim_start_matches("https://").trim_end_matches('/').to_string();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(h, _)| h);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        Ok(Client { authority, host, tls: Arc::new(tls) })
    }

    /// The answer to a GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(http::Method::GET, path, None).await
    }

    /// The answer to a POST of a JSON object.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(http::Method::POST, path, Some(body)).await
    }

    async fn call(&self, method: http::Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let tcp = tokio::net::TcpStream::connect(&self.authority).await.with_context(|| {
            format!("cannot reach the API server at {}\nhint: is the cluster running?", self.authority)
        })?;
        let name = ServerName::try_from(self.host.clone()).context("the server's name is not a name")?;
        let stream =
            tokio_rustls::TlsConnector::from(self.tls.clone()).connect(name, tcp).await.with_context(
                || format!("{} did not prove that it is this cluster's API server", self.authority),
            )?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, &self.authority)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, concat!("stoa/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(bytes)))?;
        let response = sender.send_request(request).await.context("the API server closed the connection")?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_LEN_MAX)
            .collect()
            .await
            .map_err(|e| anyhow!("cannot read the answer: {e}"))?
            .to_bytes();
        driver.abort();
        let value: Value = serde_json::from_slice(&answer).context("the answer is not JSON")?;
        if !status.is_success() {
            bail!("{}", value["message"].as_str().unwrap_or("the API server refused"));
        }
        Ok(value)
    }
}
