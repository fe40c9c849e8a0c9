//! A stream of events over a WebSocket: a message each, in one direction.

use crate::channels;
use bytes::Bytes;
use futures_util::{SinkExt, Stream, StreamExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How often a quiet client is written to, so that one that has gone is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// What kind of messages a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Texts.
    Text,
    /// Bytes.
    Binary,
}

/// Sends items until they end, the client goes or breaks the rules.
pub(crate) async fn serve<IO>(io: IO, items: impl Stream<Item = Bytes>, form: Messages)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = channels::accept(io).await.split();
    let mut items = std::pin::pin!(items);
    let down = async {
        loop {
            let message = match tokio::time::timeout(PING_INTERVAL, items.next()).await {
                Ok(None) => return true,
                Ok(Some(item)) => match (form, Utf8Bytes::try_from(item.clone())) {
                    (Messages::Text, Ok(text)) => Message::Text(text),
                    _ => Message::Binary(item),
                },
                Err(_) => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return false;
            }
        }
    };
    let up = async { while channels::next(&mut stream).await.is_some() {} };
    let ended = tokio::select! {
        ended = down => ended,
        () = up => false,
    };
    if ended {
        channels::finish(&mut sink, &mut stream).await;
    }
}
