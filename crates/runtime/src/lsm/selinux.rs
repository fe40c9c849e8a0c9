//! SELinux labels as container engines choose them: of the machine's policy for containers, what a pod names put over it, and
//! a pair of categories that no other pod has, so that pods are kept apart though all are of one type. Who names nothing is
//! not labelled, as under an engine that was not told to: the policy may know nothing of what starts our containers.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, XattrFlags, lsetxattr, open};
use rustix::io::Errno;

use super::Kernel;
use crate::error::Error;
use crate::spec::{PodSpec, SeLinux};

/// Labels where the policy has none for containers.
const PROCESS: &str = "system_u:system_r:container_t:s0";
const FILE: &str = "system_u:object_r:container_file_t:s0";

/// Categories that policies have.
const CATEGORIES: u64 = 1_024;

/// The extended attribute that holds a label.
const ATTRIBUTE: &str = "security.selinux";
const DEPTH_MAX: usize = 64;

/// A label taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Label {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Label {
    fn parse(text: &str) -> Option<Label> {
        let mut parts = text.trim().splitn(4, ':').map(str::to_owned);
        Some(Label { user: parts.next()?, role: parts.next()?, kind: parts.next()?, level: parts.next() })
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.as_ref().map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

/// Refuses parts of a label that would be more than that: a label is also an option of mounts, in which a comma, a quotation
/// mark or a NUL ends it and begins the next option.
fn check_parts(asked: &SeLinux) -> Result<(), String> {
    let parts =
        [("user", &asked.user), ("role", &asked.role), ("type", &asked.kind), ("level", &asked.level)];
    for (name, part) in parts {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        // Only a level has parts of its own: `s0-s1:c0,c3`.
        let is_allowed = |b: u8| is_plain(b) || (name == "level" && b":,".contains(&b));
        if let Some(part) = part.as_ref().filter(|p| p.is_empty() || !p.bytes().all(is_allowed)) {
            return Err(format!("SELinux {name} {part:?} holds what no label has"));
        }
    }
    Ok(())
}

impl Kernel {
    fn has_selinux(&self) -> bool {
        self.path("sys/fs/selinux/enforce").exists()
    }

    /// What the policy says of containers: `process = "…"` and `file = "…"` a line.
    fn policy(&self) -> Option<(Label, Label)> {
        let config = self.read("etc/selinux/config")?;
        let policy = config.lines().find_map(|l| l.trim().strip_prefix("SELINUXTYPE="))?.trim();
        let text = self.read(&format!("etc/selinux/{policy}/contexts/lxc_contexts"))?;
        let field = |name: &str| {
            let (_, value) =
                text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == name)?;
            Label::parse(value.trim().trim_matches('"'))
        };
        Some((field("process")?, field("file")?))
    }

    /// Labels of processes and of files. Without SELinux options mean nothing, as to every engine. Where the policy knows no
    /// containers the usual labels are tried, and the kernel has the last word.
    pub(super) fn plan_labels(
        &self,
        asked: Option<&SeLinux>,
        level: Option<&str>,
    ) -> Result<Option<(String, String)>, String> {
        let Some(asked) = asked.filter(|_| self.has_selinux()).cloned() else { return Ok(None) };
        check_parts(&asked)?;
        let usual = || Some((Label::parse(PROCESS)?, Label::parse(FILE)?));
        let Some((mut process, mut file)) = self.policy().or_else(usual) else { return Ok(None) };
        let has_levels = self.read("sys/fs/selinux/mls").is_some_and(|mls| mls == "1");
        let own = asked.level.or(level.map(str::to_owned)).or(process.level).filter(|_| has_levels);
        process.level = own.clone();
        file.level = own;
        if let Some(user) = asked.user {
            file.user.clone_from(&user);
            process.user = user;
        }
        process.role = asked.role.unwrap_or(process.role);
        process.kind = asked.kind.unwrap_or(process.kind);
        Ok(Some((process.to_string(), file.to_string())))
    }

    /// The level of a new pod: its own, or one with categories that none of `pods` has.
    pub(crate) fn choose_level<'a>(
        &self,
        pod: &PodSpec,
        pods: impl Iterator<Item = &'a PodSpec>,
    ) -> Result<Option<String>, Error> {
        let own = pod.selinux.as_ref().and_then(|s| s.level.clone());
        if own.is_some() || !self.has_selinux() {
            return Ok(own);
        }
        let taken: HashSet<&str> = pods.filter_map(|p| p.level.as_deref()).collect();
        let mut hasher = DefaultHasher::new();
        pod.uid.hash(&mut hasher);
        let first = hasher.finish();
        // The lower category first: of every two pairs one is the other turned round.
        let pairs = (0..CATEGORIES * CATEGORIES).map(|n| first.wrapping_add(n) % (CATEGORIES * CATEGORIES));
        let found = pairs
            .map(|pair| (pair / CATEGORIES, pair % CATEGORIES))
            .filter(|(low, high)| low < high)
            .map(|(low, high)| format!("s0:c{low},c{high}"))
            .find(|level| !taken.contains(&**level));
        found
            .map(Some)
            .ok_or_else(|| Error::Invalid { what: "pod", why: "all pairs of categories are taken".into() })
    }
}

/// Marks a file, or a directory with all that is in it; links are marked, never followed. What lies on a file system without
/// labels stays as it is.
pub(crate) fn relabel(path: &Path, label: &str) -> io::Result<()> {
    let mark = |path: &Path| lsetxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty());
    mark_below(path, path, &mark, DEPTH_MAX)
}

pub(super) fn mark_below(
    named: &Path,
    path: &Path,
    mark: &dyn Fn(&Path) -> Result<(), Errno>,
    depth: usize,
) -> io::Result<()> {
    match mark(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::NOTSUP | Errno::ROFS) => return Ok(()),
        Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", named.display()))),
    }
    if depth == 0 {
        return Ok(());
    }
    // Held open: whoever writes to a volume could put a link in the place of a directory meanwhile.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let directory = match open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let held = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    for entry in std::fs::read_dir(&held)? {
        let name = entry?.file_name();
        mark_below(&named.join(&name), &held.join(&name), mark, depth - 1)?;
    }
    Ok(())
}
