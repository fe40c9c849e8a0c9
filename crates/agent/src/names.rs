//! The cluster's DNS zone, read off the services that this machine knows: `SERVICE.NAMESPACE.svc.DOMAIN`, ports and
//! endpoints below it, `A-B-C-D.NAMESPACE.pod.DOMAIN`, and names of services' addresses. By version 1.1.0 of the
//! Kubernetes DNS specification.

use crate::services::{Book, Known};
use crate::shared::Shared;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use stoa_dns::{Answer, Data, Kind, Zone};

/// The version of the specification, which the zone says under `dns-version`.
const VERSION: &str = "1.1.0";
/// What reverse names end with.
const REVERSE: &str = ".in-addr.arpa";

/// See the module.
pub(crate) struct Names(pub(crate) Arc<Shared>);

impl Zone for Names {
    fn look_up(&self, name: &str, kind: Kind) -> Answer {
        let domain = self.0.cluster.lock().dns.domain.clone();
        look_up(&self.0.services, &domain, name, kind)
    }
}

fn look_up(book: &Book, domain: &str, name: &str, kind: Kind) -> Answer {
    if let Some(address) = name.strip_suffix(REVERSE) {
        return reverse(book, domain, address, kind);
    }
    let Some(inner) = name.strip_suffix(domain) else { return Answer::Elsewhere };
    if inner.is_empty() {
        return Answer::Records(Vec::new());
    }
    // A name that only ends alike is not below the domain.
    let Some(inner) = inner.strip_suffix('.') else { return Answer::Elsewhere };
    let labels: Vec<&str> = inner.split('.').collect();
    match labels[..] {
        ["dns-version"] => only(kind, Kind::Txt, || vec![Data::Txt(VERSION.into())]),
        ["svc" | "pod"] => Answer::Records(Vec::new()),
        [namespace, "svc"] if book.has_namespace(namespace) => Answer::Records(Vec::new()),
        [address, _, "pod"] => match dashed(address) {
            Some(ip) => only(kind, Kind::A, || vec![Data::A(ip)]),
            None => Answer::NoName,
        },
        [.., service, namespace, "svc"] => match book.get(namespace, service) {
            Some(known) => of_service(&known, &labels[..labels.len() - 3], name, domain, kind),
            None => Answer::NoName,
        },
        _ => Answer::NoName,
    }
}

fn only(asked: Kind, has: Kind, records: impl FnOnce() -> Vec<Data>) -> Answer {
    Answer::Records(if asked == has { records() } else { Vec::new() })
}

/// `10-244-0-2`.
fn dashed(label: &str) -> Option<Ipv4Addr> {
    label.replace('-', ".").parse().ok()
}

/// One endpoint: its name below the service, and its address.
fn endpoints(known: &Known) -> impl Iterator<Item = (&Arc<EndpointSlice>, String, Ipv4Addr)> {
    known.slices.values().filter(|s| s.address_type == "IPv4").flat_map(|slice| {
        let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
            e.conditions.as_ref().and_then(|c| c.ready) != Some(false)
        };
        slice.endpoints.iter().flatten().filter(ready).filter_map(move |e| {
            let address = e.addresses.first()?;
            let name = e.hostname.clone().unwrap_or_else(|| address.replace('.', "-"));
            Some((slice, name, address.parse().ok()?))
        })
    })
}

fn of_service(known: &Known, below: &[&str], name: &str, domain: &str, kind: Kind) -> Answer {
    let Some(service) = &known.service else { return Answer::NoName };
    let Some(spec) = &service.spec else { return Answer::NoName };
    if spec.type_.as_deref() == Some("ExternalName") {
        return match (below, &spec.external_name) {
            ([], Some(target)) => Answer::Alias(target.trim_end_matches('.').to_owned()),
            _ => Answer::NoName,
        };
    }
    let whole = format!(
        "{}.{}.svc.{domain}",
        service.metadata.name.as_deref().unwrap_or_default(),
        service.metadata.namespace.as_deref().unwrap_or_default()
    );
    let own: Option<Ipv4Addr> = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
    let addresses = |wanted: Option<&str>| -> BTreeSet<Ipv4Addr> {
        endpoints(known).filter(|(_, n, _)| wanted.is_none_or(|w| w == n)).map(|(_, _, ip)| ip).collect()
    };
    let listed = |all: BTreeSet<Ipv4Addr>| all.into_iter().map(Data::A).collect();
    match below {
        [] if kind == Kind::Srv => Answer::Records(ports(known, own, &whole, None)),
        [] => match own {
            Some(ip) => only(kind, Kind::A, || vec![Data::A(ip)]),
            None => match addresses(None) {
                // A headless service without endpoints has no name to resolve.
                none if none.is_empty() => Answer::NoName,
                all => only(kind, Kind::A, || listed(all)),
            },
        },
        [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
            let found = ports(known, own, &whole, Some((&port[1..], &protocol[1..])));
            if found.is_empty() { Answer::NoName } else { only(kind, Kind::Srv, || found) }
        }
        [endpoint] if !name.is_empty() => match addresses(Some(endpoint)) {
            none if none.is_empty() => Answer::NoName,
            all => only(kind, Kind::A, || listed(all)),
        },
        _ => Answer::NoName,
    }
}

/// Where a service's named ports are: at its address, or, headless, at each endpoint.
fn ports(known: &Known, own: Option<Ipv4Addr>, whole: &str, wanted: Option<(&str, &str)>) -> Vec<Data> {
    let is_wanted = |name: Option<&str>, protocol: Option<&str>| {
        let name = name.filter(|n| !n.is_empty());
        let protocol = protocol.unwrap_or("TCP");
        match wanted {
            Some((n, p)) => name == Some(n) && protocol.eq_ignore_ascii_case(p),
            None => name.is_some(),
        }
    };
    let number = |n: i32| u16::try_from(n).ok();
    if own.is_some() {
        let spec = known.service.as_ref().and_then(|s| s.spec.as_ref());
        let ports = spec.into_iter().flat_map(|s| s.ports.iter().flatten());
        return ports
            .filter(|p| is_wanted(p.name.as_deref(), p.protocol.as_deref()))
            .filter_map(|p| Some(Data::Srv { port: number(p.port)?, target: whole.to_owned() }))
            .collect();
    }
    endpoints(known)
        .flat_map(|(slice, name, _)| {
            let ports = slice.ports.iter().flatten();
            let ports = ports.filter(|p| is_wanted(p.name.as_deref(), p.protocol.as_deref()));
            let target = format!("{name}.{whole}");
            ports.filter_map(move |p| Some(Data::Srv { port: number(p.port?)?, target: target.clone() }))
        })
        .collect()
}

fn reverse(book: &Book, domain: &str, address: &str, kind: Kind) -> Answer {
    let mut octets: Vec<&str> = address.split('.').collect();
    octets.reverse();
    let Ok(ip) = octets.join(".").parse::<Ipv4Addr>() else { return Answer::Elsewhere };
    let names = match book.at(ip) {
        Some((namespace, service)) => vec![format!("{service}.{namespace}")],
        None => book.called(ip),
    };
    if names.is_empty() {
        return Answer::Elsewhere;
    }
    only(kind, Kind::Ptr, || names.iter().map(|n| Data::Ptr(format!("{n}.svc.{domain}"))).collect())
}

#[cfg(test)]
mod tests;
