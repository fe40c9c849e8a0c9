use super::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

const BYTES_MAX: u64 = 1 << 20;

struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    /// An entry with its name as it is: the builder's own path checks would refuse what a hostile archive has.
    fn raw(mut self, kind: EntryType, name: &str, link: &str, data: &[u8]) -> Tar {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_mode(0o755);
        h.set_uid(0);
        h.set_gid(0);
        h.set_size(data.len() as u64);
        h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        h.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        h.set_cksum();
        self.0.append(&h, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Tar {
        self.raw(EntryType::Regular, name, "", data)
    }

    fn dir(self, name: &str) -> Tar {
        self.raw(EntryType::Directory, name, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Tar {
        self.raw(EntryType::Symlink, name, target, b"")
    }

    fn unpack(self) -> (tempfile::TempDir, Result<u64, Error>) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let bytes = self.0.into_inner().unwrap();
        let done = unpack(&bytes[..], &root, BYTES_MAX);
        (outer, done)
    }
}

#[test]
fn files_links_modes_and_owners_arrive() {
    let mut h = tar::Header::new_gnu();
    h.set_mode(0o4750);
    h.set_uid(12);
    h.set_gid(34);
    h.set_size(2);
    let mut t = Tar::new().dir("a");
    t.0.append_data(&mut h, "a/suid", &b"hi"[..]).unwrap();
    let (outer, done) = t.raw(EntryType::Link, "b/hard", "a/suid", b"").symlink("s", "/a/suid").unpack();
    assert_eq!(done.unwrap(), 2);
    let root = outer.path().join("root");
    let meta = fs::metadata(root.join("a/suid")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o4750, 12, 34));
    assert_eq!(fs::metadata(root.join("b/hard")).unwrap().ino(), meta.ino());
    assert_eq!(fs::read_link(root.join("s")).unwrap(), Path::new("/a/suid"));
}

#[test]
fn whiteouts_become_overlay_marks() {
    let (outer, done) = Tar::new().file("d/.wh.gone", b"").file("o/.wh..wh..opq", b"").unpack();
    done.unwrap();
    let gone = fs::symlink_metadata(outer.path().join("root/d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0u8; 4];
    let n = rfs::getxattr(outer.path().join("root/o"), "trusted.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..n], b"y");
}

#[test]
fn hostile_archives_are_refused_or_contained() {
    let refused: Vec<(&str, Tar)> = vec![
        ("climbing", Tar::new().file("../evil", b"x")),
        ("climbing inside", Tar::new().file("a/../../evil", b"x")),
        ("hard link out", Tar::new().raw(EntryType::Link, "evil", "../secret", b"")),
        (
            "hard link through a link",
            Tar::new().symlink("l", "/../..").raw(EntryType::Link, "evil", "l/secret", b""),
        ),
        ("hard link to a directory", Tar::new().dir("d").raw(EntryType::Link, "evil", "d", b"")),
        ("whiteout in disguise", Tar::new().raw(EntryType::Char, "evil", "", b"")),
        ("whiteout of nothing", Tar::new().file("a/.wh.", b"")),
        ("file as a directory", Tar::new().file("f", b"x").file("f/evil", b"x")),
        ("dangling link as a directory", Tar::new().symlink("l", "nowhere").file("l/evil", b"x")),
        ("unknown kind", Tar::new().raw(EntryType::new(b'Z'), "evil", "", b"")),
    ];
    for (what, tar) in refused {
        let (outer, done) = tar.unpack();
        assert!(matches!(done, Err(Error::Hostile { .. })), "{what}: {done:?}");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "{what}: something escaped");
    }
}

#[test]
fn a_link_out_of_the_layer_leads_back_into_it() {
    let (outer, done) = Tar::new()
        .dir("etc")
        .symlink("out", "/etc")
        .symlink("up", "../../../etc")
        .file("out/a", b"1")
        .file("up/b", b"2")
        .file("/abs", b"3")
        .unpack();
    done.unwrap();
    let root = outer.path().join("root");
    assert_eq!(fs::read(root.join("etc/a")).unwrap(), b"1");
    assert_eq!(fs::read(root.join("etc/b")).unwrap(), b"2");
    assert_eq!(fs::read(root.join("abs")).unwrap(), b"3");
    assert!(!Path::new("/etc/a").exists() && !Path::new("/abs").exists());
}

#[test]
fn an_entry_replaces_a_link_instead_of_writing_through_it() {
    let target = tempfile::tempdir().unwrap();
    let victim = target.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let link = victim.to_str().unwrap().to_string();
    let (outer, done) = Tar::new().symlink("l", &link).file("l", b"new").unpack();
    done.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(fs::read(outer.path().join("root/l")).unwrap(), b"new");
}

#[test]
fn overlay_attributes_cannot_be_smuggled_in() {
    let mut b = tar::Builder::new(Vec::new());
    b.append_pax_extensions([("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..])]).unwrap();
    let (_outer, done) = Tar(b).dir("d").unpack();
    assert!(matches!(done, Err(Error::Hostile { .. })), "{done:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_archive_writes_outside(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048),
                                 names in proptest::collection::vec("[a./]{1,12}", 0..6)) {
        let mut t = Tar::new();
        for (i, n) in names.iter().enumerate() {
            t = if i % 2 == 0 { t.symlink(n, names.last().map_or("x", String::as_str)) } else { t.file(n, b"x") };
        }
        let (outer, _) = t.unpack();
        proptest::prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
        let dir = tempfile::tempdir().unwrap();
        drop(unpack(&bytes[..], dir.path(), BYTES_MAX));
    }
}

#[test]
fn holes_count_as_bytes() {
    for (real, fits) in [(BYTES_MAX, true), (BYTES_MAX + 1, false), (1 << 32, false)] {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(EntryType::GNUSparse);
        h.set_mode(0o644);
        h.set_uid(0);
        h.set_gid(0);
        h.set_size(0);
        h.as_old_mut().name[..1].copy_from_slice(b"f");
        let gnu = h.as_gnu_mut().unwrap();
        gnu.realsize.copy_from_slice(format!("{real:011o}\0").as_bytes());
        gnu.sparse[0].offset.copy_from_slice(format!("{real:011o}\0").as_bytes());
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        h.set_cksum();
        let mut t = Tar::new();
        t.0.append(&h, &b""[..]).unwrap();
        let (_outer, done) = t.unpack();
        match done {
            Ok(n) => assert!(fits && n == real, "{real}"),
            Err(e) => assert!(!fits && matches!(e, Error::Hostile { .. }), "{real}: {e:?}"),
        }
    }
}
