//! Container logs: lines as `<time> <stream> <F|P> <text>`, one file a life, older parts of it in `.1`, `.2`, …
//! Reading follows a growing file and its rotation until the container has ended.

use bytes::Bytes;
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stoa_units::Time;
use stoa_wire::{Channel, Frame, LogOptions};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Bytes read at once.
const CHUNK_LEN: usize = 64 * 1024;
/// A line longer than this is passed on in pieces.
const LINE_LEN_MAX: usize = 1024 * 1024;
/// A follower looks again at least this often, whatever the kernel tells it.
const POLL: Duration = Duration::from_millis(500);
/// More rotated files than this are not looked for.
const ROTATED_MAX: u32 = 100;
/// How often the parts are opened again because they were rotated meanwhile: whoever writes faster than that has no order.
const REOPENS_MAX: u32 = 100;

/// What of a line is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    timestamps: bool,
    since: Option<Time>,
    stream: Option<&'static str>,
    left: Option<u64>,
}

impl Filter {
    pub(crate) fn new(options: &LogOptions, now: Time) -> Filter {
        let since = match (&options.since_time, options.since_seconds) {
            (Some(text), _) => Time::parse(text),
            (None, Some(s)) => {
                now.0.checked_sub(jiff::SignedDuration::from_secs(s.min(1 << 40) as i64)).ok().map(Time)
            }
            (None, None) => None,
        };
        let stream = match options.stream.as_deref() {
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            _ => None,
        };
        Filter { timestamps: options.timestamps, since, stream, left: options.limit_bytes }
    }

    fn is_spent(&self) -> bool {
        self.left == Some(0)
    }

    /// Appends what a reader sees of one raw line.
    pub(crate) fn push(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(raw) else { return };
        if self.stream.is_some_and(|s| s.as_bytes() != line.stream) {
            return;
        }
        if let Some(since) = self.since {
            let at = std::str::from_utf8(line.time).ok().and_then(Time::parse);
            if at.is_none_or(|at| at < since) {
                return;
            }
        }
        let start = out.len();
        if self.timestamps {
            out.extend_from_slice(line.time);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        if let Some(left) = &mut self.left {
            let added = (out.len() - start) as u64;
            if added > *left {
                out.truncate(start + *left as usize);
            }
            *left = left.saturating_sub(added);
        }
    }
}

struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

fn parse(raw: &[u8]) -> Option<Line<'_>> {
    let mut parts = raw.splitn(4, |b| *b == b' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Line { time, stream, partial: tag.starts_with(b"P"), text: parts.next().unwrap_or_default() })
}

/// The beginning of a file.
pub(crate) fn read_head(path: &Path, len_max: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    std::fs::File::open(path)?.take(len_max).read_to_end(&mut out)?;
    Ok(out)
}

/// The text at the end of a log.
pub(crate) fn read_end(path: &Path, len_max: u64) -> std::io::Result<Vec<u8>> {
    // Each line carries some forty bytes of its own: short lines need a wide window.
    let mut window = len_max * 16 + 4_096;
    let mut pieces = Vec::new();
    for mut part in open_parts(path)?.into_iter().rev() {
        let len = part.file.metadata()?.len();
        part.file.seek(SeekFrom::Start(len.saturating_sub(window)))?;
        let mut piece = Vec::new();
        part.file.take(window).read_to_end(&mut piece)?;
        let whole =
            if len > window { piece.iter().position(|b| *b == b'\n').map_or(0, |i| i + 1) } else { 0 };
        pieces.push(piece.split_off(whole));
        window = window.saturating_sub(len);
        if window == 0 {
            break;
        }
    }
    let mut out = Vec::new();
    let mut filter = Filter::default();
    for line in pieces.iter().rev().flat_map(|p| p.split(|b| *b == b'\n')).filter(|l| !l.is_empty()) {
        filter.push(line, &mut out);
    }
    let cut = out.len().saturating_sub(len_max as usize);
    Ok(out.split_off(cut))
}

/// The log files of a container's lives, by number.
pub(crate) fn lives(dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut lives: Vec<u32> = entries
        .filter_map(|e| {
            e.file_name().to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse().ok())
        })
        .collect();
    lives.sort_unstable();
    lives
}

/// One file of a log, held open: what its path names changes with each rotation.
struct Part {
    file: std::fs::File,
    inode: u64,
}

/// The parts of one life's log, oldest first; never none. Where a rotation came in between, parts that were made meanwhile may
/// have been met behind older ones: then they are opened again.
fn open_parts(path: &Path) -> std::io::Result<Vec<Part>> {
    let mut parts = open_parts_once(path)?;
    for _ in 0..REOPENS_MAX {
        let is_newest = |p: &Part| std::fs::metadata(path).is_ok_and(|m| m.ino() == p.inode);
        if parts.last().is_some_and(is_newest) {
            break;
        }
        parts = open_parts_once(path)?;
    }
    if parts.is_empty() { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(parts) }
}

/// They are opened newest first: a rotation meanwhile moves parts the way that we look, so that one may be met twice, but none
/// is missed.
fn open_parts_once(path: &Path) -> std::io::Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let numbered = (1..=ROTATED_MAX).map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    let mut vacant = false;
    for path in std::iter::once(path.to_owned()).chain(numbered) {
        match std::fs::File::open(&path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                if parts.iter().all(|p| p.inode != inode) {
                    parts.push(Part { file, inode });
                }
                vacant = false;
            }
            // In the midst of a rotation one number is vacant.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !vacant => {
                vacant = true;
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    parts.reverse();
    Ok(parts)
}

/// Drops what comes before the last `lines` lines and leaves the first part left at the beginning of them.
fn keep_tail(parts: &mut Vec<Part>, lines: u64) -> std::io::Result<()> {
    let mut wanted = lines;
    let mut chunk = vec![0; CHUNK_LEN];
    for index in (0..parts.len()).rev() {
        let mut file = &parts[index].file;
        let len = file.metadata()?.len();
        if lines == 0 {
            file.seek(SeekFrom::Start(len))?;
            parts.drain(..index);
            return Ok(());
        }
        let mut end = len;
        while end > 0 {
            let start = end.saturating_sub(CHUNK_LEN as u64);
            let piece = &mut chunk[..(end - start) as usize];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(piece)?;
            for (i, _) in piece.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                let begin = start + i as u64 + 1;
                // The newline at the very end closes the last line, it does not begin another.
                if begin == len {
                    continue;
                }
                wanted -= 1;
                if wanted == 0 {
                    file.seek(SeekFrom::Start(begin))?;
                    parts.drain(..index);
                    return Ok(());
                }
            }
            end = start;
        }
        file.seek(SeekFrom::Start(0))?;
        // The line at the beginning of a part has no newline before it; a part that was made just now has no line.
        wanted -= u64::from(len > 0);
        if wanted == 0 {
            parts.drain(..index);
            return Ok(());
        }
    }
    Ok(())
}

/// Sends what is asked of one life's log; with `follow`, until `is_over` says that nothing more will come.
pub(crate) async fn stream(
    path: PathBuf,
    options: &LogOptions,
    now: Time,
    is_over: impl Fn() -> bool,
    out: mpsc::Sender<Frame>,
) -> std::io::Result<()> {
    let mut filter = Filter::new(options, now);
    let watcher = if options.follow { Watcher::new(&path) } else { None };
    let (from, tail) = (path.clone(), options.tail_lines);
    let parts = tokio::task::spawn_blocking(move || {
        let mut parts = open_parts(&from)?;
        tail.map_or(Ok(()), |lines| keep_tail(&mut parts, lines))?;
        Ok::<_, std::io::Error>(parts)
    });
    let mut rest = VecDeque::from(parts.await??);
    let Some(first) = rest.pop_front() else { return Ok(()) };
    let mut reader = Reader { part: first, raw: Vec::new() };
    let mut rotated = false;
    loop {
        let over = is_over();
        loop {
            let sent = reader.pass_on(&mut filter, &out).await?;
            if filter.is_spent() || out.is_closed() {
                return Ok(());
            }
            if !sent {
                break;
            }
        }
        if let Some(next) = rest.pop_front() {
            reader.part = next;
            rotated = false;
            continue;
        }
        if !options.follow {
            return Ok(());
        }
        if rotated {
            // Nothing was added to this part after it was found rotated, and all of it was read since.
            let inode = reader.part.inode;
            rest = open_parts(&path)?.into_iter().collect();
            if let Some(here) = rest.iter().position(|p| p.inode == inode) {
                rest.drain(..=here);
            }
            if !rest.is_empty() {
                continue;
            }
        } else if reader.is_rotated(&path) {
            rotated = true;
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            () = wait(watcher.as_ref()) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

struct Reader {
    part: Part,
    raw: Vec<u8>,
}

impl Reader {
    /// Reads a chunk and sends its whole lines; false at the end of the file.
    async fn pass_on(&mut self, filter: &mut Filter, out: &mpsc::Sender<Frame>) -> std::io::Result<bool> {
        let mut chunk = vec![0; CHUNK_LEN];
        // Log files are in the page cache: reading one takes no longer than handing it to another thread would.
        let n = self.part.file.read(&mut chunk)?;
        if n == 0 {
            return Ok(false);
        }
        self.raw.extend_from_slice(&chunk[..n]);
        let mut text = Vec::new();
        let whole = self.raw.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        for line in self.raw[..whole].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            filter.push(line, &mut text);
        }
        self.raw.drain(..whole);
        if self.raw.len() > LINE_LEN_MAX {
            self.raw.clear();
        }
        for frame in Frame::split(Channel::Stdout, Bytes::from(text)) {
            if out.send(frame).await.is_err() {
                break;
            }
        }
        Ok(true)
    }

    fn is_rotated(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| m.ino() != self.part.inode)
    }
}

/// Wakes a follower. Where the machine has no watches left, polling does.
struct Watcher(AsyncFd<std::os::fd::OwnedFd>);

impl Watcher {
    fn new(path: &Path) -> Option<Watcher> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).ok()?;
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, path.parent()?, what).ok()?;
        Watcher::register(fd)
    }
}

impl Watcher {
    /// An owned descriptor lives as long as its registration, which is all that the newer, unsafe constructor asks for.
    #[allow(deprecated, reason = "`AsyncFd::register` is unsafe; an `OwnedFd` keeps its promise")]
    fn register(fd: std::os::fd::OwnedFd) -> Option<Watcher> {
        AsyncFd::new(fd).ok().map(Watcher)
    }
}

async fn wait(watcher: Option<&Watcher>) {
    let Some(watcher) = watcher else { return tokio::time::sleep(POLL).await };
    tokio::select! {
        ready = watcher.0.readable() => {
            if let Ok(mut ready) = ready {
                let mut events = [0_u8; 4096];
                while rustix::io::read(watcher.0.get_ref(), &mut events).is_ok_and(|n| n > 0) {}
                ready.clear_ready();
            }
        }
        () = tokio::time::sleep(POLL) => {}
    }
}

#[cfg(test)]
mod tests;
