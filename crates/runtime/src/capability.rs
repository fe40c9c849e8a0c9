//! Linux capabilities by name, and the set a container gets: an engine's default, less what is dropped, plus what is
//! added, and never more than this process holds.

use std::fs;

use crate::error::Error;
use crate::spec::Capabilities;

/// A set, bit `n` for capability `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Set(pub(crate) u64);

/// In the kernel's order.
pub(crate) const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What container engines agree on.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

pub(crate) const SYS_ADMIN: u32 = 21;

impl Set {
    /// What this process could hand on.
    pub(crate) fn held() -> Set {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = |field: &str| {
            status
                .lines()
                .find_map(|l| l.strip_prefix(field))
                .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
                .unwrap_or(0)
        };
        Set(mask("CapPrm:") & mask("CapBnd:"))
    }

    pub(crate) fn has(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }

    pub(crate) fn with(self, bit: u32) -> Set {
        Set(self.0 | 1 << bit)
    }

    pub(crate) fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    /// `CAP_…` names, as an OCI config wants them.
    pub(crate) fn names(self) -> Vec<String> {
        NAMES
            .iter()
            .enumerate()
            .filter(|(i, _)| self.has(*i as u32))
            .map(|(_, n)| format!("CAP_{n}"))
            .collect()
    }
}

fn bit(name: &str) -> Result<u32, Error> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == short).map(|i| i as u32).ok_or_else(|| Error::Invalid {
        what: "capability",
        why: format!("`{name}` is not one that this version knows"),
    })
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

/// The set a container asks for, before it is cut to what this process holds.
pub(crate) fn resolve(asked: &Capabilities, privileged: bool) -> Result<Set, Error> {
    let all = Set((1 << NAMES.len()) - 1);
    if privileged {
        return Ok(all);
    }
    let mut set = if asked.add.iter().any(|n| is_all(n)) {
        all
    } else if asked.drop.iter().any(|n| is_all(n)) {
        Set(0)
    } else {
        DEFAULT.iter().try_fold(Set(0), |set, name| bit(name).map(|b| set.with(b)))?
    };
    for name in asked.drop.iter().filter(|n| !is_all(n)) {
        set = Set(set.0 & !(1 << bit(name)?));
    }
    for name in asked.add.iter().filter(|n| !is_all(n)) {
        set = set.with(bit(name)?);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(add: &[&str], drop: &[&str]) -> Vec<String> {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        resolve(&Capabilities { add: list(add), drop: list(drop) }, false).unwrap().names()
    }

    #[test]
    fn the_default_set_is_the_engines() {
        assert_eq!(names(&[], &[]).len(), 14);
        assert!(!names(&[], &[]).contains(&"CAP_SYS_ADMIN".to_owned()));
    }

    #[test]
    fn adding_wins_over_dropping_all() {
        assert_eq!(names(&["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
    }

    #[test]
    fn all_less_one() {
        let set = names(&["ALL"], &["sys_admin"]);
        assert_eq!(set.len(), NAMES.len() - 1);
        assert!(!set.contains(&"CAP_SYS_ADMIN".to_owned()));
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert!(resolve(&Capabilities { add: vec!["FLY".into()], drop: vec![] }, false).is_err());
    }
}
