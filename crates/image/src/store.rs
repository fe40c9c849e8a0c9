//! The image store: what the agent and `stoa image` call.

use crate::archive::{self, Found};
use crate::config::{Document, GoConfig, RootFs};
use crate::digest::Hashing;
use crate::error::file;
use crate::index::{Index, IndexFile, Lock, Record};
use crate::lease::Lease;
use crate::{Config, Digest, Error, Keyring, Reference, ResolvedUser, build, lease, unpack, user};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stoa_units::Time;

/// Different credentials that are remembered of one image.
const GUARDS_MAX: usize = 64;
/// Of the disk, at most so much is left to others by a pull.
const SPARED_MAX: u64 = 1 << 30;
/// What an abandoned pull fetched is kept so long for the next.
const DOWNLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names, canonical.
    pub tags: Vec<String>,
    /// Names with the digest of the manifest, where it came with one.
    pub repo_digests: Vec<String>,
    /// Bytes of its unpacked files.
    pub size: u64,
    /// How to run it.
    pub config: Config,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
    /// When it was made, if it says so.
    pub created: Option<Time>,
    /// Go's name of its architecture.
    pub architecture: String,
    /// Its operating system.
    pub os: String,
    /// Those of its names that a registry gave it; the others were given by hand on this machine.
    pub pulled: Vec<String>,
    guards: Vec<String>,
}

impl Image {
    /// Whether `reference` is a name that this machine's people gave it: no registry knows better what it stands for.
    pub fn is_local(&self, reference: &str) -> bool {
        let canonical = Reference::parse(reference).map(|r| r.to_string());
        canonical.is_ok_and(|c| self.tags.contains(&c) && !self.pulled.contains(&c))
    }

    /// Whether a registry could give it again, so that it may be removed to make room.
    pub fn is_replaceable(&self) -> bool {
        !self.pulled.is_empty() && self.tags.iter().all(|t| self.pulled.contains(t))
    }

    /// Whether whoever holds `ring` may use it without asking the registry: it is public, or came with the same credentials.
    pub fn admits(&self, reference: &str, ring: &Keyring) -> bool {
        self.guards.is_empty()
            || Reference::parse(reference)
                .is_ok_and(|r| ring.fingerprints(&r).iter().any(|f| self.guards.contains(f)))
    }

    /// The name with a digest by which a status tells this image, as the registry of `reference` knows it.
    pub fn repo_digest(&self, reference: &str) -> Option<&str> {
        let repository =
            Reference::parse(reference).map(|r| format!("{}@", r.repository())).unwrap_or_default();
        let own = self.repo_digests.iter().rev().find(|d| d.starts_with(&repository));
        own.or_else(|| self.repo_digests.last()).map(String::as_str)
    }
}

/// An image whose layers a pull has brought.
pub(crate) struct NewImage {
    pub(crate) id: Digest,
    pub(crate) document: Document,
    pub(crate) top: Digest,
    pub(crate) size: u64,
    pub(crate) guard: Option<String>,
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// A name in place of those in the archive.
    pub tag: Option<String>,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<Digest>,
}

/// A store of images in one directory. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    index: IndexFile,
    staged: AtomicU64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.0.dir).finish()
    }
}

/// A directory for work in progress, removed when dropped.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next writer's sweep.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Store {
    /// Opens the store of `dir`, making it if it is not there.
    pub fn open(dir: &Path) -> Result<Store, Error> {
        for sub in ["layers", "staging", "downloads", "leases"] {
            let path = dir.join(sub);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(file("create", &path))?;
        }
        Ok(Store(Arc::new(Inner {
            dir: dir.to_path_buf(),
            index: IndexFile::new(dir),
            staged: AtomicU64::new(0),
        })))
    }

    fn staging(&self) -> Result<Staging, Error> {
        let n = self.0.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.0.dir.join("staging").join(format!("{}-{n}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(file("create", &path))?;
        Ok(Staging(path))
    }

    /// Where a layer is unpacked.
    fn layer_dir(&self, layer: &Digest) -> PathBuf {
        self.0.dir.join("layers").join(layer.hex())
    }

    /// Imports every image of an archive that fits this machine.
    pub fn import(&self, reader: impl Read, options: ImportOptions) -> Result<Vec<Image>, Error> {
        let staging = self.staging()?;
        let found = archive::read(reader, &staging.0)?;
        if found.is_empty() {
            return Err(Error::NotAnImage("it holds no image".into()));
        }
        let lock = self.0.index.lock()?;
        self.sweep_staging(&staging);
        let mut index = Index::clone(&*self.0.index.read()?);
        let mut ids = Vec::new();
        for image in found {
            ids.push(self.add(&mut index, image, options.tag.as_deref(), &staging)?);
        }
        self.0.index.write(&lock, &index)?;
        Ok(ids.iter().filter_map(|id| index.images.get(id).map(|r| to_image(id, r))).collect())
    }

    /// Unpacks the layers of one image and records it.
    fn add(
        &self,
        index: &mut Index,
        image: Found,
        tag: Option<&str>,
        staging: &Staging,
    ) -> Result<Digest, Error> {
        let diff_ids = &image.document.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::NotAnImage(
                "the configuration and the manifest disagree on the layers".into(),
            ));
        }
        let mut size = 0;
        for (digest, path) in diff_ids.iter().zip(&image.layers) {
            size += self.add_layer(digest, path, staging)?;
        }
        let mut tags = Vec::new();
        match tag {
            Some(t) => tags.push(Reference::parse(t)?.to_string()),
            None => {
                for t in &image.tags {
                    tags.push(Reference::parse(t)?.to_string());
                }
            }
        }
        let mut repo_digests = Vec::new();
        if let Some(d) = &image.repo_digest {
            for t in &tags {
                repo_digests.push(format!("{}@{d}", Reference::parse(t)?.repository()));
            }
        }
        // A name points to one image: the newest import wins it.
        for record in index.images.values_mut() {
            record.tags.retain(|t| !tags.contains(t));
            record.pulled.retain(|t| !tags.contains(t));
        }
        let document = image.document;
        let record = index.images.entry(image.id.clone()).or_insert_with(|| Record {
            tags: Vec::new(),
            repo_digests: Vec::new(),
            layers: document.rootfs.diff_ids,
            size,
            config: document.config.map(Config::from).unwrap_or_default(),
            created: document.created,
            architecture: document.architecture,
            os: document.os,
            pulled: Vec::new(),
            guards: Vec::new(),
            is_open: true,
        });
        // What was given by hand is this machine's own from now on.
        record.pulled.retain(|t| !tags.contains(t));
        record.is_open = true;
        record.tags.extend(tags);
        repo_digests.retain(|d| !record.repo_digests.contains(d));
        record.repo_digests.extend(repo_digests);
        Ok(image.id)
    }

    /// The bytes of a layer's files, if it is here.
    pub(crate) fn layer_size(&self, digest: &Digest) -> Option<u64> {
        let dir = self.layer_dir(digest);
        let text = fs::read_to_string(dir.with_extension("size")).ok()?;
        text.trim().parse().ok().filter(|_| dir.is_dir())
    }

    pub(crate) fn has_layer(&self, digest: &Digest) -> bool {
        self.layer_size(digest).is_some()
    }

    /// Unpacks one layer unless it is there already; returns the bytes of its files.
    fn add_layer(&self, digest: &Digest, path: &Path, staging: &Staging) -> Result<u64, Error> {
        match self.layer_size(digest) {
            Some(size) => Ok(size),
            None => self.unpack_layer(digest, path, staging, archive::ARCHIVE_LEN_MAX),
        }
    }

    /// Unpacks a fetched layer, up to `room` bytes of files. The caller holds a lease on it.
    pub(crate) fn install_layer(&self, digest: &Digest, path: &Path, room: u64) -> Result<u64, Error> {
        let staging = self.staging()?;
        self.unpack_layer(digest, path, &staging, room.min(archive::ARCHIVE_LEN_MAX))
    }

    fn unpack_layer(&self, digest: &Digest, path: &Path, staging: &Staging, room: u64) -> Result<u64, Error> {
        let dir = self.layer_dir(digest);
        let size_file = dir.with_extension("size");
        let opened = File::open(path).map_err(file("read", path))?;
        let plain = archive::decompress(opened).map_err(Error::Archive)?;
        let mut hashing = Hashing::new(plain, archive::ARCHIVE_LEN_MAX);
        let root = staging.0.join(digest.hex());
        fs::DirBuilder::new().mode(0o755).create(&root).map_err(file("create", &root))?;
        let size = unpack::unpack(&mut hashing, &root, room)?;
        let found = hashing.finish().map_err(Error::Archive)?;
        if found != *digest {
            return Err(Error::DigestMismatch { what: "a layer", wanted: digest.clone(), found });
        }
        // What the index names must be on the disk before the index is.
        let opened = File::open(&root).map_err(file("open", &root))?;
        rustix::fs::syncfs(&opened).map_err(|e| file("sync", &root)(e.into()))?;
        fs::write(&size_file, size.to_string()).map_err(file("write", &size_file))?;
        match fs::rename(&root, &dir) {
            Ok(()) => {}
            // Another process was quicker; the digest says that it is the same.
            Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
            Err(e) => return Err(file("create", &dir)(e)),
        }
        let layers = self.0.dir.join("layers");
        File::open(&layers).and_then(|d| d.sync_all()).map_err(file("sync", &layers))?;
        Ok(size)
    }

    /// Where a blob is fetched to.
    pub(crate) fn download_path(&self, blob: &Digest) -> PathBuf {
        self.0.dir.join("downloads").join(blob.hex())
    }

    /// Bytes that may still be written here: some of the disk stays free for everyone else.
    pub(crate) fn room(&self) -> Result<u64, Error> {
        let stat = rustix::fs::statvfs(&self.0.dir).map_err(|e| file("look at", &self.0.dir)(e.into()))?;
        let (free, whole) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        Ok(free.saturating_sub((whole / 10).min(SPARED_MAX)))
    }

    /// Keeps layers from being collected until the lease is dropped.
    pub(crate) fn lease(&self, layers: &[Digest]) -> Result<Lease, Error> {
        let lock = self.0.index.lock()?;
        let n = self.0.staged.fetch_add(1, Ordering::Relaxed);
        let lease = Lease::take(&self.0.dir.join("leases"), n, layers);
        drop(lock);
        lease
    }

    /// Records an image that was pulled under the name `reference`; its layers are here.
    pub(crate) fn record(&self, new: NewImage, reference: &Reference) -> Result<Image, Error> {
        let lock = self.0.index.lock()?;
        let mut index = Index::clone(&*self.0.index.read()?);
        let NewImage { id, document, top, size, guard } = new;
        let repo_digest = format!("{}@{top}", reference.repository());
        // With a digest in it, a name is no tag that could move.
        let tag = reference.digest().is_none().then(|| reference.to_string());
        for record in index.images.values_mut() {
            record.tags.retain(|t| Some(t) != tag.as_ref());
            record.pulled.retain(|t| Some(t) != tag.as_ref());
        }
        let record = index.images.entry(id.clone()).or_insert_with(|| Record {
            tags: Vec::new(),
            repo_digests: Vec::new(),
            layers: document.rootfs.diff_ids,
            size,
            config: document.config.map(Config::from).unwrap_or_default(),
            created: document.created,
            architecture: document.architecture,
            os: document.os,
            pulled: Vec::new(),
            guards: Vec::new(),
            is_open: false,
        });
        for name in tag.iter().chain([&repo_digest]) {
            if !record.pulled.contains(name) {
                record.pulled.push(name.clone());
            }
        }
        record.tags.extend(tag);
        record.repo_digests.retain(|d| *d != repo_digest);
        record.repo_digests.push(repo_digest);
        match guard {
            None => record.is_open = true,
            Some(guard) if !record.guards.contains(&guard) => record.guards.push(guard),
            Some(_) => {}
        }
        let excess = record.guards.len().saturating_sub(GUARDS_MAX);
        record.guards.drain(..excess);
        self.0.index.write(&lock, &index)?;
        index.images.get(&id).map(|r| to_image(&id, r)).ok_or_else(|| Error::Absent(reference.to_string()))
    }

    /// Makes an image of a directory and names it `tag`.
    pub fn build(&self, dir: &Path, tag: &str, config: Config) -> Result<Image, Error> {
        let reference = Reference::parse(tag)?;
        let staging = self.staging()?;
        let tar = staging.0.join("layer.tar");
        build::write_layer(dir, File::create(&tar).map_err(file("write", &tar))?)?;
        let opened = File::open(&tar).map_err(file("read", &tar))?;
        let layer = Hashing::new(opened, archive::ARCHIVE_LEN_MAX).finish().map_err(file("read", &tar))?;
        let document = Document {
            architecture: archive::architecture().to_string(),
            os: "linux".to_string(),
            created: None,
            config: Some(GoConfig::from(config)),
            rootfs: RootFs { kind: "layers".to_string(), diff_ids: vec![layer] },
        };
        let text = serde_json::to_vec(&document)
            .map_err(|cause| Error::Json { what: "the image configuration".into(), cause })?;
        let id = Digest::of(&text);
        let found =
            Found { id: id.clone(), document, tags: Vec::new(), repo_digest: None, layers: vec![tar] };
        let lock = self.0.index.lock()?;
        self.sweep_staging(&staging);
        let mut index = Index::clone(&*self.0.index.read()?);
        self.add(&mut index, found, Some(&reference.to_string()), &staging)?;
        self.0.index.write(&lock, &index)?;
        index.images.get(&id).map(|r| to_image(&id, r)).ok_or_else(|| Error::Absent(tag.to_string()))
    }

    /// Every image, by id.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        Ok(self.0.index.read()?.images.iter().map(|(id, r)| to_image(id, r)).collect())
    }

    /// Bytes of the files of all layers.
    pub fn size(&self) -> u64 {
        let Ok(index) = self.0.index.read() else { return 0 };
        let layers: BTreeSet<&Digest> = index.images.values().flat_map(|r| &r.layers).collect();
        layers.into_iter().filter_map(|l| self.layer_size(l)).sum()
    }

    /// The image that a reference or an id names.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, Error> {
        let index = self.0.index.read()?;
        Ok(find(&index, reference)?.and_then(|id| index.images.get(&id).map(|r| to_image(&id, r))))
    }

    /// The directories of an image's layers, topmost first, as overlayfs wants them.
    pub fn layer_dirs(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|l| self.layer_dir(l)).collect()
    }

    /// Resolves a user of the image: a name, a number, or either with a group after a colon; root if empty.
    pub fn lookup_user(&self, image: &Image, spec: &str) -> Result<ResolvedUser, Error> {
        user::lookup(&self.layer_dirs(image), spec)
    }

    /// Takes a name off an image, and removes the image when that was its last name or its id was given. An image that a
    /// container runs from is not removed.
    pub fn remove(&self, reference: &str) -> Result<Removed, Error> {
        let lock = self.0.index.lock()?;
        let mut index = Index::clone(&*self.0.index.read()?);
        let id = find(&index, reference)?.ok_or_else(|| Error::Absent(reference.to_string()))?;
        let canonical = Reference::parse(reference).ok().map(|r| r.to_string());
        let mut removed = Removed::default();
        let Some(record) = index.images.get_mut(&id) else {
            return Err(Error::Absent(reference.to_string()));
        };
        match canonical.filter(|c| record.tags.contains(c)) {
            Some(tag) if record.tags.len() > 1 => {
                record.tags.retain(|t| *t != tag);
                record.pulled.retain(|t| *t != tag);
                removed.untagged.push(tag);
            }
            _ => {
                if layers_in_use(&record.layers)? {
                    return Err(Error::InUse(reference.to_string()));
                }
                removed.untagged.append(&mut record.tags);
                index.images.remove(&id);
                removed.deleted.push(id);
            }
        }
        self.0.index.write(&lock, &index)?;
        self.collect(&lock, &index)?;
        Ok(removed)
    }

    /// Removes layers that no image has.
    fn collect(&self, _lock: &Lock, index: &Index) -> Result<(), Error> {
        let leased = lease::leased(&self.0.dir.join("leases"));
        let named = index.images.values().flat_map(|r| &r.layers).map(Digest::hex);
        let kept: BTreeSet<&str> = named.chain(leased.iter().map(String::as_str)).collect();
        self.drop_downloads();
        let layers = self.0.dir.join("layers");
        for entry in fs::read_dir(&layers).map_err(file("read", &layers))? {
            let path = entry.map_err(file("read", &layers))?.path();
            let hex = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            if kept.contains(hex) {
                continue;
            }
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(file("remove", &path))?;
        }
        Ok(())
    }

    /// Removes what pulls that nobody took up again left.
    fn drop_downloads(&self) {
        for entry in fs::read_dir(self.0.dir.join("downloads")).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|a| a > DOWNLOAD_AGE_MAX) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes what writers that died left in the staging directory. Called under the lock.
    fn sweep_staging(&self, own: &Staging) {
        let Ok(entries) = fs::read_dir(self.0.dir.join("staging")) else { return };
        for path in entries.flatten().map(|e| e.path()).filter(|p| *p != own.0) {
            let pid = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.split('-').next());
            if pid.is_some_and(|p| !Path::new("/proc").join(p).exists()) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

fn to_image(id: &Digest, r: &Record) -> Image {
    Image {
        id: id.clone(),
        tags: r.tags.clone(),
        repo_digests: r.repo_digests.clone(),
        size: r.size,
        config: r.config.clone(),
        layers: r.layers.clone(),
        created: r.created.as_deref().and_then(Time::parse),
        architecture: r.architecture.clone(),
        os: r.os.clone(),
        pulled: r.pulled.clone(),
        guards: if r.is_open { Vec::new() } else { r.guards.clone() },
    }
}

fn find(index: &Index, reference: &str) -> Result<Option<Digest>, Error> {
    if let Some(id) = Digest::parse(reference) {
        return Ok(index.images.contains_key(&id).then_some(id));
    }
    // An abbreviated id, as `stoa image list` shows it.
    if reference.len() >= 12 && reference.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut matching = index.images.keys().filter(|d| d.hex().starts_with(reference));
        if let (Some(id), None) = (matching.next(), matching.next()) {
            return Ok(Some(id.clone()));
        }
    }
    let wanted = Reference::parse(reference)?;
    let canonical = wanted.to_string();
    let by_digest = |r: &Record, id: &Digest| {
        wanted.digest().is_some_and(|d| {
            let pinned = format!("{}@{d}", wanted.repository());
            r.repo_digests.contains(&pinned)
                || d == id && r.tags.iter().any(|t| t.starts_with(&wanted.repository()))
        })
    };
    Ok(index
        .images
        .iter()
        .find(|(id, r)| r.tags.contains(&canonical) || by_digest(r, id))
        .map(|(id, _)| id.clone()))
}

/// Whether a mount in any mount namespace stands on `layers`. Their names are digests: no other path has them.
fn layers_in_use(layers: &[Digest]) -> Result<bool, Error> {
    if layers.is_empty() {
        return Ok(false);
    }
    let proc = Path::new("/proc");
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(proc).map_err(file("read", proc))?.flatten() {
        if !entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // A process that ended meanwhile holds nothing.
        let Ok(namespace) = fs::read_link(entry.path().join("ns/mnt")) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let Ok(mounts) = fs::read_to_string(entry.path().join("mountinfo")) else { continue };
        // All of them on one mount: a shared base alone holds nothing, it stays for the sake of the image that runs.
        if mounts.lines().any(|mount| layers.iter().all(|l| mount.contains(l.hex()))) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
