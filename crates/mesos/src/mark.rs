//! What sets a resource apart from the plain ones: for whom it is reserved, which volume it is, whether it is shared or may
//! be taken back. Resources that bear the same mark add up; the mark's [`name`](Mark::name) is the name of their pool.

use crate::framework::Opaque;
use crate::json::{Double, Empty, Int, to_ascii};
use crate::resource::{self, AllocationInfo, Error, Reservation, Resource, Scalar};
use serde_json::json;
use std::sync::Arc;
use stoa_units::Resources;

message! {
    /// A mark. The plain one is empty.
    #[derive(Default)]
    pub struct Mark {
        optional {
            /// The stack of reservations, the newest last.
            reservations: Vec<Reservation>,
            /// The volume.
            disk: Option<Opaque>,
            /// Present if several may use it at once.
            shared: Option<Empty>,
            /// Present if it may be taken back.
            revocable: Option<Empty>,
        }
    }
}

impl Mark {
    /// The mark of a resource, in the format before or after refinement.
    pub fn of(resource: &Resource) -> Result<Mark, Error> {
        let refuse = |what| Err(Error::NotOffered { name: resource.name.clone(), what });
        if resource.provider_id.is_some() {
            return refuse("of a resource provider");
        }
        let mut reservations = resource.reservations.clone();
        let old_role = resource.role.as_deref().filter(|r| *r != "*");
        if let (true, Some(role)) = (reservations.is_empty(), old_role) {
            let one = match &resource.reservation {
                Some(dynamic) => {
                    Reservation { kind: Some("DYNAMIC".into()), role: Some(role.into()), ..dynamic.clone() }
                }
                None => Reservation {
                    kind: Some("STATIC".into()),
                    role: Some(role.into()),
                    principal: None,
                    labels: None,
                },
            };
            reservations.push(one);
        }
        if reservations.is_empty() && resource.reservation.is_some() {
            return refuse("reserved for no role");
        }
        if reservations.iter().any(|r| r.role.as_deref().is_none_or(|r| r == "*" || r.is_empty())) {
            return refuse("reserved for no role");
        }
        let disk = resource.disk.clone().filter(|d| d.as_object().is_some_and(|d| !d.is_empty()));
        if let Some(disk) = &disk {
            if resource.name != "disk" {
                return refuse("a volume but no disk");
            }
            if disk.get("source").is_some() {
                return refuse("of a separate disk");
            }
            if disk["persistence"]["id"].as_str().is_none() {
                return refuse("a volume without persistence");
            }
        }
        Ok(Mark { reservations, disk, shared: resource.shared, revocable: resource.revocable })
    }

    /// Whether there is no mark.
    pub fn is_plain(&self) -> bool {
        *self == Mark::default()
    }

    /// For whom it is reserved; `*` if for nobody.
    pub fn role(&self) -> &str {
        self.reservations.last().and_then(|r| r.role.as_deref()).unwrap_or("*")
    }

    /// The volume's id, if it is one.
    pub fn volume(&self) -> Option<&str> {
        self.disk.as_ref()?["persistence"]["id"].as_str()
    }

    /// Where the volume is seen in the container.
    pub fn container_path(&self) -> Option<&str> {
        self.disk.as_ref()?["volume"]["container_path"].as_str()
    }

    /// The mark of what an agent lends and may take back.
    pub fn lent() -> Mark {
        Mark { revocable: Some(Empty {}), ..Mark::default() }
    }

    /// Whether it is drawn beside what a task takes of its agent: a volume's space is the volume's, and what is lent is not
    /// the agent's.
    pub fn is_beside(&self) -> bool {
        self.volume().is_some() || self.revocable.is_some()
    }

    /// The newest reservation, if it can be undone.
    pub fn dynamic(&self) -> Option<&Reservation> {
        self.reservations.last().filter(|r| r.kind.as_deref() != Some("STATIC"))
    }

    /// The pool's name. How a volume is mounted does not matter to what it is.
    pub fn name(&self) -> Arc<str> {
        let mut bare = self.clone();
        bare.disk = self.volume().map(|id| json!({"persistence": {"id": id}}));
        String::from_utf8(to_ascii(&bare)).unwrap_or_default().into()
    }

    /// The mark that a pool's name spells.
    pub fn parse(name: &str) -> Option<Mark> {
        serde_json::from_str(name).ok()
    }

    /// The mark without its volume.
    #[must_use]
    pub fn without_volume(&self) -> Mark {
        Mark { disk: None, shared: None, ..self.clone() }
    }

    /// The mark without its newest reservation.
    #[must_use]
    pub fn without_reservation(&self) -> Mark {
        let mut out = self.clone();
        out.reservations.pop();
        out
    }

    /// An amount under this mark. `Refined` frameworks read the stack; others the older fields, where one layer is all there
    /// can be.
    pub fn list(&self, amount: &Resources, allocated_to: Option<&str>, format: Format) -> Vec<Resource> {
        let mut out = resource::list(amount, allocated_to);
        for r in &mut out {
            r.disk = self.disk.clone();
            r.shared = self.shared;
            r.revocable = self.revocable;
            if format != Format::Refined {
                r.role = Some(self.role().into());
                r.reservation = self.dynamic().map(|d| Reservation { kind: None, role: None, ..d.clone() });
            } else {
                r.role = None;
            }
            if format != Format::Old {
                r.reservations = self.reservations.clone();
            }
        }
        out
    }
}

/// How reservations are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `role` and `reservation`.
    Old,
    /// `reservations`.
    Refined,
    /// Both, for operators.
    Both,
}

/// A list sorted by marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sorted {
    /// What bears no mark.
    pub plain: Resources,
    /// The rest, each mark once.
    pub marked: Vec<(Mark, Resources)>,
    /// The role that the list says it is allocated to, if it says so.
    pub allocated_to: Option<String>,
}

impl Sorted {
    /// All of it.
    pub fn total(&self) -> Resources {
        self.marked.iter().fold(self.plain.clone(), |sum, (_, r)| sum.plus(r))
    }
}

/// Checks a list and adds it up by marks.
pub fn sort(list: &[Resource]) -> Result<Sorted, Error> {
    let mut groups: Vec<(Mark, Arc<str>, Vec<Resource>)> = Vec::new();
    for r in list {
        let mark = Mark::of(r)?;
        let name = mark.name();
        let bare = bare(r);
        match groups.iter_mut().find(|(_, n, _)| *n == name) {
            Some((_, _, all)) => all.push(bare),
            None => groups.push((mark, name, vec![bare])),
        }
    }
    let mut out = Sorted::default();
    for (mark, _, all) in groups {
        let amount = resource::amount(&all)?;
        match (&out.allocated_to, amount.allocated_to) {
            (Some(have), Some(role)) if *have != role => return Err(Error::Roles(have.clone(), role)),
            (None, role) => out.allocated_to = role,
            _ => {}
        }
        match (mark.is_plain(), amount.resources.is_empty()) {
            (true, _) => out.plain = amount.resources,
            (false, false) => out.marked.push((mark, amount.resources)),
            (false, true) => {}
        }
    }
    Ok(out)
}

fn bare(r: &Resource) -> Resource {
    Resource {
        role: None,
        reservation: None,
        reservations: vec![],
        disk: None,
        revocable: None,
        shared: None,
        provider_id: None,
        ..r.clone()
    }
}

/// A scalar of a name, for messages that carry a bare number of MiB.
pub fn disk_of(value: &Scalar) -> Result<Resources, Error> {
    let one = Resource { scalar: Some(value.clone()), ..Resource::scalar("disk", 0) };
    resource::amount(&[one]).map(|a| a.resources)
}

/// Reads the text form that agents are started with: `cpus(web):2;mem:1024;ports:[31000-32000]`. JSON is read too.
pub fn parse_text(text: &str) -> Result<Vec<Resource>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|e| format!("not a list of resources: {e}"));
    }
    let parts = text.split(';').map(str::trim).filter(|p| !p.is_empty());
    parts
        .map(|part| {
            let (left, value) =
                part.split_once(':').ok_or_else(|| format!("resource {part:?} has no value"))?;
            let (name, role) = match left.trim().split_once('(') {
                Some((name, role)) => (name, role.strip_suffix(')').ok_or(format!("resource {left:?}"))?),
                None => (left.trim(), "*"),
            };
            crate::framework::check_role(role)?;
            let mut r = match value.trim().strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
                Some(ranges) => parse_ranges(name, ranges)?,
                None => {
                    let n: f64 =
                        value.trim().parse().map_err(|_| format!("resource {part:?} is no number"))?;
                    Resource { scalar: Some(Scalar { value: Double(n) }), ..Resource::scalar(name, 0) }
                }
            };
            r.role = Some(role.into());
            Ok(r)
        })
        .collect()
}

fn parse_ranges(name: &str, text: &str) -> Result<Resource, String> {
    let bad = || format!("resource {name} has bad ranges [{text}]");
    let range = text
        .split(',')
        .map(|r| {
            let (begin, end) = r.trim().split_once('-').ok_or_else(bad)?;
            let number = |t: &str| t.trim().parse().map(Int).map_err(|_| bad());
            Ok(resource::Range { begin: number(begin)?, end: number(end)? })
        })
        .collect::<Result<Vec<_>, String>>()?;
    let empty = Resource::ports(&stoa_units::PortSet::EMPTY);
    Ok(Resource { name: name.into(), ranges: Some(resource::Ranges { range }), ..empty })
}

/// An allocation to a role.
pub fn allocation(role: &str) -> AllocationInfo {
    AllocationInfo { role: Some(role.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Resource {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn both_formats_of_a_reservation_are_one_mark() {
        let old = read(
            r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"web","reservation":{"principal":"p"}}"#,
        );
        let new = read(
            r#"{"name":"mem","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"web","principal":"p"}]}"#,
        );
        assert_eq!(Mark::of(&old).unwrap(), Mark::of(&new).unwrap());
        let sorted = sort(&[old, new]).unwrap();
        assert_eq!(sorted.marked.len(), 1);
        assert_eq!((sorted.marked[0].1.milli_cpu, sorted.marked[0].1.memory_bytes), (1000, 1 << 20));
        let name = sorted.marked[0].0.name();
        assert_eq!(Mark::parse(&name).unwrap().name(), name);
    }

    #[test]
    fn a_mark_is_written_as_it_was_read() {
        let text = r#"{"name":"disk","type":"SCALAR","scalar":{"value":64.0},"role":"web","reservation":{"principal":"p"},"disk":{"persistence":{"id":"v1","principal":"p"},"volume":{"container_path":"data","mode":"RW"}}}"#;
        let sorted = sort(&[read(text)]).unwrap();
        let (mark, amount) = &sorted.marked[0];
        assert_eq!((mark.role(), mark.volume(), mark.container_path()), ("web", Some("v1"), Some("data")));
        assert_eq!(serde_json::to_string(&mark.list(amount, None, Format::Old)[0]).unwrap(), text);
        let elsewhere = Mark { disk: Some(json!({"persistence": {"id": "v1"}})), ..mark.clone() };
        assert_eq!(elsewhere.name(), mark.name(), "where it is mounted does not matter");
    }

    #[test]
    fn marks_of_what_no_agent_has_are_refused() {
        for bad in [
            r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservation":{"principal":"p"}}"#,
            r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"w","disk":{"persistence":{"id":"x"}}}"#,
            r#"{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"MOUNT"}}}"#,
            r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC"}]}"#,
        ] {
            assert!(Mark::of(&read(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_agents_text_form_is_read() {
        let list = parse_text("cpus(web):2; cpus:4;ports(*):[31000-31009,32000-32001]").unwrap();
        let sorted = sort(&list).unwrap();
        assert_eq!(sorted.plain.milli_cpu, 4000);
        assert_eq!(sorted.plain.ports.to_string(), "[31000-31009, 32000-32001]");
        assert_eq!((sorted.marked[0].0.role(), sorted.marked[0].1.milli_cpu), ("web", 2000));
        assert!(sorted.marked[0].0.dynamic().is_none(), "static");
        for bad in ["cpus", "cpus(a:1", "cpus(a b):1", "ports:[1]"] {
            assert!(parse_text(bad).is_err(), "{bad}");
        }
    }
}
