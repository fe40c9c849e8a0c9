//! What frameworks and executors send.

use stoa_mesos::recordio::Decoder;

/// A stream of records, arriving in pieces whose length the first byte says.
pub fn recordio(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let mut decoder = Decoder::default();
    for part in stream.chunks(usize::from(*piece).max(1)) {
        decoder.push(part);
        loop {
            match decoder.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A scheduler's call in JSON.
pub fn mesos_call(data: &[u8]) {
    let _ = serde_json::from_slice::<stoa_mesos::scheduler::Call>(data);
}
