use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn uri(text: serde_json::Value) -> Uri {
    serde_json::from_value(text).unwrap()
}

fn me() -> As {
    As { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
}

/// Serves the same bytes to everybody and counts them.
async fn server(body: Vec<u8>) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let _ = stream.read(&mut head).await;
            seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let found = !head.starts_with(b"GET /missing");
            let status = if found { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    (address, count)
}

fn fetcher(dir: &Path) -> Arc<Fetcher> {
    Arc::new(Fetcher::new(dir.join("cache"), vec![dir.join("secret")]))
}

#[test]
fn a_uri_never_leaves_the_sandbox() {
    for (value, output, want) in [
        ("http://h/a/b.tgz?x=1", None, Some("b.tgz")),
        ("http://h/a/b", Some("dir/c"), Some("dir/c")),
        ("http://h/a/b", Some("../c"), None),
        ("http://h/a/b", Some("/c"), None),
        ("http://h/a/..", None, None),
        ("http://h/", None, None),
        ("file:///etc/hosts", None, Some("hosts")),
    ] {
        let uri = uri(serde_json::json!({"value": value, "output_file": output}));
        assert_eq!(uri.target().ok().as_deref(), want.map(Path::new), "{value} {output:?}");
    }
    for bad in ["hdfs://h/x", "x/y", "file://x"] {
        assert!(uri(serde_json::json!({"value": bad})).source().is_err(), "{bad}");
    }
}

#[test]
fn archives_are_known_by_their_names() {
    for (name, more, want) in [
        ("a.tar.gz", serde_json::json!({}), Some("tar")),
        ("a.gz", serde_json::json!({}), Some("gzip")),
        ("a.ZIP", serde_json::json!({}), Some("unzip")),
        ("a.tgz", serde_json::json!({"extract": false}), None),
        ("a.tgz", serde_json::json!({"executable": true}), None),
        ("a.txt", serde_json::json!({}), None),
    ] {
        let mut text = more;
        text["value"] = format!("http://h/{name}").into();
        assert_eq!(uri(text).archive(Path::new(name)), want, "{name}");
    }
}

#[tokio::test]
async fn files_come_with_their_bits_and_archives_are_taken_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (sandbox, source) = (dir.path().join("sandbox"), dir.path().join("source"));
    for d in [&sandbox, &source] {
        std::fs::create_dir(d).unwrap();
    }
    std::fs::write(source.join("tool"), "#!/bin/sh\n").unwrap();
    let packed =
        std::process::Command::new("tar").current_dir(&source).args(["-czf", "all.tgz", "tool"]).status();
    assert!(packed.unwrap().success());
    let (address, _) = server(std::fs::read(source.join("all.tgz")).unwrap()).await;
    let tool = format!("file://{}", source.join("tool").display());
    let uris = [
        uri(serde_json::json!({"value": tool, "executable": true, "output_file": "bin/run"})),
        uri(serde_json::json!({"value": format!("{address}/all.tgz")})),
    ];
    let f = fetcher(dir.path());
    f.fetch_all(&uris, &sandbox, me()).await.unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(sandbox.join("bin/run")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(std::fs::read_to_string(sandbox.join("tool")).unwrap(), "#!/bin/sh\n");
    assert_eq!(
        std::fs::read_dir(dir.path().join("cache")).unwrap().count(),
        0,
        "what is not cached does not stay"
    );
}

#[tokio::test]
async fn what_is_cached_is_downloaded_once() {
    let dir = tempfile::tempdir().unwrap();
    let (address, count) = server(b"content".to_vec()).await;
    let f = fetcher(dir.path());
    let want = uri(serde_json::json!({"value": format!("{address}/f"), "cache": true}));
    let mut all = Vec::new();
    for n in 0..4 {
        let sandbox = dir.path().join(n.to_string());
        std::fs::create_dir(&sandbox).unwrap();
        let (f, want) = (Arc::clone(&f), want.clone());
        all.push(tokio::spawn(async move { f.fetch_all(&[want], &sandbox, me()).await }));
    }
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(std::fs::read_to_string(dir.path().join("3/f")).unwrap(), "content");
}

#[tokio::test]
async fn what_cannot_be_had_is_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("secret")).unwrap();
    std::fs::write(dir.path().join("secret/key"), "k").unwrap();
    let (address, _) = server(vec![]).await;
    let f = fetcher(dir.path());
    let missing = uri(serde_json::json!({"value": format!("{address}/missing")}));
    let why = f.fetch_all(&[missing], dir.path(), me()).await.unwrap_err();
    assert!(why.contains("/missing") && why.contains("404"), "{why}");
    let secret =
        uri(serde_json::json!({"value": format!("file://{}", dir.path().join("secret/key").display())}));
    assert!(f.fetch_all(&[secret], dir.path(), me()).await.is_err(), "the agent's own files are hidden");
    assert!(!dir.path().join("key").exists());
}

#[test]
fn the_cache_forgets_what_was_not_used_for_longest() {
    let dir = tempfile::tempdir().unwrap();
    for (name, at) in [("old", 10), ("newer", 20), ("newest", 30)] {
        let path = dir.path().join(name);
        std::fs::write(&path, [0; 100]).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(at);
        let times = std::fs::FileTimes::new().set_modified(at);
        std::fs::File::options().append(true).open(&path).unwrap().set_times(times).unwrap();
    }
    evict(dir.path(), &dir.path().join("kept"), 200);
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["newer", "newest"]);
}
