//! `/files/{browse,read,download,debug}`: sandboxes of this agent's tasks, and nothing else. Tasks write there, so no link
//! and no `..` leads out: the kernel resolves each path beneath the sandbox.

use super::access::Asker;
use super::server::{Body, empty, json, text};
use crate::shared::Shared;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde_json::{Value, json as value};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Most bytes of one read: sixteen pages.
const READ_BYTES_MAX: u64 = 16 * 4096;
/// Most entries of one listing.
const ENTRIES_MAX: usize = 10_000;
/// Bytes of a download that are read at a time.
const CHUNK_LEN: usize = 64 << 10;

/// A query's names and values.
pub(crate) type Query = std::collections::HashMap<String, String>;

/// Answers one of the endpoints.
pub(crate) async fn serve(shared: &Shared, asker: &Asker, what: &str, query: &Query) -> Response<Body> {
    if what == "debug" {
        let all = shared.tasks.list().into_iter().filter(|e| asker.may_access(e)).map(|e| {
            let path = e.directory.display().to_string();
            (path.clone(), Value::from(path))
        });
        return json(&Value::Object(all.collect()));
    }
    let Some(path) = query.get("path").filter(|p| !p.is_empty()) else {
        return text(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.\n");
    };
    let Some((entry, inside)) = shared.tasks.resolve(Path::new(path)) else {
        return empty(StatusCode::NOT_FOUND);
    };
    if !asker.may_access(&entry) {
        return empty(StatusCode::FORBIDDEN);
    }
    let root = entry.directory;
    let number = |name: &str| query.get(name).map(|v| v.parse::<i64>()).transpose();
    let (Ok(offset), Ok(length)) = (number("offset"), number("length")) else {
        return text(StatusCode::BAD_REQUEST, "Failed to parse offset or length.\n");
    };
    let (what, path) = (what.to_owned(), path.clone());
    let work = tokio::task::spawn_blocking(move || {
        let file = open_in(&root, &inside)?;
        match &*what {
            "browse" => browse(&file, Path::new(&path)),
            "read" => read(file, offset, length),
            _ => download(file, Path::new(&path)),
        }
    });
    match work.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidInput => {
            text(StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a file of a sandbox cannot be shown");
            empty(StatusCode::NOT_FOUND)
        }
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn wrong(words: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, words.to_owned())
}

/// Opens what is beneath a sandbox.
pub(crate) fn open_in(root: &Path, inside: &Path) -> std::io::Result<File> {
    let root = File::open(root)?;
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    // Neither a pipe nor a device holds the reader up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(&root, inside, flags, Mode::empty(), how)?.into())
}

fn browse(directory: &File, path: &Path) -> std::io::Result<Response<Body>> {
    let mut all = entries(directory, path)?;
    for entry in all.iter_mut().filter_map(Value::as_object_mut) {
        entry.remove("bits");
    }
    Ok(json(&all.into()))
}

/// What is in a directory that is called `path`.
pub(crate) fn entries(directory: &File, path: &Path) -> std::io::Result<Vec<Value>> {
    if !directory.metadata()?.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotADirectory));
    }
    let mut entries = Vec::new();
    let mut dir = rustix::fs::Dir::read_from(directory)?;
    while let Some(entry) = dir.read().transpose()?.filter(|_| entries.len() < ENTRIES_MAX) {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let Ok(stat) = rustix::fs::statat(directory, name, flags) else { continue };
        entries.push(value!({
            "path": path.join(name.to_string_lossy().as_ref()).display().to_string(),
            "nlink": stat.st_nlink, "size": stat.st_size, "mtime": stat.st_mtime as f64,
            "mode": mode(stat.st_mode), "bits": stat.st_mode, "uid": user(stat.st_uid), "gid": group(stat.st_gid),
        }));
    }
    entries.sort_by(|a, b| a["path"].as_str().cmp(&b["path"].as_str()));
    Ok(entries)
}

/// The same as `FileInfo`s.
pub(crate) fn infos(directory: &File, path: &Path) -> std::io::Result<Vec<Value>> {
    let mut all = entries(directory, path)?;
    for entry in &mut all {
        let seconds = entry["mtime"].as_f64().unwrap_or(0.0);
        entry["mtime"] = value!({"nanoseconds": (seconds * 1e9) as i64});
        entry["mode"] = entry["bits"].take();
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("bits");
        }
    }
    Ok(all)
}

/// As `ls -l` says it.
fn mode(bits: u32) -> String {
    let kind = match bits & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o060_000 => 'b',
        0o020_000 => 'c',
        _ => '-',
    };
    let flags = "rwxrwxrwx".chars().enumerate();
    let flags = flags.map(|(i, c)| if bits & (0o400 >> i) == 0 { '-' } else { c });
    std::iter::once(kind).chain(flags).collect()
}

fn user(uid: u32) -> String {
    let found = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    found.map_or_else(|| uid.to_string(), |u| u.name)
}

fn group(gid: u32) -> String {
    let found = nix::unistd::Group::from_gid(gid.into()).ok().flatten();
    found.map_or_else(|| gid.to_string(), |g| g.name)
}

/// How long a file is, if it is one.
pub(crate) fn check_file(file: &File) -> std::io::Result<u64> {
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(wrong("Cannot read a directory."));
    }
    if !meta.is_file() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    }
    Ok(meta.size())
}

fn read(mut file: File, offset: Option<i64>, length: Option<i64>) -> std::io::Result<Response<Body>> {
    let size = check_file(&file)?;
    let offset = match offset {
        // Asked for nothing but the length.
        None | Some(-1) => return Ok(json(&value!({"data": "", "offset": size}))),
        Some(n) => u64::try_from(n).map_err(|_| wrong("Negative offset provided."))?,
    };
    let length = match length {
        None | Some(-1) => READ_BYTES_MAX,
        Some(n) => u64::try_from(n).map_err(|_| wrong("Negative length provided."))?.min(READ_BYTES_MAX),
    };
    let mut data = Vec::new();
    if offset < size {
        file.seek(SeekFrom::Start(offset))?;
        file.take(length).read_to_end(&mut data)?;
    }
    Ok(json(&value!({"data": String::from_utf8_lossy(&data), "offset": offset})))
}

fn download(mut file: File, path: &Path) -> std::io::Result<Response<Body>> {
    let size = check_file(&file)?;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(2);
    std::thread::Builder::new().name("download".into()).spawn(move || {
        let mut chunk = vec![0; CHUNK_LEN];
        let mut left = size;
        while left > 0 {
            let room = chunk.len().min(usize::try_from(left).unwrap_or(CHUNK_LEN));
            let Ok(n @ 1..) = file.read(&mut chunk[..room]) else { return };
            left -= n as u64;
            if sender.blocking_send(Bytes::copy_from_slice(&chunk[..n])).is_err() {
                return;
            }
        }
    })?;
    let chunks = futures_util::stream::unfold(receiver, |mut rx| async move {
        let chunk = rx.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(chunk)), rx))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    let name: String = path
        .file_name()
        .map(|n| {
            n.to_string_lossy().chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
        })
        .unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    if let Ok(v) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, v);
    }
    Ok(response)
}

/// Names and values of a query.
pub(crate) fn parse_query(query: &str) -> Query {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(k, v)| (unescape(k), unescape(v))).collect()
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_a_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("box");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("sub/out"), "o").unwrap();
        for (link, to) in
            [("abs", dir.path().join("secret")), ("rel", "../secret".into()), ("in", "sub/out".into())]
        {
            std::os::unix::fs::symlink(to, root.join(link)).unwrap();
        }
        for bad in ["abs", "rel", "../secret", "sub/../../secret"] {
            assert!(open_in(&root, Path::new(bad)).is_err(), "{bad}");
        }
        for good in ["in", "sub/out", "sub", ""] {
            assert!(open_in(&root, Path::new(good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn modes_are_said_as_ls_says_them() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o040_755), "drwxr-xr-x");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
    }

    #[tokio::test]
    async fn a_read_says_where_it_is_and_how_long_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "0123456789").unwrap();
        let file = || File::open(dir.path().join("f")).unwrap();
        let body = async |r: Response<Body>| {
            let bytes = r.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        assert_eq!(body(read(file(), None, None).unwrap()).await, value!({"data": "", "offset": 10}));
        assert_eq!(body(read(file(), Some(4), Some(3)).unwrap()).await, value!({"data": "456", "offset": 4}));
        assert_eq!(body(read(file(), Some(99), None).unwrap()).await, value!({"data": "", "offset": 99}));
        assert!(read(file(), Some(-2), None).is_err());
    }
}
