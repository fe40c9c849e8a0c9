//! The fetcher: brings what a task's `CommandInfo.uris` name into its sandbox before the task starts.
//!
//! Downloads are made by the agent into a directory of its own; everything that touches the sandbox or the machine's files
//! is done as the task's user, so that a task cannot read through the fetcher what it could not read itself. Each URI that
//! may be cached is downloaded once for a user, however many tasks want it at a time.

use super::download;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

/// A URI that brings nothing for so long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long all of a task's URIs may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// Most bytes of one download.
const DOWNLOAD_BYTES_MAX: u64 = 16 << 30;
/// Most bytes that the cache keeps; the least lately used go first.
const CACHE_BYTES_MAX: u64 = 2 << 30;
/// Most URIs of one container.
const URIS_MAX: usize = 256;

/// What an archive is called, and what takes it apart. The program finds the compression itself.
const ARCHIVES: [(&str, &str); 11] = [
    (".tar", "tar"),
    (".tar.gz", "tar"),
    (".tgz", "tar"),
    (".tar.bz2", "tar"),
    (".tbz2", "tar"),
    (".tbz", "tar"),
    (".tar.xz", "tar"),
    (".txz", "tar"),
    (".tar.zst", "tar"),
    (".zip", "unzip"),
    (".gz", "gzip"),
];

/// One of `CommandInfo.uris`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Uri {
    value: String,
    #[serde(default)]
    executable: Option<bool>,
    #[serde(default)]
    extract: Option<bool>,
    #[serde(default)]
    cache: Option<bool>,
    #[serde(default)]
    output_file: Option<String>,
}

/// On pods: what is fetched before a container starts, by container.
const FETCH: &str = "stoa.dev/fetch";

/// What is to be fetched for a container.
pub(crate) fn uris(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> Result<Vec<Uri>, String> {
    let text = pod.metadata.annotations.as_ref().and_then(|a| a.get(FETCH));
    let Some(text) = text.filter(|_| super::is_task(pod)) else { return Ok(vec![]) };
    let mut all: HashMap<String, Vec<Uri>> =
        serde_json::from_str(text).map_err(|e| format!("Failed to fetch: the URIs cannot be read: {e}"))?;
    Ok(all.remove(container).unwrap_or_default())
}

/// Where a URI's content comes from.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    File(PathBuf),
    Http(http::Uri),
}

impl Uri {
    fn source(&self) -> Result<Source, String> {
        let value = self.value.trim();
        if let Some(path) = value.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Source::File(path.into())),
                false => Err(format!("File URI '{value}' is not absolute")),
            };
        }
        if value.starts_with('/') {
            return Ok(Source::File(value.into()));
        }
        match value.split_once("://") {
            Some(("http" | "https", _)) => {
                value.parse().map(Source::Http).map_err(|e| format!("'{value}' is no URI: {e}"))
            }
            Some((scheme, _)) => Err(format!("URIs of scheme '{scheme}' cannot be fetched by this agent")),
            None => Err(format!("Relative URI '{value}' cannot be fetched by this agent")),
        }
    }

    /// The file's path in the sandbox, and never outside of it.
    fn target(&self) -> Result<PathBuf, String> {
        let own = self.output_file.as_deref().filter(|f| !f.is_empty());
        let last = || {
            let path = self.value.split(['?', '#']).next().unwrap_or_default();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        let name = own.map_or_else(last, str::to_owned);
        let path = PathBuf::from(&name);
        let is_inside = path.components().all(|c| matches!(c, Component::Normal(_)));
        if name.is_empty() || name.contains('\0') || !is_inside {
            return Err(format!("'{}' names no file in the sandbox", self.value));
        }
        Ok(path)
    }

    /// What takes the file apart, if it is to be.
    fn archive(&self, target: &Path) -> Option<&'static str> {
        if self.executable == Some(true) || self.extract == Some(false) {
            return None;
        }
        let name = target.file_name()?.to_str()?.to_ascii_lowercase();
        // The longest suffix decides: `.tar.gz` is no `.gz`.
        let found = ARCHIVES.iter().filter(|(suffix, _)| name.ends_with(suffix));
        found.max_by_key(|(suffix, _)| suffix.len()).map(|(_, program)| *program)
    }
}

/// As whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct As {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// How far the fetching for a container is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fetched {
    Running,
    Done(Result<(), String>),
}

/// See the module.
pub(crate) struct Fetcher {
    dir: PathBuf,
    /// What no task may read, even as root: the agent's own directories.
    hidden: Vec<PathBuf>,
    jobs: Mutex<HashMap<String, Fetched>>,
    /// One download of one thing at a time.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    /// A fetcher with its cache in `dir`.
    pub(crate) fn new(dir: PathBuf, hidden: Vec<PathBuf>) -> Fetcher {
        Fetcher { dir, hidden, jobs: Mutex::default(), turns: Mutex::default() }
    }

    /// Fetches in the background, once for each `job`; says how far it is.
    pub(crate) fn poll(self: &Arc<Self>, job: &str, uris: &[Uri], sandbox: &Path, who: As) -> Fetched {
        let mut jobs = self.jobs.lock();
        if let Some(known) = jobs.get(job) {
            return known.clone();
        }
        jobs.insert(job.to_owned(), Fetched::Running);
        drop(jobs);
        let (fetcher, job) = (Arc::clone(self), job.to_owned());
        let (uris, sandbox) = (uris.to_vec(), sandbox.to_owned());
        tokio::spawn(async move {
            let all = tokio::time::timeout(FETCH_TIMEOUT, fetcher.fetch_all(&uris, &sandbox, who));
            let done = all.await.unwrap_or_else(|_| Err("Fetching took too long".to_owned()));
            fetcher.jobs.lock().insert(job, Fetched::Done(done));
        });
        Fetched::Running
    }

    /// A container is over: what was noted of it can go.
    pub(crate) fn forget(&self, pod: &str) {
        self.jobs.lock().retain(|job, _| !job.starts_with(pod));
    }

    async fn fetch_all(&self, uris: &[Uri], sandbox: &Path, who: As) -> Result<(), String> {
        if uris.len() > URIS_MAX {
            return Err(format!("More than {URIS_MAX} URIs"));
        }
        for uri in uris {
            self.fetch(uri, sandbox, who)
                .await
                .map_err(|e| format!("Failed to fetch '{}': {e}", uri.value))?;
        }
        Ok(())
    }

    async fn fetch(&self, uri: &Uri, sandbox: &Path, who: As) -> Result<(), String> {
        let target = uri.target()?;
        let place = sandbox.join(&target);
        if let Some(dir) = target.parent().filter(|d| !d.as_os_str().is_empty()) {
            run(program("mkdir", sandbox, who).arg("-p").arg("--").arg(dir)).await?;
        }
        match uri.source()? {
            Source::File(path) => {
                self.check_visible(&path)?;
                run(program("cp", sandbox, who).args(["-T", "--"]).arg(&path).arg(&place)).await?;
            }
            Source::Http(address) => {
                let held = self.download(uri, &address, who).await?;
                let copied = give(&held.path, &place, sandbox, who).await;
                if !held.is_cached {
                    let _ = tokio::fs::remove_file(&held.path).await;
                }
                copied?;
            }
        }
        if uri.executable == Some(true) {
            run(program("chmod", sandbox, who).args(["a+x", "--"]).arg(&place)).await?;
        }
        match uri.archive(&target) {
            Some("tar") => {
                run(program("tar", sandbox, who).args(["--no-same-owner", "-xf"]).arg(&place)).await
            }
            Some("unzip") => run(program("unzip", sandbox, who).args(["-o", "-q"]).arg(&place)).await,
            Some(_) => run(program("gzip", sandbox, who).args(["-d", "-k", "-f", "--"]).arg(&place)).await,
            None => Ok(()),
        }
    }

    fn check_visible(&self, path: &Path) -> Result<(), String> {
        let real = path.canonicalize().map_err(|e| e.to_string())?;
        let is_hidden = |dir: &PathBuf| dir.canonicalize().is_ok_and(|d| real.starts_with(d));
        match self.hidden.iter().any(is_hidden) {
            true => Err("no such file".to_owned()),
            false => Ok(()),
        }
    }

    /// Downloads, or finds what was downloaded before for the same user.
    async fn download(&self, uri: &Uri, address: &http::Uri, who: As) -> Result<Held, String> {
        tokio::fs::create_dir_all(&self.dir).await.map_err(|e| e.to_string())?;
        let _ =
            tokio::fs::set_permissions(&self.dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).await;
        let is_cached = uri.cache == Some(true);
        if !is_cached {
            let path = self.dir.join(format!("{}.part", uuid::Uuid::new_v4().simple()));
            let got = download::get(address, &path, STALL_TIMEOUT, DOWNLOAD_BYTES_MAX).await;
            if got.is_err() {
                let _ = tokio::fs::remove_file(&path).await;
            }
            return got.map(|()| Held { path, is_cached });
        }
        let key = cache_key(who.uid, &uri.value);
        let path = self.dir.join(&key);
        let turn = Arc::clone(self.turns.lock().entry(key).or_default());
        let _turn = turn.lock().await;
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            touch(&path);
            return Ok(Held { path, is_cached });
        }
        let part = path.with_extension("part");
        let got = download::get(address, &part, STALL_TIMEOUT, DOWNLOAD_BYTES_MAX).await;
        if let Err(why) = got {
            let _ = tokio::fs::remove_file(&part).await;
            return Err(why);
        }
        tokio::fs::rename(&part, &path).await.map_err(|e| e.to_string())?;
        let (dir, keep) = (self.dir.clone(), path.clone());
        let _ = tokio::task::spawn_blocking(move || evict(&dir, &keep, CACHE_BYTES_MAX)).await;
        Ok(Held { path, is_cached })
    }
}

struct Held {
    path: PathBuf,
    is_cached: bool,
}

/// FNV over the user and the URI, twice with other seeds: names files, proves nothing.
fn cache_key(uid: u32, value: &str) -> String {
    let hash = |seed: u64| {
        let bytes = uid.to_le_bytes().into_iter().chain(value.bytes());
        bytes.fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    format!("{uid}-{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142))
}

/// Marks a file as used just now, by the kernel's clock.
fn touch(path: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty());
}

/// Removes what was not used for longest until the rest fits.
fn evict(dir: &Path, keep: &Path, bytes_max: u64) {
    let mut all: Vec<(std::time::SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some() || path == keep {
            continue;
        }
        if let Ok(meta) = entry.metadata() {
            all.push((meta.modified().unwrap_or(std::time::UNIX_EPOCH), meta.len(), path));
        }
    }
    all.sort();
    let mut sum: u64 = all.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in all {
        if sum <= bytes_max {
            return;
        }
        if std::fs::remove_file(&path).is_ok() {
            sum -= len;
        }
    }
}

/// A program as the task's user, in the sandbox, with nothing of the agent's environment.
fn program(name: &str, sandbox: &Path, who: As) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", sandbox)
        .current_dir(sandbox)
        .uid(who.uid)
        .gid(who.gid)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(command: &mut Command) -> Result<(), String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let done = command.output().await.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("this agent has no `{name}`"),
        _ => format!("cannot run `{name}`: {e}"),
    })?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr);
    let words: String = words.trim().chars().take(512).collect();
    Err(format!("{name}: {words}"))
}

/// Copies the agent's file into the sandbox through a process of the task's user, whose file it then is.
async fn give(from: &Path, to: &Path, sandbox: &Path, who: As) -> Result<(), String> {
    let file = std::fs::File::open(from).map_err(|e| e.to_string())?;
    let target = format!("of={}", to.display());
    run(program("dd", sandbox, who).arg(target).args(["bs=1M", "status=none"]).stdin(file)).await
}

#[cfg(test)]
mod tests;
