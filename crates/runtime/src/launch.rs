//! The last steps of a process before it becomes the container's command: descriptors, directory, groups, user,
//! capabilities, filter, exec. The same for a container's first process and for those that join it later.
//!
//! The order matters: a filter needs CAP_SYS_ADMIN when privileges may still be gained by exec, so that capability is
//! kept through the change of user and dropped after the filter is in.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::capability::{NAMES, SYS_ADMIN, Set};
use crate::init::{self, Group};
use crate::lsm::Confinement;
use crate::seccomp::Program;
use crate::spec::User;

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything a process needs to become the command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Launch {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: User,
    pub(crate) capabilities: Set,
    pub(crate) no_new_privileges: bool,
    /// Where set, the command is the child of a minimal first process.
    #[serde(default, skip)]
    pub(crate) init: Option<Group>,
    /// Where set, the process enters this user namespace (an open descriptor), whose id 0 is that id of the machine.
    #[serde(default, skip)]
    pub(crate) users: Option<(RawFd, u32)>,
    pub(crate) seccomp: Option<Program>,
    #[serde(default)]
    pub(crate) confinement: Confinement,
    /// The machine's `/proc` (an open descriptor), through which the kernel is told of the confinement.
    #[serde(default, skip)]
    pub(crate) proc: Option<RawFd>,
}

/// Why a command could not be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// 127 when the command is missing, 126 else, as a shell says it.
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Failure {
    fn new(what: &str, error: &io::Error) -> Failure {
        Failure { code: 126, message: format!("{what}: {}", plain(error)) }
    }
}

/// The error in the words of other runtimes: no "(os error 2)", lower case.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Launch {
    /// Becomes the command. On failure writes a [`Failure`] to `report` (which closes by itself on success) and ends
    /// the process.
    pub(crate) fn run(&self, report: RawFd) -> ! {
        let failure = match self.prepare(report).and_then(|()| self.stand_in(report)) {
            Ok(()) => self.exec(),
            Err(failure) => failure,
        };
        // SAFETY: the caller hands over a descriptor that nothing else uses.
        let mut report = fs::File::from(unsafe { OwnedFd::from_raw_fd(report) });
        let _ = report.write_all(&serde_json::to_vec(&failure).unwrap_or_default());
        drop(report);
        // SAFETY: ends the process without running exit handlers of the program it was forked from.
        unsafe { libc::_exit(failure.code) }
    }

    /// Comes back in the process that is to become the command.
    fn stand_in(&self, report: RawFd) -> Result<(), Failure> {
        let Some(group) = self.init else { return Ok(()) };
        match init::split(group).map_err(|e| Failure::new("fork", &e))? {
            init::Side::Command => Ok(()),
            init::Side::First(child) => {
                // SAFETY: the command's side has a copy of its own; here nothing uses the descriptor any more.
                drop(unsafe { OwnedFd::from_raw_fd(report) });
                init::stay(child, group)
            }
        }
    }

    fn prepare(&self, report: RawFd) -> Result<(), Failure> {
        reset_signals();
        let step = |what: &'static str| move |error: io::Error| Failure::new(what, &error);
        let first = self.users.map_or(0, |(_, first)| first);
        if self.user.uid + first != 0 {
            self.own_stdio(self.user.uid + first).map_err(step("hand over stdio"))?;
        }
        self.confine().map_err(step("apply"))?;
        self.enter_users().map_err(step("enter the user namespace"))?;
        // Closed, not only marked to be closed by exec: a working directory of `/proc/self/fd/7` would lead through
        // one that is still open out of the container (CVE-2024-21626).
        let report = report as u32;
        for (first, last) in [(3, report - 1), (report + 1, u32::MAX)] {
            if first <= last {
                // SAFETY: whoever owned these descriptors never runs again: this process execs or exits.
                check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
                    .map_err(step("close descriptors"))?;
            }
        }
        // SAFETY: no memory is involved.
        unsafe { libc::umask(0o022) };
        self.enter_directory()?;
        self.drop_privileges()?;
        Ok(())
    }

    /// What runs in the place of the command until exec is ours, and not confined.
    fn confine(&self) -> io::Result<()> {
        if self.confinement.is_empty() {
            return Ok(());
        }
        let proc = self.proc.ok_or_else(|| io::Error::other("confinement: /proc is not open"))?;
        // SAFETY: the descriptor is open until all are closed a few steps later, and borrowed for this call only.
        self.confinement.apply(unsafe { BorrowedFd::borrow_raw(proc) })
    }

    /// From here on root is root of the pod's ids only. It becomes that one at once: the machine's root has no name here.
    fn enter_users(&self) -> io::Result<()> {
        let Some((namespace, _)) = self.users else { return Ok(()) };
        // SAFETY: no pointers are passed; the process has one thread, so raw calls change all of it.
        unsafe {
            check(libc::setns(namespace, libc::CLONE_NEWUSER).into())?;
            check(libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
            check(libc::syscall(libc::SYS_setresuid, 0, 0, 0))
        }
    }

    /// A user that is not root must be able to open `/dev/stdout`.
    fn own_stdio(&self, owner: u32) -> io::Result<()> {
        for fd in 0..3 {
            // SAFETY: descriptors 0 to 2 are open here and borrowed for the loop's body only.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let stat = rustix::fs::fstat(fd)?;
            let is_null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
            let owner = Some(rustix::fs::Uid::from_raw(owner));
            if !is_null && let Err(error) = rustix::fs::fchown(fd, owner, None) {
                // A descriptor on a read-only file system stays as it is.
                if !matches!(
                    error,
                    rustix::io::Errno::ROFS | rustix::io::Errno::PERM | rustix::io::Errno::INVAL
                ) {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn enter_directory(&self) -> Result<(), Failure> {
        let directory = if self.cwd.as_os_str().is_empty() { Path::new("/") } else { &self.cwd };
        let failure = |error: &io::Error| Failure {
            code: 126,
            message: format!("chdir to cwd ({:?}) set in config.json failed: {}", directory, plain(error)),
        };
        if !directory.is_absolute() {
            return Err(failure(&io::Error::from(io::ErrorKind::InvalidInput)));
        }
        // Engines make what is missing, and so it is told.
        if let Some(file) = directory.ancestors().find(|p| p.exists()).filter(|p| !p.is_dir()) {
            let message = format!("mkdir {}: not a directory", file.display());
            return Err(Failure { code: 126, message });
        }
        if !directory.exists() {
            fs::create_dir_all(directory).map_err(|e| Failure {
                code: 126,
                message: format!("mkdir {}: {}", directory.display(), plain(&e)),
            })?;
        }
        std::env::set_current_dir(directory).map_err(|e| failure(&e))?;
        // A working directory reached through a leaked descriptor lies outside the root: the kernel then
        // prints "(unreachable)…" or nothing (CVE-2024-21626).
        match std::env::current_dir() {
            Ok(inside) if inside.is_absolute() => Ok(()),
            Ok(_) => Err(failure(&io::Error::other("current working directory is outside of container"))),
            Err(error) => Err(failure(&error)),
        }
    }

    fn drop_privileges(&self) -> Result<(), Failure> {
        let step = |what: &'static str| move |error: io::Error| Failure::new(what, &error);
        let held = Set::held();
        let kept = self.capabilities.and(held);
        let groups: Vec<libc::gid_t> = self.user.additional_gids.clone();
        // SAFETY: a plain system call of a process with one thread; the pointer is to a live local of that length.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
            .map_err(step("set groups"))?;
        for bit in 0..NAMES.len() as u32 {
            if held.has(bit) && !kept.has(bit) {
                // SAFETY: no pointers are passed.
                check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit as libc::c_ulong, 0, 0, 0) }.into())
                    .map_err(step("drop bounding capability"))?;
            }
        }
        let (uid, gid) = (self.user.uid, self.user.gid);
        // SAFETY: no pointers are passed; the process has one thread, so raw calls change all of it.
        unsafe {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())
                .map_err(step("keep capabilities"))?;
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid)).map_err(step("set group"))?;
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid)).map_err(step("set user"))?;
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0).into())
                .map_err(step("keep capabilities"))?;
            check(
                libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0)
                    .into(),
            )
            .map_err(step("clear ambient capabilities"))?;
        }
        set_capabilities(Set(kept.0 | (held.0 & 1 << SYS_ADMIN))).map_err(step("set capabilities"))?;
        if self.no_new_privileges {
            // SAFETY: no pointers are passed.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
                .map_err(step("set no_new_privs"))?;
        }
        if let Some(program) = &self.seccomp {
            program.install().map_err(step("install seccomp filter"))?;
        }
        set_capabilities(kept).map_err(step("set capabilities"))
    }

    /// Returns only when it fails.
    fn exec(&self) -> Failure {
        let Some(name) = self.args.first() else {
            return Failure { code: 127, message: "no command specified".into() };
        };
        let env = self.environment();
        let strings =
            |list: &[String]| list.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>();
        let (Ok(args), Ok(envs)) = (strings(&self.args), strings(&env)) else {
            return Failure { code: 126, message: format!("exec: {name:?}: argument holds a NUL") };
        };
        let try_exec = |path: &Path| -> io::Error {
            match CString::new(path.as_os_str().as_bytes()) {
                Ok(path) => match nix::unistd::execve(&path, &args, &envs) {
                    Ok(never) => match never {},
                    Err(errno) => io::Error::from(errno),
                },
                Err(_) => io::Error::from(io::ErrorKind::InvalidInput),
            }
        };
        if name.contains('/') {
            let error = try_exec(Path::new(name));
            return failure_of(name, name, &error);
        }
        let path = env.iter().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(PATH_DEFAULT);
        for directory in path.split(':') {
            let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
            let error = try_exec(&candidate);
            match error.raw_os_error() {
                // What may not be run is looked over, too.
                Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES) => {}
                _ => return failure_of(name, &candidate.to_string_lossy(), &error),
            }
        }
        Failure { code: 127, message: format!("exec: {name:?}: executable file not found in $PATH") }
    }

    /// The environment, with `HOME` from the container's own passwd file when nobody set it.
    fn environment(&self) -> Vec<String> {
        let mut env = self.env.clone();
        if !env.iter().any(|v| v.starts_with("PATH=")) {
            env.push(format!("PATH={PATH_DEFAULT}"));
        }
        if !env.iter().any(|v| v.starts_with("HOME=")) {
            env.push(format!("HOME={}", home_of(self.user.uid)));
        }
        env
    }
}

/// In the words of runc: the first three are what its search for the command finds, the last is what exec itself says.
fn failure_of(name: &str, path: &str, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) if !Path::new(path).exists() => {
            Failure { code: 127, message: format!("exec: {name:?}: stat {path}: {}", plain(error)) }
        }
        Some(libc::EACCES) if Path::new(path).is_dir() => {
            Failure { code: 126, message: format!("exec: {name:?}: is a directory") }
        }
        Some(libc::EACCES) => Failure { code: 126, message: format!("exec: {name:?}: permission denied") },
        _ => Failure { code: 126, message: format!("exec {path}: {}", plain(error)) },
    }
}

/// The container may have replaced the file by anything, so only a plain, small one is read.
fn home_of(uid: u32) -> String {
    const BYTES_MAX: u64 = 1 << 20;
    let path = Path::new("/etc/passwd");
    let text = match fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= BYTES_MAX => fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    };
    let home = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 6 && fields[2].parse() == Ok(uid)).then(|| fields[5].to_owned())
    });
    home.filter(|h| !h.is_empty()).unwrap_or_else(|| if uid == 0 { "/root".into() } else { "/".into() })
}

/// The helper ignores and blocks signals; its child must not inherit that.
fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: setting a default disposition involves no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective and permitted to `set`, inheritable to nothing.
fn set_capabilities(set: Set) -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |bits: u32| CapabilityData { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(set.0 as u32), half((set.0 >> 32) as u32)];
    // SAFETY: both structures have the kernel's layout for this version and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}
