//! Every way to say who one is.

#![allow(clippy::unwrap_used)]

mod common;
use bytes::Bytes;
use common::{Server, Who};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stoa_api::{OidcOptions, RequestHeader};
use stoa_pki::{Authority, Reading};
use stoa_units::{Clock, SystemClock};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn whoami(s: &Server, who: Who<'_>, headers: &[(&str, &str)]) -> (u16, Value) {
    let headers = [headers, &[JSON]].concat();
    let reply = s.send(who, "POST", WHOAMI, &headers, "{}").await;
    (reply.code, reply.json()["status"]["userInfo"].clone())
}

#[tokio::test]
async fn a_bootstrap_token_is_a_way_in_until_its_secret_goes() {
    let s = Server::start().await;
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:workers"}});
    assert_eq!(s.post(secrets, secret).await.code, 201);
    let token = "abcdef.0123456789abcdef";
    let (code, user) = whoami(&s, Who::Token(token), &[]).await;
    assert_eq!((code, &user["username"]), (201, &json!("system:bootstrap:abcdef")));
    assert_eq!(
        user["groups"],
        json!(["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"])
    );
    assert_eq!(whoami(&s, Who::Token("abcdef.0123456789abcdee"), &[]).await.0, 401);
    s.delete(&format!("{secrets}/bootstrap-token-abcdef")).await;
    assert_eq!(whoami(&s, Who::Token(token), &[]).await.0, 401);
}

#[tokio::test]
async fn a_proxy_is_believed_by_its_certificate_only() {
    let dir = tempfile::tempdir().unwrap();
    let front = Authority::load_or_create(dir.path(), SystemClock.now()).unwrap();
    let config = RequestHeader {
        ca_pem: front.cert_pem().to_string(),
        allowed_names: vec!["front".into()],
        username_headers: vec!["X-Remote-User".into()],
        group_headers: vec!["X-Remote-Group".into()],
        extra_header_prefixes: vec!["X-Remote-Extra-".into()],
        ..RequestHeader::default()
    };
    let s = Server::start_options(|options, _| options.request_header = Some(config)).await;
    let headers = [("x-remote-user", "jane"), ("x-remote-group", "dev"), ("x-remote-extra-scope", "a")];
    let proxy = front.issue_client(SystemClock.now(), "front", "x").unwrap();
    let (code, user) = whoami(&s, Who::Identity(&proxy), &headers).await;
    assert_eq!((code, &user["username"]), (201, &json!("jane")));
    assert_eq!(user["groups"], json!(["dev", "system:authenticated"]));
    assert_eq!(user["extra"], json!({"scope": ["a"]}));
    // Its certificate alone makes it nobody, and another name of the same authority is not believed.
    assert_eq!(whoami(&s, Who::Identity(&proxy), &[]).await.0, 401);
    let other = front.issue_client(SystemClock.now(), "system:masters", "system:masters").unwrap();
    assert_eq!(whoami(&s, Who::Identity(&other), &headers).await.0, 401);
    // A user's certificate is a user's, whatever the headers say.
    let (_, user) = whoami(&s, Who::Certificate("bob", "dev"), &headers).await;
    assert_eq!(user["username"], "bob");
    let credential = user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
    assert_eq!(credential.strip_prefix("X509SHA256=").unwrap().len(), 64);
    // Without any certificate it is a guest, and a guest may not even ask who it is.
    assert_eq!(whoami(&s, Who::Nobody, &headers).await.0, 403);
}

/// A local OpenID issuer: two documents over HTTPS.
struct Issuer {
    url: String,
    ca_pem: String,
    key: rcgen::KeyPair,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start() -> Issuer {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::load_or_create(dir.path(), now).unwrap();
        let serving = authority.issue_server(now, &[], &["127.0.0.1".parse().unwrap()]).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(serving.cert_pem.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(serving.key_pem.as_bytes()).unwrap(),
                )
                .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let url = format!("https://{address}");
        let key = rcgen::KeyPair::generate().unwrap();
        let point = rcgen::PublicKeyData::der_bytes(&key).to_vec();
        let b64 = |b: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, b);
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
            "x": b64(&point[1..33]), "y": b64(&point[33..])}]})
        .to_string();
        let about = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let (keys, about, count) = (keys.clone(), about.clone(), count.clone());
                let answer = hyper::service::service_fn(move |r: http::Request<hyper::body::Incoming>| {
                    let body = if r.uri().path() == "/keys" { keys.clone() } else { about.clone() };
                    count.fetch_add(1, Ordering::Relaxed);
                    async move {
                        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(body))))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            }
        });
        Issuer { url, ca_pem: authority.cert_pem().to_string(), key, asked }
    }

    fn token(&self, key_id: &str, change: Value) -> String {
        let mut claims =
            json!({"iss": self.url, "aud": "stoa", "sub": "u1", "exp": 4_000_000_000u64, "roles": ["dev"]});
        for (k, v) in change.as_object().unwrap() {
            claims[k] = v.clone();
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key_id.into());
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

#[tokio::test]
async fn an_issuers_users_are_known_by_its_keys_and_claims() {
    let issuer = Issuer::start().await;
    let mut reading = Reading::new(&issuer.url, "stoa");
    reading.groups_claim = "roles".into();
    reading.groups_prefix = "oidc:".into();
    reading.username_prefix = Some("oidc:".into());
    reading.algorithms = vec!["ES256".into()];
    let oidc = OidcOptions { reading, ca_pem: Some(issuer.ca_pem.clone()) };
    let s = Server::start_options(|options, _| options.oidc = Some(oidc)).await;
    let good = issuer.token("k1", json!({}));
    let (code, user) = whoami(&s, Who::Token(&good), &[]).await;
    assert_eq!((code, &user["username"]), (201, &json!("oidc:u1")));
    assert_eq!(user["groups"], json!(["oidc:dev", "system:authenticated"]));
    let asked = issuer.asked.load(Ordering::Relaxed);
    for bad in [
        issuer.token("k1", json!({"aud": "other"})),
        issuer.token("k1", json!({"exp": 1})),
        issuer.token("k1", json!({"iss": "https://other.example"})),
        issuer.token("k2", json!({})),
        format!("{}x", good),
    ] {
        assert_eq!(whoami(&s, Who::Token(&bad), &[]).await.0, 401);
    }
    assert_eq!(
        issuer.asked.load(Ordering::Relaxed),
        asked,
        "made-up keys do not make us ask the issuer at once"
    );
    let review = json!({"spec": {"token": good}});
    let review = s.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await.json();
    assert_eq!(review["status"]["user"]["username"], "oidc:u1");
}

#[tokio::test]
async fn an_impersonated_user_is_whole_and_each_part_needs_its_permission() {
    let s = Server::start().await;
    let act = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "42"),
        ("impersonate-extra-acme.com%2fscope", "a"),
    ];
    let (_, user) = whoami(&s, Who::Admin, &act).await;
    assert_eq!(
        user,
        json!({"username": "bob", "uid": "42", "groups": ["dev", "system:authenticated"],
            "extra": {"acme.com/scope": ["a"]}})
    );
    let (_, robot) = whoami(&s, Who::Admin, &[("impersonate-user", "system:serviceaccount:n:robot")]).await;
    assert_eq!(
        robot["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"])
    );
    let role = json!({"metadata": {"name": "act"}, "rules": [
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scope"], "resourceNames": ["a"],
            "verbs": ["impersonate"]}]});
    let base = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(s.post(&format!("{base}/clusterroles"), role).await.code, 201);
    let binding = json!({"metadata": {"name": "act"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole", "name": "act"}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    assert_eq!(s.post(&format!("{base}/clusterrolebindings"), binding).await.code, 201);
    let jane = || Who::Token("s3cr3t");
    let waiting = async {
        while whoami(&s, jane(), &[("impersonate-user", "bob")]).await.0 != 201 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.unwrap();
    let with = |more: (&'static str, &'static str)| [("impersonate-user", "bob"), more];
    assert_eq!(whoami(&s, jane(), &with(("impersonate-extra-scope", "a"))).await.0, 201);
    for more in [("impersonate-extra-scope", "b"), ("impersonate-group", "dev"), ("impersonate-uid", "1")] {
        assert_eq!(whoami(&s, jane(), &with(more)).await.0, 403, "{more:?}");
    }
    assert_eq!(whoami(&s, jane(), &[("impersonate-user", "eve")]).await.0, 403);
}

#[tokio::test]
async fn a_secrets_token_is_good_while_the_secret_holds_it() {
    let s = Server::start().await;
    s.namespace("t").await;
    let account = s.get("/api/v1/namespaces/t/serviceaccounts/default").await.json();
    let uid = account["metadata"]["uid"].as_str().unwrap().to_string();
    let bound = stoa_pki::BoundObject { name: "default".into(), uid };
    let token = s.signer.sign_legacy("t", &bound, "key").unwrap();
    assert_eq!(whoami(&s, Who::Token(&token), &[]).await.0, 401, "no Secret holds it");
    let secrets = "/api/v1/namespaces/t/secrets";
    let secret = json!({"metadata": {"name": "key", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token", "stringData": {"token": token}});
    assert_eq!(s.post(secrets, secret).await.code, 201);
    let (code, user) = whoami(&s, Who::Token(&token), &[]).await;
    assert_eq!((code, &user["username"]), (201, &json!("system:serviceaccount:t:default")));
    let other = json!({"spec": {"token": token, "audiences": ["vault"]}});
    let review = s.post("/apis/authentication.k8s.io/v1/tokenreviews", other).await.json();
    assert_eq!(review["status"]["authenticated"], Value::Null);
    let marked = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}});
    s.merge(&format!("{secrets}/key"), marked).await;
    assert_eq!(whoami(&s, Who::Token(&token), &[]).await.0, 401);
}

#[tokio::test]
async fn a_bound_token_is_for_its_audience_and_dies_with_its_object() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post("/api/v1/namespaces/t/secrets", json!({"metadata": {"name": "tie"}})).await;
    let path = "/api/v1/namespaces/t/serviceaccounts/default/token";
    let bound = json!({"spec": {"audiences": ["vault"], "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "tie"}}});
    let made = s.post(path, bound).await.json();
    assert_eq!(made["spec"]["expirationSeconds"], 3600);
    let token = made["status"]["token"].as_str().unwrap().to_string();
    let reviewed = |audience: &'static str| {
        let review = json!({"spec": {"token": token, "audiences": [audience]}});
        let s = &s;
        async move { s.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await.json()["status"].clone() }
    };
    assert_eq!(whoami(&s, Who::Token(&token), &[]).await.0, 401, "it is not meant for this server");
    assert_eq!(reviewed("vault").await["audiences"], json!(["vault"]));
    assert_eq!(reviewed("other").await["authenticated"], Value::Null);
    s.delete("/api/v1/namespaces/t/secrets/tie").await;
    assert_eq!(reviewed("vault").await["authenticated"], Value::Null);
}
