//! Node ports of services lie in the same range as the ports that agents give to frameworks. Each is one's or the other's: a
//! service gets none that a task or a pod has, its ports leave the offers while it has them, and come back afterwards.

use crate::master::Master;
use crate::service::Handle;
use crate::state::Tell;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stoa_store::Key;
use tokio::time::Instant;

/// How long a port may be taken before a service that has it is in the store.
const COMMIT_WAIT: Duration = Duration::from_secs(10);

/// Ports that were taken for services that are being written.
#[derive(Debug, Default)]
pub(crate) struct Taken(Mutex<BTreeMap<u16, Instant>>);

impl Master {
    /// Takes a port for a service. False if somebody has it; offers that have it are taken back.
    fn take_port(&self, port: u16) -> bool {
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        let Ok(offers) = ledger.reserve_port(port) else { return false };
        for offer in offers {
            state.drop_offer(&mut ledger, &offer, Tell::Rescind);
        }
        self.taken_ports.0.lock().insert(port, Instant::now());
        drop(ledger);
        drop(state);
        self.tell_ledger();
        true
    }

    /// Brings the ledger up to what services have.
    pub fn sync_node_ports(&self) {
        // What is taken after this look at the store is taken for a while, whether it is there or not.
        let Ok((entries, _)) = self.read_all(&Key::internal_prefix(stoa_registry::NODE_PORTS)) else {
            return;
        };
        let stored = entries.iter().filter_map(|e| e.key.name().parse::<u16>().ok());
        let mut wanted: BTreeSet<u16> = stored.collect();
        let mut ledger = self.ledger.lock();
        let now = Instant::now();
        let mut taken = self.taken_ports.0.lock();
        taken.retain(|port, at| !wanted.contains(port) && now < *at + COMMIT_WAIT);
        wanted.extend(taken.keys());
        drop(taken);
        let held: BTreeSet<u16> =
            ledger.reserved_ports().ranges().iter().flat_map(|r| r.begin..=r.end).collect();
        let gone: Vec<u16> = held.difference(&wanted).copied().collect();
        for port in &gone {
            ledger.unreserve_port(*port);
        }
        for port in wanted.difference(&held) {
            // A service of before: whoever has its port now had it first and keeps it while it lives.
            if let Err(short) = ledger.reserve_port(*port) {
                tracing::debug!(port, %short, "a service's node port is in use");
            }
        }
        drop(ledger);
        if !gone.is_empty() {
            self.tell_ledger();
        }
    }
}

impl stoa_registry::PortKeeper for Handle {
    fn take(&self, port: u16) -> bool {
        self.0.take_port(port)
    }

    fn is_offerable(&self, port: u16) -> bool {
        self.0.ledger.lock().is_offerable(port)
    }
}
