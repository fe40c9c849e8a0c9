//! The health service of gRPC (`grpc.health.v1`), as far as a probe asks it: one question, one answer of two bytes.

use crate::machine::chain;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Longest answer; a health answer takes seven bytes.
const ANSWER_LEN_MAX: usize = 4_096;
/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// Why a service is not healthy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unhealthy {
    /// Whoever answered does not speak gRPC; why is for the log.
    NoConnection(String),
    /// What an event says.
    Said(String),
}

/// Asks whether `service` is serving.
pub(crate) async fn check(stream: TcpStream, authority: &str, service: &str) -> Result<(), Unhealthy> {
    let failed = |e: &dyn std::error::Error| Unhealthy::NoConnection(chain(e));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
    let driver = tokio::spawn(connection);
    let asked = async {
        let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .header(http::header::USER_AGENT, "kube-probe/1.36")
            .body(Full::new(render_request(service)))
            .map_err(|e| failed(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX).collect().await.map_err(|e| failed(&*e))?;
        let status = |map: &http::HeaderMap| {
            let text = |name: &str| map.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
            Some((text("grpc-status")?, text("grpc-message").unwrap_or_default()))
        };
        let code = body.trailers().and_then(status).or_else(|| status(&head.headers));
        Ok::<_, Unhealthy>((code, head.status, body.to_bytes()))
    }
    .await;
    driver.abort();
    let (code, http, bytes) = asked?;
    let (code, message) = match code {
        Some((code, message)) => (code, unescape(&message)),
        None => ("2".to_owned(), format!("unexpected HTTP status code received from server: {http}")),
    };
    Err(Unhealthy::Said(match (code.as_str(), read_status(&bytes)) {
        ("0", Some(SERVING)) => return Ok(()),
        ("0", other) => format!("service unhealthy (responded with {:?})", name(other)),
        ("12", _) => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        ),
        (code, _) => {
            let code = code.parse().ok().and_then(|n: usize| CODES.get(n)).copied().unwrap_or("Unknown");
            format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}")
        }
    }))
}

/// The codes of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A message as it travels in a header: bytes that are not printable are `%` and two digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn name(status: Option<u64>) -> &'static str {
    match status {
        Some(2) => "NOT_SERVING",
        Some(3) => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// A `HealthCheckRequest` in a gRPC frame: field 1 is the service's name.
fn render_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut len = service.len();
        while len >= 0x80 {
            message.put_u8(len as u8 | 0x80);
            len >>= 7;
        }
        message.put_u8(len as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

/// Field 1 of a `HealthCheckResponse` in an uncompressed gRPC frame; an empty message says 0.
fn read_status(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    if frame[0] != 0 {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, value, ..] if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use tokio::net::TcpListener;

    /// A server that answers each question with this status byte.
    async fn serve(status: u8) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let service =
                hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(&asked[..], b"\0\0\0\0\x04\x0a\x02ab");
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    let frames = [
                        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]))),
                        Ok(Frame::trailers(trailers)),
                    ];
                    Ok::<_, Infallible>(http::Response::new(StreamBody::new(futures_util::stream::iter(
                        frames,
                    ))))
                });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tcp), service)
                .await;
        });
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_is_healthy_only_while_it_says_serving() {
        assert_eq!(check(serve(1).await, "a:1", "ab").await, Ok(()));
        let not = check(serve(2).await, "a:1", "ab").await;
        assert_eq!(
            not,
            Err(Unhealthy::Said("service unhealthy (responded with \"NOT_SERVING\")".to_owned()))
        );
    }

    /// A server that answers each question with this status and message.
    async fn refuse(code: &'static str, message: &'static str) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let service =
                hyper::service::service_fn(move |_: http::Request<hyper::body::Incoming>| async move {
                    let answer = http::Response::builder();
                    let answer = answer.header("grpc-status", code).header("grpc-message", message);
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
                });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tcp), service)
                .await;
        });
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn what_a_server_refuses_with_is_told_with_its_code() {
        for (code, message, want) in [
            (
                "5",
                "unknown service",
                "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
            ),
            ("99", "50%25 %zz", "error: health rpc probe failed: rpc error: code = Unknown desc = 50% %zz"),
            (
                "12",
                "unknown service grpc.health.v1.Health",
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health",
            ),
        ] {
            let answer = check(refuse(code, message).await, "a:1", "ab").await;
            assert_eq!(answer, Err(Unhealthy::Said(want.to_owned())), "{code}");
        }
    }

    #[tokio::test]
    async fn who_speaks_something_else_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
        let stream = TcpStream::connect(address).await.unwrap();
        assert!(matches!(check(stream, "a:1", "").await, Err(Unhealthy::NoConnection(_))));
    }

    #[test]
    fn an_answer_that_is_none_is_no_status() {
        for bytes in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x02\x10\x01",
            b"\0\0\0\0\x02\x08\xff",
        ] {
            assert_eq!(read_status(bytes), None, "{bytes:?}");
        }
    }
}
