//! The helper that stays with a container: it makes it, keeps its streams flowing and writes down how it ended, so
//! that the agent may come and go. One process a container, no threads, no tokio.

mod log;
mod membership;
mod order;
mod plain;
mod pump;
mod rootfs;
mod target;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use stoa_units::{Clock, SystemClock, Time};

pub(crate) use membership::Inherited;
pub(crate) use order::{Order, Record, Report, dies_as_one};
pub(crate) use pump::{receive_descriptor, resize};

use crate::capability::{self, Set};
use crate::cgroup::Tree;
use crate::executor::LaunchExecutor;
use crate::init::Group;
use crate::launch::{Failure, Launch};
use crate::layout::{Bundle, PodDir, read_json, write_json};
use crate::lsm;
use crate::process::Identity;
use crate::seccomp;
use crate::spec::{ContainerSpec, Propagation, Rootfs, Source};
use crate::state::{Exit, ExitReason};
use crate::users::{self, Users};

/// What a pod's status shows for a command that could not be run.
pub(crate) const START_ERROR_CODE: i32 = 128;

/// Runs the helper for the bundle named by the only argument. To be called first thing in `main`, before any thread.
pub fn main(args: &[OsString]) -> ExitCode {
    let Some(directory) = args.first() else {
        eprintln!("usage: shim BUNDLE");
        return ExitCode::from(2);
    };
    match Shim::begin(PathBuf::from(directory)).and_then(Shim::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Shim {
    bundle: Bundle,
    order: Order,
    report: File,
    tree: Tree,
    clock: SystemClock,
    me: Identity,
}

/// Why there is no container.
enum Refusal {
    /// It could not be made.
    Create(String),
    /// It was made, but its command did not run.
    Start(Failure),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Create(error.to_string())
    }
}

impl From<crate::Error> for Refusal {
    fn from(error: crate::Error) -> Refusal {
        Refusal::Create(chain(&error))
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

impl Shim {
    fn begin(directory: PathBuf) -> io::Result<Shim> {
        let bundle = Bundle(directory);
        let order: Order =
            read_json(&bundle.order()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        // Descriptor 1 is the agent's pipe; the container must never meet it.
        let report = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
        rustix::stdio::dup2_stdout(pump::null()?)?;
        let _ = nix::unistd::setsid();
        // SAFETY: no pointers are passed; both settings concern this process only.
        unsafe {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_NAME, c"stoa-shim".as_ptr());
        }
        std::env::set_current_dir("/")?;
        let me = Identity::of(std::process::id() as i32).ok_or_else(|| io::Error::other("no /proc"))?;
        write_json(&bundle.state(), &Record { helper: me.clone(), init: None, started_at: None })?;
        if bundle.exit().exists() {
            return Err(io::Error::other("a later agent gave this container up"));
        }
        Ok(Shim { bundle, order, report, tree: Tree::discover()?, clock: SystemClock, me })
    }

    fn run(mut self) -> io::Result<()> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // Before the container, since a command that runs without its log would be worse than none.
        let outside = self.open_log().and_then(|log| Ok((log, self.listen("attach.sock")?)));
        let started = match outside {
            Ok(outside) => self.start().map(|started| (outside, started)),
            Err(error) => Err(Refusal::Create(format!("cannot open log: {error}"))),
        };
        match started {
            Ok(((log, listener), (init, pipes, started_at))) => {
                self.tell(&Report::Started { pid: init.as_raw(), started_at })?;
                let once = self.order.spec.stdin_once;
                let pump = pump::Pump::new(pipes, log, init, once, signals, listener)?;
                crate::helper::give_back();
                self.stay(pump, started_at)
            }
            Err(refusal) => {
                self.tree.kill(&self.order.cgroup);
                while waitpid(None::<Pid>, None).is_ok() {}
                let (report, message) = match refusal {
                    Refusal::Create(message) => (Report::NotCreated { message: message.clone() }, message),
                    Refusal::Start(failure) => (Report::NotStarted(failure.clone()), failure.message),
                };
                let exit = Exit {
                    id: self.order.spec.id.clone(),
                    pod_uid: self.order.pod.uid.clone(),
                    code: START_ERROR_CODE,
                    signal: None,
                    reason: ExitReason::StartError,
                    message,
                    started_at: None,
                    finished_at: self.clock.now(),
                };
                write_json(&self.bundle.exit(), &exit)?;
                self.clean();
                self.tell(&report)
            }
        }
    }

    /// The pipe is closed with the one line it carries.
    fn tell(&mut self, report: &Report) -> io::Result<()> {
        // An agent that died meanwhile reads the state file instead.
        let _ = self.report.write_all(&serde_json::to_vec(report)?);
        self.report = pump::null()?;
        Ok(())
    }

    fn launch(&self, users: Option<&Users>, proc: &OwnedFd) -> Result<Launch, crate::Error> {
        let spec = &self.order.spec;
        let capabilities = capability::resolve(&spec.capabilities, spec.privileged)?.and(Set::held());
        let cwd = match &spec.rootfs {
            Rootfs::Host { sandbox } if spec.cwd.as_os_str().is_empty() => sandbox.clone(),
            _ => spec.cwd.clone(),
        };
        let mut env = spec.env.clone();
        if !env.iter().any(|v| v.starts_with("HOSTNAME=")) && !self.order.pod.hostname.is_empty() {
            env.push(format!("HOSTNAME={}", self.order.pod.hostname));
        }
        if spec.tty && !env.iter().any(|v| v.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        Ok(Launch {
            args: spec.args.clone(),
            env,
            cwd,
            user: spec.user.clone(),
            capabilities,
            no_new_privileges: spec.no_new_privileges,
            init: spec.init.then_some(if spec.tty { Group::Shared } else { Group::Own }),
            users: users.map(|u| (u.namespace.as_raw_fd(), u.first)),
            seccomp: seccomp::compile(&spec.seccomp, spec.privileged, capabilities)?,
            confinement: spec.confinement.clone(),
            proc: Some(proc.as_raw_fd()),
        })
    }

    fn start(&mut self) -> Result<(Pid, pump::Pipes, Time), Refusal> {
        let pod_dir = PodDir(self.order.pod_dir.clone());
        let users = self.order.pod.first_id().map(|first| Users::open(&pod_dir, first)).transpose()?;
        let proc = lsm::open_proc()?;
        let launch = self.launch(users.as_ref(), &proc)?;
        let mut spec = self.order.spec.clone();
        let spec = &mut spec;
        let (failed, report) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        self.tree.create(&self.order.cgroup, &spec.limits)?;
        self.tree.die_together(&self.order.cgroup)?;
        if let Some(rules) = crate::devices::rules(spec)? {
            self.tree.confine_devices(&self.order.cgroup, &rules)?;
        }
        let membership = membership::Membership::open(&self.tree, &self.order.cgroup, spec)?;
        let joined = self.joined()?;
        self.label_mounts()?;
        let detour = rootfs::Detour::enter(&self.order)?;
        rootfs::mount_root(&self.order, &self.bundle, users.as_ref())
            .map_err(|e| Refusal::Create(format!("cannot mount root file system: {e}")))?;
        rootfs::make_targets(&self.order, &self.bundle)
            .map_err(|e| Refusal::Create(format!("cannot make places for mounts: {e}")))?;
        if let Some(users) = &users {
            self.translate_mounts(users, spec)?;
        }
        let spec = &*spec;
        let config = crate::oci::render(
            spec,
            &self.order.pod,
            &pod_dir,
            &self.bundle.rootfs(),
            joined.as_ref().map(|(_, path)| path.as_path()),
        )?;
        write_json(&self.bundle.config(), &config)?;
        fs::create_dir_all(&self.order.library)?;

        let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
            .with_executor(LaunchExecutor {
                launch,
                report: report.as_raw_fd(),
                membership: membership.inherited(),
            })
            .with_root_path(&self.order.library)
            .map_err(|e| Refusal::Create(chain(&e)))?;
        let mut pipes = pump::Pipes { stdout: None, stderr: None, stdin: None, terminal: None };
        let mut console = None;
        if spec.tty {
            let path = self.bundle.dir().join("console.sock");
            console = Some(self.listen("console.sock")?);
            builder = builder.with_console_socket(Some(path));
        } else {
            let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
            let (out_read, out_write) = pipe()?;
            let (err_read, err_write) = pipe()?;
            (pipes.stdout, pipes.stderr) = (Some(out_read), Some(err_read));
            let input: OwnedFd = if spec.stdin {
                let (in_read, in_write) = pipe()?;
                pipes.stdin = Some(in_write);
                in_read
            } else {
                pump::null()?.into()
            };
            builder = builder.with_stdin(input).with_stdout(out_write).with_stderr(err_write);
        }
        let container = builder.as_init(self.bundle.dir()).with_systemd(false).with_detach(true).build();
        drop((report, membership, joined, proc));
        let mut container = container.map_err(|e| Refusal::Create(chain(&e)))?;
        detour.leave(&self.bundle)?;
        let init = container.pid().map(|p| p.as_raw()).unwrap_or(0);
        if let Some(console) = console {
            let (stream, _) = console.accept()?;
            let terminal = receive_descriptor(&stream)?
                .ok_or_else(|| Refusal::Create("the container's terminal was not handed over".into()))?;
            pipes.stdout = Some(terminal.try_clone()?);
            pipes.stdin = spec.stdin.then(|| terminal.try_clone()).transpose()?;
            pipes.terminal = Some(terminal);
        }
        self.adjust_oom_score(init);
        let mut record = Record { helper: self.me.clone(), init: Identity::of(init), started_at: None };
        write_json(&self.bundle.state(), &record)?;

        let started_at = self.clock.now();
        container.start().map_err(|e| Refusal::Create(chain(&e)))?;
        let mut failure = Vec::new();
        File::from(failed).read_to_end(&mut failure)?;
        if !failure.is_empty() {
            return Err(match serde_json::from_slice(&failure) {
                Ok(failure) => Refusal::Start(failure),
                Err(_) => Refusal::Create(String::from_utf8_lossy(&failure).into_owned()),
            });
        }
        record.started_at = Some(started_at);
        write_json(&self.bundle.state(), &record)?;
        Ok((Pid::from_raw(init), pipes, started_at))
    }

    /// The pod's own files become the container's before they are mounted.
    fn label_mounts(&self) -> Result<(), Refusal> {
        let spec = &self.order.spec;
        let Some(label) = &spec.confinement.file_label else { return Ok(()) };
        for mount in spec.mounts.iter().filter(|m| m.relabel) {
            if let Source::Bind(source) = &mount.source {
                lsm::relabel(source, label)
                    .map_err(|e| Refusal::Create(format!("cannot label a mount for SELinux: {e}")))?;
            }
        }
        Ok(())
    }

    /// What is mounted comes in through views that translate owners.
    fn translate_mounts(&self, users: &Users, spec: &mut ContainerSpec) -> Result<(), Refusal> {
        if spec.mounts.iter().any(|m| m.propagation == Propagation::Bidirectional) {
            return Err(Refusal::Create("users of the pod's own cannot mount for the machine".into()));
        }
        for (index, mount) in spec.mounts.iter_mut().enumerate() {
            let Source::Bind(source) = &mount.source else { continue };
            let view = users::view_path(self.bundle.dir(), "mount", index);
            users.mount_view(source, &view).map_err(|e| {
                Refusal::Create(format!("cannot mount {} with users of the pod's own: {e}", source.display()))
            })?;
            mount.source = Source::Bind(view);
        }
        Ok(())
    }

    /// The process namespace to join, held open: its path leads there even should the process end meanwhile.
    fn joined(&self) -> Result<Option<(File, PathBuf)>, Refusal> {
        let Some(process) = &self.order.joins else { return Ok(None) };
        let namespace = File::open(format!("/proc/{}/ns/pid", process.pid));
        // Looked at after opening, so that a reused number never stands for the wrong process.
        match namespace {
            Ok(file) if process.is_alive() => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                Ok(Some((file, path)))
            }
            _ => Err(Refusal::Create("the container whose processes shall be seen has ended".into())),
        }
    }

    /// Binds a socket in the bundle. By its short name, because a whole path may be longer than a socket address.
    fn listen(&self, name: &str) -> io::Result<UnixListener> {
        std::env::set_current_dir(self.bundle.dir())?;
        let _ = fs::remove_file(name);
        let listener = UnixListener::bind(name);
        std::env::set_current_dir("/")?;
        listener
    }

    /// Without CAP_SYS_RESOURCE a score below the current one is refused: then it stays as it is.
    fn adjust_oom_score(&self, init: i32) {
        let score = self.order.spec.oom_score_adj.clamp(-1000, 1000);
        if score != 0
            && let Err(error) = fs::write(format!("/proc/{init}/oom_score_adj"), score.to_string())
        {
            eprintln!("shim: oom_score_adj {score} not set: {error}");
        }
    }

    fn open_log(&self) -> io::Result<log::Log> {
        let order = &self.order;
        if let Some(directory) = order.spec.log_path.parent() {
            fs::create_dir_all(directory)?;
        }
        let clock = std::sync::Arc::new(self.clock);
        let mut log = log::Log::open(&order.spec.log_path, order.log_bytes_max, order.log_files_max, clock)?;
        let owner = (order.spec.user.uid, order.spec.user.gid);
        let copy = order.spec.output_dir.as_deref();
        log.plain = copy.map(|dir| plain::Plain::open(dir, owner, order.log_bytes_max));
        Ok(log)
    }

    fn stay(self, mut pump: pump::Pump, started_at: Time) -> io::Result<()> {
        let spec = &self.order.spec;
        let status = pump.run(|| {
            // Without a PID namespace of its own the container's other processes outlive the first.
            if !self.order.dies_as_one() {
                self.tree.kill(&self.order.cgroup);
            }
        });
        let (code, signal) = match status {
            WaitStatus::Exited(_, code) => (code, None),
            WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal as i32)),
            _ => (255, None),
        };
        let is_oom = code != 0 && self.tree.oom_kills(&self.order.cgroup) > 0;
        let reason = match code {
            _ if is_oom => ExitReason::OomKilled,
            0 => ExitReason::Completed,
            _ => ExitReason::Error,
        };
        let exit = Exit {
            id: spec.id.clone(),
            pod_uid: self.order.pod.uid.clone(),
            code,
            signal,
            reason,
            message: String::new(),
            started_at: Some(started_at),
            finished_at: self.clock.now(),
        };
        write_json(&self.bundle.exit(), &exit)?;
        // Attached clients see the end only now, when the exit is known.
        drop(pump);
        self.clean();
        Ok(())
    }

    /// What the library and the kernel keep of a container that ended.
    fn clean(&self) {
        let _ = fs::remove_dir_all(self.order.library.join(&self.order.spec.id));
        if let Err(error) = self.tree.remove(&self.order.cgroup) {
            eprintln!("shim: cgroup {} stays: {error}", self.order.cgroup);
        }
    }
}
