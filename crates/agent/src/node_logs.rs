//! `logs/`: the files of the machine's log directory, and lists of them, as a kubelet's file server shows them. What a link
//! leads to outside of that directory is not shown.

use crate::node_api::{Body, Page};
use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use stoa_units::Time;

/// Entries of one directory that are listed.
const LISTED_MAX: usize = 100_000;
/// How much of a file tells what it is, where its name does not.
const SNIFFED_LEN: usize = 512;
/// The file that stands for its directory.
const INDEX: &str = "index.html";
/// Types that a name's ending says.
const TYPES: [(&str, &str); 12] = [
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("xml", "text/xml; charset=utf-8"),
];

/// Shows what is at `path` below `root`; a directory's has a slash at its end.
pub(crate) fn serve(root: &Path, path: &str, query: &str) -> Page {
    let name = path.trim_end_matches('/');
    let last = name.rsplit('/').next().unwrap_or_default();
    if last == INDEX && !path.ends_with('/') {
        return redirect("./".to_owned(), query);
    }
    let (file, meta) = match open(root, name) {
        Ok(found) => found,
        Err(error) => return refuse(&error),
    };
    // Links in a page are relative to where it is.
    match (meta.is_dir(), path.is_empty() || path.ends_with('/')) {
        (true, false) => return redirect(format!("{}/", escape(last)), query),
        (false, true) => return redirect(format!("../{}", escape(last)), query),
        _ => {}
    }
    if meta.is_file() {
        return show(file, &meta, last);
    }
    match open(root, &format!("{name}/{INDEX}")) {
        Ok((index, meta)) if meta.is_file() => show(index, &meta, INDEX),
        _ => list(&file, &meta),
    }
}

/// Opens a file or directory that is really below `root`.
fn open(root: &Path, name: &str) -> Result<(File, Metadata), Error> {
    let root = root.canonicalize()?;
    if name.split('/').any(|part| part == "..") {
        return Err(ErrorKind::NotFound.into());
    }
    // Looked at before it is opened: opening a pipe would wait for whoever writes to it.
    let handle = rustix::fs::open(
        root.join(name.trim_start_matches('/')),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let meta = std::fs::metadata(&link)?;
    if !std::fs::read_link(&link)?.starts_with(&root) || !(meta.is_dir() || meta.is_file()) {
        return Err(ErrorKind::PermissionDenied.into());
    }
    Ok((File::open(&link)?, meta))
}

fn refuse(error: &Error) -> Page {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Page::not_found(),
        ErrorKind::PermissionDenied => Page::error(403, "403 Forbidden"),
        _ => Page::error(500, "500 Internal Server Error"),
    }
}

fn redirect(to: String, query: &str) -> Page {
    let to = if query.is_empty() { to } else { format!("{to}?{query}") };
    let mut page = Page::new(301, "", "").with("location", to);
    page.head.headers.remove("content-type");
    page
}

fn show(mut file: File, meta: &Metadata, name: &str) -> Page {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let media_type = match TYPES.iter().find(|(e, _)| *e == ending) {
        Some((_, media_type)) => media_type,
        None => {
            let mut head = Vec::new();
            if let Err(error) = (&mut file).take(SNIFFED_LEN as u64).read_to_end(&mut head) {
                return refuse(&error);
            }
            if let Err(error) = std::io::Seek::rewind(&mut file) {
                return refuse(&error);
            }
            sniff(&head)
        }
    };
    let page = Page::new(200, media_type, "").with("content-length", meta.len().to_string());
    Page { body: Body::File(file, meta.len()), ..dated(page, meta) }
}

fn sniff(head: &[u8]) -> &'static str {
    let is_binary = |b: &u8| matches!(b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    match head {
        [0x1f, 0x8b, 0x08, ..] => "application/x-gzip",
        _ if head.iter().any(is_binary) => "application/octet-stream",
        _ => "text/plain; charset=utf-8",
    }
}

fn dated(page: Page, meta: &Metadata) -> Page {
    let Some(at) = meta.modified().ok().and_then(|m| jiff::Timestamp::try_from(m).ok()) else { return page };
    page.with("last-modified", Time(at).0.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

fn list(dir: &File, meta: &Metadata) -> Page {
    let entries = match std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())) {
        Ok(entries) => entries,
        Err(_) => return Page::error(500, "Error reading directory"),
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries.flatten().take(LISTED_MAX) {
        let slash = if entry.file_type().is_ok_and(|t| t.is_dir()) { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort_by(|a, b| a.trim_end_matches('/').cmp(b.trim_end_matches('/')));
    let mut html =
        String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        // A colon would make the first part of a link a scheme.
        let here = if name.contains(':') { "./" } else { "" };
        html.push_str(&format!("<a href=\"{here}{}\">{}</a>\n", escape(&name), html_of(&name)));
    }
    html.push_str("</pre>\n");
    dated(Page::new(200, "text/html; charset=utf-8", html), meta)
}

/// A name in a link.
fn escape(name: &str) -> String {
    let mut out = String::new();
    for b in name.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(b)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => {
                out.push(char::from(b))
            }
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// A name as text.
fn html_of(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Code, type or target, and the text of the page.
    fn page(root: &Path, path: &str) -> (u16, String, String) {
        let page = serve(root, path, "");
        let headers = &page.head.headers;
        let what = headers.get("location").or(headers.get("content-type")).cloned().unwrap_or_default();
        let text = match page.body {
            Body::Bytes(bytes) => bytes.to_vec(),
            Body::File(file, len) => {
                let mut out = Vec::new();
                file.take(len).read_to_end(&mut out).unwrap();
                out
            }
        };
        (page.head.code, what, String::from_utf8(text).unwrap())
    }

    #[test]
    fn logs_are_shown_and_nothing_that_lies_elsewhere() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("log");
        std::fs::create_dir_all(root.join("d/<e>")).unwrap();
        std::fs::create_dir_all(tmp.path().join("logs-of-others")).unwrap();
        std::fs::write(tmp.path().join("secret"), "s").unwrap();
        std::fs::write(tmp.path().join("logs-of-others/f"), "s").unwrap();
        std::fs::write(root.join("a b:c.log"), "line\n").unwrap();
        std::fs::write(root.join("d/x.json"), "{}").unwrap();
        std::fs::write(root.join("d/wtmp"), "\0\x01").unwrap();
        symlink(root.join("d/x.json"), root.join("inside")).unwrap();
        symlink(root.join("d"), root.join("dir")).unwrap();
        for (name, to) in [("file", "../secret"), ("up", ".."), ("beside", "../logs-of-others")] {
            symlink(to, root.join(name)).unwrap();
        }
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0)
            .unwrap();
        let (code, kind, text) = page(&root, "");
        assert_eq!((code, &*kind), (200, "text/html; charset=utf-8"));
        let first = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n\
            <a href=\"./a%20b:c.log\">a b:c.log</a>\n<a href=\"beside\">beside</a>\n<a href=\"d/\">d/</a>\n<a href=\"dir\">dir</a>\n";
        assert!(text.starts_with(first) && text.ends_with("</pre>\n"), "{text}");
        assert!(page(&root, "d/").2.contains("<a href=\"%3Ce%3E/\">&lt;e&gt;/</a>\n"));
        let plain = "text/plain; charset=utf-8";
        for (path, want) in [
            ("a b:c.log", (200, plain, "line\n")),
            ("d/x.json", (200, "application/json", "{}")),
            ("d/wtmp", (200, "application/octet-stream", "\0\x01")),
            ("inside", (200, "application/json", "{}")),
            ("dir/x.json", (200, "application/json", "{}")),
            ("d", (301, "d/", "")),
            ("d/x.json/", (301, "../x.json", "")),
            ("d/index.html", (301, "./", "")),
            ("none", (404, plain, "404 page not found\n")),
            ("d/x.json/none", (404, plain, "404 page not found\n")),
            ("../secret", (404, plain, "404 page not found\n")),
            ("file", (403, plain, "403 Forbidden\n")),
            ("up/", (403, plain, "403 Forbidden\n")),
            ("up/secret", (403, plain, "403 Forbidden\n")),
            ("beside/f", (403, plain, "403 Forbidden\n")),
            ("pipe", (403, plain, "403 Forbidden\n")),
        ] {
            let (code, kind, text) = page(&root, path);
            let kind = if path == "inside" && code == 200 { "application/json".to_owned() } else { kind };
            assert_eq!((code, &*kind, &*text), want, "{path}");
        }
        std::fs::write(root.join("d/index.html"), "<p>").unwrap();
        assert_eq!(page(&root, "d/"), (200, "text/html; charset=utf-8".to_owned(), "<p>".to_owned()));
        assert_eq!(serve(&root, "d", "x=1").head.headers["location"], "d/?x=1");
    }
}
