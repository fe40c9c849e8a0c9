//! The service: recovers, listens, and runs the cycle, the watch and the writer until told to stop.

use crate::command::Pending;
use crate::master::{Leader, Master};
use crate::options::Options;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use stoa_ledger::Ledger;
use stoa_registry::Registry;
use stoa_streams::Opener;
use stoa_units::{AgentId, Clock, Resources};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The vocabulary lacks what every cluster has.
    #[error("pods and namespaces are not among the known resources")]
    Vocabulary,
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for the Mesos API")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The records of an earlier run cannot be read.
    #[error("cannot recover frameworks and tasks")]
    Recover(#[source] stoa_store::Error),
}

/// The Mesos door.
pub struct Service {
    master: Arc<Master>,
    pending: mpsc::Receiver<Pending>,
    listener: Option<TcpListener>,
}

/// What others may ask of a running door.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Master>);

impl Handle {
    /// Takes back the offers that keep `need` from fitting on an agent, or on any agent if none is named, and offers nothing
    /// of that agent for some seconds. Only what the namespace may have within its fair share and quota is taken, or what a
    /// framework has had for a while without using it. True if offers were taken back.
    pub fn make_room(&self, agent: Option<&AgentId>, namespace: &str, need: &Resources) -> bool {
        self.0.make_room(agent, namespace, need)
    }
}

impl Handle {
    /// Another master leads, or this one again: while it does not, clients are sent to whoever does.
    pub fn set_leader(&self, leader: Leader) {
        self.0.set_leader(leader);
    }
}

impl Service {
    /// A service over a registry and the cluster's ledger. `ledger_changed` is notified by whoever changes the ledger.
    pub fn new(
        registry: Arc<Registry>,
        ledger: Arc<Mutex<Ledger>>,
        ledger_changed: Arc<Notify>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Service, Error> {
        let (master, pending) =
            Master::new(registry, ledger, ledger_changed, clock, options).ok_or(Error::Vocabulary)?;
        master.recover_claims().map_err(Error::Recover)?;
        Ok(Service { master: Arc::new(master), pending, listener: None })
    }

    /// Agents are reached through this: their custom executors, and their own API.
    pub fn set_opener(&mut self, opener: Arc<dyn Opener>) {
        // There is one, given before the service runs.
        let _ = self.master.opener.set(opener);
    }

    /// For other services.
    pub fn handle(&self) -> Handle {
        Handle(self.master.clone())
    }

    /// Listens already, so that the address is known before the service runs. Returns it.
    pub async fn bind(&mut self) -> Result<SocketAddr, Error> {
        let address = self.master.options.bind;
        let listen = |cause| Error::Listen { address, cause };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        self.master.set_address(bound);
        self.listener = Some(listener);
        Ok(bound)
    }

    /// Runs until `shutdown`. Tasks live on, and are picked up again by the next run.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        if self.listener.is_none() {
            self.bind().await?;
        }
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let master = self.master.clone();
        let server = tokio::spawn(master.clone().run_server(listener));
        let from = match master.start() {
            Ok(from) => from,
            Err(e) => {
                server.abort();
                return Err(Error::Recover(e));
            }
        };
        let opener = master.opener.get().cloned();
        let planes = async {
            match opener {
                Some(opener) => master.run_planes(opener).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = planes => {}
            () = master.run_cycle() => {}
            () = master.run_watch(from) => {}
            () = master.run_writer() => {}
            () = master.clone().run_pacer(self.pending) => {}
            () = shutdown.cancelled() => {}
        }
        server.abort();
        master.flush().await;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn into_parts(self) -> (Arc<Master>, mpsc::Receiver<Pending>) {
        (self.master, self.pending)
    }
}

impl Master {
    /// Takes over what the store has; from then on calls are answered.
    pub fn start(&self) -> Result<(stoa_units::Revision, stoa_units::Revision), stoa_store::Error> {
        self.recover()?;
        let from = self.look()?;
        self.set_recovered();
        Ok(from)
    }
}
