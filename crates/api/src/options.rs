//! What the door is told when it is opened, and the bounds it keeps.

use crate::authn::{OidcOptions, RequestHeader};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use stoa_authz::User;

/// Largest request body: a stock server's limit.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a body may take to arrive.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Most header fields of a request.
pub const HEADERS_LEN_MAX: usize = 100;
/// Most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a request's head may take to arrive.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest path and query.
pub const URI_BYTES_MAX: usize = 16 * 1024;
/// Most segments of a path.
pub const PATH_SEGMENTS_MAX: usize = 32;
/// Most parameters of a query.
pub const QUERY_LEN_MAX: usize = 100;
/// Connections at a time; later ones wait in the kernel's queue.
pub const CONNECTIONS_LEN_MAX: usize = 20_000;
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams at a time of one HTTP/2 connection: a stock server's limit.
pub const STREAMS_LEN_MAX: u32 = 250;
/// Streams that were reset before they were accepted, before the connection is given up (rapid reset).
pub const RESET_STREAMS_LEN_MAX: usize = 100;
/// How often an HTTP/2 connection is asked whether it is still there.
pub const PING_PERIOD: Duration = Duration::from_secs(30);
/// How long it may take to say so.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that one HTTP/2 stream may have in flight towards us.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of an answer that wait for a slow client: a thousand lists at once must not be held in memory.
pub const SEND_BYTES_MAX: usize = 64 * 1024;
/// Bytes that one HTTP/2 connection may have in flight towards us.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How long open requests may take to end once the door closes.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Lists of at least so many bytes are compressed for clients that accept it: a stock server's limit.
pub const GZIP_BYTES_MIN: usize = 128 * 1024;
/// How much of a list is put together at a time.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Most anchors' copies in a YAML body.
pub const YAML_ALIASES_MAX: usize = 100;
/// Most values in a YAML body, copies included.
pub const YAML_NODES_MAX: usize = 250_000;
/// How deep a YAML body may nest.
pub const YAML_DEPTH_MAX: usize = 128;
/// Values of one impersonation header.
pub const IMPERSONATION_LEN_MAX: usize = 100;
/// Longest audit id of a client's that is taken.
pub const AUDIT_ID_BYTES_MAX: usize = 64;
/// Longest bearer token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The door's configuration. Certificates and keys are PEM.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any.
    pub bind: SocketAddr,
    /// The serving certificate and what it was issued by.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
    /// Who issues client certificates; `None`: clients have none.
    pub client_ca_pem: Option<String>,
    /// Proxies that are believed about users; `None`: none are.
    pub request_header: Option<RequestHeader>,
    /// A foreign issuer whose tokens are taken; `None`: there is none.
    pub oidc: Option<OidcOptions>,
    /// Bearer tokens that are known from a file.
    pub static_tokens: Vec<(String, User)>,
    /// What `/version` adds to the version of Kubernetes: stoa's own.
    pub version: String,
    /// The public keys of service-account tokens, a JSON Web Key Set.
    pub jwks: Option<String>,
    /// Who issues service-account tokens, for OpenID discovery.
    pub token_issuer: Option<String>,
    /// The flags of the command line and their values, as `/flagz` shows them.
    pub flags: BTreeMap<String, String>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither key nor tokens may reach a log.
        f.debug_struct("Options")
            .field("bind", &self.bind)
            .field("static_tokens_len", &self.static_tokens.len())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A door with a serving certificate and nothing else.
    pub fn new(bind: SocketAddr, certificate_pem: String, key_pem: String) -> Options {
        Options {
            bind,
            certificate_pem,
            key_pem,
            client_ca_pem: None,
            request_header: None,
            oidc: None,
            static_tokens: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            jwks: None,
            token_issuer: None,
            flags: BTreeMap::new(),
        }
    }
}
