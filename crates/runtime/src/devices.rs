//! Which device nodes a container may use: a list on cgroup version 1, a small BPF program on version 2. Without it the
//! capability to make nodes, which containers have by default, would open the machine's disks.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::libc;

use crate::error::Error;
use crate::spec::ContainerSpec;

/// Character devices a container may use: null, zero, full, random, urandom, tty, console, ptmx, pts.
const USABLE: &[(u32, Option<u32>)] = &[
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Character or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Character,
    Block,
}

impl Kind {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Kind::Character => "c",
            Kind::Block => "b",
        }
    }
}

/// One thing that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    /// Some of `rwm`.
    access: String,
}

/// A node of the machine.
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    /// User and group.
    pub(crate) owner: (u32, u32),
}

/// Looks at a node.
pub(crate) fn node(path: &Path) -> Result<Node, Error> {
    let meta = fs::metadata(path).map_err(Error::io("look at device", path))?;
    let kind = if meta.file_type().is_char_device() {
        Kind::Character
    } else if meta.file_type().is_block_device() {
        Kind::Block
    } else {
        return Err(Error::Invalid { what: "device", why: format!("{} is not one", path.display()) });
    };
    let device = meta.rdev();
    Ok(Node {
        kind,
        major: libc::major(device),
        minor: libc::minor(device),
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
    })
}

/// What a container may use; `None` is everything.
pub(crate) fn rules(spec: &ContainerSpec) -> Result<Option<Vec<Rule>>, Error> {
    if spec.privileged {
        return Ok(None);
    }
    // Making any node is harmless, since using it is not allowed.
    let make = |kind| Rule { kind, major: None, minor: None, access: "m".into() };
    let mut rules = vec![make(Kind::Character), make(Kind::Block)];
    rules.extend(USABLE.iter().map(|(major, minor)| Rule {
        kind: Kind::Character,
        major: Some(*major),
        minor: *minor,
        access: "rwm".into(),
    }));
    for device in &spec.devices {
        if device.access.is_empty() || !device.access.bytes().all(|b| b"rwm".contains(&b)) {
            let why = format!("access `{}` must be some of rwm", device.access);
            return Err(Error::Invalid { what: "device", why });
        }
        let Node { kind, major, minor, .. } = node(&device.source)?;
        rules.push(Rule { kind, major: Some(major), minor: Some(minor), access: device.access.clone() });
    }
    Ok(Some(rules))
}

/// Writes the rules into a directory of the version 1 controller.
pub(crate) fn apply_legacy(directory: &Path, rules: &[Rule]) -> io::Result<()> {
    fs::write(directory.join("devices.deny"), "a")?;
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    for rule in rules {
        let (major, minor) = (number(rule.major), number(rule.minor));
        let line = format!("{} {major}:{minor} {}", rule.kind.letter(), rule.access);
        fs::write(directory.join("devices.allow"), line)?;
    }
    Ok(())
}

/// One BPF instruction as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    value: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

fn program(rules: &[Rule]) -> Vec<Instruction> {
    let op = |code, registers, offset, value| Instruction { code, registers, offset, value };
    // r1 is the context {access << 16 | type, major, minor}; r2 type, r3 access, r4 major, r5 minor.
    let mut code = vec![
        op(LOAD_WORD, 0x12, 0, 0),
        op(MOVE_REGISTER, 0x23, 0, 0),
        op(AND, 0x02, 0, 0xffff),
        op(SHIFT_RIGHT, 0x03, 0, 16),
        op(LOAD_WORD, 0x14, 4, 0),
        op(LOAD_WORD, 0x15, 8, 0),
    ];
    for rule in rules {
        let kind = if rule.kind == Kind::Block { 1 } else { 2 };
        let allowed = rule.access.bytes().fold(0, |mask, b| {
            mask | match b {
                b'm' => 1,
                b'r' => 2,
                _ => 4,
            }
        });
        let mut tests = vec![(2, kind)];
        tests.extend(rule.major.map(|n| (4, n as i32)));
        tests.extend(rule.minor.map(|n| (5, n as i32)));
        // Each test is one jump over the rest of the rule: the other tests, the three of access, and the verdict.
        let mut left = tests.len() as i16 + 5;
        for (register, value) in tests {
            left -= 1;
            code.push(op(JUMP_IF_NOT, register, left, value));
        }
        code.push(op(MOVE_REGISTER, 0x36, 0, 0));
        code.push(op(AND, 0x06, 0, !allowed & 7));
        code.push(op(JUMP_IF_NOT, 0x06, 2, 0));
        code.push(op(MOVE, 0x00, 0, 1));
        code.push(op(EXIT, 0, 0, 0));
    }
    code.push(op(MOVE, 0x00, 0, 0));
    code.push(op(EXIT, 0, 0, 0));
    code
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` is the start of the kernel's union for this command, its size is passed along, and all
    // pointers in it are to live memory.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// Attaches the rules to a version 2 cgroup; they go with it.
pub(crate) fn apply_unified(directory: &Path, rules: &[Rule]) -> io::Result<()> {
    let code = program(rules);
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    let loaded = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the kernel just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(loaded) };
    let cgroup = fs::File::open(directory)?;
    let attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        replaced: 0,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Rootfs;

    /// Runs the program as the kernel would.
    fn allows(rules: &[Rule], kind: Kind, access: u32, major: u32, minor: u32) -> bool {
        let code = program(rules);
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u64; 8], 0usize);
        loop {
            let i = code[at];
            at += 1;
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            match i.code {
                LOAD_WORD => registers[to] = u64::from(context[i.offset as usize / 4]),
                MOVE => registers[to] = i.value as u64,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= i.value as u64,
                SHIFT_RIGHT => registers[to] >>= i.value,
                JUMP_IF_NOT if registers[to] != i.value as u64 => at += i.offset as usize,
                JUMP_IF_NOT => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn default_rules() -> Vec<Rule> {
        let spec = ContainerSpec::new("c", "p", Rootfs::Layers { lower: vec![] }, vec![], "/log");
        rules(&spec).unwrap().unwrap()
    }

    #[test]
    fn the_usual_devices_work_and_disks_do_not() {
        let rules = default_rules();
        let (make, read, write) = (1, 2, 4);
        assert!(allows(&rules, Kind::Character, read | write, 1, 3));
        assert!(allows(&rules, Kind::Character, read, 136, 77));
        assert!(allows(&rules, Kind::Block, make, 8, 0));
        assert!(!allows(&rules, Kind::Block, read, 8, 0));
        assert!(!allows(&rules, Kind::Block, make | read, 8, 0));
        assert!(!allows(&rules, Kind::Character, read, 1, 1));
        assert!(!allows(&rules, Kind::Block, read, 1, 3));
        assert!(!allows(&rules, Kind::Character, write, 10, 200));
    }

    #[test]
    fn the_kernel_takes_the_program() {
        assert!(nix::unistd::geteuid().is_root(), "needs root");
        let Some(unified) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|p| Path::new(p).join("cgroup.controllers").exists())
        else {
            return;
        };
        let directory = Path::new(unified).join(format!("stoa-devices-test-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let applied = apply_unified(&directory, &default_rules());
        let script =
            format!("echo $$ > {}/cgroup.procs; cat /dev/null && ! head -c1 /dev/kmsg", directory.display());
        let status = std::process::Command::new("sh").args(["-c", &script]).status();
        fs::remove_dir(&directory).unwrap();
        applied.unwrap();
        assert!(status.unwrap().success());
    }
}
