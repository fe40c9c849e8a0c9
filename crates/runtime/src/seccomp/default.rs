//! The list of calls that container engines let through by default: everything a program needs, nothing that
//! reaches around the container (kernel keyrings, mounting, namespaces, modules, clocks, raw I/O, tracing of the
//! kernel), with the usual doors opened by the capability that guards them.

use nix::libc;

use super::table::{COMMON, LEGACY, YOUNG, number};
use super::{RET_ALLOW, Rule, Test, errno};
use crate::capability::Set;

/// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
const PERSONALITIES: &[u64] = &[0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const AF_VSOCK: u64 = 40;

/// Capability, and the calls it opens.
const DOORS: &[(u32, &[&str])] = &[
    (2, &["open_by_handle_at"]),
    (
        21,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
    (22, &["reboot"]),
    (18, &["chroot"]),
    (16, &["delete_module", "init_module", "finit_module"]),
    (20, &["acct"]),
    (19, &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"]),
    (17, &["iopl", "ioperm"]),
    (25, &["settimeofday", "clock_settime"]),
    (26, &["vhangup"]),
    (23, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (34, &["syslog"]),
    (39, &["bpf"]),
    (38, &["perf_event_open"]),
];

/// The rules for a container with these capabilities; what no rule names is refused with EPERM.
pub(super) fn rules(capabilities: Set) -> Vec<Rule> {
    let allow = |number: i64, tests: Vec<(u8, Test)>| Rule { number, tests, action: RET_ALLOW };
    let mut rules: Vec<Rule> =
        COMMON.iter().chain(YOUNG).chain(LEGACY).map(|(_, number)| allow(*number, Vec::new())).collect();
    for (bit, names) in DOORS {
        if capabilities.has(*bit) {
            rules.extend(names.iter().filter_map(|name| number(name)).map(|n| allow(n, Vec::new())));
        }
    }
    for value in PERSONALITIES {
        rules.push(allow(libc::SYS_personality, vec![(0, Test::Equal(*value))]));
    }
    rules.push(allow(libc::SYS_socket, vec![(0, Test::NotEqual(AF_VSOCK))]));
    if !capabilities.has(crate::capability::SYS_ADMIN) {
        rules.push(allow(libc::SYS_clone, vec![(0, Test::Masked { mask: CLONE_NAMESPACES, value: 0 })]));
        // Its flags are behind a pointer, out of a filter's sight: "no such call" makes libc fall back to clone.
        rules.push(Rule { number: libc::SYS_clone3, tests: Vec::new(), action: errno(libc::ENOSYS) });
    }
    rules
}
