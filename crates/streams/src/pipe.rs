//! A tunnel to a port as a stream of bytes, for what speaks a protocol of its own over it.

use crate::tunnel::Tunnel;
use crate::wire::{Channel, Frame};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What may wait in either direction.
const PIPE_BYTES: usize = 64 * 1024;
/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

impl Tunnel {
    /// The bytes of a forwarded port. Both directions end with the tunnel; dropping the stream ends the tunnel.
    pub fn into_bytes(self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(carry(self, far));
        near
    }
}

async fn carry(tunnel: Tunnel, far: DuplexStream) {
    let Tunnel { input, mut output } = tunnel;
    let (mut read, mut write) = tokio::io::split(far);
    let up = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    for frame in Frame::split(Channel::Stdin, buffer.split().freeze()) {
                        if input.send(frame).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
        let end = Bytes::from_static(&[Channel::Stdin as u8]);
        let _ = input.send(Frame::new(Channel::Close, end)).await;
        // The far side may still have something to say, unless nobody listens any more.
        std::future::pending().await
    };
    let down = async {
        while let Some(frame) = output.recv().await {
            match frame.channel {
                Channel::Stdout if write.write_all(&frame.payload).await.is_err() => return,
                Channel::Stdout => {}
                Channel::Close if frame.payload[..] == [Channel::Stdout as u8] => {
                    let _ = write.shutdown().await;
                }
                Channel::Status => break,
                _ => {}
            }
        }
        let _ = write.shutdown().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn bytes_cross_a_tunnel_both_ways_and_its_end_is_theirs() {
        let (input, mut to_pod) = mpsc::channel(4);
        let (from_pod, output) = mpsc::channel(4);
        let mut bytes = Tunnel { input, output }.into_bytes();
        bytes.write_all(b"ask").await.unwrap();
        assert_eq!(to_pod.recv().await.unwrap(), Frame::new(Channel::Stdin, &b"ask"[..]));
        from_pod.send(Frame::new(Channel::Stdout, &b"answer"[..])).await.unwrap();
        from_pod.send(Frame::new(Channel::Status, &b"{}"[..])).await.unwrap();
        let mut read = String::new();
        bytes.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "answer");
        assert!(to_pod.recv().await.is_none());
    }
}
