//! The first process of a process namespace that a pod's containers share. It holds nothing: an empty root, no rights,
//! no descriptors. It only reaps, and its death ends all of the pod's processes. The namespace is kept by a bind mount,
//! as the others of a pod are, so that containers find it by a path.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, fork};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use crate::cgroup::Tree;
use crate::error::Error;
use crate::helper::Helper;
use crate::init;
use crate::layout::{PodDir, read_json, write_json};
use crate::pod::unmount_all;
use crate::process::Identity;
use crate::spec::Limits;

/// Below a pod's cgroup.
const CGROUP: &str = "pause";
/// Nobody, not even the nobody of the container's own files.
const NOBODY: u32 = 65_535;
/// It needs next to nothing.
const CPU_SHARES: u64 = 2;

/// Makes the namespace, unless it is there and alive. Its path is `dir.namespace("pid")`.
pub(crate) fn ensure(helper: &Helper, tree: &Tree, dir: &PodDir, pod_cgroup: &str) -> Result<(), Error> {
    let held: Option<Identity> = read_json(&dir.pause());
    if held.is_some_and(|h| h.runs()) {
        return Ok(());
    }
    let path = dir.namespace("pid");
    unmount_all(&path).map_err(Error::io("unmount", &path))?;
    fs::write(&path, "").map_err(Error::io("make", &path))?;
    let cgroup = format!("{pod_cgroup}/{CGROUP}");
    let limits = Limits { cpu_shares: Some(CPU_SHARES), ..Limits::default() };
    tree.create(&cgroup, &limits).map_err(Error::io("make cgroup", &cgroup))?;
    let args = [dir.dir().as_os_str(), cgroup.as_ref()];
    let mut command = helper.command("pause", &args);
    // Outside the agent's own group, so that what ends the agent by its terminal leaves this alone.
    let output = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).output();
    let output = output.map_err(Error::io("start the first process of", dir.dir()))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::io("make the process namespace of", dir.dir())(io::Error::other(why)))
}

/// Runs it: `pause DIRECTORY CGROUP`. To be called first thing in `main`, before any thread.
pub fn main(args: &[OsString]) -> ExitCode {
    let [directory, cgroup] = args else {
        eprintln!("usage: pause DIRECTORY CGROUP");
        return ExitCode::from(2);
    };
    match make(&PodDir(PathBuf::from(directory)), &cgroup.to_string_lossy()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make(dir: &PodDir, cgroup: &str) -> io::Result<()> {
    Tree::discover()?.join_self(cgroup)?;
    let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread; the flag only concerns its children.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }?;
    // SAFETY: this process has one thread, so its copy may do anything.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ready);
            let mut tell = fs::File::from(tell);
            match vanish(dir.dir()) {
                Ok(()) => {
                    let _ = tell.write_all(b"+");
                    drop(tell);
                    hold()
                }
                Err(error) => {
                    let _ = tell.write_all(error.to_string().as_bytes());
                    // SAFETY: ends the copy without running exit handlers of its parent.
                    unsafe { libc::_exit(1) }
                }
            }
        }
        ForkResult::Parent { child } => {
            drop(tell);
            let said = io::read_to_string(fs::File::from(ready))?;
            if said != "+" {
                return Err(io::Error::other(said));
            }
            let identity =
                Identity::of(child.as_raw()).ok_or_else(|| io::Error::other("it ended at once"))?;
            mount_bind(format!("/proc/{child}/ns/pid"), dir.namespace("pid"))?;
            write_json(&dir.pause(), &identity)
        }
    }
}

/// Gives up everything: the machine's files, every right.
fn vanish(scratch: &Path) -> io::Result<()> {
    nix::unistd::setsid()?;
    SigSet::all().thread_block()?;
    // Without CAP_SYS_RESOURCE it stays as it is.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    // SAFETY: this process has one thread and shares its table of mounts with nobody.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("stoa", scratch, "tmpfs", flags, c"size=4k,mode=0555")?;
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    std::env::set_current_dir(scratch)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    nix::unistd::setgroups(&[])?;
    let (gid, uid) = (nix::unistd::Gid::from_raw(NOBODY), nix::unistd::Uid::from_raw(NOBODY));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    // SAFETY: no memory is involved beyond the constant name.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr());
    }
    Ok(())
}

fn hold() -> ! {
    loop {
        // Signals from the containers mean nothing to it; SIGKILL from the machine cannot be missed.
        if init::next_signal().is_err() {
            std::thread::park();
        }
        let _ = init::reap(None);
    }
}
