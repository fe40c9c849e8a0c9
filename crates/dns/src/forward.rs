//! Hands a question on to the machine's own resolvers, one after the other, each for a bounded time.

use hickory_server::proto::op::Message;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// How long one resolver may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that wait at once; further ones fail at once rather than pile up.
const WAITING_MAX: usize = 512;
/// Longest answer by datagram.
const DATAGRAM_LEN_MAX: usize = 4_096;

pub(crate) struct Forwarder {
    upstream: Vec<SocketAddr>,
    places: Semaphore,
}

impl Forwarder {
    pub(crate) fn new(upstream: Vec<SocketAddr>) -> Forwarder {
        Forwarder { upstream, places: Semaphore::new(WAITING_MAX) }
    }

    /// The first answer to `question` (a whole message); none if nobody answers in time.
    pub(crate) async fn ask(&self, question: &[u8]) -> Option<Message> {
        let _place = self.places.try_acquire().ok()?;
        let id = question.get(..2)?;
        for server in &self.upstream {
            let answer = match tokio::time::timeout(PATIENCE, by_datagram(*server, question)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    tracing::debug!(%server, %error, "a resolver does not answer");
                    continue;
                }
                Err(_) => continue,
            };
            let Some(message) = read(&answer, id) else { continue };
            if !message.metadata.truncation {
                return Some(message);
            }
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, by_stream(*server, question)).await {
                return read(&answer, id);
            }
        }
        None
    }
}

fn read(answer: &[u8], id: &[u8]) -> Option<Message> {
    if answer.get(..2) != Some(id) {
        return None;
    }
    Message::from_vec(answer).ok()
}

async fn by_datagram(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    // A port of its own for every question: who guesses the id would have to guess it too.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; DATAGRAM_LEN_MAX];
    let len = socket.recv(&mut answer).await?;
    answer.truncate(len);
    Ok(answer)
}

async fn by_stream(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
