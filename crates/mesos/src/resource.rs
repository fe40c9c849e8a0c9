//! Resource lists and their translation to and from [`stoa_units::Resources`].
//!
//! On the wire a resource is a named scalar, set of ranges or set of items, with a role and reservations attached.
//! Scalars have three decimals in fixed point; `mem` and `disk` count MiB. Both directions round down, so that what was
//! offered and is sent back is never more than what was there.

use crate::framework::{Labels, Opaque};
use crate::json::{Double, Empty, Int};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use stoa_units::{PortRange, PortSet, Resources};

names! {
    /// The type of a value.
    pub enum ValueType {
        /// A number with three decimals.
        Scalar = "SCALAR",
        /// Inclusive ranges of integers.
        Ranges = "RANGES",
        /// A set of items.
        Set = "SET",
        /// Text; attributes only.
        Text = "TEXT",
    }
}

message! {
    /// A number with three decimals.
    pub struct Scalar {
        required {
            /// The number.
            value: Double,
        }
    }
}

message! {
    /// Inclusive ranges.
    pub struct Ranges {
        always {
            /// In any order.
            range: Vec<Range>,
        }
    }
}

message! {
    /// One inclusive range.
    pub struct Range {
        required {
            /// First.
            begin: Int,
            /// Last.
            end: Int,
        }
    }
}

message! {
    /// Items.
    pub struct Set {
        always {
            /// In any order.
            item: Vec<String>,
        }
    }
}

message! {
    /// To which role an offered or used resource is allocated.
    pub struct AllocationInfo {
        optional {
            /// The role.
            role: Option<String>,
        }
    }
}

message! {
    /// One layer of a reservation.
    pub struct Reservation {
        optional {
            /// `STATIC` or `DYNAMIC`.
            #[serde(rename = "type")]
            kind: Option<String>,
            /// For whom.
            role: Option<String>,
            /// By whom.
            principal: Option<String>,
            /// Free-form.
            labels: Option<Labels>,
        }
    }
}

message! {
    /// One named resource.
    pub struct Resource {
        required {
            /// `cpus`, `mem`, `disk`, `ports`, `gpus` or another.
            name: String,
            /// Which of the values is set.
            #[serde(rename = "type")]
            kind: ValueType,
        }
        optional {
            /// A number.
            scalar: Option<Scalar>,
            /// Ranges.
            ranges: Option<Ranges>,
            /// A set.
            set: Option<Set>,
            /// The role it is reserved for, in the format before refinement; `*` means unreserved.
            role: Option<String>,
            /// The role it is allocated to.
            allocation_info: Option<AllocationInfo>,
            /// The dynamic reservation, in the format before refinement.
            reservation: Option<Reservation>,
            /// The stack of reservations.
            reservations: Vec<Reservation>,
            /// Which disk, for `disk`.
            disk: Option<Opaque>,
            /// Present if it may be taken back.
            revocable: Option<Empty>,
            /// Present if it may be used by several at once.
            shared: Option<Empty>,
            /// Who provides it, if not the agent itself.
            provider_id: Option<Opaque>,
        }
    }
}

/// Why a resource list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value that the type announces is missing.
    #[error("Resource '{name}' of type {kind} has no value of that type")]
    NoValue {
        /// Which resource.
        name: String,
        /// Its announced type.
        kind: ValueType,
    },
    /// A number is negative, not a number, or too large.
    #[error("Invalid scalar resource '{name}': {value}")]
    Scalar {
        /// Which resource.
        name: String,
        /// Its value.
        value: String,
    },
    /// A range ends before it begins or leaves the port space.
    #[error("Invalid ranges resource '{name}': [{begin}-{end}]")]
    Range {
        /// Which resource.
        name: String,
        /// First.
        begin: i64,
        /// Last.
        end: i64,
    },
    /// The type does not go with the name.
    #[error("Resource '{name}' of type {kind} is not known here")]
    Kind {
        /// Which resource.
        name: String,
        /// Its announced type.
        kind: ValueType,
    },
    /// GPUs are whole.
    #[error("The 'gpus' resource must be an unsigned integer")]
    Gpus,
    /// A feature of resources that no agent here offers.
    #[error("Resource '{name}' is {what}, which no agent here offers")]
    NotOffered {
        /// Which resource.
        name: String,
        /// What it asks for.
        what: &'static str,
    },
    /// The list mixes allocations.
    #[error(
        "The resources have multiple allocation roles ('{0}' and '{1}') but only one allocation role is allowed"
    )]
    Roles(String, String),
}

/// Numbers of MiB, in thousandths, beyond this do not fit into bytes.
const MILLI_MAX: f64 = 1e15;

/// A checked resource list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How much.
    pub resources: Resources,
    /// The role that the list says it is allocated to, if it says so.
    pub allocated_to: Option<String>,
}

/// Thousandths of a scalar, rounded as Mesos does it, or why not.
fn milli(name: &str, value: Double) -> Result<u64, Error> {
    let scaled = (value.0 * 1000.0).round();
    if !(0.0..=MILLI_MAX).contains(&scaled) {
        return Err(Error::Scalar { name: name.into(), value: value.0.to_string() });
    }
    Ok(scaled as u64)
}

fn mebi_to_bytes(milli: u64) -> u64 {
    u64::try_from(u128::from(milli) * 1_048_576 / 1000).unwrap_or(u64::MAX)
}

fn bytes_to_milli_mebi(bytes: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / 1_048_576).unwrap_or(u64::MAX)
}

impl Resource {
    fn bare(name: &str, kind: ValueType) -> Resource {
        Resource {
            name: name.into(),
            kind,
            scalar: None,
            ranges: None,
            set: None,
            role: None,
            allocation_info: None,
            reservation: None,
            reservations: vec![],
            disk: None,
            revocable: None,
            shared: None,
            provider_id: None,
        }
    }

    /// A scalar.
    pub fn scalar(name: &str, milli: u64) -> Resource {
        Resource {
            scalar: Some(Scalar { value: Double(milli as f64 / 1000.0) }),
            ..Resource::bare(name, ValueType::Scalar)
        }
    }

    /// Ports.
    pub fn ports(ports: &PortSet) -> Resource {
        let range = ports
            .widened()
            .ranges()
            .iter()
            .map(|r| Range { begin: Int(r.begin.into()), end: Int(r.end.into()) })
            .collect();
        Resource { ranges: Some(Ranges { range }), ..Resource::bare("ports", ValueType::Ranges) }
    }

    /// The role it is reserved for, if it is.
    pub fn reserved_to(&self) -> Option<&str> {
        match self.reservations.last() {
            Some(r) => r.role.as_deref(),
            None => self.role.as_deref().filter(|r| *r != "*"),
        }
    }

    /// Refuses what no agent here offers: reservations, volumes, revocable and shared resources.
    fn check_plain(&self) -> Result<(), Error> {
        let refuse = |what| Err(Error::NotOffered { name: self.name.clone(), what });
        if self.reserved_to().is_some() || self.reservation.is_some() {
            refuse("reserved")
        } else if self
            .disk
            .as_ref()
            .is_some_and(|d| d.get("persistence").is_some() || d.get("source").is_some())
        {
            refuse("a volume")
        } else if self.revocable.is_some() {
            refuse("revocable")
        } else if self.shared.is_some() {
            refuse("shared")
        } else if self.provider_id.is_some() {
            refuse("of a resource provider")
        } else {
            Ok(())
        }
    }

    fn add_scalar(&self, to: &mut Resources) -> Result<(), Error> {
        let Some(s) = &self.scalar else {
            return Err(Error::NoValue { name: self.name.clone(), kind: self.kind });
        };
        let milli = milli(&self.name, s.value)?;
        match self.name.as_str() {
            "cpus" => to.milli_cpu = to.milli_cpu.saturating_add(milli),
            "mem" => to.memory_bytes = to.memory_bytes.saturating_add(mebi_to_bytes(milli)),
            "disk" => to.disk_bytes = to.disk_bytes.saturating_add(mebi_to_bytes(milli)),
            "ports" => return Err(Error::Kind { name: self.name.clone(), kind: self.kind }),
            "gpus" if milli % 1000 != 0 => return Err(Error::Gpus),
            name => {
                let sum = to.extended_milli(name).saturating_add(milli);
                to.set_extended(name, sum);
            }
        }
        Ok(())
    }

    fn add_ranges(&self, to: &mut Resources) -> Result<(), Error> {
        if self.name != "ports" {
            return Err(Error::Kind { name: self.name.clone(), kind: self.kind });
        }
        let Some(ranges) = &self.ranges else {
            return Err(Error::NoValue { name: self.name.clone(), kind: self.kind });
        };
        let mut parts = Vec::with_capacity(ranges.range.len());
        for r in &ranges.range {
            match (u16::try_from(r.begin.0), u16::try_from(r.end.0)) {
                (Ok(begin), Ok(end)) if begin <= end => parts.push(PortRange { begin, end }),
                _ => {
                    return Err(Error::Range { name: self.name.clone(), begin: r.begin.0, end: r.end.0 });
                }
            }
        }
        to.ports = to.ports.union(&PortSet::from_ranges(parts));
        Ok(())
    }
}

/// Checks a list and adds it up. Zero scalars count for nothing; one allocation role at most may be named.
pub fn amount(list: &[Resource]) -> Result<Amount, Error> {
    let mut out = Amount::default();
    for r in list {
        r.check_plain()?;
        match r.kind {
            ValueType::Scalar => r.add_scalar(&mut out.resources)?,
            ValueType::Ranges => r.add_ranges(&mut out.resources)?,
            ValueType::Set | ValueType::Text => {
                return Err(Error::Kind { name: r.name.clone(), kind: r.kind });
            }
        }
        if let Some(role) = r.allocation_info.as_ref().and_then(|a| a.role.clone()) {
            match &out.allocated_to {
                Some(have) if *have != role => return Err(Error::Roles(have.clone(), role)),
                _ => out.allocated_to = Some(role),
            }
        }
    }
    Ok(out)
}

/// Adds a list up, whomever its parts are for; what makes no sense counts for nothing.
pub fn total(list: &[Resource]) -> Resources {
    let mut out = Resources::default();
    for r in list {
        let _ = match r.kind {
            ValueType::Scalar => r.add_scalar(&mut out),
            ValueType::Ranges => r.add_ranges(&mut out),
            ValueType::Set | ValueType::Text => Ok(()),
        };
    }
    out
}

/// Writes an amount as an unreserved list; `allocated_to` is set on each entry if given.
pub fn list(amount: &Resources, allocated_to: Option<&str>) -> Vec<Resource> {
    let mut out = Vec::with_capacity(4 + amount.extended.len());
    let mut scalar = |name: &str, milli: u64| {
        if milli > 0 {
            out.push(Resource::scalar(name, milli));
        }
    };
    scalar("cpus", amount.milli_cpu);
    scalar("mem", bytes_to_milli_mebi(amount.memory_bytes));
    scalar("disk", bytes_to_milli_mebi(amount.disk_bytes));
    for (name, milli) in &amount.extended {
        scalar(name, *milli);
    }
    if !amount.ports.is_empty() {
        out.push(Resource::ports(&amount.ports));
    }
    for r in &mut out {
        r.role = Some("*".into());
        r.allocation_info = allocated_to.map(|role| AllocationInfo { role: Some(role.into()) });
    }
    out
}

/// The flat object of the legacy endpoints: `{"cpus":8.0,"mem":…,"ports":"[31000-32000]"}`. The four common names are
/// always there.
pub fn flat(amount: &Resources) -> serde_json::Value {
    serde_json::to_value(Flat(amount)).unwrap_or_default()
}

/// The same, written without being made first.
#[derive(Clone, Copy, Debug)]
pub struct Flat<'r>(pub &'r Resources);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let number = |milli: u64| milli as f64 / 1000.0;
        let amount = self.0;
        let mut out = s.serialize_map(None)?;
        // What is said last of a name is what counts.
        let is_more = |name: &str| amount.extended.iter().any(|(n, _)| **n == *name);
        for (name, milli) in [
            ("cpus", amount.milli_cpu),
            ("mem", bytes_to_milli_mebi(amount.memory_bytes)),
            ("disk", bytes_to_milli_mebi(amount.disk_bytes)),
            ("gpus", 0),
        ] {
            if !is_more(name) {
                out.serialize_entry(name, &number(milli))?;
            }
        }
        for (name, milli) in &amount.extended {
            out.serialize_entry(&**name, &number(*milli))?;
        }
        if !amount.ports.is_empty() {
            out.serialize_entry("ports", &amount.ports.to_string())?;
        }
        out.end()
    }
}

/// Mesos' text form, as its messages show amounts: `cpus:1; mem:32; ports:[31000-31001]`.
pub fn text(amount: &Resources) -> String {
    let mut parts = Vec::new();
    let mut scalar = |name: &str, milli: u64| {
        if milli > 0 {
            parts.push(format!("{name}:{}", milli as f64 / 1000.0));
        }
    };
    scalar("cpus", amount.milli_cpu);
    scalar("mem", bytes_to_milli_mebi(amount.memory_bytes));
    scalar("disk", bytes_to_milli_mebi(amount.disk_bytes));
    for (name, milli) in &amount.extended {
        scalar(name, *milli);
    }
    if !amount.ports.is_empty() {
        parts.push(format!("ports:{}", amount.ports));
    }
    if parts.is_empty() { "{}".into() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests;
