//! Claims for bindings that clients write themselves (`POST pods/<name>/binding`): the same ledger, the same claims keys.

use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use stoa_kube::Status;
use stoa_kube::typed::PodSpec;
use stoa_ledger::{Holder, Ledger, Short, claim_key};
use stoa_registry::{Claim, Claimer};
use stoa_store::{Key, Store};
use stoa_units::{AgentId, NamespacedName, Stamped};

/// Claims in the shared ledger.
pub struct LedgerClaimer {
    ledger: Arc<Mutex<Ledger>>,
    store: Arc<dyn Store>,
}

impl LedgerClaimer {
    /// Over the shared ledger and the store that holds the claims keys.
    pub fn new(ledger: Arc<Mutex<Ledger>>, store: Arc<dyn Store>) -> LedgerClaimer {
        LedgerClaimer { ledger, store }
    }
}

impl Claimer for LedgerClaimer {
    fn claim(&self, pod: &Value, node: &str) -> Result<Claim, Status> {
        let text = |f: &str| pod["metadata"][f].as_str().unwrap_or_default().to_string();
        let spec: PodSpec = serde_json::from_value(pod["spec"].clone())
            .map_err(|e| Status::internal(format!("pod {} cannot be read: {e}", text("name"))))?;
        let agent = AgentId::from(node);
        let holder = Holder::Pod(NamespacedName::new(text("namespace"), text("name")));
        let key = Key::internal("claims", &claim_key(&agent));
        let stored = self.store.get(&key).map(|e| e.modified).unwrap_or_default();
        let mut ledger = self.ledger.lock();
        let amount = stoa_sched::requests(&spec);
        match ledger.claim(&agent, holder.clone(), &amount) {
            Ok(()) => {}
            // A node that has yet to register: the account is kept for when it does.
            Err(Short::UnknownAgent(_)) => ledger.force_claim(&agent, holder, &amount),
            // Its own claim: another attempt at the same binding, which the pod's revision settles.
            Err(Short::Held(_)) => {}
            Err(short) => {
                let why = format!("node {node:?} has no room for it: {short}");
                return Err(Status::conflict_named("pods/binding", "", &text("name"), &why));
            }
        }
        ledger.committed(&agent, stored);
        let expected = ledger.revision(&agent);
        Ok(Claim { key, expected, value: Stamped::plain(node.as_bytes().to_vec()) })
    }

    fn abandon(&self, pod: &NamespacedName) {
        self.ledger.lock().release(&Holder::Pod(pod.clone()));
    }
}
