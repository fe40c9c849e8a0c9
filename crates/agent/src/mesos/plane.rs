//! The agent's end of the way to the master: records in both directions over one tunnel. A new one begins with all that is
//! not confirmed yet.

use super::Executors;
use bytes::Bytes;
use stoa_mesos::plane::Down;
use stoa_mesos::recordio::{self, Decoder};
use stoa_units::Clock;
use stoa_wire::{Channel, Frame};
use tokio::sync::mpsc;

/// Carries records until either side is done.
pub(crate) async fn serve(
    executors: &Executors,
    clock: &dyn Clock,
    mut input: mpsc::Receiver<Frame>,
    output: mpsc::Sender<Frame>,
) {
    let mut changes = executors.changes();
    let hearing = async {
        let mut decoder = Decoder::default();
        while let Some(frame) = input.recv().await {
            if frame.channel != Channel::Stdin {
                continue;
            }
            decoder.push(&frame.payload);
            loop {
                match decoder.next_record() {
                    Ok(Some(record)) => match serde_json::from_slice::<Down>(&record) {
                        Ok(down) => executors.hear(down, clock.now()),
                        Err(error) => tracing::warn!(%error, "the master says what cannot be read"),
                    },
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the master says what is no record");
                        return;
                    }
                }
            }
        }
    };
    let saying = async {
        let mut said = 0;
        loop {
            for (number, up) in executors.take_unsaid(said) {
                said = said.max(number);
                let record: Bytes = recordio::encode(&stoa_mesos::json::to_ascii(&up));
                for frame in Frame::split(Channel::Stdout, record) {
                    if output.send(frame).await.is_err() {
                        return;
                    }
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hearing => {}
        () = saying => {}
        () = output.closed() => {}
    }
}
