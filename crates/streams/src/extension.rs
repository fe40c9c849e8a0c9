//! Where another service hangs its own routes on the Kubernetes listener: agents' sessions arrive at the same port, with
//! the same certificates, and are handed over after authentication.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

/// A streamed answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Handles requests under a path prefix that the Kubernetes door does not own.
#[async_trait::async_trait]
pub trait Extension: Send + Sync {
    /// Answers a request of an authenticated `user` with its `groups`.
    async fn handle(&self, user: &str, groups: &[String], request: Request<Incoming>) -> Response<Body>;
}
