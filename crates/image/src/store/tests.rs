use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut h = tar::Header::new_gnu();
        h.set_mode(0o644);
        h.set_uid(0);
        h.set_gid(0);
        h.set_size(data.len() as u64);
        b.append_data(&mut h, name, *data).unwrap();
    }
    b.into_inner().unwrap()
}

fn config_for(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|l| Digest::of(l)).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": archive::architecture(), "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Env": ["A=b"], "Entrypoint": null, "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": ids},
    }))
    .unwrap()
}

fn docker_save(tag: &str, layers: &[&[u8]]) -> Vec<u8> {
    let config = config_for(layers);
    let names: Vec<String> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest =
        serde_json::to_vec(&serde_json::json!([{"Config": "c.json", "RepoTags": [tag], "Layers": names}]))
            .unwrap();
    let mut files: Vec<(&str, &[u8])> = vec![("c.json", &config), ("manifest.json", &manifest)];
    files.extend(names.iter().map(String::as_str).zip(layers.iter().copied()));
    tar_of(&files)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn a_docker_save_archive_is_imported_and_found_by_all_its_names() {
    let (_dir, store) = store();
    let (bottom, top) = (tar_of(&[("etc/a", b"1")]), tar_of(&[("etc/b", b"22")]));
    let image = store
        .import(&gzip(&docker_save("me/app:v1", &[&bottom, &top]))[..], ImportOptions::default())
        .unwrap();
    let image = &image[0];
    assert_eq!(image.tags, ["docker.io/me/app:v1"]);
    assert_eq!(
        (image.config.cmd.as_slice(), image.config.exposed_ports.as_slice()),
        (&["sh".to_string()][..], &["80/tcp".to_string()][..])
    );
    assert_eq!(image.size, 3);
    for name in ["me/app:v1", "docker.io/me/app:v1", image.id.as_str(), &image.id.hex()[..12]] {
        assert_eq!(store.resolve(name).unwrap().as_ref(), Some(image), "{name}");
    }
    assert_eq!(store.resolve("me/app").unwrap(), None);
    let dirs = store.layer_dirs(image);
    assert_eq!(fs::read(dirs[0].join("etc/b")).unwrap(), b"22");
    assert_eq!(fs::read(dirs[1].join("etc/a")).unwrap(), b"1");
}

#[test]
fn an_oci_layout_is_imported_by_platform_and_its_digests_are_verified() {
    let (_dir, store) = store();
    let layer = tar_of(&[("f", b"x")]);
    let blob = gzip(&layer);
    let config = config_for(&[&layer]);
    let manifest = serde_json::to_vec(&serde_json::json!({
        "config": {"digest": Digest::of(&config)}, "layers": [{"digest": Digest::of(&blob)}]}))
    .unwrap();
    let other = b"{\"never\":\"read\"}".to_vec();
    let list = serde_json::to_vec(&serde_json::json!({"manifests": [
        {"digest": Digest::of(&other), "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": Digest::of(&manifest), "platform": {"os": "linux", "architecture": archive::architecture()}}]})).unwrap();
    let index = serde_json::to_vec(&serde_json::json!({"manifests": [
        {"digest": Digest::of(&list), "mediaType": "application/vnd.oci.image.index.v1+json",
         "annotations": {"org.opencontainers.image.ref.name": "reg.example/app:1"}}]}))
    .unwrap();
    let path = |b: &[u8]| format!("blobs/sha256/{}", Digest::of(b).hex());
    let names = [path(&blob), path(&config), path(&manifest), path(&list)];
    let archive = |blob: &[u8]| {
        tar_of(&[
            ("index.json", &index),
            (&names[0], blob),
            (&names[1], &config),
            (&names[2], &manifest),
            (&names[3], &list),
        ])
    };
    let image = store.import(&archive(&blob)[..], ImportOptions::default()).unwrap().remove(0);
    assert_eq!(image.tags, ["reg.example/app:1"]);
    let pinned = format!("reg.example/app@{}", Digest::of(&manifest));
    assert_eq!(image.repo_digests, std::slice::from_ref(&pinned));
    assert_eq!(store.resolve(&pinned).unwrap(), Some(image));
    let forged = store.import(&archive(b"other bytes")[..], ImportOptions::default());
    assert!(matches!(forged, Err(Error::DigestMismatch { .. })), "{forged:?}");
}

#[test]
fn a_layer_that_is_not_what_its_configuration_says_is_refused_and_leaves_nothing() {
    let (dir, store) = store();
    let (layer, other) = (tar_of(&[("f", b"x")]), tar_of(&[("f", b"y")]));
    let config = config_for(&[&layer]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["a"],"Layers":["l.tar"]}]"#;
    let archive = tar_of(&[("c.json", &config), ("manifest.json", manifest), ("l.tar", &other)]);
    assert!(matches!(
        store.import(&archive[..], ImportOptions::default()),
        Err(Error::DigestMismatch { .. })
    ));
    assert_eq!(store.list().unwrap(), []);
    for sub in ["layers", "staging"] {
        assert_eq!(fs::read_dir(dir.path().join(sub)).unwrap().count(), 0, "{sub}");
    }
}

#[test]
fn the_same_directory_builds_the_same_image_and_a_name_moves_to_the_newest() {
    let (dir, store) = store();
    let src = tempfile::tempdir().unwrap();
    fs::create_dir(src.path().join("bin")).unwrap();
    fs::write(src.path().join("bin/x"), "1").unwrap();
    std::os::unix::fs::symlink("x", src.path().join("bin/y")).unwrap();
    let config = Config { cmd: vec!["x".into()], ..Default::default() };
    let a = store.build(src.path(), "app", config.clone()).unwrap();
    let b = Store::open(dir.path()).unwrap().build(src.path(), "app:2", config.clone()).unwrap();
    assert_eq!(a.id, b.id);
    assert_eq!(b.tags, ["docker.io/library/app:latest", "docker.io/library/app:2"]);
    fs::write(src.path().join("bin/x"), "2").unwrap();
    let c = store.build(src.path(), "app", config).unwrap();
    assert_ne!(c.id, a.id);
    assert_eq!(store.resolve("app").unwrap().unwrap().id, c.id);
    assert_eq!(store.resolve("app:2").unwrap().unwrap().id, a.id);

    let removed = store.remove("app:2").unwrap();
    assert_eq!(removed.deleted, std::slice::from_ref(&a.id));
    assert!(!store.layer_dir(&a.layers[0]).exists(), "an unnamed image's layers go");
    assert!(store.layer_dir(&c.layers[0]).exists());
    assert!(matches!(store.remove("app:2"), Err(Error::Absent(_))));
}

#[test]
fn what_is_no_archive_says_so() {
    let (_dir, store) = store();
    for junk in [&b""[..], b"hello", &tar_of(&[("x", b"y")])[..], &[0x1f, 0x8b, 0, 0][..]] {
        assert!(store.import(junk, ImportOptions::default()).is_err());
    }
}
