//! Which pod has which address: one small file a pod, so that a crash between two steps loses nothing and nothing is
//! written twice. After a reboot the namespaces are gone and so, therefore, are the leases.

use crate::Error;
use crate::error::file;
use crate::network::PodNet;
use ipnet::Ipv4Net;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The leases of one machine.
pub(crate) struct Leases {
    dir: PathBuf,
    cidr: Ipv4Net,
    by_pod: HashMap<String, PodNet>,
    taken: BTreeSet<u32>,
    /// Where the search for a free address goes on: an address just freed is not given out again at once, since others
    /// may still have it in their caches.
    next: u32,
}

impl Leases {
    /// Reads the leases of `dir`; `is_alive` says whether a lease's namespace still exists.
    pub(crate) fn load(
        dir: &Path,
        cidr: Ipv4Net,
        is_alive: impl Fn(&PodNet) -> bool,
    ) -> Result<Leases, Error> {
        if cidr.prefix_len() > 30 {
            return Err(Error::TooSmall(cidr));
        }
        fs::create_dir_all(dir).map_err(file("create", dir))?;
        let first = u32::from(cidr.network()) + 2;
        let mut leases = Leases {
            dir: dir.to_path_buf(),
            cidr,
            by_pod: HashMap::new(),
            taken: BTreeSet::new(),
            next: first,
        };
        for entry in fs::read_dir(dir).map_err(file("read", dir))?.flatten() {
            let path = entry.path();
            let pod = entry.file_name().to_string_lossy().into_owned();
            let net = fs::read(&path).ok().and_then(|t| serde_json::from_slice::<PodNet>(&t).ok());
            match net.filter(|n| cidr.contains(&n.ip) && is_alive(n)) {
                Some(net) => {
                    leases.taken.insert(u32::from(net.ip));
                    leases.by_pod.insert(pod, net);
                }
                None => fs::remove_file(&path).map_err(file("remove", &path))?,
            }
        }
        leases.next = leases.taken.last().map_or(first, |l| l + 1);
        Ok(leases)
    }

    pub(crate) fn get(&self, pod: &str) -> Option<&PodNet> {
        self.by_pod.get(pod)
    }

    pub(crate) fn all(&self) -> Vec<(String, PodNet)> {
        self.by_pod.iter().map(|(p, n)| (p.clone(), n.clone())).collect()
    }

    /// The next free address: neither the network's own, the gateway's, nor the broadcast address.
    pub(crate) fn reserve(&mut self) -> Result<Ipv4Addr, Error> {
        let (first, last) = (u32::from(self.cidr.network()) + 2, u32::from(self.cidr.broadcast()) - 1);
        let start = if (first..=last).contains(&self.next) { self.next } else { first };
        let found = (start..=last).chain(first..start).find(|a| !self.taken.contains(a));
        let address = found.ok_or(Error::Exhausted(self.cidr))?;
        self.taken.insert(address);
        self.next = address.wrapping_add(1);
        Ok(Ipv4Addr::from(address))
    }

    /// Records what was reserved.
    pub(crate) fn record(&mut self, pod: &str, net: &PodNet) -> Result<(), Error> {
        let path = self.dir.join(pod);
        let text = serde_json::to_vec(net).map_err(|e| file("write", &path)(e.into()))?;
        let tmp = self.dir.join(format!(".{pod}"));
        fs::write(&tmp, text).map_err(file("write", &tmp))?;
        fs::rename(&tmp, &path).map_err(file("write", &path))?;
        self.by_pod.insert(pod.to_string(), net.clone());
        Ok(())
    }

    /// Gives back an address that was reserved and never recorded.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }

    /// Forgets a pod's lease.
    pub(crate) fn forget(&mut self, pod: &str) -> Result<(), Error> {
        if let Some(net) = self.by_pod.remove(pod) {
            self.taken.remove(&u32::from(net.ip));
        }
        let path = self.dir.join(pod);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file("remove", &path)(e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(ip: Ipv4Addr) -> PodNet {
        PodNet { netns: "/x".into(), ip, gateway: ip, mac: [0; 6], mtu: 1500 }
    }

    #[test]
    fn addresses_are_unique_come_back_late_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let cidr: Ipv4Net = "10.1.0.0/29".parse().unwrap();
        let mut leases = Leases::load(dir.path(), cidr, |_| true).unwrap();
        let mut got = Vec::new();
        for i in 2..=6u8 {
            let ip = leases.reserve().unwrap();
            assert_eq!(ip, Ipv4Addr::new(10, 1, 0, i));
            leases.record(&format!("p{i}"), &net(ip)).unwrap();
            got.push(ip);
        }
        assert!(matches!(leases.reserve(), Err(Error::Exhausted(_))));
        leases.forget("p3").unwrap();
        leases.forget("p5").unwrap();
        assert_eq!(leases.reserve().unwrap(), got[1], "the search wraps around");
        let mut again = Leases::load(dir.path(), cidr, |n| n.ip != got[0]).unwrap();
        assert_eq!(again.all().len(), 2, "the lease of a dead namespace is dropped");
        let fresh = again.reserve().unwrap();
        assert!(![got[2], got[4]].contains(&fresh), "an address in use is not given out again");
    }
}
