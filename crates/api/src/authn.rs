//! Who is asking: a proxy that is believed says it, or a client certificate that the cluster's authority issued does, or a bearer
//! token.

mod bootstrap_token;
mod oidc;
mod request_header;

pub(crate) use bootstrap_token::BootstrapTokens;
pub(crate) use oidc::Oidc;
pub use oidc::OidcOptions;
pub use request_header::RequestHeader;

use crate::options::TOKEN_BYTES_MAX;
use crate::state::State;
use crate::tls::Peer;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use stoa_authz::User;
use stoa_kube::Status;
use subtle::ConstantTimeEq;

/// Everybody who is known is in this group.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Everybody who is not is in this one.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

/// What a WebSocket protocol begins with that is a token.
pub(crate) const WEB_SOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The user.
    pub user: User,
    /// For whom the token is meant, as far as that was asked.
    pub audiences: Vec<String>,
}

/// Knows tokens.
pub trait TokenAuthenticator: Send + Sync {
    /// Whom the token speaks for, if it is valid for one of `audiences` (empty: this server).
    fn authenticate(&self, token: &str, audiences: &[String]) -> Option<Authenticated>;
}

/// A file's tokens, compared in constant time.
pub(crate) struct StaticTokens(Vec<(String, User)>);

impl StaticTokens {
    pub(crate) fn new(tokens: Vec<(String, User)>) -> StaticTokens {
        StaticTokens(tokens)
    }
}

impl TokenAuthenticator for StaticTokens {
    fn authenticate(&self, token: &str, audiences: &[String]) -> Option<Authenticated> {
        let mut found = None;
        // All are compared, so that the time tells nothing about which one matched.
        for (known, user) in &self.0 {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                found = Some(user.clone());
            }
        }
        found.map(|user| Authenticated { user, audiences: audiences.to_vec() })
    }
}

/// Who is asking.
pub(crate) async fn authenticate(state: &State, peer: &Peer, headers: &HeaderMap) -> Result<User, Status> {
    if let Some(user) = state.request_header.as_ref().filter(|_| peer.is_proxy).and_then(|r| r.user(headers))
    {
        return Ok(known(user));
    }
    if let Some(user) = &peer.user {
        return Ok(known(user.clone()));
    }
    match bearer(headers).map(str::to_string).or_else(|| web_socket_bearer(headers)) {
        Some(token) => {
            state.prepare(&token).await;
            let found = state.tokens.iter().find_map(|t| t.authenticate(&token, &[]));
            found.map(|a| known(a.user)).ok_or_else(Status::unauthorized)
        }
        // A token that is too long to be one is a token all the same.
        None if peer.is_unknown || has_bearer(headers) => Err(Status::unauthorized()),
        // Credentials of a kind that is not known are none, as on a stock server.
        // What is open to everybody, the authorizer says: whether the server lives and what it is.
        None => Ok(User::new("system:anonymous", [UNAUTHENTICATED])),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    (scheme.eq_ignore_ascii_case("bearer") && fits).then_some(token)
}

fn has_bearer(headers: &HeaderMap) -> bool {
    let text = headers.get(AUTHORIZATION).map_or("", |v| v.to_str().unwrap_or("bearer ?"));
    let scheme = text.split_once(' ').filter(|(_, token)| !token.trim().is_empty());
    scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
}

/// Browsers cannot set headers on a WebSocket, so they name the token as one of its protocols.
fn web_socket_bearer(headers: &HeaderMap) -> Option<String> {
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let token =
        protocols.flat_map(|p| p.split(',')).find_map(|p| p.trim().strip_prefix(WEB_SOCKET_BEARER))?;
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|b| b.len() <= TOKEN_BYTES_MAX)?;
    String::from_utf8(bytes).ok()
}

/// A user that was identified is in the group of those.
pub(crate) fn known(mut user: User) -> User {
    if !user.is_member(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_string());
    }
    user
}
