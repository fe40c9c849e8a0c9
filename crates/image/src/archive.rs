//! Reads image archives: OCI layouts and `docker save` tars, plain, gzip or zstd. The outer tar is spooled into a staging
//! directory as plain files; nothing in it is unpacked before its digest is known.

use crate::config::Document;
use crate::digest::Hashing;
use crate::error::file;
use crate::{Digest, Error, Reference};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes of a whole archive, and of one layer unpacked.
pub(crate) const ARCHIVE_LEN_MAX: u64 = 64 << 30;
/// Files in the outer tar.
const FILES_MAX: usize = 10_000;
/// Bytes of a manifest, an index or a configuration.
pub(crate) const JSON_LEN_MAX: u64 = 8 << 20;
/// Nesting of OCI indexes.
const INDEX_DEPTH_MAX: usize = 4;

/// One image found in an archive.
pub(crate) struct Found {
    pub(crate) id: Digest,
    pub(crate) document: Document,
    pub(crate) tags: Vec<String>,
    pub(crate) repo_digest: Option<Digest>,
    /// The files of the layers, bottom first, compressed as they came.
    pub(crate) layers: Vec<PathBuf>,
}

/// Decompresses by what the stream begins with.
pub(crate) fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut head = [0u8; 4];
    let mut n = 0;
    while n < head.len() {
        match reader.read(&mut head[n..])? {
            0 => break,
            k => n += k,
        }
    }
    let whole = io::Cursor::new(head[..n].to_vec()).chain(reader);
    Ok(match head[..n] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

/// Spools the archive's plain files into `staging` and returns them by their path in the archive.
fn spool(reader: impl Read, staging: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let reader = Hashing::new(decompress(reader).map_err(Error::Archive)?, ARCHIVE_LEN_MAX);
    let mut archive = tar::Archive::new(reader);
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    for entry in archive.entries().map_err(Error::Archive)? {
        let mut entry = entry.map_err(Error::Archive)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_string();
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                if files.len() >= FILES_MAX {
                    return Err(Error::TooLarge("too many files"));
                }
                // The name in the archive never becomes a name on disk.
                let path = staging.join(format!("f{}", files.len()));
                let mut out = File::create(&path).map_err(file("write", &path))?;
                io::copy(&mut entry, &mut out).map_err(file("write", &path))?;
                files.insert(name, path);
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                // Old `docker save` archives share layers by links such as `../<id>/layer.tar`.
                let target = entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned());
                links.push((name, target.unwrap_or_default()));
            }
            _ => {}
        }
    }
    for (name, target) in links {
        let target = target.trim_start_matches("../").trim_start_matches("./");
        if let Some(path) = files.get(target).cloned() {
            files.insert(name, path);
        }
    }
    Ok(files)
}

fn read_json<T: for<'de> Deserialize<'de>>(what: &str, path: &Path) -> Result<(T, Vec<u8>), Error> {
    let mut text = Vec::new();
    let opened = File::open(path).map_err(file("read", path))?;
    opened.take(JSON_LEN_MAX + 1).read_to_end(&mut text).map_err(file("read", path))?;
    if text.len() as u64 > JSON_LEN_MAX {
        return Err(Error::TooLarge("a manifest or configuration is too long"));
    }
    let value =
        serde_json::from_slice(&text).map_err(|cause| Error::Json { what: what.to_string(), cause })?;
    Ok((value, text))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct OciIndex {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Spools an archive and finds its images.
pub(crate) fn read(reader: impl Read, staging: &Path) -> Result<Vec<Found>, Error> {
    let files = spool(reader, staging)?;
    if let Some(manifest) = files.get("manifest.json") {
        return read_saved(manifest, &files);
    }
    let Some(index) = files.get("index.json") else {
        return Err(Error::NotAnImage(
            "it has neither manifest.json (docker save) nor index.json (OCI layout)".into(),
        ));
    };
    let (index, _): (OciIndex, _) = read_json("index.json", index)?;
    let mut found = Vec::new();
    for descriptor in &index.manifests {
        let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|k| descriptor.annotations.get(*k))
            .filter(|n| Reference::parse(n).is_ok());
        if let Some(mut image) = read_oci(descriptor, &files, 0)? {
            image.tags.extend(name.cloned());
            found.push(image);
        }
    }
    if found.is_empty() {
        return Err(Error::NoPlatform(format!("linux/{}", architecture())));
    }
    Ok(found)
}

fn read_saved(manifest: &Path, files: &BTreeMap<String, PathBuf>) -> Result<Vec<Found>, Error> {
    let (images, _): (Vec<SavedImage>, _) = read_json("manifest.json", manifest)?;
    let get = |name: &str| files.get(name).ok_or_else(|| Error::NotAnImage(format!("`{name}` is missing")));
    let mut found = Vec::new();
    for image in images {
        let (document, text): (Document, _) = read_json(&image.config, get(&image.config)?)?;
        let layers = image.layers.iter().map(|l| get(l).cloned()).collect::<Result<Vec<_>, _>>()?;
        found.push(Found {
            id: Digest::of(&text),
            document,
            tags: image.repo_tags.unwrap_or_default(),
            repo_digest: None,
            layers,
        });
    }
    Ok(found)
}

/// The bytes of a blob, checked against its digest.
fn blob<'a>(descriptor: &Descriptor, files: &'a BTreeMap<String, PathBuf>) -> Result<&'a PathBuf, Error> {
    let path = files
        .get(&format!("blobs/sha256/{}", descriptor.digest.hex()))
        .ok_or_else(|| Error::NotAnImage(format!("blob {} is missing", descriptor.digest)))?;
    let opened = File::open(path).map_err(file("read", path))?;
    let found = Hashing::new(opened, ARCHIVE_LEN_MAX).finish().map_err(file("read", path))?;
    if found != descriptor.digest {
        return Err(Error::DigestMismatch { what: "a blob", wanted: descriptor.digest.clone(), found });
    }
    Ok(path)
}

fn read_oci(
    descriptor: &Descriptor,
    files: &BTreeMap<String, PathBuf>,
    depth: usize,
) -> Result<Option<Found>, Error> {
    let fits = |p: &Platform| p.os == "linux" && p.architecture == architecture();
    if descriptor.platform.as_ref().is_some_and(|p| !fits(p)) {
        return Ok(None);
    }
    let path = blob(descriptor, files)?;
    if descriptor.media_type.ends_with("index.v1+json")
        || descriptor.media_type.ends_with("manifest.list.v2+json")
    {
        if depth >= INDEX_DEPTH_MAX {
            return Err(Error::TooLarge("indexes nest too deeply"));
        }
        let (index, _): (OciIndex, _) = read_json("an image index", path)?;
        for inner in &index.manifests {
            if let Some(found) = read_oci(inner, files, depth + 1)? {
                return Ok(Some(found));
            }
        }
        return Ok(None);
    }
    let (manifest, _): (OciManifest, _) = read_json("an image manifest", path)?;
    let config = blob(&manifest.config, files)?;
    let (document, _): (Document, _) = read_json("an image configuration", config)?;
    if document.os != "linux" || document.architecture != architecture() {
        return Ok(None);
    }
    let layers = manifest.layers.iter().map(|l| blob(l, files).cloned()).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Found {
        id: manifest.config.digest,
        document,
        tags: Vec::new(),
        repo_digest: Some(descriptor.digest.clone()),
        layers,
    }))
}
