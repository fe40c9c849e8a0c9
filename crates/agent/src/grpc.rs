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

/// Asks whether `service` is serving. The error is what an event says.
pub(crate) async fn check(stream: TcpStream, authority: &str, service: &str) -> Result<(), String> {
    let failed = |e: &dyn std::error::Error| format!("error: health rpc probe failed: {}", chain(e));
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
        let status =
            |map: &http::HeaderMap| map.get("grpc-status").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let code = body.trailers().and_then(status).or_else(|| status(&head.headers));
        Ok::<_, String>((code, body.to_bytes()))
    }
    .await;
    driver.abort();
    let (code, bytes) = asked?;
    match (code.as_deref(), read_status(&bytes)) {
        (Some("0"), Some(SERVING)) => Ok(()),
        (Some("0"), other) => Err(format!("service unhealthy (responded with {:?})", name(other))),
        (Some("12"), _) => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                .to_owned())
        }
        (Some("5"), _) => Err(format!("error: health rpc probe failed: unknown service {service:?}")),
        (code, _) => Err(format!("error: health rpc probe failed: status {}", code.unwrap_or("unknown"))),
    }
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
        assert_eq!(not, Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()));
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
