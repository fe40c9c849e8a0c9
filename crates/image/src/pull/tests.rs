//! Pulls from a registry on paper: a few lines of HTTP that do as they are told, also the wrong thing.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

/// What is asked: method and path, the `Authorization` header, where a range begins.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    authorization: String,
    from: Option<usize>,
}

struct Fake {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Serves `answer`. An answer that is shorter than its own `content-length` is a connection that breaks.
    async fn start(answer: impl Fn(&Asked, &str) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, noted, own) = (Arc::new(answer), asked.clone(), address.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut tcp, _)) = listener.accept().await else { return };
                let (answer, noted, own) = (answer.clone(), noted.clone(), own.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                        let mut chunk = [0; 4096];
                        match tcp.read(&mut chunk).await {
                            // A greeting of TLS is hung up on: this registry speaks plainly.
                            Ok(n) if n > 0 && chunk[0] != 0x16 => head.extend_from_slice(&chunk[..n]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let header = |name: &str| {
                        let found = head
                            .lines()
                            .filter_map(|l| l.split_once(": "))
                            .find(|(k, _)| k.eq_ignore_ascii_case(name));
                        found.map(|(_, v)| v.to_string())
                    };
                    let asked = Asked {
                        path: head.split_whitespace().nth(1).unwrap_or_default().to_string(),
                        authorization: header("authorization").unwrap_or_default(),
                        from: header("range")
                            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()),
                    };
                    noted.lock().unwrap().push(asked.clone());
                    let (status, headers, body) = answer(&asked, &own);
                    let mut out = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
                    if !headers.iter().any(|(k, _)| k == "content-length") {
                        out.push_str(&format!("content-length: {}\r\n", body.len()));
                    }
                    for (k, v) in headers {
                        out.push_str(&format!("{k}: {v}\r\n"));
                    }
                    let _ = tcp.write_all(format!("{out}\r\n").as_bytes()).await;
                    let _ = tcp.write_all(&body).await;
                });
            }
        });
        Fake { address, asked, task }
    }

    fn asked_for(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|a| a.path.contains(part)).count()
    }
}

fn plain(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    (status, Vec::new(), body.into())
}

/// An image of two layers, one gzip, one zstd.
struct Content {
    blobs: Vec<(Digest, Vec<u8>)>,
    manifest: Vec<u8>,
}

fn tar_of(name: &str, data: &[u8]) -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    let mut h = tar::Header::new_gnu();
    h.set_mode(0o644);
    h.set_uid(0);
    h.set_gid(0);
    h.set_size(data.len() as u64);
    b.append_data(&mut h, name, data).unwrap();
    b.into_inner().unwrap()
}

fn content(architecture: &str, top: &[u8]) -> Content {
    let plain = [tar_of("etc/base", b"shared"), tar_of("etc/top", top)];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&plain[0]).unwrap();
    let layers = [gzip.finish().unwrap(), zstd::encode_all(&plain[1][..], 1).unwrap()];
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": plain.each_ref().map(|l| Digest::of(l))},
    }))
    .unwrap();
    let descriptor = |b: &[u8]| serde_json::json!({"digest": Digest::of(b), "size": b.len()});
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "config": descriptor(&config), "layers": layers.each_ref().map(|l| descriptor(l)),
    }))
    .unwrap();
    let blobs = [config].into_iter().chain(layers).map(|b| (Digest::of(&b), b)).collect();
    Content { blobs, manifest }
}

fn native() -> &'static str {
    archive::architecture()
}

impl Content {
    /// What an honest registry answers below `/v2/app/`.
    fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap_or_default();
        if let Some(name) = path.strip_prefix("/v2/app/manifests/") {
            let known = name == "v1" || name == Digest::of(&self.manifest).as_str();
            return if known { plain(200, self.manifest.clone()) } else { plain(404, "{}") };
        }
        let blob = path.strip_prefix("/v2/app/blobs/").and_then(Digest::parse);
        let Some((_, bytes)) = self.blobs.iter().find(|(d, _)| Some(d) == blob.as_ref()) else {
            return plain(404, "{}");
        };
        match asked.from {
            Some(n) if n < bytes.len() => {
                let range = format!("bytes {n}-{}/{}", bytes.len() - 1, bytes.len());
                (206, vec![("content-range".into(), range)], bytes[n..].to_vec())
            }
            _ => plain(200, bytes.clone()),
        }
    }
}

fn puller() -> (tempfile::TempDir, Store, Puller) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("images")).unwrap();
    let puller = Puller::new(store.clone(), dir.path().join("registries.yaml"));
    (dir, store, puller)
}

fn words(e: &PullError) -> String {
    let mut out = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        out.push_str(&format!(": {c}"));
        cause = c.source();
    }
    out
}

#[tokio::test]
async fn an_image_is_pulled_recorded_and_not_fetched_twice() {
    let content = content(native(), b"one");
    let fake = Fake::start(move |asked, _| content.answer(asked)).await;
    let (_dir, store, puller) = puller();
    let name = format!("{}/app:v1", fake.address);
    let pulled = puller.pull(&name, &Keyring::default()).await.unwrap();
    assert_eq!(pulled.image.tags, [name.as_str()]);
    assert!(pulled.image.repo_digest(&name).unwrap().starts_with(&format!("{}/app@sha256:", fake.address)));
    assert!(pulled.image.is_replaceable() && !pulled.image.is_local(&name));
    let dirs = store.layer_dirs(&pulled.image);
    assert_eq!(std::fs::read(dirs[0].join("etc/top")).unwrap(), b"one");
    assert_eq!(std::fs::read(dirs[1].join("etc/base")).unwrap(), b"shared");
    let before = fake.asked_for("/blobs/");
    puller.pull(&name, &Keyring::default()).await.unwrap();
    // The configuration again, no layer.
    assert_eq!(fake.asked_for("/blobs/"), before + 1);
    let pinned = format!(
        "{}/app@{}",
        fake.address,
        pulled.image.repo_digest(&name).unwrap().split('@').nth(1).unwrap()
    );
    assert_eq!(store.resolve(&pinned).unwrap().unwrap().id, pulled.image.id);
    assert_eq!(std::fs::read_dir(store_dir(&store, "downloads")).unwrap().count(), 0, "no blob stays");
    assert_eq!(std::fs::read_dir(store_dir(&store, "leases")).unwrap().count(), 0, "no lease stays");
}

fn store_dir(store: &Store, sub: &str) -> PathBuf {
    store.download_path(&Digest::of(b"x")).parent().unwrap().parent().unwrap().join(sub)
}

#[tokio::test]
async fn many_pulls_of_images_with_one_base_fetch_it_once() {
    let all: Vec<Content> = (0..8).map(|n| content(native(), format!("top {n}").as_bytes())).collect();
    let base = all[0].blobs[1].0.clone();
    let fake = Fake::start(move |asked, _| {
        let n: usize = asked.path.strip_prefix("/v2/app/manifests/n").map_or(0, |n| n.parse().unwrap());
        match asked.path.starts_with("/v2/app/manifests/") {
            true => plain(200, all[n].manifest.clone()),
            false => all.iter().map(|c| c.answer(asked)).find(|a| a.0 == 200).unwrap(),
        }
    })
    .await;
    let (_dir, store, puller) = puller();
    let pulls = (0..8).map(|n| {
        let (puller, name) = (puller.clone(), format!("{}/app:n{n}", fake.address));
        async move { puller.pull(&name, &Keyring::default()).await.unwrap() }
    });
    futures_util::future::join_all(pulls).await;
    assert_eq!(fake.asked_for(base.as_str()), 1);
    assert_eq!(store.list().unwrap().len(), 8);
}

#[tokio::test]
async fn the_index_leads_to_this_machines_platform() {
    let (own, other) = (content(native(), b"own"), content("mips", b"other"));
    let choice = |c: &Content, architecture: &str| {
        serde_json::json!({"digest": Digest::of(&c.manifest), "size": c.manifest.len(),
        "platform": {"architecture": architecture, "os": "linux"}})
    };
    let index = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [choice(&other, "mips"), choice(&own, native())]})).unwrap();
    let top = Digest::of(&index);
    let fake = Fake::start(move |asked, _| match asked.path.as_str() {
        "/v2/app/manifests/all" => plain(200, index.clone()),
        "/v2/app/manifests/other" => plain(200, other.manifest.clone()),
        p if p == format!("/v2/app/manifests/{}", Digest::of(&other.manifest)) => {
            plain(200, other.manifest.clone())
        }
        _ => [own.answer(asked), other.answer(asked)].into_iter().find(|a| a.0 == 200).unwrap(),
    })
    .await;
    let (_dir, _store, puller) = puller();
    let pulled = puller.pull(&format!("{}/app:all", fake.address), &Keyring::default()).await.unwrap();
    assert!(
        pulled.image.repo_digests[0].ends_with(top.as_str()),
        "a status names what the registry's name stands for"
    );
    let wrong = puller.pull(&format!("{}/app:other", fake.address), &Keyring::default()).await.unwrap_err();
    assert!(words(&wrong).contains("no match for platform"), "{}", words(&wrong));
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let mut content = content(native(), b"x");
    // A layer long enough to break in the middle, incompressible.
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let long = tar_of("noise", &noise);
    let config = serde_json::json!({"architecture": native(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&long)]}});
    let config = serde_json::to_vec(&config).unwrap();
    content.manifest = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2,
        "config": {"digest": Digest::of(&config), "size": config.len()}, "layers": [{"digest": Digest::of(&long), "size": long.len()}]})).unwrap();
    let digest = Digest::of(&long);
    content.blobs = vec![(Digest::of(&config), config), (digest.clone(), long.clone())];
    let fake = Fake::start(move |asked, _| {
        let (status, mut headers, mut body) = content.answer(asked);
        if body.len() > 300_000 {
            headers.push(("content-length".into(), body.len().to_string()));
            body.truncate(300_000);
        }
        (status, headers, body)
    })
    .await;
    let (_dir, _store, puller) = puller();
    puller.pull(&format!("{}/app:v1", fake.address), &Keyring::default()).await.unwrap();
    let starts: Vec<Option<usize>> =
        fake.asked.lock().unwrap().iter().filter(|a| a.path.contains(digest.hex())).map(|a| a.from).collect();
    assert!(
        starts.len() >= 3 && starts[0].is_none() && starts[1..].iter().all(Option::is_some),
        "{starts:?}"
    );
}

#[tokio::test]
async fn each_kind_of_login_opens_the_door_and_only_the_right_one() {
    for kind in ["basic", "token"] {
        let content = content(native(), kind.as_bytes());
        let fake = Fake::start(move |asked, own| {
            let basic = "Basic dTpw"; // u:p
            if asked.path.starts_with("/token") {
                let right =
                    asked.path.contains("scope=repository%3Aapp%3Apull") && asked.authorization == basic;
                return if right { plain(200, r#"{"access_token":"t0"}"#) } else { plain(401, "{}") };
            }
            let wanted = if kind == "basic" { basic } else { "Bearer t0" };
            if asked.authorization == wanted {
                return content.answer(asked);
            }
            let challenge = match kind {
                "basic" => "Basic realm=\"r\"".to_string(),
                _ => format!(
                    "Bearer realm=\"http://{own}/token\",service=\"s\",scope=\"repository:app:pull,push\""
                ),
            };
            (401, vec![("www-authenticate".into(), challenge)], b"{}".to_vec())
        })
        .await;
        let (_dir, store, puller) = puller();
        let name = format!("{}/app:v1", fake.address);
        let denied = puller.pull(&name, &Keyring::default()).await.unwrap_err();
        assert!(words(&denied).contains("pull access denied"), "{}", words(&denied));
        let ring = |password: &str| {
            let mut ring = Keyring::default();
            ring.add(&fake.address, Credentials::Basic { user: "u".into(), password: password.into() });
            ring
        };
        puller.pull(&name, &ring("wrong")).await.unwrap_err();
        puller.pull(&name, &ring("p")).await.unwrap();
        let image = store.resolve(&name).unwrap().unwrap();
        assert!(image.admits(&name, &ring("p")), "who pulled it may use it");
        assert!(!image.admits(&name, &Keyring::default()) && !image.admits(&name, &ring("wrong")));
    }
}

#[tokio::test]
async fn a_hostile_registry_is_refused_and_leaves_nothing() {
    let climbing = {
        let mut h = tar::Header::new_gnu();
        h.as_gnu_mut().unwrap().name[..6].copy_from_slice(b"../out");
        h.set_mode(0o644);
        h.set_uid(0);
        h.set_gid(0);
        h.set_size(1);
        h.set_cksum();
        let mut b = tar::Builder::new(Vec::new());
        b.append(&h, &b"x"[..]).unwrap();
        b.into_inner().unwrap()
    };
    type Lie = fn(&Asked, &str, Answer) -> Answer;
    let cases: [(&str, Lie, &str); 6] = [
        (
            "other bytes",
            |a, _, r| if a.path.contains("/blobs/") { plain(200, vec![0; r.2.len()]) } else { r },
            "got digest",
        ),
        (
            "more bytes",
            |a, _, mut r| {
                if a.path.contains("/blobs/") {
                    r.2.extend([0; 100]);
                }
                r
            },
            "not to be trusted",
        ),
        (
            "endless manifest",
            |a, _, r| if a.path.contains("manifests") { plain(200, vec![b' '; 5 << 20]) } else { r },
            "not to be trusted",
        ),
        (
            "endless redirect",
            |_, own, _| (302, vec![("location".into(), format!("http://{own}/again"))], Vec::new()),
            "leads nowhere",
        ),
        (
            "deep index",
            |a, _, r| {
                if a.path.contains("manifests") {
                    plain(200, r#"{"schemaVersion":2,"manifests":[]}"#)
                } else {
                    r
                }
            },
            "no match for platform",
        ),
        (
            "a size that overflows",
            |a, _, r| {
                if a.path.contains("manifests") {
                    plain(
                        200,
                        format!(
                            r#"{{"config":{{"digest":"sha256:{0}","size":1}},"layers":[{{"digest":"sha256:{0}","size":18446744073709551615}},{{"digest":"sha256:{0}","size":2}}]}}"#,
                            "a".repeat(64)
                        ),
                    )
                } else {
                    r
                }
            },
            "too many or too large",
        ),
    ];
    for (what, lie, want) in cases {
        let content = content(native(), b"x");
        let fake = Fake::start(move |asked, own| lie(asked, own, content.answer(asked))).await;
        let (_dir, store, puller) = puller();
        let error = puller.pull(&format!("{}/app:v1", fake.address), &Keyring::default()).await.unwrap_err();
        assert!(words(&error).contains(want), "{what}: {}", words(&error));
        assert!(store.list().unwrap().is_empty(), "{what}");
        assert_eq!(std::fs::read_dir(store_dir(&store, "layers")).unwrap().count(), 0, "{what}");
    }
    let mut content = content(native(), b"x");
    let config = serde_json::json!({"architecture": native(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&climbing)]}});
    let config = serde_json::to_vec(&config).unwrap();
    content.manifest = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2,
        "config": {"digest": Digest::of(&config), "size": config.len()}, "layers": [{"digest": Digest::of(&climbing), "size": climbing.len()}]})).unwrap();
    content.blobs = vec![(Digest::of(&config), config), (Digest::of(&climbing), climbing)];
    let fake = Fake::start(move |asked, _| content.answer(asked)).await;
    let (dir, store, puller) = puller();
    let error = puller.pull(&format!("{}/app:v1", fake.address), &Keyring::default()).await.unwrap_err();
    assert!(words(&error).contains("hostile entry"), "{}", words(&error));
    assert!(!dir.path().join("images/out").exists() && store.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_registry_when_it_fails() {
    let content = content(native(), b"m");
    let honest = Fake::start(move |asked, _| content.answer(asked)).await;
    let broken = Fake::start(|_, _| plain(500, "{}")).await;
    let (_dir, _store, puller) = puller();
    let file = format!(
        "mirrors:\n  {0}:\n    endpoint: [\"http://{1}\"]\n  reg.example:\n    endpoint: [\"http://{1}\", \"http://{0}\"]\n",
        honest.address, broken.address
    );
    std::fs::write(puller.registries_file(), file).unwrap();
    puller.pull(&format!("{}/app:v1", honest.address), &Keyring::default()).await.unwrap();
    assert_eq!(broken.asked_for("/v2/app/manifests/v1"), 1);
    let image = puller.pull("reg.example/app:v1", &Keyring::default()).await.unwrap().image;
    assert!(image.tags.contains(&"reg.example/app:v1".to_string()));
    assert_eq!(honest.asked_for("?ns=reg.example"), 1 + 1, "a mirror is told whose image is meant");
}

#[tokio::test]
async fn what_is_leased_is_not_collected() {
    let content = content(native(), b"one");
    let fake = Fake::start(move |asked, _| content.answer(asked)).await;
    let (_dir, store, puller) = puller();
    let name = format!("{}/app:v1", fake.address);
    let image = puller.pull(&name, &Keyring::default()).await.unwrap().image;
    let lease = store.lease(&image.layers).unwrap();
    store.remove(&name).unwrap();
    assert!(image.layers.iter().all(|l| store.has_layer(l)), "another pull counts on them");
    drop(lease);
    let again = puller.pull(&name, &Keyring::default()).await.unwrap().image;
    store.remove(again.id.as_str()).unwrap();
    assert!(image.layers.iter().all(|l| !store.has_layer(l)));
}

#[tokio::test]
async fn a_registry_that_speaks_tls_is_never_asked_in_plain_text() {
    // Plain answers lie ready: they must not be asked for, for the greeting was answered with a TLS record.
    for (greeting, word) in [
        (&[0x15, 3, 3, 0, 2, 2, 40][..], "tls: "),
        (&[0x16, 3, 3, 0, 0][..], "tls: "),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "404"),
        (b"", "404"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain: Arc<Mutex<usize>> = Arc::default();
        let (greeting, counted) = (greeting.to_vec(), plain.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut chunk = [0; 4096];
                match tcp.read(&mut chunk).await {
                    Ok(n) if n > 0 && chunk[0] == 0x16 => {
                        let _ = tcp.write_all(&greeting).await;
                    }
                    _ => {
                        *counted.lock().unwrap() += 1;
                        let _ = tcp.write_all(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            }
        });
        let (_dir, _store, puller) = puller();
        let error = puller.pull(&format!("{address}/app:v1"), &Keyring::default()).await.unwrap_err();
        task.abort();
        let is_plain = word == "404";
        assert_eq!(*plain.lock().unwrap() > 0, is_plain, "{}", words(&error));
        assert_eq!(words(&error).contains("not found"), is_plain, "{}", words(&error));
        assert!(is_plain || words(&error).contains(word), "{}", words(&error));
    }
}
