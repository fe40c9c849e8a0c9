//! Carries out what the state leaves to be written: records that changed, pods to delete. Several changes of one record
//! between two rounds become one write, and all records of a round one transaction.

use crate::master::Master;
use crate::state::Kill;
use bytes::Bytes;
use stoa_kube::Object;
use stoa_registry::DeleteOptions;
use stoa_store::{Error, Key, TXN_BYTES_MAX, Txn};
use stoa_units::Stamped;

/// Records in one transaction.
const BATCH_LEN_MAX: usize = 64;
/// Bytes of records in one transaction, well below the store's limit.
const BATCH_BYTES_MAX: usize = TXN_BYTES_MAX / 2;

impl Master {
    /// Writes and deletes until nothing is left, then waits for more.
    pub async fn run_writer(&self) {
        loop {
            self.flush().await;
            self.work.notified().await;
        }
    }

    /// Writes and deletes what was left before the call. What fails is left again: the cycle asks for another round.
    pub async fn flush(&self) {
        // One at a time: whoever returns from here knows that what others had taken is written, too.
        let _turn = self.flushing.lock().await;
        let mut failed = Vec::new();
        loop {
            let batch = self.take_batch();
            let kill = self.state.lock().kills.pop_front();
            if batch.is_empty() && kill.is_none() {
                break;
            }
            if let Err(e) = self.write_batch(&batch).await {
                tracing::warn!(error = %e, "cannot write records: trying again later");
                self.put_back(batch);
                failed.extend(kill);
                break;
            }
            if let Some(kill) = kill
                && !self.carry_out(&kill).await
            {
                failed.push(kill);
            }
        }
        self.state.lock().kills.extend(failed);
    }

    fn take_batch(&self) -> Vec<(Key, Option<Bytes>)> {
        let mut state = self.state.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_LEN_MAX && bytes < BATCH_BYTES_MAX {
            let Some((key, value)) = state.dirty.pop_first() else { break };
            bytes += value.as_ref().map_or(0, Bytes::len);
            batch.push((key, value));
        }
        batch
    }

    fn put_back(&self, batch: Vec<(Key, Option<Bytes>)>) {
        let mut state = self.state.lock();
        for (key, value) in batch {
            // What was left meanwhile is newer.
            state.dirty.entry(key).or_insert(value);
        }
    }

    async fn write_batch(&self, batch: &[(Key, Option<Bytes>)]) -> Result<(), Error> {
        let mut txn = Txn::new();
        for (key, value) in batch {
            txn = match value {
                Some(bytes) => txn.put(key.clone(), Stamped::plain(bytes.clone())),
                None => match self.store().get(key) {
                    Some(entry) => txn.delete(key.clone(), Stamped::plain(entry.value)),
                    None => txn,
                },
            };
        }
        if txn.is_empty() {
            return Ok(());
        }
        self.store().commit(txn).await.map(drop)
    }

    /// Deletes a pod. One that is not there, or is another by now, is as good as deleted. False if it must be tried again.
    async fn carry_out(&self, kill: &Kill) -> bool {
        let target = self.pod_target(&kill.namespace, &kill.pod);
        let options = DeleteOptions {
            grace_period_seconds: kill.grace_seconds,
            uid: Some(kill.uid.clone()),
            ..DeleteOptions::default()
        };
        match self.registry.delete(&self.context, target, &options).await {
            Ok(_) => true,
            Err(status) if status.code() == 404 => true,
            // Another pod of that name, or ours with too many other writers.
            Err(status) if status.code() == 409 => self
                .registry
                .get(target)
                .ok()
                .and_then(|e| Object::read(&e.value).ok())
                .is_none_or(|pod| pod.uid() != kill.uid),
            Err(status) => {
                let (pod, namespace, code) = (&kill.pod, &kill.namespace, status.code());
                tracing::warn!(pod, namespace, code, "cannot delete a task's pod: trying again later");
                false
            }
        }
    }
}
