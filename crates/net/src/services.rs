//! Services on this machine: addresses that stand for a set of pods, node ports, and the refusal of what has no pod
//! behind it. One nftables table of its own: verdict maps from address and port to a chain a service port, so that a
//! packet costs one look-up however many services there are, and a change touches the chains of what changed only.

use crate::conntrack::Fronts;
use crate::network::Protocol;
use crate::rules::on_link;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// What is masqueraded because it came from outside; the bit that is customary for it.
const MARK: u32 = 0x4000;

/// An address and a port that something listens on.
pub type Backend = (Ipv4Addr, u16);

/// One port of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
    /// The addresses that pods and this machine reach it by.
    pub addresses: Vec<Ipv4Addr>,
    /// The addresses that everybody reaches it by.
    pub external: Vec<Ipv4Addr>,
    /// The port of this machine that leads to it.
    pub node_port: Option<u16>,
    /// For how many seconds a client keeps its backend.
    pub sticky_seconds: Option<u32>,
    /// Who answers what comes from inside.
    pub inside: Vec<Backend>,
    /// Who answers what comes from outside.
    pub outside: Vec<Backend>,
    /// Whether a backend sees the client's own address when it comes from outside; then all of `outside` is on this machine.
    pub keeps_source: bool,
}

/// Service ports by name: `namespace/service/port`, or whatever else tells them apart in letters, digits and `-./`.
pub type Services = BTreeMap<String, Service>;

/// What a service port is made of in the table. Elements go into a map and name a chain.
#[derive(Default, PartialEq)]
struct Parts {
    sets: BTreeMap<String, u32>,
    chains: BTreeMap<String, Vec<Vec<Value>>>,
    elements: Vec<(&'static str, Value, Value)>,
}

/// The table's name.
pub(crate) fn table(id: &str) -> String {
    format!("stoa-{id}-services")
}

/// The table as far as is known: what an earlier process left in it is not, nor what a transaction that failed did.
#[derive(Default)]
pub(crate) struct Held {
    table: Table,
    is_certain: bool,
    /// What takes back the last plan, which nobody has confirmed yet.
    unconfirmed: Option<Undo>,
}

/// How a table becomes again what it was.
enum Undo {
    Whole(Table),
    /// These, of which those there were are these.
    Part(Vec<String>, Services),
}

impl Held {
    /// The transaction that leads to what is wanted, if it takes one, and the fronts whose flows may lead elsewhere then. It
    /// counts as done once it is confirmed; else the next plan makes the whole table anew, as nothing would heal a difference
    /// that nobody knows of, and looks after what stood before too.
    pub(crate) fn plan(&mut self, id: &str, bridge: &str, wanted: &Services) -> (Option<Value>, Fronts) {
        if let Some(undo) = self.unconfirmed.take() {
            self.is_certain = false;
            match undo {
                Undo::Whole(table) => self.table = table,
                Undo::Part(names, services) => drop(self.table.take_in(&names, &services)),
            }
        }
        let before = &self.table.services;
        if self.is_certain {
            let fronts = Fronts::of_services(before, wanted);
            let (transaction, undo) = self.table.update(id, wanted);
            self.unconfirmed = Some(undo);
            return (transaction, fronts);
        }
        let mut fronts = Fronts::of_services(before, &Services::new());
        fronts.extend(Fronts::of_services(&Services::new(), wanted));
        let (made, transaction) = Table::create(id, bridge, wanted);
        self.unconfirmed = Some(Undo::Whole(std::mem::replace(&mut self.table, made)));
        (Some(transaction), fronts)
    }

    /// The kernel has done what was planned.
    pub(crate) fn confirm(&mut self) {
        (self.unconfirmed, self.is_certain) = (None, true);
    }
}

/// What the table holds, and how to bring it from there to what is wanted.
#[derive(Default)]
struct Table {
    services: Services,
    /// How many service ports a pod of this machine stands behind.
    hairpin: HashMap<Ipv4Addr, usize>,
}

impl Table {
    /// The transaction that makes the table from nothing.
    fn create(id: &str, bridge: &str, wanted: &Services) -> (Table, Value) {
        let mut out = base(id, bridge);
        let mut made = Table::default();
        made.change(id, wanted, &mut out);
        (made, json!({ "nftables": out }))
    }

    /// The transaction for what changed; none if nothing did.
    fn update(&mut self, id: &str, wanted: &Services) -> (Option<Value>, Undo) {
        let mut out = Vec::new();
        let undo = self.change(id, wanted, &mut out);
        ((!out.is_empty()).then(|| json!({ "nftables": out })), undo)
    }

    fn change(&mut self, id: &str, wanted: &Services, out: &mut Vec<Value>) -> Undo {
        let t = table(id);
        let names: BTreeSet<&String> = self.services.keys().chain(wanted.keys()).collect();
        let changed: Vec<String> =
            names.into_iter().filter(|n| self.services.get(*n) != wanted.get(*n)).cloned().collect();
        let pairs: Vec<(Parts, Parts)> = changed
            .iter()
            .map(|n| {
                let of = |s: Option<&Service>| s.map(|s| parts(n, s)).unwrap_or_default();
                (of(self.services.get(n)), of(wanted.get(n)))
            })
            .collect();
        // What names a chain goes first, the chain then, what the chain names last; and the other way round.
        for (old, new) in &pairs {
            for (map, key, _) in old.elements.iter().filter(|e| !new.elements.contains(e)) {
                out.push(
                    json!({"delete": {"element": {"family": "ip", "table": t, "name": map, "elem": [key]}}}),
                );
            }
        }
        for (old, new) in &pairs {
            for name in old.chains.keys().filter(|c| new.chains.get(*c) != old.chains.get(*c)) {
                out.push(json!({"flush": {"chain": {"family": "ip", "table": t, "name": name}}}));
            }
            for name in old.chains.keys().filter(|c| !new.chains.contains_key(*c)) {
                out.push(json!({"delete": {"chain": {"family": "ip", "table": t, "name": name}}}));
            }
            for name in old.sets.keys().filter(|s| !new.sets.contains_key(*s)) {
                out.push(json!({"delete": {"set": {"family": "ip", "table": t, "name": name}}}));
            }
        }
        for (old, new) in &pairs {
            for (name, seconds) in new.sets.iter().filter(|(s, _)| !old.sets.contains_key(*s)) {
                out.push(
                    json!({"add": {"set": {"family": "ip", "table": t, "name": name, "type": "ipv4_addr",
                    "flags": ["timeout"], "timeout": seconds}}}),
                );
            }
            let refilled: Vec<_> =
                new.chains.iter().filter(|(c, r)| old.chains.get(*c) != Some(*r)).collect();
            for (name, _) in refilled.iter().filter(|(c, _)| !old.chains.contains_key(*c)) {
                out.push(json!({"add": {"chain": {"family": "ip", "table": t, "name": name}}}));
            }
            for (name, rules) in refilled {
                for expr in rules {
                    out.push(
                        json!({"add": {"rule": {"family": "ip", "table": t, "chain": name, "expr": expr}}}),
                    );
                }
            }
        }
        for (old, new) in &pairs {
            for (map, key, target) in new.elements.iter().filter(|e| !old.elements.contains(e)) {
                let elem = json!([[key, {"goto": {"target": target}}]]);
                out.push(
                    json!({"add": {"element": {"family": "ip", "table": t, "name": map, "elem": elem}}}),
                );
            }
        }
        let before =
            changed.iter().filter_map(|n| Some((n.clone(), self.services.get(n)?.clone()))).collect();
        for (verb, ip) in self.take_in(&changed, wanted) {
            let elem = json!([{"concat": [ip, ip]}]);
            out.push(
                json!({verb: {"element": {"family": "ip", "table": t, "name": "hairpin", "elem": elem}}}),
            );
        }
        Undo::Part(changed, before)
    }

    /// Remembers what was wanted; returns which addresses came to stand behind services and which no longer do.
    fn take_in(&mut self, changed: &[String], wanted: &Services) -> Vec<(&'static str, Ipv4Addr)> {
        let both = changed.iter().flat_map(|n| self.services.get(n).into_iter().chain(wanted.get(n)));
        let touched: BTreeMap<Ipv4Addr, bool> =
            both.flat_map(backends).map(|ip| (ip, self.hairpin.contains_key(&ip))).collect();
        for name in changed {
            for ip in self.services.remove(name).iter().flat_map(backends) {
                match self.hairpin.get_mut(&ip) {
                    Some(n) if *n > 1 => *n -= 1,
                    _ => drop(self.hairpin.remove(&ip)),
                }
            }
            if let Some(new) = wanted.get(name) {
                for ip in backends(new) {
                    *self.hairpin.entry(ip).or_default() += 1;
                }
                self.services.insert(name.clone(), new.clone());
            }
        }
        let now = |ip: &Ipv4Addr| self.hairpin.contains_key(ip);
        let verb = |(ip, had): (Ipv4Addr, bool)| match (had, now(&ip)) {
            (false, true) => Some(("add", ip)),
            (true, false) => Some(("delete", ip)),
            _ => None,
        };
        touched.into_iter().filter_map(verb).collect()
    }
}

/// The addresses behind a service port that may come to reach themselves through it, each once.
fn backends(service: &Service) -> BTreeSet<Ipv4Addr> {
    let all = service.inside.iter().chain(&service.outside).map(|(ip, _)| *ip);
    all.filter(|ip| !ip.is_loopback()).collect()
}

/// The table before any service is in it.
fn base(id: &str, bridge: &str) -> Vec<Value> {
    let t = table(id);
    let chain = |name: &str| json!({"add": {"chain": {"family": "ip", "table": t, "name": name}}});
    let hook = |name: &str, kind: &str, hook: &str, prio: i32| json!({"add": {"chain": {"family": "ip", "table": t, "name": name, "type": kind, "hook": hook, "prio": prio, "policy": "accept"}}});
    let rule = |chain: &str, expr: Vec<Value>| json!({"add": {"rule": {"family": "ip", "table": t, "chain": chain, "expr": expr}}});
    let map = |name: &str, key: &[&str]| json!({"add": {"map": {"family": "ip", "table": t, "name": name, "type": key, "map": "verdict"}}});
    let by_address =
        json!({"concat": [field("ip", "daddr"), {"meta": {"key": "l4proto"}}, field("th", "dport")]});
    let by_port = json!({"concat": [{"meta": {"key": "l4proto"}}, field("th", "dport")]});
    let look_up = |key: &Value, map: &str| json!({"vmap": {"key": key, "data": format!("@{map}")}});
    let local = json!({"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}});
    let jump = |chain: &str| json!({"jump": {"target": chain}});
    let not_loopback = json!({"match": {"op": "!=", "left": field("ip", "daddr"),
        "right": {"prefix": {"addr": "127.0.0.0", "len": 8}}}});
    const ADDRESS: [&str; 3] = ["ipv4_addr", "inet_proto", "inet_service"];
    vec![
        json!({"add": {"table": {"family": "ip", "name": t}}}),
        json!({"delete": {"table": {"family": "ip", "name": t}}}),
        json!({"add": {"table": {"family": "ip", "name": t}}}),
        map("inside", &ADDRESS),
        map("outside", &ADDRESS),
        map("ports", &ADDRESS[1..]),
        map("refused", &ADDRESS),
        json!({"add": {"set": {"family": "ip", "table": t, "name": "hairpin", "type": ["ipv4_addr", "ipv4_addr"]}}}),
        // Before the table of host ports: what a service owns is the service's.
        hook("prerouting", "nat", "prerouting", -101),
        hook("output", "nat", "output", -101),
        hook("postrouting", "nat", "postrouting", 99),
        hook("forward", "filter", "forward", -110),
        hook("refuse_output", "filter", "output", -110),
        chain("everywhere"),
        chain("refuse"),
        rule("everywhere", vec![look_up(&by_address, "outside")]),
        rule("everywhere", vec![local, not_loopback, look_up(&by_port, "ports")]),
        // Another cluster on this machine has the same service addresses: its pods are behind another bridge.
        rule("prerouting", vec![on_link("iifname", bridge, "=="), look_up(&by_address, "inside")]),
        rule("prerouting", vec![jump("everywhere")]),
        rule("output", vec![look_up(&by_address, "inside")]),
        rule("output", vec![jump("everywhere")]),
        rule("refuse", vec![json!({"reject": null})]),
        rule("forward", vec![on_link("iifname", bridge, "=="), look_up(&by_address, "refused")]),
        rule("refuse_output", vec![look_up(&by_address, "refused")]),
        // A pod that reaches itself through a service: it would not take a packet from its own address.
        // Only what came here for a service: anything else that an address says to itself stays as it is.
        rule(
            "postrouting",
            vec![
                json!({"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}),
                json!({"match": {"op": "==", "left": {"concat": [field("ip", "saddr"), field("ip", "daddr")]}, "right": "@hairpin"}}),
                json!({"masquerade": null}),
            ],
        ),
        rule(
            "postrouting",
            vec![
                json!({"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, MARK]}, "right": MARK}}),
                json!({"masquerade": null}),
            ],
        ),
    ]
}

fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn parts(name: &str, s: &Service) -> Parts {
    let protocol = s.protocol.name();
    let mut out = Parts::default();
    let address = |ip: &Ipv4Addr| json!({"concat": [ip, protocol, s.port]});
    if s.inside.is_empty() {
        out.elements.extend(s.addresses.iter().map(|ip| ("refused", address(ip), json!("refuse"))));
    } else {
        let chain = format!("in/{name}");
        out.elements.extend(s.addresses.iter().map(|ip| ("inside", address(ip), json!(chain))));
        balance(&mut out, chain, name, s, &s.inside);
    }
    if s.external.is_empty() && s.node_port.is_none() {
        return out;
    }
    if s.outside.is_empty() {
        out.elements.extend(s.external.iter().map(|ip| ("refused", address(ip), json!("refuse"))));
        return out;
    }
    let entry = format!("out/{name}");
    out.elements.extend(s.external.iter().map(|ip| ("outside", address(ip), json!(entry))));
    if let Some(port) = s.node_port {
        out.elements.push(("ports", json!({"concat": [protocol, port]}), json!(entry)));
    }
    let mut rules = Vec::new();
    if !s.keeps_source {
        // The answer must come back through this machine.
        let marked = json!({"|": [{"meta": {"key": "mark"}}, MARK]});
        rules.push(vec![json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": marked}})]);
    }
    let shared = s.outside == s.inside;
    let target = if shared { format!("in/{name}") } else { format!("far/{name}") };
    rules.push(vec![json!({"goto": {"target": target}})]);
    out.chains.insert(entry, rules);
    if !shared {
        balance(&mut out, target, name, s, &s.outside);
    }
    out
}

fn is_protocol(s: &Service) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": s.protocol.name()}})
}

/// Fills a chain that picks a backend.
fn balance(out: &mut Parts, chain: String, name: &str, s: &Service, backends: &[Backend]) {
    let by_lot = json!({"numgen": {"mode": "random", "mod": backends.len(), "offset": 0}});
    let Some(seconds) = s.sticky_seconds else {
        let lots: Vec<Value> =
            backends.iter().enumerate().map(|(i, (ip, port))| json!([i, {"concat": [ip, port]}])).collect();
        let to = json!({"map": {"key": by_lot, "data": {"set": lots}}});
        let dnat = json!({"dnat": {"family": "ip", "addr": to, "type_flags": "concat"}});
        out.chains.insert(chain, vec![vec![is_protocol(s), dnat]]);
        return;
    };
    let client = field("ip", "saddr");
    let mut rules = Vec::new();
    let mut lots = Vec::new();
    for (i, (ip, port)) in backends.iter().enumerate() {
        // A set cannot change for how long it remembers: another time is another set.
        let (one, set) = (format!("to/{name}/{ip}/{port}"), format!("for/{name}/{ip}/{port}/{seconds}"));
        rules.push(vec![
            json!({"match": {"op": "==", "left": client, "right": format!("@{set}")}}),
            json!({"goto": {"target": one}}),
        ]);
        lots.push(json!([i, {"goto": {"target": one}}]));
        let remember = json!({"set": {"op": "update", "elem": client, "set": format!("@{set}")}});
        let dnat = json!({"dnat": {"addr": ip, "port": port}});
        out.chains.insert(one, vec![vec![is_protocol(s), remember, dnat]]);
        out.sets.insert(set, seconds);
    }
    rules.push(vec![json!({"vmap": {"key": by_lot, "data": {"set": lots}}})]);
    out.chains.insert(chain, rules);
}

#[cfg(test)]
mod tests;
