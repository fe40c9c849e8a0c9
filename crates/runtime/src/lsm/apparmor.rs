//! AppArmor profiles: those of the machine by their name, and the default one that container engines give to whoever names
//! none. The kernel takes profiles only as AppArmor's own parser compiles them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Once;

use parking_lot::Mutex;

use super::Kernel;
use crate::spec::AppArmor;

/// What the default profile is called in the kernel.
pub(super) const DEFAULT: &str = "stoa-default";

/// Where the kernel is spoken to about profiles.
const SECURITY: &str = "sys/kernel/security/apparmor";

/// Where distributions put the parser.
const PARSERS: [&str; 2] = ["sbin/apparmor_parser", "usr/sbin/apparmor_parser"];

/// The rules of the engines' default: everything that capabilities and the system call filter leave, but no mounts, nothing
/// of the kernel's switches below `/proc` and `/sys`, and signals and traces only among the confined.
const PROFILE: &str = r#"profile stoa-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (send,receive) peer=stoa-default,
  ptrace (trace,read,tracedby,readby) peer=stoa-default,

  deny mount,

  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
"#;

/// What became of the default profile.
#[derive(Debug)]
pub(super) struct Default {
    /// Whether this process loaded it: one of an older version is replaced once.
    is_ours: Mutex<bool>,
    /// That nobody is confined is worth one line, not one a container.
    warning: Once,
}

impl Default {
    pub(super) fn new() -> Default {
        Default { is_ours: Mutex::new(false), warning: Once::new() }
    }
}

impl Kernel {
    fn is_apparmor_enabled(&self) -> bool {
        self.read("sys/module/apparmor/parameters/enabled").is_some_and(|enabled| enabled == "Y")
    }

    /// Whether profiles can be looked up and loaded. Inside a container on a machine with AppArmor the module says that it is
    /// enabled, and the file system by which it is spoken to is not there.
    pub(super) fn has_apparmor(&self) -> bool {
        self.is_apparmor_enabled() && self.path(SECURITY).is_dir()
    }

    fn warn_unconfined(&self, why: &str) {
        self.profile.warning.call_once(|| {
            tracing::warn!(why, "the kernel has AppArmor, and containers run without a profile of it");
        });
    }

    /// The profile of a container, or why it cannot be had.
    pub(super) fn plan_apparmor(&self, asked: &AppArmor, privileged: bool) -> Result<Option<String>, String> {
        if !self.has_apparmor() {
            return match asked {
                AppArmor::Unset => {
                    if self.is_apparmor_enabled() && !privileged {
                        self.warn_unconfined(&format!("/{SECURITY} is not there"));
                    }
                    Ok(None)
                }
                AppArmor::Unconfined => Ok(None),
                AppArmor::RuntimeDefault | AppArmor::Localhost(_) => {
                    Err("AppArmor is not enabled on the host".to_owned())
                }
            };
        }
        match asked {
            AppArmor::Unconfined => Ok(None),
            AppArmor::Unset | AppArmor::RuntimeDefault if privileged => Ok(None),
            AppArmor::RuntimeDefault => self.load_default().map(|()| Some(DEFAULT.to_owned())),
            AppArmor::Unset => match self.load_default() {
                Ok(()) => Ok(Some(DEFAULT.to_owned())),
                // Nobody asked for it, and without the parser no engine has one to give.
                Err(why) if self.parser().is_none() => {
                    self.warn_unconfined(&why);
                    Ok(None)
                }
                Err(why) => Err(why),
            },
            AppArmor::Localhost(name) => match self.is_loaded(name)? {
                true => Ok(Some(name.clone())),
                false => Err(format!("apparmor profile not found {name}")),
            },
        }
    }

    /// Whether the kernel lists a profile: `name (mode)` a line.
    fn is_loaded(&self, name: &str) -> Result<bool, String> {
        let path = self.path(SECURITY).join("profiles");
        let listed = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read the loaded AppArmor profiles from {}: {e}", path.display()))?;
        Ok(listed.lines().filter_map(|line| line.rsplit_once(" (")).any(|(loaded, _)| loaded == name))
    }

    fn parser(&self) -> Option<std::path::PathBuf> {
        PARSERS.iter().map(|p| self.path(p)).find(|p| p.exists())
    }

    fn load_default(&self) -> Result<(), String> {
        let mut is_ours = self.profile.is_ours.lock();
        if *is_ours && self.is_loaded(DEFAULT)? {
            return Ok(());
        }
        let Some(parser) = self.parser() else {
            // The one of an earlier process is better than none.
            return match self.is_loaded(DEFAULT)? {
                true => Ok(()),
                false => {
                    Err("apparmor_parser, which loads the default AppArmor profile, is not installed".into())
                }
            };
        };
        let failed = |e: std::io::Error| format!("cannot run {}: {e}", parser.display());
        let mut child = Command::new(&parser)
            .args(["--replace", "--skip-cache"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let told = child.stdin.take().map(|mut input| input.write_all(PROFILE.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() || !matches!(told, Some(Ok(()))) {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!("cannot load the default AppArmor profile: {why}"));
        }
        *is_ours = true;
        Ok(())
    }
}
