//! A whole server on the loopback, over a store in memory, and a client that speaks to it as kubectl does.

#![allow(dead_code, clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use stoa_api::{Handles, Options, Service, ServiceAccountTokens};
use stoa_pki::{Authority, Identity, TokenSigner};
use stoa_registry::{Registry, Target};
use stoa_streams::{Extension, Opener};
use stoa_units::{Clock, SystemClock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub struct Server {
    pub registry: Arc<Registry>,
    pub address: SocketAddr,
    authority: Authority,
    admin: Identity,
    pub signer: Arc<TokenSigner>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

pub struct Reply {
    pub code: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Who asks.
pub enum Who<'a> {
    Admin,
    Nobody,
    Token(&'a str),
    Certificate(&'a str, &'a str),
    Identity(&'a Identity),
}

impl Server {
    pub async fn start() -> Server {
        Server::start_with(None, None).await
    }

    pub async fn start_with(
        opener: Option<Arc<dyn Opener>>,
        extension: Option<Arc<dyn Extension>>,
    ) -> Server {
        Server::start_options(|_, handles| {
            handles.opener = opener;
            handles.extension = extension;
        })
        .await
    }

    /// A server that is told more.
    pub async fn start_options(tell: impl FnOnce(&mut Options, &mut Handles)) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::load_or_create(dir.path(), now).unwrap();
        let names = ["localhost".to_string()];
        let serving = authority.issue_server(now, &names, &["127.0.0.1".parse().unwrap()]).unwrap();
        let admin = authority.issue_client(now, "admin", "system:masters").unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = stoa_store::memory(stoa_store::Options::default());
        let registry = Registry::new(store, clock, stoa_registry::Options::default());
        registry.bootstrap().await.unwrap();
        registry.start_authorizer().unwrap();
        let signer = Arc::new(TokenSigner::load_or_create(dir.path()).unwrap());
        let tokens = ServiceAccountTokens::new(signer.clone(), registry.clone());
        registry.set_token_issuer(tokens.clone());
        let mut options = Options::new("127.0.0.1:0".parse().unwrap(), serving.cert_pem, serving.key_pem);
        options.client_ca_pem = Some(authority.cert_pem().to_string());
        options.static_tokens = vec![("s3cr3t".to_string(), stoa_authz::User::new("jane", ["dev"]))];
        options.jwks = Some(signer.jwks().to_string());
        options.token_issuer = Some(signer.issuer().to_string());
        let mut handles =
            Handles { registry: registry.clone(), tokens: vec![tokens], opener: None, extension: None };
        tell(&mut options, &mut handles);
        let service = Service::bind(&options, handles).await.unwrap();
        let address = service.address();
        let stop = CancellationToken::new();
        tokio::spawn(service.run(stop.clone().cancelled_owned()));
        Server { registry, address, authority, admin, signer, stop, _dir: dir }
    }

    pub async fn namespace(&self, name: &str) {
        let reply = self.post("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        assert_eq!(reply.code, 201, "{}", reply.json());
        // Pods need their account; its controller is not part of this server.
        let account = json!({"metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        assert_eq!(self.post(&path, account).await.code, 201);
    }

    pub async fn connect(&self, who: &Who<'_>, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.cert_pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let made;
        let identity = match who {
            Who::Admin => Some(&self.admin),
            Who::Certificate(user, group) => {
                made = self.authority.issue_client(SystemClock.now(), user, group).unwrap();
                Some(&made)
            }
            Who::Identity(identity) => Some(*identity),
            _ => None,
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(id) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(id.cert_pem.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(id.key_pem.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Sends a request and returns the answer's head, with its body still to come.
    pub async fn open(
        &self,
        who: Who<'_>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let stream = self.connect(&who, &[b"http/1.1"]).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(path)
            .header("host", self.address.to_string());
        if let Who::Token(token) = who {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    pub async fn send(
        &self,
        who: Who<'_>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let response = self.open(who, method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Who::Admin, "GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Who::Admin, "POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.send(Who::Admin, "PUT", path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> Reply {
        let headers = [("content-type", "application/merge-patch+json")];
        self.send(Who::Admin, "PATCH", path, &headers, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Who::Admin, "DELETE", path, &[], "").await
    }

    pub async fn watch(&self, path: &str) -> Events {
        let response = self.open(Who::Admin, "GET", path, &[], "").await;
        assert_eq!(response.status(), 200);
        Events { body: response.into_body(), read: BytesMut::new() }
    }

    pub fn target<'a>(&self, plural: &str, namespace: &'a str, name: &'a str) -> Target<'a> {
        Target::new(stoa_kube::resources().find("", "v1", plural).unwrap(), namespace, name)
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The lines of a watch.
pub struct Events {
    body: Incoming,
    read: BytesMut,
}

impl Events {
    /// The next event; `None` at the end. Fails rather than hangs.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line = self.read.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let waiting = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame());
            match waiting.await.expect("an event in time") {
                Some(frame) => {
                    if let Ok(data) = frame.unwrap().into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None => return None,
            }
        }
    }

    /// The next event in short: `ADDED name`.
    pub async fn short(&mut self) -> String {
        match self.next().await {
            Some(e) => format!(
                "{} {}",
                e["type"].as_str().unwrap(),
                e["object"]["metadata"]["name"].as_str().unwrap_or_default()
            ),
            None => "end".to_string(),
        }
    }
}
