//! Which dialect a client and we both speak, from the headers of its request.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Names the dialect inside of SPDY.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Upgrades to raw SPDY.
const SPDY: &str = "SPDY/3.1";
const WEBSOCKET: &str = "websocket";
/// A subprotocol that in truth carries a bearer token, for browsers: the door has taken it as such, it names no dialect.
const BEARER_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// What the upgraded connection is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command in a container.
    Exec,
    /// A container's main process.
    Attach,
    /// Ports of a pod.
    PortForward,
    /// A container's log.
    Logs,
    /// Events of a watch. Whatever subprotocols the client offers, there is none: each event is a message.
    Events,
}

/// How bytes travel in a WebSocket's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are, in binary messages.
    Binary,
    /// In base64, in text messages.
    Base64,
}

/// How far a dialect of channels or streams has come. Later ones can do what earlier ones can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Input, output, error; a failure is told as text.
    V1,
    /// Sizes of terminals.
    V3,
    /// A `Status` object at the end, with the exit code.
    V4,
    /// A channel can be closed by itself.
    V5,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Numbered channels in a WebSocket.
    Channels(Version, Encoding),
    /// One stream of bytes in a WebSocket.
    Plain(Encoding),
    /// SPDY on the bare connection.
    Spdy(Version),
    /// SPDY in a WebSocket's binary messages.
    SpdyInWebSocket,
}

/// A dialect's name in a header, and what it is.
type Named = (&'static str, Dialect);

const COMMAND_CHANNELS: [Named; 5] = [
    ("v5.channel.k8s.io", Dialect::Channels(Version::V5, Encoding::Binary)),
    ("v4.channel.k8s.io", Dialect::Channels(Version::V4, Encoding::Binary)),
    ("v4.base64.channel.k8s.io", Dialect::Channels(Version::V4, Encoding::Base64)),
    ("channel.k8s.io", Dialect::Channels(Version::V1, Encoding::Binary)),
    ("base64.channel.k8s.io", Dialect::Channels(Version::V1, Encoding::Base64)),
];

const PORT_CHANNELS: [Named; 5] = [
    ("SPDY/3.1+portforward.k8s.io", Dialect::SpdyInWebSocket),
    ("v4.channel.k8s.io", Dialect::Channels(Version::V4, Encoding::Binary)),
    ("v4.base64.channel.k8s.io", Dialect::Channels(Version::V4, Encoding::Base64)),
    ("channel.k8s.io", Dialect::Channels(Version::V1, Encoding::Binary)),
    ("base64.channel.k8s.io", Dialect::Channels(Version::V1, Encoding::Base64)),
];

const LOG_CHANNELS: [Named; 2] = [
    ("binary.k8s.io", Dialect::Plain(Encoding::Binary)),
    ("base64.binary.k8s.io", Dialect::Plain(Encoding::Base64)),
];

const COMMAND_STREAMS: [Named; 4] = [
    ("v4.channel.k8s.io", Dialect::Spdy(Version::V4)),
    ("v3.channel.k8s.io", Dialect::Spdy(Version::V3)),
    ("v2.channel.k8s.io", Dialect::Spdy(Version::V1)),
    ("channel.k8s.io", Dialect::Spdy(Version::V1)),
];

const PORT_STREAMS: [Named; 1] = [("portforward.k8s.io", Dialect::Spdy(Version::V4))];

impl Kind {
    fn web_socket_dialects(self) -> &'static [Named] {
        match self {
            Kind::Exec | Kind::Attach => &COMMAND_CHANNELS,
            Kind::PortForward => &PORT_CHANNELS,
            Kind::Logs => &LOG_CHANNELS,
            Kind::Events => &[],
        }
    }

    fn spdy_dialects(self) -> &'static [Named] {
        match self {
            Kind::Exec | Kind::Attach => &COMMAND_STREAMS,
            Kind::PortForward => &PORT_STREAMS,
            Kind::Logs | Kind::Events => &[],
        }
    }

    /// What a WebSocket that names no subprotocol gets.
    fn default_dialect(self) -> Dialect {
        match self {
            Kind::Exec | Kind::Attach | Kind::PortForward => Dialect::Channels(Version::V1, Encoding::Binary),
            Kind::Logs | Kind::Events => Dialect::Plain(Encoding::Binary),
        }
    }
}

/// An agreement: answer with [`Accepted::response`], then serve.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub(crate) dialect: Dialect,
    headers: HeaderMap,
}

/// Why there will be no upgrade.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The HTTP status.
    pub code: u16,
    /// What the answer says.
    pub message: String,
}

impl Accepted {
    /// The answer that switches protocols.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = self.headers.clone();
        response
    }

    fn new(upgrade: &'static str, dialect: Dialect) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        Accepted { dialect, headers }
    }
}

/// True if the client asks for another protocol that this crate knows.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    wanted(headers).is_some()
}

/// Agrees on a dialect, or says what to answer instead.
///
/// # Errors
/// [`Refused`] with 400 if no upgrade was asked for or the handshake is malformed, 403 if there is no dialect in common.
pub fn negotiate(method: &Method, headers: &HeaderMap, kind: Kind) -> Result<Accepted, Refused> {
    match wanted(headers) {
        Some(WEBSOCKET) => web_socket(method, headers, kind),
        Some(_) => spdy(headers, kind),
        None => Err(bad("Upgrade request required")),
    }
}

fn wanted(headers: &HeaderMap) -> Option<&'static str> {
    if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let known = |token: &str| [WEBSOCKET, SPDY].into_iter().find(|name| token.eq_ignore_ascii_case(name));
    tokens(headers, &UPGRADE).find_map(known)
}

/// The elements of a header that is a list, over all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn bad(message: impl Into<String>) -> Refused {
    Refused { code: 400, message: message.into() }
}

fn web_socket(method: &Method, headers: &HeaderMap, kind: Kind) -> Result<Accepted, Refused> {
    if method != Method::GET {
        return Err(bad("a WebSocket handshake must be a GET"));
    }
    if !tokens(headers, &SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        return Err(bad("the WebSocket version must be 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() <= 64);
    let key = key.ok_or_else(|| bad("the WebSocket handshake has no proper Sec-WebSocket-Key"))?;
    let offered: Vec<&str> =
        tokens(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|name| !name.starts_with(BEARER_PREFIX)).collect();
    let (name, dialect) = match choose(&offered, kind.web_socket_dialects()) {
        Some((name, dialect)) => (Some(name), dialect),
        None if offered.is_empty() || kind == Kind::Events => (None, kind.default_dialect()),
        None => return Err(nothing_in_common(&offered, kind.web_socket_dialects())),
    };
    let mut accepted = Accepted::new(WEBSOCKET, dialect);
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| bad("the Sec-WebSocket-Key is malformed"))?;
    accepted.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(name) = name {
        accepted.headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(accepted)
}

fn spdy(headers: &HeaderMap, kind: Kind) -> Result<Accepted, Refused> {
    let dialects = kind.spdy_dialects();
    let offered: Vec<&str> = tokens(headers, &STREAM_PROTOCOL).collect();
    let (name, dialect) = choose(&offered, dialects).ok_or_else(|| nothing_in_common(&offered, dialects))?;
    let mut accepted = Accepted::new(SPDY, dialect);
    accepted.headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(name));
    Ok(accepted)
}

/// The first of the client's that we know: the client's order counts.
fn choose(offered: &[&str], known: &[Named]) -> Option<Named> {
    offered.iter().find_map(|name| known.iter().find(|(known, _)| known == name)).copied()
}

fn nothing_in_common(offered: &[&str], known: &[Named]) -> Refused {
    let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let message = format!(
        "unable to negotiate protocol: client supports [{}], server accepts [{}]",
        offered.join(" "),
        known.join(" ")
    );
    Refused { code: 403, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    /// What is agreed on, in short.
    fn agree(kind: Kind, lines: &[(&'static str, &'static str)]) -> String {
        match negotiate(&Method::GET, &headers(lines), kind) {
            Ok(accepted) => {
                let response = accepted.response();
                let name =
                    [SEC_WEBSOCKET_PROTOCOL, STREAM_PROTOCOL].iter().find_map(|n| response.headers().get(n));
                let name = name.map_or("-", |n| n.to_str().expect("ASCII"));
                format!("{} {name} {:?}", response.status().as_u16(), accepted.dialect)
            }
            Err(Refused { code, message }) => format!("{code} {message}"),
        }
    }

    const WS: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    const SPDY_LINES: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];

    fn with(
        base: &[(&'static str, &'static str)],
        more: &[(&'static str, &'static str)],
    ) -> Vec<(&'static str, &'static str)> {
        [base, more].concat()
    }

    #[test]
    fn the_first_dialect_of_the_clients_list_that_we_know_is_taken() {
        let ws = |protocols| with(&WS, &[("sec-websocket-protocol", protocols)]);
        let streams = |protocol| with(&SPDY_LINES, &[("x-stream-protocol-version", protocol)]);
        let table = [
            (
                Kind::Exec,
                ws("v5.channel.k8s.io, v4.channel.k8s.io"),
                "101 v5.channel.k8s.io Channels(V5, Binary)",
            ),
            (
                Kind::Exec,
                ws("v9.channel.k8s.io,v4.base64.channel.k8s.io"),
                "101 v4.base64.channel.k8s.io Channels(V4, Base64)",
            ),
            (Kind::Attach, ws("base64url.bearer.authorization.k8s.io.abc"), "101 - Channels(V1, Binary)"),
            (
                Kind::PortForward,
                ws("SPDY/3.1+portforward.k8s.io"),
                "101 SPDY/3.1+portforward.k8s.io SpdyInWebSocket",
            ),
            (Kind::Logs, WS.to_vec(), "101 - Plain(Binary)"),
            (Kind::Exec, streams("v4.channel.k8s.io"), "101 v4.channel.k8s.io Spdy(V4)"),
            (Kind::PortForward, streams("portforward.k8s.io"), "101 portforward.k8s.io Spdy(V4)"),
            (
                Kind::PortForward,
                streams("v9"),
                "403 unable to negotiate protocol: client supports [v9], server accepts [portforward.k8s.io]",
            ),
            (Kind::Exec, vec![], "400 Upgrade request required"),
            (Kind::Exec, vec![("upgrade", "websocket")], "400 Upgrade request required"),
            (Kind::Exec, vec![("connection", "upgrade"), ("upgrade", "h2c")], "400 Upgrade request required"),
            (Kind::Exec, WS[..3].to_vec(), "400 the WebSocket handshake has no proper Sec-WebSocket-Key"),
        ];
        for (kind, lines, expected) in table {
            assert_eq!(agree(kind, &lines), expected);
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfcs_example() {
        let accepted = negotiate(&Method::GET, &headers(&WS), Kind::Exec).expect("agreed");
        assert_eq!(accepted.response().headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_post_can_not_open_a_web_socket_but_may_upgrade_to_spdy() {
        assert_eq!(negotiate(&Method::POST, &headers(&WS), Kind::Exec).expect_err("refused").code, 400);
        let lines = with(&SPDY_LINES, &[("x-stream-protocol-version", "v4.channel.k8s.io")]);
        assert!(negotiate(&Method::POST, &headers(&lines), Kind::Exec).is_ok());
    }
}
