//! What this machine is, as its Node object tells it.

use crate::machine::Machine;
use crate::options::Options;
use crate::pressure::{Amount, Conditions, Signal};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;
use stoa_units::{Quantity, Time};
use stoa_wire::{NodeFeatures, NodeImage, NodeReport};

/// The Kubernetes version that this agent speaks like.
const KUBELET_VERSION: &str = "v1.36.2+stoa";
/// Ports that frameworks may be offered unless the resources say otherwise, as with Mesos.
const PORTS_DEFAULT: &str = "[31000-32000]";
/// Labels that are attributes in Mesos' sense.
const ATTRIBUTE_PREFIX: &str = "attribute.stoa.dev/";
/// The annotation that holds the ports offered.
const PORTS_ANNOTATION: &str = "stoa.dev/ports";
/// The annotation that holds what is reserved from the start.
const RESERVED_ANNOTATION: &str = "stoa.dev/reserved";
/// The annotation that holds what frameworks are lent.
pub(crate) const REVOCABLE_ANNOTATION: &str = "stoa.dev/revocable";
/// The annotation that says where persistent volumes of Mesos' kind are. They outlive pods, and nothing collects them.
const VOLUMES_ANNOTATION: &str = "stoa.dev/volumes-dir";
/// The annotation that says where the agent's Mesos API is, if operators have a door there.
pub(crate) const MESOS_API_ANNOTATION: &str = "stoa.dev/mesos-api";
/// Images told of, the largest first, as with a kubelet.
const IMAGES_MAX: usize = 50;
/// Names told of each: those by digest first, then tags.
const IMAGE_NAMES_MAX: usize = 5;
/// The annotation by which a kubelet says that attaching volumes is left to the controllers.
const ATTACH_ANNOTATION: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// Resources as the command line gives them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Given {
    milli_cpu: Option<u64>,
    memory_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    ports: Option<String>,
    other: BTreeMap<String, String>,
    /// Parts that are for one role only, as they were given.
    reserved: Vec<String>,
}

const MIB: f64 = 1024.0 * 1024.0;

fn parse_resources(text: &str) -> Result<Given, String> {
    let mut given = Given::default();
    for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once(':').ok_or_else(|| format!("resource {part:?} has no value"))?;
        // `cpus(*):4` names the default role; with another role the part is reserved, and the machine has it besides.
        let name = name.trim().strip_suffix("(*)").unwrap_or(name.trim());
        let (name, is_reserved) = match name.split_once('(') {
            Some((name, role)) if role.ends_with(')') && role.len() > 1 => (name, true),
            Some(_) => return Err(format!("resource {part:?} names no role")),
            None => (name, false),
        };
        if is_reserved {
            given.reserved.push(part.to_owned());
        }
        let value = value.trim();
        let number = || {
            value
                .parse::<f64>()
                .ok()
                .filter(|n| n.is_finite() && *n >= 0.0)
                .ok_or_else(|| format!("resource {name:?} is no number: {value:?}"))
        };
        match name {
            "cpus" => *given.milli_cpu.get_or_insert(0) += (number()? * 1000.0).round() as u64,
            "mem" => *given.memory_bytes.get_or_insert(0) += (number()? * MIB) as u64,
            "disk" => *given.disk_bytes.get_or_insert(0) += (number()? * MIB) as u64,
            "ports" => {
                // Ranges of several parts are one list.
                let more = value.trim_end_matches(']').trim_start_matches('[');
                given.ports = Some(match given.ports.take() {
                    Some(have) => format!("{},{more}]", have.trim_end_matches(']')),
                    None => value.to_owned(),
                });
            }
            other => {
                number()?;
                given.other.insert(other.to_owned(), value.to_owned());
            }
        }
    }
    Ok(given)
}

/// Attributes (`rack:r1;zone:z`) as labels.
fn parse_attributes(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(';')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .map(|part| {
            let (name, value) =
                part.split_once(':').ok_or_else(|| format!("attribute {part:?} has no value"))?;
            let key = format!("{ATTRIBUTE_PREFIX}{}", name.trim());
            stoa_units::check_label_key(&key).map_err(|e| format!("attribute {name:?}: {e}"))?;
            stoa_units::check_label_value(value.trim()).map_err(|e| format!("attribute {name:?}: {e}"))?;
            Ok((key, value.trim().to_owned()))
        })
        .collect()
}

fn meminfo_bytes(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// The address by which this machine reaches a master: what the routing table says, without sending anything.
pub(crate) fn find_address(masters: &[String]) -> String {
    let towards = |target: &str| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let hosts = masters.iter().filter_map(|m| m.strip_prefix("https://")).map(|m| m.trim_end_matches('/'));
    let found = hosts.filter_map(towards).find(|ip| !ip.is_loopback());
    // A master on this very machine says nothing about the way out: ask for any address outside.
    found.or_else(|| towards("192.0.2.1:9")).map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string())
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Where a machine's id is, and where one that a maker gave it; one without that is known by its id alone.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// See [`MACHINE_IDS`].
const SYSTEM_UUIDS: [&str; 3] =
    ["/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id", "/proc/device-tree/vm,uuid"];

/// What stands in the first of these files that says anything.
fn first_of(paths: &[&str]) -> String {
    let found = paths.iter().map(|path| read_line(path).trim_end_matches('\0').to_owned());
    found.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// By what a machine and its present run are known.
pub(crate) struct Ids {
    pub(crate) machine: String,
    pub(crate) system: String,
    pub(crate) boot: String,
}

pub(crate) fn ids() -> Ids {
    Ids {
        machine: first_of(&MACHINE_IDS),
        system: first_of(&[&SYSTEM_UUIDS[..], &MACHINE_IDS].concat()),
        boot: read_line("/proc/sys/kernel/random/boot_id"),
    }
}

pub(crate) fn kernel() -> String {
    read_line("/proc/sys/kernel/osrelease")
}

pub(crate) fn os_image() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |n| n.trim_matches('"').to_owned())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Bytes of each size of huge pages that this machine has set aside.
fn huge_pages(dir: &Path) -> Vec<(String, String)> {
    let sizes = std::fs::read_dir(dir).into_iter().flatten().flatten();
    sizes
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            let (size, count) = (kib.checked_mul(1024)?, count.trim().parse::<u64>().ok()?);
            let resource = format!("{}{}", crate::limits::HUGE_PAGES, Quantity::from_bytes(size));
            Some((resource, Quantity::from_bytes(size.checked_mul(count)?).to_string()))
        })
        .collect()
}

/// The part of the report that does not change while the agent runs.
pub(crate) fn describe(options: &Options, address: &str) -> Result<NodeReport, String> {
    let given = options.resources.as_deref().map(parse_resources).transpose()?.unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let disk = rustix::fs::statvfs(&options.data_dir).map(|s| s.f_blocks * s.f_frsize).unwrap_or(0);
    let milli_cpu = given.milli_cpu.unwrap_or(cpus * 1000);
    let memory = given.memory_bytes.unwrap_or_else(|| meminfo_bytes("MemTotal"));
    let disk = given.disk_bytes.unwrap_or(disk);
    let mut capacity: BTreeMap<String, String> = [
        ("cpu".to_owned(), Quantity::from_milli(milli_cpu as i64).to_string()),
        ("memory".to_owned(), Quantity::from_bytes(memory).to_string()),
        ("ephemeral-storage".to_owned(), Quantity::from_bytes(disk).to_string()),
        ("pods".to_owned(), options.pods_max.to_string()),
    ]
    .into();
    capacity.extend(huge_pages(Path::new("/sys/kernel/mm/hugepages")));
    capacity.extend(given.other);
    let allocatable = allocatable(options, &capacity)?;
    let (kernel, ids) = (kernel(), ids());
    let hostname = read_line("/proc/sys/kernel/hostname");
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", options.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    labels.extend(options.attributes.as_deref().map(parse_attributes).transpose()?.unwrap_or_default());
    let info = [
        ("machineID", ids.machine),
        ("systemUUID", ids.system),
        ("bootID", ids.boot),
        ("kernelVersion", kernel),
        ("osImage", os_image()),
        ("containerRuntimeVersion", format!("stoa://{}", env!("CARGO_PKG_VERSION"))),
        ("kubeletVersion", KUBELET_VERSION.to_owned()),
        ("kubeProxyVersion", String::new()),
        ("operatingSystem", "linux".to_owned()),
        ("architecture", architecture().to_owned()),
    ];
    Ok(NodeReport {
        hostname,
        address: address.to_owned(),
        allocatable,
        capacity,
        labels,
        annotations: [
            (PORTS_ANNOTATION.to_owned(), given.ports.unwrap_or_else(|| PORTS_DEFAULT.to_owned())),
            (RESERVED_ANNOTATION.to_owned(), given.reserved.join(";")),
            (REVOCABLE_ANNOTATION.to_owned(), revocable(options)?),
            (MESOS_API_ANNOTATION.to_owned(), String::new()),
            (ATTACH_ANNOTATION.to_owned(), "true".to_owned()),
            (VOLUMES_ANNOTATION.to_owned(), options.persistent_dir().display().to_string()),
        ]
        .into(),
        info: info.map(|(k, v)| (k.to_owned(), v)).into(),
        images: Vec::new(),
        conditions: Conditions::default().render(Time::EPOCH, Duration::ZERO),
        features: features(),
    })
}

fn features() -> NodeFeatures {
    let found = stoa_runtime::Features::find();
    NodeFeatures {
        recursive_read_only_mounts: found.recursive_read_only_mounts,
        user_namespaces: found.user_namespaces,
    }
}

/// Thousandths of CPUs that are kept for the machine: those that are named, else as much as is said.
pub(crate) fn reserved_milli_cpu(options: &Options) -> Result<u64, String> {
    if let Some(cpus) = &options.reserved_cpus {
        return Ok(cpus.len() as u64 * 1_000);
    }
    let reserved = options.system_reserved.as_deref().map(parse_resources).transpose()?;
    Ok(reserved.and_then(|r| r.milli_cpu).unwrap_or(0))
}

/// CPU in thousandths and bytes of memory of the machine, less what is kept for it by name.
pub(crate) fn unreserved(
    options: &Options,
    capacity: &BTreeMap<String, String>,
) -> Result<(u64, u64), String> {
    let reserved = options.system_reserved.as_deref().map(parse_resources).transpose()?.unwrap_or_default();
    let whole = |name: &str| capacity.get(name).and_then(|q| Quantity::parse(q).ok());
    let milli = whole("cpu").map_or(0, |q| q.milli_ceil()).saturating_sub(reserved_milli_cpu(options)?);
    let memory = whole("memory").map_or(0, |q| q.value_ceil());
    Ok((milli, memory.saturating_sub(reserved.memory_bytes.unwrap_or(0))))
}

/// What frameworks are lent, checked: ports and what is reserved cannot be.
fn revocable(options: &Options) -> Result<String, String> {
    let Some(text) = &options.revocable else { return Ok(String::new()) };
    let given = parse_resources(text)?;
    if given.ports.is_some() || !given.reserved.is_empty() {
        return Err(format!("revocable resources {text:?} are scalars that are reserved for nobody"));
    }
    Ok(text.clone())
}

/// What pods may use: all of it where the operator said how much to give, else what is measured less what is reserved, and
/// less the memory and disk below which pods would be evicted. What is reserved by name is always kept.
fn allocatable(
    options: &Options,
    capacity: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let reserved = options.system_reserved.as_deref().map(parse_resources).transpose()?.unwrap_or_default();
    let whole =
        |name: &str| capacity.get(name).and_then(|q| Quantity::parse(q).ok()).map_or(0, |q| q.value_ceil());
    let kept = |signal: Signal, whole: u64| {
        let threshold =
            options.eviction_hard.iter().find(|t| t.signal == signal).filter(|_| options.resources.is_none());
        threshold.map_or(0, |t| match t.value {
            Amount::Absolute(n) => n,
            Amount::Percent(p) => (whole as f64 * p / 100.0) as u64,
        })
    };
    let (milli, memory) = unreserved(options, capacity)?;
    let memory = memory.saturating_sub(kept(Signal::Memory, whole("memory")));
    let disk = whole("ephemeral-storage");
    let disk = disk.saturating_sub(reserved.disk_bytes.unwrap_or(0)).saturating_sub(kept(Signal::Disk, disk));
    let mut out = capacity.clone();
    out.insert("cpu".to_owned(), Quantity::from_milli(milli as i64).to_string());
    out.insert("memory".to_owned(), Quantity::from_bytes(memory).to_string());
    out.insert("ephemeral-storage".to_owned(), Quantity::from_bytes(disk).to_string());
    Ok(out)
}

/// The images present.
pub(crate) async fn images(machine: &dyn Machine) -> Vec<NodeImage> {
    let mut images: Vec<NodeImage> = machine
        .stored_images()
        .await
        .into_iter()
        .map(|i| {
            let (mut names, tags): (Vec<String>, Vec<String>) =
                i.names.into_iter().partition(|n| n.contains('@'));
            names.extend(tags);
            names.truncate(IMAGE_NAMES_MAX);
            NodeImage { names, size_bytes: i.size }
        })
        .collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    images.truncate(IMAGES_MAX);
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_in_mesos_form() {
        let given = parse_resources("cpus:1.5;mem(*):512;ports:[1-2,5-6];gpus:2").unwrap();
        assert_eq!((given.milli_cpu, given.memory_bytes), (Some(1500), Some(512 << 20)));
        assert_eq!(given.ports.as_deref(), Some("[1-2,5-6]"));
        assert_eq!(given.other["gpus"], "2");
        let split = parse_resources("cpus(web):1;cpus:2;ports:[1-2];ports(web):[5-6]").unwrap();
        assert_eq!((split.milli_cpu, split.ports.as_deref()), (Some(3000), Some("[1-2,5-6]")));
        assert_eq!(split.reserved, ["cpus(web):1", "ports(web):[5-6]"]);
        for bad in ["cpus", "cpus:x", "mem:-1", "cpus:inf", "cpus(a:1"] {
            assert!(parse_resources(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn huge_pages_are_told_by_their_size() {
        let tmp = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "0\n"), ("other", "1\n")] {
            std::fs::create_dir(tmp.path().join(name)).unwrap();
            std::fs::write(tmp.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        let mut found = huge_pages(tmp.path());
        found.sort();
        let want =
            [("hugepages-1Gi", "0"), ("hugepages-2Mi", "6Mi")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(found, want);
    }

    #[test]
    fn attributes_become_labels() {
        assert_eq!(
            parse_attributes("rack:r1; zone:z").unwrap().into_iter().collect::<Vec<_>>(),
            [
                ("attribute.stoa.dev/rack".to_owned(), "r1".to_owned()),
                ("attribute.stoa.dev/zone".to_owned(), "z".to_owned())
            ]
        );
        assert!(parse_attributes("rack").is_err());
        assert!(parse_attributes("a b:c").is_err());
    }

    #[test]
    fn pods_get_what_is_given_or_what_is_left_of_what_is_measured() {
        let mut options = Options::new("n1", std::env::temp_dir(), "c");
        let capacity: BTreeMap<String, String> =
            [("cpu", "4"), ("memory", "1Gi"), ("ephemeral-storage", "100Gi"), ("pods", "110")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        let show = |o: &Options| {
            let a = allocatable(o, &capacity).unwrap();
            format!("{} {} {} {}", a["cpu"], a["memory"], a["ephemeral-storage"], a["pods"])
        };
        assert_eq!(show(&options), "4 924Mi 90Gi 110");
        options.system_reserved = Some("cpus:0.5;mem:24".to_owned());
        assert_eq!(show(&options), "3500m 900Mi 90Gi 110");
        options.resources = Some("cpus:4;mem:1024".to_owned());
        assert_eq!(show(&options), "3500m 1000Mi 100Gi 110");
        options.reserved_cpus = Some(crate::CpuSet::parse("0,2").unwrap());
        assert_eq!(show(&options), "2 1000Mi 100Gi 110");
    }

    #[test]
    fn a_machine_describes_itself() {
        let mut options = Options::new("n1", std::env::temp_dir(), "c");
        options.resources = Some("cpus:4;mem:1024".to_owned());
        let report = describe(&options, "192.0.2.7").unwrap();
        assert_eq!((report.capacity["cpu"].as_str(), report.capacity["memory"].as_str()), ("4", "1Gi"));
        assert_eq!(report.annotations["stoa.dev/ports"], "[31000-32000]");
        assert_eq!(report.annotations["volumes.kubernetes.io/controller-managed-attach-detach"], "true");
        assert_eq!(report.info["systemUUID"].is_empty(), report.info["machineID"].is_empty());
        assert_eq!(report.labels["kubernetes.io/hostname"], "n1");
    }
}
