//! The files of `/etc` that the agent writes for a pod: `hosts`, `hostname`, `resolv.conf`. Pure.

use crate::pod;
use k8s_openapi::api::core::v1::Pod;

/// Longest host name that the kernel takes.
pub(crate) const KERNEL_HOSTNAME_LEN_MAX: usize = 64;
/// Longest name of a pod alone: a label of DNS.
const HOSTNAME_LEN_MAX: usize = 63;
/// What a resolver takes: more is cut, as a kubelet does.
const NAMESERVERS_MAX: usize = 3;

/// Where names are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterDns {
    /// Address of the cluster's DNS; empty when there is none.
    pub(crate) address: String,
    /// The cluster's domain.
    pub(crate) domain: String,
}

/// The pod's host name; on the machine's network it is the machine's.
pub(crate) fn hostname(pod: &Pod, machine: &str, dns: &ClusterDns) -> String {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.as_deref()).filter(|n| !n.is_empty()) {
        return name.to_owned();
    }
    if pod::is_host_network(pod) {
        return machine.to_owned();
    }
    if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true)
        && let Some(name) = fqdn(pod, dns)
    {
        return name;
    }
    short_name(pod)
}

fn short_name(pod: &Pod) -> String {
    let own = pod.spec.as_ref().and_then(|s| s.hostname.as_deref()).filter(|n| !n.is_empty());
    let name = own.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let cut: String = name.chars().take(HOSTNAME_LEN_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn fqdn(pod: &Pod, dns: &ClusterDns) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{}.{subdomain}.{namespace}.svc.{}", short_name(pod), dns.domain))
}

/// `/etc/hosts`. A pod on the node's network gets the node's own lines.
pub(crate) fn hosts(pod: &Pod, ips: &[String], node_hosts: &str, dns: &ClusterDns) -> String {
    let mut out = String::new();
    if pod::is_host_network(pod) {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(node_hosts);
    } else {
        out.push_str("# Kubernetes-managed hosts file.\n");
        out.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        out.push_str(
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let overridden = pod.spec.as_ref().and_then(|s| s.hostname_override.as_deref());
        let name = overridden.map_or_else(|| short_name(pod), str::to_owned);
        let full = if overridden.is_some() { None } else { fqdn(pod, dns) };
        for ip in ips {
            match &full {
                Some(full) => out.push_str(&format!("{ip}\t{full}\t{name}\n")),
                None => out.push_str(&format!("{ip}\t{name}\n")),
            }
        }
    }
    let aliases: Vec<_> = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten()).collect();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            out.push_str(&format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.as_deref().unwrap_or_default().join("\t")
            ));
        }
    }
    out
}

/// `/etc/resolv.conf`, from the pod's DNS policy and configuration and the node's own file.
pub(crate) fn resolv_conf(pod: &Pod, node_conf: &str, dns: &ClusterDns) -> String {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let in_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::is_host_network(pod),
        _ => false,
    };
    let node = Resolver::parse(node_conf);
    let mut conf = match policy {
        "None" => Resolver::default(),
        _ if in_cluster && !dns.address.is_empty() => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let d = &dns.domain;
            let mut search = vec![format!("{namespace}.svc.{d}"), format!("svc.{d}"), d.clone()];
            search.extend(node.search);
            Resolver { nameservers: vec![dns.address.clone()], search, options: vec!["ndots:5".to_owned()] }
        }
        _ => node,
    };
    if let Some(extra) = spec.and_then(|s| s.dns_config.as_ref()) {
        conf.nameservers.extend(extra.nameservers.iter().flatten().cloned());
        conf.search.extend(extra.searches.iter().flatten().cloned());
        for option in extra.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            conf.options.retain(|o| o != name && !o.starts_with(&format!("{name}:")));
            conf.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    conf.render()
}

#[derive(Default)]
struct Resolver {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut out = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => out.nameservers.extend(words.next()),
                Some("search") => out.search = words.collect(),
                Some("options") => out.options.extend(words),
                _ => {}
            }
        }
        out
    }

    fn render(mut self) -> String {
        let mut seen = Vec::new();
        self.search.retain(|s| {
            !seen.contains(s) && {
                seen.push(s.clone());
                true
            }
        });
        let mut seen = Vec::new();
        self.nameservers.retain(|s| {
            !seen.contains(s) && {
                seen.push(s.clone());
                true
            }
        });
        self.nameservers.truncate(NAMESERVERS_MAX);
        let mut out = String::new();
        if !self.search.is_empty() {
            out.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.nameservers {
            out.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    fn dns() -> ClusterDns {
        ClusterDns { address: "10.96.0.10".into(), domain: "cluster.local".into() }
    }

    #[test]
    fn names_are_resolved_by_the_pods_policy() {
        let node = "nameserver 1.1.1.1\nsearch lan\noptions edns0\n";
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n";
        for (spec, want) in [
            (json!({"containers": []}), cluster),
            (
                json!({"containers": [], "hostNetwork": true}),
                "search lan\nnameserver 1.1.1.1\noptions edns0\n",
            ),
            (json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["x"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "search x\nnameserver 9.9.9.9\noptions ndots:2 edns0\n",
            ),
        ] {
            assert_eq!(resolv_conf(&pod(spec.clone()), node, &dns()), want, "{spec}");
        }
        assert_eq!(
            resolv_conf(&pod(json!({"containers": []})), node, &ClusterDns::default()),
            "search lan\nnameserver 1.1.1.1\noptions edns0\n"
        );
    }

    #[test]
    fn a_pod_knows_its_own_names() {
        let p = pod(
            json!({"containers": [], "hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
            fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        let aliases = "\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n";
        let text = hosts(&p, &["10.0.0.2".to_owned()], "", &dns());
        assert_eq!(text, format!("{head}10.0.0.2\th.s.ns.svc.cluster.local\th\n{aliases}"));
        let p = pod(json!({"containers": [], "hostNetwork": true,
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        // The node's own lines as they are, also where the last has no end.
        let text = hosts(&p, &["192.0.2.1".to_owned()], "127.0.0.1 localhost", &dns());
        assert_eq!(
            text,
            format!("# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost{aliases}")
        );
        let p = pod(json!({"containers": [], "hostname": "h", "subdomain": "s"}));
        assert_eq!(hostname(&p, "node", &dns()), "h");
        let p = pod(
            json!({"containers": [], "hostname": "h", "subdomain": "s", "hostnameOverride": "o.example"}),
        );
        let text = hosts(&p, &["10.0.0.2".to_owned()], "", &dns());
        assert!(text.ends_with("\n10.0.0.2\to.example\n"), "{text}");
        assert_eq!(hostname(&p, "node", &dns()), "o.example");
        assert_eq!(hostname(&pod(json!({"containers": [], "hostNetwork": true})), "node", &dns()), "node");
    }
}
