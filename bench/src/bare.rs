//! The least that a durable write over HTTPS costs on this machine: a server that does nothing but take a body over HTTP/2 and
//! TLS, append it to a file together with all that wait, sync, and send it back. What a write costs beyond that is the API's own.

use crate::connection::Credentials;
use crate::server::cpu_of;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The argument that makes the benchmark's own program such a server.
pub const ARGUMENT: &str = "--bare-server";

/// The server, a process of its own; dropping it stops it.
pub struct Bare {
    child: Child,
    /// How to reach it.
    pub credentials: Credentials,
}

impl Bare {
    /// Starts one in a cluster's directory, with that cluster's certificate.
    pub fn start(cluster: &Path, credentials: &Credentials) -> Result<Bare> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg(cluster)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare server")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("ready: ") else {
            bail!("the bare server did not start")
        };
        Ok(Bare { child, credentials: credentials.at(address) })
    }

    /// User and system CPU time so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Request = (Bytes, oneshot::Sender<()>);

/// Serves until it is stopped.
pub async fn serve(cluster: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read(cluster.join("pki").join(name));
    let chain = CertificateDer::pem_slice_iter(&read("server.crt")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")?)?;
    let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let file = File::create(cluster.join("bare-log"))?;
    let (queue, requests) = channel();
    std::thread::spawn(move || write(file, &requests));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready: {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(acceptor.clone(), stream, queue.clone()));
    }
}

async fn connection(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    queue: Sender<Request>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let handler = service_fn(move |request: http::Request<Incoming>| {
        let queue = queue.clone();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            let (reply, durable) = oneshot::channel();
            queue.send((body.clone(), reply))?;
            durable.await?;
            let answer = http::Response::builder().header("content-type", "application/json");
            anyhow::Ok(answer.body(Full::new(body))?)
        }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    Ok(builder.serve_connection(TokioIo::new(stream), handler).await?)
}

/// Takes everything that waits, writes it, syncs once, and tells everybody.
fn write(mut file: File, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
        for (body, reply) in std::iter::once(first).chain(requests.try_iter()) {
            bytes.extend_from_slice(&body);
            waiting.push(reply);
        }
        if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for reply in waiting {
            // Who no longer waits has dropped his end.
            let _ = reply.send(());
        }
    }
}
