//! Where the API listens: for executors on loopback, where those on the machine's network reach it, and on the gateway of the
//! pods' network, where the others do; for operators where the options say. On loopback one listener serves both, as Mesos' agents have one.

use crate::options::Options;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use tokio::net::TcpListener;

/// The file that remembers the port of loopback: executors that run keep looking for it after a restart of the agent.
const PORT_FILE: &str = "executor-port";

/// The same of the port on the pods' gateway.
const POD_PORT_FILE: &str = "executor-pod-port";

/// Binds on the pods' gateway, at the port that was remembered, else at the usual one, else at any.
pub(crate) async fn bind_for_pods(options: &Options, gateway: Ipv4Addr) -> std::io::Result<TcpListener> {
    let file = options.data_dir.join(POD_PORT_FILE);
    let at = |port| SocketAddr::new(IpAddr::V4(gateway), port);
    let listener = bind_near(read_port(&file).map(at), at(options.executor_api.port())).await?;
    remember(&file, listener.local_addr()?.port())?;
    Ok(listener)
}

/// The listeners.
pub(crate) struct Endpoint {
    /// On loopback.
    pub(crate) executors: Option<TcpListener>,
    /// Where operators come, executors of this machine, too, unless these have their own.
    pub(crate) operators: Option<TcpListener>,
    /// Where executors find the API.
    pub(crate) address: SocketAddr,
}

impl Endpoint {
    /// Binds. A port of loopback that is taken is replaced by a free one, unless operators are to find it there.
    pub(crate) async fn bind(options: &Options) -> std::io::Result<Endpoint> {
        let file = options.data_dir.join(PORT_FILE);
        let remembered = read_port(&file).map(|port| SocketAddr::new(options.executor_api.ip(), port));
        let wanted = remembered.unwrap_or(options.executor_api);
        let asked = options.mesos_api.as_ref().map(|api| api.address);
        let mut operators = None;
        if let Some(Some(address)) = asked {
            let listener = TcpListener::bind(address).await?;
            let port = listener.local_addr()?.port();
            let is_same = address.ip() == wanted.ip() || address.ip().is_unspecified();
            if is_same && (port == wanted.port() || (remembered.is_none() && address.ip() == wanted.ip())) {
                let ip = if address.ip().is_unspecified() {
                    IpAddr::V4(Ipv4Addr::LOCALHOST)
                } else {
                    address.ip()
                };
                remember(&file, port)?;
                return Ok(Endpoint {
                    executors: None,
                    operators: Some(listener),
                    address: SocketAddr::new(ip, port),
                });
            }
            operators = Some(listener);
        }
        let executors = bind_near(remembered, options.executor_api).await?;
        let address = executors.local_addr()?;
        remember(&file, address.port())?;
        Ok(match asked {
            // Beside the executors', wherever these are.
            Some(None) => Endpoint { executors: None, operators: Some(executors), address },
            _ => Endpoint { executors: Some(executors), operators, address },
        })
    }
}

/// The address by which operators are told to come: bound to every one, it is the machine's.
pub(crate) fn announced(at: SocketAddr, ips: &[String]) -> SocketAddr {
    let own = ips.iter().find_map(|ip| ip.parse::<IpAddr>().ok());
    match own.filter(|_| at.ip().is_unspecified()) {
        Some(ip) => SocketAddr::new(ip, at.port()),
        None => at,
    }
}

/// The remembered address, else the usual one, else any.
async fn bind_near(remembered: Option<SocketAddr>, usual: SocketAddr) -> std::io::Result<TcpListener> {
    let any = SocketAddr::new(usual.ip(), 0);
    for address in remembered.into_iter().chain([usual, any]) {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if Some(address) == remembered => {
                tracing::warn!(%address, %error, "the executor API must move: executors that run will not find it");
            }
            Err(error) => tracing::info!(%address, %error, "the executor API takes another port"),
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::AddrInUse))
}

fn remember(file: &Path, port: u16) -> std::io::Result<()> {
    if read_port(file) == Some(port) { Ok(()) } else { std::fs::write(file, port.to_string()) }
}

fn read_port(file: &Path) -> Option<u16> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok().filter(|p| *p > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::OperatorApi;
    use std::sync::Arc;
    use stoa_authz::Anonymous;

    fn door(address: Option<SocketAddr>) -> Option<OperatorApi> {
        Some(OperatorApi { address, anonymous: Anonymous::Refuse, credentials: vec![], acls: Arc::default() })
    }

    #[tokio::test]
    async fn a_taken_port_is_replaced_and_the_new_one_kept() {
        let dir = tempfile::tempdir().unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = Options::new("n", dir.path(), "c");
        options.executor_api = other.local_addr().unwrap();
        let first = Endpoint::bind(&options).await.unwrap();
        assert_ne!(first.address, options.executor_api);
        assert!(first.executors.is_some() && first.operators.is_none());
        let address = first.address;
        drop((other, first));
        let again = Endpoint::bind(&options).await.unwrap();
        assert_eq!(address, again.address);
    }

    #[tokio::test]
    async fn operators_come_where_they_are_told_or_where_executors_come() {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut options = Options::new("n", dir.path(), "c");
        options.executor_api = "127.0.0.1:0".parse().unwrap();
        options.mesos_api = door(None);
        let shared = Endpoint::bind(&options).await.unwrap();
        assert!(shared.executors.is_none());
        assert_eq!(shared.operators.unwrap().local_addr().unwrap(), shared.address);
        options.mesos_api = door(Some(free));
        let apart = Endpoint::bind(&options).await.unwrap();
        assert_eq!(apart.operators.unwrap().local_addr().unwrap(), free);
        assert_eq!(apart.address, shared.address, "executors that run find the API where it was");
        let taken = TcpListener::bind(free).await.unwrap();
        assert!(Endpoint::bind(&options).await.is_err(), "what was asked for is had or refused");
        drop(taken);
    }
}
