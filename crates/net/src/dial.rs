//! Connects to a port inside a pod's namespace, as port-forward does: to the pod's loopback, whatever address the program
//! listens on.

use crate::namespace;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// How long one address may take to answer. It is a loopback address: a live one answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

fn connect(port: u16) -> io::Result<std::net::TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    std::net::TcpStream::connect_timeout(&v4, CONNECT_TIMEOUT)
        .or_else(|first| std::net::TcpStream::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| first))
}

/// Connects to `port` on the loopback of the namespace at `netns`, or of the host where there is none.
pub async fn dial(netns: Option<&Path>, port: u16) -> io::Result<tokio::net::TcpStream> {
    let netns = netns.map(Path::to_path_buf);
    let work = move || -> io::Result<std::net::TcpStream> {
        let Some(path) = netns else { return connect(port) };
        // The socket keeps the namespace in which it was made, so the thread's is of no matter afterwards.
        namespace::on_thread(|| {
            let fd = namespace::open(&path)?;
            namespace::enter(&fd, &path)?;
            Ok(connect(port))
        })
        .map_err(io::Error::other)?
    };
    let stream = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}
